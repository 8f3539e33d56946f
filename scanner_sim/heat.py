"""The simulator's own freezing: temperature-based, locally one-dimensional implicit. °C, SI units.

Independent of the monitor on purpose: another discretisation (cell-centred finite volumes, implicit
sweeps along x, y and z), another freezing law (unfrozen water falls as liquidus/T, freezing-point
depression, instead of a linear mushy zone), another drive (convective heat transfer that varies
along the needle instead of a surface temperature), heterogeneous perfusion and stasis after thaw.
Enthalpy per volume is 0 at the liquidus. Invariant: each step changes the enthalpy by exactly the
heat that its implicit sweeps moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from scipy import ndimage

from scanner_sim.anatomy import TISSUES, Anatomy, Frame
from scanner_sim.bodies import FloatArray
from scanner_sim.scenario import Needle, Scenario

BODY_DEGC, ROOM_DEGC = 37.0, 24.0
_BLOOD = 1050.0 * 3617.0
_KERNEL_MM = 1.8
# Cells per side are chosen so that the outer faces do not feel the ice.
_REACH_MM = 26.0


def box(anatomy: Anatomy, spacing_mm: float = 1.0) -> Frame:
    """The heat grid: the needles' active zones and lesion with room for ice."""
    ends = np.array(
        [
            anatomy.lesion_centre_lps_mm,
            *(n.tip_lps_mm for n in anatomy.needles),
            *(np.add(n.tip_lps_mm, 22.0 * direction(n)) for n in anatomy.needles),
        ]
    )
    low, high = ends.min(0) - _REACH_MM, ends.max(0) + _REACH_MM
    axes = [np.arange(a, b + spacing_mm / 2, spacing_mm) for a, b in zip(low, high, strict=True)]
    return Frame(*axes)


def direction(needle: Needle) -> FloatArray:
    d = np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)
    return np.asarray(d / np.linalg.norm(d))


