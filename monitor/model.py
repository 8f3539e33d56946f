"""The frozen values that flow through the monitor.

Units and frames: points are DICOM patient coordinates (LPS, mm) as float64 arrays (..., 3) in the
order x, y, z; arrays of voxels are (z, y, x), read-only; Hounsfield units are int16; times are
seconds since the Unix epoch on the procedure clock (``_utc_s``; a rehearsal's runs faster than
life) or of the machine's monotonic clock (``_mono_s``), for time-outs.
Invariant: whatever carries a ``status`` other than OK carries at least one reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.geometry import Grid, SliceGeometry

FloatArray = npt.NDArray[np.floating[Any]]
Float32Array = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]


# Standard deviations to both sides that hold 90 % of a normal error.
SDS_90 = 1.645


class Status(Enum):
    """How far a result can be trusted; ordered from best to worst."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Reason:
    """Why something is not OK: a stable code for programs, a sentence for people."""

    code: str
    text: str


def worst(*statuses: Status) -> Status:
    """The worst of several statuses; OK when there is none."""
    order = list(Status)
    return max(statuses, key=order.index, default=Status.OK)


# --------------------------------------------------------------------------- intake


@dataclass(frozen=True)
class Instance:
    """One SOP instance as it lies on disk, known before anything in it is trusted.

    ``path`` is relative to the record and named by ``sha256``, never by anything a sender chose.
    """

    sha256: str
    path: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    association_id: int
    calling_ae_title: str
    received_utc_s: float
    received_mono_s: float


@dataclass(frozen=True)
class AssociationEnded:
    """A peer released (or ``aborted``) an association. ``stored`` instances came over it."""

    association_id: int
    aborted: bool
    stored: int
    at_mono_s: float


@dataclass(frozen=True)
class CtSlice:
    """One decoded CT image. ``hu`` is (row, column) int16.

    ``row_direction`` points along increasing column index, ``column_direction`` along increasing
    row index (DICOM PS3.3 C.7.6.2.1.1); ``pixel_spacing_mm`` is (between rows, between columns).
    ``acquired_utc_s`` is None when the image does not say when it was acquired.
    ``images_in_acquisition`` is None when the image does not say (it nearly never does).
    ``frame`` (from 1) and ``stack``: of an Enhanced CT image; two stacks are never one sweep.
    """

    instance: Instance
    patient_id: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    position_lps_mm: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float | None
    kernel: str
    image_type: tuple[str, ...]
    acquisition_number: int | None
    images_in_acquisition: int | None
    instance_number: int | None
    acquired_utc_s: float | None
    hu: Int16Array
    patient_name: str = ""
    series_description: str = ""
    frame: int | None = None
    stack: str = ""


@dataclass(frozen=True)
class CtFrames:
    """The slices of one Enhanced CT instance, all of them."""

    instance: Instance
    slices: tuple[CtSlice, ...]


@dataclass(frozen=True)
class Rejected:
    """An instance that is not part of any volume, and why. It is quarantined, never lost.
    ``mismatch`` is (expected, received) when it belongs to another patient or frame of reference."""

    instance: Instance
    reason: Reason
    mismatch: tuple[str, str] | None = None


@dataclass(frozen=True)
class CtVolume:
    """A complete pass of CT slices. ``hu`` is (z, y, x) int16, z along ``geometry.slice_axis``.

    ``volume_id`` is unique in a procedure ("v003"); a late slice makes a revision ("v003r2").
    """

    volume_id: str
    geometry: SliceGeometry
    hu: Int16Array
    patient_id: str
    series_uid: str
    frame_of_reference_uid: str
    acquired_utc_s: float
    last_received_utc_s: float
    instances: tuple[Instance, ...]
    completed_by: str
    status: Status = Status.OK
    reasons: tuple[Reason, ...] = ()
    patient_name: str = ""
    series_description: str = ""


def scan_of(volume_id: str) -> str:
    """The scan that a volume shows: "v003r2" is a revision of "v003"."""
    return volume_id.partition("r")[0]


# --------------------------------------------------------------------------- the plan


