"""The patient before freezing: CT numbers, tissue labels and bodies. LPS mm, HU, arrays (z, y, x).

``Anatomy`` is all that the rest of the simulator knows, wherever it came from: drawn here, or a
real series (``real_ct``). Invariant: the same scenario draws the same patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanner_sim.bodies import Level, body_box, body_level, ellipsoid, inset, patch, tube
from scanner_sim.frame import FloatArray, Frame
from scanner_sim.patient.canvas import Canvas, Wobble
from scanner_sim.patient.couch import Couch
from scanner_sim.patient.organs import Organs, Spared, paint_organs
from scanner_sim.patient.trunk import Trunk, paint_trunk
from scanner_sim.scenario import Body, Needle, Point, Scenario, ScenarioError

# Beyond the scanned range the patient goes on: breathing and partial scans need it.
_BEYOND_MM = 24.0
_PATCH_MM = 70.0
# The atlas keeps its own of what the scenario spares this far from the lesion's centre.
_SPARED_MM = 45.0


@dataclass(frozen=True)
class Outline:
    """What is delineated before the procedure, as the patient lies at the plan's breath-hold;
    ``frame`` is that of a whole scan, ``needles`` as placed."""

    frame: Frame
    lesion: Level
    lesion_centre_lps_mm: Point
    structures: Mapping[str, Level]
    needles: tuple[Needle, ...]


@dataclass(frozen=True)
class Anatomy(Outline):
    """``hu`` float32 and ``label`` uint8 (into ``tissue_names()``); here ``frame`` is theirs and
    reaches beyond a scan. ``couch`` None: it is in ``hu`` already."""

    hu: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    couch: Couch | None = None


def scan_frame(scenario: Scenario) -> Frame:
    """A whole scan's voxel centres, around the patient's axis and the lesion's level."""
    s = scenario.scanner
    step = s.fov_mm / s.matrix
    plane = (np.arange(s.matrix) - (s.matrix - 1) / 2) * step
    steps = (np.arange(s.slices) - (s.slices - 1) / 2) * s.thickness_mm
    return Frame(plane, plane, scenario.lesion.centre_lps_mm[2] + steps)


def outline(scenario: Scenario) -> Outline:
    """The scenario's delineations, without drawing the patient."""
    trunk, wobble = Trunk(scenario.habitus), _wobble(scenario)
    structures = {s.name: _structure(scenario, wobble, trunk, s.name) for s in scenario.structures}
    lesion = scenario.lesion
    plan = ellipsoid(lesion.centre_lps_mm, lesion.semi_axes_mm)
    return Outline(scan_frame(scenario), plan, lesion.centre_lps_mm, structures, scenario.needles)


def draw(scenario: Scenario) -> Anatomy:
    """The scenario's patient: the atlas around its lesion, its own bodies, the lesion."""
    rng = np.random.default_rng(scenario.seed)
    canvas = Canvas(_drawn_frame(scenario), scenario.tissues, _wobble(scenario), rng)
    trunk = Trunk(scenario.habitus)
    paint_trunk(canvas, trunk)
    paint_organs(canvas, trunk, rng, 1.0 if scenario.habitus.prone else -1.0, _spared(scenario))
    if scenario.habitus.breasts:
        _paint_glands(canvas, trunk)
    for body in scenario.bodies:
        if body.appears_at_s <= 0:
            _paint_body(canvas, body)
    planned = outline(scenario)
    _paint_lesion(canvas, scenario, planned.lesion)
    return Anatomy(
        canvas.frame,
        planned.lesion,
        planned.lesion_centre_lps_mm,
        planned.structures,
        planned.needles,
        canvas.hu,
        canvas.label,
        Couch(scenario.habitus.prone),
    )


def _drawn_frame(scenario: Scenario) -> Frame:
    """A whole scan's voxels at half its thickness, and what breathing and tilt bring into it."""
    scan, s = scan_frame(scenario), scenario.scanner
    tilted = np.tan(np.radians(abs(s.tilt_deg))) * 0.4 * s.fov_mm
    beyond = _BEYOND_MM + tilted
    z = np.arange(scan.z[0] - beyond, scan.z[-1] + beyond, 0.5 * s.thickness_mm)
    return Frame(scan.x, scan.y, z)


