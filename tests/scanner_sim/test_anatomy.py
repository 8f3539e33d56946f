"""The drawn patient holds what the truth and the scenario say, and nothing else. LPS mm."""

from __future__ import annotations

import numpy as np
import pytest

from scanner_sim import scenario as scenarios
from scanner_sim.freezing import heat
from scanner_sim.patient.anatomy import Anatomy, draw
from scanner_sim.patient.trunk import Trunk
from scanner_sim.scenario import tissue_names
from tests.scanner_sim.blocks import small


def tissue(a: Anatomy, name: str) -> np.ndarray:
    return a.label == tissue_names().index(name)


@pytest.mark.parametrize("name", scenarios.names())
def test_no_unnamed_structure_is_nearer_than_the_named_one(name: str) -> None:
    """Bowel, pancreas and nerve beside the lesion are those whose distance the truth tells."""
    s = small(name)
    a = draw(s)
    x, y, z = a.frame.grid()
    cx, cy, cz = s.lesion.centre_lps_mm
    near = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < 40.0**2
    voxel_ml = float(np.prod(a.frame.spacing_mm)) / 1000.0
    for structure in set(a.structures) & {"bowel", "pancreas", "nerve"}:
        outside = a.structures[structure](x, y, z) > 4.0
        stray = tissue(a, structure) & outside & near
        assert stray.sum() * voxel_ml < 0.5, structure


@pytest.mark.parametrize("name", scenarios.names())
def test_organs_stay_in_the_cavity_and_lungs_on_their_sides(name: str) -> None:
    s = small(name)
    a = draw(s)
    x, y, z = a.frame.grid()
    out = np.broadcast_to(Trunk(s.habitus).cavity(x, y, z) > 9.0, a.label.shape)
    behind = np.broadcast_to((np.abs(x) < 12.0) & (y > 56.0), a.label.shape)
    for organ in ("spleen", "liver", "bowel"):
        assert (tissue(a, organ) & out).sum() <= 0.01 * max(tissue(a, organ).sum(), 100), organ
    assert (tissue(a, "lung") & behind).sum() <= 0.001 * max(tissue(a, "lung").sum(), 1000)


def test_gas_in_the_bowel_is_as_warm_as_the_patient_and_the_room_is_not() -> None:
    s = small("kidney_exophytic")
    a = draw(s)
    room = heat._room(a)
    gas = tissue(a, "air") & ~room
    assert gas.sum() > 50
    middle = a.hu.shape[0] // 2
    assert room[middle, 2, 2]
    inside = Trunk(s.habitus).cavity(*a.frame.grid()) < -5.0
    assert not (room & inside).any()
