"""The tools in this folder notice the bugs that are planted in small kernels."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from . import fake_cupy, mutants, nvrtc, ptx, ptx_memory, sanitized, shim
from .sample_kernels import IN_PLACE, REDUCTION, STENCIL, UNUSED_READ

DTYPES: dict[str, Any] = {"float": np.float32, "double": np.float64}
SHAPE = (3, 21, 37)
CONDUCTANCE = 0.1
ARCHITECTURES = (75, 90, 120)

if shutil.which("g++") is None:
    pytest.skip("g++ is missing", allow_module_level=True)

needs_nvrtc = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12"
)
needs_sanitizer = pytest.mark.skipif(
    not sanitized.runtime_libraries(), reason="gcc has no libasan here"
)


def stencil_launch(real: str = "float") -> tuple[tuple[int, ...], tuple[int, ...], list[Any]]:
    """Grid, block and arguments for the stencil on random values; the output holds NaN."""
    dtype = DTYPES[real]
    nz, ny, nx = SHAPE
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    args = [values, np.full_like(values, np.nan), *map(np.int32, (nx, ny, nz)), dtype(CONDUCTANCE)]
    return (-(-nx // 16), -(-ny // 4)), (16, 4), args


def stencil_reference(values: np.ndarray) -> np.ndarray:
    """The stencil in NumPy, in the kernel's order of operations."""
    padded, c = np.pad(values, 1, "edge"), values.dtype.type(CONDUCTANCE)

    def flux(z: int, y: int, x: int) -> np.ndarray:
        nz, ny, nx = values.shape
        return c * (padded[1 + z : 1 + z + nz, 1 + y : 1 + y + ny, 1 + x : 1 + x + nx] - values)

    total = flux(0, 0, -1) + flux(0, 0, 1)
    total += flux(0, -1, 0) + flux(0, 1, 0)
    total = (total + flux(-1, 0, 0)) + flux(1, 0, 0)
    return values + values.dtype.type(0.5) * total


def run_stencil(defines: dict[str, str], order: int = 0, sanitize: bool = False) -> np.ndarray:
    grid, block, args = stencil_launch(defines.get("REAL", "float"))
    shim.build(STENCIL, defines, sanitize).launch("stencil", grid, block, args, order)
    return args[1]


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


# ---- Host shim ---------------------------------------------------------------------------------


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


# ---- NVRTC ---------------------------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvrtc_reports_resources(arch: int) -> None:
    found = nvrtc.compile(STENCIL, arch, {"REAL": "float"}).resources["stencil"]
    assert 8 <= found.registers <= 128
    assert found.shared_bytes == 6 * 18 * 4
    assert (found.spill_store_bytes, found.spill_load_bytes, found.stack_bytes) == (0, 0, 0)


@needs_nvrtc
def test_nvrtc_reports_spills_and_errors() -> None:
    source = (
        'extern "C" __global__ void __launch_bounds__(1024) k(float* a, int n) {\n  float v[96];\n'
        "#pragma unroll\n  for (int i = 0; i < 96; ++i) v[i] = a[i * n];\n"
        "  for (int j = 0; j < n; ++j)\n#pragma unroll\n"
        "    for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 7) % 96] + j;\n"
        "#pragma unroll\n  for (int i = 0; i < 96; ++i) a[i * n] = v[i];\n}\n"
    )
    assert nvrtc.compile(source, 90, {}).resources["k"].spill_store_bytes > 0
    with pytest.raises(nvrtc.CompileError, match="nonsense"):
        nvrtc.compile("nonsense;", 90, {})


def test_options_are_those_of_the_installed_cupy() -> None:
    core = pytest.importorskip("cupy._core.core", reason="cupy is not installed")
    own = nvrtc.cupy_options(90, ("-DREAL=float",))
    assembled = core.assemble_cupy_compiler_options(("-DREAL=float",))
    plain = [option for option in assembled if not option.startswith("-I")]
    assert own == [*plain, "-ftz=true", "-arch=sm_90", "--device-as-default-execution-space"]


# ---- PTX interpreter -----------------------------------------------------------------------------


def interpret_stencil(
    defines: dict[str, str], arch: int = 90, fuse: bool = False
) -> tuple[ptx.Report, np.ndarray]:
    grid, block, args = stencil_launch(defines.get("REAL", "float"))
    compiled = nvrtc.compile(STENCIL, arch, defines, (f"-fmad={str(fuse).lower()}",))
    return ptx.launch(compiled.ptx, "stencil", grid, block, args), args[1]


