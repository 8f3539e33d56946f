"""The simulator's own freezing: implicit, approximately factored (Douglas & Gunn). °C, SI units.

Independent of the monitor on purpose: another discretisation (finite volumes on a grid that is
0.8 mm fine around the needles and widens outwards), another time integration (implicit, by sweeps
along x, y and z), another freezing law (unfrozen water falls as liquidus/T, freezing-point
depression, instead of a linear mushy zone), another drive (convective heat transfer that varies
along the needle instead of a surface temperature), patchy perfusion, vessels that never freeze,
stasis after thaw, and thawed lung that fills with blood.
Enthalpy per volume is 0 at the liquidus. Invariant: diffusion changes no more enthalpy than its
implicit sweeps moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from scipy import ndimage

from scanner_sim.bodies import body_level
from scanner_sim.frame import FloatArray, Frame, even, on_axes
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.scenario import Needle, Scenario, tissue_names

BODY_DEGC, ROOM_DEGC = 37.0, 24.0
_BLOOD = 1050.0 * 3617.0
# Fine around needles and ice, then wider and wider to where the ice is not felt.
_FINE_MM, _AROUND_MM, _REACH_MM, _WIDEN, _WIDEST_MM = 0.8, 15.0, 38.0, 1.18, 4.0
# A needle's heat is drawn from a cone of this radius: its wall is thinner than the grid.
_KERNEL_MM = 1.8
# Blood passes a large vessel so fast that it stays warm: exchanges of its content per second.
_FLOW_PER_S = 0.25
# The room's air keeps its temperature.
_DRAUGHT_PER_S = 20.0
_PATCH_MM = 8.0
_PASSES = 2


def grid(anatomy: Anatomy) -> Frame:
    """The heat grid: fine where ice will be, wide where it will not."""
    ends = [np.array(anatomy.lesion_centre_lps_mm)]
    for n in anatomy.needles:
        tip = np.array(n.tip_lps_mm)
        ends += [tip, tip + n.made.active_length_mm * direction(n)]
    low, high = np.min(ends, 0) - _AROUND_MM, np.max(ends, 0) + _AROUND_MM
    return Frame(*(_axis(a, b) for a, b in zip(low, high, strict=True)))


def _axis(low: float, high: float) -> FloatArray:
    """Cell centres: even from low to high, widening beyond."""
    even_part = np.arange(low, high + _FINE_MM, _FINE_MM)
    widths = [_FINE_MM]
    while sum(widths) < _REACH_MM:
        widths.append(min(widths[-1] * _WIDEN, _WIDEST_MM))
    beyond = np.cumsum(widths)
    return np.concatenate([even_part[0] - beyond[::-1], even_part, even_part[-1] + beyond])


def direction(needle: Needle) -> FloatArray:
    """From the tip along the shaft, unit."""
    d = np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)
    return np.asarray(d / np.linalg.norm(d))


class Heat:
    """The temperature around the needles, advanced in time by steps of ``step_s`` (seconds);
    ``start_degc`` is the tissue's, its blood's and its vessels' temperature."""

    def __init__(
        self,
        scenario: Scenario,
        anatomy: Anatomy,
        step_s: float = 2.0,
        start_degc: float = BODY_DEGC,
    ) -> None:
        self._start_degc = start_degc
        self.frame = grid(anatomy)
        self.time_s = 0.0
        self._scenario, self._step_s = scenario, step_s
        self._needles = anatomy.needles
        self._gaps = [_gaps(a) for a in (self.frame.z, self.frame.y, self.frame.x)]
        label = _labels(anatomy.label, anatomy.frame, self.frame)
        self._room = _labels(_room(anatomy), anatomy.frame, self.frame)
        self._rng = np.random.default_rng(scenario.seed + 7)
        self._patches = _patchiness(self.frame, self._rng)
        self._frozen_at_s = np.full(label.shape, -1e9, np.float32)
        self._ever_frozen = np.zeros(label.shape, bool)
        self.wet = np.zeros(label.shape, bool)
        self._changes = sorted(
            [(b.appears_at_s, i) for i, b in enumerate(scenario.bodies) if b.appears_at_s > 0]
        )
        self._thaws = [t for t in scenario.thaw_starts_s() if scenario.ice.bleeding_mm > 0]
        self._sinks = [_sink_w_m3_k(n, self.frame) for n in anatomy.needles]
        self._t = np.where(self._room, ROOM_DEGC, start_degc).astype(np.float32)
        self._label = label
        self._set_properties()

    def temperature_degc(self) -> FloatArray:
        return _temperature(self._h, self._cu, self._cf, self._latent, self._liquidus)

    def frozen_fraction(self) -> FloatArray:
        """Share of the freezable water that is ice, (z, y, x)."""
        t, tl = self.temperature_degc(), self._liquidus
        return np.where(t < tl, 1.0 - tl / np.minimum(t, tl), 0.0).astype(np.float32)

    def advance(self, until_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        while self.time_s < until_s - 1e-6 and not stop():
            step = min(self._step_s, until_s - self.time_s)
            self._step(step)
            self.time_s += step
            self._happen()

    def _set_properties(self) -> None:
        """Fields of the tissue that is there now; temperature stays as it is."""
        s = self._scenario

        def spread(name: str) -> npt.NDArray[np.float32]:
            values = [getattr(s.tissues[t], name) for t in tissue_names()]
            return np.array(values, np.float32)[self._label]

        rho = spread("rho")
        self._cu, self._cf = rho * spread("c_unfrozen"), rho * spread("c_frozen")
        self._latent, self._liquidus = rho * spread("latent_heat"), spread("liquidus_degc")
        self._ku, self._kf = spread("k_unfrozen"), spread("k_frozen")
        flow = spread("perfusion_per_s") * np.exp(spread("perfusion_spread") * self._patches)
        self._perfusion = np.asarray(_BLOOD * flow, np.float32)
        self._vessel = self._label == tissue_names().index("blood")
        self._h = _enthalpy(self._t, self._cu, self._cf, self._latent, self._liquidus)

    def _happen(self) -> None:
        """Saline is injected; thawed lung bleeds."""
        changed = False
        while self._changes and self._changes[0][0] <= self.time_s:
            body = self._scenario.bodies[self._changes.pop(0)[1]]
            inside = np.asarray(body_level(body)(*self.frame.grid())) < 0
            solid = self.frozen_fraction() > 0.05
            self._label[inside & ~solid] = tissue_names().index(body.tissue)
            changed = True
        if self._thaws and self.time_s >= self._thaws[0]:
            self._thaws.pop(0)
            self.wet |= self._bleeds()
            self._label[self.wet & (self._label == tissue_names().index("lung"))] = (
                tissue_names().index("lung_wet")
            )
            changed = True
        if changed:
            self._t = self.temperature_degc()
            self._set_properties()

    def _bleeds(self) -> npt.NDArray[np.bool_]:
        """Lung within reach of what has been frozen, with a ragged edge."""
        distance = _distance_mm(self._ever_frozen, self.frame)
        return np.asarray(distance < self._scenario.ice.bleeding_mm * (1.0 + 0.3 * self._patches))

    def _step(self, step_s: float) -> None:
        """Capacity and conductivity first as they are now, then as they turn out to be on the way:
        latent heat makes them change by a hundredfold within a degree."""
        guess = self._h
        law = (self._cu, self._cf, self._latent, self._liquidus)
        rate, towards = self._exchanges(step_s)
        gz, gy, gx = self._gaps
        for _ in range(_PASSES):
            t, c, k = _coefficients(self._h, guess, *law, self._ku, self._kf)
            change = _residual(t, k, c, rate, towards, gz, gy, gx, np.float32(step_s))
            _solve(change, k, c, rate, gz, gy, gx, np.float32(step_s))
            guess = self._h + c * change
        self._h = guess
        _remember(self._h, *law, self._frozen_at_s, self._ever_frozen, np.float32(self.time_s))

    def _exchanges(self, step_s: float) -> tuple[npt.NDArray[np.float32], ...]:
        """What warms or cools each cell from outside: W/m³/K, and W/m³/K times °C."""
        thawed = (self._h >= 0) & (self.time_s - self._frozen_at_s > self._scenario.stasis_s)
        rate = np.where(thawed, self._perfusion, np.float32(0.0))
        rate[self._vessel] = self._cu[self._vessel] * np.float32(_FLOW_PER_S)
        towards = rate * np.float32(self._start_degc)
        rate[self._room] = self._cu[self._room] * np.float32(_DRAUGHT_PER_S)
        towards[self._room] = rate[self._room] * np.float32(ROOM_DEGC)
        since = self._scenario.freezing(self.time_s)
        for needle, sink in zip(self._needles, self._sinks, strict=True):
            if since is None or self.time_s >= needle.fails_at_s:
                continue
            ramp = min(1.0, (since + step_s) / needle.made.ramp_s)
            warm = self._start_degc
            cryogen = warm + ramp * (needle.made.cryogen_degc - warm)
            rate[sink.box] += sink.values
            towards[sink.box] += sink.values * np.float32(cryogen)
        return rate, towards


def output_frame(anatomy: Anatomy, spacing_mm: float = 1.0) -> Frame:
    """An even grid over the fine part of the heat grid and what ice may reach beyond."""
    heat = grid(anatomy)
    low = np.array([heat.x[0], heat.y[0], heat.z[0]]) + 12.0
    high = np.array([heat.x[-1], heat.y[-1], heat.z[-1]]) - 12.0
    return even(np.ceil(low), high, spacing_mm)


def resampled(field: FloatArray, heat: Frame, to: Frame) -> npt.NDArray[np.float32]:
    return np.asarray(on_axes(field, heat, to.z, to.y, to.x), np.float32)


# ------------------------------------------------------------------ fields on the heat grid


def _gaps(centres: FloatArray) -> npt.NDArray[np.float32]:
    """(2, n): each cell's width, and the distance to the next cell's centre, in metres."""
    between = np.diff(centres)
    edges = np.concatenate([[between[0]], between, [between[-1]]])
    return np.array([0.5 * (edges[:-1] + edges[1:]), edges[1:]], np.float32) / 1e3


def volumes_m3(frame: Frame) -> FloatArray:
    """Of the cells, (z, y, x)."""
    wz, wy, wx = (_gaps(a)[0] for a in (frame.z, frame.y, frame.x))
    return np.asarray(wz[:, None, None] * wy[:, None] * wx, float)


def _room(anatomy: Anatomy) -> npt.NDArray[np.bool_]:
    """The room's air: what is connected to a corner of the image. Gas in the bowel is warm."""
    pieces, _ = ndimage.label(anatomy.label == tissue_names().index("air"))
    return np.asarray((pieces == pieces[0, 0, 0]) & (pieces > 0))


def _labels(values: npt.NDArray[Any], of: Frame, frame: Frame) -> npt.NDArray[Any]:
    """The nearest scan voxel's value."""
    index = []
    for points, axis in zip((frame.z, frame.y, frame.x), (of.z, of.y, of.x), strict=True):
        step = axis[1] - axis[0]
        index.append(np.clip(np.rint((points - axis[0]) / step).astype(int), 0, len(axis) - 1))
    return values[np.ix_(*index)].copy()


def _patchiness(frame: Frame, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A smooth field of unit variance: perfusion is log-normal in patches of about 8 mm."""
    axes = (frame.z, frame.y, frame.x)
    coarse = [np.arange(a[0], a[-1] + _PATCH_MM, 0.5 * _PATCH_MM) for a in axes]
    noise = ndimage.gaussian_filter(rng.standard_normal([len(a) for a in coarse]), 0.9)
    noise /= noise.std()
    lattice = Frame(coarse[2], coarse[1], coarse[0])
    return np.asarray(on_axes(noise, lattice, *axes), np.float32)


def _distance_mm(mask: npt.NDArray[np.bool_], frame: Frame) -> FloatArray:
    """Distance to a mask, through an even grid of 1 mm."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    far = (frame.x[-1] + 1.0, frame.y[-1] + 1.0, frame.z[-1] + 1.0)
    to = even(frame.origin_lps_mm, far, 1.0)
    near = resampled(mask.astype(np.float32), frame, to) >= 0.5
    if not near.any():
        return np.full(mask.shape, np.inf)
    away = ndimage.distance_transform_edt(~near)
    return on_axes(away, to, frame.z, frame.y, frame.x)


class _Sink:
    """Heat transfer per volume and kelvin within ``box`` of the grid."""

    def __init__(self, values: FloatArray) -> None:
        self.box = ndimage.find_objects((values > 0).astype(int))[0]
        self.values = np.asarray(values[self.box], np.float32)


def _sink_w_m3_k(needle: Needle, frame: Frame) -> _Sink:
    """u(s) spread over a cone around the active zone; what the grid samples is scaled so that the
    whole needle draws what its u says."""
    made = needle.made
    x, y, z = frame.grid()
    d = direction(needle)
    px, py, pz = (p - t for p, t in zip((x, y, z), needle.tip_lps_mm, strict=True))
    along = px * d[0] + py * d[1] + pz * d[2]
    aside = np.sqrt(np.maximum(px**2 + py**2 + pz**2 - along**2, 0.0))
    s = 2.0 * along / made.active_length_mm - 1.0
    profile = (1.0 - made.end_weakness * s**2) * (1.0 - made.skew * s)
    profile = np.where(np.abs(s) <= 1.0, profile, 0.0) * np.maximum(1.0 - aside / _KERNEL_MM, 0.0)
    mean = 1.0 - made.end_weakness / 3.0
    whole_w_k = needle.strength * made.u_w_m_k * mean * made.active_length_mm / 1e3
    return _Sink(profile * whole_w_k / float((profile * volumes_m3(frame)).sum()))


# ------------------------------------------------------------------ compiled


def _temperature(
    h: FloatArray, cu: FloatArray, cf: FloatArray, latent: FloatArray, tl: FloatArray
) -> FloatArray:
    """T(H): above the liquidus linear, below the root of H = cf(T − Tl) − L(1 − Tl/T)."""
    b = cf * tl + latent + np.minimum(h, 0.0)
    root = (b - np.sqrt(b * b - 4.0 * cf * latent * tl)) / (2.0 * cf)
    return np.where(h >= 0, tl + h / cu, root)


def _enthalpy(
    t: FloatArray, cu: FloatArray, cf: FloatArray, latent: FloatArray, tl: FloatArray
) -> npt.NDArray[np.float32]:
    """H(T), 0 at the liquidus."""
    cold = np.minimum(t, tl)
    below = cf * (cold - tl) - latent * (1.0 - tl / cold)
    return np.asarray(np.where(t >= tl, cu * (t - tl), below), np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def _cold(h: Any, f: Any, la: Any, tl: Any) -> Any:  # pragma: no cover - compiled
    """Temperature below the liquidus."""
    b = f * tl + la + h
    return (b - np.sqrt(b * b - np.float32(4.0) * f * la * tl)) / (np.float32(2.0) * f)


@njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _coefficients(
    h: Any, guess: Any, cu: Any, cf: Any, latent: Any, liquidus: Any, ku: Any, kf: Any
) -> Any:  # pragma: no cover - compiled
    """(temperature, capacity, conductivity): between now and the guessed end, the
    capacity is the chord, so that it takes exactly the enthalpy."""
    nz, ny, nx = h.shape
    t, c, k = np.empty_like(h), np.empty_like(h), np.empty_like(h)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                tl, f, la = liquidus[z, y, x], cf[z, y, x], latent[z, y, x]
                u, here, there = cu[z, y, x], h[z, y, x], guess[z, y, x]
                now = tl + here / u if here >= 0 else _cold(here, f, la, tl)
                then = tl + there / u if there >= 0 else _cold(there, f, la, tl)
                if abs(then - now) > np.float32(1e-3):
                    slope = (there - here) / (then - now)
                else:
                    slope = u if here >= 0 else f - la * tl / (now * now)
                ice = np.float32(0.0)
                if now < tl:
                    ice += np.float32(0.5) * (np.float32(1.0) - tl / now)
                if then < tl:
                    ice += np.float32(0.5) * (np.float32(1.0) - tl / then)
                t[z, y, x], c[z, y, x] = now, slope
                k[z, y, x] = ku[z, y, x] + ice * (kf[z, y, x] - ku[z, y, x])
    return t, c, k


@njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _residual(
    t: Any, k: Any, c: Any, rate: Any, towards: Any, gz: Any, gy: Any, gx: Any, step: Any
) -> Any:  # pragma: no cover - compiled
    """How far each temperature would change if nothing reacted: diffusion, blood and needles."""
    nz, ny, nx = t.shape
    out = np.empty_like(t)
    zero = np.float32(0.0)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                here, kc = t[z, y, x], k[z, y, x]
                heat = towards[z, y, x] - rate[z, y, x] * here
                left = _flow(kc, k[z, y, x - 1], gx, x, x - 1) if x > 0 else zero
                right = _flow(kc, k[z, y, x + 1], gx, x, x + 1) if x < nx - 1 else zero
                heat += left * (t[z, y, max(x - 1, 0)] - here)
                heat += right * (t[z, y, min(x + 1, nx - 1)] - here)
                left = _flow(kc, k[z, y - 1, x], gy, y, y - 1) if y > 0 else zero
                right = _flow(kc, k[z, y + 1, x], gy, y, y + 1) if y < ny - 1 else zero
                heat += left * (t[z, max(y - 1, 0), x] - here)
                heat += right * (t[z, min(y + 1, ny - 1), x] - here)
                left = _flow(kc, k[z - 1, y, x], gz, z, z - 1) if z > 0 else zero
                right = _flow(kc, k[z + 1, y, x], gz, z, z + 1) if z < nz - 1 else zero
                heat += left * (t[max(z - 1, 0), y, x] - here)
                heat += right * (t[min(z + 1, nz - 1), y, x] - here)
                out[z, y, x] = step * heat / c[z, y, x]
    return out


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _flow(k: Any, other: Any, gaps: Any, i: Any, j: Any) -> Any:  # pragma: no cover - compiled
    """W/m³/K into cell i from its neighbour j: two half cells in series."""
    return np.float32(2.0) * k * other / (gaps[0, i] * other + gaps[0, j] * k) / gaps[0, i]


@njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _solve(
    change: Any, k: Any, c: Any, rate: Any, gz: Any, gy: Any, gx: Any, step: Any
) -> None:  # pragma: no cover - compiled
    """Turns the explicit change into the implicit one, along x (with blood and needles), y and z
    (Douglas & Gunn's approximate factorisation): a steady state does not depend on the step."""
    nz, ny, nx = change.shape
    for z in prange(nz):
        a1 = np.empty((nx, ny), np.float32)
        a2 = np.empty((nx, ny), np.float32)
        a3 = np.empty((nx, ny), np.float32)
        a4 = np.empty((nx, ny), np.float32)
        for y in range(ny):
            for x in range(nx):
                a1[x, y], a2[x, y], a3[x, y] = change[z, y, x], k[z, y, x], c[z, y, x]
                a4[x, y] = rate[z, y, x]
        _sweep(a1, a2, a3, a4, gx, step)
        for y in range(ny):
            for x in range(nx):
                change[z, y, x] = a1[x, y]
        a5 = np.zeros((ny, nx), np.float32)
        _sweep(change[z], k[z], c[z], a5, gy, step)
    for y in prange(ny):
        a6 = np.zeros((nz, nx), np.float32)
        _sweep(change[:, y, :], k[:, y, :], c[:, y, :], a6, gz, step)


@njit(cache=True, nogil=True, fastmath=True)
def _sweep(
    t: Any, k: Any, c: Any, rate: Any, gaps: Any, step: Any
) -> None:  # pragma: no cover - compiled
    """Implicit diffusion along the first axis for many lines: the Thomas algorithm."""
    n, columns = t.shape
    upper = np.empty((n, columns), np.float32)
    before = np.zeros(columns, np.float32)
    one = np.float32(1.0)
    for j in range(n):
        w = gaps[0, j]
        for i in range(columns):
            after = np.float32(0.0)
            if j < n - 1:
                kc, kn = k[j, i], k[j + 1, i]
                after = step * np.float32(2.0) * kc * kn / (w * kn + gaps[0, j + 1] * kc)
            per = one / (c[j, i] * w)
            a, b = before[i] * per, after * per
            diagonal = one + a + b + step * rate[j, i] / c[j, i]
            if j > 0:
                pivot = one / (diagonal + a * upper[j - 1, i])
                t[j, i] = (t[j, i] + a * t[j - 1, i]) * pivot
            else:
                pivot = one / diagonal
                t[j, i] = t[j, i] * pivot
            upper[j, i] = -b * pivot
            before[i] = after
    for j in range(n - 2, -1, -1):
        for i in range(columns):
            t[j, i] -= upper[j, i] * t[j + 1, i]


@njit(parallel=True, cache=True, nogil=True)
def _remember(
    h: Any, cu: Any, cf: Any, latent: Any, liquidus: Any, frozen_at: Any, ever: Any, now: Any
) -> None:  # pragma: no cover - compiled
    """When each cell was last frozen by half, and whether it ever was."""
    nz, ny, nx = h.shape
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                if h[z, y, x] < 0:
                    tl = liquidus[z, y, x]
                    cold = _cold(h[z, y, x], cf[z, y, x], latent[z, y, x], tl)
                    if np.float32(1.0) - tl / cold > np.float32(0.5):
                        frozen_at[z, y, x] = now
                        ever[z, y, x] = True
