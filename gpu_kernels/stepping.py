"""How far to step. Seconds of problem time.

The error of a super-time-step sits at the freezing front, where conductivity and heat capacity jump:
a step may move the front by a share of a voxel only. So before each step the engine evaluates
∂H/∂t and lets no voxel gain or lose more than ``MOST_LATENT`` of its latent heat. Right after the
needles change, when nothing moves yet, the time since then bounds the step instead.
Invariant: a step never crosses a change in the needles' drive or the time asked for; it depends on
the field and on time only, not on where earlier calls stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gpu_kernels.engine import FloatArray
from gpu_kernels.law import Table

# Measured against a fine run. P1 (1 mm, 600 s): 0.4 → radii off by 0.001 mm, 0.8 → 0.004, 2 → 0.024.
# One needle, 2 mm, 600 s: 0.024, 0.029, 0.003 mm; after 120 s 0.031, 0.057, 0.155 mm. Four tissues,
# three kinds of needle, 300 s: 0.08, 0.15, 0.30 °C rms, ice volume 0.15, 0.46, 0.46 %.
MOST_LATENT = 0.8
# How far heat gets in a step, in units of √(4ατ): a step of temperature to 4e-4 of its height, and what
# has already spread, whose edge moves little.
_FIRST_REACH, _REACH = 2.5, 1.5
# The growth below was measured with this much.
_USUAL_LATENT = 0.8
# Tissue with less (an eighth of pure water's) has no front worth following.
_LEAST_LATENT_J_M3 = 4e7
_GROWTH = 0.125
_SHORTEST_S = 0.75
_LONGEST_S = 30.0
SAME_S = 1e-9
# Heat flows where it changes a voxel by more than this in a step, °C.
STILL_DEGC = 5e-3


def per_latent(parameters: Table) -> FloatArray:
    """1/J per m³, (member, tissue): what the largest |∂H/∂t| is weighed with."""
    return 1.0 / np.maximum(parameters.latent, _LEAST_LATENT_J_M3)


def reach_m(tau_s: float, diffusivity_m2_s: float, first: bool) -> float:
    """How far beyond where heat flows it may get in a step; ``first`` of a run, when the field may
    have steps in it."""
    return (_FIRST_REACH if first else _REACH) * math.sqrt(4.0 * diffusivity_m2_s * tau_s)


def diffusivities_m2_s(parameters: Table) -> FloatArray:
    """The largest in thawed tissue, and the largest at all."""
    thawed = (parameters.k_unfrozen * parameters.per_cu).max()
    return np.array([thawed, max(thawed, (parameters.k_frozen * parameters.per_cf).max())])


def next_change(
    changes_s: Sequence[float] | FloatArray, time_s: float, until_s: float
) -> tuple[float, float]:
    """Until when nothing that is driven changes its course, and since when it has not (infinite
    before the first change)."""
    since_s, end_s = math.inf, until_s
    for at_s in changes_s:
        if at_s <= time_s + SAME_S:
            since_s = time_s - at_s
        elif at_s < end_s:
            end_s = at_s
    return end_s, since_s


def step_s(
    time_s: float,
    end_s: float,
    since_s: float,
    fastest_per_s: float,
    euler_s: float,
    longest_s: float,
    most_latent: float = MOST_LATENT,
) -> float:
    """The next step towards ``end_s``, where the needles next change or the run ends; ``since_s``
    they last did. ``fastest_per_s`` is the largest |∂H/∂t| as a share of latent heat. Below two Euler
    steps nothing is gained, since three stages are the fewest; ``longest_s`` is what the most stages
    allow."""
    tighter = most_latent / _USUAL_LATENT
    bound_s = tighter * min(max(_GROWTH * since_s, _SHORTEST_S), _LONGEST_S)
    error_s = most_latent / max(fastest_per_s, 1e-12)
    step = min(max(min(bound_s, error_s), 2.0 * euler_s), longest_s)
    return (end_s - time_s) / max(1.0, math.ceil((end_s - time_s) / step - 1e-6))