class Heat:
    """The temperature around the needles, advanced in time."""

    def __init__(self, scenario: Scenario, anatomy: Anatomy, step_s: float = 1.0) -> None:
        self.frame = box(anatomy)
        self.time_s = 0.0
        self._scenario, self._step_s = scenario, step_s
        label = _labels(anatomy, self.frame)
        self._air = label == TISSUES.index("air")
        self._p = {
            name: _spread(scenario, name, label)
            for name in ("k_unfrozen", "k_frozen", "liquidus_degc", "perfusion_per_s")
        }
        rho = _spread(scenario, "rho", label)
        self._cu = rho * _spread(scenario, "c_unfrozen", label)
        self._cf = rho * _spread(scenario, "c_frozen", label)
        self._latent = rho * _spread(scenario, "latent_heat", label)
        self._perfusion = _BLOOD * self._p["perfusion_per_s"] * _patchiness(scenario, label)
        self._sink = sum(_sink_w_m3_k(scenario, n, self.frame) for n in anatomy.needles)
        self._frozen_at_s = np.full(label.shape, -1e9, np.float32)
        start = np.where(self._air, ROOM_DEGC, BODY_DEGC).astype(np.float32)
        self._h = self._cu * (start - self._p["liquidus_degc"])

    def temperature_degc(self) -> FloatArray:
        return _temperature(self._h, self._cu, self._cf, self._latent, self._p["liquidus_degc"])

    def frozen_fraction(self) -> FloatArray:
        """Share of the freezable water that is ice, (z, y, x)."""
        t, tl = self.temperature_degc(), self._p["liquidus_degc"]
        return np.where(t < tl, 1.0 - tl / np.minimum(t, tl), 0.0).astype(np.float32)

    def advance(self, until_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        while self.time_s < until_s - 1e-6 and not stop():
            step = min(self._step_s, until_s - self.time_s)
            self._step(step)
            self.time_s += step

    def _step(self, step_s: float) -> None:
        t = self.temperature_degc()
        tl = self._p["liquidus_degc"]
        fraction = np.where(t < tl, 1.0 - tl / np.minimum(t, tl), 0.0).astype(np.float32)
        # dH/dT: below the liquidus the latent heat of the water still freezing comes on top.
        c = np.where(
            t < tl, self._cf + self._latent * (-tl) / np.minimum(t, tl) ** 2, self._cu
        ).astype(np.float32)
        k = (
            self._p["k_unfrozen"] + fraction * (self._p["k_frozen"] - self._p["k_unfrozen"])
        ).astype(np.float32)
        new = t.astype(np.float32)
        scale = np.float32(step_s * 1e6)
        for axis, spacing in zip((2, 1, 0), self.frame.spacing_mm, strict=True):
            lines = np.ascontiguousarray(np.moveaxis(new, axis, 0))
            _sweep(
                lines,
                np.ascontiguousarray(np.moveaxis(k, axis, 0)),
                np.ascontiguousarray(np.moveaxis(c, axis, 0)),
                scale / np.float32(spacing**2),
            )
            new = np.ascontiguousarray(np.moveaxis(lines, 0, axis))
        new = self._exchange(new, c, fraction, step_s)
        self._h += c * (new - t)

    def _exchange(
        self, t: FloatArray, c: FloatArray, fraction: FloatArray, step_s: float
    ) -> FloatArray:
        """Blood and needles, each integrated exactly over the step."""
        self._frozen_at_s[fraction > 0.5] = self.time_s
        flows = (fraction <= 0.0) & (self.time_s - self._frozen_at_s > self._scenario.stasis_s)
        t = BODY_DEGC + (t - BODY_DEGC) * np.exp(-step_s * self._perfusion * flows / c)
        since = self._scenario.freezing(self.time_s)
        if since is not None:
            cooling = self._scenario.cooling
            ramp = min(1.0, (since + step_s) / cooling.ramp_s)
            cryogen = BODY_DEGC + ramp * (cooling.cryogen_degc - BODY_DEGC)
            t = cryogen + (t - cryogen) * np.exp(-step_s * self._sink / c)
        t = np.where(self._air, ROOM_DEGC, t)
        return np.asarray(t)


def _temperature(
    h: FloatArray, cu: FloatArray, cf: FloatArray, latent: FloatArray, tl: FloatArray
) -> FloatArray:
    """T(H): above the liquidus linear, below the root of H = cf(T − Tl) − L(1 − Tl/T)."""
    b = cf * tl + latent + np.minimum(h, 0.0)
    root = (b - np.sqrt(b * b - 4.0 * cf * latent * tl)) / (2.0 * cf)
    return np.where(h >= 0, tl + h / cu, root)


@njit(parallel=True, cache=True, nogil=True)
def _sweep(t: Any, k: Any, c: Any, scale: Any) -> None:  # pragma: no cover - compiled
    """Implicit diffusion along the first axis, no flux through its ends: the Thomas algorithm for a
    plane of lines at once."""
    n, rows, columns = t.shape
    for row in prange(rows):
        upper = np.empty((n, columns), np.float32)
        for i in range(columns):
            g = (
                scale
                * 2.0
                * k[0, row, i]
                * k[1, row, i]
                / (k[0, row, i] + k[1, row, i])
                / c[0, row, i]
            )
            upper[0, i] = -g / (1.0 + g)
            t[0, row, i] = t[0, row, i] / (1.0 + g)
        for j in range(1, n):
            for i in range(columns):
                kc = k[j, row, i]
                a = scale * 2.0 * k[j - 1, row, i] * kc / (k[j - 1, row, i] + kc) / c[j, row, i]
                b = np.float32(0.0)
                if j < n - 1:
                    b = scale * 2.0 * k[j + 1, row, i] * kc / (k[j + 1, row, i] + kc) / c[j, row, i]
                pivot = 1.0 + a + b + a * upper[j - 1, i]
                upper[j, i] = -b / pivot
                t[j, row, i] = (t[j, row, i] + a * t[j - 1, row, i]) / pivot
        for j in range(n - 2, -1, -1):
            for i in range(columns):
                t[j, row, i] -= upper[j, i] * t[j + 1, row, i]


# ------------------------------------------------------------------ fields on the heat grid


def _labels(anatomy: Anatomy, frame: Frame) -> npt.NDArray[np.uint8]:
    """The nearest scan voxel's tissue."""
    index = []
    for points, axis in zip(
        (frame.z, frame.y, frame.x),
        (anatomy.frame.z, anatomy.frame.y, anatomy.frame.x),
        strict=True,
    ):
        step = axis[1] - axis[0]
        index.append(np.clip(np.rint((points - axis[0]) / step).astype(int), 0, len(axis) - 1))
    return anatomy.label[np.ix_(*index)]


def _spread(scenario: Scenario, name: str, label: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    values = np.array([getattr(scenario.tissues[t], name) for t in TISSUES], np.float32)
    return values[label]


def _patchiness(scenario: Scenario, label: npt.NDArray[np.uint8]) -> FloatArray:
    """Perfusion varies from place to place: a log-normal field of 8 mm patches."""
    rng = np.random.default_rng(scenario.seed + 7)
    field = ndimage.gaussian_filter(rng.standard_normal(label.shape), 4.0)
    field /= field.std()
    return np.exp(_spread(scenario, "perfusion_spread", label) * field)


def _sink_w_m3_k(scenario: Scenario, needle: Needle, frame: Frame) -> FloatArray:
    """Heat transfer per volume and kelvin: u(s) spread over a cone around the active zone."""
    x, y, z = frame.grid()
    d = direction(needle)
    px, py, pz = x - needle.tip_lps_mm[0], y - needle.tip_lps_mm[1], z - needle.tip_lps_mm[2]
    along = px * d[0] + py * d[1] + pz * d[2]
    aside = np.sqrt(np.maximum(px**2 + py**2 + pz**2 - along**2, 0.0))
    length = scenario.cooling.active_length_mm
    middle = 1.0 - scenario.cooling.end_weakness * (2.0 * along / length - 1.0) ** 2
    u = scenario.cooling.u_w_m_k * np.where((along >= 0) & (along <= length), middle, 0.0)
    density_m2 = 3.0 / (np.pi * (_KERNEL_MM / 1e3) ** 2) * np.maximum(1.0 - aside / _KERNEL_MM, 0.0)
    return np.asarray(u * density_m2, np.float32)
