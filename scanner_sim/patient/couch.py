"""The couch: carbon fibre over foam, under the patient. HU; the scanner's coordinates, LPS mm.

The patient breathes, shifts and turns upon it; it stays. Invariant: the same in every slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanner_sim.frame import FloatArray

_AIR_HU, _FOAM_HU, _SKIN_HU = -1000.0, -880.0, -220.0
# Its top below the patient's axis, how thick it is, its skin, half its width.
_TOP_MM, _THICK_MM, _SKIN_MM, _HALF_WIDTH_MM = 121.0, 22.0, 3.0, 200.0
_SOFT_MM = 0.8


@dataclass(frozen=True)
class Couch:
    """``prone``: the patient lies on his front, so that it is in front of him."""

    prone: bool

    def hu(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """At points of a plane; air beside it."""
        towards = -y if self.prone else y
        bow = _TOP_MM - (x / 62.0) ** 2 * 3.0
        half = 0.5 * _THICK_MM
        inside = np.maximum(np.abs(towards - bow - half) - half, np.abs(x) - _HALF_WIDTH_MM)
        foam = _AIR_HU + (_FOAM_HU - _AIR_HU) * _share(inside)
        return np.asarray(foam + (_SKIN_HU - foam) * _share(inside) * _share(-inside - _SKIN_MM))


def _share(level_mm: FloatArray) -> FloatArray:
    """Of a voxel at an edge: 1 inside, 0 outside."""
    return np.clip(0.5 - level_mm / _SOFT_MM, 0.0, 1.0)
