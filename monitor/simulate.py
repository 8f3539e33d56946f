"""``iceball simulate``: a bioheat problem from a TOML file, solved, as JSON. SI units unless a name
says otherwise; points LPS mm, the box centred on the origin; arrays (z, y, x), °C.

Invariant: what the file says wrongly is an error naming the key; nothing in it goes unread.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gpu_kernels.engine import Blood, Engine, Needle, Problem, State, Tissue
from gpu_kernels.needles import shafts
from gpu_kernels.validation import check
from monitor.case import preset_names, read_toml, tissue_preset
from monitor.config import ConfigError
from monitor.fields import Table

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Pairs = tuple[tuple[float, float], ...]

# Keys of a tissue as the file has them: the engine's name, its bounds and unit.
_PROPERTIES = {
    "k_frozen": ("k_frozen_w_m_k", 1e-3, 1e3, "W/m/K"),
    "k_unfrozen": ("k_unfrozen_w_m_k", 1e-3, 1e3, "W/m/K"),
    "c_frozen": ("c_frozen_j_kg_k", 1.0, 1e6, "J/kg/K"),
    "c_unfrozen": ("c_unfrozen_j_kg_k", 1.0, 1e6, "J/kg/K"),
    "rho": ("rho_kg_m3", 1e-2, 1e5, "kg/m³"),
    "latent_heat": ("latent_heat_j_kg", 0.0, 1e7, "J/kg"),
    "solidus_degc": ("solidus_degc", -200.0, 100.0, "°C"),
    "liquidus_degc": ("liquidus_degc", -200.0, 100.0, "°C"),
    "perfusion_per_s": ("perfusion_per_s", 0.0, 10.0, "1/s"),
    "metabolic_w_m3": ("metabolic_w_m3", 0.0, 1e7, "W/m³"),
}
_MOST_VOXELS = 400_000_000
_SUBVOXELS = 3


@dataclass(frozen=True)
class Simulation:
    """A problem, where it starts, and what is asked of it."""

    problem: Problem
    initial_degc: float
    times_s: tuple[float, ...]
    points_mm: tuple[tuple[float, float, float], ...]
    isotherms_degc: tuple[float, ...]


# ------------------------------------------------------------------ reading


def load_simulation(path: Path) -> Simulation:
    """Raises ``ConfigError`` naming the file and every key that is wrong."""
    values = read_toml(path)
    errors: list[str] = []
    simulation = _simulation(Table(values, "", errors), errors)
    if errors or simulation is None:
        raise ConfigError(f"{path}:\n  " + "\n  ".join(errors))
    return simulation


def _simulation(root: Table, errors: list[str]) -> Simulation | None:
    domain = root.table("domain")
    shape_zyx, spacing_mm = _grid(domain)
    initial = domain.number("initial_degc", -270.0, 500.0, "°C", 37.0)
    boundary = domain.text("boundary", "fixed", ("fixed", "insulated"))
    domain.done()
    blood, stasis_s = _blood(root.table("blood"))
    entries = root.tables("tissue")
    if not entries:
        root.error("tissue", "missing: the first [[tissue]] fills the box")
    origin_mm = tuple(-0.5 * (n - 1) * d for n, d in zip(shape_zyx[::-1], spacing_mm, strict=True))
    tissues, shapes = [], []
    for i, t in enumerate(entries):
        tissue, shape = _tissue(t), _shape(t, first=i == 0)
        t.done()
        tissues.append(tissue)
        shapes.append(shape)
    needles = [_probe(t) for t in root.tables("probe")]
    times_s = _times(root.table("run"))
    half_mm = [0.5 * n * d for n, d in zip(shape_zyx[::-1], spacing_mm, strict=True)]
    points_mm, isotherms = _report(root.table("report"), half_mm)
    root.done()
    if errors:
        return None
    problem = Problem(
        label_zyx=_labels(shape_zyx, spacing_mm, shapes),
        tissues=tuple(tissues),
        origin_mm=(origin_mm[0], origin_mm[1], origin_mm[2]),
        spacing_mm=spacing_mm,
        needles=tuple(needles),
        blood=blood,
        boundary=boundary,
        rim_degc=initial,
        stasis_s=stasis_s,
    )
    try:
        check(problem)
    except ValueError as error:
        errors.append(str(error))
    else:
        drawn = set(shafts(problem).needle)
        for i in set(range(len(needles))) - drawn:
            errors.append(f"probe[{i + 1}].tip_mm: the active zone lies outside the box")
    return Simulation(problem, initial, times_s, points_mm, isotherms)


def _grid(t: Table) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Voxels (z, y, x) and spacing (x, y, z) mm; the box is rounded to whole voxels."""
    size_mm = t.triple("size_mm", 0.01, 1e4)
    if isinstance(t.raw("spacing_mm", None), list):
        spacing_mm = t.triple("spacing_mm", 0.01, 100.0)
    else:
        spacing_mm = (t.number("spacing_mm", 0.01, 100.0, "mm"),) * 3
    counts = [round(s / d) if d > 0 else 0 for s, d in zip(size_mm, spacing_mm, strict=True)]
    if min(counts) < 3 or math.prod(counts) > _MOST_VOXELS:
        t.error("size_mm", f"gives {counts} voxels; expected 3 or more along each axis, "
                f"{_MOST_VOXELS:g} at most")  # fmt: skip
        return (3, 3, 3), (1.0, 1.0, 1.0)
    return (counts[2], counts[1], counts[0]), spacing_mm


