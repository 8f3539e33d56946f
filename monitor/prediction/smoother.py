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
    variance: FloatArray,
    alpha: float,
    rng: np.random.Generator,
    shared: FloatArray | None = None,
) -> FloatArray:
    """``theta`` (member, parameter) after observing zeros. ``predicted`` (member, n) is what each member
    predicts of them; their errors have ``variance`` (n,), and go together along the columns of
    ``shared`` (n, k), each with a standard deviation of one: R = diag(variance) + shared sharedᵀ."""
    count = len(theta)
    if count < 2 or predicted.shape != (count, len(variance)):
        raise ValueError(
            f"predicted: expected shape ({count}, {len(variance)}) with 2 members or more, "
            f"got {predicted.shape}"
        )
    white = _whitened(predicted / np.sqrt(variance), variance, shared) / np.sqrt(alpha)
    noise = rng.normal(size=predicted.shape)
    noise -= noise.mean(0)
    innovation = noise - white
    u, s, vt = np.linalg.svd(
        white - white.mean(0), full_matrices=False
    )  # (member, k), (k,), (k, n)
    gain = s / (s**2 + (count - 1))
    weights = (innovation @ vt.T) * gain @ u.T  # (member, member)
    return np.asarray(theta + weights @ (theta - theta.mean(0)))


def _whitened(scaled: FloatArray, variance: FloatArray, shared: FloatArray | None) -> FloatArray:
    """Rows whose errors are independent of variance one: those of ``scaled`` have that but for
    ``shared``. (1 + M Mᵀ)^-½ = 1 + U((1 + S²)^-½ − 1)Uᵀ with M = U S Vᵀ."""
    if shared is None or not shared.size:
        return scaled
    u, s, _ = np.linalg.svd(shared / np.sqrt(variance)[:, None], full_matrices=False)
    return np.asarray(scaled + ((scaled @ u) * (1.0 / np.sqrt(1.0 + s**2) - 1.0)) @ u.T)
