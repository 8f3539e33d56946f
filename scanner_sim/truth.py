"""What really happened at a scan, by code of its own. mm, ml, fractions 0..1, the scan's coordinates.

Definitions (the monitor's, computed another way): the ice is where half of the freezable water is
frozen; lesion covered is the share of its volume inside; the minimal margin is the smallest depth
of the lesion's points inside the ice, negative when some are out; a structure's distance is the
smallest signed distance of its points to the ice. Lesion and structures move with the tissue.
Invariant: computed at half a millimetre, from the undisturbed frozen fraction; what lies farther
away than the ice's surroundings reach, coarsely first and then closely.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from scanner_sim.bodies import Level
from scanner_sim.frame import FloatArray, Frame, even, on_axes
from scanner_sim.freezing.ice import State
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.patient.motion import Displacement, Points
from scanner_sim.scenario import Scenario

_STEP_MM = 0.5
# Where structures far from the ice are looked for: their level functions end there.
_FAR_STEP_MM, _FAR_MM = 2.0, 84.0


def seen_frame(state: State, moved: Displacement, spacing_mm: float) -> Frame:
    """An even frame in the scan's coordinates that holds all of the state's frame."""
    f = state.frame
    corners = [
        moved.to_scan((float(x), float(y), float(z)))
        for x in (f.x[0], f.x[-1])
        for y in (f.y[0], f.y[-1])
        for z in (f.z[0], f.z[-1])
    ]
    return even(np.min(corners, 0), np.max(corners, 0), spacing_mm)


def as_seen(
    field: FloatArray, state: State, moved: Displacement, frame: Frame, outside: float = 0.0
) -> npt.NDArray[np.float32]:
    """A field of the state at the points of a frame in the scan's coordinates."""
    return at_points(field, state, moved, frame.grid(), outside)


def at_points(
    field: FloatArray, state: State, moved: Displacement, seen: Points, outside: float = 0.0
) -> npt.NDArray[np.float32]:
    """A field of the state at points of the scan."""
    x, y, z = moved.to_plan(*seen)
    own = state.frame
    at = [(p - a[0]) / (a[1] - a[0]) for p, a in zip((z, y, x), (own.z, own.y, own.x), strict=True)]
    return np.asarray(
        ndimage.map_coordinates(
            field, at, order=1, mode="constant", cval=outside, output=np.float32
        )
    )


def measure(
    scenario: Scenario, anatomy: Anatomy, state: State | None, moved: Displacement, time_s: float
) -> dict[str, Any]:
    """The truth of one scan, as it goes into truth.json."""
    result: dict[str, Any] = {
        "time_s": time_s,
        "ice_volume_ml": 0.0,
        "lesion_covered": 0.0,
        "margin_covered": 0.0,
        "min_margin_mm": None,
        "structures": {s.name: None for s in scenario.structures},
        "needles": [
            {"number": n.number, "tip_lps_mm": ends[0], "entry_lps_mm": ends[1]}
            for n, ends in ((n, moved.needle(n)) for n in anatomy.needles)
        ],
        "lesion_centre_lps_mm": moved.to_scan(anatomy.lesion_centre_lps_mm),
    }
    if state is None or state.fraction.max() < 0.5:
        return result
    fine = seen_frame(state, moved, _STEP_MM)
    ice = as_seen(state.fraction, state, moved, fine) >= 0.5
    if not ice.any():
        return result
    distance_mm = signed_distance_mm(ice)
    lesion = _inside(anatomy.lesion, moved, fine)
    grown = ndimage.distance_transform_edt(~lesion) * _STEP_MM <= scenario.margin_goal_mm
    result["ice_volume_ml"] = float(ice.sum()) * _STEP_MM**3 / 1000.0
    result["lesion_covered"] = float(ice[lesion].mean())
    result["margin_covered"] = min(result["lesion_covered"], float(ice[grown].mean()))
    result["min_margin_mm"] = float(-distance_mm[lesion].max())
    for name, level in anatomy.structures.items():
        body = _inside(level, moved, fine)
        near_mm = float(distance_mm[body].min()) if body.any() else np.inf
        if near_mm > _reach_mm(ice):
            near_mm = min(near_mm, _far_mm(level, moved, fine, ice))
        result["structures"][name] = near_mm if np.isfinite(near_mm) else None
    return result


def _reach_mm(ice: npt.NDArray[np.bool_]) -> float:
    """How far around the ice its frame reaches at least."""
    where = np.argwhere(ice)
    return float(min(where.min(0).min(), (np.array(ice.shape) - 1 - where.max(0)).min())) * _STEP_MM


def _far_mm(level: Level, moved: Displacement, fine: Frame, ice: npt.NDArray[np.bool_]) -> float:
    """From the ice's surface to the nearest point of a body, wherever it is; infinite without one."""
    at = np.argwhere(ice & ~ndimage.binary_erosion(ice))[:, ::-1] * _STEP_MM
    surface = at + np.array(fine.origin_lps_mm)
    tree = cKDTree(surface)
    nearest, half_mm, far_mm = surface.mean(0), _FAR_MM, np.inf
    for step_mm in (_FAR_STEP_MM, 0.25 * _FAR_STEP_MM):  # about, then closely around that point
        wide = even(nearest - half_mm, nearest + half_mm, step_mm)
        depth = np.asarray(level(*moved.to_plan(*wide.grid())))
        points = np.argwhere(depth <= 0)[:, ::-1] * step_mm + np.array(wide.origin_lps_mm)
        if len(points):
            found = tree.query(points)[0]
            nearest, half_mm = points[np.argmin(found)], 2.0 * _FAR_STEP_MM
            far_mm = min(far_mm, float(found.min()))
    return far_mm - 0.5 * _STEP_MM


def _inside(level: Level, moved: Displacement, fine: Frame) -> npt.NDArray[np.bool_]:
    """A body of the plan as the tissue has carried it; levels are smooth, so every other point
    will do."""
    half = Frame(fine.x[::2], fine.y[::2], fine.z[::2])
    values = np.asarray(level(*moved.to_plan(*half.grid())), np.float32)
    edge = [np.append(a[::2], a[-1] + _STEP_MM) if len(a) % 2 == 0 else a[::2] for a in
            (fine.x, fine.y, fine.z)]  # fmt: skip
    values = np.pad(values, [(0, len(e) - n) for e, n in zip(edge[::-1], values.shape, strict=True)],
                    mode="edge")  # fmt: skip
    return on_axes(values, Frame(*edge), fine.z, fine.y, fine.x) <= 0


def signed_distance_mm(ice: npt.NDArray[np.bool_]) -> FloatArray:
    """Distance to the ice's surface, half a voxel before the first voxel beyond it."""
    outside = ndimage.distance_transform_edt(~ice)
    inside = ndimage.distance_transform_edt(ice)
    return np.where(ice, 0.5 - inside, outside - 0.5) * _STEP_MM