def _blood(t: Table) -> tuple[Blood, float]:
    blood = Blood(
        degc=t.number("degc", -50.0, 100.0, "°C", 37.0),
        rho_kg_m3=t.number("rho", 1.0, 1e5, "kg/m³", 1050.0),
        c_j_kg_k=t.number("c", 1.0, 1e6, "J/kg/K", 3617.0),
    )
    stasis_s = t.number("stasis_s", 0.0, 1e9, "s", 0.0)
    t.done()
    return blood, stasis_s


def _tissue(t: Table) -> Tissue:
    name = t.text("name", "tissue")
    preset: dict[str, float] = {}
    if t.has("preset"):
        chosen = t.text("preset", choices=preset_names("tissues"))
        preset = dataclasses.asdict(tissue_preset(chosen)) if chosen else {}
    values: dict[str, Any] = {"name": name}
    for key, (field, low, high, unit) in _PROPERTIES.items():
        default = {"default": preset[field]} if preset else {}
        values[field] = t.number(key, low, high, unit, **default)
    if t.has("held_degc"):
        values["held_degc"] = _series(t, "held_degc", -270.0, 500.0, "°C", passive=False)
    if t.has("surface_h_w_m2k"):
        values["surface_h_w_m2k"] = t.number("surface_h_w_m2k", 0.0, 1e7, "W/m²/K")
    return Tissue(**values)


def _shape(t: Table, first: bool) -> Callable[[FloatArray], BoolArray] | None:
    """Where a tissue is: (…, 3) mm → inside. None fills the box."""
    makers = {"sphere": _sphere, "box": _box, "half-space": _half_space}
    named = [n for n in makers if t.has(n) or t.has(n.replace("-", "_"))]
    if t.has("shape"):
        kind, table = t.text("shape", choices=tuple(makers)), t
    elif named:
        kind = named[0]
        table = t.table(kind if kind in t.keys else kind.replace("-", "_"))
    else:
        if not first:
            t.error("", f"expected a shape: {', '.join(makers)}; only the first fills the box")
        return None
    if first:
        t.error(kind, "the first [[tissue]] fills the box; give the shape to a further one")
    elif len(named) > 1:
        t.error("", f"expected one shape, got {', '.join(named)}")
    inside = makers[kind](table)
    if table is not t:
        table.done()
    return inside


