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


# --------------------------------------------------------------------------- prediction


@dataclass(frozen=True)
class StructureForecast:
    """When the ice reaches a critical structure if freezing goes on, [earliest, latest] in seconds from
    the forecast's start (as ``Forecast.time_to_margin_s``), and how cold its coldest point will be
    at the end of the horizon, °C; both hold 80 % of the members. ``infringed`` is, at each of the
    forecast's times, the share of the members whose ice is closer than the structure's limit."""

    name: str
    time_to_contact_s: tuple[float, float] | None
    coldest_degc: tuple[float, float]
    infringed: tuple[float, ...] = ()


@dataclass(frozen=True)
class Dose:
    """What the tissue will have been through by each time, since the first freeze began: of the nominal
    member, (time, z, y, x). Lowest temperature (°C, float16), time below −20 and below −40 °C (whole
    seconds, rounded down, uint16), freezes begun (uint8)."""

    min_degc: npt.NDArray[np.float16]
    below_20_s: npt.NDArray[np.uint16]
    below_40_s: npt.NDArray[np.uint16]
    cycles: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BodyDose:
    """The same of the lesion, or of lesion and margin, each (time, 2): the middle 80 % of the members. The
    share of its volume that has reached −20 and −40 °C; then of the point of it that was spared most: how
    cold it has been at the coldest, how long below each, how often frozen."""

    name: str
    reached_20: FloatArray
    reached_40: FloatArray
    warmest_degc: FloatArray
    hold_20_s: FloatArray
    hold_40_s: FloatArray
    cycles: FloatArray


@dataclass(frozen=True)
class NextScan:
    """The next scan worth taking: when, and what asks for it: "decision", "image_age" (the last one is
    too old by then), "unmeasured" (the last one told nothing) or "horizon" (the forecast knows no
    further). ``decision``: what is to be decided next, when, and about which structure; "" where
    nothing is within the forecast (``prediction/next_scan.py``)."""

    at_utc_s: float
    asked_by: str
    decision: str = ""
    decision_utc_s: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Forecast:
    """Predicted fields at ``times_utc_s`` (ascending), on the prediction grid.

    ``temperature_degc`` is (time, z, y, x) of the nominal member; ``edge_degc`` is the temperature
    at which half of the water is frozen: the iso-value to compare with measured ice.
    ``probability`` (same shape) is the share of the members that are frozen there.
    ``from_volume_id`` is the scan it runs on from, None before the first.
    ``time_to_lesion_s`` and ``time_to_margin_s`` are [earliest, latest] from ``start_utc_s``, of the
    middle 80 % of the members; None when fewer than one in ten reach it within the horizon; the
    upper bound is inf when only some members reach it. ``kind`` is the phase that it lets go on.
    ``colder_degc`` and ``warmer_degc`` (same shape, float16) hold the middle 80 % of the members'
    temperatures: of any isotherm, one member in ten reaches out to where ``colder_degc`` has it, nine in
    ten to where ``warmer_degc`` has it. ``covered`` is the share of the members that have lesion and
    margin covered, at each time. ``dose`` and ``bodies`` (lesion; lesion and margin) are never measured.
    """

    from_volume_id: str | None
    start_utc_s: float
    grid: Grid
    times_utc_s: tuple[float, ...]
    temperature_degc: Float32Array
    edge_degc: float
    time_to_lesion_s: tuple[float, float] | None
    time_to_margin_s: tuple[float, float] | None
    engine: str
    status: Status = Status.OK
    reasons: tuple[Reason, ...] = ()
    probability: Float32Array | None = None
    structures: tuple[StructureForecast, ...] = ()
    kind: PhaseKind | None = None
    colder_degc: npt.NDArray[np.float16] | None = None
    warmer_degc: npt.NDArray[np.float16] | None = None
    covered: tuple[float, ...] = ()
    dose: Dose | None = None
    bodies: tuple[BodyDose, ...] = ()
    next_scan: NextScan | None = None


# --------------------------------------------------------------------------- what if

Range = tuple[float, float]


@dataclass(frozen=True)
class WhatIf:
    """A question: needles set otherwise from the moment it is asked. ``duty`` (0..1 of full cooling, 0
    stops it) by the number on the needle; those not named go on as they do. The freeze ends after
    ``remaining_s`` and the needles thaw passively; None: it goes on."""

    duty: Mapping[int, float] = field(default_factory=dict)
    remaining_s: float | None = None


