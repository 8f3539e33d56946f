"""What the forecast is unsure of: an ensemble of parameters.

``theta`` is (member, parameter): logarithms of what multiplies perfusion, latent heat and frozen
conductivity, °C that shift the blood's temperature, then logarithms again for the cooling of each
needle. Invariant: the first member of a problem is the ensemble's mean, the nominal course; the
others are the ensemble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gpu_kernels.engine import Members
from monitor.config import Config, Factor
from monitor.model import FloatArray

# The engine's error target for an ensemble: its edges move by 0.07 mm at most, in half the time.
MOST_LATENT = 4.0

# Perfusion, latent heat, frozen conductivity and the blood's temperature come before the needles.
TISSUE_PARAMETERS = 4
_BLOOD = 3


@dataclass(frozen=True)
class Prior:
    """(mean, SD) of each parameter before any scan, ``cooling`` for each needle, and how many
    members there are. Logarithms of multipliers; ``blood_degc``: a shift of the blood's temperature."""

    cooling: tuple[tuple[float, float], ...]
    perfusion: tuple[float, float]
    latent_heat: tuple[float, float]
    k_frozen: tuple[float, float]
    # Patients cool under sedation, and the tissue at hand more than their core.
    blood_degc: tuple[float, float] = (0.0, 1.0)
    # From needle to needle.
    each_needle_sd: float = 0.12
    # Three to four for each parameter that a case with four needles has; as many as the time allows.
    members: int = 24


def prior_of(config: Config) -> Prior:
    """What the presets of organ and needles say."""
    organ = config.organ
    return Prior(
        cooling=tuple(_log(n.type.cooling) for n in config.needles),
        perfusion=_log(organ.perfusion),
        latent_heat=_log(organ.latent_heat),
        k_frozen=_log(organ.k_frozen),
    )


def _log(factor: Factor) -> tuple[float, float]:
    return math.log(factor.median), math.log(factor.spread)


def drawn(prior: Prior, seed: int = 1) -> FloatArray:
    """The ensemble before any scan: its mean and spread are the prior's exactly."""
    needles = len(prior.cooling)
    z = np.random.default_rng(seed).normal(size=(prior.members, TISSUE_PARAMETERS + 1 + needles))
    z = (z - z.mean(0)) / z.std(0)
    tissue = (prior.perfusion, prior.latent_heat, prior.k_frozen, prior.blood_degc)
    theta = np.empty((prior.members, TISSUE_PARAMETERS + needles))
    for column, (mean, sd) in enumerate(tissue):
        theta[:, column] = mean + sd * z[:, column]
    common = z[:, TISSUE_PARAMETERS]
    for n, (mean, sd) in enumerate(prior.cooling):
        own = prior.each_needle_sd * z[:, TISSUE_PARAMETERS + 1 + n]
        theta[:, TISSUE_PARAMETERS + n] = mean + sd * common + own
    return theta


def members(theta: FloatArray) -> Members:
    """The mean, then every member, as the engine takes them."""
    return _as_members(np.vstack([theta.mean(0), theta]))


def mean(theta: FloatArray) -> Members:
    """The mean alone."""
    return _as_members(theta.mean(0, keepdims=True))


def _as_members(rows: FloatArray) -> Members:
    factors = np.exp(rows)
    perfusion, latent, frozen = (tuple(map(float, factors[:, i])) for i in range(_BLOOD))
    cooling = tuple(tuple(map(float, row)) for row in factors[:, TISSUE_PARAMETERS:])
    return Members(perfusion, latent, frozen, cooling, tuple(map(float, rows[:, _BLOOD])))
