"""The compiled loops of the CPU engine. SI units, °C, float32 arrays (member, z, y, x).

The tissue law is ``law``'s own functions, compiled. One pass a stage: each worker owns a range of
planes, works out temperature, heat potential and source of the next plane into its own scratch, and
takes every face's flux once. So a stage moves 20 bytes a voxel and divides only between tissues.
A plane is one long row, and labels come as runs along it, since a loop over one tissue vectorises
and a look-up per voxel does not. Invariant: a stage reads one array and writes another, and no
worker writes where another does.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from gpu_kernels import law


def cache_folder() -> Path:
    """Compiled kernels are kept per version of their sources: numba watches only the file that a
    kernel stands in, and would run yesterday's law. Where the home cannot be written, they are
    compiled again at every start."""
    here = Path(__file__).parent
    sources = b"".join((here / name).read_bytes() for name in ("law.py", "cpu_kernels.py"))
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "iceball-monitor" / hashlib.sha256(sources).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="iceball-monitor-"))
    return folder


# The OpenMP layer stalled intermittently on a busy machine (8 ms quanta), workqueue did not. It
# must not be entered from two threads at once: see the lock in ``cpu``.
numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

# No "nnan" or "ninf": a field that is no longer finite has to stay visible.
_FAST = {"contract", "arcp", "nsz"}

_temperature = njit(inline="always", error_model="numpy")(law.temperature_degc)
_fraction = njit(inline="always", error_model="numpy")(law.frozen_fraction)
_conductivity = njit(inline="always", error_model="numpy")(law.conductivity)
_face = njit(inline="always", error_model="numpy")(law.face_conductivity)
_potential = njit(inline="always", error_model="numpy")(law.heat_potential)
_source = njit(inline="always", error_model="numpy")(law.source_w_m3)

# A worker's scratch: temperature, conductivity, heat potential, source and flux along z in turns for
# this plane and the next one, then fluxes along y and x.
_T, _K, _Q, _S, _FLUX_Z, _FLUX_Y, _FLUX_X, PLANES = 0, 2, 4, 6, 8, 10, 11, 12


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _thermal(  # pragma: no cover - compiled
    h: Any, z: Any, run_start: Any, run_end: Any, run_label: Any, par: Any, blood: Any, out: Any
) -> None:
    """Temperature, conductivity, heat potential and source of plane ``z`` from its enthalpy."""
    x0 = 0
    for run in range(run_start[z], run_start[z + 1]):
        x1 = run_end[run]
        p = par[run_label[run]]
        solidus, width, latent, per_cf, per_cu = p[0], p[1], p[2], p[3], p[4]
        k_frozen, k_unfrozen, perfusion, metabolic = p[5], p[6], p[7], p[8]
        h_run, t_run, k_run, s_run = h[x0:x1], out[_T, x0:x1], out[_K, x0:x1], out[_S, x0:x1]
        q_run = out[_Q, x0:x1]
        for x in range(x1 - x0):
            t = _temperature(h_run[x], solidus, width, latent, per_cf, per_cu)
            f = _fraction(h_run[x], latent)
            t_run[x] = t
            k_run[x] = _conductivity(f, k_frozen, k_unfrozen)
            s_run[x] = _source(t, f, perfusion, metabolic, blood)
        for x in range(x1 - x0):
            q_run[x] = _potential(t_run[x], solidus, width, k_frozen, k_unfrozen)
        x0 = x1


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _flux(  # pragma: no cover - compiled
    here: Any, there: Any, step: Any, n: Any, per_square: Any, mixed: Any, flux: Any
) -> None:
    """W/m³ over the faces between the voxels of ``here`` and those ``step`` further on in ``there``
    along any axis; ``mixed`` are the faces between two tissues."""
    q, q_next = here[_Q, :n], there[_Q, step : step + n]
    for i in range(n):
        flux[i] = per_square * (q_next[i] - q[i])
    t, k = here[_T], here[_K]
    t_next, k_next = there[_T, step:], there[_K, step:]
    for i in mixed:
        flux[i] = per_square * _face(k[i], k_next[i]) * (t_next[i] - t[i])


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _gather(  # pragma: no cover - compiled
    s: Any, x0: Any, x1: Any, y0: Any, y1: Any, z0: Any, z1: Any
) -> None:
    """What the six faces bring, onto the source."""
    for i in range(s.size):
        s[i] += x1[i] - x0[i] + y1[i] - y0[i] + z1[i] - z0[i]


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _combine(  # pragma: no cover - compiled
    h: Any, out: Any, rate: Any, h0: Any, rate0: Any, c: Any
) -> None:
    """out ← the stage's sum, ``c`` its coefficients. Written as changes from ``h0``: in float32 the
    coefficients do not quite sum to 1, and tissue at rest would drift."""
    mu, nu, now, before, base = c[0], c[1], c[2], c[3], c[4]
    for i in range(h.size):
        change = mu * (h[i] - h0[i]) + nu * (out[i] - h0[i])
        out[i] = base * h0[i] + (change + now * rate[i] + before * rate0[i])


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _rate(  # pragma: no cover - compiled
    n: Any, nx: Any, z: Any, here: Any, above: Any, z0: Any, z1: Any, x0: Any, y0: Any,
    per_square: Any, mixed_start: Any, mixed: Any,
) -> Any:  # fmt: skip
    """∂H/∂t of plane ``z``, as one long row: y's neighbour is ``nx`` further on. ``z0`` is the flux
    over the lower faces; ``x0`` and ``y0`` are zero where they start. Loops write one array each:
    with more, LLVM gives up proving that they do not overlap and does not vectorise."""
    x1, y1 = x0[1:], y0[nx:]
    _flux(here, here, 1, n - 1, per_square[0], _faces(mixed_start, mixed, 0, z), x1)
    for end in range(nx, n + 1, nx):
        x0[end] = 0.0
    _flux(here, here, nx, n - nx, per_square[1], _faces(mixed_start, mixed, 1, z), y1)
    _flux(here, above, 0, n, per_square[2], _faces(mixed_start, mixed, 2, z), z1)
    rate = here[_S, :n]
    _gather(rate, x0, x1, y0, y1, z0, z1)
    return rate


@njit(nogil=True)
def _faces(start: Any, mixed: Any, axis: Any, z: Any) -> Any:  # pragma: no cover - compiled
    """Plane z's faces between two tissues, towards the next voxel along an axis (x, y, z)."""
    return mixed[start[axis, z] : start[axis, z + 1]]


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _slab(  # pragma: no cover - compiled
    first: Any, last: Any, h: Any, out: Any, h0: Any, rate0: Any, c: Any, run_start: Any,
    run_end: Any, run_label: Any, mixed_start: Any, mixed: Any, par: Any, per_square: Any,
    blood: Any, fixed: Any, nx: Any, planes: Any,
) -> None:  # fmt: skip
    """One stage on planes ``first`` to ``last`` of all members' planes, away from the needles."""
    nz, n = run_start.size - 1, h.shape[1]
    for plane in range(first, last):
        m, z = plane // nz, plane % nz
        turn = plane % 2
        here, above = planes[turn:], planes[1 - turn :]
        z0, z1 = planes[_FLUX_Z + turn], planes[_FLUX_Z + 1 - turn]
        if plane == first or z == 0:
            _thermal(h[plane], z, run_start, run_end, run_label, par[m], blood, here)
            z0[:] = np.float32(0.0)
            if z > 0:
                _thermal(h[plane - 1], z - 1, run_start, run_end, run_label, par[m], blood, above)
                _flux(above, here, 0, n, per_square[2], _faces(mixed_start, mixed, 2, z - 1), z0)
        if z < nz - 1:
            _thermal(h[plane + 1], z + 1, run_start, run_end, run_label, par[m], blood, above)
        else:
            above = here
        rate = _rate(n, nx, z, here, above, z0, z1, planes[_FLUX_X], planes[_FLUX_Y], per_square,
                     mixed_start, mixed)  # fmt: skip
        if fixed:
            _still_rim(rate, nx, z == 0 or z == nz - 1)
        _combine(h[plane], out[plane], rate, h0[plane], rate0[plane], c)