@dataclass(frozen=True)
class StructureOutcome:
    """Of a critical structure: when the ice reaches it, how close the ice comes (negative: inside; inf:
    no ice) and how cold its coldest point gets. None where it is not known."""

    name: str
    time_to_contact_s: Range | None
    distance_mm: Range | None
    coldest_degc: Range | None


@dataclass(frozen=True)
class Outcome:
    """What comes of a course; ranges hold the middle 80 % of the members.

    Seconds are from the moment of the question. Times mean what they mean in a ``Forecast``. Coverage
    and ``min_margin_mm`` (as in an ``Assessment``; -inf: no ice) are those when the freeze ends: as asked,
    else when the protocol has it end. How close and how cold: until then where the freeze goes on in
    the model, until the horizon where it ends, since ice grows on for a while."""

    freeze_ends_s: float
    time_to_lesion_s: Range | None
    time_to_margin_s: Range | None
    lesion_covered: Range
    margin_covered: Range
    min_margin_mm: Range | None
    structures: tuple[StructureOutcome, ...] = ()


@dataclass(frozen=True)
class Change:
    """The question's course less going on, member by member, the middle 80 % of them. ``…_later_s`` is of
    the members that get there in one of the two: inf, only when going on; -inf, only as asked. None:
    there is nothing to compare. ``distance_mm`` is by structure: positive is farther away."""

    lesion_later_s: Range | None
    margin_later_s: Range | None
    min_margin_mm: Range | None
    distance_mm: tuple[tuple[str, Range | None], ...] = ()


@dataclass(frozen=True)
class WhatIfAnswer:
    """``asked`` and ``going_on`` run from the same ``members`` at ``asked_utc_s``. It holds until the
    next scan or phase. ``refined``: by the whole ensemble."""

    question: WhatIf
    asked_utc_s: float
    from_volume_id: str | None
    refined: bool
    members: int
    asked: Outcome
    going_on: Outcome
    change: Change
    engine: str
    status: Status = Status.OK
    reasons: tuple[Reason, ...] = ()


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


# --------------------------------------------------------------------------- for the screen


@dataclass(frozen=True)
class ArrayRef:
    """An array shared through a file of the record: ``numpy.load(path, mmap_mode="r")``."""

    path: str


@dataclass(frozen=True)
class NeedleLine:
    """A needle as drawn: number as printed on the handle, tip and entry in LPS mm."""

    number: int
    tip_lps_mm: tuple[float, float, float]
    entry_lps_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Snapshot:
    """All that a screen needs, immutable, numbered by ``seq``. The view computes nothing from it
    but contours and positions on the screen.

    ``blocked`` (wrong patient or frame of reference) blanks everything. ``volume`` is the latest
    scan's pixels with ``volume_geometry``; ``ice_sdf`` and ``lesion_sdf`` live on ``analysis_grid``,
    ``structure_sdfs`` each on its own of ``structure_grids`` (none: on
    ``analysis_grid`` too); forecast fields on their own grid, one per ``forecast_times_utc_s``.
    ``heartbeat_utc_s`` is when the core last said it lives. ``forecast_band`` is
    (2, time, z, y, x), °C: ``colder_degc`` and ``warmer_degc``. ``next_scan`` is None while it is not known.
    ``what_if`` answers a question; it is never what is happening.
    """

    seq: int
    now_utc_s: float
    heartbeat_utc_s: float
    patient_label: str
    margin_goal_mm: float
    stale_after_s: float
    phase: Phase
    blocked: bool
    alarms: tuple[Alarm, ...]
    needles: tuple[NeedleLine, ...]
    assessment: Assessment | None
    baseline_id: str | None = None
    volume_id: str | None = None
    volume: ArrayRef | None = None
    volume_geometry: SliceGeometry | None = None
    analysis_grid: Grid | None = None
    ice_sdf: ArrayRef | None = None
    ice_edge_error_mm: float = 0.0
    lesion_sdf: ArrayRef | None = None
    structure_sdfs: tuple[tuple[str, ArrayRef], ...] = ()
    structure_grids: tuple[Grid, ...] = ()
    forecast_grid: Grid | None = None
    forecast_times_utc_s: tuple[float, ...] = ()
    forecast_temperature: ArrayRef | None = None
    forecast_edge_degc: float | None = None
    forecast_band: ArrayRef | None = None
    next_scan: NextScan | None = None
    window_hu: tuple[float, float] = (40.0, 400.0)
    what_if: WhatIfAnswer | None = None
