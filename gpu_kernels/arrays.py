"""The same array code for NumPy and cupy: the library that goes with an array.

Invariant: nothing is imported that the array did not already need.
"""

from __future__ import annotations

import sys
from typing import Any

from scipy import ndimage


def ndimage_of(array: Any) -> Any:
    """scipy.ndimage for a NumPy array, cupyx.scipy.ndimage for a cupy one."""
    if type(array).__module__.partition(".")[0] != "cupy":
        return ndimage
    import importlib

    return sys.modules.get("cupyx.scipy.ndimage") or importlib.import_module("cupyx.scipy.ndimage")


def beside(array: Any, values: Any) -> Any:
    """NumPy values as an array of the library of ``array``."""
    if type(array).__module__.partition(".")[0] != "cupy":
        return values
    return sys.modules["cupy"].asarray(values)
