"""The stand-in for cupy behaves as cupy does where a mistake would matter on a device."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np
import pytest

from . import fake_cupy, nvrtc, ptx
from .sample_kernels import STENCIL
from .stencil import run_stencil, stencil_launch

if shutil.which("g++") is None:
    pytest.skip("g++ is missing", allow_module_level=True)

needs_nvrtc = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12"
)


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
