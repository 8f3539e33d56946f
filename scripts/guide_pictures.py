"""Every picture of docs/guide/, in both languages, from nothing. Pixels.

    .venv/bin/python scripts/guide_pictures.py [--language fr] [--played DIR] [--only states]

plays a procedure at the console and in the room once per language (``play_console.py``: some ten minutes
each on two free cores), takes the steps that the guide shows from it, and draws the states that no procedure
passes through at will as the tests of the view draw them (``tests/view/view_samples.py``).
Invariant: nothing in a picture is painted by hand but the numbers that the guide's first table explains.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from monitor.forecast_values import NextScan
from monitor.model import Alarm, Priority, StructureDistance
from monitor.snapshot import Snapshot

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT / "tests" / "view"))

LANGUAGES = ("en", "fr")
OUT = _ROOT / "docs" / "guide" / "images"
_WIDTH, _READING_WIDTH = 800, 1200
# The noise of a CT would take most of a file: so many greys are left of it, and so many colours of lines.
_GREYS, _COLOURS, _COLOURED = 28, 80, 14
# What a procedure is shown by: (step of play_console.py, whose screen).
PLAYED = (
    ("nothing_yet", "console"), ("baseline_received", "console"), ("lesion_by_two_strokes", "console"),
    ("lesion_grown", "console"), ("lesion_by_brush", "console"), ("structure", "console"),
    ("needles_found", "console"), ("organ_and_protocol", "console"), ("ready", "console"),
    ("scan_accepted", "console"), ("needle_stopped", "console"), ("what_if", "console"),
    ("scan_rejected", "console"), ("scan_corrected_by_brush", "console"), ("phase_taken_back", "console"),
    ("ended", "console"),
    ("scan_2", "room"), ("thaw", "room"), ("end_of_second_freeze", "room"),
)  # fmt: skip
# States as tests/view draws them, and two more that only the guide shows.
STATES = (
    "alarm", "stale", "degraded", "invalid", "blocked", "waiting", "baseline", "core_silent", "error",
    "back", "ahead", "subtraction", "map", "simple", "replay",
)  # fmt: skip
OTHERS = ("reading", "keys", "solid")
# Where the numbers of "reading" stand on 1920 x 1080, beside what they are of.
_NUMBERS = (
    (880, 32), (985, 32), (1555, 32), (1880, 130), (1880, 300), (1880, 455), (1880, 560), (1880, 665),
    (1880, 768), (1880, 850), (60, 250), (1320, 882), (1880, 945), (1560, 1056),
)  # fmt: skip


def names() -> Iterator[str]:
    """Of all pictures of one language, without it."""
    yield from (f"{step}_{of}" for step, of in PLAYED)
    yield from (f"state_{name}" for name in (*STATES, *OTHERS))


def save(image: Image.Image, name: str, language: str, width: int = _WIDTH) -> None:
    """Smaller, and in few colours."""
    size = (width, round(image.height * width / image.width))
    few = in_few_colours(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    path = OUT / f"{name}_{language}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    few.save(path, optimize=True)
    print(f"{path.relative_to(_ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def in_few_colours(image: Image.Image) -> Image.Image:
    """Even greys, and the commonest of what is coloured; no grey takes on a colour."""
    rgb = np.asarray(image)
    coloured = rgb[np.ptp(rgb.astype(int), axis=-1) > _COLOURED]
    palette = [v for grey in np.linspace(0, 255, _GREYS).round().astype(int) for v in (grey,) * 3]
    if len(coloured):
        of = Image.fromarray(coloured[None, :, :]).quantize(_COLOURS, dither=Image.Dither.NONE)
        palette += (of.getpalette() or [])[: 3 * _COLOURS]
    model = Image.new("P", (1, 1))
    model.putpalette([int(v) for v in palette])
    return image.quantize(palette=model, dither=Image.Dither.NONE)


# ------------------------------------------------------------------ of a procedure


def played(folder: Path, language: str) -> None:
    """Plays it, unless the folder has its pictures."""
    if not list(folder.glob("*_ended_console.png")):
        command = [sys.executable, Path(__file__).with_name("play_console.py"), "--out", folder]
        command += ["--language", language, "--scans", folder.parent / "scans"]
        subprocess.run(list(map(str, command)), check=True, cwd=_ROOT)
    for step, of in PLAYED:
        (path,) = (p for p in folder.glob(f"*_{step}_{of}.png") if p.name[3:] == f"{step}_{of}.png")
        save(Image.open(path), f"{step}_{of}", language)


# ------------------------------------------------------------------ states


class States:
    """The screens of the view's tests, on the same synthetic patient."""

    def __init__(self, folder: Path) -> None:
        self._desk = importlib.import_module("conftest")
        self._draw = importlib.import_module("test_view_references")
        from PyQt5.QtWidgets import QApplication

        self._app = QApplication.instance() or QApplication([])
        importlib.import_module("monitor.view.style").load_fonts()
        self._normal = importlib.import_module("view_samples").snapshot(folder)
        self._kept: list[Any] = []
        self._name = ""

    def picture(self, name: str, language: str) -> Image.Image:
        self._name = name
        window = self._draw.shown(name, self._normal, self._screen, language)
        return self._picture_of(window)

    def other(self, name: str, language: str) -> Image.Image:
        """The keys, the bodies in three dimensions, the numbered screen."""
        self._name = name
        window = self._draw.shown("normal", self._normal, self._screen, language)
        if name == "keys":
            window.switch_help()
        elif name == "solid":
            views = importlib.import_module("monitor.view.views").Views
            window.show_views(views.next_third)
            window.show_views(views.next_third)
            while window.solid.made is None:
                self._app.processEvents()
        image = self._picture_of(window)
        return numbered(image) if name == "reading" else image

    def _picture_of(self, window: Any) -> Image.Image:
        pixels = importlib.import_module("view_pixels").pixels(window)
        return Image.fromarray(pixels.astype("uint8"))

    def _screen(
        self, snapshot: Any, language: str = "en", size: tuple[int, int] = (1920, 1080),
        speed: float = 1.0, viewing: Any = None,
    ) -> Any:  # fmt: skip
        made = self._desk.Screen(language, size, speed, viewing)
        self._kept.append(made)
        if snapshot is not None:
            made.window.show_snapshot(agreeing(self._name, snapshot))
        return made

    def close(self) -> None:
        for made in self._kept:
            made.window.close_for_good()


