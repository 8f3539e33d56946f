"""The beam and what it leaves of itself: spectra, attenuation, photon statistics. keV, mm, mAs.

Three materials: water of any density (soft tissue, fat, gas, ice), cortical bone, and the needles'
nickel alloy. The detector adds up energy, not photons. Invariant: without noise, bone and metal,
``water_mm`` of ``signal`` is the water that the ray went through.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from scanner_sim.images import Technique
from scanner_sim.scenario import ScenarioError
from scanner_sim.tomograph.projector import VIEWS, FloatArray, Rays, noise_gain_per_mm

# Source to isocentre; share of the photons that scatter, septa and scintillator leave to count.
_SOURCE_MM, _EFFICIENCY = 570.0, 0.7
# Readout noise of a channel in photons, and the fewest that the logarithm is taken of.
ELECTRONIC_NOISE, FEWEST = 12.0, 1.5
# The bowtie makes up for the missing water outside of a body of this radius, up to a thickness.
_BOWTIE_RADIUS_MM, _BOWTIE_MOST_MM = 160.0, 120.0
_LONGEST_MM = 900.0
PHANTOM_MM = 320.0


@lru_cache
def _tables() -> dict[str, Any]:
    text = (resources.files("scanner_sim") / "data" / "xray.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True)
class Beam:
    """Photons that one ray of a slice starts with, by energy bin."""

    technique: Technique
    rays: Rays
    thickness_mm: float

    @cached_property
    def photons(self) -> FloatArray:
        """Per energy bin and ray, before bowtie and patient."""
        table = _tables()["photons_per_mm2_mas"]
        key = f"{self.technique.kvp:g}"
        if key not in table:
            raise ScenarioError(f"tube voltage {key} kV: expected one of {', '.join(table)}")
        area_mm2 = self.rays.pitch_mm * self.thickness_mm
        per_view_mas = self.technique.mas / VIEWS
        reach = (1000.0 / _SOURCE_MM) ** 2
        return np.array(table[key]) * (_EFFICIENCY * reach * area_mm2 * per_view_mas)

    @cached_property
    def weights(self) -> FloatArray:
        """Share of the detector's signal that each bin has, sum 1."""
        energy = self.photons * np.array(_tables()["bin"]["mean_kev"])
        return (energy / energy.sum()).astype(np.float32)

    @cached_property
    def mu_per_mm(self) -> FloatArray:
        """(water, bone, metal) × bins."""
        mu = _tables()["attenuation_per_mm"]
        return np.array([mu["water"], mu["bone"], mu["metal"]], np.float32)

    @cached_property
    def water_table(self) -> FloatArray:
        """−ln(signal) behind each whole mm of water: the calibration a scanner does on water."""
        depth = np.arange(0.0, _LONGEST_MM)
        return -np.log(np.exp(-np.outer(depth, self.mu_per_mm[0])) @ self.weights)

    @cached_property
    def bowtie_mm(self) -> FloatArray:
        """Water-like filter thickness of each channel."""
        chord = 2.0 * np.sqrt(np.maximum(_BOWTIE_RADIUS_MM**2 - self.rays.offsets_mm**2, 0.0))
        return np.minimum(2.0 * _BOWTIE_RADIUS_MM - chord, _BOWTIE_MOST_MM)

    @cached_property
    def counts(self) -> FloatArray:
        """Photons, weighted as their noise counts, that arrive through air, per channel."""
        kev = np.array(_tables()["bin"]["mean_kev"])
        behind = np.exp(-np.outer(self.bowtie_mm + PHANTOM_MM, self.mu_per_mm[0])) * self.photons
        equivalent = (behind @ kev) ** 2 / (behind @ kev**2)
        share = np.interp(self.bowtie_mm + PHANTOM_MM, np.arange(_LONGEST_MM), self.water_table)
        return np.asarray(equivalent * np.exp(share))

    def open_signal(self) -> FloatArray:
        """−ln of what the bowtie leaves, per channel."""
        return np.interp(self.bowtie_mm, np.arange(_LONGEST_MM), self.water_table)

    def expected_noise_sd_hu(self, kernel: str, phantom_mm: float = PHANTOM_MM) -> float:
        """SD in the middle of a water cylinder; the theory of filtered back-projection."""
        middle = len(self.counts) // 2
        depth = phantom_mm + self.bowtie_mm[middle]
        log_signal = np.interp(depth, np.arange(_LONGEST_MM), self.water_table)
        arriving = self.counts[middle] * np.exp(-log_signal)
        sd = np.sqrt(1.0 / arriving + (ELECTRONIC_NOISE / arriving) ** 2)
        slope = np.interp(depth, np.arange(_LONGEST_MM - 1), np.diff(self.water_table))
        return float(1000.0 * sd / slope * noise_gain_per_mm(self.rays, kernel))


