"""What is drawn on the three planes, read back as pixels: places, bands, words. 1920 × 1080."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from view_pixels import like, pixels

from monitor.snapshot import NeedleLine, Snapshot
from monitor.view import style
from monitor.view.png import picture

Make = Callable[..., Any]


@pytest.mark.requirement("REQ-ORIENTATION")
@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160), (1280, 720)])
def test_the_lesion_is_drawn_where_it_lies(
    normal: Snapshot, screen: Make, size: tuple[int, int]
) -> None:
    """The yellow contour alone (plan without ice or prediction), within a pixel of the sphere."""
    plain = replace(
        normal, ice_sdf=None, forecast_temperature=None, needles=(), margin_goal_mm=200.0
    )
    s = screen(plain, size=size)
    cursor = np.array(samples.WORST)
    for pane in s.window.panes.values():
        frame, across = pane.frame(), pane.plane.across
        depth = cursor[across] - samples.LESION[across]
        radius_px = np.sqrt(samples.LESION_RADIUS**2 - depth**2) * frame.px_per_mm
        rows, columns = np.nonzero(like(pixels(pane), "lesion", 60))
        assert len(rows) > 20
        centre = frame.to_px(np.array(samples.LESION))
        radii = np.hypot(columns + 0.5 - centre[0], rows + 0.5 - centre[1])
        width = 1.0 + 1.3 * s.window.panes["axial"].scale
        assert np.abs(radii - radius_px).max() <= width, pane.plane.name
        assert radii.mean() == pytest.approx(radius_px, abs=1.0)


def test_the_picture_and_the_contours_agree(normal: Snapshot, screen: Make, folder: Path) -> None:
    """A bright ball in the CT, as large as the lesion, fills the lesion's contour to a pixel."""
    geometry = samples.aligned_geometry((60, 200, 200), (1.0, 1.0, 1.0))
    p = samples.points(geometry)
    ball = np.linalg.norm(p - samples.LESION, axis=-1) < samples.LESION_RADIUS
    volume = samples.save(folder, "ball", np.where(ball, 1000, -1000).astype(np.int16))
    bare = replace(
        normal,
        volume=volume,
        volume_geometry=geometry,
        ice_sdf=None,
        lesion_sdf=None,
        structure_sdfs=(),
        forecast_temperature=None,
        needles=(),
        window_hu=(0.0, 200.0),
    )
    s = screen(bare)
    s.window.scene.chosen = samples.LESION
    s.window.scene.centre, s.window.scene.field_mm = samples.LESION, 60.0
    s.window.refresh()
    pane = s.window.panes["axial"]
    bright = pixels(pane).min(-1) > 128
    bright[:120], bright[-140:] = False, False
    bright[:, :90], bright[:, -90:] = False, False
    rows, columns = np.nonzero(bright)
    centre = pane.frame().to_px(np.array(samples.LESION))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(tuple(centre), abs=1.0)
    area_mm2 = len(rows) / pane.frame().px_per_mm ** 2
    assert area_mm2 == pytest.approx(np.pi * samples.LESION_RADIUS**2, rel=0.03)


@pytest.mark.requirement("REQ-ORIENTATION")
def test_patient_right_is_on_the_screens_left(normal: Snapshot, screen: Make, folder: Path) -> None:
    geometry = samples.aligned_geometry()
    x = samples.points(geometry)[..., 0]
    volume = samples.save(
        folder, "right", np.where(x < samples.LESION[0], 500, -900).astype(np.int16)
    )
    s = screen(replace(normal, volume=volume, volume_geometry=geometry))
    for name in ("axial", "coronal"):
        shot = pixels(s.window.panes[name]).mean(-1)
        quarter = shot.shape[1] // 5
        assert shot[:, :quarter].mean() > 200
        assert shot[:, -quarter:].mean() < 60


@pytest.mark.requirement("REQ-ORIENTATION")
def test_a_tilted_stack_lands_where_the_aligned_one_does(
    normal: Snapshot, screen: Make, folder: Path
) -> None:
    t = np.deg2rad(15.0)
    aligned = samples.aligned_geometry((90, 220, 220), (1.5, 1.0, 1.0))
    tilted = replace(
        aligned,
        column_direction=(0.0, float(np.cos(t)), float(-np.sin(t))),
        origin_lps_mm=(aligned.origin_lps_mm[0], -170.0, -25.0),
    )
    shots = []
    for name, geometry in (("aligned", aligned), ("tilted", tilted)):
        ball = (
            np.linalg.norm(samples.points(geometry) - samples.LESION, axis=-1)
            < samples.LESION_RADIUS
        )
        ref = samples.save(folder, name, np.where(ball, 300, -300).astype(np.int16))
        s = screen(
            replace(
                normal,
                volume=ref,
                volume_geometry=geometry,
                ice_sdf=None,
                lesion_sdf=None,
                structure_sdfs=(),
                forecast_temperature=None,
                needles=(),
            )
        )
        s.window.scene.chosen = s.window.scene.centre = samples.LESION
        s.window.refresh()
        shots.append({n: pixels(p).mean(-1) for n, p in s.window.panes.items()})
    for pane in shots[0]:
        a, b = (np.argwhere(shot[pane] > 150).mean(0) for shot in shots)
        assert a == pytest.approx(b, abs=2.0), pane