def agreeing(name: str, s: Snapshot) -> Snapshot:
    """The sample, its parts agreeing with one another as those of a procedure do."""
    a, now = s.assessment, s.now_utc_s
    if name in ("alarm", "replay") and a is not None:
        near = StructureDistance("colon", 3.42, 5.0, 2.14)
        return replace(s, assessment=replace(a, structures=(near, *a.structures[1:])))
    if name == "stale":
        return replace(s, next_scan=NextScan(now - 163.0, "image_age", None, None))
    if name == "baseline":
        return replace(s, next_scan=None)
    if name == "invalid":
        told = Alarm("segmentation_invalid", Priority.MEDIUM, now, {"reason": "needle_outside_scan"})
        return replace(s, alarms=(told,), next_scan=NextScan(now - 40.0, "unmeasured", None, None))
    return s


def numbered(image: Image.Image) -> Image.Image:
    """With the numbers of the guide's first table."""
    draw, radius = ImageDraw.Draw(image), 24
    font = ImageFont.truetype(str(_ROOT / "monitor/view/fonts/DejaVuSans-Bold.ttf"), 30)
    for number, (x, y) in enumerate(_NUMBERS, 1):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill="#FFFFFF", outline="#000000", width=3)
        draw.text((x, y), str(number), fill="#000000", font=font, anchor="mm")
    return image


def states(language: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drawn = States(Path(folder))
        for name in STATES:
            save(drawn.picture(name, language), f"state_{name}", language)
        for name in OTHERS:
            width = _READING_WIDTH if name == "reading" else _WIDTH
            save(drawn.other(name, language), f"state_{name}", language, width)
        drawn.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--language", choices=LANGUAGES, action="append", help="default both")
    parser.add_argument(
        "--played", type=Path, default=_ROOT / "out" / "guide", metavar="DIR",
        help="where the procedures are, or are to be, played: a folder per language; default %(default)s",
    )  # fmt: skip
    parser.add_argument("--only", choices=("states", "played"), help="leave the other half out")
    args = parser.parse_args()
    for language in args.language or LANGUAGES:
        if args.only != "played":
            states(language)
        if args.only != "states":
            played(args.played / language, language)
    return 0


if __name__ == "__main__":
    sys.exit(main())
