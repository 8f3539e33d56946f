"""The golden fields are today's law, and the self-test notices when an engine is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpu_kernels import selftest
from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Problem, State
from gpu_kernels.gpu import GpuEngine
from gpu_kernels.reference import ReferenceEngine
from monitor.cli import main
from tests.cuda import fake_cupy


def test_golden_fields_are_the_reference_engines() -> None:
    checks = selftest.check_engine(ReferenceEngine())
    assert all(c.rms_degc < 1e-4 for c in checks), checks


@pytest.mark.requirement("REQ-ENGINE")
def test_every_engine_passes() -> None:
    with fake_cupy.install():
        for engine in (CpuEngine(), GpuEngine()):
            assert all(c.fine for c in selftest.check_engine(engine)), engine.name


@pytest.mark.requirement("REQ-ENGINE")
def test_a_wrong_engine_fails(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    right = CpuEngine.advance

    def wrong(self: CpuEngine, problem: Problem, state: State, until_s: float) -> State:
        cold = replace(problem.tissues[0], k_frozen_w_m_k=1.9)
        return right(self, replace(problem, tissues=(cold, *problem.tissues[1:])), state, until_s)

    monkeypatch.setattr(CpuEngine, "advance", wrong)
    assert not all(c.fine for c in selftest.check_engine(CpuEngine()))
    assert main(["selftest", "--engine", "cpu"]) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.requirement("REQ-ENGINE")
def test_a_missing_gpu_is_said_and_ends_with_2(capsys: Any) -> None:
    with fake_cupy.install(device_count=0):
        assert main(["selftest", "--engine", "gpu"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_golden_problem_has_ice_in_it_at_every_time() -> None:
    problem, golden = selftest.golden_problem(), selftest._golden()
    assert [float(selftest._ice(problem, g).min()) > 50.0 for g in golden] == [True] * 3
    assert np.isfinite(golden).all()
