"""Needles found in drawn scans (hollow tubes, blur, noise, bone) and in one that the simulator's
tomograph took, with its streaks. LPS mm, Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from monitor.config import Factor, NeedleConfig, NeedleType
from monitor.geometry import SliceGeometry
from monitor.imaging.needle_finding import FoundNeedle, at_found_place, find_needles
from monitor.imaging.needle_lines import Settings
from monitor.model import CtVolume
from scanner_sim.images import Technique
from scanner_sim.tomograph.beam import Beam
from scanner_sim.tomograph.exposure import Exposure, expose
from scanner_sim.tomograph.metal import Rod
from scanner_sim.tomograph.projector import Rays

LENGTH_MM = 60.0
PROBE = NeedleType("probe", 1.5, 30.0, -140.0, 60.0, Factor(1.0, 1.3))
NONE = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Slices:
    """How a drawn scan is sliced: 0.8 mm pixels, the middle of the volume at the origin."""

    thickness_mm: float = 2.5
    count: int = 25
    size: int = 150
    tilt_deg: float = 0.0
    prone: bool = False

    def geometry(self) -> SliceGeometry:
        tilt, way = np.radians(self.tilt_deg), -1.0 if self.prone else 1.0
        row = np.array([way, 0.0, 0.0])
        column = np.array([0.0, way * np.cos(tilt), -np.sin(tilt)])
        axis = np.array([0.0, 0.0, 1.0])
        half = 0.4 * (self.size - 1)
        origin = -half * row - half * column - self.thickness_mm * (self.count - 1) / 2 * axis
        row_t, column_t, origin_t = (tuple(float(c) for c in v) for v in (row, column, origin))
        offsets = tuple(float(k) * self.thickness_mm for k in range(self.count))
        return SliceGeometry(
            origin_t, row_t, column_t, (0.0, 0.0, 1.0), 0.8, 0.8, offsets,
            self.thickness_mm, self.size, self.size,
        )  # fmt: skip


def needle(
    number: int, tip: Sequence[float], elevation_deg: float, azimuth_deg: float = 30.0
) -> NeedleConfig:
    up, turn = np.radians(elevation_deg), np.radians(azimuth_deg)
    d = np.array([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)])
    return placed(NeedleConfig(number, PROBE, NONE, NONE, 1.0), np.asarray(tip, float), d)


def placed(n: NeedleConfig, tip: np.ndarray, direction: np.ndarray) -> NeedleConfig:
    entry = tip + LENGTH_MM * direction / np.linalg.norm(direction)
    ends = (tuple(float(c) for c in p) for p in (tip, entry))
    return replace(n, **dict(zip(("tip_lps_mm", "entry_lps_mm"), ends, strict=True)))


def along(n: NeedleConfig) -> np.ndarray:
    return np.subtract(n.entry_lps_mm, n.tip_lps_mm) / LENGTH_MM


def drawn(needles: Sequence[NeedleConfig], slices: Slices = Slices(), bone_hu: float = 0.0,
          bar: NeedleConfig | None = None, noise_hu: float = 15.0) -> CtVolume:  # fmt: skip
    """Tissue of 40 HU, hollow needles that go on 30 mm beyond the skin, a slab of bone to the right
    with its surface on x = 14 mm, a thin bar of 1100 HU in place of a needle."""
    g = slices.geometry()
    k, j, i = np.meshgrid(*(np.arange(n) for n in (slices.count, slices.size, slices.size)),
                          indexing="ij")  # fmt: skip
    points = g.to_lps_mm(np.stack([k, j, i], -1))
    hu = 40.0 + bone_hu * np.clip((points[..., 0] - 14.0) / 0.8 + 0.5, 0.0, 1.0)
    for n in needles:
        hu += tube_hu(points, n, g, 4500.0, LENGTH_MM + 30.0)
    if bar is not None:
        hu += tube_hu(points, bar, g, 1800.0, LENGTH_MM)
    hu += noise_hu * np.random.default_rng(7).standard_normal(hu.shape)
    stored = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return CtVolume("v", g, stored, "P", "1", "2", 0.0, 0.0, (), "test")


def tube_hu(
    points: np.ndarray, n: NeedleConfig, g: SliceGeometry, metal_hu: float, length_mm: float
) -> np.ndarray:
    """A tube of 1.5 mm with gas inside, blurred by 0.6 mm (one sigma), averaged over the slices."""
    normal = np.cross(g.row_direction, g.column_direction)
    from_tip = points - np.asarray(n.tip_lps_mm)
    far = np.linalg.norm(from_tip - (from_tip @ along(n))[..., None] * along(n), axis=-1)
    near = far < 5.0 + 0.5 * g.slice_thickness_mm
    total = np.zeros(int(near.sum()))
    parts = (np.arange(8) - 3.5) / 8 * g.slice_thickness_mm
    for part in parts:
        offset = from_tip[near] + part * normal
        foot = offset @ along(n)
        aside = np.sqrt(np.maximum((offset**2).sum(-1) - foot**2, 0.0))
        ends = np.clip(np.minimum(foot, length_mm - foot) / 1.2 + 0.5, 0.0, 1.0)
        profile = np.exp(-0.5 * (aside / 0.85) ** 2) - 0.35 * np.exp(-0.5 * (aside / 0.5) ** 2)
        total += ends * profile
    hu = np.zeros(near.shape)
    hu[near] = metal_hu * total / len(parts)
    return hu


def assert_at(
    found: FoundNeedle, truth: NeedleConfig, tip_mm: float = 1.0, deg: float = 1.0
) -> None:
    assert found.number == truth.number
    assert found.found
    assert 0.6 <= found.quality <= 1.0
    assert np.linalg.norm(np.subtract(found.tip_lps_mm, truth.tip_lps_mm)) <= tip_mm
    assert np.degrees(np.arccos(min(1.0, float(found.direction @ along(truth))))) <= deg


def assert_as_planned(found: FoundNeedle, planned: NeedleConfig, shift_mm: np.ndarray) -> None:
    assert not found.found
    assert found.quality == 0.0
    assert found.tip_lps_mm == pytest.approx(np.add(planned.tip_lps_mm, shift_mm))
    assert found.direction == pytest.approx(along(planned))


@pytest.mark.parametrize("thickness_mm", [2.5, 5.0])
@pytest.mark.parametrize("elevation_deg", [-8.0, 20.0, -50.0, 87.0])
def test_a_needle_at_any_angle_to_the_slices(thickness_mm: float, elevation_deg: float) -> None:
    truth = needle(1, (-4.0, 3.0, -11.3 * np.sign(elevation_deg)), elevation_deg)
    scan = drawn([truth], Slices(thickness_mm, round(64 / thickness_mm) | 1))
    plan = placed(
        truth, np.add(truth.tip_lps_mm, (3.0, -4.0, 2.0)), along(truth) + (0.0, 0.05, 0.04)
    )
    assert_at(find_needles(scan, [plan])[0], truth, tip_mm=0.5, deg=0.3)


def test_a_vessel_in_lung_is_no_needle_though_it_goes_on_from_the_tip() -> None:
    """Beside air soft tissue stands out by as much as metal does from tissue."""
    truth = needle(1, (-4.0, 3.0, 6.0), 10.0)
    scan = drawn([truth])
    k, j, i = np.indices(scan.hu.shape)
    from_tip = scan.geometry.to_lps_mm(np.stack([k, j, i], -1)) - np.asarray(truth.tip_lps_mm)
    foot = from_tip @ along(truth)
    aside = np.linalg.norm(from_tip - foot[..., None] * along(truth), axis=-1)
    lung = (aside > 2.5) | (foot < -25.0)  # 40 HU are left in a tube, to 25 mm beyond the tip
    hu = np.where(lung & (scan.hu < 300), scan.hu - 900, scan.hu).astype(np.int16)
    found = find_needles(replace(scan, hu=np.maximum(hu, -1024)), [truth])[0]
    assert_at(found, truth, tip_mm=0.8, deg=0.6)


def test_stairs_that_thick_slices_make_of_a_needle_are_corrected() -> None:
    truth = needle(1, (-4.0, 3.0, 11.3), -8.0)
    scan = drawn([truth], Slices(5.0, 13))
    assert_at(find_needles(scan, [truth])[0], truth, tip_mm=0.2, deg=0.1)
    stairs = find_needles(scan, [truth], NONE, Settings(corrections=0))[0]
    assert np.degrees(np.arccos(stairs.direction @ along(truth))) > 0.2


def test_a_needle_in_one_slice_only() -> None:
    truth = needle(1, (-10.0, -6.0, 0.4), 0.5)
    assert_at(find_needles(drawn([truth]), [truth])[0], truth, tip_mm=1.3, deg=1.5)


@pytest.mark.parametrize("tilt_deg", [0.0, 14.0])
@pytest.mark.parametrize("prone", [False, True])
def test_any_orientation_of_the_slices(tilt_deg: float, prone: bool) -> None:
    truth = [needle(1, (-5.0, 0.0, -6.0), 25.0), needle(2, (-2.0, -11.0, -3.0), 25.0)]
    scan = drawn(truth, Slices(tilt_deg=tilt_deg, prone=prone))
    for found, n in zip(find_needles(scan, truth), truth, strict=True):
        assert_at(found, n)


def test_a_needle_along_bone_and_one_into_it() -> None:
    """Bone of 1300 HU, 5 mm beside one needle; the other's tip lies 8 mm deep in it."""
    beside = needle(1, (9.0, -20.0, -18.0), 35.0, azimuth_deg=90.0)
    into = needle(2, (22.0, 2.0, 10.0), -20.0, azimuth_deg=170.0)
    scan = drawn([beside, into], bone_hu=1260.0)
    for found, n in zip(find_needles(scan, [beside, into]), (beside, into), strict=True):
        assert_at(found, n)


