"""Compiles CUDA C kernels with g++ against ``host_shim.h`` and launches them on NumPy arrays.

The compiled libraries are cached under the system's temporary directory, or under
``CUDA_SHIM_CACHE``, by a hash of everything that goes into them. x86-64 switches stacks in
assembly; other machines use ucontext.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import limits

HEADER = Path(__file__).with_name("host_shim.h")
MAX_PARAMETERS = 64
ERROR_BYTES = 512
OPTIMISED = ("-O2", "-ffp-contract=off")
SANITIZED = (
    "-O1",
    "-g",
    "-ffp-contract=off",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fsanitize-sections=cuda_shared",
    "-fno-sanitize-recover=all",
)
KERNEL = re.compile(
    r"(template\s*<[^;{}]*>\s*)?(?:extern\s*\"C\"\s*)?(?:static\s+)?__global__\s+"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    r"(\w+)\s*\(([^)]*)\)"
)
_KIND_NAMES = {"b": "bool", "f": "float", "i": "int", "u": "unsigned", "V": "struct"}
_launching = threading.Lock()


class BuildError(Exception):
    """The kernel text does not compile; the message holds the compiler's output."""


class DivergentBarrier(Exception):
    """Some threads of a block wait in a barrier that others passed by or never reach."""


@dataclass(frozen=True)
class Parameter:
    """One kernel parameter. ``kind`` is a NumPy kind letter (b, f, i, u, V); ``size`` in bytes,
    of the element where ``pointer``."""

    name: str
    kind: str
    size: int
    pointer: bool
    const: bool

    def __str__(self) -> str:
        text = f"{_KIND_NAMES[self.kind]}{8 * self.size}"
        if self.pointer:
            text = ("const " if self.const else "") + text + "*"
        return f"{text} {self.name}"

    def check(self, argument: Any, where: str) -> None:
        """Raise TypeError unless ``argument`` has this kind and width."""
        if isinstance(argument, np.ndarray):
            self._check_array(argument, where)
        elif isinstance(argument, np.generic):
            self._check_scalar(argument, where)
        else:
            raise TypeError(
                f"{where} ({self}): {type(argument).__name__} given; kernels take NumPy arrays "
                "and NumPy scalars"
            )

    def _check_array(self, array: np.ndarray, where: str) -> None:
        if not self.pointer:
            raise TypeError(f"{where} ({self}): array given for a scalar")
        same_kind = array.dtype.kind == self.kind or self.kind == "V"
        bool_as_byte = array.dtype.kind == "b" and self.kind == "u"
        vector = self.kind == "V" and self.size % array.dtype.itemsize == 0
        if not (same_kind or bool_as_byte) or not (array.dtype.itemsize == self.size or vector):
            raise TypeError(f"{where} ({self}): array of {array.dtype} given")
        if not array.flags.c_contiguous:
            raise TypeError(f"{where} ({self}): array is not C-contiguous")
        if not self.const and not array.flags.writeable:
            raise TypeError(f"{where} ({self}): array is read-only")

    def _check_scalar(self, scalar: np.generic, where: str) -> None:
        if self.pointer:
            raise TypeError(f"{where} ({self}): scalar {scalar.dtype} given for a pointer")
        integers = {"i", "u"}
        same_kind = scalar.dtype.kind == self.kind or {scalar.dtype.kind, self.kind} == integers
        if not same_kind or scalar.dtype.itemsize != self.size:
            raise TypeError(f"{where} ({self}): scalar {scalar.dtype} given")
        if scalar.dtype.kind == "i" and self.kind == "u" and scalar < 0:  # type: ignore[operator]
            raise TypeError(f"{where} ({self}): negative value {scalar} given")


