"""What the CPU engine's compiled loops are given, worked out from a problem. SI units, °C.

Invariant: nothing here depends on the field; what depends on the labels alone is worked out once
per label array.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.cpu_kernels import CHUNK, LEFT, SLACK, Faces, Grid, Rows, Sinks
from gpu_kernels.cpu_solver import Constants
from gpu_kernels.engine import FloatArray, Problem, TimeTable
from gpu_kernels.needles import (
    Shafts,
    breakpoints_s,
    drive,
    may_change,
    shafts,
    sink_per_s,
    touched,
)
from gpu_kernels.stepping import MOST_LATENT, STILL_DEGC, diffusivities_m2_s, per_latent

UIntArray = npt.NDArray[np.uint64]

# A step of 2 Euler steps takes 3 stages, one of 2500 takes 99.
_SCHEMES = 49


@dataclass(frozen=True)
class Layout:
    """What follows from a problem's labels, grid and needles. ``pairs`` are the tissues (below,
    above) that meet."""

    grid: Grid
    rows: Rows
    faces: Faces
    pairs: tuple[tuple[int, int], ...]
    shafts: Shafts
    table: law.Table
    folds: FloatArray


def layout_of(problem: Problem) -> Layout:
    """The layout of a problem."""
    nz, ny, nx = problem.label_zyx.shape
    grid = Grid(
        np.uint64(nz),
        np.uint64(ny),
        np.uint64(nx),
        np.uint64(pitch_of(nx)),
        np.uint64(_width_of(nx)),
        _float32([(1e3 / d) ** 2 for d in problem.spacing_mm]),
        problem.boundary == "fixed",
    )
    rows, faces, pairs = _Labels.of(problem)
    table = law.table(problem)
    return Layout(grid, rows, faces, pairs, shafts(problem), table, law.folded(problem, table))


def pitch_of(nx: int) -> int:
    """Voxels a row takes in memory."""
    return -(-nx // CHUNK) * CHUNK


def _width_of(nx: int) -> int:
    return -(-(LEFT + pitch_of(nx) + 1) // SLACK) * SLACK


def scratch_of(layout: Layout) -> tuple[Any, Any, Any]:
    """A worker's scratch: heat potential and source of three planes, fluxes of one group."""
    g = layout.grid
    planes = 3 * (int(g.ny + np.uint64(2)) * int(g.width) + SLACK)
    longest = int(np.diff(layout.faces.start.astype(np.int64)).max(initial=0))
    return tuple(np.zeros(n, np.float32) for n in (planes, planes, longest))  # type: ignore[return-value]


def constants_of(
    problem: Problem, layout: Layout, most_latent: float = MOST_LATENT
) -> tuple[Constants, ...]:
    """The constants of every member's run."""
    table, s = layout.table, layout.shafts
    duties = [n.duty if isinstance(n.duty, tuple) else ((0.0, n.duty),) for n in problem.needles]
    table_s, table_value, ranges = _flattened(
        [t.held_degc for t in problem.tissues], [drive(n).table for n in problem.needles], duties
    )
    cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
    stages, firsts, reach = _schemes()
    shared: dict[str, Any] = {
        "grid": layout.grid,
        "rows": layout.rows,
        "faces": layout.faces,
        "sinks": _sinks(problem, s),
        "table_s": table_s,
        "held": ranges[0],
        "drives": ranges[1],
        "duties": ranges[2],
        "kind": np.array([drive(n).kind for n in problem.needles], np.int64),
        "needle": s.needle,
        "shape": s.shape,
        "strength": s.metre / cell_m3,
        "contact": s.contact_w_m_k,
        "breakpoints_s": np.array(breakpoints_s(problem), float),
        "euler_s": 0.95 * law.stable_step_s(problem, table, sink_per_s(problem, table, s)),
        "stages": stages,
        "firsts": firsts,
        "reach": reach,
        "stasis_s": problem.stasis_s,
        "still_degc": STILL_DEGC,
        "most_latent": most_latent,
        "diffusivity": diffusivities_m2_s(table),
    }
    return tuple(
        Constants(**shared, **_of_member(problem, layout, m, table_value, ranges[2]))
        for m in range(len(problem.members))
    )


def _of_member(
    problem: Problem, layout: Layout, m: int, table_value: FloatArray, duty_ranges: UIntArray
) -> dict[str, Any]:
    """What members do not share."""
    table, s = layout.table, layout.shafts
    columns = ("solidus", "width", "latent", "per_cf", "per_cu", "k_frozen", "k_unfrozen")
    curves = np.stack([getattr(table, n)[m] for n in columns], axis=-1)
    per_c = 1.0 / np.array([t.rho_kg_m3 * t.c_unfrozen_j_kg_k for t in problem.tissues])
    # A member's cooling scales the duty.
    values, cooling = table_value.copy(), problem.members.cooling_by_needle(len(problem.needles))[m]
    for (first, last), share in zip(duty_ranges.astype(int), cooling, strict=True):
        values[first:last] *= share
    at_piece = np.stack([curves[:, i] for i in (0, 1, 5, 6)], axis=-1)
    share = np.concatenate(
        [s.tissue[..., None], np.broadcast_to(at_piece, (len(s.needle), *at_piece.shape))], axis=-1
    )
    return {
        "curves": _float32(curves),
        "folds": _float32(layout.folds[m]),
        "sides": _sides(problem, layout.pairs, curves),
        "rates": _float32(np.stack([per_latent(table)[m], per_c], axis=-1)),
        "table_value": values,
        "share": np.ascontiguousarray(share),
    }


def _float32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


