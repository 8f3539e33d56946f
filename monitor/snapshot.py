"""What a screen is given, immutable and numbered. Units and frames as in ``model``.

Invariant: a snapshot holds all that a view needs; pixels lie in files that it names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitor.forecast_values import Course, DoseAt, NextScan, WhatIfAnswer
from monitor.geometry import Grid, SliceGeometry
from monitor.model import Alarm, Assessment, Phase, PhaseKind


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
class ReceivedVolume:
    """A volume of the room, from which the baseline may be picked; its pixels are in a file of the record."""

    volume_id: str
    acquired_utc_s: float
    slices: int
    patient_id: str
    volume: ArrayRef | None
    geometry: SliceGeometry
    patient_name: str = ""
    series: str = ""


@dataclass(frozen=True)
class PastScan:
    """A scan that was measured, as it was assessed then. ``analysis_grid`` and the point of its worst margin
    lie where the target lay in that scan; ``volume_ml`` is of its inner and its outer bound."""

    assessment: Assessment
    volume: ArrayRef | None
    volume_geometry: SliceGeometry
    analysis_grid: Grid
    ice_sdf: ArrayRef | None = None
    ice_inner_sdf: ArrayRef | None = None
    ice_outer_sdf: ArrayRef | None = None
    ice_edge_error_mm: float = 0.0
    volume_ml: tuple[float, float] | None = None


@dataclass(frozen=True)
class PhaseBand:
    """A phase from start to end, as it happened or, from now on, as the protocol has it."""

    kind: PhaseKind
    cycle: int
    start_utc_s: float
    end_utc_s: float


@dataclass(frozen=True)
class Replayed:
    """Not now but a record, played: of the procedure that began at ``began_utc_s``. ``pace``: procedure
    seconds per second while it plays. ``scan`` of the record's ``scans`` is the latest one shown.
    ``working``: what comes next is still being worked out; ``broken``: it cannot be."""

    began_utc_s: float
    pace: float
    paused: bool
    scan: int
    scans: int
    working: bool = False
    broken: bool = False


@dataclass(frozen=True)
class Delivered:
    """How the sending of results stands: to whom, how many objects. ``code``: ``sent``, ``sending``,
    ``refused`` (some of it), ``failed`` (it could not be made or kept), or what keeps the receiver from
    taking them: ``no_connection``, ``rejected``, ``no_answer``, ``no_resources``, ``tls``. ``reason`` in
    English."""

    ae_title: str
    code: str
    sent: int
    waiting: int
    refused: int
    reason: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All that a screen needs, immutable, numbered by ``seq``. The view computes nothing from it
    but contours and positions on the screen.

    ``blocked`` (wrong patient or frame of reference) blanks everything. ``volume`` is the latest
    scan's pixels with ``volume_geometry``; ``ice_sdf``, its bounds (zero on surfaces between which the
    true one lies) and ``lesion_sdf`` live on ``analysis_grid``,
    ``structure_sdfs`` each on its own of ``structure_grids`` (none: on
    ``analysis_grid`` too); forecast fields on their own grid, one per ``forecast_times_utc_s``.
    ``heartbeat_utc_s`` is when the core last said it lives. ``forecast_band`` is
    (2, time, z, y, x), °C: ``colder_degc`` and ``warmer_degc``. ``forecast_lowest`` is (time, z, y, x), °C:
    the nominal member's lowest temperature by then; ``dose`` is what lesion, and lesion and margin, are
    predicted to have been through by now, never later; ``forecast_doubtful``: the forecast is not OK.
    ``next_scan`` is None while it is not known.
    ``what_if`` answers a question; it is never what is happening; ``what_if_dropped``: what overtook the
    question before, unanswered. ``needle_duties``: by number, as set
    now. ``draft``: nothing is measured, since no lesion is known; ``analysis_grid`` and ``lesion_sdf`` are
    then None. ``received``: every volume so far, the oldest first, in its last revision. ``ice_review``: of
    the scan measured last, "measured", "accepted", "rejected" or "corrected". ``refused``: why the operator's
    last act was not done, "act: reason". ``undo``: the act that would be undone, and of which needle or
    volume. ``relearning``: how many scans are being learned from anew.
    ``history`` holds the scans so far, the latest last, ``course`` what the forecast comes to,
    ``phases`` what was and what the protocol plans. ``replay``: this is a record, not a patient in the room.
    ``delivery``: how the sending of results to a PACS stands; None where nothing is sent.
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
    ice_inner_sdf: ArrayRef | None = None
    ice_outer_sdf: ArrayRef | None = None
    ice_edge_error_mm: float = 0.0
    lesion_sdf: ArrayRef | None = None
    structure_sdfs: tuple[tuple[str, ArrayRef], ...] = ()
    structure_grids: tuple[Grid, ...] = ()
    forecast_grid: Grid | None = None
    forecast_times_utc_s: tuple[float, ...] = ()
    forecast_temperature: ArrayRef | None = None
    forecast_edge_degc: float | None = None
    forecast_band: ArrayRef | None = None
    forecast_lowest: ArrayRef | None = None
    forecast_doubtful: bool = False
    dose: tuple[DoseAt, ...] = ()
    next_scan: NextScan | None = None
    window_hu: tuple[float, float] = (40.0, 400.0)
    what_if: WhatIfAnswer | None = None
    what_if_dropped: str | None = None
    draft: bool = False
    received: tuple[ReceivedVolume, ...] = ()
    ice_review: str | None = None
    needle_duties: tuple[tuple[int, float], ...] = ()
    refused: str | None = None
    undo: str | None = None
    undo_of: str = ""
    relearning: int = 0
    history: tuple[PastScan, ...] = ()
    course: Course | None = None
    phases: tuple[PhaseBand, ...] = ()
    replay: Replayed | None = None
    delivery: Delivered | None = None

    def without_forecast(self) -> Snapshot:
        """The same for the planes, with nothing predicted in them."""
        return replace(
            self,
            forecast_grid=None,
            forecast_times_utc_s=(),
            forecast_temperature=None,
            forecast_band=None,
            forecast_edge_degc=None,
            forecast_lowest=None,
        )

    @property
    def baseline(self) -> PastScan | None:
        """The scan without ice with which all others are compared."""
        return next((p for p in self.history if p.assessment.volume_id == self.baseline_id), None)
