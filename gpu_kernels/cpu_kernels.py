"""The compiled loops of the CPU engine. SI units, °C, flat float32 arrays of one member (z, y, x).

The tissue law is ``law``'s own functions, compiled. One pass a stage: a worker owns a range of
planes, turns the next plane's enthalpy into heat potential and source in its own scratch, takes the
six differences and combines. Rows know from where to where heat has reached them, and labels come as
runs along them, since a loop over one tissue vectorises and a look-up per voxel does not; faces
between two tissues are put right from lists.

Indices are unsigned: numba lets a signed one count from the end, and then no loop vectorises. A row
of a table is never taken as an array: each one is counted by reference, atomically.
Invariant: a stage reads one array and writes another, and no worker writes where another does.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numba.extending import overload

from gpu_kernels import law


def cache_folder() -> Path:
    """Compiled kernels are kept per version of their sources: numba watches only the file that a
    kernel stands in, and would run yesterday's law. Where the home cannot be written, they are
    compiled again at every start."""
    sources = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "iceball-monitor" / hashlib.sha256(sources).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="iceball-monitor-"))
    return folder


numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

# No "nnan" or "ninf": a field that is no longer finite has to stay visible.
COMPILED: dict[str, Any] = {
    "fastmath": {"contract", "arcp", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    # No reference counts: they are atomic, and two workers on one array would pass its cache line
    # to and fro at each call. Hence nothing here may make an array.
    "_nrt": False,
}
_INLINE: dict[str, Any] = {"inline": "always", "error_model": "numpy"}


@overload(law.least)
def _least(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return lambda a, b: a if a < b else b


@overload(law.most)
def _most(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return lambda a, b: a if a > b else b


least, most = law.least, law.most
_temperature = njit(**_INLINE)(law.temperature_degc)
_fraction = njit(**_INLINE)(law.frozen_fraction)
_conductivity = njit(**_INLINE)(law.conductivity)
_face = njit(**_INLINE)(law.face_conductivity)
_potential = njit(**_INLINE)(law.folded_potential)
_source = njit(**_INLINE)(law.folded_source)
_share_below = njit(**_INLINE)(law.share_below)

_U0, _U1, _U2, _U3 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_LANES = np.uint64(16)  # runs are worked off in chunks of this; arrays end with as much slack
SLACK = 16
CHUNK = 8  # rows are active by whole chunks, so that no loop ends with voxels one by one
LEFT = 16
_CHUNK, _LEFT = np.uint64(CHUNK), np.uint64(LEFT)
_ZERO, _HALF = np.float32(0.0), np.float32(0.5)


class Grid(NamedTuple):
    """Sizes (uint64), 1/spacing² along x, y, z (1/m², float32), whether the outermost layer is
    held. Rows are padded to ``pitch`` voxels, whole chunks; ``width`` is a scratch row's, which has
    its first voxel at ``LEFT`` and room for a ghost on either side."""

    nz: Any
    ny: Any
    nx: Any
    pitch: Any
    width: Any
    per_square: Any
    fixed: Any


class Rows(NamedTuple):
    """Runs of one tissue along the rows (z·y): ``start`` (rows + 1,), ``end`` (x where it ends),
    ``label``; ``holds`` (rows,) where a body of given temperature crosses."""

    start: Any
    end: Any
    label: Any
    holds: Any


class Faces(NamedTuple):
    """Faces between two tissues in groups of equal plane, axis and tissues: ``plane_start``
    (planes + 1,) delimits the groups of a plane (a z-face belongs to its upper voxel's); per group
    ``start``, ``axis``, ``pair``; per face ``place`` (of its lower voxel in the plane it lies in) and
    ``scratch``, the same in a scratch plane. ``table`` (pair, 2, 7): solidus, width, latent,
    per_cf, per_cu, k_frozen, k_unfrozen of either side, per axis (axis·pairs + pair)."""

    plane_start: Any
    start: Any
    axis: Any
    pair: Any
    place: Any
    scratch: Any


class Sinks(NamedTuple):
    """The needles of one member: pieces and the voxels they touch, both ways (see ``needles``)."""

    start: Any
    place: Any
    weight: Any
    voxel: Any
    label: Any
    voxel_start: Any
    voxel_piece: Any
    voxel_weight: Any
    free: Any


# ------------------------------------------------------------------ one plane


@njit(**COMPILED)
def thermal_plane(  # pragma: no cover - compiled
    g: Any, rows: Any, folds: Any, z: Any, h: Any, begin: Any, end: Any, open_: Any,
    q: Any, s: Any, base: Any,
) -> None:  # fmt: skip
    """Heat potential and source of plane ``z`` into the scratch plane at ``base``, between
    ``begin`` and ``end`` of every row. ``open_`` (voxels or none) is 0 where blood is still off."""
    for y in range(g.ny):
        row = z * g.ny + y
        first, last = begin[row], end[row]
        if first >= last:
            continue
        k0, j0 = row * g.pitch, base + (y + _U1) * g.width + _LEFT
        x0 = _U0
        for run in range(rows.start[row], rows.start[row + _U1]):
            x1 = rows.end[run]
            a, b = max(x0, first), min(x1, last)
            x0 = x1
            if a >= b:
                continue
            t = rows.label[run]
            latent, frozen, linear = folds[t, 0], folds[t, 1], folds[t, 2]
            square, unfrozen = folds[t, 3], folds[t, 4]
            one, two, three = folds[t, 5], folds[t, 6], folds[t, 7]
            k1, j1 = k0 + a, j0 + a
            # Whole chunks: what is too much, the next run or row writes over.
            for i in range((b - a + _LANES - _U1) // _LANES * _LANES):
                v = h[k1 + i]
                x, above = most(least(v, latent), _ZERO), most(v - latent, _ZERO)
                q[j1 + i] = _potential(least(v, _ZERO), x, above, frozen, linear, square, unfrozen)
                s[j1 + i] = _source(x, above, one, two, three)
        if open_.size > 0:
            for x in range(first, last):
                s[j0 + x] *= open_[k0 + x]


@njit(**COMPILED)
def _ghosts(g: Any, q: Any, base: Any) -> None:  # pragma: no cover - compiled
    """Nothing flows through the outer faces: the ghosts repeat the outermost voxels."""
    for y in range(g.ny):
        j = base + (y + _U1) * g.width + _LEFT
        q[j - _U1] = q[j]
        q[j + g.nx] = q[j + g.nx - _U1]
    low, high = base, base + (g.ny + _U1) * g.width
    for x in range(g.width):
        q[low + x] = q[low + g.width + x]
        q[high + x] = q[high - g.width + x]


@njit(**_INLINE)
def _side(sides: Any, a: Any, p: Any, i: Any) -> Any:  # pragma: no cover - compiled
    return (
        sides[a, p, i, 0], sides[a, p, i, 1], sides[a, p, i, 2], sides[a, p, i, 3],
        sides[a, p, i, 4], sides[a, p, i, 5], sides[a, p, i, 6],
    )  # fmt: skip


@njit(**COMPILED)
def mixed_faces(  # pragma: no cover - compiled
    g: Any, faces: Any, sides: Any, z: Any, h: Any, q: Any, s: Any, base: Any, below: Any,
    upwards: Any, first_y: Any, last_y: Any, flux: Any,
) -> None:  # fmt: skip
    """Puts the fluxes between two tissues right in the source of plane ``z`` (at ``base``) and, for
    z-faces, of the plane below it: through two half-voxels in series, not ∇q."""
    if first_y >= last_y:
        return
    plane = g.ny * g.pitch
    for group in range(faces.plane_start[z], faces.plane_start[z + _U1]):
        axis = faces.axis[group]
        if axis == 2 and not upwards:
            continue
        pair = faces.pair[group]
        step = _U1 if axis == 0 else (g.pitch if axis == 1 else plane)
        scratch_step = _U1 if axis == 0 else (g.width if axis == 1 else _U0)
        here = z * plane if axis < 2 else (z - _U1) * plane
        lower, upper = (base if axis < 2 else below), base + scratch_step
        begin = _from(faces.place, faces.start[group], faces.start[group + 1], first_y * g.pitch)
        end = _from(faces.place, faces.start[group], faces.start[group + 1], last_y * g.pitch)
        per_square = g.per_square[axis]
        s0, w0, l0, f0, u0, kf0, ku0 = _side(sides, axis, pair, 0)
        s1, w1, l1, f1, u1, kf1, ku1 = _side(sides, axis, pair, 1)
        for i in range(end - begin):
            k, j = here + faces.place[begin + i], faces.scratch[begin + i]
            h0, h1 = h[k], h[k + step]
            k0 = _conductivity(_fraction(h0, l0), kf0, ku0)
            k1 = _conductivity(_fraction(h1, l1), kf1, ku1)
            t0 = _temperature(h0, s0, w0, l0, f0, u0)
            t1 = _temperature(h1, s1, w1, l1, f1, u1)
            flux[i] = per_square * (_face(k0, k1) * (t1 - t0) - (q[upper + j] - q[lower + j]))
        for i in range(end - begin):
            j = faces.scratch[begin + i]
            s[lower + j] += flux[i]
            s[upper + j] -= flux[i]


@njit(**COMPILED)
def _from(ascending: Any, low: Any, high: Any, value: Any) -> Any:  # pragma: no cover - compiled
    """Where ``value`` would stand in a part of an ascending list."""
    while low < high:
        middle = (low + high) // _U2
        if ascending[middle] < value:
            low = middle + _U1
        else:
            high = middle
    return low


@njit(**_INLINE)
def _gain(  # pragma: no cover - compiled
    q: Any, s: Any, j: Any, down: Any, up: Any, width: Any, cx: Any, cy: Any, cz: Any
) -> Any:
    """∂H/∂t of the voxel at ``j``. As differences: tissue at rest then stays so to the last bit."""
    here = q[j]
    return (
        s[j]
        + cx * ((q[j - _U1] - here) + (q[j + _U1] - here))
        + cy * ((q[j - width] - here) + (q[j + width] - here))
        + cz * ((q[down] - here) + (q[up] - here))
    )


@njit(**COMPILED)
def rate_plane(  # pragma: no cover - compiled
    g: Any, z: Any, begin: Any, end: Any, q: Any, s: Any, base: Any, down: Any, up: Any, rate: Any
) -> None:
    """∂H/∂t of plane ``z``."""
    cx, cy, cz = g.per_square[0], g.per_square[1], g.per_square[2]
    for y in range(g.ny):
        row = z * g.ny + y
        first, last = begin[row], end[row]
        if first >= last:
            continue
        k0, at = row * g.pitch + first, (y + _U1) * g.width + _LEFT + first
        for i in range(last - first):
            j = at + i
            rate[k0 + i] = _gain(q, s, base + j, down + j, up + j, g.width, cx, cy, cz)
        if g.fixed:
            edge = row * g.pitch
            rate[edge], rate[edge + g.nx - _U1] = _ZERO, _ZERO


@njit(**COMPILED)
def stage_plane(  # pragma: no cover - compiled
    g: Any, z: Any, begin: Any, end: Any, q: Any, s: Any, base: Any, down: Any, up: Any,
    h: Any, out: Any, h0: Any, rate0: Any, c: Any,
) -> None:  # fmt: skip
    """One stage of plane ``z``: ``out`` holds the stage before ``h`` and receives the next. Written
    as changes from ``h0``: in float32 the coefficients do not quite sum to 1."""
    cx, cy, cz = g.per_square[0], g.per_square[1], g.per_square[2]
    mu, nu, now, rest = c[0], c[1], c[2], c[3]
    for y in range(g.ny):
        row = z * g.ny + y
        first, last = begin[row], end[row]
        if first >= last:
            continue
        k0, at = row * g.pitch + first, (y + _U1) * g.width + _LEFT + first
        for i in range(last - first):
            j, k = at + i, k0 + i
            rate = _gain(q, s, base + j, down + j, up + j, g.width, cx, cy, cz)
            start = h0[k]
            change = mu * (h[k] - start) + nu * (out[k] - start)
            out[k] = start + (change + now * rate + rest * rate0[k])
        if g.fixed:
            edge = row * g.pitch
            out[edge], out[edge + g.nx - _U1] = h0[edge], h0[edge + g.nx - _U1]


@njit(**COMPILED)
def hold_plane(  # pragma: no cover - compiled
    g: Any, rows: Any, z: Any, held: Any, out: Any, zero: Any
) -> None:
    """Bodies of given temperature: ``held`` (tissue,) their enthalpy, NaN for tissue; or 0 into a
    rate."""
    for y in range(g.ny):
        row = z * g.ny + y
        if not rows.holds[row]:
            continue
        x0 = _U0
        for run in range(rows.start[row], rows.start[row + _U1]):
            x1 = rows.end[run]
            value = held[rows.label[run]]
            if not np.isnan(value):
                for x in range(x0, x1):
                    out[row * g.pitch + x] = _ZERO if zero else value
            x0 = x1


# ------------------------------------------------------------------ a range of planes


@njit(**COMPILED)
def sweep(  # pragma: no cover - compiled
    g: Any, rows: Any, folds: Any, faces: Any, sides: Any, active: Any, first: Any, last: Any,
    h: Any, out: Any, h0: Any, rate0: Any, c: Any, held: Any, open_: Any, scratch: Any,
) -> None:  # fmt: skip
    """Planes ``first`` to ``last``: a stage, or with ``c`` empty ∂H/∂t into ``out``. Scratch planes
    take turns: below, here and above."""
    begin, end, ring_begin, ring_end, plane_y = active
    q, s, flux = scratch
    size = (g.ny + _U2) * g.width + _LANES
    lowest = first - _U1 if first > _U0 else first
    for z in range(lowest, last + _U1):
        base, below = (z % _U3) * size, ((z + _U2) % _U3) * size
        if z < g.nz:
            thermal_plane(g, rows, folds, z, h, ring_begin, ring_end, open_, q, s, base)
            mixed_faces(g, faces, sides, z, h, q, s, base, below, z > lowest, plane_y[z, 0],
                        plane_y[z, 1], flux)  # fmt: skip
            if not g.fixed:
                _ghosts(g, q, base)
        if z > first:
            # Nothing flows through the lowest and the highest face.
            down = ((z + _U1) % _U3) * size if z > _U1 else below
            up = base if z < g.nz else below
            _finish(g, rows, z - _U1, begin, end, q, s, below, down, up, h, out, h0, rate0, c, held)


@njit(**COMPILED)
def _finish(  # pragma: no cover - compiled
    g: Any, rows: Any, z: Any, begin: Any, end: Any, q: Any, s: Any, base: Any, down: Any, up: Any,
    h: Any, out: Any, h0: Any, rate0: Any, c: Any, held: Any,
) -> None:  # fmt: skip
    if c.size == 0:
        rate_plane(g, z, begin, end, q, s, base, down, up, out)
    else:
        stage_plane(g, z, begin, end, q, s, base, down, up, h, out, h0, rate0, c)
    hold_plane(g, rows, z, held, out, c.size == 0)


@njit(**COMPILED)
def first_stage(  # pragma: no cover - compiled
    g: Any, rows: Any, active: Any, z0: Any, z1: Any, h0: Any, rate0: Any, factor: Any, a: Any,
    b: Any, held: Any,
) -> None:  # fmt: skip
    """``a`` ← h0 + factor·rate0, ``b`` ← h0."""
    begin, end = active[0], active[1]
    for z in range(z0, z1):
        for y in range(g.ny):
            row = z * g.ny + y
            if begin[row] >= end[row]:
                continue
            k0 = row * g.pitch + begin[row]
            for i in range(end[row] - begin[row]):
                start = h0[k0 + i]
                a[k0 + i] = start + factor * rate0[k0 + i]
                b[k0 + i] = start
        hold_plane(g, rows, z, held, a, False)


# ------------------------------------------------------------------ needles


@njit(**COMPILED)
def touched_potential(  # pragma: no cover - compiled
    sinks: Any, folds: Any, h: Any, first: Any, last: Any, q: Any
) -> None:
    """The heat potential of the voxels that needles touch, from ``first`` to ``last`` of them."""
    for i in range(first, last):
        t, v = sinks.label[i], h[sinks.voxel[i]]
        latent = folds[t, 0]
        x, above = most(least(v, latent), _ZERO), most(v - latent, _ZERO)
        q[i] = _potential(
            least(v, _ZERO), x, above, folds[t, 1], folds[t, 2], folds[t, 3], folds[t, 4]
        )


@njit(**(COMPILED | {"fastmath": COMPILED["fastmath"] | {"reassoc"}}))
def seen_potential(  # pragma: no cover - compiled
    sinks: Any, q: Any, first: Any, last: Any, seen: Any
) -> None:
    """What each piece sees through its kernel."""
    for piece in range(first, last):
        total = _ZERO
        begin = sinks.start[piece]
        for i in range(sinks.start[piece + _U1] - begin):
            total += sinks.weight[begin + i] * q[sinks.place[begin + i]]
        seen[piece] = total


@njit(**COMPILED)
def draw(  # pragma: no cover - compiled
    sinks: Any, heat: Any, first: Any, last: Any, scale: Any, out: Any
) -> None:
    """out −= scale · the pieces' heat (W/m³ at weight 1)."""
    for i in range(first, last):
        drawn = _ZERO
        for entry in range(sinks.voxel_start[i], sinks.voxel_start[i + _U1]):
            drawn += sinks.voxel_weight[entry] * heat[sinks.voxel_piece[entry]]
        out[sinks.voxel[i]] -= scale * sinks.free[i] * drawn


# ------------------------------------------------------------------ how far, and what is left behind


@njit(**_INLINE)
def _flow(  # pragma: no cover - compiled
    h: Any, rate: Any, latent: Any, one: Any, two: Any, three: Any
) -> Any:
    """|∂H/∂t| without what blood and metabolism bring to thawed tissue."""
    source = _source(latent, most(h - latent, _ZERO), one, two, three)
    return abs(rate - (source if h > latent else _ZERO))


@njit(**COMPILED)
def survey(  # pragma: no cover - compiled
    g: Any, rows: Any, folds: Any, active: Any, z0: Any, z1: Any, h: Any, rate: Any,
    per_latent: Any, per_c: Any, still_degc_s: Any, reach_begin: Any, reach_end: Any,
) -> Any:  # fmt: skip
    """The largest |∂H/∂t| per latent heat, 1/s. Into ``reach``: between which x of each row heat
    flows (other than from blood and metabolism) by more than ``still_degc_s``, in chunks."""
    begin, end = active[0], active[1]
    fastest = _ZERO
    for row in range(z0 * g.ny, z1 * g.ny):
        reach_begin[row], reach_end[row] = g.nx, _U0
        x0, first, last = _U0, begin[row], min(end[row], g.nx)
        if first >= last:
            continue
        for run in range(rows.start[row], rows.start[row + _U1]):
            x1, label = rows.end[run], rows.label[run]
            a, b = max(x0, first), min(x1, last)
            x0 = x1
            if a >= b:
                continue
            latent, one = folds[label, 0], folds[label, 5]
            two, three = folds[label, 6], folds[label, 7]
            top, limit = _ZERO, still_degc_s / per_c[label]
            for c in range((b - a) // _CHUNK):
                k = row * g.pitch + a + c * _CHUNK
                here, flows = _ZERO, _ZERO
                for i in range(_CHUNK):
                    r, flow = rate[k + i], _flow(h[k + i], rate[k + i], latent, one, two, three)
                    here, flows = most(here, abs(r)), most(flows, flow)
                top = most(top, here)
                if flows > limit:
                    reach_begin[row] = min(reach_begin[row], a + c * _CHUNK)
                    reach_end[row] = max(reach_end[row], a + (c + _U1) * _CHUNK)
            for x in range(b - (b - a) % _CHUNK, b):
                k = row * g.pitch + x
                top = most(top, abs(rate[k]))
                if _flow(h[k], rate[k], latent, one, two, three) > limit:
                    reach_begin[row], reach_end[row] = min(reach_begin[row], x), x + _U1
            fastest = most(fastest, top * per_latent[label])
    return fastest


@njit(**COMPILED)
def remember(  # pragma: no cover - compiled
    g: Any, rows: Any, curves: Any, active: Any, z0: Any, z1: Any, before: Any, after: Any,
    time_s: Any, step_s: Any, stasis_s: Any, back_s: Any, past: Any,
) -> None:  # fmt: skip
    """What a step that ended at ``time_s`` did: stasis (``back_s`` or empty) and history."""
    begin, end = active[0], active[1]
    lowest, below_20, below_40, cycles = past
    back, step, back_from = back_s.size > 0, np.float32(step_s), np.float32(time_s + stasis_s)
    for row in range(z0 * g.ny, z1 * g.ny):
        x0 = _U0
        if begin[row] >= end[row]:
            continue
        for run in range(rows.start[row], rows.start[row + _U1]):
            x1 = rows.end[run]
            a, b = max(x0, begin[row]), min(x1, min(end[row], g.nx))
            x0 = x1
            t = rows.label[run]
            solidus, width, latent = curves[t, 0], curves[t, 1], curves[t, 2]
            per_cf, per_cu, half = curves[t, 3], curves[t, 4], _HALF * curves[t, 2]
            for x in range(a, max(a, b)):
                k, i = row * g.nx + x, row * g.pitch + x
                h0, h1 = before[i], after[i]
                if h1 > latent and h0 > latent:
                    if lowest.size > 0:
                        t1 = solidus + width + (h1 - latent) * per_cu
                        lowest[k] = least(lowest[k], t1)
                    continue
                if back and h1 <= half:
                    back_s[k] = back_from
                if lowest.size > 0:
                    t0 = _temperature(h0, solidus, width, latent, per_cf, per_cu)
                    t1 = _temperature(h1, solidus, width, latent, per_cf, per_cu)
                    lowest[k] = least(lowest[k], t1)
                    below_20[k] += step * _share_below(np.float32(-20.0), t0, t1)
                    below_40[k] += step * _share_below(np.float32(-40.0), t0, t1)
                    if h1 <= half and h0 > half:
                        cycles[k] += np.uint8(1)
