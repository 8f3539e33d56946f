"""A strict stand-in for cupy, for machines without a GPU: kernels run in the host shim.

``install()`` puts it into ``sys.modules``. It refuses what a device or cupy would refuse, and also
what they would silently take for something else: scalars of the wrong width (a Python float is a
float64, an int an int64), arrays of the wrong type, arrays that are not contiguous. What it does
not show: speed, asynchrony, streams that overtake each other.
"""

from __future__ import annotations

import contextlib
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import device_array, limits, shim
from .device_array import OutOfMemoryError, from_host, ndarray, wrap

VERSION = "14.2.0"
COMPUTE_CAPABILITY = "90"
KNOWN_OPTIONS = ("-D", "-std=", "--std=", "-fmad=", "--fmad=", "-lineinfo", "--generate-line-info")
FUNCTIONS = (
    *("abs", "all", "any", "arange", "argmax", "argmin", "clip", "concatenate", "exp", "isfinite"),
    *("isnan", "linspace", "max", "maximum", "mean", "min", "minimum", "ones", "sqrt", "stack"),
    *("sum", "where"),
)

Runner = Callable[["Launch"], None]


class CUDARuntimeError(RuntimeError):
    """An error code of the CUDA runtime."""


class CUDADriverError(RuntimeError):
    """An error code of the CUDA driver."""


class CompileException(Exception):
    """The kernel text does not compile."""


@dataclass(frozen=True)
class Launch:
    """What a kernel call hands to the runner: ``args`` holds NumPy arrays, which are the device's
    memory, and NumPy scalars."""

    module: shim.Module
    source: str
    defines: Mapping[str, str]
    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Any, ...]


def run_in_shim(launch: Launch, order: int = 0) -> None:
    """The default runner."""
    launch.module.launch(launch.name, launch.grid, launch.block, launch.args, order)


@dataclass
class _Device:
    """State of the one device: how kernels run, and how many devices cupy sees."""

    runner: Runner = run_in_shim
    count: int = 1


_device = _Device()


# ---- Kernels ---------------------------------------------------------------------------------


class RawModule:
    """cupy.RawModule for source text; compiled when the first kernel is asked for."""

    def __init__(
        self,
        *,
        code: str,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Sequence[str] | None = None,
    ) -> None:
        _expect(code, str, "code")
        _expect(options, tuple, "options")
        unknown = [o for o in options if not isinstance(o, str) or not o.startswith(KNOWN_OPTIONS)]
        if unknown or backend != "nvrtc":
            raise CompileException(f"not supported here: options {unknown}, backend {backend}")
        self.code, self.options = code, options
        self.name_expressions = tuple(name_expressions or ())
        self._module: shim.Module | None = None

    @property
    def defines(self) -> dict[str, str]:
        pairs = (o[2:].partition("=") for o in self.options if o.startswith("-D"))
        return {name: value if equals else "1" for name, equals, value in pairs}

    def compile(self, log_stream: Any = None) -> None:
        """Raises CompileException."""
        sanitize = shim.address_sanitizer_is_loaded()
        try:
            self._module = shim.build(self.code, self.defines, sanitize, self.name_expressions)
        except shim.BuildError as error:
            raise CompileException(str(error)) from error
        limit = limits.MAX_STATIC_SHARED_BYTES * max(1, len(self._module.kernels))
        if self._module.shared_bytes > limit:
            raise CompileException(f"too much shared data: {self._module.shared_bytes} bytes")

    def get_function(self, name: str) -> Kernel:
        if self._module is None:
            self.compile()
        assert self._module is not None
        if name not in self._module.kernels:
            raise CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return Kernel(self, self._module, name)


