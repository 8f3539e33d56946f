"""One step of an ensemble smoother with multiple data assimilation (Emerick & Reynolds 2013).

θ_j ← θ_j + C_θd (C_dd + αR)⁻¹ (d + √α R^½ ξ_j − G_j), Σ 1/α = 1 over the steps. Solved in the space of
the ensemble, so that many observations cost little. Invariant: nothing observed changes nothing.
"""

from __future__ import annotations

import numpy as np

from monitor.model import FloatArray


def updated(
    theta: FloatArray,
    predicted: FloatArray,
    observed: FloatArray,
    variance: FloatArray,
    alpha: float,
    rng: np.random.Generator,
) -> FloatArray:
    """``theta`` (member, parameter) after observing. ``predicted`` (member, n) is what each member
    predicts of ``observed`` (n,), whose errors have ``variance`` (n,)."""
    count = len(theta)
    if count < 2 or predicted.shape != (count, len(observed)):
        raise ValueError(
            f"predicted: expected shape ({count}, {len(observed)}) with 2 members or more, "
            f"got {predicted.shape}"
        )
    sd = np.sqrt(alpha * variance)
    noise = rng.normal(size=predicted.shape)
    noise -= noise.mean(0)
    innovation = (observed - predicted) / sd + noise
    spread = (predicted - predicted.mean(0)) / sd
    u, s, vt = np.linalg.svd(spread, full_matrices=False)  # (member, k), (k,), (k, n)
    gain = s / (s**2 + (count - 1))
    weights = (innovation @ vt.T) * gain @ u.T  # (member, member)
    return np.asarray(theta + weights @ (theta - theta.mean(0)))
