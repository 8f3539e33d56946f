"""Re-anchoring: the model's edge goes where the measurement is, and nowhere else."""

import numpy as np
import pytest

from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.prediction.anchor import anchored_temperature_degc

GRID = Grid((-30.0, -30.0, -30.0), (2.0, 2.0, 2.0), (31, 31, 31))
RADIUS = np.linalg.norm(GRID.points_lps_mm(), axis=-1)


def model(radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth cold ball: 4 °C per mm at its edge (half frozen at −4.5 °C)."""
    temperature = np.clip(-4.5 + 4.0 * (RADIUS - radius_mm), -140.0, 37.0).astype(np.float32)
    return temperature, np.clip((-1.0 - temperature) / 7.0, 0.0, 1.0).astype(np.float32)


def edge_radius_mm(temperature: np.ndarray) -> float:
    sdf = signed_distance_mm(temperature + 4.5, GRID)
    near = np.abs(sdf) < 2.0
    return float(np.mean(RADIUS[near] - sdf[near]))


@pytest.mark.parametrize("measured_mm", [9.0, 12.0, 15.0])
def test_edge_moves_onto_the_measurement(measured_mm: float) -> None:
    temperature, fraction = model(12.0)
    measured = (RADIUS - measured_mm).astype(np.float32)
    moved = anchored_temperature_degc(temperature, fraction, measured, GRID, -0.9)
    assert edge_radius_mm(moved) == pytest.approx(measured_mm, abs=0.35)


def test_agreement_changes_nothing() -> None:
    temperature, fraction = model(12.0)
    sdf = signed_distance_mm(0.5 - fraction, GRID)
    moved = anchored_temperature_degc(temperature, fraction, sdf, GRID, -0.9)
    np.testing.assert_allclose(moved, temperature, atol=1e-3)


def test_no_ice_measured_thaws_what_the_model_froze() -> None:
    temperature, fraction = model(12.0)
    none = np.full(GRID.shape_zyx, np.inf, np.float32)
    moved = anchored_temperature_degc(temperature, fraction, none, GRID, -0.9)
    assert moved[fraction > 0.5].min() == pytest.approx(-0.9)
    np.testing.assert_array_equal(moved[fraction <= 0.5], temperature[fraction <= 0.5])