@needs_nvrtc
@pytest.mark.parametrize("real", DTYPES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_interpreter_equals_shim_to_the_last_bit(real: str, arch: int) -> None:
    report, result = interpret_stencil({"REAL": real}, arch)
    report.check()
    np.testing.assert_array_equal(result, run_stencil({"REAL": real}))
    _, fused = interpret_stencil({"REAL": real}, arch, fuse=True)
    assert not np.array_equal(fused, result)
    np.testing.assert_allclose(fused, result, rtol=0, atol=8 * np.finfo(DTYPES[real]).eps)


@needs_nvrtc
@pytest.mark.parametrize("real", DTYPES)
def test_interpreter_equals_shim_in_a_reduction(real: str) -> None:
    values = np.random.default_rng(1).normal(size=1000).astype(DTYPES[real])
    results = np.zeros((2, 2, 8), DTYPES[real])
    compiled = nvrtc.compile(REDUCTION, 90, {"REAL": real})
    rest = [values, *results[0], np.uint32(1000)]
    ptx.launch(compiled.ptx, "reduce", (8,), (128,), rest).check()
    rest[1:3] = results[1]
    shim.build(REDUCTION, {"REAL": real}).launch("reduce", (8,), (128,), rest, order=7)
    np.testing.assert_array_equal(results[0], results[1])


@needs_nvrtc
@pytest.mark.parametrize(
    ("bug", "fault", "message"),
    [
        ("BUG_OUT_OF_BOUNDS", ptx_memory.OutOfBounds, "of array 0"),
        ("BUG_SHARED_OUT_OF_BOUNDS", ptx_memory.OutOfBounds, "of shared memory"),
        ("BUG_DIVERGENT", ptx.DivergentBarrier, "threads wait"),
    ],
)
def test_interpreter_finds_faults(bug: str, fault: type[Exception], message: str) -> None:
    with pytest.raises(fault, match=message):
        interpret_stencil({bug: "1"})


@needs_nvrtc
def test_interpreter_finds_races_in_shared_and_global_memory() -> None:
    report, _ = interpret_stencil({"BUG_RACE": "1"})
    assert {race.space for race in report.races} == {"shared"}
    with pytest.raises(ptx.DataRace):
        report.check()
    compiled = nvrtc.compile(IN_PLACE, 90, {})
    values = np.zeros(1000, np.float32)
    report = ptx.launch(compiled.ptx, "blur", (8,), (128,), [values, np.int32(1000)])
    assert {race.space for race in report.races} == {"global"}


@needs_nvrtc
def test_interpreter_finds_a_misaligned_load() -> None:
    source = (
        'extern "C" __global__ void k(const float* in, float* out) {\n'
        "  float2 v = *(const float2*)(in + 1);\n  out[0] = v.x + v.y;\n}\n"
    )
    args = [np.ones(8, np.float32), np.zeros(1, np.float32)]
    with pytest.raises(ptx_memory.Misaligned):
        ptx.launch(nvrtc.compile(source, 90, {}).ptx, "k", (1,), (1,), args)


@needs_nvrtc
def test_interpreter_finds_shared_memory_that_nobody_wrote() -> None:
    source = (
        'extern "C" __global__ void k(float* out) {\n  __shared__ float s[64];\n'
        "  if (threadIdx.x < 31) s[threadIdx.x] = 1.0f;\n  __syncthreads();\n"
        "  out[threadIdx.x] = s[31 - threadIdx.x];\n}\n"
    )
    args = [np.zeros(32, np.float32)]
    report = ptx.launch(nvrtc.compile(source, 90, {}).ptx, "k", (1,), (32,), args)
    with pytest.raises(ptx.DataRace, match="read before written"):
        report.check()


@needs_nvrtc
@pytest.mark.parametrize(
    ("stride", "load_sectors", "fraction"), [(1, 4 * 8, 1.0), (2, 8 * 8, 12 / 16 - 1 / 12)]
)
def test_interpreter_counts_sectors(stride: int, load_sectors: int, fraction: float) -> None:
    source = (
        'extern "C" __global__ void k(const float* in, float* out, int stride) {\n'
        "  int i = blockIdx.x * blockDim.x + threadIdx.x;\n  out[i] = in[i * stride];\n}\n"
    )
    args = [np.ones(256 * stride, np.float32), np.zeros(256, np.float32), np.int32(stride)]
    report = ptx.launch(nvrtc.compile(source, 90, {}).ptx, "k", (2,), (128,), args)
    load, store = sorted(report.accesses.values(), key=lambda access: access.store)
    assert (load.requests, load.sectors, store.sectors) == (8, load_sectors, 32)
    assert report.global_bytes_requested == report.unique_bytes == 2 * 256 * 4
    assert report.useful_fraction == pytest.approx(fraction)


def test_bank_conflicts_follow_the_stride() -> None:
    lanes = np.arange(32)
    for stride, passes in ((1, 0), (2, 1), (3, 0), (32, 31), (0, 0)):
        found = ptx_memory.bank_conflicts(np.zeros(32, np.int64), lanes, 4 * stride * lanes, 4)
        assert found == passes
    assert ptx_memory.bank_conflicts(np.zeros(32, np.int64), lanes, 8 * lanes, 8) == 0
    assert ptx_memory.bank_conflicts(np.zeros(32, np.int64), lanes, 16 * lanes, 8) == 2


FUSED = """
extern "C" __global__ void k(const REAL* a, const REAL* b, REAL* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = fma(a[i], b[i], c[i]) + a[i] / b[i];
}
"""


@needs_nvrtc
@pytest.mark.parametrize("real", DTYPES)
def test_interpreter_rounds_fused_multiply_add_once(real: str) -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=(2, 5000)) * 10.0 ** rng.integers(-6, 6, (2, 5000))).astype(
        DTYPES[real]
    )
    results = [-(a * b), -(a * b)]  # what remains is the rounding error of the product
    sizes = (20,), (256,)
    compiled = nvrtc.compile(FUSED, 90, {"REAL": real}, ("-fmad=false",))
    ptx.launch(compiled.ptx, "k", *sizes, [a, b, results[0], np.int32(5000)])
    shim.build(FUSED, {"REAL": real}).launch("k", *sizes, [a, b, results[1], np.int32(5000)])
    np.testing.assert_array_equal(*results)


