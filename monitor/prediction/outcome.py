"""What comes of a course: how far its ice reaches, and two courses compared. Seconds, °C, LPS mm, arrays
(member, z, y, x).

Invariant: two courses are compared member by member; of the results, ranges hold the middle 80 % of the
members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from gpu_kernels.engine import Needle
from monitor.forecast_values import Change, Outcome, Range, StructureOutcome
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.model import Float32Array
from monitor.prediction.forecast import Reached, Target, crossings_s, evenly, middle
from monitor.prediction.sampling import sampled_at

# A volume's covered share to a thousandth; a surface of up to 40 cm², a millimetre from point to point.
_MOST_POINTS = 4000
# Of a structure, what lies so much farther from a needle than its nearest point is reached later.
_FACING_MM = 10.0


def surfaces(target: Target, needles: Sequence[Needle]) -> Target:
    """The bodies' surfaces (what freezes first or last lies there), of structures only what ice can reach
    first, and the volumes; all of a body's points where the target does not tell them apart."""
    lesion, margin, *structures = target.surfaces_lps_mm or target.bodies_lps_mm
    facing = [_facing(points, needles) for points in structures]
    names = (name for name, _ in target.structures_lps_mm)
    whole = ("lesion", target.lesion_lps_mm), ("lesion and margin", target.margin_lps_mm)
    asked = Target(
        lesion,
        margin,
        tuple(zip(names, facing, strict=True)),
        volumes_lps_mm=target.volumes_lps_mm or whole,
    )
    return asked.mapped(lambda points: evenly(points, _MOST_POINTS))


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


def extent(ice: Float32Array, of: Target, grid: Grid) -> Extent:
    """Of members (member, z, y, x); ``of`` are ``surfaces``."""
    sdf_mm = _to_ice_mm(ice, grid)

    def inside_mm(points: FloatArray) -> FloatArray:
        return -_distance_mm(sdf_mm, points, grid)

    depth_mm, margin_mm = inside_mm(of.lesion_lps_mm), inside_mm(of.margin_lps_mm)
    lesion, margin = (
        _share(surface_mm, inside_mm(points))
        for surface_mm, (_, points) in zip((depth_mm, margin_mm), of.volumes_lps_mm, strict=True)
    )
    # A margin around an uncovered lesion is worth nothing.
    return Extent(depth_mm.min(axis=0), lesion, np.minimum(lesion, margin))


def _share(surface_mm: FloatArray, volume_mm: FloatArray) -> FloatArray:
    """(member,): the covered share of depths (n, member); 1 only where every point is."""
    every = (surface_mm >= 0).all(axis=0) & (volume_mm >= 0).all(axis=0)
    return np.where(every, 1.0, np.minimum((volume_mm >= 0).mean(axis=0), np.nextafter(1.0, 0.0)))


def nearest_mm(most: Float32Array, surface: Target, grid: Grid) -> tuple[FloatArray, ...]:
    """(member,) for each structure: from its nearest point to ice (member, z, y, x)."""
    sdf_mm = _to_ice_mm(most, grid)
    return tuple(
        _distance_mm(sdf_mm, points, grid).min(axis=0, initial=np.inf)
        for _, points in surface.structures_lps_mm
    )


def _to_ice_mm(ice: Float32Array, grid: Grid) -> Float32Array:
    return np.stack([signed_distance_mm(0.5 - member, grid) for member in ice])


def _distance_mm(sdf_mm: Float32Array, points: FloatArray, grid: Grid) -> FloatArray:
    """(n, member), signed, of points; ±inf where all or nothing of a member's is ice."""
    finite = np.isfinite(sdf_mm).all(axis=(1, 2, 3))
    distance_mm = np.tile(sdf_mm[:, 0, 0, 0].astype(float), (len(points), 1))
    if finite.any():
        distance_mm[:, finite] = sampled_at(sdf_mm[finite], points, grid)
    beyond = _beyond(points, grid)
    for m in np.flatnonzero(finite) if beyond.any() else ():
        near = np.abs(sdf_mm[m]) <= 0.5 * max(grid.spacing_mm)
        to_voxel_mm, nearest = cKDTree(grid.to_lps_mm(np.argwhere(near))).query(points[beyond])
        # The voxel lies so far on this side of the surface.
        distance_mm[beyond, m] = to_voxel_mm + sdf_mm[m][near][nearest]
    return distance_mm


def _beyond(points: FloatArray, grid: Grid) -> npt.NDArray[np.bool_]:
    index = grid.to_index_zyx(points)
    return np.any((index < 0) | (index > np.array(grid.shape_zyx) - 1), axis=1)


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
