"""NVRTC compiles, and the PTX interpreter computes and finds faults as a device would."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from . import nvrtc, ptx, ptx_memory, shim
from .sample_kernels import IN_PLACE, REDUCTION, STENCIL
from .stencil import DTYPES, run_stencil, stencil_launch

if shutil.which("g++") is None:
    pytest.skip("g++ is missing", allow_module_level=True)

ARCHITECTURES = (75, 90, 120)

needs_nvrtc = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12"
)


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