@pytest.mark.requirement("REQ-NEEDLES")
def test_parallel_needles_keep_their_numbers_when_everything_moved_and_turned() -> None:
    """18 mm and 5 degrees: each is nearer to another's planned place than to its own."""
    planned = [
        needle(n, (-14.0 + 1.0 * n, 12.0 - 10.0 * n, -4.0 + n), 20.0, 0.0) for n in (1, 2, 3)
    ]
    turn = np.radians(5.0) * np.array([0.0, 0.6, 0.8])
    truth = [
        placed(n, np.array(n.tip_lps_mm) + (2.0, 17.0, -5.0) + np.cross(turn, n.tip_lps_mm),
               along(n) + np.cross(turn, along(n)))
        for n in planned
    ]  # fmt: skip
    found = find_needles(drawn(truth), planned)
    for f, n in zip(found, truth, strict=True):
        assert_at(f, n)
        assert f.moved_mm > 14.0
    shift = (2.0, 17.0, -5.0)
    assert max(f.moved_mm for f in find_needles(drawn(truth), planned, shift)) < 5.0


def test_needles_from_different_sides_that_moved_together() -> None:
    planned = [needle(1, (-14.0, -6.0, -8.0), 20.0, 0.0), needle(2, (-2.0, -20.0, 4.0), 0.0, 90.0)]
    truth = [placed(n, np.add(n.tip_lps_mm, (3.0, 8.0, 4.0)), along(n)) for n in planned]
    for found, n in zip(find_needles(drawn(truth), planned), truth, strict=True):
        assert_at(found, n, tip_mm=1.3)
        assert found.moved_mm == pytest.approx(np.sqrt(89.0), abs=1.3)