MIXED = """
struct Law { float low, high; int count; };
extern "C" __global__ void k(const float4* __restrict__ in, float* out, const unsigned char* label,
                             double* wide, Law law, int mode, long long big) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= law.count) return;
  float4 v = in[i];
  float parts[4] = {v.x, v.y, v.z, v.w};
  float s = parts[i & 3] + sqrtf(fabsf(v.x)) + v.x / (v.y * v.y + 1.0f) + 1.0f / (v.w * v.w + 1.0f);
  s = fminf(fmaxf(s, law.low), law.high);
  int q = (int)(s * 10.0f) % 7 - i / 3;
  unsigned u = (unsigned)q >> 3;
  switch (mode) {
    case 0: s += q >> 2; break;
    case 1: s += u & 255; break;
    case 2: s = floorf(s); break;
    case 3: s = label[i] > 2 ? -s : s; break;
    case 4: s = rintf(s) + max(q, 3); break;
  }
  out[i] = isfinite(s) ? s : 0.0f;
  long long k = (long long)(wide[i] * 1000.0) * big % 1000003LL;
  wide[i] = sqrt(fabs(wide[i])) + 1.0 / (wide[i] * wide[i] + 1.0) + (double)k + (double)s;
}
"""


@needs_nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_interpreter_knows_the_instructions_of_mixed_code(arch: int) -> None:
    rng, n = np.random.default_rng(3), 300
    law = np.array((-2, 3, n), [("low", "f4"), ("high", "f4"), ("count", "i4")])[()]
    compiled = nvrtc.compile(MIXED, arch, {}, ("-fmad=false",))
    module = shim.build(MIXED, {})
    vectors, label = rng.normal(size=(n, 4)).astype("f4"), rng.integers(0, 5, n).astype("u1")
    numbers = rng.normal(size=n)
    for mode in range(6):
        out, wide = np.zeros((2, n), "f4"), np.tile(numbers, (2, 1))
        rest = [law, np.int32(mode), np.int64(12345678901)]
        ptx.launch(compiled.ptx, "k", (3,), (128,), [vectors, out[0], label, wide[0], *rest])
        module.launch("k", (3,), (128,), [vectors, out[1], label, wide[1], *rest])
        np.testing.assert_array_equal(out[0], out[1])
        np.testing.assert_array_equal(wide[0], wide[1])


@needs_nvrtc
def test_interpreter_refuses_wrong_arguments() -> None:
    grid, block, args = stencil_launch()
    compiled = nvrtc.compile(STENCIL, 90, {})
    for number, wrong in ((5, np.float64(1)), (2, np.int64(1)), (2, np.float32(1)), (0, 1.0)):
        bad = [wrong if k == number else arg for k, arg in enumerate(args)]
        with pytest.raises(TypeError, match=f"argument {number}"):
            ptx.launch(compiled.ptx, "stencil", grid, block, bad)


# ---- Stand-in for cupy ---------------------------------------------------------------------------


