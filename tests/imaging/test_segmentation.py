"""Ice of known shape, painted into a noisy scan with the blur a scanner adds, found again."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from monitor.config import Factor, NeedleConfig, NeedleType
from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.distance import sample
from monitor.imaging.needles import freezing_distance_mm
from monitor.imaging.segmentation import make_baseline, segment_ice
from monitor.model import CtVolume, IceSegmentation, Status

DROP_HU = 70.0
GRID = Grid((-45.0, -45.0, -45.0), (1.0, 1.0, 1.0), (91, 91, 91))
NEEDLE = NeedleConfig(
    1,
    NeedleType("test", 1.5, 22.0, -140.0, 60.0, Factor(1.0, 1.3)),
    (0.0, 0.0, 0.0),
    (0.0, -80.0, 0.0),
    1.0,
)
CENTRE = np.array([0.0, -11.0, 0.0])
SEMI_AXES = np.array([11.0, 16.0, 11.0])


def geometry(slices: int = 48, spacing_mm: float = 2.5) -> SliceGeometry:
    return SliceGeometry(
        (-60.0, -60.0, -58.0),
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        0.8,
        0.8,
        tuple(spacing_mm * k for k in range(slices)),
        spacing_mm,
        150,
        150,
    )


def scan(
    volume_id: str,
    ice: bool,
    seed: int,
    fat_half: bool = False,
    shift_hu: float = 0.0,
    nodule_mm: float | None = None,
    blood_mm: float | None = None,
) -> CtVolume:
    """A CT volume of soft tissue at 55 HU; ice is an ellipsoid around the active zone. With a
    nodule of that radius around the active zone, lung lies beyond it, filled with blood as far as
    ``blood_mm``."""
    g = geometry()
    k, j, i = np.meshgrid(np.arange(48), np.arange(150), np.arange(150), indexing="ij")
    points = g.to_lps_mm(np.stack([k, j, i], -1))
    hu = np.full(k.shape, 55.0)
    contrast = np.full(k.shape, DROP_HU)
    if fat_half:
        fat = points[..., 0] > 4.0
        hu[fat], contrast[fat] = -100.0, 6.0
    if nodule_mm is not None:
        lung = np.linalg.norm(points - CENTRE, axis=-1) > nodule_mm
        if blood_mm is not None:
            lung &= np.linalg.norm(points - CENTRE, axis=-1) > blood_mm
        hu[lung], contrast[lung] = -820.0, 0.0
    if ice:
        inside = (((points - CENTRE) / SEMI_AXES) ** 2).sum(-1) < 1
        hu -= contrast * inside
    hu = ndimage.gaussian_filter(hu, (0.4, 0.9, 0.9))
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=hu.shape), (0, 0.7, 0.7))
    hu += 12.0 * noise / noise.std() + shift_hu
    return CtVolume(
        volume_id, g, np.round(hu).astype(np.int16), "P", "1.2", "1.3", 100.0, 101.0, (), "test"
    )


def measure(ice: bool = True, fat_half: bool = False, shift_hu: float = 0.0) -> IceSegmentation:
    baseline = make_baseline(scan("v001", False, 1, fat_half), GRID)
    return segment_ice(scan("v002", ice, 2, fat_half, shift_hu), baseline, [NEEDLE], DROP_HU)[0]


def surface_error_mm(ice: IceSegmentation) -> np.ndarray:
    """The measured signed distance at points of the true surface."""
    rng = np.random.default_rng(3)
    unit = rng.normal(size=(4000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert ice.sdf_mm is not None
    return np.asarray(sample(ice.sdf_mm, ice.grid, CENTRE + unit * SEMI_AXES, outside=np.nan))


def true_volume_ml() -> float:
    return float(4 / 3 * np.pi * np.prod(SEMI_AXES) / 1000)


@pytest.mark.requirement("REQ-ICE-ACCURACY")
def test_ellipsoid_in_soft_tissue() -> None:
    ice = measure()
    error = surface_error_mm(ice)
    assert ice.status is Status.OK, ice.reasons
    assert abs(ice.volume_ml / true_volume_ml() - 1) < 0.05
    assert abs(error.mean()) < 0.4
    assert np.percentile(np.abs(error), 95) < 1.5


@pytest.mark.requirement("REQ-ICE-ACCURACY")
def test_scanner_drift_between_scans_does_not_move_the_edge() -> None:
    error = surface_error_mm(measure(shift_hu=8.0))
    assert abs(error.mean()) < 0.5


@pytest.mark.requirement("REQ-ICE-ACCURACY")
def test_no_ice_is_no_ice() -> None:
    ice = measure(ice=False)
    assert ice.status is Status.OK, ice.reasons
    assert ice.volume_ml == 0.0
    assert ice.sdf_mm is not None
    assert np.isposinf(ice.sdf_mm).all()


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_ice_hidden_in_fat_is_admitted() -> None:
    ice = measure(fat_half=True)
    assert ice.status is not Status.OK or np.percentile(np.abs(surface_error_mm(ice)), 95) < 2.0


@pytest.mark.requirement("REQ-ICE-DOUBT")
@pytest.mark.parametrize("nodule_mm", [7.0, 9.0])
def test_ice_that_ends_in_aerated_lung_is_not_guessed(nodule_mm: float) -> None:
    """All of the nodule has frozen; where the ice ends nobody can see."""
    baseline = make_baseline(scan("v001", False, 1, nodule_mm=nodule_mm), GRID)
    ice, _ = segment_ice(scan("v002", True, 2, nodule_mm=nodule_mm), baseline, [NEEDLE], DROP_HU)
    assert ice.status is Status.INVALID
    assert ice.sdf_mm is None
    assert "edge_hidden" in [r.code for r in ice.reasons]


def test_ice_in_lung_shows_once_blood_has_filled_it() -> None:
    """The thaw fills the lung around the nodule; the next freeze darkens what has filled."""
    baseline = make_baseline(scan("v001", False, 1, nodule_mm=9.0), GRID)
    thawed = scan("v002", False, 2, nodule_mm=9.0, blood_mm=21.0)
    _, baseline = segment_ice(thawed, baseline, [NEEDLE], DROP_HU)
    filled = baseline.filled
    middle = tuple(np.round(GRID.to_index_zyx(CENTRE)).astype(int))
    assert 15.0 < filled.sum() * GRID.voxel_ml < 40.0
    assert not filled[middle]
    frozen = scan("v003", True, 3, nodule_mm=9.0, blood_mm=21.0)
    ice, _ = segment_ice(frozen, baseline, [NEEDLE], DROP_HU)
    assert ice.status is Status.OK, ice.reasons
    assert abs(ice.volume_ml / true_volume_ml() - 1) < 0.12
    assert np.percentile(np.abs(surface_error_mm(ice)), 95) < 2.0


def test_what_filled_within_the_ice_is_no_evidence_against_it() -> None:
    """Lung that fills while the ice is there has never been seen unfrozen."""
    baseline = make_baseline(scan("v001", False, 1, nodule_mm=9.0), GRID)
    _, after = segment_ice(
        scan("v002", True, 2, nodule_mm=9.0, blood_mm=21.0), baseline, [NEEDLE], DROP_HU
    )
    assert after.filled.any()
    assert not after.filled[freezing_distance_mm(GRID, [NEEDLE]) < 6.0].any()


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_without_needles_nothing_is_measured() -> None:
    baseline = make_baseline(scan("v001", False, 1), GRID)
    ice, _ = segment_ice(scan("v002", True, 2), baseline, [], DROP_HU)
    assert (ice.status, ice.sdf_mm, ice.reasons[-1].code) == (
        Status.INVALID,
        None,
        "needles_unknown",
    )


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_ice_that_leaves_the_scan_is_said() -> None:
    baseline = make_baseline(scan("v001", False, 1), GRID)
    full = scan("v002", True, 2)
    g = replace(full.geometry, slice_offsets_mm=full.geometry.slice_offsets_mm[:26])
    ice, _ = segment_ice(replace(full, geometry=g, hu=full.hu[:26]), baseline, [NEEDLE], DROP_HU)
    assert ice.status is Status.DEGRADED
    assert "ice_leaves_scan" in [r.code for r in ice.reasons]


@pytest.mark.requirement("REQ-ICE-DOUBT")
@pytest.mark.parametrize("shift_hu", [60.0, -60.0])
def test_contrast_medium_or_another_place_is_doubted(shift_hu: float) -> None:
    ice = measure(shift_hu=shift_hu)
    assert ice.status is not Status.OK
