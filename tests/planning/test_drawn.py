"""Two strokes make an ellipsoid, a brush edits it, a mask keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.config import ShapeFile, StructureConfig
from monitor.intake.structures import load_structure
from monitor.model import Role
from monitor.planning.drawn import (
    DrawingError,
    Stroke,
    ball,
    brushed,
    ellipsoid,
    from_ellipsoid,
    write_mask,
)

_BALL_ML = 4 / 3 * np.pi * 10.0**3 / 1000


def test_two_strokes_make_an_ellipsoid_as_deep_as_it_is_wide() -> None:
    turned = np.radians(30.0)
    u, v = (
        np.array([np.cos(turned), np.sin(turned), 0]),
        np.array([-np.sin(turned), np.cos(turned), 0]),
    )
    c = np.array([10.0, -40.0, 7.0])
    e = ellipsoid(
        Stroke(tuple(c - 15 * u), tuple(c + 15 * u)), Stroke(tuple(c - 9 * v), tuple(c + 9 * v))
    )
    assert np.allclose(e.centre_lps_mm, c)
    assert np.allclose(e.semi_axes_mm, (15, 9, 9))
    assert np.isclose(e.scaled_radius(c + 15 * u), 1)
    assert np.isclose(e.scaled_radius(c + np.array([0, 0, 9.0])), 1)
    assert from_ellipsoid(e).volume_ml == pytest.approx(4 / 3 * np.pi * 15 * 81 / 1000, rel=0.02)


def test_a_short_axis_off_the_middle_moves_the_centre() -> None:
    e = ellipsoid(Stroke((-10, 0, 0), (10, 0, 0)), Stroke((0, -4, 0), (0, 8, 0)))
    assert np.allclose(e.centre_lps_mm, (0, 2, 0))
    assert np.allclose(e.semi_axes_mm, (10, 6, 6))


@pytest.mark.parametrize(
    ("long", "short", "code"),
    [
        (((0, 0, 0), (1, 0, 0)), ((0, -5, 0), (0, 5, 0)), "long_axis_length"),
        (((-10, 0, 0), (10, 0, 0)), ((-5, 0, 0), (5, 0.5, 0)), "short_axis_length"),
        (((-100, 0, 0), (100, 0, 0)), ((0, -5, 0), (0, 5, 0)), "long_axis_length"),
    ],
)
def test_a_slip_of_the_hand_is_no_lesion(long: tuple, short: tuple, code: str) -> None:
    with pytest.raises(DrawingError) as refused:
        ellipsoid(Stroke(*long), Stroke(*short))
    assert refused.value.code == code


def test_a_brush_adds_beyond_the_grid_and_cuts_away() -> None:
    body = ball((0, 0, 0), 10.0)
    assert body.volume_ml == pytest.approx(_BALL_ML, rel=0.02)
    more = brushed(body, (60.0, 0, 0), 10.0, add=True)
    assert more.volume_ml == pytest.approx(2 * _BALL_ML, rel=0.02)
    x, _y, _z = more.grid.axes_lps_mm()
    assert x[0] <= -10 < x[1] + 60
    assert x[-1] >= 70
    again = brushed(more, (60.0, 0, 0), 11.0, add=False)
    assert again.volume_ml == pytest.approx(body.volume_ml, rel=1e-6)
    assert body.volume_ml == pytest.approx(_BALL_ML, rel=0.02), "the body before is as it was"


def test_nothing_left_is_refused() -> None:
    with pytest.raises(DrawingError):
        brushed(ball((0, 0, 0), 5.0), (0, 0, 0), 9.0, add=False)


def test_a_mask_reads_back_where_it_was(tmp_path: Path) -> None:
    body = brushed(ball((12.3, -45.6, 78.9), 9.0), (20.0, -45.6, 78.9), 6.0, add=True)
    write_mask(body, tmp_path / "lesion.nii.gz")
    config = StructureConfig(
        "lesion", Role.LESION, ShapeFile(tmp_path / "lesion.nii.gz", None), None
    )
    read = load_structure(config).structure
    inside = read.grid.points_lps_mm()[read.sdf_mm <= 0]
    drawn = body.grid.points_lps_mm()[body.level_mm < 0]
    assert np.allclose(inside.mean(0), drawn.mean(0), atol=0.15)
    assert np.allclose(inside.min(0), drawn.min(0), atol=1.0)
    volume_ml = float((read.sdf_mm <= 0).sum()) * read.grid.voxel_ml
    assert volume_ml == pytest.approx(body.volume_ml, rel=0.03)


def test_a_mask_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be written"):
        write_mask(ball((0, 0, 0), 5.0), tmp_path / "nowhere" / "m.nii.gz")