def test_a_structure_off_its_grid_is_not_drawn_under_anothers_name(
    normal: Snapshot, screen: Make, folder: Path
) -> None:
    wrong = samples.save(folder, "wrong", np.zeros((3, 3, 3), np.float32))
    s = screen(replace(normal, structure_sdfs=(("skin", wrong), *normal.structure_sdfs)))
    assert [x[0] for x in s.window.scene.structures] == ["colon"]


# --------------------------------------------------------------------------- words on the planes


@pytest.fixture
def crowded(normal: Snapshot, folder: Path) -> Snapshot:
    """Two needles side by side that leave the picture at its letter, a thin bent skin before the
    ice, and a message over the bowel."""
    p = samples.GRID.points_lps_mm()
    skin = np.abs(np.linalg.norm(p - np.array((20.0, -30.0, 12.0)), axis=-1) - 72.0) - 1.0
    bowel = np.linalg.norm(p - np.array((20.0, -52.0, 12.0)), axis=-1) - 9.0
    uncertain = samples.states(normal)["degraded"]
    assert uncertain is not None
    return replace(
        uncertain,
        needles=tuple(
            NeedleLine(n, (18.0, -80.0 + n, 12.0), (90.0, -81.0 + n, 12.0)) for n in (1, 2)
        ),
        structure_sdfs=(
            ("skin", samples.save(folder, "skin", skin.astype(np.float32))),
            ("bowel", samples.save(folder, "bowel", bowel.astype(np.float32))),
        ),
        structure_grids=(samples.GRID, samples.GRID),
    )


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("pane", ["axial", "coronal", "sagittal"])
def test_no_word_on_a_plane_covers_another(
    crowded: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch, language: str, pane: str
) -> None:
    s = screen(crowded, language=language)
    words = words_drawn(s.window.panes[pane], monkeypatch)
    assert {"skin", "peau"} & {text for text, _ in words}
    for (text, box), (other, covered) in itertools.combinations(words, 2):
        assert not box.intersects(covered), (text, other)


def test_the_name_of_a_thin_structure_stands_on_it(
    crowded: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = screen(crowded)
    pane = s.window.panes["axial"]
    (box,) = (box for text, box in words_drawn(pane, monkeypatch) if text == "skin")
    right_mm, vertical_mm = pane.frame().to_mm(box.center().x(), box.center().y())
    at = np.array((right_mm, vertical_mm, samples.WORST[2]))
    assert np.linalg.norm(at - (20.0, -30.0, 12.0)) == pytest.approx(72.0, abs=2.5)


def words_drawn(pane: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Each word of a plane with what it covers, as its picture is drawn anew."""
    found: list[tuple[str, Any]] = []
    draw = style.draw_cased

    def seen(painter: Any, at: Any, text: str, *how: Any, **more: Any) -> Any:
        box = draw(painter, at, text, *how, **more)
        found.append((text, box))
        return box

    monkeypatch.setattr(style, "draw_cased", seen)
    pane._key = None
    pane.show_model(pane.model)
    picture(pane)
    return found


def test_predicted_bands_are_drawn_where_the_members_disagree_and_nowhere_else(
    normal: Snapshot, screen: Make
) -> None:
    """The sample's members lie 4 °C to both sides of its nominal field, which rises 3.6 °C a millimetre."""
    with_bands = pixels(screen(normal).window.panes["axial"]).astype(int)
    s = screen(replace(normal, forecast_band=None))
    pane = s.window.panes["axial"]
    changed = np.abs(with_bands - pixels(pane).astype(int)).max(-1) > 6
    rows, columns = np.nonzero(changed)
    assert len(rows) > 1000
    frame, cursor = pane.frame(), np.array(samples.WORST)
    where = np.tile(cursor, (len(rows), 1))
    x, y = np.array([frame.to_mm(c + 0.5, r + 0.5) for r, c in zip(rows, columns, strict=True)]).T
    where[:, pane.plane.right], where[:, pane.plane.vertical] = x, y
    times = normal.forecast_times_utc_s
    degc = -2.0 + 3.6 * (samples.ice_sdf(where) - 0.011 * (samples.NOW - times[0]))
    apart = np.min([np.abs(degc - level) for level in (-2.0, -20.0, -40.0)], axis=0)
    assert apart.max() < 4.0 + 3.6 * 0.7
    only_without = screen(replace(normal, forecast_temperature=None)).window.panes["axial"]
    assert not only_without._prediction_bands
