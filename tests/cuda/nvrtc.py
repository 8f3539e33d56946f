"""NVRTC through ctypes: compiles kernel text as cupy's RawModule does, with no driver and no GPU.

Needs one package: ``nvidia-cuda-nvrtc-cu12`` or ``nvidia-cuda-nvrtc``. Kernel text that includes a
CUDA header also needs ``nvidia-cuda-runtime-cu12`` or ``nvidia-cuda-runtime``.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# What cupy 14 adds to the caller's options, apart from -I of its own headers.
STANDARD = "--std=c++17"  # only where the caller names no standard; cupy 13 takes c++14
FLUSH = "-ftz=true"
DEFAULT_SPACE = "--device-as-default-execution-space"


class CompileError(Exception):
    """NVRTC refuses the text or an option; the message holds its log."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes, as ptxas reports it: registers per thread, bytes per thread of spill
    and stack, static shared bytes per block."""

    registers: int
    spill_store_bytes: int
    spill_load_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Compiled:
    """``resources`` by kernel name; ``log`` is NVRTC's whole output, warnings included."""

    ptx: str
    log: str
    resources: dict[str, Resources]
    cubin: bytes


def find_library() -> Path | None:
    """Path of libnvrtc in the installed nvidia packages, or None."""
    names = [p for p in _nvidia_files("lib/libnvrtc.so*") if ".alt." not in p.name]
    return max(names, default=None, key=lambda path: (path.parent.name, path.name))


def available() -> bool:
    return find_library() is not None


def version() -> tuple[int, int]:
    """NVRTC's (major, minor). Raises ImportError where it is not installed."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def cupy_options(arch: int, options: Sequence[str]) -> list[str]:
    """The options that NVRTC gets when cupy compiles a RawModule with ``options`` for sm_``arch``,
    apart from include paths."""
    named = any("-std=" in option for option in options)
    standard = [] if named else [STANDARD]
    return [*options, *standard, FLUSH, f"-arch=sm_{arch}", DEFAULT_SPACE]


def compile(  # noqa: A001
    source: str, arch: int, defines: Mapping[str, str], options: Sequence[str] = ()
) -> Compiled:
    """Compile for compute capability ``arch`` (75, 90, ...) with cupy's options and ``options``.

    Raises CompileError, and ImportError where NVRTC is not installed.
    """
    macros = tuple(f"-D{name}={value}" for name, value in defines.items())
    return _compile_cached(source, arch, macros + tuple(options))


@functools.lru_cache(maxsize=256)
def _compile_cached(source: str, arch: int, options: tuple[str, ...]) -> Compiled:
    headers = [f"-I{path.parent}" for path in _nvidia_files("include/cuda_fp16.h")[:1]]
    full = [*cupy_options(arch, options), *headers, "--ptxas-options=-v"]
    with _Program(source) as program:
        log = program.compile(full)
        ptx = program.fetch("PTX").rstrip(b"\0").decode()
        return Compiled(ptx, log, parse_resources(log), program.fetch("CUBIN"))


def parse_resources(log: str) -> dict[str, Resources]:
    """Read the output of ``ptxas -v``: one entry per kernel."""
    parts = re.split(r"Compiling entry function '(\w+)'", log)
    return {name: _resources(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _resources(text: str) -> Resources:
    def number(pattern: str, required: bool = True) -> int:
        found = re.search(pattern, text)
        if found is None and required:
            raise CompileError(f"ptxas did not report {pattern!r}:\n{text}")
        return int(found[1]) if found else 0

    return Resources(
        registers=number(r"Used (\d+) registers"),
        spill_store_bytes=number(r"(\d+) bytes spill stores"),
        spill_load_bytes=number(r"(\d+) bytes spill loads"),
        stack_bytes=number(r"(\d+) bytes stack frame"),
        shared_bytes=number(r"(\d+) bytes smem", required=False),
    )


def _nvidia_files(pattern: str) -> list[Path]:
    """Files of the installed nvidia packages: nvidia/<package>/<pattern>."""
    found = importlib.util.find_spec("nvidia")
    folders = (found.submodule_search_locations or []) if found else []
    return sorted(path for folder in folders for path in Path(folder).glob(f"*/{pattern}"))


@functools.cache
def _library() -> ctypes.CDLL:
    path = find_library()
    if path is None:
        raise ImportError("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


class _Program:
    """An nvrtcProgram, destroyed at the end of the with block."""

    def __init__(self, source: str) -> None:
        self._handle = ctypes.c_void_p()
        self._call(
            _library().nvrtcCreateProgram,
            ctypes.byref(self._handle),
            source.encode(),
            b"kernel.cu",
            0,
            None,
            None,
        )

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_: object) -> None:
        _library().nvrtcDestroyProgram(ctypes.byref(self._handle))

    def compile(self, options: Sequence[str]) -> str:
        """Returns the log; raises CompileError with it."""
        texts = (ctypes.c_char_p * len(options))(*[text.encode() for text in options])
        code = _library().nvrtcCompileProgram(self._handle, len(options), texts)
        log = self.fetch("ProgramLog").rstrip(b"\0").decode()
        if code:
            raise CompileError(log.strip() or _library().nvrtcGetErrorString(code).decode())
        return log

    def fetch(self, what: str) -> bytes:
        """One of NVRTC's outputs: ProgramLog, PTX or CUBIN."""
        size = ctypes.c_size_t()
        self._call(getattr(_library(), f"nvrtcGet{what}Size"), self._handle, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(getattr(_library(), f"nvrtcGet{what}"), self._handle, buffer)
        return buffer.raw

    @staticmethod
    def _call(function: Callable[..., int], *arguments: object) -> None:
        code = function(*arguments)
        if code:
            raise CompileError(_library().nvrtcGetErrorString(code).decode())