class RawKernel:
    """cupy.RawKernel: one kernel of a source text."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        self._module, self._name = RawModule(code=code, options=options), name

    def __call__(self, grid: Any, block: Any, args: Any, **kwargs: Any) -> None:
        self._module.get_function(self._name)(grid, block, args, **kwargs)


class Kernel:
    """A kernel to be called as ``kernel(grid, block, args, shared_mem=0, stream=None)``."""

    def __init__(self, owner: RawModule, module: shim.Module, name: str) -> None:
        self._owner, self._module, self.name = owner, module, name

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: tuple[Any, ...],
        *,
        shared_mem: int = 0,
        stream: Stream | None = None,
    ) -> None:
        _expect(grid, tuple, "grid")
        _expect(block, tuple, "block")
        _expect(args, (tuple, list), "args")
        sizes = limits.three(grid), limits.three(block)
        try:
            limits.check_sizes(*sizes)
        except ValueError as error:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: {error}") from error
        if not 0 <= shared_mem <= limits.MAX_STATIC_SHARED_BYTES:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: shared_mem is {shared_mem}")
        host = tuple(
            _host_argument(arg, f"{self.name}, argument {n}") for n, arg in enumerate(args)
        )
        self._module.kernels[self.name].check_arguments(host)
        owner = self._owner
        _device.runner(Launch(self._module, owner.code, owner.defines, self.name, *sizes, host))
        device_array.memory.check_guards()


def _host_argument(argument: Any, where: str) -> Any:
    """What the kernel receives, with cupy's widening of Python numbers."""
    if isinstance(argument, ndarray):
        return argument._host
    if isinstance(argument, np.ndarray):
        raise TypeError(f"{where}: a host array; kernels take device arrays")
    for kind, widened in ((bool, np.bool_), (int, np.int64), (float, np.float64)):
        if type(argument) is kind:
            return widened(argument)
    if not isinstance(argument, np.generic):
        raise TypeError(f"{where}: unsupported type {type(argument)}")
    return argument


def _expect(value: Any, kind: Any, what: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be {kind}, not {type(value)}")


# ---- Arrays ----------------------------------------------------------------------------------


def full(shape: Any, fill_value: Any, dtype: Any = None) -> ndarray:
    result = device_array.empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype)
    result.fill(fill_value)
    return result


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    return full(shape, 0, dtype)


def empty_like(a: ndarray, dtype: Any = None) -> ndarray:
    return device_array.empty(a.shape, dtype or a.dtype)


def zeros_like(a: ndarray, dtype: Any = None) -> ndarray:
    return zeros(a.shape, dtype or a.dtype)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    return full(a.shape, fill_value, dtype or a.dtype)


def array(obj: Any, dtype: Any = None) -> ndarray:
    """A new device array from a host array, a device array or Python numbers."""
    return from_host(np.asarray(obj._host if isinstance(obj, ndarray) else obj, dtype))


def asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a.dtype):
        return a
    return array(a, dtype)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    result = asarray(a, dtype)
    return result if result.flags.c_contiguous else result.copy()


def asnumpy(a: Any, stream: Any = None) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that takes and returns device arrays."""

    def call(*args: Any, **kwargs: Any) -> Any:
        unwrapped = [device_array._unwrap(a) for a in args]
        return wrap(function(*unwrapped, **{k: device_array._unwrap(v) for k, v in kwargs.items()}))

    return call


# ---- Streams, events, the device --------------------------------------------------------------


class Event:
    """cupy.cuda.Event; its time is the host's, in seconds, when it was recorded."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.time_s: float | None = None

    @property
    def done(self) -> bool:
        return self.time_s is not None

    def record(self, stream: Stream | None = None) -> None:
        self.time_s = time.perf_counter()

    def synchronize(self) -> None:
        pass


class Stream:
    """cupy.cuda.Stream; everything runs at once, in the order of the calls."""

    null: Stream
    _current: list[Stream]

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.ptr = 0 if null else id(self)

    def __enter__(self) -> Stream:
        Stream._current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Stream._current.pop()

    def synchronize(self) -> None:
        pass

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if not event.done:
            raise CUDARuntimeError("the event was never recorded")


