"""The benchmark's parts; nothing here is timed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpu_kernels import bench
from gpu_kernels.cpu import CpuEngine


def test_p1_is_within_five_hundredths_of_the_converged_answer() -> None:
    problem, engine = bench.p1(), CpuEngine()
    converged = bench.converged_radii_mm(problem)
    # The grid's own: radii of physics' table, which takes harmonic means at faces, lie within 0.15.
    assert converged == pytest.approx([13.939, 9.303, 5.964], abs=0.15)
    state = engine.advance(problem, engine.initial(problem, 37.0), bench.DURATION_S)
    found = bench.radii_mm(problem, engine.temperature_degc(problem, state)[0])
    assert found == pytest.approx(converged, abs=0.05)
    assert engine.work.voxel_updates < 0.6 * engine.work.stages * problem.label_zyx.size


def test_a_forecast_on_2_mm_is_within_a_tenth_of_its_fine_run() -> None:
    problem = bench.forecast()
    radii = []
    for engine in (CpuEngine(), CpuEngine(whole=True, most_latent=0.05)):
        state = engine.advance(problem, engine.initial(problem, 37.0), bench.DURATION_S)
        radii.append(bench.radii_mm(problem, engine.temperature_degc(problem, state)[0]))
    assert radii[0] == pytest.approx(radii[1], abs=0.05)


def test_members_of_the_benchmark_differ() -> None:
    members = bench.forecast(64).members
    assert len({*members.perfusion, *members.k_frozen}) == 128


def test_layered_problem_has_seven_tissues_and_p1s_needle() -> None:
    problem = bench.layered()
    assert len(problem.tissues) == 8  # the needle is one
    assert set(np.unique(problem.label_zyx)) == set(range(8))
    np.testing.assert_array_equal(problem.label_zyx == 1, bench.p1().label_zyx == 1)


def test_table_says_ratios_and_leaves_out_what_means_nothing() -> None:
    rows = [
        bench.Row("P1", "cpu", 0.2, 2.0, off_mm=0.004),
        bench.Row("P1, harmonic means", "devito", 3.0),
        bench.Row("P1 in seven tissues", "cpu", 0.25),
    ]
    text = bench.table({"rows": [vars(r) for r in rows]})
    assert "15.0 times as fast as devito (P1, harmonic means)" in text
    assert "1.25 times" in text
    assert "nan" not in text


def test_radius_is_where_the_isotherm_crosses() -> None:
    problem = replace(bench.p1(), label_zyx=np.zeros((96, 96, 96), np.uint8))
    x_mm = np.abs(problem.origin_mm[0] + np.arange(96))
    degc = np.broadcast_to(4.0 * x_mm - 60.0, (96, 96, 96))
    assert bench.radii_mm(problem, degc) == pytest.approx([15.0, 10.0, 5.0])
