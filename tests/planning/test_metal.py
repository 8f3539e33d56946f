"""Needles that a scan shows are found without a plan, and two clicks near one are moved onto it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.case import needle_preset
from monitor.geometry import SliceGeometry
from monitor.model import CtVolume
from monitor.planning.metal import candidates, clicked

_SHAPE, _DZ, _DX = (44, 200, 200), 2.5, 0.8
NEEDLES = (((6.0, -4.0, 2.0), (30.0, -75.0, 12.0)), ((-7.0, 3.0, -4.0), (-40.0, -70.0, -20.0)))
KIND = needle_preset("icesphere_1_5")


@pytest.fixture(scope="module")
def volume() -> CtVolume:
    nz, ny, nx = _SHAPE
    geometry = SliceGeometry(
        (-_DX * nx / 2, -_DX * ny / 2, -_DZ * nz / 2), (1, 0, 0), (0, 1, 0), (0, 0, 1),
        _DX, _DX, tuple(_DZ * k for k in range(nz)), _DZ, ny, nx,
    )  # fmt: skip
    p = geometry.to_lps_mm(np.stack(np.indices(_SHAPE), -1))
    hu = np.random.default_rng(3).normal(50.0, 12.0, _SHAPE)
    for tip, entry in (np.array(n) for n in NEEDLES):
        along = (entry - tip) / np.linalg.norm(entry - tip)
        foot = np.clip((p - tip) @ along, 0, np.linalg.norm(entry - tip))
        aside = np.linalg.norm(p - tip - foot[..., None] * along, axis=-1)
        hu += 2600.0 * np.exp(-0.5 * (aside / 0.9) ** 2)
    hu = np.clip(hu, -1024, 3000).astype(np.int16)
    return CtVolume("v001", geometry, hu, "A", "1", "2", 0.0, 0.0, (), "count")


def off(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def test_both_are_found_with_the_tip_at_the_lesion(volume: CtVolume) -> None:
    found = candidates(volume, (0.0, 0.0, 0.0), KIND)
    assert len(found) == 2
    for tip, entry in NEEDLES:
        nearest = min(found, key=lambda f: off(f.tip_lps_mm, tip))
        assert off(nearest.tip_lps_mm, tip) < 2.0
        d = np.subtract(nearest.entry_lps_mm, nearest.tip_lps_mm)
        e = np.subtract(entry, tip)
        assert d @ e / np.linalg.norm(d) / np.linalg.norm(e) > 0.995


def test_two_clicks_are_moved_onto_the_metal(volume: CtVolume) -> None:
    tip, _entry = NEEDLES[0]
    placed = clicked(volume, (8.0, -2.0, 4.0), (28.0, -72.0, 10.0), KIND)
    assert placed.on_metal
    assert off(placed.tip_lps_mm, tip) < 1.5
    assert off(placed.tip_lps_mm, (8.0, -2.0, 4.0)) > 2.0


def test_clicks_where_there_is_no_metal_stay_and_say_so(volume: CtVolume) -> None:
    placed = clicked(volume, (10.0, 55.0, 0.0), (60.0, 70.0, 0.0), KIND)
    assert not placed.on_metal
    assert placed.tip_lps_mm == (10.0, 55.0, 0.0)


def test_nothing_is_found_where_there_is_nothing(volume: CtVolume) -> None:
    plain = np.full(_SHAPE, 50, np.int16)
    assert candidates(replace(volume, hu=plain), (0.0, 0.0, 0.0), KIND) == ()