class _RawParameter(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_char),
        ("pointer", ctypes.c_char),
        ("is_const", ctypes.c_char),
        ("bytes", ctypes.c_int),
    )


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: its name, its parameters and the C entry that launches it."""

    name: str
    parameters: tuple[Parameter, ...]
    entry: Callable[..., int]

    def check_arguments(self, args: Sequence[Any]) -> None:
        """Raise TypeError where the arguments do not fit the signature."""
        if len(args) != len(self.parameters):
            raise TypeError(
                f"{self.name} takes {len(self.parameters)} arguments, {len(args)} given"
            )
        for number, (parameter, argument) in enumerate(zip(self.parameters, args, strict=True)):
            parameter.check(argument, f"{self.name}, argument {number}")


class Module:
    """A compiled source: ``kernels`` by name, ``shared_bytes`` of static shared memory in all."""

    def __init__(self, library: Path, kernels: Mapping[str, str], sanitize: bool) -> None:
        self.library = library
        self.sanitize = sanitize
        loaded = ctypes.CDLL(str(library))
        self.shared_bytes = int(_function(loaded, "shim_shared_bytes", ctypes.c_long)())
        self.kernels = {
            name: _load_kernel(loaded, number, name, text)
            for number, (name, text) in enumerate(kernels.items())
        }

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        order: int = 0,
    ) -> None:
        """Run one kernel to its end. ``order``: threads and blocks upwards (0), downwards (1), or
        shuffled by this seed, the threads anew at every barrier.

        Raises KeyError (no such kernel), TypeError (arguments), ValueError (launch sizes) and
        DivergentBarrier.
        """
        kernel = self.kernels[name]
        sizes = (*limits.three(grid), *limits.three(block))
        limits.check_sizes(sizes[:3], sizes[3:])
        kernel.check_arguments(args)
        buffers = _ExactBuffers(args) if self.sanitize else None
        pointers = [_address(arg, buffers) for arg in args]
        try:
            self._run(kernel, sizes, pointers, order)
        finally:
            if buffers is not None:
                buffers.give_back()

    @staticmethod
    def _run(kernel: Kernel, sizes: Sequence[int], pointers: list[np.ndarray], order: int) -> None:
        table = (ctypes.c_void_p * len(pointers))(*[p.ctypes.data for p in pointers])
        error = ctypes.create_string_buffer(ERROR_BYTES)
        with _launching:
            failed = kernel.entry((ctypes.c_uint * 6)(*sizes), order, table, error)
        if failed:
            raise DivergentBarrier(f"{kernel.name}, {error.value.decode()}")


class _ExactBuffers:
    """Copies of the array arguments in malloc blocks of their exact sizes, which lets
    AddressSanitizer see an access one byte past an array."""

    def __init__(self, args: Sequence[Any]) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.malloc.argtypes = (ctypes.c_size_t,)
        self._libc.free.argtypes = (ctypes.c_void_p,)
        self._blocks: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
        for array in (a for a in args if isinstance(a, np.ndarray)):
            self._copy_in(array)

    def address(self, array: np.ndarray) -> int:
        return self._blocks[_extent(array)][1]

    def give_back(self) -> None:
        """Copy every block back into its array and free it."""
        for array, address in self._blocks.values():
            if array.flags.writeable:
                ctypes.memmove(array.ctypes.data, address, array.nbytes)
            self._libc.free(address)
        self._blocks.clear()

    def _copy_in(self, array: np.ndarray) -> None:
        if _extent(array) in self._blocks:
            return
        if any(np.may_share_memory(array, other) for other, _ in self._blocks.values()):
            raise ValueError("arguments overlap in part; a sanitized launch cannot copy them")
        address = self._libc.malloc(array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self._blocks[_extent(array)] = (array, address)


def build(
    source: str,
    defines: Mapping[str, str],
    sanitize: bool = False,
    name_expressions: Sequence[str] = (),
) -> Module:
    """Compile kernel text. ``name_expressions`` name template instances, as in "copy<float>".

    Raises BuildError where g++ refuses the text, and RuntimeError where ``sanitize`` is asked for
    in a process that did not start with AddressSanitizer loaded (see ``sanitized.run``).
    """
    if sanitize and not address_sanitizer_is_loaded():
        raise RuntimeError("a sanitized module needs a process started by sanitized.run()")
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    found = {m[2]: m[3] for m in KERNEL.finditer(_preprocess(source, macros)) if not m[1]}
    kernels = {**found, **dict.fromkeys(name_expressions, "")}
    exports = "".join(f"SHIM_EXPORT({number}, ({name}))\n" for number, name in enumerate(kernels))
    text = f'#include "host_shim.h"\n#line 1 "kernel.cu"\n{source}\n#line 1 "exports"\n{exports}'
    return Module(_compiled(text, macros, sanitize), kernels, sanitize)


def address_sanitizer_is_loaded() -> bool:
    """Whether this process runs under AddressSanitizer's allocator."""
    maps = Path("/proc/self/maps")
    return maps.exists() and "libasan" in maps.read_text()


