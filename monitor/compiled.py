"""Loops compiled by numba, for what NumPy has no one call for.

Invariant: where nothing can be written the compiled code is not kept, and works all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

# No reference counts (``_nrt``): they are atomic, and two workers would pass them to and fro.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Kept on disk, unless neither the program's folder nor the home can be written."""
    try:
        return cast(_Function, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:
        return cast(_Function, njit(**_OPTIONS)(function))
