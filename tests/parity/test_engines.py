"""The CPU engine against the reference, on what it will meet."""

from dataclasses import replace

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Members, Problem
from gpu_kernels.reference import ReferenceEngine
from gpu_kernels.select import EngineUnavailable, open_engine
from tests.cuda import fake_cupy
from tests.gpu_kernels.problems import FAT, SOFT, cube, needle

NAN = float("nan")


def two_needles(boundary: str = "fixed") -> Problem:
    """Fat beside muscle, two oblique needles, freeze - thaw - freeze, two members, uneven voxels."""
    table = (
        (0.0, 37.0),
        (40.0, -140.0),
        (200.0, -140.0),
        (200.0, NAN),
        (300.0, NAN),
        (300.0, 0.0),
        (340.0, -140.0),
    )
    needles = tuple(
        replace(
            needle((1.0, 2.0, 1.3), 16.0), surface_degc=table, tip_mm=(x, -6.0, -4.0), duty=duty
        )
        for x, duty in ((-9.0, 1.0), (4.0, 0.6))
    )
    problem = cube(40.0, 2.0, needles, (SOFT, FAT), boundary)
    label = problem.label_zyx.copy()
    label[:, :, 12:] = 1
    members = Members((1.0, 1.8), (1.0, 0.8), (1.0, 1.1), (1.0, (0.7, 1.2)))
    return replace(problem, label_zyx=label, spacing_mm=(2.0, 2.0, 2.5), members=members)


@pytest.mark.requirement("REQ-ENGINE")
@pytest.mark.parametrize("boundary", ["fixed", "insulated"])
def test_cpu_equals_reference(boundary: str) -> None:
    problem = two_needles(boundary)
    cpu, reference = CpuEngine(), ReferenceEngine()
    a, b = cpu.initial(problem, 37.0), reference.initial(problem, 37.0)
    for until_s in (180.0, 290.0, 420.0):
        a, b = cpu.advance(problem, a, until_s), reference.advance(problem, b, until_s)
        ta, tb = cpu.temperature_degc(problem, a), reference.temperature_degc(problem, b)
        assert tb.min() < -5.0  # something froze, and stays frozen through the thaw
        # A voxel that has just frozen may be a few degrees ahead or behind; the field may not.
        assert np.abs(ta - tb).max() < 8.0
        assert np.sqrt(np.mean((ta - tb) ** 2)) < 0.25
        for member in range(2):
            ice_a = (cpu.frozen_fraction(problem, a)[member] > 0.5).sum()
            ice_b = (reference.frozen_fraction(problem, b)[member] > 0.5).sum()
            assert ice_a == pytest.approx(ice_b, rel=0.02, abs=8)


def test_members_do_not_touch_each_other() -> None:
    problem = two_needles()
    cpu = CpuEngine()
    both = cpu.advance(problem, cpu.initial(problem, 37.0), 120.0)
    second = Members(
        *(
            (v[1],)
            for v in (
                problem.members.perfusion,
                problem.members.latent_heat,
                problem.members.k_frozen,
                problem.members.cooling,
            )
        )
    )
    alone = replace(problem, members=second)
    single = cpu.advance(alone, cpu.initial(alone, 37.0), 120.0)
    # The fastest member sets everyone's step, so alone the steps differ, but no more.
    difference = cpu.temperature_degc(problem, both)[1] - cpu.temperature_degc(alone, single)[0]
    assert np.sqrt(np.mean(difference**2)) < 0.15
    ice = cpu.frozen_fraction(problem, both)[1].sum(), cpu.frozen_fraction(alone, single)[0].sum()
    assert ice[0] == pytest.approx(ice[1], rel=3e-3)
    assert np.abs(np.diff(cpu.temperature_degc(problem, both), axis=0)).max() > 5.0


def test_stops_in_between_change_next_to_nothing() -> None:
    problem = two_needles()
    cpu = CpuEngine()
    whole = cpu.advance(problem, cpu.initial(problem, 37.0), 420.0)
    pieces = cpu.initial(problem, 37.0)
    for until_s in (77.0, 160.0, 161.0, 250.0, 330.0, 420.0):
        pieces = cpu.advance(problem, pieces, until_s)
    assert pieces.time_s == whole.time_s == 420.0
    difference = cpu.temperature_degc(problem, whole) - cpu.temperature_degc(problem, pieces)
    assert np.sqrt(np.mean(difference**2)) < 0.1
    ice = [cpu.frozen_fraction(problem, s).sum() for s in (whole, pieces)]
    assert ice[0] > 100.0
    assert ice[0] == pytest.approx(ice[1], rel=2e-3)


@pytest.mark.requirement("REQ-ENGINE")
def test_no_engine_is_chosen_in_silence() -> None:
    with fake_cupy.install(device_count=0):
        chosen = open_engine("auto")
        assert chosen.name == "cpu"
        assert "no CUDA device" in chosen.why
        with pytest.raises(EngineUnavailable, match="no CUDA device"):
            open_engine("gpu")
    with fake_cupy.install():
        assert open_engine("auto").name == "gpu"
    assert open_engine("reference").name == "reference"
    with pytest.raises(EngineUnavailable, match="expected one of"):
        open_engine("tpu")
