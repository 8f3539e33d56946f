"""The compiled run of one ensemble member: steps, stages, needles, held bodies.

Several workers run ``advance`` on the same arrays, each on its own planes, and meet at barriers;
worker 0 decides. SI units, °C, flat float32 arrays. Invariant: where a worker goes next depends only
on what stood in shared memory before the last barrier.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from gpu_kernels import law, needles, stepping
from gpu_kernels.cpu_kernels import (
    COMPILED,
    Faces,
    Grid,
    Rows,
    Sinks,
    draw,
    first_stage,
    remember,
    seen_potential,
    survey,
    sweep,
    touched_potential,
)
from gpu_kernels.cpu_reach import (
    activate_all,
    active_voxels,
    grow,
    ice_outside,
    ring,
    seed,
    settle,
    share_out,
)

_ALLOCATES: dict[str, Any] = COMPILED | {"_nrt": True}
_U0, _U1 = np.uint64(0), np.uint64(1)
_ZERO = np.float32(0.0)
_SPINS = 2000


@overload(law.heat_potential, strict=False)
def _heat_potential(t, solidus, width, k_frozen, k_unfrozen):  # type: ignore[no-untyped-def]  # pragma: no cover
    return law.heat_potential


_theta = njit(inline="always", error_model="numpy")(law.heat_potential)
_enthalpy = njit(inline="always", error_model="numpy")(law.enthalpy)
_step_s = njit(error_model="numpy")(stepping.step_s)
_next_change = njit(error_model="numpy")(stepping.next_change)
_reach_m = njit(error_model="numpy")(stepping.reach_m)
_surface_of_cryogen = njit(error_model="numpy")(needles.surface_of_cryogen_degc)
_yield = types.ExternalFunction("sched_yield", types.intc())


class Constants(NamedTuple):
    """What a member's run is given. ``curves`` (tissue, 7): solidus, width, latent, per_cf, per_cu,
    k_frozen, k_unfrozen; ``folds`` and ``sides`` as in ``cpu_kernels``; ``rates`` (tissue, 2): per
    latent heat and 1/ρc of warm tissue. ``tables`` (t, v) hold every table of time, of which ``held``,
    ``drives`` and ``duties`` (…, 2) take a range each; ``kind`` is the needle's. Per piece: ``needle``,
    ``shape``, ``strength`` (metres/cell volume), ``contact``, ``share`` of tissues. ``stages`` is
    (scheme, stage, 5), ``firsts`` and ``reach`` (scheme,): see ``law.Stages``."""

    grid: Grid
    rows: Rows
    faces: Faces
    sinks: Sinks
    curves: Any
    folds: Any
    sides: Any
    rates: Any
    table_s: Any
    table_value: Any
    held: Any
    drives: Any
    duties: Any
    kind: Any
    needle: Any
    shape: Any
    strength: Any
    contact: Any
    share: Any
    breakpoints_s: Any
    euler_s: Any
    stages: Any
    firsts: Any
    reach: Any
    stasis_s: Any
    still_degc: Any
    most_latent: Any
    diffusivity: Any


class Arrays(NamedTuple):
    """What a run's workers share beside the field: stasis and history (empty where not wanted), where
    heat has reached (rows), what the needles' voxels and pieces show, and the workers' board:
    ``planes`` (workers + 1,), ``numbers`` (float64), ``gates``."""

    back_s: Any
    open_: Any
    past: Any
    active: Any
    reach_begin: Any
    reach_end: Any
    grown_begin: Any
    grown_end: Any
    touched: Any
    seen: Any
    heat: Any
    planes: Any
    numbers: Any
    gates: Any


# The field and its buffers: (h, a, b, rate).
Field = tuple[Any, Any, Any, Any]


# ------------------------------------------------------------------ meeting


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]])  # type: ignore[no-untyped-call]


@intrinsic
def _store(typing_context, array, index, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature, args)
        builder.store_atomic(args[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(array, index, types.int64), codegen


@intrinsic
def _load(typing_context, array, index):  # type: ignore[no-untyped-def]  # pragma: no cover
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature, args)
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, index), codegen


@njit(**COMPILED)
def _meet(worker: Any, workers: Any, gates: Any) -> None:  # pragma: no cover - compiled
    """Nobody goes on before everybody is here. A gate is a cache line (8 int64) per worker."""
    if workers == 1:
        return
    mine = gates[worker * 8] + 1
    _store(gates, worker * 8, mine)  # type: ignore[call-arg]
    for other in range(workers):
        spins = 0
        while _load(gates, other * 8) < mine:
            spins += 1
            if spins > _SPINS:
                _yield()


# ------------------------------------------------------------------ needles and held bodies


@njit(**COMPILED)
def _at(  # pragma: no cover - compiled
    table_s: Any, table_value: Any, entries: Any, time_s: Any, before: Any
) -> Any:
    """A table at a time, as ``law.interpolate``."""
    first, last = entries[0], entries[1]
    if time_s < table_s[first]:
        return before
    for i in range(first, last - _U1):
        t0, t1 = table_s[i], table_s[i + _U1]
        if t0 <= time_s < t1:
            v0, v1 = table_value[i], table_value[i + _U1]
            if np.isnan(v0) or np.isnan(v1):
                return v0
            return v0 + (v1 - v0) * ((time_s - t0) / (t1 - t0))
    return table_value[last - _U1]


@njit(**COMPILED)
def _held_at(k: Constants, time_s: Any, held: Any) -> None:  # pragma: no cover - compiled
    """The enthalpy of held tissues, NaN for the others."""
    for label in range(len(held)):
        held[label] = np.nan
        entries = k.held[label]
        if entries[1] > entries[0]:
            p = k.curves[label]
            degc = _at(k.table_s, k.table_value, entries, time_s, k.table_value[entries[0]])
            held[label] = _enthalpy(degc, p[0], p[1], p[2], p[3], p[4])


@njit(**COMPILED)
def _heats(  # pragma: no cover - compiled
    k: Constants, w: Arrays, time_s: Any, first: Any, last: Any
) -> None:
    """The heat that pieces ``first`` to ``last`` draw, W/m³ at weight 1, from what they see."""
    seen_potential(k.sinks, w.touched, first, last, w.seen)
    for piece in range(first, last):
        w.heat[piece] = _ZERO
        needle = k.needle[piece]
        value = _at(k.table_s, k.table_value, k.drives[needle], time_s, np.nan)
        entries = k.duties[needle]
        effort = _at(k.table_s, k.table_value, entries, time_s, k.table_value[entries[0]])
        if np.isnan(value) or effort == 0.0:
            continue
        kind, shape, seen = k.kind[needle], k.shape[piece], np.float64(w.seen[piece])
        if kind == needles.COOLING:
            drawn = effort * value
        elif kind == needles.CRYOGEN:
            contact = effort * k.contact[piece]
            degc = _surface_of_cryogen(seen, value, contact, shape, k.share[piece])
            drawn = contact * (degc - value)
        else:
            theta = 0.0
            for label in range(len(k.curves)):
                p = k.share[piece, label]
                theta += p[0] * _theta(value, p[1], p[2], p[3], p[4])
            drawn = effort * shape * (seen - theta)
        w.heat[piece] = np.float32(drawn * k.strength[piece])


@njit(**COMPILED)
def _part(count: Any, worker: Any, workers: Any) -> Any:  # pragma: no cover - compiled
    return np.uint64(count * worker // workers), np.uint64(count * (worker + 1) // workers)


@njit(**COMPILED)
def _touched_of(k: Constants, w: Arrays, worker: Any) -> Any:  # pragma: no cover - compiled
    """Which of the touched voxels lie in a worker's planes."""
    plane = k.grid.ny * k.grid.pitch
    low = np.searchsorted(k.sinks.voxel, w.planes[worker] * plane)
    high = np.searchsorted(k.sinks.voxel, w.planes[worker + 1] * plane)
    return np.uint64(low), np.uint64(high)


