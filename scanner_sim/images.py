"""What the scanner reconstructed, before any of it is DICOM. HU int16, (slice, row, column), LPS mm.

Times are seconds from the baseline scan. Invariant: arrays are read-only, and ``geometry`` places
every voxel centre of ``hu`` in the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Voxel (slice k, row j, column i) is centred at
    ``origin + k·step + j·spacing_mm[1]·column_direction + i·spacing_mm[0]·row_direction``.

    ``row_direction`` points along a row (column index grows), ``column_direction`` down a column;
    both are unit vectors. ``step_lps_mm`` need not be normal to them (gantry tilt).
    """

    origin_lps_mm: Vector
    row_direction: Vector
    column_direction: Vector
    step_lps_mm: Vector
    spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class Technique:
    """Tube settings. ``mas`` is per rotation."""

    kvp: float
    mas: float
    rotation_s: float


@dataclass(frozen=True)
class Image:
    """One reconstruction: a stack of slices. ``kernel`` is ``soft`` or ``sharp``."""

    hu: npt.NDArray[np.int16]
    geometry: Geometry
    thickness_mm: float
    kernel: str
    technique: Technique
    time_s: float
    duration_s: float


@dataclass(frozen=True)
class Acquisition:
    """What one press of the button gave. ``kind`` is ``volume`` (one image, or the same raw data
    with a second kernel) or ``fluoro`` (the same few slices again and again, in order of time)."""

    number: int
    kind: str
    time_s: float
    images: tuple[Image, ...]
