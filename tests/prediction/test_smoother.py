"""The smoother against the exact answer of a linear Gaussian problem."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.prediction.smoother import updated

SLOPES = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
OBSERVED, VARIANCE = np.array([0.5, 1.5, 1.2]), np.array([0.1, 0.2, 0.3])


def prior(count: int) -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(count, 2))
    return (z - z.mean(0)) / z.std(0) * [1.0, 0.5] + [0.0, 1.0]


@pytest.mark.parametrize("shared", [None, np.array([[0.3, 0.0], [-0.5, 0.1], [0.0, 0.4]])])
@pytest.mark.parametrize("alphas", [(1.0,), (2.0, 2.0), (4.0, 4.0, 4.0, 4.0)])
def test_it_is_kalmans_answer_where_that_is_exact(
    alphas: tuple[float, ...], shared: np.ndarray | None
) -> None:
    theta, rng = prior(6000), np.random.default_rng(1)
    for alpha in alphas:
        theta = updated(theta, theta @ SLOPES.T - OBSERVED, VARIANCE, alpha, rng, shared)
    before = np.diag([1.0, 0.25])
    errors = np.diag(VARIANCE) + (0.0 if shared is None else shared @ shared.T)
    gain = before @ SLOPES.T @ np.linalg.inv(SLOPES @ before @ SLOPES.T + errors)
    mean = np.array([0.0, 1.0]) + gain @ (OBSERVED - SLOPES @ [0.0, 1.0])
    np.testing.assert_allclose(theta.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(theta.T), before - gain @ SLOPES @ before, atol=0.01)


def test_what_says_nothing_changes_nothing() -> None:
    theta = prior(24)
    blind = np.zeros((24, 3))
    same = updated(theta, blind, VARIANCE, 1.0, np.random.default_rng(2))
    np.testing.assert_allclose(same, theta, atol=1e-9)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(24, 3\)"):
        updated(prior(24), np.zeros((23, 3)), VARIANCE, 1.0, np.random.default_rng(2))