@functools.cache
def _schemes() -> tuple[FloatArray, FloatArray, FloatArray]:
    """RKL2 with 3, 5, 7, … stages: (scheme, stage, 5), the first stages' factors, the longest steps
    in Euler steps."""
    table = np.zeros((_SCHEMES, 2 * _SCHEMES, 5))
    firsts, reach = np.zeros(_SCHEMES), np.zeros(_SCHEMES)
    for i in range(_SCHEMES):
        s = 2 * i + 3
        c = law.rkl2(s)
        table[i, : s - 1] = np.stack([c.mu, c.nu, c.rate, c.rate0, c.at], axis=-1)
        firsts[i], reach[i] = c.first, 0.25 * (s * s + s - 2)
    return table, firsts, reach


def _flattened(*groups: list[TimeTable]) -> tuple[FloatArray, FloatArray, list[UIntArray]]:
    """Tables of time, end to end; per group where each begins and ends."""
    entries: list[tuple[float, float]] = []
    ranges = []
    for group in groups:
        places = np.zeros((len(group), 2), np.uint64)
        for i, table in enumerate(group):
            places[i] = len(entries), len(entries) + len(table)
            entries += table
        ranges.append(places)
    flat = np.array(entries, float).reshape(-1, 2)
    return flat[:, 0].copy(), flat[:, 1].copy(), ranges


def _sinks(problem: Problem, s: Shafts) -> Sinks:
    by_voxel = touched(s)
    label, nx = problem.label_zyx.ravel(), problem.label_zyx.shape[2]
    row, x = np.divmod(by_voxel.voxel, nx)
    return Sinks(
        start=s.start.astype(np.uint64),
        place=by_voxel.place.astype(np.uint64),
        weight=_float32(s.weight),
        voxel=(row * pitch_of(nx) + x).astype(np.uint64),
        label=label[by_voxel.voxel].astype(np.uint64),
        voxel_start=by_voxel.start.astype(np.uint64),
        voxel_piece=by_voxel.piece.astype(np.uint64),
        voxel_weight=_float32(by_voxel.weight),
        free=_float32(may_change(problem, by_voxel.voxel)),
    )


def _sides(
    problem: Problem, pairs: tuple[tuple[int, int], ...], curves: FloatArray
) -> npt.NDArray[np.float32]:
    """(axis, pair, 2, 7): the tissues on either side of a face."""
    sides = np.zeros((3, max(len(pairs), 1), 2, 7))
    for axis, spacing in enumerate(problem.spacing_mm):
        for p, pair in enumerate(pairs):
            for side, label in enumerate(pair):
                sides[axis, p, side] = curves[label]
                if problem.tissues[label].surface_h_w_m2k is not None:
                    sides[axis, p, side, 5:] = law.half_voxel_k(problem.tissues[label], spacing)
    return _float32(sides)


_ByLabel = tuple[Rows, Faces, tuple[tuple[int, int], ...]]


class _Labels:
    """Runs and faces of the label arrays last seen."""

    _last: tuple[Any, tuple[bool, ...], _ByLabel] | None = None

    @classmethod
    def of(cls, problem: Problem) -> _ByLabel:
        """What depends on the labels and on which of them are held."""
        held = tuple(bool(t.held_degc) for t in problem.tissues)
        last = cls._last
        if last is None or last[0] is not problem.label_zyx or last[1] != held:
            label = np.ascontiguousarray(problem.label_zyx)
            faces, pairs = _faces(label)
            last = (problem.label_zyx, held, (_rows(label, np.array(held)), faces, pairs))
            cls._last = last
        return last[2]


def _rows(label_zyx: npt.NDArray[np.uint8], held: npt.NDArray[np.bool_]) -> Rows:
    nx = label_zyx.shape[2]
    label = label_zyx.reshape(-1, nx)
    last = np.ones(label.shape, bool)
    last[:, :-1] = label[:, 1:] != label[:, :-1]
    start = np.concatenate([[0], np.cumsum(last.sum(1))]).astype(np.uint64)
    holds = held[label].any(1) if held.any() else np.zeros(len(label), bool)
    end = np.nonzero(last)[1] + 1
    end[end == nx] = pitch_of(nx)
    return Rows(start, end.astype(np.uint64), label[last].astype(np.uint64), holds)


def _faces(label_zyx: npt.NDArray[np.uint8]) -> tuple[Faces, tuple[tuple[int, int], ...]]:
    """Faces between two tissues, by plane, axis and pair."""
    nz, nx = label_zyx.shape[0], label_zyx.shape[2]
    found = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == 2 - axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == 2 - axis else slice(None) for a in range(3))
        z, y, x = np.nonzero(label_zyx[low] != label_zyx[high])
        pair = label_zyx[low][z, y, x].astype(np.int64) * 256 + label_zyx[high][z, y, x]
        plane = z + 1 if axis == 2 else z
        found.append(np.stack([plane, np.full(len(z), axis), pair, y * pitch_of(nx) + x, y, x]))
    plane, axis_of, pair, place, y, x = np.concatenate(found, axis=1)
    codes, number = np.unique(pair, return_inverse=True)
    group = (plane * 3 + axis_of) * max(len(codes), 1) + number
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=-1)) if len(order) else order
    start = np.append(first, len(order))
    leads = order[first]
    unsigned = [
        np.ascontiguousarray(a, np.uint64)
        for a in (
            np.searchsorted(plane[leads], np.arange(nz + 1)),
            start,
            axis_of[leads],
            number[leads],
            place[order],
            ((y + 1) * _width_of(nx) + LEFT + x)[order],
        )
    ]
    pairs = tuple((int(c) // 256, int(c) % 256) for c in codes)
    return Faces(*unsigned), pairs
