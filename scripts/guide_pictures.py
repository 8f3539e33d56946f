"""Every picture of docs/guide/, in both languages, from nothing. Pixels.

    .venv/bin/python scripts/guide_pictures.py [--language fr] [--played DIR] [--only states]

plays a plan being made at the console, by mouse and keys, once per language (``play_console.py``: some three
minutes each), and draws the states of a running procedure, which none passes through at will, in the same
windows on the synthetic patient of the view's tests (``tests/view/view_samples.py``).
Invariant: nothing in a picture is painted by hand but the numbers that the guide's first table explains.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from PyQt5.QtWidgets import QApplication

from monitor.forecast_values import Change, NextScan, Outcome, WhatIf, WhatIfAnswer
from monitor.model import Alarm, Phase, PhaseKind, Priority, Reason, Status, StructureDistance
from monitor.planning.draft import DEFAULT_NEEDLE, Draft, DraftNeedle, DraftStructure
from monitor.planning.drawn import ball
from monitor.planning.history import History
from monitor.snapshot import Snapshot
from monitor.view.palette import COLOURS

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT / "tests" / "view"))

LANGUAGES = ("en", "fr")
OUT = _ROOT / "docs" / "guide" / "images"
_WIDTH, _READING_WIDTH = 800, 1200
# The noise of a CT would take most of a file: so many greys are left of it, and so many colours of lines.
_GREYS, _COLOURS, _COLOURED = 28, 80, 14
# How a plan is made, by the steps of play_console.py at the console.
PLAYED = (
    "nothing_yet", "baseline_received", "lesion_by_two_strokes", "lesion_grown", "lesion_by_brush",
    "structure", "needles_found", "organ_and_protocol", "ready",
)  # fmt: skip
# States as tests/view draws them, and two more that only the guide shows.
STATES = (
    "alarm", "stale", "degraded", "invalid", "blocked", "waiting", "baseline", "core_silent", "error",
    "back", "ahead", "subtraction", "map", "dose", "simple", "replay", "thaw", "ended",
)  # fmt: skip
# The console while a procedure runs.
RUNNING = (
    "scan_measured", "needle_stopped", "what_if", "scan_rejected", "correction", "phase_begun", "over",
)  # fmt: skip
OTHERS = ("reading", "keys", "solid")
# Where the numbers of "reading" stand on 1920 x 1080, beside what they are of.
_NUMBERS = (
    (870, 32), (1512, 32), (1570, 32), (1880, 130), (1880, 300), (1880, 455), (1880, 604), (1880, 665),
    (1880, 768), (1880, 850), (60, 250), (1320, 882), (1880, 945), (1560, 1056),
)  # fmt: skip


def names() -> Iterator[str]:
    """Of all pictures of one language, without it."""
    yield from (f"plan_{step}" for step in PLAYED)
    yield from (f"console_{name}" for name in RUNNING)
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
    """Even greys, the screen's own colours, and the commonest of what is mixed of them."""
    rgb = np.asarray(image)
    coloured = rgb[np.ptp(rgb.astype(int), axis=-1) > _COLOURED]
    greys = np.linspace(0, 255, _GREYS).round().astype(int)
    palette = [int(v) for grey in greys for v in (grey,) * 3]
    palette += [v for colour in COLOURS.values() for v in ImageColor.getrgb(colour)]
    if len(coloured):
        of = Image.fromarray(coloured[None, :, :]).quantize(_COLOURS, dither=Image.Dither.NONE)
        palette += (of.getpalette() or [])[: 3 * _COLOURS]
    model = Image.new("P", (1, 1))
    model.putpalette(palette)
    return image.quantize(palette=model, dither=Image.Dither.NONE)


# ------------------------------------------------------------------ of a procedure


def played(folder: Path, language: str) -> None:
    """Plays a plan being made, unless the folder has its pictures."""
    if not list(folder.glob("*_ready_console.png")):
        command = [sys.executable, Path(__file__).with_name("play_console.py"), "--out", folder]
        command += ["--language", language, "--scans", folder.parent / "scans", "--plan-only"]
        subprocess.run(list(map(str, command)), check=True, cwd=_ROOT)
    for step in PLAYED:
        (path,) = folder.glob(f"[0-9][0-9]_{step}_console.png")
        save(Image.open(path), f"plan_{step}", language)


# ------------------------------------------------------------------ states


