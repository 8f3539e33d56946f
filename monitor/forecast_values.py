"""The frozen values of what is foreseen: forecast, dose, next scan, what-if. Units, frames as in ``model``.

Invariant: none of it was measured, and whatever carries a ``status`` other than OK carries at least one
reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monitor.geometry import Grid
from monitor.model import Float32Array, FloatArray, PhaseKind, Reason, Status

Range = tuple[float, float]


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
    upper bound is inf when only some members reach it. ``kind`` is the phase that it lets go on, begun at
    ``phase_started_utc_s``.
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
    phase_started_utc_s: float | None = None


# --------------------------------------------------------------------------- over time


@dataclass(frozen=True)
class CourseAt:
    """The low and the high end at one time, of the band of a forecast (``course.py``)."""

    at_utc_s: float
    ice_volume_ml: tuple[float, float]
    lesion_covered: tuple[float, float]
    margin_covered: tuple[float, float]
    min_margin_mm: tuple[float, float]


@dataclass(frozen=True)
class Course:
    """What a forecast comes to, at times that ascend."""

    points: tuple[CourseAt, ...]


@dataclass(frozen=True)
class DoseAt:
    """A ``BodyDose`` at one of the forecast's times, each from the low to the high end."""

    name: str
    at_utc_s: float
    reached_20: Range
    reached_40: Range
    warmest_degc: Range
    hold_20_s: Range
    hold_40_s: Range
    cycles: Range


# --------------------------------------------------------------------------- what if


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