@njit(nogil=True)
def _still_rim(rate: Any, nx: Any, whole: Any) -> None:  # pragma: no cover - compiled
    if whole:
        rate[:] = 0.0
        return
    n = rate.size
    rate[:nx], rate[n - nx :] = 0.0, 0.0
    for i in range(0, n, nx):
        rate[i], rate[i + nx - 1] = 0.0, 0.0


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _draw(  # pragma: no cover - compiled
    h: Any, out: Any, label: Any, par: Any, touched: Any, start: Any, place: Any, weight: Any,
    free: Any, strength: Any, surface: Any, scale: Any,
) -> None:  # fmt: skip
    """The needles' heat in one member, taken through each piece's kernel: out −= scale · drawn.
    ``touched`` are the flat voxels that any kernel reaches, ``place`` indices into it, ``free`` 0
    where the boundary holds the voxel; ``surface`` (piece,) is NaN where not driven."""
    tissue, q, drawn = (
        np.empty(touched.size, np.int64),
        np.empty(touched.size),
        np.zeros(touched.size),
    )
    for i in range(touched.size):
        v = touched[i]
        tissue[i] = label[v]
        p = par[label[v]]
        t = _temperature(h[v], p[0], p[1], p[2], p[3], p[4])
        q[i] = _potential(t, p[0], p[1], p[5], p[6])
    at_shaft = np.empty(len(par))
    for piece in range(strength.size):
        if np.isnan(surface[piece]):
            continue
        for i in range(len(par)):
            at_shaft[i] = _potential(surface[piece], par[i, 0], par[i, 1], par[i, 5], par[i, 6])
        seen = 0.0
        for i in range(start[piece], start[piece + 1]):
            seen += weight[i] * (q[place[i]] - at_shaft[tissue[place[i]]])
        heat = strength[piece] * seen
        for i in range(start[piece], start[piece + 1]):
            drawn[place[i]] += heat * weight[i]
    for i in range(touched.size):
        out[touched[i]] -= np.float32(scale * free[i] * drawn[i])