def _sphere(t: Table) -> Callable[[FloatArray], BoolArray]:
    centre, radius = np.array(t.triple("centre_mm")), t.number("radius_mm", 0.01, 1e4, "mm")
    return lambda p: np.asarray(((p - centre) ** 2).sum(-1) <= radius**2)


def _box(t: Table) -> Callable[[FloatArray], BoolArray]:
    low, high = np.array(t.triple("min_mm")), np.array(t.triple("max_mm"))
    if not (low < high).all():
        t.error("max_mm", "must lie above min_mm along each axis")
    return lambda p: np.asarray(((p >= low) & (p <= high)).all(-1))


def _half_space(t: Table) -> Callable[[FloatArray], BoolArray]:
    """The side of the plane through ``point_mm`` that ``normal`` points to."""
    point, normal = np.array(t.triple("point_mm")), np.array(t.triple("normal"))
    if not np.linalg.norm(normal) > 0.0:
        t.error("normal", "must not be zero")
    return lambda p: np.asarray((p - point) @ normal >= 0.0)


def _labels(
    shape_zyx: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    shapes: Sequence[Callable[[FloatArray], BoolArray] | None],
) -> npt.NDArray[np.uint8]:
    """The tissue of each voxel's centre; later shapes lie on earlier ones."""
    label = np.zeros(shape_zyx, np.uint8)
    axes = [
        (np.arange(n) - 0.5 * (n - 1)) * d for n, d in zip(shape_zyx[::-1], spacing_mm, strict=True)
    ]
    y, x = np.meshgrid(axes[1], axes[0], indexing="ij")
    for number, inside in enumerate(shapes):
        if inside is not None:
            for k, z in enumerate(axes[2]):
                label[k][inside(np.stack([x, y, np.full_like(x, z)], axis=-1))] = number
    return label


_DRIVES = {
    "surface_degc": (-270.0, 500.0, "°C"),
    "cooling_w_per_m": (0.0, 1e5, "W/m"),
    "cryogen_degc": (-270.0, 500.0, "°C"),
}


def _probe(t: Table) -> Needle:
    direction = np.array(t.triple("direction", -1e6, 1e6))
    length = float(np.linalg.norm(direction))
    if not length > 0.0:
        t.error("direction", "must not be zero")
    unit = direction / length if length > 0.0 else np.array([0.0, 0.0, 1.0])
    given = [name for name in _DRIVES if t.has(name)]
    if len(given) != 1:
        t.error("", f"expected one of {', '.join(_DRIVES)}; got {', '.join(given) or 'none'}")
    driven: dict[str, Any] = {n: _series(t, n, *_DRIVES[n]) for n in given}
    if t.has("h_w_m2k") or "cryogen_degc" in given:
        driven["h_w_m2k"] = _series(t, "h_w_m2k", 0.0, 1e7, "W/m²/K", passive=False)
    if t.has("duty"):
        driven["duty"] = _series(t, "duty", 0.0, 1.0, "", passive=False)
    needle = Needle(
        tip_mm=t.triple("tip_mm"),
        direction=(float(unit[0]), float(unit[1]), float(unit[2])),
        diameter_mm=t.number("diameter_mm", 0.1, 5.0, "mm"),
        active_length_mm=t.number("active_length_mm", 0.1, 1e4, "mm"),
        **driven,
    )
    t.done()
    return needle


