"""What the forecast is unsure of: an ensemble of parameters, as logarithms of multipliers.

``theta`` is (member, parameter): perfusion, latent heat, frozen conductivity, then the cooling of each
needle. Invariant: the first member of a problem is the ensemble's mean, the nominal course; the
others are the ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_kernels.engine import Members
from monitor.model import FloatArray

# The engine's error target for an ensemble: its edges move by 0.07 mm at most, in half the time.
MOST_LATENT = 4.0

# Perfusion, latent heat, frozen conductivity come before the needles.
TISSUE_PARAMETERS = 3


@dataclass(frozen=True)
class Prior:
    """(mean, SD) of each logarithm before any scan, and how many members there are."""

    # Within a factor of what tables give; tumours and inflamed tissue more, treated tissue less.
    perfusion: tuple[float, float] = (0.0, 0.5)
    # 140-250 kJ/kg in print for soft tissue.
    latent_heat: tuple[float, float] = (0.0, 0.12)
    # 1.6-2.2 W/m/K in print.
    k_frozen: tuple[float, float] = (0.0, 0.12)
    # The shaft is modelled at the cryogen's temperature; a real one draws less (tuning scenarios: 0.2-0.9).
    cooling: tuple[float, float] = (-0.3, 0.3)
    # From needle to needle.
    each_needle_sd: float = 0.12
    # Three to four for each parameter that a case with four needles has; as many as the time allows.
    members: int = 24


def drawn(needles: int, prior: Prior, seed: int = 1) -> FloatArray:
    """The ensemble before any scan: its mean and spread are the prior's exactly."""
    z = np.random.default_rng(seed).normal(size=(prior.members, TISSUE_PARAMETERS + 1 + needles))
    z = (z - z.mean(0)) / z.std(0)
    tissue = [prior.perfusion, prior.latent_heat, prior.k_frozen]
    theta = np.empty((prior.members, TISSUE_PARAMETERS + needles))
    for column, (mean, sd) in enumerate(tissue):
        theta[:, column] = mean + sd * z[:, column]
    common = prior.cooling[0] + prior.cooling[1] * z[:, TISSUE_PARAMETERS]
    own = prior.each_needle_sd * z[:, TISSUE_PARAMETERS + 1 :]
    theta[:, TISSUE_PARAMETERS:] = common[:, None] + own
    return theta


def members(theta: FloatArray) -> Members:
    """The mean, then every member, as the engine takes them."""
    return _as_members(np.vstack([theta.mean(0), theta]))


def mean(theta: FloatArray) -> Members:
    """The mean alone."""
    return _as_members(theta.mean(0, keepdims=True))


def _as_members(rows: FloatArray) -> Members:
    factors = np.exp(rows)
    perfusion, latent, frozen = (tuple(map(float, factors[:, i])) for i in range(3))
    cooling = tuple(tuple(map(float, row)) for row in factors[:, TISSUE_PARAMETERS:])
    return Members(perfusion, latent, frozen, cooling)
