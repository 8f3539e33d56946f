"""Contours of fields on the cursor's planes, as polylines in LPS millimetres. Pure.

Fields are (z, y, x) on a patient-aligned ``Grid``: signed distances in mm (negative inside) or
temperatures in °C. A plane between two grid planes is interpolated linearly.
Invariant: a field that is not a number somewhere, or a plane outside its grid, has no contour,
never a guess.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import contourpy
import numpy as np
import numpy.typing as npt

from monitor.geometry import Grid
from monitor.view.planes import Plane

FloatArray = npt.NDArray[np.floating[Any]]
Field = npt.NDArray[np.floating[Any]]
_FAR_BELOW = -1e30
_FAR_MM = 1e3


@dataclass(frozen=True)
class FieldSlice:
    """A field on a plane: (vertical, right) values at ascending coordinates."""

    values: Field
    right_mm: FloatArray
    vertical_mm: FloatArray


def cut(field: Field, grid: Grid, plane: Plane, at_mm: float) -> FieldSlice | None:
    """The field on the plane at ``at_mm``; None outside the grid."""
    k = (at_mm - grid.origin_lps_mm[plane.across]) / grid.spacing_mm[plane.across]
    last = field.shape[2 - plane.across] - 1
    if not -1e-6 <= k <= last + 1e-6 or min(field.shape) < 2:
        return None
    low = min(max(int(np.floor(k)), 0), max(last - 1, 0))
    weight = float(np.clip(k - low, 0, 1))
    axis = 2 - plane.across
    values = np.asarray(np.take(field, low, axis), float)
    if weight > 0 and np.isfinite(values).all():
        values = values * (1 - weight) + weight * np.take(field, low + 1, axis)
    if np.isnan(values).any():
        return None
    values = np.minimum(values, _FAR_MM)  # +inf is "no such surface anywhere near"
    axes = grid.axes_lps_mm()
    return FieldSlice(values, axes[plane.right], axes[plane.vertical])


def blended_cut(
    fields: Field, times: Sequence[float], at_time: float, grid: Grid, plane: Plane, at_mm: float
) -> FieldSlice | None:
    """The plane of a field (time, z, y, x) at a time between two of ``times`` (the first one's
    before them, None after them). Cut first, blended after: only the planes needed are read."""
    k = np.interp(at_time, times, np.arange(len(times))) if len(times) else -1.0
    low = int(np.floor(k))
    if low < 0 or at_time > times[-1] or len(times) != len(fields):
        return None
    first = cut(fields[low], grid, plane, at_mm)
    weight = float(k - low)
    if first is None or weight < 1e-6:
        return first
    second = cut(fields[low + 1], grid, plane, at_mm)
    if second is None:
        return None
    return FieldSlice(
        first.values * (1 - weight) + second.values * weight, first.right_mm, first.vertical_mm
    )


def lines(s: FieldSlice, level: float) -> list[FloatArray]:
    """Polylines (n, 2) of (right, vertical) mm where the field is ``level``."""
    if not float(s.values.min()) <= level <= float(s.values.max()):
        return []
    generator = contourpy.contour_generator(
        s.right_mm, s.vertical_mm, s.values, name="serial", line_type=contourpy.LineType.Separate
    )
    found: Any = generator.lines(level)
    return list(found)


def areas(s: FieldSlice, low: float | None, high: float) -> list[FloatArray]:
    """Closed outlines (to be filled odd-even) where ``low`` (or anything) ≤ field ≤ ``high``."""
    if float(s.values.min()) > high:
        return []
    generator = contourpy.contour_generator(
        s.right_mm, s.vertical_mm, s.values, name="serial", fill_type=contourpy.FillType.OuterOffset
    )
    found: Any = generator.filled(_FAR_BELOW if low is None else low, high)
    points, offsets = found
    return [
        ring[a:b]
        for ring, cuts in zip(points, offsets, strict=True)
        for a, b in itertools.pairwise(cuts)
    ]
