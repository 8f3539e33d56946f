"""The host shim and its sanitizers notice the bugs that are planted in small kernels."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from . import fake_cupy, sanitized, shim
from .sample_kernels import REDUCTION, STENCIL, UNUSED_READ
from .stencil import DTYPES, SHAPE, run_stencil, stencil_launch, stencil_reference

if shutil.which("g++") is None:
    pytest.skip("g++ is missing", allow_module_level=True)

needs_sanitizer = pytest.mark.skipif(
    not sanitized.runtime_libraries(), reason="gcc has no libasan here"
)


def run_unused_read(sanitize: bool) -> None:
    values = np.arange(1000, dtype=np.float32)
    shifted = np.zeros_like(values)
    module = shim.build(UNUSED_READ, {}, sanitize)
    module.launch("shift", (8,), (128,), [values, shifted, np.int32(1000)])
    np.testing.assert_array_equal(shifted[:-1], values[1:])


def run_stencil_sanitized(bug: str) -> None:
    run_stencil({"REAL": "float", bug: "1"}, order=3, sanitize=True)


def run_unused_read_through_stand_in() -> None:
    with fake_cupy.install() as cp:
        kernel = cp.RawModule(code=UNUSED_READ).get_function("shift")
        values = cp.zeros(1000, np.float32)
        kernel((8,), (128,), (values, cp.empty_like(values), np.int32(1000)))


@pytest.mark.parametrize("real", DTYPES)
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_shim_equals_numpy_in_any_order(real: str, order: int) -> None:
    _, _, args = stencil_launch(real)
    np.testing.assert_array_equal(run_stencil({"REAL": real}, order), stencil_reference(args[0]))


def test_shim_reduces_blocks() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    sums, largest = np.zeros(8), np.zeros(8)
    module = shim.build(REDUCTION, {"REAL": "double"})
    module.launch("reduce", (8,), (128,), [values, sums, largest, np.uint32(1000)], order=5)
    parts = np.pad(values, (0, 24)).reshape(8, 128)
    np.testing.assert_allclose(sums, parts.sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(largest, parts.max(axis=1))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_shim_shows_a_missing_barrier_in_any_order(order: int) -> None:
    result = run_stencil({"BUG_RACE": "1"}, order)
    assert not np.array_equal(result, run_stencil({}))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_shim_reports_divergent_barriers_and_goes_on(order: int) -> None:
    with pytest.raises(shim.DivergentBarrier, match=r"threads wait in __syncthreads\(\) at line"):
        run_stencil({"BUG_DIVERGENT": "1"}, order)
    assert np.isfinite(run_stencil({}, order)).all()


def test_divergence_names_the_line_of_the_barrier() -> None:
    source = (
        'extern "C" __global__ void k(int* out) {\n'
        "  if (threadIdx.x < 3) {\n    __syncthreads();\n  } else {\n    __syncthreads();\n  }\n"
        "  out[threadIdx.x] = 1;\n}\n"
    )
    with pytest.raises(shim.DivergentBarrier, match="lines 3 and 5"):
        shim.build(source, {}).launch("k", (1,), (8,), [np.zeros(8, np.int32)])


def test_some_blocks_may_skip_their_barriers() -> None:
    source = (
        'extern "C" __global__ void k(int* out) {\n  __shared__ int s[8];\n'
        "  if (blockIdx.x % 2) { out[blockIdx.x * 8 + threadIdx.x] = s[threadIdx.x]; return; }\n"
        "  s[threadIdx.x] = threadIdx.x;\n  __syncthreads();\n"
        "  out[blockIdx.x * 8 + threadIdx.x] = s[7 - threadIdx.x];\n}\n"
    )
    out = np.zeros((6, 8), np.int32)
    shim.build(source, {}).launch("k", (6,), (8,), [out])
    np.testing.assert_array_equal(out[0::2], np.tile(np.arange(7, -1, -1), (3, 1)))
    assert (out[1::2] == -1).all()  # shared memory is poisoned anew for each block


@pytest.mark.parametrize(
    ("number", "wrong", "message"),
    [
        (5, np.float64(0.1), "argument 5 (float32 c): scalar float64"),
        (2, np.int64(37), "argument 2 (int32 nx): scalar int64"),
        (2, 37, "argument 2 (int32 nx): int given"),
        (0, np.zeros(SHAPE), r"(const float32* in): array of float64"),
        (0, np.zeros(SHAPE, np.int32), "array of int32"),
        (1, np.zeros(SHAPE, np.float32)[:, :, ::-1], "not C-contiguous"),
        (1, np.float32(1), "scalar float32 given for a pointer"),
        (3, np.zeros(1, np.int32), "array given for a scalar"),
    ],
)
def test_shim_refuses_wrong_arguments(number: int, wrong: Any, message: str) -> None:
    grid, block, args = stencil_launch()
    args[number] = wrong
    with pytest.raises(TypeError) as caught:
        shim.build(STENCIL, {}).launch("stencil", grid, block, args)
    assert message in str(caught.value)


def test_shim_refuses_read_only_output_and_wrong_count() -> None:
    grid, block, args = stencil_launch()
    args[1].flags.writeable = False
    module = shim.build(STENCIL, {})
    with pytest.raises(TypeError, match="read-only"):
        module.launch("stencil", grid, block, args)
    with pytest.raises(TypeError, match="takes 6 arguments, 5 given"):
        module.launch("stencil", grid, block, args[:-1])


def test_shim_reports_text_that_does_not_compile() -> None:
    with pytest.raises(shim.BuildError, match="nonsense"):
        shim.build('extern "C" __global__ void k() { nonsense; }', {})


def test_shim_launches_template_instances() -> None:
    source = "template <class T> __global__ void twice(T* v) { v[threadIdx.x] *= 2; }"
    module = shim.build(source, {}, name_expressions=("twice<float>", "twice<int>"))
    values = np.arange(4, dtype=np.int32)
    module.launch("twice<int>", (1,), (4,), [values])
    np.testing.assert_array_equal(values, [0, 2, 4, 6])
    with pytest.raises(TypeError, match="array of int32"):
        module.launch("twice<float>", (1,), (4,), [values])


# ---- Sanitizers ----------------------------------------------------------------------------------


@needs_sanitizer
def test_sanitizer_sees_a_read_that_no_result_shows() -> None:
    run_unused_read(sanitize=False)
    code, report = sanitized.run(__name__, "run_unused_read", [True])
    assert code == sanitized.REPORT_EXIT_CODE
    assert "heap-buffer-overflow" in report
    assert "in shift" in report


@needs_sanitizer
def test_sanitizer_works_through_the_stand_in() -> None:
    run_unused_read_through_stand_in()
    code, report = sanitized.run(__name__, "run_unused_read_through_stand_in")
    assert (code, "in shift" in report) == (sanitized.REPORT_EXIT_CODE, True), report


@needs_sanitizer
@pytest.mark.parametrize(
    ("bug", "message"),
    [("BUG_OUT_OF_BOUNDS", "heap-buffer-overflow"), ("BUG_SHARED_OUT_OF_BOUNDS", "out of bounds")],
)
def test_sanitizer_sees_strays_between_barriers(bug: str, message: str) -> None:
    code, report = sanitized.run(__name__, "run_stencil_sanitized", [bug])
    assert (code, message in report) == (sanitized.REPORT_EXIT_CODE, True), report


@needs_sanitizer
def test_sanitizer_passes_a_good_kernel_and_python_errors() -> None:
    assert sanitized.run(__name__, "run_stencil_sanitized", ["NO_BUG"]) == (0, "")
    code, report = sanitized.run(__name__, "run_stencil_sanitized", ["BUG_DIVERGENT"])
    assert code == 1
    assert "DivergentBarrier" in report


def test_sanitized_build_needs_a_sanitized_process() -> None:
    with pytest.raises(RuntimeError, match=r"sanitized\.run"):
        shim.build(STENCIL, {}, sanitize=True)