class Role(Enum):
    LESION = "lesion"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Structure:
    """A delineated body, as a signed distance (mm, negative inside) on its own ``grid``.

    ``sdf_mm`` reaches at least 3 mm beyond the surface on every side. ``limit_mm`` is the distance
    from the ice below which an alarm is due (critical structures only).
    """

    name: str
    role: Role
    grid: Grid
    sdf_mm: Float32Array
    limit_mm: float | None = None


# --------------------------------------------------------------------------- imaging


@dataclass(frozen=True)
class IceSegmentation:
    """Measured ice on the analysis grid: ``sdf_mm`` (z, y, x), negative inside the ice.

    The edge is where half of the tissue's water is frozen. ``known`` is False where the scan did
    not look. ``sdf_mm`` is None when ``status`` is INVALID; a scan without ice has +inf everywhere
    and ``volume_ml`` 0. ``edge_error_mm`` is a one-sigma estimate of the edge's position error.
    ``inner_sdf_mm`` and ``outer_sdf_mm`` are zero on surfaces that bound the true one (90 % of it).
    """

    volume_id: str
    acquired_utc_s: float
    grid: Grid
    sdf_mm: Float32Array | None
    known: npt.NDArray[np.bool_]
    volume_ml: float
    edge_error_mm: float
    quality: float
    status: Status = Status.OK
    reasons: tuple[Reason, ...] = ()
    inner_sdf_mm: Float32Array | None = None
    outer_sdf_mm: Float32Array | None = None


# --------------------------------------------------------------------------- decision


@dataclass(frozen=True)
class StructureDistance:
    """Shortest distance from the ice to a critical structure; negative when the ice is inside it.

    None when it is not known (no valid ice, or the structure was not in the scan); +inf without ice.
    ``at_least_mm`` is the distance if the ice reached its outer bound: what may be relied on.
    """

    name: str
    distance_mm: float | None
    limit_mm: float | None
    at_least_mm: float | None = None

    @property
    def room_mm(self) -> float:
        """What is surely left before the limit; -inf when nothing is sure."""
        if self.at_least_mm is None or math.isnan(self.at_least_mm):
            return -math.inf
        return self.at_least_mm - (self.limit_mm or 0.0)


@dataclass(frozen=True)
class Assessment:
    """What the operator decides on. Fractions are 0..1, never rounded up; None is "not known".

    ``min_margin_mm`` is the smallest signed distance by which the ice passes the lesion's surface
    (negative: that far is the farthest uncovered point of the lesion from the ice);
    ``min_margin_at_lps_mm`` is where. ``as_of_utc_s`` is the acquisition time of the scan.
    """

    volume_id: str | None
    as_of_utc_s: float
    status: Status
    reasons: tuple[Reason, ...]
    lesion_covered: float | None
    margin_covered: float | None
    margin_goal_mm: float
    min_margin_mm: float | None
    min_margin_at_lps_mm: tuple[float, float, float] | None
    margin_error_mm: float | None
    ice_volume_ml: float | None
    structures: tuple[StructureDistance, ...]
    time_to_margin_s: tuple[float, float] | None
    # 90 % interval of each coverage (edge ± 1.64 edge errors); None when nobody computed it.
    lesion_covered_interval: tuple[float, float] | None = None
    margin_covered_interval: tuple[float, float] | None = None


class Priority(Enum):
    """Alarm priorities, shown red ***, yellow **, cyan *."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Alarm:
    """An alarm on the screen. ``params`` fill the translated sentence of ``code``; ``about`` tells it
    from others of its code. ``latched``: its cause is gone, and nobody has ``acknowledged`` it yet."""

    code: str
    priority: Priority
    since_utc_s: float
    params: Mapping[str, str] = field(default_factory=dict)
    latched: bool = False
    acknowledged: bool = False
    about: str = ""


# --------------------------------------------------------------------------- the protocol


class PhaseKind(Enum):
    WAITING = "waiting"
    FREEZE = "freeze"
    THAW = "thaw"
    ENDED = "ended"


@dataclass(frozen=True)
class Phase:
    """Where the procedure stands now. ``cycle`` counts freezes from 1; 0 before the first."""

    kind: PhaseKind
    cycle: int
    started_utc_s: float | None
    ends_utc_s: float | None


# One freeze or thaw: (kind, start, end), seconds since the first freeze began.
Interval = tuple[PhaseKind, float, float]
