"""The gallery of docs/simulator.md: one strip of pictures per scenario. mm, HU.

    .venv/bin/python scripts/gallery.py docs/images/scenarios [SCENARIO...]

A strip: the whole slice through the lesion before freezing (W400/L40), then the lesion's surroundings
at the display's ice window (W200/L20) before, during and at the end, and the end once more with the
truth drawn in: ice blue, lesion green, structures to spare orange. Scans are computed, or read from
the simulator's cache.
"""

from __future__ import annotations

import sys
from pathlib import Path

import contourpy
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scanner_sim import images, truth
from scanner_sim import scenario as scenarios
from scanner_sim.simulation import Simulation

_PANEL_PX, _AROUND_MM, _GAP_PX, _TITLE_PX = 330, 120.0, 6, 22
_BODY, _LUNG, _ICE = (400.0, 40.0), (1500.0, -600.0), (200.0, 20.0)
_COLOURS = {"ice": "#4da3ff", "lesion": "#3ddc84", "structure": "#ff9f1c"}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: gallery.py OUT_DIR [SCENARIO...]")
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or scenarios.names():
        strip(name).save(out / f"{name}.jpg", quality=85)
        print(out / f"{name}.jpg", flush=True)


def strip(name: str) -> Image.Image:
    """The pictures of one scenario, side by side."""
    simulation = Simulation(scenarios.load(name))
    try:
        first, middle, last = _numbers(simulation)
        body = _LUNG if simulation.scenario.organ == "lung" else _BODY
        whole, ice = simulation.scenario.scanner.fov_mm, _AROUND_MM
        panels = [
            Panel(simulation, first, whole, body).picture("the patient"),
            Panel(simulation, first, ice, _ICE).picture("before"),
            Panel(simulation, middle, ice, _ICE).picture(_when(simulation, middle)),
            Panel(simulation, last, ice, _ICE).picture(_when(simulation, last)),
            Panel(simulation, last, ice, _ICE).picture("the same, with the truth", drawn=True),
        ]
    finally:
        simulation.close()
    wide = len(panels) * (_PANEL_PX + _GAP_PX) - _GAP_PX
    joined = Image.new("RGB", (wide, panels[0].height), "white")
    for n, panel in enumerate(panels):
        joined.paste(panel, (n * (_PANEL_PX + _GAP_PX), 0))
    return joined


def _numbers(simulation: Simulation) -> tuple[int, int, int]:
    """The baseline, a scan some way into a freeze, and the last scan of one."""
    s = simulation.scenario
    frozen = [
        n
        for n, c in enumerate(s.scans)
        if c.kind == "volume" and s.freezing(c.at_s - 1) is not None
    ]
    return 0, frozen[min(1, len(frozen) - 1)], frozen[-1]


def _when(simulation: Simulation, number: int) -> str:
    s = simulation.scenario
    return f"{(s.scans[number].at_s - s.start_after_baseline_s) / 60.0:.1f} min after the first ice"


class Panel:
    """A square of one scan's slice through the lesion's centre, ``side_mm`` wide."""

    def __init__(
        self, simulation: Simulation, number: int, side_mm: float, window: tuple[float, float]
    ) -> None:
        self._simulation, self._number, self._window = simulation, number, window
        self._image = simulation.acquisition(number).images[0]
        self._moved = simulation.displacement(number)
        at = self._index(self._moved.to_scan(simulation.planned.lesion_centre_lps_mm))
        self._slice = int(np.clip(round(at[0]), 0, len(self._image.hu) - 1))
        pixels = side_mm / self._image.geometry.spacing_mm[0]
        size = self._image.hu.shape[1]
        self._side = min(round(pixels), size)
        half = self._side / 2
        self._row, self._column = (
            int(np.clip(round(c - half), 0, size - self._side)) for c in at[1:]
        )

    def picture(self, title: str, drawn: bool = False) -> Image.Image:
        wide, level = self._window
        row, column, side = self._row, self._column, self._side
        hu = self._image.hu[self._slice, row : row + side, column : column + side]
        grey = np.clip((hu - level + wide / 2) / wide * 255.0, 0, 255).astype(np.uint8)
        picture = Image.fromarray(grey).resize((_PANEL_PX, _PANEL_PX), Image.Resampling.BICUBIC)
        framed = Image.new("RGB", (_PANEL_PX, _PANEL_PX + _TITLE_PX), "white")
        framed.paste(picture.convert("RGB"), (0, _TITLE_PX))
        draw = ImageDraw.Draw(framed)
        draw.text((2, 3), title, fill="black", font=ImageFont.load_default(14))
        if drawn:
            for field, colour in self._truth():
                self._contour(draw, field, colour)
        return framed

    def _truth(self) -> list[tuple[np.ndarray, str]]:
        """Fields of this square, negative inside."""
        x, y, z = self._points()
        simulation, moved = self._simulation, self._moved
        found = [(level(*moved.to_plan(x, y, z)), _COLOURS["structure"])
                 for level in simulation.planned.structures.values()]  # fmt: skip
        found.append((simulation.planned.lesion(*moved.to_plan(x, y, z)), _COLOURS["lesion"]))
        state = simulation.state(self._number)
        there = truth.at_points(state.fraction, state, moved, (x, y, z))
        return [*found, (0.5 - there, _COLOURS["ice"])]

    def _contour(self, draw: ImageDraw.ImageDraw, field: np.ndarray, colour: str) -> None:
        scale = _PANEL_PX / self._side
        lines = contourpy.contour_generator(z=np.asarray(field, float)).lines(0.0)
        for line in lines:
            points = [
                (float(x) * scale, float(y) * scale + _TITLE_PX) for x, y in np.asarray(line) + 0.5
            ]
            draw.line(points, fill=colour, width=2)

    def _points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """LPS mm of the square's pixels."""
        g: images.Geometry = self._image.geometry
        j = (self._row + np.arange(self._side))[:, None, None] * g.spacing_mm[1]
        i = (self._column + np.arange(self._side))[None, :, None] * g.spacing_mm[0]
        start = np.array(g.origin_lps_mm) + self._slice * np.array(g.step_lps_mm)
        p = start + j * np.array(g.column_direction) + i * np.array(g.row_direction)
        return p[..., 0], p[..., 1], p[..., 2]

    def _index(self, point: tuple[float, float, float]) -> np.ndarray:
        """(slice, row, column) of a point."""
        g = self._image.geometry
        axes = np.stack([
            g.step_lps_mm,
            np.array(g.column_direction) * g.spacing_mm[1],
            np.array(g.row_direction) * g.spacing_mm[0],
        ], axis=1)  # fmt: skip
        return np.linalg.solve(axes, np.subtract(point, g.origin_lps_mm))


if __name__ == "__main__":
    main()
