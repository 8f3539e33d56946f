"""What comes of a course: how far its ice reaches, and two courses compared. Seconds, °C, LPS mm, arrays
(member, z, y, x).

Invariant: two courses are compared member by member; of the results, ranges hold the middle 80 % of the
members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from gpu_kernels.engine import Needle
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.model import Change, Float32Array, Outcome, Range, StructureOutcome
from monitor.prediction.drift import Drift, asked_at
from monitor.prediction.forecast import (
    Reached,
    Target,
    at_points,
    crossings_s,
    drifted,
    evenly,
    middle,
)

# A volume's covered share to a thousandth; a surface of up to 40 cm², a millimetre from point to point.
_MOST_POINTS = 4000
# Of a structure, what lies so much farther from a needle than its nearest point is reached later.
_FACING_MM = 10.0


@dataclass(frozen=True)
class Bodies:
    """Points of the bodies' surfaces (what freezes first or last lies there), and of the volumes of lesion
    and lesion plus margin with their weights."""

    surface: Target
    volumes_lps_mm: tuple[FloatArray, FloatArray]
    weights: tuple[FloatArray, FloatArray]

    def drifted(self, drift: Drift | None, elapsed_s: float, grid: Grid) -> Bodies:
        """As ``forecast.drifted``."""
        lesion, margin = (asked_at(p, drift, elapsed_s, grid) for p in self.volumes_lps_mm)
        return Bodies(drifted(self.surface, drift, elapsed_s, grid), (lesion, margin), self.weights)


def bodies(target: Target, needles: Sequence[Needle]) -> Bodies:
    """Of structures only what ice can reach first. All of a body's points count as its surface where there
    are no weights."""
    points = target.bodies_lps_mm
    weights = target.weights or tuple(np.full(len(p), 1.0 / max(len(p), 1)) for p in points)
    surfaces = [
        p[w < 0.5 * w.max(initial=0.0)] if target.weights else p
        for p, w in zip(points, weights, strict=True)
    ]
    facing = [*surfaces[:2], *(_facing(p, needles) for p in surfaces[2:])]
    lesion, margin = (evenly(p, _MOST_POINTS) for p in points[:2])
    shares = evenly(weights[0], _MOST_POINTS), evenly(weights[1], _MOST_POINTS)
    surface = target.with_bodies([evenly(p, _MOST_POINTS) for p in facing])
    return Bodies(surface, (lesion, margin), shares)


def _facing(points: FloatArray, needles: Sequence[Needle]) -> FloatArray:
    """Those not much farther from a needle than the one nearest to it: that needle may be the only one
    left to freeze."""
    if not len(points):
        return points
    facing = np.zeros(len(points), bool)
    for needle in needles:
        offset = points - np.array(needle.tip_mm)
        along = np.clip(offset @ np.array(needle.direction), 0.0, needle.active_length_mm)
        away_mm = np.linalg.norm(offset - along[:, None] * np.array(needle.direction), axis=1)
        facing |= away_mm <= away_mm.min() + _FACING_MM
    return points[facing]


# ------------------------------------------------------------------ how far the ice reaches


@dataclass(frozen=True)
class Extent:
    """By member: how deep the lesion lies in the ice where it lies least, and the covered shares."""

    depth_mm: FloatArray
    lesion: FloatArray
    margin: FloatArray


def extent(fraction: Float32Array, of: Bodies, grid: Grid) -> Extent:
    """Of members (member, z, y, x)."""
    found = [_extent(signed_distance_mm(0.5 - member, grid), of, grid) for member in fraction]
    depth, lesion, margin = np.array(found).T
    return Extent(depth, lesion, margin)


def _extent(sdf_mm: Float32Array, of: Bodies, grid: Grid) -> tuple[float, float, float]:
    def inside(points: FloatArray) -> FloatArray:
        return -_distance_mm(sdf_mm, points, grid)

    depth_mm = inside(of.surface.lesion_lps_mm)
    lesion = _share(depth_mm, inside(of.volumes_lps_mm[0]), of.weights[0])
    margin_mm = inside(of.surface.margin_lps_mm)
    margin = _share(margin_mm, inside(of.volumes_lps_mm[1]), of.weights[1])
    # A margin around an uncovered lesion is worth nothing.
    return float(depth_mm.min()), lesion, min(lesion, margin)


def _share(surface_mm: FloatArray, volume_mm: FloatArray, weights: FloatArray) -> float:
    """The covered share; 1 only where every point is."""
    if (surface_mm >= 0).all() and (volume_mm >= 0).all():
        return 1.0
    share = float(weights[volume_mm >= 0].sum() / weights.sum())
    return min(share, float(np.nextafter(1.0, 0.0)))


def nearest_mm(most: Float32Array, surface: Target, grid: Grid) -> tuple[FloatArray, ...]:
    """(member,) for each structure: from its nearest point to ice (member, z, y, x)."""
    distances = [signed_distance_mm(0.5 - member, grid) for member in most]
    return tuple(
        np.array([_distance_mm(sdf, points, grid).min(initial=np.inf) for sdf in distances])
        for _, points in surface.structures_lps_mm
    )


def _distance_mm(sdf_mm: Float32Array, points: FloatArray, grid: Grid) -> FloatArray:
    """Signed, of points; ±inf where all or nothing is ice."""
    if not np.isfinite(sdf_mm).all():
        return np.full(len(points), sdf_mm.flat[0], float)
    distance_mm = at_points(sdf_mm[None], grid, points)[0]
    index = grid.to_index_zyx(points)
    beyond = np.any((index < 0) | (index > np.array(grid.shape_zyx) - 1), axis=1)
    if beyond.any():
        near = np.abs(sdf_mm) <= 0.5 * max(grid.spacing_mm)
        to_voxel_mm, nearest = cKDTree(grid.to_lps_mm(np.argwhere(near))).query(points[beyond])
        # The voxel lies so far on this side of the surface.
        distance_mm[beyond] = to_voxel_mm + sdf_mm[near][nearest]
    return distance_mm


# ------------------------------------------------------------------ results


@dataclass(frozen=True)
class Results:
    """A course's results, each (member,); those of structures one for each."""

    lesion_s: FloatArray
    margin_s: FloatArray
    extent: Extent
    contact_s: tuple[FloatArray, ...]
    distance_mm: tuple[FloatArray, ...]
    coldest_degc: tuple[FloatArray, ...]