def _wobble(scenario: Scenario) -> Wobble:
    return Wobble(_drawn_frame(scenario), np.random.default_rng((scenario.seed, 1)))


def _spared(scenario: Scenario) -> Spared:
    names = frozenset(b.name for b in scenario.bodies)
    return Spared(scenario.lesion.centre_lps_mm, _SPARED_MM, names)


def _paint_body(canvas: Canvas, body: Body) -> None:
    """A body of the scenario, where it says: no wobble."""
    level, box = body_level(body), body_box(body)
    canvas.paint(level, body.tissue, box, bent=False, hu_offset=body.hu_offset)
    if body.wall_mm > 0:
        canvas.paint(inset(level, body.wall_mm), body.content, box, bent=False)


def _paint_lesion(canvas: Canvas, scenario: Scenario, plan: Level) -> None:
    """Its visible edge is not an ellipsoid's; the plan's contour is."""
    s = scenario.lesion
    rough = Rough(s.roughness_mm, scenario.seed)
    seen = lambda x, y, z: plan(x, y, z) + rough(x, y, z)  # noqa: E731
    reach = np.array(s.semi_axes_mm) + 4.0
    centre = np.array(s.centre_lps_mm)
    offset = 0.0 if s.hu is None else s.hu - scenario.tissues[s.tissue].hu
    canvas.paint(seen, s.tissue, (centre - reach, centre + reach), bent=False, hu_offset=offset)


class Rough:
    """Bumps of about 9 mm on a surface."""

    def __init__(self, amplitude_mm: float, seed: int) -> None:
        rng = np.random.default_rng(seed + 3)
        self._waves = rng.normal(0.0, 2.0 * np.pi / 22.0, (6, 3))
        self._phases = rng.uniform(0.0, 2.0 * np.pi, 6)
        self._amplitude = amplitude_mm / np.sqrt(3.0)

    def __call__(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        total = sum(
            np.sin(k[0] * x + k[1] * y + k[2] * z + p)
            for k, p in zip(self._waves, self._phases, strict=True)
        )
        return np.asarray(self._amplitude * total)


def _structure(scenario: Scenario, wobble: Wobble, trunk: Trunk, name: str) -> Level:
    """A structure to spare near the lesion: the scenario's own bodies of that name, or the atlas'."""
    own = [body_level(b) for b in scenario.bodies if b.name == name and b.appears_at_s <= 0]
    centre = scenario.lesion.centre_lps_mm
    if own:
        joined = lambda x, y, z: np.min([f(x, y, z) for f in own], axis=0)  # noqa: E731
        return patch(joined, centre, _PATCH_MM)
    organs = Organs(trunk)
    atlas = {"skin": trunk.skin, "pleura": organs.pleura, "diaphragm": organs.diaphragm}
    if name not in atlas:
        raise ScenarioError(
            f"scenario {scenario.name}: structure {name!r} is neither one of its bodies nor one of "
            f"{', '.join(atlas)}"
        )
    level = atlas[name]
    return patch(lambda x, y, z: level(*wobble(x, y, z)), centre, _PATCH_MM)


def _paint_glands(canvas: Canvas, trunk: Trunk) -> None:
    """Strands of gland in the breasts' fat, towards the nipple."""
    strands = Rough(9.0, 5)
    for side in (-1, 1):
        core = ellipsoid((side * 82.0, -124.0, 236.0), (40.0, 30.0, 38.0))

        def level(x: FloatArray, y: FloatArray, z: FloatArray, f: Level = core) -> FloatArray:
            below = trunk.surface(x, y, z) + 5.0
            return np.maximum(f(x, y, z) + 0.9 * strands(x, y, z) + 13.0, below)

        canvas.paint(level, "gland", ((side * 82 - 60, -170, 180), (side * 82 + 60, -85, 295)))
        nipple = tube([(side * 84.0, -156.0, 232.0), (side * 84.0, -166.0, 232.0)], 5.0)
        canvas.paint(nipple, "skin", ((side * 84 - 8, -174, 222), (side * 84 + 8, -150, 242)))
