"""The bioheat kernels, proven as far as that goes without a GPU.

The kernel text that cupy compiles on a GPU runs here on the CPU: through the host shim in shuffled
order and under sanitizers, through the whole engine over a strict stand-in for cupy, and as the PTX
that NVRTC makes of it. What this cannot show: speed, and anything that a real driver does.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gpu_kernels import gpu, law
from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import EngineUnavailable, Problem
from gpu_kernels.reference import ReferenceEngine
from tests.cuda import fake_cupy, mutants, nvrtc, ptx, sanitized
from tests.cuda.bioheat_cases import CASES, assert_same, by_engine, by_numpy, check_source, start
from tests.gpu_kernels.problems import cube, needle
from tests.parity.test_engines_agree import problem as three_tissues

ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 120)
needs_nvrtc = pytest.mark.skipif(not nvrtc.available(), reason="NVRTC is not installed")


# ------------------------------------------------------------------ what is compiled


@needs_nvrtc
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_without_spills_or_stack(architecture: int, real: str) -> None:
    compiled = nvrtc.compile(gpu.kernel_source(), architecture, {"REAL": real})
    assert set(compiled.resources) == set(gpu._KERNELS)
    for name, r in compiled.resources.items():
        assert (r.spill_store_bytes, r.spill_load_bytes, r.stack_bytes) == (0, 0, 0), name
        assert r.registers <= 128, name  # two blocks of 256 threads a multiprocessor


# ------------------------------------------------------------------ every kernel against NumPy


@pytest.mark.parametrize("real", [np.float64, np.float32])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_every_kernel_does_what_numpy_does_in_any_order_of_threads(order: int, real: Any) -> None:
    """Fields to 1e-12 of the largest enthalpy in float64, to 1e-6 in float32."""
    check_source(gpu.kernel_source(), order, real)


def test_no_access_outside_an_array_and_nothing_undefined() -> None:
    if not sanitized.runtime_libraries():
        pytest.skip("gcc has no sanitizer libraries here")
    code, said = sanitized.run("tests.cuda.bioheat_cases", "check_own_source", timeout_s=280.0)
    assert code == 0, said[-3000:]


# Lines in which a mutant computes the same, each with the reason.
_EQUIVALENT = {
    r"REAL least\(|REAL most\(|REAL size_of\(": "the same number where both are equal",
    r"s1 > REAL\(0\) \?": "surface coefficients are above 0 or -1",
    r"REAL low = REAL\(-273|i < 20|const REAL inside =|slope = 0|slope \+=|REAL\(0\)\) high = t"
    r"|!\(low <= t": "steers how fast Newton arrives, not where",
    r"\+ REAL\(1e-6\)": "guards a division by 0, far below what is compared",
    r"h1 <= half": "exactly half frozen at the end of a step",
    r"has_open && open\[origin": "voxels at their liquidus to the last bit",
    r"\* PARAMETERS \+ LATENT": "LATENT is 0",
    r"if \(thread == 0": "any thread may write what the block found",
    r"effort > REAL\(0\)": "no effort draws nothing either way",
    r"\(x >= x1 \|\| y >= y1\) return": "columns outside the box have slack, and are not looked at",
    r"z_first > 0\) below|z \+ 1 < nz\) above": "below and above the grid stands the voxel itself",
}


def _unseen(found: list[mutants.Mutant]) -> list[str]:
    """The mutants that nothing notices: neither NumPy nor, for the rest, the PTX interpreter."""
    lines = gpu.kernel_source().splitlines()
    alive = mutants.survivors(found, check_source, timeout_s=60.0)
    alive = [m for m in alive if not any(re.search(e, lines[m.line - 1]) for e in _EQUIVALENT)]
    if nvrtc.available():
        alive = mutants.survivors(alive, _check_ptx, timeout_s=120.0)
    return [f"{m.line}: {m.description}: {lines[m.line - 1].strip()}" for m in alive]


def _check_ptx(source: str) -> None:
    p = CASES[0]()
    with (
        fake_cupy.install(runner=_through_ptx({}, 90)),
        mock.patch.object(gpu, "kernel_source", return_value=source),
    ):
        assert_same(by_engine(p, start(p), np.float32), by_numpy(p, start(p)), 1e-6)


@pytest.mark.long
def test_every_mutant_dies() -> None:
    """A sample; ``MUTANTS=all`` takes all of them (10 minutes)."""
    limit = None if os.environ.get("MUTANTS") == "all" else 120
    found = mutants.generate(gpu.kernel_source(), limit, seed=20261, defines={"REAL": "double"})
    assert len(found) >= 120
    assert _unseen(found) == []


# ------------------------------------------------------------------ the PTX itself


def _through_ptx(reports: dict[str, list[ptx.Report]], architecture: int) -> fake_cupy.Runner:
    def run(launch: fake_cupy.Launch) -> None:
        compiled = nvrtc.compile(launch.source, architecture, launch.defines)
        report = ptx.launch(compiled.ptx, launch.name, launch.grid, launch.block, launch.args)
        report.check()
        reports.setdefault(launch.name, []).append(report)

    return run


@needs_nvrtc
def test_ptx_computes_the_same_without_races() -> None:
    p = CASES[0]()
    state = start(p)
    reports: dict[str, list[ptx.Report]] = {}
    with fake_cupy.install(runner=_through_ptx(reports, 90)):
        got = by_engine(p, state, np.float32)
    assert set(reports) == set(gpu._KERNELS)
    assert_same(got, by_numpy(p, state), 1e-6)


@needs_nvrtc
def test_a_stage_moves_hardly_more_than_it_must() -> None:
    """A homogeneous box of whole warps. The least: h, the stage before, h0, rate0 and the label in,
    the next stage out, 21 bytes a voxel."""
    p = cube(126.0, 2.0, (needle(),), boundary="insulated")
    p = replace(p, label_zyx=p.label_zyx[:16, :32])
    reports: dict[str, list[ptx.Report]] = {}
    with fake_cupy.install(runner=_through_ptx(reports, 90)):
        engine = gpu.GpuEngine()
        state = engine.initial(p, 37.0)
        run = gpu._Run(engine, p, state.enthalpy_j_m3, None, None, 0.0)
        run._rate(0.0)
        run._stages(0.0, 2.0, law.rkl2(3))
    report = reports["stage"][-1]
    voxels = p.label_zyx.size
    assert report.unique_bytes <= 21 * voxels / 0.9
    assert report.useful_fraction >= 0.9


# ------------------------------------------------------------------ the engine


def _advanced(engine: Any, p: Problem, until_s: float) -> Any:
    return engine.advance(p, engine.initial(p, 37.0, history=True), until_s)


@pytest.mark.parametrize("boundary", ["fixed", "insulated"])
def test_engine_agrees_with_the_reference(boundary: str) -> None:
    p = replace(three_tissues(boundary, (1.8, 2.2, 2.6)), stasis_s=30.0)
    reference = ReferenceEngine()
    with fake_cupy.install():
        engine = gpu.GpuEngine()
        got = _advanced(engine, p, 205.0)
        difference = engine.temperature_degc(p, got)
    exact = _advanced(reference, p, 205.0)
    difference = difference - reference.temperature_degc(p, exact)
    assert np.sqrt((difference**2).mean()) < 0.1
    ice = [e.frozen_fraction(p, s).sum((1, 2, 3)) for e, s in ((engine, got), (reference, exact))]
    assert ice[1].min() > 5.0
    np.testing.assert_allclose(ice[0], ice[1], rtol=5e-3, atol=0.5)
    assert engine.work.steps > 10
    assert got.history is not None
    np.testing.assert_array_equal(got.history.cycles.max(), exact.history.cycles.max())


def test_engine_computes_where_heat_has_reached_and_gets_the_rest_right() -> None:
    """A needle in a corner of a large box, metabolic heat everywhere."""
    p = cube(126.0, 2.0, (needle(length_mm=10.0),))
    p = replace(p, tissues=(replace(p.tissues[0], metabolic_w_m3=900.0, perfusion_per_s=4e-3),))
    cpu = CpuEngine(whole=True)
    with fake_cupy.install():
        engine = gpu.GpuEngine()
        got = engine.advance(p, engine.initial(p, 37.0), 60.0)
    exact = cpu.temperature_degc(p, cpu.advance(p, cpu.initial(p, 37.0), 60.0))
    assert engine.work.voxel_updates < 0.5 * engine.work.stages * p.label_zyx.size
    assert exact.min() < -20.0
    far = np.abs(engine.temperature_degc(p, got) - exact)
    assert far.max() < 1.0
    assert far[0, -16:-8, 8:-8, 8:-8].max() < 0.004
    assert exact[0, -8].max() > 37.006  # blood and metabolism did work there


def test_members_are_computed_side_by_side() -> None:
    p = three_tissues("fixed", (2.0, 2.0, 2.0))
    with fake_cupy.install():
        engine = gpu.GpuEngine()
        both = engine.temperature_degc(p, _advanced(engine, p, 60.0))
        alone = replace(p, members=type(p.members)(*(v[1:2] for v in vars(p.members).values())))
        one = engine.temperature_degc(alone, _advanced(engine, alone, 60.0))
    assert np.abs(both[0] - both[1]).max() > 1.0
    # The fastest member sets everyone's step, so alone the steps differ, but no more.
    assert np.sqrt(((both[1] - one[0]) ** 2).mean()) < 0.5
    assert np.sqrt(((both[0] - one[0]) ** 2).mean()) > 1.0


def test_without_a_device_or_cupy_the_error_says_so() -> None:
    with (
        fake_cupy.install(device_count=0),
        pytest.raises(EngineUnavailable, match="no CUDA device"),
    ):
        gpu.GpuEngine()
    with (
        mock.patch.dict("sys.modules", {"cupy": None}),
        pytest.raises(EngineUnavailable, match="not installed"),
    ):
        gpu.GpuEngine()


def test_more_memory_than_the_device_has_is_an_error_not_a_wrong_field() -> None:
    p = cube(60.0, 2.0, (needle(),))
    with fake_cupy.install(memory_bytes=100_000) as cupy:
        engine = gpu.GpuEngine()
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            engine.advance(p, engine.initial(p, 37.0), 5.0)


@pytest.mark.gpu
def test_on_a_real_gpu() -> None:
    """The only test that runs on a device; it skips where there is none."""
    try:
        engine = gpu.GpuEngine()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    p, reference = three_tissues("fixed", (2.0, 2.0, 2.0)), ReferenceEngine()
    difference = engine.temperature_degc(p, _advanced(engine, p, 205.0))
    difference = difference - reference.temperature_degc(p, _advanced(reference, p, 205.0))
    assert np.sqrt((difference**2).mean()) < 0.1
