"""What really happened, from the heat grid itself, by code of its own. mm, ml, fractions 0..1.

Definitions (the monitor's, computed another way): the ice is where half of the freezable water is
frozen; lesion covered is the share of its volume inside; the minimal margin is the smallest depth
of the lesion's points inside the ice, negative when some are out; a structure's distance is the
smallest signed distance of its points to the ice.
Invariant: computed at half the heat grid's spacing, from the undisturbed frozen fraction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.anatomy import Anatomy, Frame
from scanner_sim.bodies import FloatArray
from scanner_sim.render import on_axes
from scanner_sim.scenario import Scenario

_STEP_MM = 0.5


def measure(
    scenario: Scenario, anatomy: Anatomy, frame: Frame, fraction: FloatArray | None, time_s: float
) -> dict[str, Any]:
    """The truth of one scan, as it goes into truth.json."""
    result: dict[str, Any] = {
        "time_s": time_s,
        "ice_volume_ml": 0.0,
        "lesion_covered": 0.0,
        "margin_covered": 0.0,
        "min_margin_mm": None,
        "structures": {s.name: None for s in scenario.structures},
    }
    fine = Frame(*(np.arange(a[0], a[-1] + 1e-6, _STEP_MM) for a in (frame.x, frame.y, frame.z)))
    ice = None if fraction is None else on_axes(fraction, frame, fine.z, fine.y, fine.x) >= 0.5
    if ice is None or not ice.any():
        return result
    distance_mm = signed_distance_mm(ice)
    lesion_mm = np.asarray(anatomy.lesion(*fine.grid()))
    lesion = lesion_mm <= 0
    grown = ndimage.distance_transform_edt(~lesion) * _STEP_MM <= scenario.margin_goal_mm
    result["ice_volume_ml"] = float(ice.sum()) * _STEP_MM**3 / 1000.0
    result["lesion_covered"] = float(ice[lesion].mean())
    result["margin_covered"] = min(result["lesion_covered"], float(ice[grown].mean()))
    result["min_margin_mm"] = float(-distance_mm[lesion].max())
    for name, level in anatomy.structures.items():
        body = np.asarray(level(*fine.grid())) <= 0
        result["structures"][name] = float(distance_mm[body].min()) if body.any() else None
    return result


def signed_distance_mm(ice: npt.NDArray[np.bool_]) -> FloatArray:
    """Distance to the ice's surface, half a voxel before the first voxel beyond it."""
    outside = ndimage.distance_transform_edt(~ice)
    inside = ndimage.distance_transform_edt(ice)
    return np.where(ice, 0.5 - inside, outside - 0.5) * _STEP_MM