@pytest.mark.requirement("REQ-NEEDLES")
def test_a_retracted_and_a_displaced_needle_are_reported() -> None:
    planned = [needle(n, (-12.0, -24.0 + 12.0 * n, -6.0), 20.0, 0.0) for n in (1, 2, 3)]
    first, last = planned[0], planned[2]
    retracted = placed(first, first.tip_lps_mm + 8.0 * along(first), along(first))
    displaced = placed(last, np.add(last.tip_lps_mm, (0.0, 6.0, 0.0)), along(last))
    one, two, three = find_needles(drawn([retracted, planned[1], displaced]), planned)
    assert [f.found for f in (one, two, three)] == [True] * 3
    assert one.along_mm == pytest.approx(8.0, abs=0.7)
    assert one.across_mm < 0.5
    assert two.moved_mm < 0.7
    assert three.across_mm == pytest.approx(6.0, abs=0.5)
    assert abs(three.along_mm) < 0.7
    place = at_found_place(first, one)
    assert np.linalg.norm(np.subtract(place.entry_lps_mm, place.tip_lps_mm)) == pytest.approx(60.0)
    assert place.tip_lps_mm == one.tip_lps_mm
    assert (place.number, place.type) == (1, PROBE)


@pytest.mark.requirement("REQ-NEEDLES")
def test_the_one_that_is_there_is_not_taken_for_the_one_that_is_not() -> None:
    planned = [needle(n, (-12.0, -12.0 + 12.0 * n, -6.0), 20.0) for n in (1, 2)]
    one, two = find_needles(drawn([planned[1]]), planned, (1.0, 0.0, 0.0))
    assert_as_planned(one, planned[0], np.array([1.0, 0.0, 0.0]))
    assert_at(two, planned[1])


