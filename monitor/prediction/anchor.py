"""Re-anchoring: the model's temperature field, moved so that its ice edge is the measured one.

Signed distances in mm (negative in ice), temperatures in °C, arrays (z, y, x).
Each voxel takes the temperature the model has at the place where the model's own signed distance
equals the measured one: T(x) ← T(x + δn), δ = φ_measured − φ_model, n = ∇φ_model. The profile
across the edge, hence the stored cold, stays the model's; the edge becomes the measurement's.
Invariant: a measurement equal to the model changes nothing.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.model import Float32Array

# Beyond this a correction is no correction: the two disagree, and the caller says so.
_MAX_SHIFT_MM = 10.0
# The shift fades with distance from the edge: far tissue has not heard of the ice.
_FADE_MM = 15.0


def anchored_temperature_degc(
    temperature_degc: Float32Array,
    ice: Float32Array,
    measured_sdf_mm: Float32Array,
    grid: Grid,
    thawed_degc: float,
) -> Float32Array:
    """One member's temperature with its edge moved onto the measured one.

    ``measured_sdf_mm`` is +inf without ice: then what the model froze is set to ``thawed_degc``.
    """
    if not np.isfinite(measured_sdf_mm).any():
        return np.where(ice > 0.5, thawed_degc, temperature_degc).astype(np.float32)
    model_sdf_mm = signed_distance_mm(0.5 - ice, grid)
    if not np.isfinite(model_sdf_mm).any():
        return temperature_degc
    index = source_index(model_sdf_mm, measured_sdf_mm, grid)
    moved = ndimage.map_coordinates(temperature_degc, index, order=1, mode="nearest")
    return np.asarray(moved, np.float32)


def source_index(
    model_sdf_mm: Float32Array, measured_sdf_mm: Float32Array, grid: Grid
) -> Float32Array:
    """Where (index, (3, z, y, x)) each voxel takes the model's value from. Both surfaces must exist."""
    fade = np.exp(-(np.maximum(np.abs(measured_sdf_mm) - _FADE_MM, 0.0) / _FADE_MM))
    shift_mm = np.clip(measured_sdf_mm - model_sdf_mm, -_MAX_SHIFT_MM, _MAX_SHIFT_MM) * fade
    spacing_zyx = np.array(grid.spacing_mm[::-1])
    normal = np.array(np.gradient(model_sdf_mm, *spacing_zyx))
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 0.3)
    index = np.indices(model_sdf_mm.shape, dtype=np.float32)
    index += shift_mm * normal / spacing_zyx[:, None, None, None]
    return index
