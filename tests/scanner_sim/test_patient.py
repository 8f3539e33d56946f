"""Scenarios, the drawn patient, a real series as one, and how they move. LPS mm, HU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from scanner_sim import scenario as scenarios
from scanner_sim.console import writer_of
from scanner_sim.images import Acquisition, Geometry, Image
from scanner_sim.patient import real_ct
from scanner_sim.patient.anatomy import draw, outline, scan_frame
from scanner_sim.patient.motion import Displacement, displacement
from scanner_sim.render import Renderer
from scanner_sim.scenario import (
    ORGANS,
    Needle,
    Scan,
    Scenario,
    ScenarioError,
    tissue_names,
)
from tests.scanner_sim.blocks import AWE, nearest_voxel, small
from tests.scanner_sim.samples import TECHNIQUE, writer

NAMES = scenarios.names()


def test_there_are_ten_scenarios_and_every_organ_is_among_them() -> None:
    loaded = [scenarios.load(n) for n in NAMES]
    assert len(loaded) >= 10
    assert {s.organ for s in loaded} == set(ORGANS)
    assert len({s.seed for s in loaded}) == len(loaded)
    assert len({s.scanner.vendor for s in loaded}) == 4
    assert {c.kind for s in loaded for c in s.scans} == {"volume", "fluoro"}
    assert any(c.cover_mm for s in loaded for c in s.scans)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_fits_its_patient(name: str) -> None:
    """The lesion lies in tissue, the needles reach it through the skin, structures are near."""
    s = small(name)
    a = draw(s)
    x, y, z = a.frame.grid()
    body = a.hu > -400.0
    inside = np.broadcast_to(a.lesion(x, y, z) < -2.0, a.hu.shape)
    wanted = tissue_names().index(s.lesion.tissue)
    assert (a.label[inside] == wanted).mean() > 0.6
    assert body[inside].mean() > 0.95
    for n in a.needles:
        tip, entry = np.array(n.tip_lps_mm), np.array(n.entry_lps_mm)
        assert a.lesion(*(np.array([v]) for v in tip))[0] < 12.0
        shaft = tip + np.linspace(0, 1, 60)[:, None] * (entry - tip)
        nearest = a.lesion(shaft[:, 0], shaft[:, 1], shaft[:, 2]).min()
        assert nearest < 6.0
        length = np.linalg.norm(entry - tip)
        assert length > n.made.active_length_mm + 10.0
    assert set(a.structures) == {q.name for q in s.structures}
    for level in a.structures.values():
        near = np.broadcast_to(level(x, y, z) <= 0, a.hu.shape)
        assert near.any()
    assert len(np.unique(a.label)) >= 7


@pytest.mark.parametrize("name", NAMES)
def test_needles_enter_through_the_skin(name: str) -> None:
    """25 mm outward of the entry there is air, 12 mm inward there is none."""
    s = small(name)
    a = draw(s)
    for n in a.needles:
        tip, entry = np.array(n.tip_lps_mm), np.array(n.entry_lps_mm)
        out = (entry - tip) / np.linalg.norm(entry - tip)
        for at, air in ((entry + 25.0 * out, True), (entry - 12.0 * out, False)):
            assert (a.hu[nearest_voxel(a.frame, at)] < -500.0) == air, (n.number, at)


def test_the_same_seed_draws_the_same_patient_and_another_another() -> None:
    s = small(AWE)
    one, same, other = draw(s), draw(s), draw(replace(s, seed=s.seed + 1))
    np.testing.assert_array_equal(one.hu, same.hu)
    assert (one.label != other.label).mean() > 0.01


def test_tissues_have_their_ct_numbers_and_texture() -> None:
    s = small("kidney_exophytic")
    a = draw(s)
    for name, low, high in (
        ("fat", -120, -85),
        ("muscle", 45, 65),
        ("kidney", 25, 42),
        ("blood", 35, 48),
    ):
        hu = a.hu[a.label == tissue_names().index(name)]
        assert low < np.median(hu) < high, name
        assert hu.std() > 2.0
    bone = a.hu[a.label == tissue_names().index("bone")]
    assert np.median(bone) > 400.0


def test_the_outline_is_that_of_the_drawn_patient() -> None:
    s = small(AWE)
    a, o = draw(s), outline(s)
    points = np.random.default_rng(1).uniform(-60, 60, (3, 50))
    for name, level in o.structures.items():
        np.testing.assert_array_equal(level(*points), a.structures[name](*points))


def test_a_real_series_serves_as_anatomy(ct_data: Path) -> None:
    s = scenarios.load(AWE)
    a = real_ct.load(ct_data / "totalseg_body_ct", s)
    own = real_ct.adapted(s, a)
    assert own.scanner.slices == len(a.frame.z) == 20
    assert own.bodies == ()
    image = Renderer(own, a, a.frame, noise=False).acquire(0, None).images[0]
    assert image.geometry.origin_lps_mm == pytest.approx(a.frame.origin_lps_mm, abs=1e-3)
    soft = (a.hu > -150) & (a.hu < 150)
    soft[:, :, :60] = soft[:, :, -60:] = False
    assert abs(np.median((image.hu - a.hu)[soft])) < 5.0
    assert np.corrcoef(image.hu[::3, ::3, ::3].ravel(), a.hu[::3, ::3, ::3].ravel())[0, 1] > 0.98


def series_in(folder: Path, muscle_hu: float = 50.0) -> list[Path]:
    """A patient of muscle in 12 slices of 80 rows and 96 columns, as a scanner wrote them."""
    y, x = np.mgrid[-118.5:118.6:3.0, -142.5:142.6:3.0]
    plane = np.where((x / 125.0) ** 2 + (y / 100.0) ** 2 < 1.0, muscle_hu, -1000.0)
    hu = np.repeat(plane[None].astype(np.int16), 12, 0)
    place = Geometry(
        (-142.5, -118.5, -20.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 4.0), (3.0, 3.0)
    )
    image = Image(hu, place, 4.0, "soft", TECHNIQUE, 0.0, 2.0)
    folder.mkdir(exist_ok=True)
    paths = []
    for d in writer("philips").slices(Acquisition(0, "volume", 0.0, (image,))):
        paths.append(folder / f"{d.InstanceNumber:04d}.dcm")
        pydicom.dcmwrite(paths[-1], d, enforce_file_format=True)
    return paths


def test_a_series_is_rendered_as_it_lies_and_is_another_patient_than_the_drawn(
    tmp_path: Path,
) -> None:
    s = scenarios.load("kidney_exophytic")
    assert s.habitus.prone
    own = []
    for folder, muscle_hu in (("one", 50.0), ("other", 55.0)):
        series_in(tmp_path / folder, muscle_hu)
        a = real_ct.load(tmp_path / folder, s)
        assert a.hu.shape == (12, 80, 96)
        own.append(real_ct.adapted(s, a))
        (image,) = Renderer(own[-1], a, a.frame).described(0).images
        assert image.geometry.row_direction == (1.0, 0.0, 0.0)
        assert image.geometry.origin_lps_mm[0] == pytest.approx(-142.5)
        assert own[-1].lesion.centre_lps_mm == a.lesion_centre_lps_mm
    studies = [writer_of(each, 0.0).study for each in (s, *own)]
    assert [w.procedure.position for w in studies] == ["HFP", "HFS", "HFS"]
    assert len({w.uid("slice") for w in studies}) == 3
    assert len({w.frame_of_reference_uid for w in studies}) == 3


def changed(change: Callable[[Dataset], None]) -> Callable[[list[Path]], None]:
    """The seventh file so."""

    def one(paths: list[Path]) -> None:
        d = pydicom.dcmread(paths[6])
        change(d)
        d.save_as(paths[6])

    return one


def _smaller(d: Dataset) -> None:
    d.Columns, d.PixelData = 90, d.pixel_array[:, :90].tobytes()


def _other_modality(d: Dataset) -> None:
    d.SOPClassUID, d.Modality = MRImageStorage, "MR"


UNFIT: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "no slope": (changed(lambda d: d.pop("RescaleSlope")), "7.dcm: it has no RescaleSlope"),
    "empty slope": (
        changed(lambda d: setattr(d, "RescaleSlope", None)), "7.dcm: it has no RescaleSlope"
    ),
    "no direction": (
        changed(lambda d: d.pop("ImageOrientationPatient")),
        "7.dcm: it has no ImageOrientationPatient",
    ),
    "no place": (
        changed(lambda d: d.pop("ImagePositionPatient")), "7.dcm: it has no ImagePositionPatient"
    ),
    "no spacing": (changed(lambda d: d.pop("PixelSpacing")), "7.dcm: it has no PixelSpacing"),
    "tilted": (
        changed(lambda d: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 0.8, -0.6])),
        "7.dcm: only axial slices without tilt",
    ),
    "sizes": (changed(_smaller), r"7.dcm: its size \(80 rows, 90 columns\) is not that of 0001"),
    "series": (
        changed(lambda d: setattr(d, "SeriesInstanceUID", "1.2.3")),
        "7.dcm: its series is not that of 0001",
    ),
    "modality": (changed(_other_modality), "7.dcm: its modality is MR, not CT"),
    "pixels": (changed(lambda d: setattr(d, "PixelData", bytes(100))), "7.dcm: cannot be read"),
    "missing slice": (lambda paths: paths[6].unlink(), "series: .* 8.00 mm .* is one missing"),
    "same place": (
        changed(lambda d: setattr(d, "ImagePositionPatient", [-142.5, -118.5, 0.0])),
        "series: there are two slices at z = 0.00",
    ),
    "folder": (lambda paths: (paths[0].parent / "more").mkdir(), "series/more: a folder"),
    "few": (lambda paths: [p.unlink() for p in paths[5:]] and None, "series: 5 CT slices found"),
}  # fmt: skip


@pytest.mark.parametrize("how", UNFIT)
def test_a_series_that_cannot_serve_is_told_with_its_file(how: str, tmp_path: Path) -> None:
    spoil, message = UNFIT[how]
    paths = series_in(tmp_path / "series")
    spoil(paths)
    with pytest.raises(ScenarioError, match=message):
        real_ct.load(tmp_path / "series", scenarios.load(AWE))


def test_motion_leads_there_and_back() -> None:
    s = small("deep_breathing")
    a = outline(s)
    moved = displacement(s, s.needles, Scan(1000.0, breath=1.0), 3, a.frame)
    for point in ((-104.0, 24.0, 126.0), (10.0, -40.0, 120.0), (60.0, 40.0, 110.0)):
        seen = moved.to_scan(point)
        back = [float(c[0]) for c in moved.to_plan(*(np.array([v]) for v in seen))]
        assert back == pytest.approx(point, abs=0.02)


def test_breathing_moves_organs_down_by_the_stated_way_and_the_spine_hardly() -> None:
    s = small("deep_breathing")
    s = replace(s, motion=replace(s.motion, restlessness_mm=0.0))
    a = outline(s)
    moved = displacement(s, s.needles, Scan(100.0, breath=1.0), 1, a.frame)
    organ, spine = (moved.to_scan(p) for p in ((-60.0, -10.0, 126.0), (0.0, 60.0, 126.0)))
    assert 126.0 - organ[2] == pytest.approx(15.0, abs=2.5)
    assert abs(126.0 - spine[2]) < 2.0
    still = displacement(s, s.needles, Scan(0.0), 0, a.frame)
    assert np.abs(still.field_mm).max() == 0.0


def full_breath(name: str = "deep_breathing") -> tuple[Scenario, Displacement]:
    s = small(name)
    s = replace(s, motion=replace(s.motion, restlessness_mm=0.0))
    return s, displacement(s, s.needles, Scan(100.0, breath=1.0), 1, draw(s).frame)


def test_bones_keep_their_shape_and_the_spleen_goes_with_the_organs() -> None:
    s, moved = full_breath()
    a = draw(s)
    x, y, z = (np.broadcast_to(c, a.hu.shape) for c in a.frame.grid())
    bone = np.isin(a.label, [tissue_names().index(t) for t in ("bone", "marrow")])
    some = np.random.default_rng(0).choice(np.flatnonzero(bone), 3000)
    plan = moved.to_plan(*(c.ravel()[some] for c in (x, y, z)))
    way = np.hypot(plan[1] - y.ravel()[some], plan[2] - z.ravel()[some])
    assert np.quantile(way, 0.95) < 2.0
    for organ in ((105.0, 30.0, 126.0), (-60.0, -10.0, 126.0)):
        assert organ[2] - moved.to_scan(organ)[2] > 10.0


def test_ice_is_stiff_and_needles_pivot_where_they_pass_the_skin() -> None:
    s, moved = full_breath()
    assert moved.core is not None
    tips, entries = [], []
    for n in s.needles:
        tip, entry = (np.array(p) for p in moved.needle(n))
        assert np.linalg.norm(entry - tip) == pytest.approx(
            np.linalg.norm(np.subtract(n.entry_lps_mm, n.tip_lps_mm)), abs=1e-6
        )
        skin = np.array(moved.to_scan(n.entry_lps_mm))
        along = (entry - tip) / np.linalg.norm(entry - tip)
        aside = entry - skin - ((entry - skin) @ along) * along
        assert np.linalg.norm(aside) < 1.0
        tips.append(tip)
        entries.append(np.array(n.tip_lps_mm))
    assert np.linalg.norm(tips[0] - entries[0]) > 8.0
    rng = np.random.default_rng(1)
    middle = np.array(s.needles[0].tip_lps_mm) + 12.0 * _unit(s.needles[0])
    around = middle + rng.uniform(-8.0, 8.0, (30, 3))
    seen = np.array([moved.to_scan(tuple(p)) for p in around])
    own, now = (np.linalg.norm(q[:, None] - q[None], axis=-1) for q in (around, seen))
    assert np.abs(own - now).max() < 0.5


def _unit(n: Needle) -> np.ndarray:
    d = np.subtract(n.entry_lps_mm, n.tip_lps_mm)
    return d / np.linalg.norm(d)


@pytest.mark.parametrize("breath", [0.3, 0.7, 1.0])
def test_no_tissue_is_folded(breath: float) -> None:
    s = small("deep_breathing")
    moved = displacement(s, s.needles, Scan(100.0, breath=breath), 3, outline(s).frame)
    step = moved.frame.spacing_mm[0]
    rows = [[g / step for g in np.gradient(f)[::-1]] for f in moved.field_mm]
    jacobian = np.moveaxis(np.array(rows), (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0.1


def test_the_couch_stays_where_it_is() -> None:
    s = small("deep_breathing")
    s = replace(s, needles=(), scans=(Scan(0.0), Scan(s.motion.shifts_at_s + 1.0, breath=1.0)))
    renderer = Renderer(s, draw(s), scan_frame(s), noise=False)
    before, after = (renderer.acquire(n, None).images[0].hu for n in (0, 1))
    rows = slice(int(0.82 * before.shape[1]), None)
    assert before[:, rows].max() > -500
    assert np.abs(before[:, rows].astype(float) - after[:, rows]).mean() < 6.0


@pytest.mark.parametrize("name", [n for n in NAMES if n != "bone_soft_tissue"])
def test_needles_pass_between_bones_and_beside_vessels(name: str) -> None:
    """But for the one whose lesion is in the bone. The same height as a whole scan: what bends the
    patient depends on it."""
    s = small(name, matrix=256, slices=40, thickness_mm=2.5)
    a = draw(s)
    for n in a.needles:
        tip, entry = np.array(n.tip_lps_mm), np.array(n.entry_lps_mm)
        shaft = tip + np.linspace(0, 1, 200)[:, None] * (entry - tip)
        crossed = {tissue_names()[a.label[nearest_voxel(a.frame, p)]] for p in shaft}
        assert not crossed & {"bone", "marrow", "blood", "content"}, n.number


def test_most_scenarios_have_a_needle_near_the_slice() -> None:
    """Where it streaks as published: see ``test_tomograph.py``."""
    near = 0
    for name in NAMES:
        u = _unit(scenarios.load(name).needles[0])
        near += abs(np.degrees(np.arcsin(u[2]))) <= 6.0
    assert near >= 6


def test_a_shifted_patient_and_couch_are_seen_shifted() -> None:
    s = small("deep_breathing")
    s = replace(s, motion=replace(s.motion, restlessness_mm=0.0, turn_deg=0.0))
    scan = Scan(s.motion.shifts_at_s + 1.0)
    moved = displacement(s, s.needles, scan, 5, outline(s).frame)
    way = np.subtract(moved.to_scan((-60.0, -10.0, 126.0)), (-60.0, -10.0, 126.0))
    expected = np.array(s.motion.shift_lps_mm) + (0.0, 0.0, s.motion.couch_mm)
    assert way == pytest.approx(expected, abs=0.05)


def test_images_show_the_tissue_where_the_displacement_says() -> None:
    s = small("deep_breathing", fov_mm=360.0)
    s = replace(s, needles=(), motion=replace(s.motion, restlessness_mm=0.0))
    a = draw(s)
    scans = (Scan(0.0), Scan(200.0, breath=1.0))
    renderer = Renderer(replace(s, scans=scans), a, scan_frame(s), noise=False)
    before, after = (renderer.acquire(n, None).images[0] for n in (0, 1))
    g = after.geometry
    shape = after.hu.shape
    k, j, i = np.meshgrid(*(np.arange(3, n - 3) for n in shape), indexing="ij")
    seen = [
        g.origin_lps_mm[0] + i * g.spacing_mm[0],
        g.origin_lps_mm[1] + j * g.spacing_mm[1],
        g.origin_lps_mm[2] + k * g.step_lps_mm[2],
    ]
    plan = renderer.displacement(1).to_plan(*seen)
    from scipy.ndimage import map_coordinates

    index = [
        (plan[2] - g.origin_lps_mm[2]) / g.step_lps_mm[2],
        (plan[1] - g.origin_lps_mm[1]) / g.spacing_mm[1],
        (plan[0] - g.origin_lps_mm[0]) / g.spacing_mm[0],
    ]
    carried = map_coordinates(before.hu.astype(float), index, order=1)
    now = after.hu[3:-3, 3:-3, 3:-3].astype(float)
    middle = (slice(None), slice(30, -30), slice(20, -20))
    same = np.corrcoef(carried[middle].ravel(), now[middle].ravel())[0, 1]
    unmoved = np.corrcoef(before.hu[3:-3, 3:-3, 3:-3][middle].ravel(), now[middle].ravel())[0, 1]
    assert same > 0.97
    assert same > unmoved + 0.02


def test_tilted_partial_and_fluoroscopic_scans_have_their_geometry() -> None:
    s = small("adrenal", slices=24)
    centre = s.lesion.centre_lps_mm[2]
    scans = (Scan(0.0), Scan(50.0, cover_mm=(-10.0, 20.0)), Scan(60.0, kind="fluoro", frames=3))
    renderer = Renderer(replace(s, scans=scans), draw(s), scan_frame(s), noise=False)
    whole, part, fluoro = (renderer.described(n) for n in range(3))
    g = whole.images[0].geometry
    assert g.row_direction[0] == -1.0  # he lies prone
    lean = np.degrees(np.arctan2(-g.column_direction[2], -g.column_direction[1]))
    assert lean == pytest.approx(10.0)
    made = [renderer.acquire(n, None) for n in (1, 2)]
    assert made[0].images[0].hu.shape[0] == 6
    assert [renderer.slices(n) for n in range(3)] == [24, 6, len(made[1].images[0].hu)]
    assert part.images[0].geometry.origin_lps_mm[2] > g.origin_lps_mm[2]
    assert len(fluoro.images) == 3
    assert fluoro.images[0].technique.mas == s.scanner.fluoro_mas
    assert [i.time_s for i in made[1].images] == [i.time_s for i in fluoro.images]
    assert abs(g.origin_lps_mm[2] - centre) < 120.0


BAD = (
    ("type = \"icesphere_1_5\"", "type = \"excalibur\"", "needle 1: type 'excalibur' is none of"),
    ('organ = "abdominal_wall"', 'organ = "toe"', "organ 'toe' is none of"),
    ("at_s = 180.0", "at_s = 1800.0", "at_s must rise"),
    ("[scanner]", "[tissue.cheese]\nrho = 1.0\n[scanner]", "cheese"),
    ('tissue = "bowel"', 'tissue = "cheese"', "tissue 'cheese' is none of"),
    ("radius_mm = 12.5", "radius_mm = 12.5\ncolour = 3", "colour"),
    ('name = "skin"', 'name = "tail"', "structure 'tail' is neither"),
)  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_what_is_wrong_in_a_scenario_is_told(old: str, new: str, message: str) -> None:
    text = (resources.files("scanner_sim") / "scenarios" / f"{AWE}.toml").read_text()
    assert old in text
    with pytest.raises(ScenarioError, match=message.replace("[", r"\[")):
        outline(scenarios.parse(AWE, text.replace(old, new, 1)))
