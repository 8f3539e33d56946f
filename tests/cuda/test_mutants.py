"""Mutants of a kernel: made alike every time, and noticed by a good check."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest

from . import mutants, sanitized, shim
from .sample_kernels import REDUCTION, STENCIL

if shutil.which("g++") is None:
    pytest.skip("g++ is missing", allow_module_level=True)


def test_mutants_are_deterministic_and_stay_in_function_bodies() -> None:
    everything = mutants.generate(STENCIL, defines={})
    assert everything == mutants.generate(STENCIL, defines={})
    assert mutants.generate(STENCIL, 10, seed=1) != mutants.generate(STENCIL, 10, seed=2)
    assert len({mutant.source for mutant in everything}) == len(everything) > 100
    original = STENCIL.splitlines()
    changed = {line for m in everything for line in _changed_lines(original, m)}
    assert not any(original[k].lstrip().startswith(("#", "//", "extern")) for k in changed)
    assert not any("BUG" in original[k - 1] and "ifdef" in original[k - 1] for k in changed)
    labels = " ".join(m.description for m in everything)
    for expected in ("+ -> -", "< -> <=", "min -> max", "index + 1", "dropped", "0.5 -> 0.25",
                     "nx -> ny", "negated", "swapped"):  # fmt: skip
        assert expected in labels


def _changed_lines(original: list[str], mutant: mutants.Mutant) -> list[int]:
    return [
        k
        for k, (a, b) in enumerate(zip(original, mutant.source.splitlines(), strict=True))
        if a != b
    ]


def check_reduction(source: str) -> None:
    """Raise where the kernel does not reduce; shuffled order shows a missing barrier."""
    values = np.random.default_rng(1).integers(-100, 100, 200).astype(np.float32)
    parts = np.pad(values, (0, 56)).reshape(2, 128)
    module = shim.build(source, {})
    for order in (0, 1, 2, 3):
        sums, largest = np.zeros(2, np.float32), np.zeros(2, np.float32)
        args = [values, sums, largest, np.uint32(200)]
        module.launch("reduce", (2,), (128,), args, order)
        np.testing.assert_array_equal(sums, parts.sum(axis=1))
        np.testing.assert_array_equal(largest, parts.max(axis=1))


def test_a_good_check_notices_most_mutants() -> None:
    check_reduction(REDUCTION)
    chosen = mutants.generate(REDUCTION, 14, seed=0, defines={})
    left = mutants.survivors(chosen, check_reduction)
    assert len(left) <= 3, [m.description for m in left]
    dropped = [m for m in mutants.generate(REDUCTION) if "dropped" in m.description]
    assert len(dropped) == 2
    assert mutants.survivors(dropped, check_reduction) == []


def test_survivors_count_crashes_and_endless_runs_as_noticed() -> None:
    def check(source: str) -> None:
        if source == "crash":
            ctypes.string_at(0)
        while source == "hang":
            pass

    made = [mutants.Mutant(text, 1, text) for text in ("crash", "hang", "equivalent")]
    assert [m.description for m in mutants.survivors(made, check, timeout_s=1)] == ["equivalent"]


def test_tools_import_without_optional_packages() -> None:
    code = "import sys; sys.modules['nvidia'] = None; from tests.cuda import nvrtc, ptx, fake_cupy"
    subprocess.run([sys.executable, "-c", code], cwd=sanitized.ROOT, check=True)
