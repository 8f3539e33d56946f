"""Whether every number is one. Pure; no units.

Invariant: a NaN anywhere in dataclasses, tuples and arrays is found; infinities are answers
("no ice: infinitely far") and pass.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np


def first_nan(value: object, name: str) -> str | None:
    """Where the first NaN in ``value`` stands, as a path that begins with ``name``; None without one."""
    if isinstance(value, float | np.floating):
        return name if np.isnan(value) else None
    if isinstance(value, np.ndarray):
        # min() is NaN when any is, and several times as fast as asking each: this runs at every check.
        return name if value.size and np.isnan(value.min()) else None
    for part, inner in _parts(value):
        found = first_nan(inner, f"{name}.{part}")
        if found is not None:
            return found
    return None


def _parts(value: object) -> list[tuple[str, object]]:
    if isinstance(value, tuple):
        return [(str(i), inner) for i, inner in enumerate(value)]
    if is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in fields(value)]
    return []
