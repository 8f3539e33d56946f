"""The benchmark's own scores on bodies whose scores are known: spheres. mm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.benchmark import imaging, report, scores
from monitor.benchmark.imaging import Row
from monitor.benchmark.truth import (
    BenchmarkError,
    ScanTruth,
    TrueMotion,
    frozen_minutes,
    open_scenario,
)
from monitor.config import PhaseConfig, ProtocolConfig
from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.distance import volume_ml
from monitor.imaging.measurement import Measurement, Reference
from monitor.imaging.needle_finding import FoundNeedle
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline
from monitor.model import CtVolume, IceSegmentation, PhaseKind, Reason, Status
from monitor.opening import open_case
from monitor.procedure import Procedure
from monitor.snapshot import NeedleLine

GRID = Grid((-20.0, -20.0, -20.0), (1.0, 1.0, 1.0), (41, 41, 41))
EVERYWHERE = np.ones(GRID.shape_zyx, bool)


def ball(radius_mm: float, centre=(0.0, 0.0, 0.0), grid: Grid = GRID) -> np.ndarray:
    """Signed distance of a sphere."""
    return np.linalg.norm(grid.points_lps_mm() - np.array(centre), axis=-1) - radius_mm


def errors(a: np.ndarray, b: np.ndarray, grid: Grid = GRID) -> scores.SurfaceError:
    one, other = scores.surface(a, grid), scores.surface(b, grid)
    return scores.surface_error(
        one, other, *(np.ones(len(s.areas_mm2), bool) for s in (one, other))
    )


# ------------------------------------------------------------------ overlap


def test_dice_of_concentric_spheres() -> None:
    expected = 2 * 10.0**3 / (10.0**3 + 12.0**3)
    found = scores.dice(ball(10.0) <= 0, ball(12.0) <= 0, EVERYWHERE)
    assert found == pytest.approx(expected, abs=0.005)
    assert scores.dice(ball(9.0) <= 0, ball(9.0) <= 0, EVERYWHERE) == 1.0
    apart = ball(4.0, (-8.0, 0.0, 0.0)) <= 0, ball(4.0, (8.0, 0.0, 0.0)) <= 0
    assert scores.dice(*apart, EVERYWHERE) == 0.0


def test_dice_counts_only_where_it_is_asked_and_knows_when_there_is_nothing() -> None:
    small, large = ball(8.0) <= 0, ball(12.0) <= 0
    assert scores.dice(small, large, small) == 1.0
    assert np.isnan(scores.dice(small, large, ball(15.0) > 0))


def test_volume_error_of_spheres() -> None:
    found = scores.volume_error_percent(ball(11.0) <= 0, ball(10.0) <= 0, EVERYWHERE)
    assert found == pytest.approx(100 * (1.1**3 - 1), abs=1.0)
    assert np.isnan(scores.volume_error_percent(ball(5.0) <= 0, ball(5.0) > 99, EVERYWHERE))


# ------------------------------------------------------------------ surfaces


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 2.0)])
def test_the_areas_of_a_surface_are_those_of_the_sphere(spacing: tuple) -> None:
    grid = Grid((-18.0, -18.0, -18.0), spacing, tuple(round(36 / s) + 1 for s in spacing[::-1]))
    found = scores.surface(ball(12.0, (0.3, -0.2, 0.4), grid), grid)
    assert found.areas_mm2.sum() == pytest.approx(4 * np.pi * 12.0**2, rel=0.01)
    out = found.points_lps_mm - (0.3, -0.2, 0.4)
    assert np.linalg.norm(out, axis=1) == pytest.approx(12.0, abs=0.05)
    assert np.einsum("ij,ij->i", out, found.normals).min() > 11.8


@pytest.mark.parametrize("gap_mm", [0.0, 0.25, 1.0, 3.0])
def test_concentric_spheres_are_as_far_apart_as_their_radii(gap_mm: float) -> None:
    """Also when that is less than a voxel: points of a mask would be half a voxel apart at best."""
    found = errors(ball(10.0 + gap_mm), ball(10.0))
    assert found.mean_mm == pytest.approx(gap_mm, abs=0.03)
    assert found.p95_mm == pytest.approx(gap_mm, abs=0.06)


def test_a_sphere_moved_aside() -> None:
    """Each point of the one is |d cos θ| from the other: half of d on average, 0.95 d at 95 %."""
    found = errors(ball(12.0, (1.0, 0.0, 0.0)), ball(12.0, (-1.0, 0.0, 0.0)))
    assert found.mean_mm == pytest.approx(1.0, abs=0.05)
    assert found.p95_mm == pytest.approx(1.9, abs=0.05)


def test_only_points_that_count_are_asked_but_all_may_be_nearest() -> None:
    one, other = scores.surface(ball(11.0), GRID), scores.surface(ball(10.0), GRID)
    upper, lower = one.points_lps_mm[:, 2] > 0, other.points_lps_mm[:, 2] < 0
    assert scores.surface_error(one, other, upper, lower).mean_mm == pytest.approx(1.0, abs=0.03)
    nothing = np.zeros(len(one.areas_mm2), bool)
    assert np.isnan(scores.surface_error(one, other, nothing, lower).mean_mm)


def test_no_ice_has_no_surface() -> None:
    empty = scores.surface(np.full(GRID.shape_zyx, np.inf), GRID)
    assert len(empty.areas_mm2) == 0
    assert np.isnan(scores.distance_mm(np.zeros((2, 3)), empty)).all()


def test_the_share_between_two_surfaces() -> None:
    true = scores.surface(ball(10.0, (1.0, 0.0, 0.0)), GRID)
    at = np.linalg.norm(true.points_lps_mm, axis=1)
    assert scores.between_share(at - 8.9, at - 11.1, true.areas_mm2) == 1.0
    assert scores.between_share(at - 11.1, at - 12.0, true.areas_mm2) == 0.0
    # |p| runs from 9 to 11; between 9 and 10 is half of the sphere, but for its curvature.
    assert scores.between_share(at - 8.9, at - 10.0, true.areas_mm2) == pytest.approx(
        0.475, abs=0.02
    )


def test_weights_count_in_a_percentile() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 90.0, 9.0])
    assert scores.weighted_percentile(values, weights, 50.0) == 1.0
    assert scores.weighted_percentile(values, weights, 95.0) == 2.0
    assert scores.weighted_percentile(values, weights, 100.0) == 3.0


def test_needles() -> None:
    tip, turned = np.array([1.0, 2.0, 3.0]), np.array([np.sin(0.02), 0.0, np.cos(0.02)])
    found = scores.needle_error(
        tip + (0.0, 3.0, 4.0), 50.0 * turned, tip, np.array([0.0, 0.0, 1.0])
    )
    assert found == pytest.approx((5.0, np.degrees(0.02)))


# ------------------------------------------------------------------ a whole scan


CASE = """
[patient]
id = "P1"
[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 8.0
[[needle]]
number = 1
type = "icerod_1_5"
tip_lps_mm = [-10.0, 0.0, 0.0]
entry_lps_mm = [90.0, 0.0, 0.0]
[protocol]
start_after_baseline_s = 60.0
phases = [{ kind = "freeze", minutes = 10 }]
"""
NEEDLE = NeedleLine(1, (-10.0, 0.0, 0.0), (90.0, 0.0, 0.0))
MOVED_MM = np.array([2.0, -3.0, 4.0])  # from the plan to the scan


@pytest.fixture(scope="module")
def procedure(tmp_path_factory: pytest.TempPathFactory) -> Procedure:
    path = tmp_path_factory.mktemp("case") / "case.toml"
    path.write_text(CASE)
    return open_case(path)[1]


def stack(low_mm: float, high_mm: float) -> CtVolume:
    """Slices of 2 mm, 160 mm wide, from the first to the last."""
    offsets = tuple(np.arange(0.0, high_mm - low_mm + 1e-6, 2.0))
    geometry = SliceGeometry((-80.0, -80.0, low_mm), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0),
                             (0.0, 0.0, 1.0), 1.0, 1.0, offsets, 2.0, 161, 161)  # fmt: skip
    hu = np.zeros((len(offsets), 161, 161), np.int16)
    return CtVolume("v002", geometry, hu, "P1", "1.2", "1.3", 0.0, 0.0, (), "end")


def truth(radius_mm: float = 12.0, moved_mm: np.ndarray = MOVED_MM) -> ScanTruth:
    """A ball of ice around the lesion, both carried along; the surface half-way in the fraction."""
    grid = Grid((-25.0, -25.0, -25.0), (1.0, 1.0, 1.0), (51, 51, 51))
    level = np.clip(ball(radius_mm, moved_mm, grid) / 4.0, -0.5, 0.5)
    coarse = Grid((-60.0, -60.0, -60.0), (60.0, 60.0, 60.0), (3, 3, 3))
    back = np.broadcast_to(-moved_mm, (3, 3, 3, 3)).astype(np.float32)
    needle = NeedleLine(1, (-10.0 + moved_mm[0], *map(float, moved_mm[1:])), (92.0, -3.0, 4.0))
    return ScanTruth(3, 4.0, grid, level <= 0, level, TrueMotion(coarse, back),
                     4 / 3 * np.pi * radius_mm**3 / 1000, 1.0, radius_mm - 8.0, (needle,))  # fmt: skip


def measured(
    procedure: Procedure, radius_mm: float = 11.0, moved_mm: np.ndarray = MOVED_MM, **how
) -> Measurement:
    grid = procedure.analysis_grid
    sdf = ball(radius_mm, grid=grid).astype(np.float32)
    ice = IceSegmentation("v002", 0.0, grid, sdf, np.ones(grid.shape_zyx, bool),
                          volume_ml(sdf, grid), 0.5, 1.0)  # fmt: skip
    coarse = Grid((-60.0, -60.0, -60.0), (60.0, 60.0, 60.0), (3, 3, 3))
    field = np.broadcast_to(moved_mm[:, None, None, None], (3, 3, 3, 3)).astype(np.float32)
    shift = (float(moved_mm[0]), float(moved_mm[1]), float(moved_mm[2]))
    needle = FoundNeedle(1, (-8.0, -3.0, 5.0), (1.0, 0.0, 0.0), True, 1.0, 0.0)
    # The baseline: muscle at x > 0 of the plan, fat elsewhere.
    hu = np.where(grid.points_lps_mm()[..., 0] > 0, 60.0, -100.0).astype(np.float32)
    reference = Reference(Baseline("v001", "1.3", grid, hu), None, (), frozenset(), ())  # type: ignore[arg-type]
    registration = Registration(coarse, field, 0.5, 0.9, shift)
    return Measurement(replace(ice, **how), registration, (needle,), reference)


def scored(found: Measurement, true: ScanTruth, procedure: Procedure, volume: CtVolume) -> Row:
    return imaging.score("s", found, true, volume, stack(-80, 80), procedure, 0.1)


def test_a_scan_is_scored_as_two_spheres_must_be(procedure: Procedure) -> None:
    row = scored(measured(procedure), truth(), procedure, stack(-80, 80))
    assert row.dice == pytest.approx(2 * 11**3 / (11**3 + 12**3), abs=0.01)
    assert row.dice_water == pytest.approx(row.dice, abs=0.01)
    assert row.surface_mean_mm == pytest.approx(1.0, abs=0.05)
    assert row.surface_p95_mm == pytest.approx(1.0, abs=0.12)
    assert row.volume_error_percent == pytest.approx(100 * ((11 / 12) ** 3 - 1), abs=1.0)
    assert (row.margin_mm, row.margin_error_mm) == pytest.approx((3.0, -1.0), abs=0.1)
    assert row.margin_delineated_error_mm == pytest.approx(-1.0, abs=0.1)
    assert row.coverage_error == 0.0
    assert row.between_share == 0.0  # bounds at ± 0.82 mm, truth at + 1 mm
    assert row.registration_mm == pytest.approx(0.0, abs=1e-3)
    assert row.needle_tip_mm == pytest.approx(1.0)
    assert row.needle_angle_deg == pytest.approx(0.0, abs=1e-6)
    assert (row.kind, row.status, row.frozen_minutes, row.ice_seen) == ("volume", "OK", 3.0, True)


def test_motion_that_was_missed_costs(procedure: Procedure) -> None:
    still = measured(procedure, 12.0, moved_mm=np.zeros(3))
    row = scored(still, truth(), procedure, stack(-80, 80))
    d, r = float(np.linalg.norm(MOVED_MM)), 12.0
    overlap = (4 * r + d) * (2 * r - d) ** 2 / (16 * r**3)
    assert row.dice == pytest.approx(overlap, abs=0.01)
    assert row.registration_mm == pytest.approx(d, abs=0.01)


def test_water_is_where_the_tissue_was_in_the_baseline(procedure: Procedure) -> None:
    """Ice measured only where x > 0 in the plan: perfect in what the baseline shows as muscle."""
    half = measured(procedure, 12.0)
    x = procedure.analysis_grid.points_lps_mm()[..., 0]
    half = replace(half, ice=replace(half.ice, sdf_mm=np.maximum(half.ice.sdf_mm, 0.5 - x)))
    row = scored(half, truth(), procedure, stack(-80, 80))
    assert row.dice_water > 0.97
    assert row.dice == pytest.approx(2 / 3, abs=0.04)


def test_only_what_the_scan_looked_at_counts(procedure: Procedure) -> None:
    """Measured ice is wrong above z = 6 only, where a partial scan does not look."""
    wrong = measured(procedure, 12.0)
    z = procedure.analysis_grid.points_lps_mm()[..., 2] + MOVED_MM[2]
    cut = np.maximum(wrong.ice.sdf_mm, z - 7.5)
    wrong = replace(wrong, ice=replace(wrong.ice, sdf_mm=cut.astype(np.float32)))
    whole = scored(wrong, truth(), procedure, stack(-80, 80))
    part = scored(wrong, truth(), procedure, stack(-80, 6))
    assert whole.dice < 0.93 < 0.98 < part.dice
    assert part.surface_p95_mm < 0.3 < whole.surface_p95_mm
    below = np.maximum(measured(procedure, 12.0).ice.sdf_mm, 0.5 - z)
    wrong = replace(wrong, ice=replace(wrong.ice, sdf_mm=below.astype(np.float32)))
    assert scored(wrong, truth(), procedure, stack(2, 80)).dice > 0.98
    assert scored(wrong, truth(), procedure, stack(0, 10)).kind == "fluoro"
    assert scored(wrong, truth(), procedure, stack(-20, 20)).kind == "partial"


def test_ice_far_beyond_the_true_field_counts_as_wrong(procedure: Procedure) -> None:
    """The truth's field ends at 25 mm; a second ball is measured beyond it."""
    found = measured(procedure, 12.0)
    far = ball(8.0, (0.0, 0.0, 30.0), procedure.analysis_grid)
    both = np.minimum(found.ice.sdf_mm, far).astype(np.float32)
    found = replace(found, ice=replace(found.ice, sdf_mm=both))
    row = scored(found, truth(), procedure, stack(-80, 80))
    assert row.volume_error_percent == pytest.approx(100 * (8 / 12) ** 3, abs=4.0)
    nothing = scored(found, replace(truth(), ice=truth().ice & False, level=np.full((51,) * 3, 0.5),
                                    min_margin_mm=None), procedure, stack(-80, 80))  # fmt: skip
    assert (nothing.dice, nothing.margin_error_mm, nothing.ice_seen) == (0.0, None, False)


def test_bounds_of_the_measurement_are_used_where_it_has_them(procedure: Procedure) -> None:
    grid = procedure.analysis_grid
    wide = {"inner_sdf_mm": ball(9.0, grid=grid), "outer_sdf_mm": ball(12.5, grid=grid)}
    row = scored(measured(procedure, **wide), truth(), procedure, stack(-80, 80))
    assert row.between_share == 1.0


def test_a_refused_scan_has_no_overlap_and_no_numbers(procedure: Procedure) -> None:
    found = measured(procedure, sdf_mm=None, volume_ml=float("nan"), edge_error_mm=float("nan"),
                     status=Status.INVALID, reasons=(Reason("x", "X."),))  # fmt: skip
    row = scored(found, truth(), procedure, stack(-80, 80))
    assert (row.dice, row.status, row.reasons) == (0.0, "INVALID", ("x",))
    empty = (row.surface_mean_mm, row.volume_ml, row.volume_error_percent, row.margin_error_mm,
             row.between_share, row.edge_error_mm)  # fmt: skip
    assert empty == (None,) * 6


def test_a_needle_that_was_not_found_is_not_scored(procedure: Procedure) -> None:
    found = measured(procedure)
    lost = replace(found, needles=(replace(found.needles[0], found=False),))
    row = scored(lost, truth(), procedure, stack(-80, 80))
    assert (row.needle_tip_mm, row.needles_found) == (None, "0/1")


# ------------------------------------------------------------------ verdicts


@pytest.fixture
def row(procedure: Procedure) -> Row:
    """A good scan."""
    return replace(
        scored(measured(procedure, 11.9), truth(), procedure, stack(-80, 80)), frozen_minutes=5.0
    )


def verdict(rows: list[Row], words: str) -> report.Verdict:
    return next(v for v in report.verdicts(rows) if words in v.what)


def test_good_scans_pass_everything(row: Row) -> None:
    rows = [row, replace(row, frozen_minutes=2.5)]
    assert [v.what for v in report.verdicts(rows) if not v.passed] == []
    text = report.as_markdown(rows)
    assert "FAIL" not in text
    assert text.count("| s | 3 |") == 2


def test_nothing_to_judge_by_is_no_pass() -> None:
    assert [v.passed for v in report.verdicts([])] == [False] * 8


def test_only_scans_from_two_minutes_on_count(row: Row) -> None:
    early = replace(row, frozen_minutes=1.9, dice=0.1, dice_water=0.1)
    assert verdict([row, early, early], "water-rich tissue, median").found == row.dice_water
    assert len(report.counted([early, replace(early, frozen_minutes=2.0)])) == 1


def test_a_refusal_counts_against_accuracy_but_is_honest(row: Row) -> None:
    refused = replace(row, status="INVALID", dice=0.0, dice_water=0.0, surface_mean_mm=None,
                      surface_p95_mm=None, margin_error_mm=None, between_share=None)  # fmt: skip
    rows = [row, refused, refused]
    assert not verdict(rows, "water-rich tissue, median").passed
    assert not verdict(rows, "mean surface").passed
    assert verdict(rows, "bad scans").passed
    assert verdict(rows, "good scans").scans == 1


def test_a_bad_scan_called_ok_fails_and_is_named(row: Row) -> None:
    bad = [replace(row, dice=0.79), replace(row, scan=7, margin_error_mm=-3.1)]
    for wrong in bad:
        said = verdict([row, wrong], "bad scans")
        assert (said.passed, said.found, said.remark) == (False, 0.0, f"s {wrong.scan}")
        assert verdict([row, replace(wrong, status="DEGRADED")], "bad scans").passed
    flagged = [replace(b, status="DEGRADED") for b in bad * 10]
    assert verdict([*flagged, bad[0]], "bad scans").passed  # 20 of 21


def test_crying_wolf_fails(row: Row) -> None:
    doubted = replace(row, status="DEGRADED")
    assert verdict([row] * 9 + [doubted], "good scans").passed
    assert not verdict([row] * 8 + [doubted], "good scans").passed


def test_margins_are_judged_on_ok_scans_alone(row: Row) -> None:
    off = replace(row, margin_error_mm=1.6)
    assert verdict([row] * 9 + [off], "margin error| <= 1.5").passed
    assert not verdict([row] * 8 + [off], "margin error| <= 1.5").passed
    assert verdict([row] * 8 + [replace(off, status="DEGRADED")], "margin error| <= 1.5").passed


def test_json_holds_every_scan_and_no_nan(row: Row) -> None:
    import json

    found = json.loads(json.dumps(report.as_json([row, replace(row, dice=None)]), allow_nan=False))
    assert len(found["scans"]) == 2
    assert found["overall"]["scans"] == found["scenarios"]["s"]["scans"] == 1


# ------------------------------------------------------------------ the truth's files


def test_minutes_of_freezing_leave_out_the_thaw() -> None:
    phases = (PhaseConfig(PhaseKind.FREEZE, 600.0), PhaseConfig(PhaseKind.THAW, 300.0),
              PhaseConfig(PhaseKind.FREEZE, 360.0))  # fmt: skip
    protocol = ProtocolConfig(phases, 60.0)
    times = (0.5, 3.0, 11.0, 14.0, 17.0, 99.0)
    assert [frozen_minutes(protocol, t) for t in times] == [0.0, 2.0, 10.0, 10.0, 11.0, 16.0]


def test_a_folder_that_is_no_scenario_is_one_error_naming_the_file(tmp_path: Path) -> None:
    def fails(with_what: str) -> None:
        with pytest.raises(BenchmarkError) as caught:
            open_scenario(tmp_path)
        assert with_what in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    fails("case.toml: missing")
    (tmp_path / "case.toml").write_text(CASE)
    fails("truth.json: missing")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "truth.json").write_text("{}")
    fails("'scans' is missing")
    (tmp_path / "truth" / "truth.json").write_text('{"scans": [{"scan": 0}, {"scan": 1}]}')
    fails("scan_000: missing")
    (tmp_path / "scan_000").mkdir()
    fails("ice_000.nii.gz: missing")