# ------------------------------------------------------------------ the run


@njit(**COMPILED)
def _decide(  # pragma: no cover - compiled
    k: Constants, w: Arrays, workers: Any, time_s: Any, until_s: Any
) -> None:
    """Worker 0: how far to step, with which scheme."""
    fastest = 0.0
    for worker in range(workers):
        fastest = max(fastest, w.numbers[2 + worker])
    end_s, since = _next_change(k.breakpoints_s, time_s, until_s)
    longest_s = k.reach[-1] * k.euler_s
    w.numbers[0] = _step_s(time_s, end_s, since, fastest, k.euler_s, longest_s, k.most_latent)
    scheme = 0
    while scheme + 1 < len(k.reach) and k.reach[scheme] * k.euler_s < w.numbers[0]:
        scheme += 1
    w.numbers[1] = scheme


@njit(**_ALLOCATES)
def _rate(  # pragma: no cover - compiled
    k: Constants, w: Arrays, f: Field, worker: Any, workers: Any, time_s: Any, held: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """∂H/∂t of the field into ``rate``; the worker's survey of it onto the board."""
    h, rate = f[0], f[3]
    z0, z1 = w.planes[worker], w.planes[worker + 1]
    pieces, none = len(k.needle), np.empty(0, np.float32)
    t0, t1 = _touched_of(k, w, worker)
    if pieces:
        touched_potential(k.sinks, k.folds, h, t0, t1, w.touched)
        _meet(worker, workers, w.gates)
        p0, p1 = _part(pieces, worker, workers)
        _heats(k, w, time_s, p0, p1)
    if z0 < z1:
        sweep(k.grid, k.rows, k.folds, k.faces, k.sides, w.active, z0, z1, h, rate, h, h,
              none, held, w.open_, scratch)  # fmt: skip
    if pieces:
        _meet(worker, workers, w.gates)
        draw(k.sinks, w.heat, t0, t1, np.float32(1.0), rate)
    still = np.float32(k.still_degc / max(w.numbers[0], 1.0))
    w.numbers[2 + worker] = survey(
        k.grid, k.rows, k.folds, w.active, z0, z1, h, rate, k.rates[:, 0], k.rates[:, 1], still,
        w.reach_begin, w.reach_end,
    )  # fmt: skip


@njit(**_ALLOCATES)
def _stages(  # pragma: no cover - compiled
    k: Constants, w: Arrays, f: Field, worker: Any, workers: Any, time_s: Any, held: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """The stages of a step, from ``f[0]``. Their number after the first is even, so that the new
    field stands in ``f[1]``."""
    tau, scheme = w.numbers[0], int(w.numbers[1])
    z0, z1 = w.planes[worker], w.planes[worker + 1]
    pieces, c = len(k.needle), np.empty(4, np.float32)
    t0, t1 = _touched_of(k, w, worker)
    p0, p1 = _part(pieces, worker, workers)
    _held_at(k, time_s + k.stages[scheme, 0, 4] * tau, held)
    h0, a, b, rate0 = f
    first_stage(k.grid, k.rows, w.active, z0, z1, h0, rate0, np.float32(k.firsts[scheme] * tau), a,
                b, held)  # fmt: skip
    count = 2 * scheme + 2
    for stage in range(count):
        if pieces:
            touched_potential(k.sinks, k.folds, a, t0, t1, w.touched)
        _meet(worker, workers, w.gates)
        row = k.stages[scheme, stage]
        c[0], c[1], c[2], c[3] = row[0], row[1], row[2] * tau, row[3] * tau
        after = k.stages[scheme, stage + 1, 4] if stage + 1 < count else 1.0
        _held_at(k, time_s + after * tau, held)
        if pieces:
            _heats(k, w, time_s + row[4] * tau, p0, p1)
        if z0 < z1:
            sweep(k.grid, k.rows, k.folds, k.faces, k.sides, w.active, z0, z1, a, b, h0, rate0, c,
                  held, w.open_, scratch)  # fmt: skip
        if pieces:
            _meet(worker, workers, w.gates)
            draw(k.sinks, w.heat, t0, t1, c[2], b)
        a, b = b, a
    _meet(worker, workers, w.gates)


@njit(**COMPILED)
def _open(  # pragma: no cover - compiled
    g: Any, active: Any, z0: Any, z1: Any, time_s: Any, back_s: Any, open_: Any
) -> None:
    """1 where blood flows, 0 where it is still off."""
    for row in range(z0 * g.ny, z1 * g.ny):
        for x in range(active[2][row], active[3][row]):
            k = row * g.pitch + x
            back = x >= g.nx or time_s >= back_s[row * g.nx + x]
            open_[k] = np.float32(1.0) if back else _ZERO


@njit(**COMPILED)
def _note(  # pragma: no cover - compiled
    k: Constants, w: Arrays, f: Field, worker: Any, workers: Any, time_s: Any, tau: Any
) -> None:
    """Stasis and history after a step that ended at ``time_s``."""
    z0, z1 = w.planes[worker], w.planes[worker + 1]
    if w.back_s.size > 0 or w.past[0].size > 0:
        remember(k.grid, k.rows, k.curves, w.active, z0, z1, f[0], f[1], time_s, tau, k.stasis_s,
                 w.back_s, w.past)  # fmt: skip
    if w.back_s.size > 0:
        _meet(worker, workers, w.gates)
        _open(k.grid, w.active, z0, z1, time_s, w.back_s, w.open_)


@njit(cache=True, **_ALLOCATES)
def advance(  # pragma: no cover - compiled
    k: Constants, w: Arrays, field: Field, worker: Any, workers: Any, from_s: Any, until_s: Any,
    whole: Any, scratch: Any,
) -> Any:  # fmt: skip
    """One worker's part of a member's run on ``field`` (the field, two buffers, its rate). ``whole``
    keeps every voxel active. Returns (steps, stages, voxel updates); after an odd number of steps
    the field stands in ``field[1]``."""
    g, f = k.grid, field
    held = np.empty(len(k.curves), np.float32)
    time_s, steps, stages, updates = from_s, 0, 0, 0
    diffusivity = k.diffusivity[0]
    if worker == 0:
        activate_all(g, w.active)
        w.grown_begin[:], w.grown_end[:] = (_U0, g.pitch) if whole else (g.pitch, _U0)
        ring(g, w.active)
        share_out(g, w, workers)
    _meet(worker, workers, w.gates)
    if w.back_s.size > 0:
        _open(g, w.active, w.planes[worker], w.planes[worker + 1], time_s, w.back_s, w.open_)
        _meet(worker, workers, w.gates)
    while until_s - time_s > stepping.SAME_S:
        _held_at(k, time_s, held)
        _rate(k, w, f, worker, workers, time_s, held, scratch)
        _meet(worker, workers, w.gates)
        if worker == 0:
            _decide(k, w, workers, time_s, until_s)
            if steps == 0 and not whole:
                w.active[0][:], w.active[1][:] = g.pitch, _U0
                seed(k, w)
                reach = _reach_m(w.numbers[0], k.diffusivity[0], True)
                grow(k, w, workers, f[0], 0.0, reach)
                if ice_outside(k, w, f[0]):
                    diffusivity = k.diffusivity[1]
                    reach = _reach_m(w.numbers[0], diffusivity, True)
                    w.grown_begin[:], w.grown_end[:] = g.pitch, _U0
                    grow(k, w, workers, f[0], 0.0, reach)
        _meet(worker, workers, w.gates)
        _stages(k, w, f, worker, workers, time_s, held, scratch)
        tau, scheme = w.numbers[0], int(w.numbers[1])
        time_s += tau
        _note(k, w, f, worker, workers, time_s, tau)
        f = (f[1], f[0], f[2], f[3])
        steps, stages = steps + 1, stages + 2 * scheme + 3
        if worker == 0:
            updates += (2 * scheme + 3) * active_voxels(g, w.active)
            grow(k, w, workers, f[0], time_s - from_s, _reach_m(tau, diffusivity, False))
        _meet(worker, workers, w.gates)
    if worker == 0:
        settle(k, w, f[0], until_s - from_s)
    return steps, stages, updates


@njit(cache=True, **_ALLOCATES)
def rate_only(  # pragma: no cover - compiled
    k: Constants, w: Arrays, field: Field, time_s: Any, scratch: Any
) -> None:
    """∂H/∂t of a field into ``field[3]``, by one worker."""
    g, held = k.grid, np.empty(len(k.curves), np.float32)
    activate_all(g, w.active)
    ring(g, w.active)
    share_out(g, w, 1)
    if w.back_s.size > 0:
        _open(g, w.active, _U0, g.nz, time_s, w.back_s, w.open_)
    _held_at(k, time_s, held)
    _rate(k, w, field, 0, 1, time_s, held, scratch)
