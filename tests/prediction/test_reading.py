"""Where the ice of a coarse model ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from monitor.geometry import Grid
from monitor.imaging.distance import sample, signed_distance_mm
from monitor.prediction.reading import ice_of, read
from tests.prediction.ice_of_two_needles import ENGINE, GRID, TRUTH, problem


def test_at_a_voxel_ice_is_what_is_more_than_half_frozen() -> None:
    p = problem(TRUTH)
    state = ENGINE.advance(p, ENGINE.initial(p, 37.0), 240.0)
    fraction = np.asarray(ENGINE.frozen_fraction(p, state))
    degc, ice = read(p, state, ENGINE)
    assert ((ice >= 0.5) == (fraction >= 0.5)).all()
    assert degc.shape == ice.shape == (1, *GRID.shape_zyx)
    assert ice.min() < -1.0  # without bounds: how warm the rest is tells how far it is


def test_the_edge_on_wide_voxels_is_nearer_to_that_on_narrow_ones_than_the_shares() -> None:
    fine = Grid(GRID.origin_lps_mm, (1.5, 1.5, 1.5), (41, 41, 41))
    wide = problem(TRUTH)
    narrow = replace(wide, label_zyx=np.zeros(fine.shape_zyx, np.uint8), spacing_mm=fine.spacing_mm)
    coarse, true = (ENGINE.initial(p, 37.0) for p in (wide, narrow))
    mine, shares = [], []
    for at_s in (120.0, 240.0, 360.0, 480.0):
        coarse, true = ENGINE.advance(wide, coarse, at_s), ENGINE.advance(narrow, true, at_s)
        true_mm = signed_distance_mm(0.5 - ice_of(narrow, true, ENGINE)[0], fine)
        edge = fine.points_lps_mm()[np.abs(true_mm) < 0.5]
        share = np.asarray(ENGINE.frozen_fraction(wide, coarse)[0], np.float32)
        for level, off in ((ice_of(wide, coarse, ENGINE)[0], mine), (share, shares)):
            found_mm = sample(signed_distance_mm(0.5 - level, GRID), GRID, edge, outside=np.nan)
            off.append(float(np.std(found_mm - sample(true_mm, fine, edge, outside=np.nan))))
    assert np.mean(mine) < 0.95 * np.mean(shares)