def test_a_tip_that_the_scan_does_not_show_is_not_found_but_the_other_end_may_leave() -> None:
    truth = needle(1, (-10.0, -5.0, -8.0), 25.0)
    whole = drawn([truth])
    above, below = cut(whole, 12, 25), cut(whole, 4, 15)
    shift = np.array([1.0, -2.0, 0.5])
    assert_as_planned(find_needles(above, [truth], tuple(shift))[0], truth, shift)
    assert_at(find_needles(below, [truth])[0], truth)
    at_the_end = cut(whole, 9, 25)  # the tip lies in its first slice, 0.75 mm above the edge
    assert_at(find_needles(at_the_end, [truth])[0], truth)
    strict = Settings(end_slices=0.4)
    assert not find_needles(at_the_end, [truth], NONE, strict)[0].found


def cut(volume: CtVolume, first: int, end: int) -> CtVolume:
    g = volume.geometry
    origin = tuple(float(c) for c in g.slice_positions_lps_mm()[first])
    offsets = tuple(o - g.slice_offsets_mm[first] for o in g.slice_offsets_mm[first:end])
    return replace(
        volume,
        hu=volume.hu[first:end],
        geometry=replace(g, origin_lps_mm=origin, slice_offsets_mm=offsets),
    )


def test_a_lost_slice_matters_at_the_tip_only() -> None:
    truth = needle(1, (-10.0, -5.0, -8.0), 25.0)  # the tip in slice 9 of 0..24
    assert find_needles(without(drawn([truth]), 14), [truth])[0].found
    assert not find_needles(without(drawn([truth]), 9), [truth])[0].found


def without(volume: CtVolume, k: int) -> CtVolume:
    g = volume.geometry
    offsets = tuple(o for n, o in enumerate(g.slice_offsets_mm) if n != k)
    return replace(
        volume, hu=np.delete(volume.hu, k, 0), geometry=replace(g, slice_offsets_mm=offsets)
    )


def test_nothing_is_seen_where_nothing_is() -> None:
    planned = [needle(1, (-12.0, 0.0, -6.0), 20.0), needle(2, (10.0, -12.0, -6.0), 20.0)]
    for scan in (drawn([]), drawn([], bone_hu=1260.0), drawn([], noise_hu=120.0)):
        for found, n in zip(find_needles(scan, planned), planned, strict=True):
            assert_as_planned(found, n, np.zeros(3))


def test_a_thin_bar_of_bone_is_no_needle_because_it_is_not_bright_enough() -> None:
    bar = needle(1, (-12.0, 0.0, -6.0), 20.0)
    scan = drawn([], bar=bar)
    assert not find_needles(scan, [bar])[0].found
    assert find_needles(scan, [bar], NONE, Settings(metal_hu=0.0))[0].found


def test_a_plate_of_bone_is_no_needle_however_bright_because_it_goes_on_beside() -> None:
    scan = drawn([])
    plate = scan.hu.copy()
    plate[:, :, 74:77] = 2500
    planned = needle(1, (0.4, -20.0, -12.0), 20.0, 90.0)
    assert not find_needles(replace(scan, hu=plate), [planned])[0].found