def results(
    elapsed_s: FloatArray, moments: tuple[Reached, ...], until_s: float, at_end: Extent,
    distance_mm: tuple[FloatArray, ...],
) -> Results:  # fmt: skip
    """From what was reached at each time; how cold, until ``until_s``."""
    window = [m for t, m in zip(elapsed_s, moments, strict=True) if t <= until_s]
    structures = range(len(distance_mm))
    return Results(
        crossings_s(elapsed_s, np.array([m.least_lesion for m in moments])),
        crossings_s(elapsed_s, np.array([m.least_margin for m in moments])),
        at_end,
        tuple(
            crossings_s(elapsed_s, np.array([m.most_structure[i] for m in moments]))
            for i in structures
        ),
        distance_mm,
        tuple(np.min([m.coldest_degc[i] for m in window], axis=0) for i in structures),
    )


def outcome(r: Results, freeze_ends_s: float, surface: Target) -> Outcome:
    """The middle of the members; nothing is known of a structure without points."""
    structures = []
    for i, (name, points) in enumerate(surface.structures_lps_mm):
        if not len(points):
            structures.append(StructureOutcome(name, None, None, None))
            continue
        distance, coldest = middle(r.distance_mm[i]), middle(r.coldest_degc[i])
        structures.append(StructureOutcome(name, _time_s(r.contact_s[i]), distance, coldest))
    return Outcome(
        freeze_ends_s=freeze_ends_s,
        time_to_lesion_s=_time_s(r.lesion_s),
        time_to_margin_s=_time_s(r.margin_s),
        lesion_covered=middle(r.extent.lesion),
        margin_covered=middle(r.extent.margin),
        min_margin_mm=middle(r.extent.depth_mm),
        structures=tuple(structures),
    )


def change(asked: Results, going_on: Results, surface: Target) -> Change:
    """What the question changes."""
    pairs = zip(asked.distance_mm, going_on.distance_mm, strict=True)
    distances = [_change(a, b) for a, b in pairs]
    names = [name for name, _ in surface.structures_lps_mm]
    return Change(
        lesion_later_s=_change(asked.lesion_s, going_on.lesion_s),
        margin_later_s=_change(asked.margin_s, going_on.margin_s),
        min_margin_mm=_change(asked.extent.depth_mm, going_on.extent.depth_mm),
        distance_mm=tuple(zip(names, distances, strict=True)),
    )


def _time_s(by_member: FloatArray) -> Range | None:
    low, high = middle(by_member)
    return None if np.isinf(low) else (low, high)


def _change(asked: FloatArray, going_on: FloatArray) -> Range | None:
    """Where both are infinite there is nothing to compare."""
    comparable = np.isfinite(asked) | np.isfinite(going_on)
    if not comparable.any():
        return None
    return middle(asked[comparable] - going_on[comparable])
