"""Device arrays of the stand-in for cupy: NumPy arrays that refuse to mix with NumPy arrays.

Each allocation starts at a multiple of 512 bytes, lies between two guard zones, and is filled with
0xFF (NaN, -1) until written. The guards hold NaN patterns of their own, so a stray read shows in
the result and a stray write is found by ``check_guards``.
"""

from __future__ import annotations

import itertools
import operator
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

GUARD_BYTES = 64 << 10
ALIGNMENT = 512
POISON = 0xFF
GUARD_PATTERN = 0x7FF50001  # a NaN both as float32 and, twice, as float64


class OutOfMemoryError(MemoryError):
    """The device's memory, as set by ``Memory.limit_bytes``, is used up."""


class GuardError(RuntimeError):
    """A kernel wrote outside an allocation."""


class Allocation:
    """Bytes between two guard zones; ``bytes`` is the usable part."""

    def __init__(self, size: int, pattern: int) -> None:
        words = (size + 2 * GUARD_BYTES + ALIGNMENT) // 4 + 1
        raw = np.full(words, pattern, np.uint32).view(np.uint8)
        start = GUARD_BYTES + -(raw.ctypes.data + GUARD_BYTES) % ALIGNMENT
        self.bytes = raw[start : start + size]
        self.bytes[:] = POISON
        self._guards = (raw[:start], raw[start + size :])
        self._untouched = tuple(guard.copy() for guard in self._guards)

    def check(self) -> None:
        """Raise GuardError where a guard zone has changed."""
        for side, guard, before in zip(
            ("before", "after"), self._guards, self._untouched, strict=True
        ):
            if not np.array_equal(guard, before):
                changed = np.flatnonzero(guard != before)
                distance = int(changed[0]) if side == "after" else len(guard) - int(changed[-1])
                raise GuardError(
                    f"a kernel wrote {distance} bytes {side} an array of {len(self.bytes)} bytes"
                )


class Memory:
    """All live allocations of the device. ``limit_bytes`` bounds them."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._live: weakref.WeakSet[Allocation] = weakref.WeakSet()
        self._numbers = itertools.count()

    def used_bytes(self) -> int:
        return sum(len(allocation.bytes) for allocation in self._live)

    def allocate(self, size: int) -> Allocation:
        if self.used_bytes() + size > self.limit_bytes:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        allocation = Allocation(size, GUARD_PATTERN + next(self._numbers) % 0x8000)
        self._live.add(allocation)
        return allocation

    def check_guards(self) -> None:
        for allocation in list(self._live):
            allocation.check()


memory = Memory(limit_bytes=8 << 30)


def _unwrap(value: Any) -> Any:
    """What NumPy computes with; TypeError for a host array, as cupy has it."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a host array among device arrays")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(v) for v in value)
    return value


def wrap(value: Any) -> Any:
    """A NumPy result as a device array of its own."""
    if isinstance(value, (np.ndarray, np.generic)):
        return from_host(np.asarray(value))
    return value


def from_host(host: np.ndarray) -> ndarray:
    """Copy a NumPy array to the device."""
    result = empty(host.shape, host.dtype)
    result._host[...] = host
    return result


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """A device array that holds 0xFF in every byte."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiubc":
        raise TypeError(f"dtype {dtype} is not supported on the device")
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    allocation = memory.allocate(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return ndarray(allocation.bytes.view(dtype).reshape(shape), allocation)


class ndarray:
    """The part of cupy.ndarray that an engine needs. Slices share their array's memory."""

    __array_ufunc__ = None  # NumPy's operators and functions then refuse it

    def __init__(self, host: np.ndarray, allocation: Allocation) -> None:
        self._host = host
        self._allocation = allocation

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: ndarray(self._host.T, self._allocation))
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    def get(self, stream: Any = None, order: Any = "C", out: np.ndarray | None = None) -> Any:
        """Copy to the host."""
        if out is None:
            return self._host.copy(order=order)
        _check_same(self._host, out, "get")
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy a host array of the same type and shape into this one."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        _check_same(self._host, arr, "set")
        if not self._host.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._host[...] = arr

    def item(self) -> Any:
        return self._host.item()

    def fill(self, value: Any) -> None:
        self._host.fill(_unwrap(value))

    def copy(self) -> ndarray:
        return from_host(self._host)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return from_host(self._host.astype(dtype))

    def reshape(self, *shape: Any) -> ndarray:
        return self._view_or_copy(self._host.reshape(*shape))

    def ravel(self) -> ndarray:
        return self._view_or_copy(self._host.ravel())

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray(self._host.transpose(*axes), self._allocation)

    def _view_or_copy(self, host: np.ndarray) -> ndarray:
        if np.may_share_memory(host, self._host):
            return ndarray(host, self._allocation)
        return from_host(host)

    def __getitem__(self, key: Any) -> ndarray:
        host = np.asarray(self._host[_unwrap(key)])
        if host.ndim == 0 and not np.may_share_memory(host, self._host):
            host = self._host[(*_as_tuple(_unwrap(key)), ...)]
        return self._view_or_copy(host)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_unwrap(key)] = _unwrap(value)

    def __len__(self) -> int:
        return len(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __bool__(self) -> bool:
        return bool(self._host)

    def __repr__(self) -> str:
        return f"device {self._host!r}"

    __hash__ = None  # type: ignore[assignment]


def _as_tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _check_same(device: np.ndarray, host: np.ndarray, verb: str) -> None:
    if host.dtype != device.dtype:
        raise TypeError(f"{host.dtype} array cannot be {verb} with a {device.dtype} array")
    if host.shape != device.shape:
        raise ValueError(f"Shape mismatch. Device {device.shape}, host {host.shape}")
    if not (host.flags.c_contiguous or host.flags.f_contiguous):
        raise RuntimeError(f"Cannot {verb} a non-contiguous host array")


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: wrap(function(self._host, _unwrap(other)))


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: wrap(function(_unwrap(other), self._host))


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        self._host = function(self._host, _unwrap(other))
        return self

    return method


def _reduction(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> ndarray:
        return wrap(getattr(self._host, name)(*args, **kwargs))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor"):
    _plain = _name.rstrip("_")
    setattr(ndarray, f"__{_plain}__", _binary(getattr(operator, _name)))
    setattr(ndarray, f"__r{_plain}__", _reflected(getattr(operator, _name)))
    setattr(ndarray, f"__i{_plain}__", _in_place(getattr(operator, f"i{_plain}")))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in ("neg", "abs", "invert"):
    _function = getattr(operator, _name)
    setattr(ndarray, f"__{_name}__", lambda self, _f=_function: wrap(_f(self._host)))
for _name in ("max", "min", "sum", "mean", "any", "all", "argmax", "argmin"):
    setattr(ndarray, _name, _reduction(_name))