def test_a_thick_rod_is_no_needle_because_metal_is_beside_its_axis() -> None:
    rod_at = needle(1, (-12.0, 0.0, -6.0), 20.0)
    scan = drawn([])
    points = scan.geometry.to_lps_mm(np.stack(np.indices(scan.hu.shape), -1))
    offset = points - np.asarray(rod_at.tip_lps_mm)
    foot = offset @ along(rod_at)
    aside = np.linalg.norm(offset - foot[..., None] * along(rod_at), axis=-1)
    inside = (aside < 4.0) & (foot > 0.0) & (foot < LENGTH_MM)
    scan = replace(scan, hu=np.where(inside, 2500, scan.hu).astype(np.int16))
    assert not find_needles(scan, [rod_at])[0].found
    blind = Settings(metal_contrast_hu=-5000.0)
    assert find_needles(scan, [rod_at], NONE, blind)[0].found


def test_no_image_and_no_plan_make_it_raise() -> None:
    n = needle(1, (-12.0, 0.0, -6.0), 20.0)
    scan = drawn([n])
    assert find_needles(scan, []) == ()
    far = [placed(n, np.array([x, 0.0, 0.0]), along(n)) for x in (-900.0, 900.0)]
    for value in (-1024, 0, 3071, -32768, 32767):
        full = np.full_like(scan.hu, value)
        assert not find_needles(replace(scan, hu=full), [n])[0].found
    assert [f.found for f in find_needles(scan, far)] == [False, False]
    small = replace(scan.geometry, rows=3, columns=3)
    assert not find_needles(replace(scan, geometry=small, hu=scan.hu[:, :3, :3]), [n])[0].found
    for count in (1, 2):
        found = find_needles(cut(scan, 9, 9 + count), [n])[0]
        assert np.isfinite([*found.tip_lps_mm, *found.direction, found.quality]).all()


def test_needles_amid_their_own_streaks() -> None:
    """Two probes of 2.1 mm, nearly in the slices, taken by the simulator's tomograph."""
    rays, thickness_mm, count = Rays(512, 360.0 / 512), 2.5, 10
    axis = (np.arange(512) - 255.5) * rays.pixel_mm
    body = np.where(np.hypot(*np.meshgrid(axis, axis)) < 140.0, 40.0, -1000.0).astype(np.float32)
    truth = [needle(1, (-20.0, 0.0, -7.3), 14.0, 17.0), needle(2, (-22.0, 12.0, -6.0), 14.0, 17.0)]
    heights = (np.arange(count) - (count - 1) / 2) * thickness_mm
    rods = [[rod(n, float(z)) for n in truth] for z in heights]
    beam = Beam(Technique(120.0, 150.0, 0.5), rays, thickness_mm)
    images = expose(np.repeat(body[None], count, 0), Exposure(beam, rods, ("soft",), (5, 7)))
    first = float(axis[0])
    g = SliceGeometry(
        (first, first, float(heights[0])), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0),
        rays.pixel_mm, rays.pixel_mm, tuple(float(z - heights[0]) for z in heights),
        thickness_mm, 512, 512,
    )  # fmt: skip
    scan = CtVolume("v", g, images["soft"], "P", "1", "2", 0.0, 0.0, (), "test")
    assert scan.hu[:, 200:300, 200:300].min() < -200  # it does streak
    plan = [
        placed(n, np.add(n.tip_lps_mm, (4.0, -9.0, 3.0)), along(n) + (0, 0.06, 0)) for n in truth
    ]
    for found, n in zip(find_needles(scan, plan), truth, strict=True):
        assert_at(found, n, tip_mm=0.8, deg=0.5)


def rod(n: NeedleConfig, height_mm: float) -> Rod:
    tip = np.array(n.tip_lps_mm) - (0.0, 0.0, height_mm)
    end = tip + 90.0 * along(n)
    ends = [(float(p[0]), float(p[1]), float(p[2])) for p in (tip, end)]
    return Rod(ends[0], ends[1], 1.05, 0.25)
