"""The scans that a screen can look back at. LPS mm, ml."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monitor.geometry import Grid, SliceGeometry
from monitor.model import Assessment, IceSegmentation, Status
from monitor.publish import Shared, with_scan
from monitor.snapshot import ArrayRef

GRID = Grid((-15.0, -15.0, -15.0), (1.0, 1.0, 1.0), (31, 31, 31))
GEOMETRY = SliceGeometry(
    (0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    1.0,
    1.0,
    (0.0, 3.0),
    3.0,
    9,
    9,
)


def ball(radius_mm: float) -> Any:
    return (np.linalg.norm(GRID.points_lps_mm(), axis=-1) - radius_mm).astype(np.float32)


def state(volume_id: str, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Any:
    """As much of a procedure's state as a past scan is made from."""
    a = Assessment(
        volume_id,
        100.0,
        Status.OK,
        (),
        0.9,
        0.8,
        5.0,
        -1.0,
        (1.0, 2.0, 3.0),
        0.8,
        4.2,
        (),
        (60.0, 90.0),
    )
    ice = IceSegmentation(
        volume_id, 100.0, GRID, ball(10.0), np.ones(GRID.shape_zyx, bool), 4.2, 0.5, 1.0,
        inner_sdf_mm=ball(9.0), outer_sdf_mm=ball(11.0),
    )  # fmt: skip
    volume = SimpleNamespace(volume_id=volume_id, geometry=GEOMETRY)
    registration = SimpleNamespace(shift_lps_mm=shift)
    return SimpleNamespace(assessment=a, ice=ice, volume=volume, registration=registration)


PROCEDURE: Any = SimpleNamespace(draft=False, analysis_grid=GRID)
SHARED = Shared(volume=ArrayRef("volume.npy"), ice_sdf=ArrayRef("ice.npy"))


def test_a_scan_is_kept_where_the_target_lay_in_it_with_the_volume_of_its_bounds() -> None:
    (scan,) = with_scan((), state("v002", (2.0, 0.0, -3.0)), SHARED, PROCEDURE)
    assert scan.analysis_grid.origin_lps_mm == (-13.0, -15.0, -18.0)
    assert scan.assessment.min_margin_at_lps_mm == (3.0, 2.0, 0.0)
    assert scan.assessment.time_to_margin_s is None, "a time to go is none of a past scan's"
    assert scan.volume_ml == pytest.approx([4 / 3 * np.pi * r**3 / 1000 for r in (9, 11)], rel=0.02)
    assert scan.ice_sdf == ArrayRef("ice.npy")


def test_a_revision_takes_the_place_of_its_scan_and_the_order_stays() -> None:
    scans: Any = ()
    for volume_id in ("v001", "v002", "v003", "v003r2", "v004"):
        scans = with_scan(scans, state(volume_id), SHARED, PROCEDURE)
    assert [p.assessment.volume_id for p in scans] == ["v001", "v002", "v003r2", "v004"]


def test_nothing_is_kept_of_a_scan_that_has_not_been_assessed() -> None:
    later = state("v002")
    later.assessment = replace(later.assessment, volume_id="v001")
    assert with_scan((), later, SHARED, PROCEDURE) == ()


def test_the_baseline_is_never_pushed_out() -> None:
    scans: Any = ()
    for i in range(1, 90):
        scans = with_scan(scans, state(f"v{i:03d}"), SHARED, PROCEDURE)
    assert scans[0].assessment.volume_id == "v001"
    assert scans[-1].assessment.volume_id == "v089"
    assert len(scans) < 70
