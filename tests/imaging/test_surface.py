"""The surface fit on evidence of known shape: noise, gaps, needles that fail. mm, HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from monitor.imaging.surface import Edge, Evidence, _doubled, _halved, fit_edge

SHAPE, DROP_HU, NOISE_HU = (70, 72, 74), 65.0, 13.0
Z, Y, X = np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE), indexing="ij")


def segment_mm(y0: float, half_mm: float = 10.0) -> np.ndarray:
    """Distance to an active zone along x at y0."""
    along = np.abs(X) - half_mm
    return np.sqrt(np.maximum(along, 0.0) ** 2 + (Y - y0) ** 2 + Z**2)


def evidence(ice: np.ndarray, distance: np.ndarray, seed: int = 1) -> Evidence:
    """A picture of ice: blurred, with correlated noise."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 0.7)
    drop = DROP_HU * ndimage.gaussian_filter(ice.astype(float), 1.1)
    drop += NOISE_HU * noise / noise.std()
    full = np.full(SHAPE, np.float32(DROP_HU))
    weight = np.full(SHAPE, np.float32(NOISE_HU**-2))
    return Evidence(1.0, distance.astype(np.float32), drop.astype(np.float32), full, weight)


def errors_mm(edge: Edge, distance: np.ndarray, ice: np.ndarray) -> np.ndarray:
    """R − distance at the voxels on the true surface."""
    surface = ice & ~ndimage.binary_erosion(ice)
    return (edge.radius_mm - distance)[surface] - 0.5


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_an_egg_in_noise_is_found_to_a_third_of_a_millimetre() -> None:
    distance = segment_mm(0.0)
    ice = (X / 19.0) ** 2 + (Y / 12.0) ** 2 + (Z / 11.0) ** 2 < 1
    edge = fit_edge(evidence(ice, distance))
    assert dice(edge.radius_mm > distance, ice) > 0.96
    assert abs(np.median(errors_mm(edge, distance, ice))) < 0.35
    assert edge.gain > 5000


def test_darkness_beyond_what_shows_nothing_is_not_ice() -> None:
    """A nodule in lung: its ice shows, then nothing does, and beyond that the chest wall is darker."""
    distance = segment_mm(0.0)
    e = evidence(distance < 7.0, distance)
    blind = (distance > 9.0) & (distance < 19.0)
    drop = np.where(distance > 19.0, np.float32(DROP_HU), e.drop_hu)
    edge = fit_edge(replace(e, drop_hu=drop, weight=np.where(blind, np.float32(0.0), e.weight)))
    assert dice(edge.radius_mm > distance, distance < 7.0) > 0.9


def test_two_balls_that_have_not_met_and_a_needle_that_failed() -> None:
    distance = np.minimum(segment_mm(-14.0), segment_mm(14.0))
    one = segment_mm(-14.0) < 8.0
    both = one | (segment_mm(14.0) < 8.0)
    for ice in (one, both):
        edge = fit_edge(evidence(ice, distance))
        assert dice(edge.radius_mm > distance, ice) > 0.93


def test_where_nothing_shows_the_surface_goes_on_and_says_how_unsure_it_is() -> None:
    distance = segment_mm(0.0)
    ice = distance < 11.0
    seen = evidence(ice, distance)
    hidden = Y > 3.0
    blind = replace(
        seen,
        contrast_hu=np.where(hidden, 0.0, seen.contrast_hu).astype(np.float32),
        weight=np.where(hidden, 0.0, seen.weight).astype(np.float32),
    )
    edge = fit_edge(blind)
    assert dice(edge.radius_mm > distance, ice) > 0.93
    on = np.abs(distance - 11.0) < 0.5
    assert np.median(edge.sd_mm[on & (Y > 8.0)]) > 0.9
    assert np.median(edge.sd_mm[on & (Y < -3.0)]) < 0.5


def test_no_ice_is_no_ice() -> None:
    distance = segment_mm(0.0)
    for seed in range(4):
        edge = fit_edge(evidence(np.zeros(SHAPE, bool), distance, seed))
        assert edge.gain < 40.0 or (edge.radius_mm > distance).sum() < 150


def test_half_the_resolution_and_back_keeps_a_plane() -> None:
    plane = (2.0 * X + Y - 0.5 * Z).astype(np.float32)
    e = Evidence(1.0, plane, plane, plane, np.ones(SHAPE, np.float32))
    back = _doubled(_halved(e).distance_mm, SHAPE)
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(back[inside], plane[inside], atol=1e-3)