Stream.null = Stream(null=True)
Stream._current = [Stream.null]


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events."""
    if start_event.time_s is None or end_event.time_s is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: event was not recorded")
    return 1e3 * (end_event.time_s - start_event.time_s)


class Device:
    """cupy.cuda.Device."""

    def __init__(self, device: int = 0) -> None:
        if not 0 <= device < _device.count:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = device

    compute_capability = COMPUTE_CAPABILITY

    @property
    def mem_info(self) -> tuple[int, int]:
        total = device_array.memory.limit_bytes
        return total - device_array.memory.used_bytes(), total

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def use(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class MemoryPool:
    """cupy's memory pool; it keeps nothing that was freed."""

    def used_bytes(self) -> int:
        return device_array.memory.used_bytes()

    total_bytes = used_bytes

    def free_all_blocks(self, stream: Stream | None = None) -> None:
        pass


def _device_count() -> int:
    if not _device.count:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return _device.count


def _device_properties(device: int) -> dict[str, Any]:
    Device(device)
    return {"name": b"stand-in", "multiProcessorCount": 1, "major": 9, "minor": 0}


# ---- Installation -----------------------------------------------------------------------------


@contextlib.contextmanager
def install(
    *,
    device_count: int = 1,
    memory_bytes: int = 8 << 30,
    order: int = 0,
    runner: Runner | None = None,
) -> Iterator[types.ModuleType]:
    """Put the stand-in in sys.modules as ``cupy``; yields it and takes it out again.

    ``order`` is the shim's order of threads. ``runner`` replaces the shim: it gets each Launch
    after the checks, and can run the PTX interpreter or record what is launched. With
    ``device_count`` 0 cupy is installed but finds no device.
    """
    names = [n for n in sys.modules if n.split(".")[0] in ("cupy", "cupyx")]
    before = {name: sys.modules.pop(name) for name in names}
    old_device, old_memory = (_device.runner, _device.count), device_array.memory
    _device.runner = runner or (lambda launch: run_in_shim(launch, order))
    _device.count = device_count
    device_array.memory = device_array.Memory(memory_bytes)
    modules = _modules()
    sys.modules.update(modules)
    try:
        yield modules["cupy"]
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        (_device.runner, _device.count), device_array.memory = old_device, old_memory


def _modules() -> dict[str, types.ModuleType]:
    """cupy and its submodules, as they go into sys.modules."""
    parts: dict[str, dict[str, Any]] = {
        "cupy": _top_level(),
        "cupy.cuda": {
            "CompileException": CompileException,
            "Device": Device,
            "Event": Event,
            "Stream": Stream,
            "get_current_stream": lambda: Stream._current[-1],
            "get_elapsed_time": get_elapsed_time,
            "is_available": lambda: _device.count > 0,
        },
        "cupy.cuda.runtime": {
            "CUDARuntimeError": CUDARuntimeError,
            "deviceSynchronize": lambda: None,
            "getDeviceCount": _device_count,
            "getDeviceProperties": _device_properties,
            "memGetInfo": lambda: Device().mem_info,
        },
        "cupy.cuda.driver": {"CUDADriverError": CUDADriverError},
        "cupy.cuda.compiler": {"CompileException": CompileException},
        "cupy.cuda.memory": {"OutOfMemoryError": OutOfMemoryError},
    }
    modules = {name: types.ModuleType(name) for name in parts}
    for name, content in parts.items():
        modules[name].__dict__.update(content)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, modules[name])
    for name in ("cupy", "cupy.cuda"):
        modules[name].__path__ = []
    return modules


def _top_level() -> dict[str, Any]:
    own = (
        RawKernel,
        RawModule,
        array,
        asarray,
        ascontiguousarray,
        asnumpy,
        empty_like,
        full,
        full_like,
        ndarray,
        zeros,
        zeros_like,
    )
    pool = MemoryPool()
    kinds = "bool_ float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 nan inf dtype"
    return {
        "__version__": VERSION,
        "empty": device_array.empty,
        "get_default_memory_pool": lambda: pool,
        "get_default_pinned_memory_pool": lambda: pool,
        **{item.__name__: item for item in own},
        **{name: getattr(np, name) for name in kinds.split()},
        **{name: _on_device(getattr(np, name)) for name in FUNCTIONS},
    }