class Engine:
    """The stencil as an engine calls it."""

    def __init__(self, cp: Any) -> None:
        self.cp = cp
        module = cp.RawModule(code=STENCIL, options=("-std=c++17", "-DREAL=float"))
        self.kernel = module.get_function("stencil")
        self.grid, self.block, self.host = stencil_launch()
        self.args = [cp.asarray(a) if isinstance(a, np.ndarray) else a for a in self.host]
        self.args[1] = cp.empty_like(self.args[0])

    def __call__(self, **changes: Any) -> np.ndarray:
        names = ("values", "out", "nx", "ny", "nz", "c")
        args = tuple(changes.get(n, a) for n, a in zip(names, self.args, strict=True))
        self.kernel(changes.get("grid", self.grid), changes.get("block", self.block), args)
        return self.args[1].get()


def test_stand_in_runs_a_kernel_under_its_name() -> None:
    with fake_cupy.install(order=3):
        import cupy as cp
        from cupy.cuda import Event, Stream

        start, end = Event(), Event()
        with Stream(non_blocking=True) as stream:
            start.record(stream)
            result = Engine(cp)()
            end.record()
        stream.synchronize()
        assert cp.cuda.get_elapsed_time(start, end) > 0
        assert cp.cuda.runtime.getDeviceCount() == 1
    assert "cupy" not in sys.modules or sys.modules["cupy"] is not cp
    np.testing.assert_array_equal(result, run_stencil({}))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda e: {"c": 0.1}, "scalar float64"),
        (lambda e: {"nx": 37}, "scalar int64"),
        (lambda e: {"values": e.args[0].astype(np.float64)}, "array of float64"),
        (lambda e: {"values": e.args[0][:, :, ::-1]}, "not C-contiguous"),
        (lambda e: {"values": e.args[0].get()}, "host array"),
        (lambda e: {"c": None}, "unsupported type"),
        (lambda e: {"grid": (1, 1, 70000)}, "grid.z is 70000"),
        (lambda e: {"grid": (0, 1)}, "grid.x is 0"),
        (lambda e: {"block": (32, 64)}, "2048 threads"),
        (lambda e: {"block": [16, 4]}, "block must be"),
        (lambda e: {"out": e.cp.empty((3, 21, 36), np.float32)}, "bytes after an array"),
    ],
)
def test_stand_in_refuses_what_a_device_would_misread(change: Any, error: str) -> None:
    with fake_cupy.install() as cp:
        engine = Engine(cp)
        with pytest.raises((TypeError, RuntimeError)) as caught:
            engine(**change(engine))
    assert error in str(caught.value)


@pytest.mark.parametrize(
    "mix",
    [
        lambda a: np.asarray(a),
        lambda a: a + a.get(),
        lambda a: a.get() + a,
        lambda a: np.sqrt(a),
        lambda a: a.set(a.get().astype(np.float64)),
        lambda a: a.set([1.0]),
        lambda a: a.__setitem__(0, a.get()[0]),
    ],
)
def test_stand_in_keeps_host_and_device_apart(mix: Any) -> None:
    with fake_cupy.install() as cp:
        array = cp.zeros((2, 3), np.float32)
        with pytest.raises(TypeError):
            mix(array)


def test_stand_in_arrays_behave_like_arrays() -> None:
    with fake_cupy.install() as cp:
        assert np.isnan(cp.empty((4,), np.float32).get()).all()
        array = cp.full((2, 3), np.float32(2))
        part = array[1]
        part[...] = np.float32(5)
        array[0, 0].fill(7)
        np.testing.assert_array_equal(array.get(), np.array([[7, 2, 2], [5, 5, 5]], np.float32))
        assert float(array.max()) == 7
        assert (array * 2 + 1).dtype == np.float32
        array.set(np.ones((2, 3), np.float32))
        assert int(array.reshape(6).sum()) == 6


def test_stand_in_runs_out_of_memory_and_forgets_freed_arrays() -> None:
    with fake_cupy.install(memory_bytes=1 << 20) as cp:
        array = cp.zeros(1 << 17)
        with pytest.raises(cp.cuda.memory.OutOfMemoryError):
            cp.zeros(1)
        del array
        cp.get_default_memory_pool().free_all_blocks()
        assert cp.zeros(1).nbytes == 8


def test_stand_in_without_a_device() -> None:
    with fake_cupy.install(device_count=0) as cp:
        assert not cp.cuda.is_available()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="NoDevice"):
            cp.cuda.runtime.getDeviceCount()


@needs_nvrtc
def test_stand_in_can_run_the_interpreter() -> None:
    reports = []

    def interpret(launch: fake_cupy.Launch) -> None:
        compiled = nvrtc.compile(launch.source, 90, launch.defines, ("-fmad=false",))
        sizes = launch.grid, launch.block
        reports.append(ptx.launch(compiled.ptx, launch.name, *sizes, launch.args))

    with fake_cupy.install(runner=interpret) as cp:
        np.testing.assert_array_equal(Engine(cp)(), run_stencil({}))
    reports[0].check()


# ---- Mutants -------------------------------------------------------------------------------------


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
