"""Where heat has reached: the rows' active ranges in the compiled run of one member.

SI units, flat float32 arrays of one member (z, y, x); ``k`` and ``w`` are ``cpu_solver``'s Constants
and Arrays. Invariant: outside the active ranges heat flows nowhere faster than the threshold, and
what blood and metabolism did there is made up for when they become active, or at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gpu_kernels.cpu_kernels import CHUNK, COMPILED

_U0, _U1 = np.uint64(0), np.uint64(1)
_ZERO = np.float32(0.0)
_CHUNK = np.uint64(CHUNK)


@njit(**COMPILED)
def _edges(g: Any) -> Any:  # pragma: no cover - compiled
    """From where to where voxels may change: x, y, z. Along x whole rows: their ends, where held,
    are put back."""
    rim = _U1 if g.fixed else _U0
    return _U0, g.pitch, rim, g.ny - rim, rim, g.nz - rim


@njit(**COMPILED)
def activate_all(g: Any, active: Any) -> None:  # pragma: no cover - compiled
    x0, x1, y0, y1, z0, z1 = _edges(g)
    begin, end = active[0], active[1]
    for z in range(g.nz):
        for y in range(g.ny):
            inside = y0 <= y < y1 and z0 <= z < z1
            row = z * g.ny + y
            begin[row], end[row] = (x0, x1) if inside else (g.pitch, _U0)


@njit(**COMPILED)
def ring(g: Any, active: Any) -> None:  # pragma: no cover - compiled
    """Of which voxels the active ones need the heat potential: themselves and their neighbours."""
    begin, end, ring_begin, ring_end, plane_y = active
    for z in range(g.nz):
        plane_y[z, 0], plane_y[z, 1] = g.ny, _U0
        for y in range(g.ny):
            row = z * g.ny + y
            low, high = g.pitch, _U0
            if begin[row] < end[row]:
                low = begin[row] - _U1 if begin[row] > _U0 else _U0
                high = min(end[row] + _U1, g.pitch)
            for other in (
                row - g.ny if z > _U0 else row,
                row + g.ny if z + _U1 < g.nz else row,
                row - _U1 if y > _U0 else row,
                row + _U1 if y + _U1 < g.ny else row,
            ):
                if begin[other] < end[other]:
                    low, high = min(low, begin[other]), max(high, end[other])
            ring_begin[row], ring_end[row] = low, high
            if low < high:
                plane_y[z, 0], plane_y[z, 1] = min(plane_y[z, 0], y), y + _U1


@njit(**COMPILED)
def _relax(  # pragma: no cover - compiled
    pitch: Any, rows: Any, folds: Any, held: Any, row: Any, x0: Any, x1: Any, lasting_s: Any, h: Any,
    open_: Any,
) -> None:  # fmt: skip
    """What blood and metabolism did, while nothing else reached them, to voxels x0 to x1 of a row:
    exact for thawed tissue, whose source is linear."""
    first = _U0
    for run in range(rows.start[row], rows.start[row + _U1]):
        last, label = rows.end[run], rows.label[run]
        a, b = max(x0, first), min(x1, last)
        first = last
        latent, one, two, three = folds[label, 0], folds[label, 5], folds[label, 6], folds[label, 7]
        gain = one - two * latent
        if a >= b or held[label, 1] > held[label, 0] or (gain == _ZERO and three == _ZERO):
            continue
        keep = np.float32(np.exp(-lasting_s * latent * three))
        rest = gain / three if three > _ZERO else _ZERO
        for x in range(a, b):
            i = row * pitch + x
            above = h[i] - latent
            if above <= _ZERO or (open_.size > 0 and open_[i] == _ZERO):
                continue
            if three > _ZERO:
                h[i] += (rest - above) * (np.float32(1.0) - keep)
            else:
                h[i] += np.float32(lasting_s) * latent * gain


# The many constants are one argument, which is copied at each call: not in inner loops.
@njit(**COMPILED)
def _extend(  # pragma: no cover - compiled
    pitch: Any, rows: Any, folds: Any, held: Any, begin: Any, end: Any, row: Any, low: Any, high: Any,
    lasting_s: Any, h: Any, open_: Any,
) -> None:  # fmt: skip
    """Makes voxels low to high of a row active."""
    if begin[row] >= end[row]:
        _relax(pitch, rows, folds, held, row, low, high, lasting_s, h, open_)
        begin[row], end[row] = low, high
        return
    if low < begin[row]:
        _relax(pitch, rows, folds, held, row, low, begin[row], lasting_s, h, open_)
        begin[row] = low
    if high > end[row]:
        _relax(pitch, rows, folds, held, row, end[row], high, lasting_s, h, open_)
        end[row] = high


@njit(**COMPILED)
def grow(  # pragma: no cover - compiled
    k: Any, w: Any, workers: Any, h: Any, lasting_s: Any, reach_m: Any
) -> None:
    """Takes the active region ``reach_m`` beyond where heat flows."""
    g, begin, end = k.grid, w.active[0], w.active[1]
    x_low, x_high, y_low, y_high, z_low, z_high = _edges(g)
    mx = np.uint64(1.0 + reach_m * np.sqrt(g.per_square[0]))
    my = np.uint64(1.0 + reach_m * np.sqrt(g.per_square[1]))
    mz = np.uint64(1.0 + reach_m * np.sqrt(g.per_square[2]))
    grown = False
    for z in range(z_low, z_high):
        for y in range(y_low, y_high):
            row = z * g.ny + y
            a, b = w.reach_begin[row], w.reach_end[row]
            if a >= b or (a >= w.grown_begin[row] and b <= w.grown_end[row]):
                continue
            grown = True
            w.grown_begin[row] = min(a, w.grown_begin[row])
            w.grown_end[row] = max(b, w.grown_end[row])
            low = (a - mx) // _CHUNK * _CHUNK if a > x_low + mx else x_low
            high = min((b + mx + _CHUNK - _U1) // _CHUNK * _CHUNK, x_high)
            for z2 in range(z - mz if z > z_low + mz else z_low, min(z + mz + _U1, z_high)):
                for y2 in range(y - my if y > y_low + my else y_low, min(y + my + _U1, y_high)):
                    other = z2 * g.ny + y2
                    if low < begin[other] or high > end[other]:
                        _extend(g.pitch, k.rows, k.folds, k.held, begin, end, other, low, high,
                                lasting_s, h, w.open_)  # fmt: skip
    if grown:
        ring(g, w.active)
        share_out(g, w, workers)


@njit(**COMPILED)
def ice_outside(k: Any, w: Any, h: Any) -> Any:  # pragma: no cover - compiled
    """Whether anything is frozen where heat does not flow: there it would spread faster."""
    g = k.grid
    for row in range(g.nz * g.ny):
        x0 = _U0
        for run in range(k.rows.start[row], k.rows.start[row + _U1]):
            x1, label = min(k.rows.end[run], g.nx), k.rows.label[run]
            for x in range(x0, max(x0, x1)):
                active = w.active[0][row] <= x < w.active[1][row]
                if not active and h[row * g.pitch + x] < k.folds[label, 0]:
                    return True
            x0 = x1
    return False


@njit(**COMPILED)
def seed(k: Any, w: Any) -> None:  # pragma: no cover - compiled
    """Needles and bodies whose temperature changes reach where they are."""
    g, rows = k.grid, k.rows
    for row in range(g.nz * g.ny):
        x0 = _U0
        for run in range(rows.start[row], rows.start[row + _U1]):
            label = rows.label[run]
            if k.held[label, 1] - k.held[label, 0] > _U1:
                w.reach_begin[row] = min(w.reach_begin[row], x0)
                w.reach_end[row] = max(w.reach_end[row], rows.end[run])
            x0 = rows.end[run]
    for voxel in k.sinks.voxel:
        row, x = voxel // g.pitch, voxel % g.pitch
        w.reach_begin[row] = min(w.reach_begin[row], x)
        w.reach_end[row] = max(w.reach_end[row], x + _U1)


@njit(**COMPILED)
def share_out(g: Any, w: Any, workers: Any) -> None:  # pragma: no cover - compiled
    """Planes to workers, as many active voxels each."""
    begin, end = w.active[0], w.active[1]
    total = 0
    for row in range(g.nz * g.ny):
        if begin[row] < end[row]:
            total += int(end[row] - begin[row])
    done, worker = 0, 1
    w.planes[0] = _U0
    for z in range(g.nz):
        for row in range(z * g.ny, (z + _U1) * g.ny):
            if begin[row] < end[row]:
                done += int(end[row] - begin[row])
        while worker < workers and done * workers >= total * worker:
            w.planes[worker] = z + _U1
            worker += 1
    for other in range(worker, workers + 1):
        w.planes[other] = g.nz


@njit(**COMPILED)
def active_voxels(g: Any, active: Any) -> Any:  # pragma: no cover - compiled
    total = 0
    for row in range(g.nz * g.ny):
        if active[0][row] < active[1][row]:
            total += int(active[1][row] - active[0][row])
    return total


@njit(**COMPILED)
def settle(k: Any, w: Any, h: Any, lasting_s: Any) -> None:  # pragma: no cover - compiled
    """The voxels that heat never reached, at the end."""
    x0, x1, y0, y1, z0, z1 = _edges(k.grid)
    for z in range(z0, z1):
        for y in range(y0, y1):
            _extend(k.grid.pitch, k.rows, k.folds, k.held, w.active[0], w.active[1],
                    z * k.grid.ny + y, x0, x1, lasting_s, h, w.open_)  # fmt: skip