class States:
    """The screens of the view's tests, on the same synthetic patient."""

    def __init__(self, folder: Path) -> None:
        self._fixtures = importlib.import_module("conftest")
        self._draw = importlib.import_module("test_view_references")
        self._app = QApplication.instance() or QApplication([])
        importlib.import_module("monitor.view.style").load_fonts()
        self._samples = importlib.import_module("view_samples")
        self._normal = self._samples.snapshot(folder)
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

    def console(self, name: str, language: str, folder: Path) -> Image.Image:
        """The last step of the console, as in that moment."""
        made = importlib.import_module("console_desk").Desk(folder, language, (1920, 1080))
        self._kept.append(made)
        window = made.window
        window.show_snapshot(running(name, self._normal))
        window.shown.go_to(self._samples.LESION)
        window.shown.zoom(1.8)
        draft = self._draft()
        window.editor.history = History.of(draft)
        window._sent = draft  # the monitor has it
        window.go("monitor")
        if name == "correction":
            window.editor.use("ice.add")
            x, y, z = self._samples.ICE_CENTRE
            for step in range(4):
                window.shown.pointed.emit((x + 15.0, y + step, z), step > 0)
        self._app.processEvents()
        window.pages["monitor"].turn_to(int(name == "what_if"))
        window.refresh()
        return self._picture_of(window)

    def _draft(self) -> Draft:
        """The synthetic patient's plan as it would have been drawn."""
        at = self._samples
        return Draft(
            patient_id="00412-7",
            organ="abdominal_wall",
            lesion=ball(at.LESION, at.LESION_RADIUS),
            structures=(DraftStructure("colon", ball(at.BOWEL, 11.0)),),
            needles=tuple(
                DraftNeedle(n.number, DEFAULT_NEEDLE, n.tip_lps_mm, n.entry_lps_mm, True)
                for n in at.NEEDLES
            ),
        )

    def _picture_of(self, window: Any) -> Image.Image:
        pixels = importlib.import_module("view_pixels").pixels(window)
        return Image.fromarray(pixels.astype("uint8"))

    def _screen(
        self, snapshot: Any, language: str = "en", size: tuple[int, int] = (1920, 1080),
        speed: float = 1.0, viewing: Any = None,
    ) -> Any:  # fmt: skip
        made = self._fixtures.Screen(language, size, speed, viewing)
        self._kept.append(made)
        if snapshot is not None:
            made.window.show_snapshot(agreeing(self._name, snapshot))
        return made

    def close(self) -> None:
        for made in self._kept:
            made.window.close_for_good()
        self._app.processEvents()


def agreeing(name: str, s: Snapshot) -> Snapshot:
    """The sample, its parts agreeing with one another as those of a procedure do."""
    a, now = s.assessment, s.now_utc_s
    if name in ("alarm", "replay") and a is not None:
        near = StructureDistance("colon", 3.42, 5.0, 2.14)
        return replace(s, assessment=replace(a, structures=(near, *a.structures[1:])))
    if name == "stale":
        return replace(s, next_scan=NextScan(now - 163.0, "image_age", "", None))
    if name == "baseline":
        return replace(s, next_scan=None)
    if name == "thaw":
        return replace(s, next_scan=NextScan(now + 238.0, "decision", "phase_end", now + 238.0))
    if name == "ended" and a is not None:  # what its lines show, not what its tests want to be said
        drawn = replace(a, lesion_covered=0.968, margin_covered=0.744, min_margin_mm=-1.2)
        s = replace(s, assessment=drawn, alarms=())
        over_s = s.phases[-1].end_utc_s - now + 30.0
        past = tuple(
            replace(p, start_utc_s=p.start_utc_s - over_s, end_utc_s=p.end_utc_s - over_s)
            for p in s.phases
        )
        return replace(s, phases=past, course=None, forecast_temperature=None, next_scan=None)
    if name == "invalid":
        told = Alarm(
            "segmentation_invalid", Priority.MEDIUM, now, {"reason": "needle_outside_scan"}
        )
        return replace(s, alarms=(told,), next_scan=NextScan(now - 40.0, "unmeasured", "", None))
    return s


def running(name: str, s: Snapshot) -> Snapshot:
    """The sample of a freeze as the console has it: whose scan is measured, or what was just done."""
    duties = ((1, 0.0 if name == "needle_stopped" else 1.0), (2, 1.0))
    s = replace(s, draft=False, ice_review="measured", needle_duties=duties)
    if name == "needle_stopped":
        return replace(s, undo="needle", undo_of="1")
    if name == "what_if":
        return replace(s, what_if=_answer(s.now_utc_s))
    if name == "scan_rejected":
        told = Alarm("segmentation_poor", Priority.MEDIUM, s.now_utc_s, {"reason": "ice_rejected"})
        rejected = _unmeasured(s, "ice_rejected")
        now = NextScan(s.now_utc_s - 40.0, "unmeasured", "", None)
        return replace(
            rejected, ice_review="rejected", undo="reject_ice", alarms=(told,), next_scan=now
        )
    if name == "phase_begun":
        began = Phase(PhaseKind.THAW, 1, s.now_utc_s - 4.0, s.now_utc_s + 296.0)
        return replace(s, phase=began, undo="phase_next", next_scan=None)
    if name == "over":
        return replace(s, phase=Phase(PhaseKind.ENDED, 2, s.now_utc_s - 30.0, None))
    return s


def _unmeasured(s: Snapshot, code: str) -> Snapshot:
    assert s.assessment is not None
    told = replace(
        s.assessment, status=Status.INVALID, reasons=(Reason(code, code),), lesion_covered=None,
        margin_covered=None, min_margin_mm=None, min_margin_at_lps_mm=None, margin_error_mm=None,
        ice_volume_ml=None, time_to_margin_s=None,
        structures=tuple(StructureDistance(x.name, None, x.limit_mm) for x in s.assessment.structures),
    )  # fmt: skip
    return replace(s, assessment=told, ice_sdf=None, ice_inner_sdf=None, ice_outer_sdf=None)


def _answer(now_utc_s: float) -> WhatIfAnswer:
    """Needle 1 stopped, five minutes more."""
    asked = Outcome(300.0, (150.0, 260.0), None, (0.97, 1.0), (0.81, 0.9), (-0.6, 1.2))
    going_on = Outcome(198.0, (60.0, 140.0), (170.0, 290.0), (1.0, 1.0), (0.93, 1.0), (2.1, 3.8))
    change = Change(None, None, (-3.1, -2.2), ())
    question = WhatIf({1: 0.0, 2: 1.0}, 300.0)
    return WhatIfAnswer(question, now_utc_s, "v003", True, 24, asked, going_on, change, "cpu")


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
        for name in RUNNING:
            save(drawn.console(name, language, Path(folder)), f"console_{name}", language)
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