def mas_for_noise(
    noise_sd_hu: float, kvp: float, rotation_s: float, rays: Rays, thickness_mm: float, kernel: str
) -> float:
    """What tube load gives a noise in the middle of 320 mm of water, as automatic exposure does."""
    low, high = 1.0, 5000.0
    for _ in range(60):
        mas = float(np.sqrt(low * high))
        beam = Beam(Technique(kvp, mas, rotation_s), rays, thickness_mm)
        if beam.expected_noise_sd_hu(kernel) > noise_sd_hu:
            low = mas
        else:
            high = mas
    return mas


def measured_water_mm(
    beam: Beam,
    water_mm: FloatArray,
    bone_mm: FloatArray,
    metal_mm: FloatArray | None,
    rng: np.random.Generator | None,
) -> npt.NDArray[np.float32]:
    """What the scanner takes each ray (view, channel) to have crossed, in mm of water, after its
    water calibration. ``metal_mm`` (part, view, channel) are equal parts of the ray's width;
    without ``rng`` there is no noise."""
    log_signal = np.empty(water_mm.shape, np.float32)
    bowtie = beam.bowtie_mm.astype(np.float32)
    table = beam.water_table.astype(np.float32)
    _attenuate(
        water_mm, bone_mm, metal_mm if metal_mm is not None else np.zeros((0, 1, 1), np.float32),
        bowtie, table, beam.weights, beam.mu_per_mm, log_signal,
    )  # fmt: skip
    if rng is not None:
        log_signal = _counted(log_signal, beam.counts.astype(np.float32), rng)
    depth = np.interp(log_signal.ravel(), beam.water_table, np.arange(_LONGEST_MM))
    bowtie_mm = np.interp(beam.open_signal(), beam.water_table, np.arange(_LONGEST_MM))
    return (depth.reshape(log_signal.shape) - bowtie_mm).astype(np.float32)


def _counted(log_signal: FloatArray, counts: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Photons arrive by chance, the readout adds its noise, and few photons are still few."""
    mean = counts * np.exp(-log_signal)
    seen = mean + np.sqrt(mean + np.float32(ELECTRONIC_NOISE**2)) * rng.standard_normal(
        mean.shape, dtype=np.float32
    )
    few = mean < 50.0
    if few.any():
        readout = ELECTRONIC_NOISE * rng.standard_normal(int(few.sum()))
        seen[few] = rng.poisson(mean[few]) + readout
    return np.asarray(-np.log(np.maximum(seen, FEWEST) / counts), np.float32)


@njit(nogil=True, cache=True, fastmath=True)
def _attenuate(
    water: Any, bone: Any, metal: Any, bowtie: Any, table: Any, weights: Any, mu: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """−ln of the energy that arrives, bin by bin where bone or metal is in the way."""
    views, channels = water.shape
    parts, bins = metal.shape[0], weights.shape[0]
    for v in range(views):
        for c in range(channels):
            w = max(water[v, c], np.float32(0.0)) + bowtie[c]
            b = max(bone[v, c], np.float32(0.0))
            crossed = False
            for p in range(parts):
                crossed = crossed or metal[p, v, c] > 0
            if b < np.float32(0.02) and not crossed:
                i = min(int(w), table.shape[0] - 2)
                out[v, c] = table[i] + (w - i) * (table[i + 1] - table[i])
                continue
            total = np.float32(0.0)
            for e in range(bins):
                left = weights[e] * np.exp(-mu[0, e] * w - mu[1, e] * b)
                if crossed:
                    through = np.float32(0.0)
                    for p in range(parts):
                        through += np.exp(-mu[2, e] * metal[p, v, c])
                    left *= through / parts
                total += left
            out[v, c] = -np.log(max(total, np.float32(1e-30)))