def _series(t: Table, key: str, low: float, high: float, unit: str, passive: bool = True) -> Pairs:
    """A number (the same always) or ascending pairs; NaN for "not driven" where ``passive``."""
    value = t.raw(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [[0.0, value]]
    fine = isinstance(value, list) and len(value) > 0
    fine = fine and all(isinstance(p, list) and len(p) == 2 and all(map(_number, p)) for p in value)
    if not fine:
        if value is not None:
            t.error(key, f"expected a number or pairs [[at, value], …], got {value!r:.60}")
        return ((0.0, low),)
    for at, v in value:
        if not math.isfinite(at) or not (low <= v <= high or (passive and math.isnan(v))):
            t.error(key, f"expected {low:g} to {high:g} {unit}, got {v:g} at {at:g}")
            return ((0.0, low),)
    if any(a[0] > b[0] for a, b in itertools.pairwise(value)):
        t.error(key, f"expected ascending times, got {[p[0] for p in value]}")
    return tuple((float(at), float(v)) for at, v in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(t: Table) -> tuple[float, ...]:
    duration_s = t.number("duration_s", 1e-3, 1e6, "s")
    times = t.raw("output_times_s", [duration_s])
    t.done()
    fine = isinstance(times, list) and len(times) > 0 and all(map(_number, times))
    if not fine or not all(0.0 <= v <= duration_s for v in times):
        t.error("output_times_s", f"expected times from 0 to {duration_s:g} s, got {times!r:.60}")
        return (0.0,)
    if any(a >= b for a, b in itertools.pairwise(times)):
        t.error("output_times_s", "expected ascending times")
    return tuple(float(v) for v in times)


def _report(
    t: Table, half_mm: Sequence[float]
) -> tuple[tuple[tuple[float, float, float], ...], tuple[float, ...]]:
    points, isotherms = t.raw("points_mm", []), t.raw("isotherms_degc", [0.0, -20.0, -40.0])
    t.done()
    good = []
    for p in points if isinstance(points, list) else [points]:
        fine = isinstance(p, list) and len(p) == 3 and all(map(_number, p))
        if not fine or not all(abs(v) <= h for v, h in zip(p, half_mm, strict=True)):
            t.error("points_mm", f"expected points [x, y, z] inside the box, got {p!r:.60}")
        else:
            good.append((float(p[0]), float(p[1]), float(p[2])))
    fine = isinstance(isotherms, list) and all(map(_number, isotherms))
    if not fine or not all(-273.15 <= v <= 500.0 for v in isotherms):
        t.error("isotherms_degc", f"expected temperatures, got {isotherms!r:.60}")
        isotherms = []
    return tuple(good), tuple(float(v) for v in isotherms)


# ------------------------------------------------------------------ solving


def run_simulation(
    simulation: Simulation, engine: Engine
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The result as it is printed, and the fields for ``--out``. ``wall_s`` is the solving alone."""
    problem = simulation.problem
    state = engine.initial(problem, simulation.initial_degc, history=True)
    steps, wall_s, fields, points = 0, 0.0, [], []
    shown: dict[str, dict[str, list[Any]]] = {
        f"{degc:g}": {"volume_ml": [], "extent_mm": []} for degc in simulation.isotherms_degc
    }
    for time_s in simulation.times_s:
        started = time.perf_counter()
        state = engine.advance(problem, state, time_s)
        wall_s += time.perf_counter() - started
        steps += engine.work.steps
        degc = np.asarray(engine.temperature_degc(problem, state)[0], np.float32)
        fields.append(degc)
        points.append(_at_points(problem, degc, simulation.points_mm))
        for iso in simulation.isotherms_degc:
            volume_ml, extent_mm = isotherm(problem, degc, iso)
            shown[f"{iso:g}"]["volume_ml"].append(volume_ml)
            shown[f"{iso:g}"]["extent_mm"].append(extent_mm)
    result = {
        "engine": engine.name,
        "steps": steps,
        "wall_s": round(wall_s, 4),
        "times_s": list(simulation.times_s),
        "points_degc": points,
        "isotherms": shown,
        "history": _history_at(problem, state, simulation.points_mm),
    }
    return result, _fields(problem, simulation, fields, state)


def _fields(
    problem: Problem, simulation: Simulation, degc: list[FloatArray], state: State
) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "times_s": np.array(simulation.times_s),
        "origin_mm": np.array(problem.origin_mm),
        "spacing_mm": np.array(problem.spacing_mm),
        "label_zyx": problem.label_zyx,
        "temperature_degc": np.stack(degc),
    }
    if state.history is not None:
        arrays |= {name: array[0] for name, array in vars(state.history).items()}
    return arrays


def _history_at(
    problem: Problem, state: State, points_mm: Sequence[tuple[float, float, float]]
) -> dict[str, list[float]]:
    """What the nearest voxel of each point has been through."""
    assert state.history is not None
    found: dict[str, list[float]] = {}
    for name, array in vars(state.history).items():
        at = [tuple(np.rint(_index(problem, p)).astype(int)) for p in points_mm]
        found[name] = [float(array[0][i]) for i in at]
    return found


def _index(problem: Problem, point_mm: tuple[float, float, float]) -> FloatArray:
    """(z, y, x) in voxels, within the voxels' centres."""
    index = (np.array(point_mm) - problem.origin_mm) / problem.spacing_mm
    return np.clip(index[::-1], 0.0, np.array(problem.label_zyx.shape) - 1.0)


def _at_points(
    problem: Problem, degc: FloatArray, points_mm: Sequence[tuple[float, float, float]]
) -> list[float]:
    if not points_mm:
        return []
    at = np.array([_index(problem, p) for p in points_mm]).T
    values = ndimage.map_coordinates(degc.astype(float), at, order=1)
    return [round(float(v), 4) for v in values]


def isotherm(problem: Problem, degc: FloatArray, iso_degc: float) -> tuple[float, list[float]]:
    """Volume (ml) and extent along x, y, z (mm) of what is at or below a temperature, linear between
    voxel centres."""
    if not (degc <= iso_degc).any():
        return 0.0, [0.0, 0.0, 0.0]
    extent = [_extent_mm(degc, iso_degc, 2 - a, problem.spacing_mm[a]) for a in range(3)]
    return _volume_ml(problem, degc, iso_degc), extent


def _volume_ml(problem: Problem, degc: FloatArray, iso_degc: float) -> float:
    cell_ml = float(np.prod(problem.spacing_mm)) / 1e3
    below = np.argwhere(degc <= iso_degc)
    low = np.maximum(below.min(0) - 1, 0)
    high = np.minimum(below.max(0) + 2, degc.shape)
    part = np.pad(degc[tuple(map(slice, low, high))], 1, mode="edge")
    offsets = (np.arange(_SUBVOXELS) + 0.5) / _SUBVOXELS - 0.5
    inside = 0
    for offset in itertools.product(offsets, repeat=3):
        shifted = ndimage.shift(part, [-o for o in offset], order=1, mode="nearest")
        inside += int((shifted[1:-1, 1:-1, 1:-1] <= iso_degc).sum())
    return round(inside / _SUBVOXELS**3 * cell_ml, 4)


def _extent_mm(degc: FloatArray, iso_degc: float, axis: int, spacing_mm: float) -> float:
    """From the first to the last crossing along an axis; to the voxel's face at the box's edge."""
    lines = np.moveaxis(degc, axis, -1).reshape(-1, degc.shape[axis])
    lines = lines[(lines <= iso_degc).any(1)]
    return round((_last(lines, iso_degc) + _last(lines[:, ::-1], iso_degc)
                  - (lines.shape[1] - 1)) * spacing_mm, 4)  # fmt: skip


def _last(lines: FloatArray, iso_degc: float) -> float:
    """The largest index along any line at which it is still at the isotherm."""
    n = lines.shape[1]
    last = n - 1 - np.argmax((lines <= iso_degc)[:, ::-1], axis=1)
    row = np.arange(len(lines))
    after = np.minimum(last + 1, n - 1)
    here, there = lines[row, last], lines[row, after]
    share = np.where(there > here, (iso_degc - here) / np.maximum(there - here, 1e-6), 0.5)
    return float((last + np.clip(share, 0.0, 1.0)).max())