@njit(parallel=True, cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def first_rate(  # pragma: no cover - compiled
    h: Any, rate: Any, per_latent: Any, surface: Any, nx: Any, label: Any, run_start: Any,
    run_end: Any, run_label: Any, mixed_start: Any, mixed: Any, par: Any, per_square: Any,
    blood: Any, fixed: Any, planes: Any,
    touched: Any, start: Any, place: Any, weight: Any, free: Any, strength: Any,
) -> Any:  # fmt: skip
    """∂H/∂t of ``h`` (member·z, y·x) into ``rate``; returns its largest size per latent heat."""
    members, workers, nz = par.shape[0], planes.shape[0], run_start.size - 1
    total = h.shape[0]
    c = np.array([0.0, 0.0, 1.0, 0.0, 0.0], np.float32)
    for w in prange(workers):
        _slab(w * total // workers, (w + 1) * total // workers, h, rate, h, h, c, run_start,
              run_end, run_label, mixed_start, mixed, par, per_square, blood, fixed, nx,
              planes[w])  # fmt: skip
    by_member, rate_by_member = h.reshape((members, -1)), rate.reshape((members, -1))
    for m in prange(members):
        _draw(by_member[m], rate_by_member[m], label, par[m], touched, start, place, weight,
              free, strength[m], surface, np.float32(1.0))  # fmt: skip
    fastest = np.zeros(total, np.float32)
    for plane in prange(total):
        m, z = plane // nz, plane % nz
        fastest[plane] = _fastest(rate[plane], z, run_start, run_end, run_label, per_latent[m])
    return fastest.max()


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _fastest(  # pragma: no cover - compiled
    rate: Any, z: Any, run_start: Any, run_end: Any, run_label: Any, per_latent: Any
) -> Any:
    x0, fastest = 0, np.float32(0.0)
    for run in range(run_start[z], run_start[z + 1]):
        most = np.float32(0.0)
        for r in rate[x0 : run_end[run]]:
            most = max(most, abs(r))
        fastest = max(fastest, most * per_latent[run_label[run]])
        x0 = run_end[run]
    return fastest


@njit(parallel=True, cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def super_step(  # pragma: no cover - compiled
    h: Any, rate: Any, a: Any, b: Any, first: Any, c: Any, surface: Any, nx: Any, label: Any,
    run_start: Any, run_end: Any, run_label: Any, mixed_start: Any, mixed: Any, par: Any,
    per_square: Any, blood: Any, fixed: Any, planes: Any, touched: Any, start: Any, place: Any,
    weight: Any, free: Any, strength: Any,
) -> Any:  # fmt: skip
    """One super-time-step from ``h`` (member·z, y·x) and its ``rate``: the first stage with factor
    ``first``, then one per row of ``c`` with its row of ``surface`` (piece,). Returns the new
    enthalpy and the other buffer: ``a`` and ``b``, in one order or the other."""
    members, workers = par.shape[0], planes.shape[0]
    total = h.shape[0]
    for plane in prange(total):
        for i in range(h.shape[1]):
            a[plane, i] = h[plane, i] + first * rate[plane, i]
        b[plane] = h[plane]
    for j in range(len(c)):
        for w in prange(workers):
            _slab(w * total // workers, (w + 1) * total // workers, a, b, h, rate, c[j], run_start,
                  run_end, run_label, mixed_start, mixed, par, per_square, blood, fixed, nx,
              planes[w])  # fmt: skip
        a_by_member, b_by_member = a.reshape((members, -1)), b.reshape((members, -1))
        for m in prange(members):
            _draw(a_by_member[m], b_by_member[m], label, par[m], touched, start, place, weight,
                  free, strength[m], surface[j], c[j, 2])  # fmt: skip
        a, b = b, a
    return a, b