def active_lines(source: str, defines: Mapping[str, str]) -> set[int]:
    """Numbers, from 1, of the lines that the preprocessor keeps under these defines."""
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    active: set[int] = set()
    number, own = 0, False
    for line in _run_compiler(["-E", "-x", "c++", *macros, "-"], source).splitlines():
        if marker := re.match(r'# (\d+) "(.*?)"', line):
            number, own = int(marker[1]), marker[2] == "<stdin>"
            continue
        if own and line.strip():
            active.add(number)
        number += 1
    return active


def _preprocess(source: str, macros: Sequence[str]) -> str:
    """The text with its own macros and conditionals resolved, and CUDA's words left alone."""
    return _run_compiler(["-E", "-P", "-x", "c++", *macros, "-"], source)


def _compiled(text: str, macros: Sequence[str], sanitize: bool) -> Path:
    machine = ("-march=native",) if platform.machine() == "x86_64" else ()
    flags = ["-std=c++17", "-shared", "-fPIC", "-w", *machine, *macros]
    flags += SANITIZED if sanitize else OPTIMISED
    key = repr((text, HEADER.read_text(), flags, platform.node(), platform.machine()))
    folder = _cache_folder()
    library = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        scratch = library.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        _run_compiler([*flags, f"-I{HEADER.parent}", "-x", "c++", "-", "-o", str(scratch)], text)
        scratch.replace(library)
    return library


def _cache_folder() -> Path:
    default = Path(tempfile.gettempdir()) / f"cuda_host_shim_{os.getuid()}"
    folder = Path(os.environ.get("CUDA_SHIM_CACHE") or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _run_compiler(arguments: Sequence[str], text: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(
        ["g++", *arguments], input=text, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise BuildError(done.stderr.strip())
    return done.stdout


def _function(library: ctypes.CDLL, name: str, result: Any) -> Callable[..., Any]:
    function = getattr(library, name)
    function.restype = result
    return function


def _load_kernel(library: ctypes.CDLL, number: int, name: str, text: str) -> Kernel:
    raw = (_RawParameter * MAX_PARAMETERS)()
    count = _function(library, f"shim_signature_{number}", ctypes.c_int)(raw)
    names = [re.findall(r"\w+", part)[-1] for part in text.split(",") if part.strip()]
    names += ["?"] * (count - len(names))
    parameters = tuple(
        Parameter(n, r.kind.decode(), r.bytes, r.pointer != b"\0", r.is_const != b"\0")
        for n, r in zip(names, raw[:count], strict=False)
    )
    return Kernel(name, parameters, _function(library, f"shim_launch_{number}", ctypes.c_int))


def _extent(array: np.ndarray) -> tuple[int, int]:
    return array.ctypes.data, array.nbytes


def _address(argument: Any, buffers: _ExactBuffers | None) -> np.ndarray:
    """A one-element array that holds what the kernel receives: an address or the scalar."""
    if not isinstance(argument, np.ndarray):
        return np.array(argument)
    address = buffers.address(argument) if buffers else argument.ctypes.data
    return np.array(address, np.uint64)
