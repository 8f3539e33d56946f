"""The compiled loops of the CPU engine. SI units, °C, float32 arrays (member, z, y, x).

The tissue law is ``law``'s own functions, compiled. One pass a stage: each worker owns a range of
planes, works out temperature, conductivity and source of the next plane into its own scratch, and
takes every face's flux once. So a stage moves 12 bytes a voxel and makes three divisions.
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
_source = njit(inline="always", error_model="numpy")(law.source_w_m3)

# A worker's scratch: temperature, conductivity, source and flux along z in turns for this plane and
# the next one, then fluxes along y and x.
_T, _K, _S, _FLUX_Z, _FLUX_Y, _FLUX_X, PLANES = 0, 2, 4, 6, 8, 9, 10


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _thermal(  # pragma: no cover - compiled
    h: Any, z: Any, run_start: Any, run_end: Any, run_label: Any, par: Any, blood: Any, out: Any
) -> None:
    """Temperature, conductivity and source of plane ``z`` from its enthalpy, into ``out`` at 0, 2
    and 4."""
    x0 = 0
    for run in range(run_start[z], run_start[z + 1]):
        x1 = run_end[run]
        p = par[run_label[run]]
        solidus, width, latent, per_cf, per_cu = p[0], p[1], p[2], p[3], p[4]
        k_frozen, k_unfrozen, perfusion, metabolic = p[5], p[6], p[7], p[8]
        h_run, t_run, k_run, s_run = h[x0:x1], out[_T, x0:x1], out[_K, x0:x1], out[_S, x0:x1]
        for x in range(x1 - x0):
            t = _temperature(h_run[x], solidus, width, latent, per_cf, per_cu)
            f = _fraction(h_run[x], latent)
            t_run[x] = t
            k_run[x] = _conductivity(f, k_frozen, k_unfrozen)
            s_run[x] = _source(t, f, perfusion, metabolic, blood)
        x0 = x1


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _flux(  # pragma: no cover - compiled
    t: Any, k: Any, t_next: Any, k_next: Any, per_square: Any, flux: Any
) -> None:
    """W/m³ over the faces between voxels and the next ones along any axis."""
    for i in range(t_next.size):
        flux[i] = per_square * _face(k[i], k_next[i]) * (t_next[i] - t[i])


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _update(  # pragma: no cover - compiled
    h: Any, out: Any, x0: Any, x1: Any, y0: Any, y1: Any, z0: Any, z1: Any, s: Any,
    mu: Any, nu: Any, scale: Any,
) -> None:  # fmt: skip
    """out ← μ·h + ν·out + scale·(what the six faces and the source bring)."""
    for i in range(h.size):
        rate = x1[i] - x0[i] + y1[i] - y0[i] + z1[i] - z0[i] + s[i]
        out[i] = mu * h[i] + nu * out[i] + scale * rate


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _plane(  # pragma: no cover - compiled
    h: Any, out: Any, nx: Any, here: Any, above: Any, z0: Any, z1: Any, x0: Any, y0: Any,
    per_square: Any, mu: Any, nu: Any, scale: Any,
) -> None:  # fmt: skip
    """One plane, as one long row: y's neighbour is ``nx`` further on. ``here`` and ``above`` are
    this plane's and the next one's T, K, S, ``z0`` the flux over the lower faces; ``x0`` and ``y0``
    are zero where they start. Loops write one array each: with more, LLVM gives up proving that
    they do not overlap and does not vectorise."""
    n = h.size
    t, k = here[_T, :n], here[_K, :n]
    x1, y1 = x0[1:], y0[nx:]
    _flux(t, k, t[1:], k[1:], per_square[0], x1)
    for end in range(nx, n + 1, nx):
        x0[end] = 0.0
    _flux(t, k, t[nx:], k[nx:], per_square[1], y1)
    _flux(t, k, above[_T, :n], above[_K, :n], per_square[2], z1)
    _update(h, out, x0, x1, y0, y1, z0, z1, here[_S, :n], mu, nu, scale)


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _slab(  # pragma: no cover - compiled
    first: Any, last: Any, h: Any, out: Any, run_start: Any, run_end: Any, run_label: Any, par: Any,
    per_square: Any, blood: Any, mu: Any, nu: Any, scale: Any, fixed: Any, nx: Any, planes: Any,
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
                _flux(above[_T], above[_K], here[_T, :n], here[_K], per_square[2], z0)
        if z < nz - 1:
            _thermal(h[plane + 1], z + 1, run_start, run_end, run_label, par[m], blood, above)
        else:
            above = here
        _plane(h[plane], out[plane], nx, here, above, z0, z1, planes[_FLUX_X], planes[_FLUX_Y],
               per_square, mu, nu, scale)  # fmt: skip
        if fixed:
            _hold_rim(h[plane], out[plane], nx, z == 0 or z == nz - 1)


@njit(nogil=True)
def _hold_rim(h: Any, out: Any, nx: Any, whole: Any) -> None:  # pragma: no cover - compiled
    if whole:
        out[:] = h
        return
    n = h.size
    out[:nx], out[n - nx :] = h[:nx], h[n - nx :]
    for i in range(0, n, nx):
        out[i], out[i + nx - 1] = h[i], h[i + nx - 1]


@njit(fastmath=_FAST, error_model="numpy", nogil=True)
def _draw(  # pragma: no cover - compiled
    h: Any, out: Any, label: Any, par: Any, touched: Any, start: Any, place: Any, weight: Any,
    free: Any, strength: Any, surface: Any, scale: Any,
) -> None:  # fmt: skip
    """The needles' heat in one member, taken through each piece's kernel: out −= scale · drawn.
    ``touched`` are the flat voxels that any kernel reaches, ``place`` indices into it, ``free`` 0
    where the boundary holds the voxel; ``surface`` (piece,) is NaN where not driven."""
    t, k = np.empty(touched.size), np.empty(touched.size)
    drawn = np.zeros(touched.size)
    for i in range(touched.size):
        v = touched[i]
        p = par[label[v]]
        t[i] = _temperature(h[v], p[0], p[1], p[2], p[3], p[4])
        k[i] = _conductivity(_fraction(h[v], p[2]), p[5], p[6])
    for piece in range(strength.size):
        if np.isnan(surface[piece]):
            continue
        seen, k_seen = 0.0, 0.0
        for i in range(start[piece], start[piece + 1]):
            seen += weight[i] * t[place[i]]
            k_seen += weight[i] * k[place[i]]
        heat = strength[piece] * k_seen * (seen - surface[piece])
        for i in range(start[piece], start[piece + 1]):
            drawn[place[i]] += heat * weight[i]
    for i in range(touched.size):
        out[touched[i]] -= np.float32(scale * free[i] * drawn[i])


@njit(parallel=True, cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def super_step(  # pragma: no cover - compiled
    h: Any, older: Any, nx: Any, label: Any, run_start: Any, run_end: Any, run_label: Any, par: Any,
    per_square: Any, blood: Any, fixed: Any, planes: Any, mu: Any, nu: Any, scale: Any,
    touched: Any, start: Any, place: Any, weight: Any, free: Any, strength: Any, surface: Any,
) -> Any:  # fmt: skip
    """One super-time-step of ``len(mu)`` stages on ``h`` (member·z, y·x), stage j with
    ``surface[j]`` (piece,). Returns the new enthalpy and the other buffer: the two arrays given, in
    one order or the other."""
    members, workers = par.shape[0], planes.shape[0]
    total = h.shape[0]
    for j in range(mu.size):
        for w in prange(workers):
            _slab(w * total // workers, (w + 1) * total // workers, h, older,
                  run_start, run_end, run_label, par, per_square, blood,
                  mu[j], nu[j], scale[j], fixed, nx, planes[w])  # fmt: skip
        by_member, older_by_member = h.reshape((members, -1)), older.reshape((members, -1))
        for m in prange(members):
            _draw(by_member[m], older_by_member[m], label, par[m], touched, start, place,
                  weight, free, strength[m], surface[j], scale[j])  # fmt: skip
        h, older = older, h
    return h, older
