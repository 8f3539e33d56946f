"""A needle that was moved by hand is told, and freezes where it is now. LPS mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.config import Factor, NeedleConfig, NeedleType
from monitor.geometry import Grid
from monitor.imaging.measurement import Reference, _frozen_already, _gone, _in_plan, _told
from monitor.imaging.needle_finding import FoundNeedle
from monitor.imaging.needles import freezing_distance_mm
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline
from monitor.model import IceSegmentation, Status

GRID = Grid((-20.0, -20.0, -20.0), (4.0, 4.0, 4.0), (11, 11, 11))
SHIFT = (0.0, 2.0, -7.0)
NEEDLE = NeedleConfig(
    3,
    NeedleType("test", 1.5, 22.0, -140.0, 60.0, Factor(1.0, 1.3)),
    (0.0, 0.0, 0.0),
    (0.0, -80.0, 0.0),
    1.0,
)
ICE = IceSegmentation("v2", 0.0, GRID, np.ones(GRID.shape_zyx, np.float32),
                      np.ones(GRID.shape_zyx, bool), 0.0, 0.5, 1.0)  # fmt: skip


def carried() -> Registration:
    field = np.empty((3, *GRID.shape_zyx), np.float32)
    field[:] = np.array(SHIFT)[:, None, None, None]
    return Registration(GRID, field, 0.5, 0.9, SHIFT)


def reference(shown: set[int] | None = None) -> Reference:
    """A dark baseline in which those needles are seen."""
    baseline = Baseline("v1", "1.2", GRID, np.zeros(GRID.shape_zyx, np.float32))
    return Reference(baseline, None, (NEEDLE,), frozenset(shown or ()), (NEEDLE,))  # type: ignore[arg-type]


def retracted(mm: float, found: bool = True) -> FoundNeedle:
    tip = (SHIFT[0], SHIFT[1] - mm, SHIFT[2])
    return FoundNeedle(3, tip, (0.0, -1.0, 0.0), found, 1.0, mm)


@pytest.mark.requirement("REQ-NEEDLES")
@pytest.mark.parametrize(("retracted_mm", "told"), [(0.0, False), (2.0, False), (8.0, True)])
def test_a_needle_moved_against_the_tissue_is_told(retracted_mm: float, told: bool) -> None:
    found = [retracted(retracted_mm)]
    (there,) = _in_plan(found, reference(), carried())
    expected = -retracted_mm if told else 0.0
    assert there.tip_lps_mm == pytest.approx((0.0, expected, 0.0), abs=0.05)
    ice = _told(ICE, found, replace(reference(), placed=(there,)))
    assert ("needle_moved" in [r.code for r in ice.reasons]) == told
    assert ice.status is (Status.DEGRADED if told else Status.OK)


def test_a_moved_needle_stays_in_its_new_place_until_it_is_moved_again() -> None:
    (there,) = _in_plan([retracted(8.0)], reference(), carried())
    after = replace(reference(), placed=(there,))
    for later in (retracted(8.4), retracted(8.0, found=False)):  # its error; not found
        assert _in_plan([later], after, carried()) == (there,)
    assert _in_plan([retracted(0.4)], after, carried()) == (NEEDLE,)  # back again
    (again,) = _in_plan([retracted(14.0)], after, carried())
    assert again.tip_lps_mm == pytest.approx((0.0, -14.0, 0.0), abs=0.05)


@pytest.mark.requirement("REQ-NEEDLES")
def test_a_needle_that_the_scan_does_not_show_is_told() -> None:
    lost = FoundNeedle(3, SHIFT, (0.0, -1.0, 0.0), False, 0.0, 0.0)
    ice = _told(ICE, [lost], reference())
    assert [r.code for r in ice.reasons] == ["needle_not_found"]
    assert ice.status is Status.DEGRADED


@pytest.mark.parametrize(
    ("in_baseline", "looked", "gone"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_metal_that_the_scan_lacks_is_no_ice(in_baseline: bool, looked: bool, gone: bool) -> None:
    lost = FoundNeedle(3, SHIFT, (0.0, -1.0, 0.0), False, 0.0, 0.0)
    ice = replace(ICE, known=np.full(GRID.shape_zyx, looked))
    reason = _gone(ice, [lost], reference({3} if in_baseline else set()))
    assert (reason is not None and reason.code == "needle_gone") == gone


@pytest.mark.requirement("REQ-BASELINE")
@pytest.mark.parametrize(("near_hu", "doubted"), [(50.0, False), (20.0, False), (-10.0, True)])
def test_a_baseline_that_looks_frozen_is_doubted(near_hu: float, doubted: bool) -> None:
    """A lesion may be darker than the liver; ice is darker than any."""
    grid = Grid((-30.0, -30.0, -30.0), (1.0, 1.0, 1.0), (61, 61, 61))
    near = freezing_distance_mm(grid, [NEEDLE]) < 9.0
    hu = np.where(near, near_hu, 50.0).astype(np.float32)
    reasons = _frozen_already(Baseline("v1", "1.2", grid, hu), (NEEDLE,))
    assert [r.code for r in reasons] == ["baseline_frozen"] * doubted
    ice = _told(ICE, [], replace(reference(), needles=(), placed=(), reasons=reasons))
    assert (ice.status is Status.DEGRADED) == doubted
