"""A record worked out once more for what its journal does not hold: surfaces, forecast fields, screens.

UTC seconds, LPS mm. The record is replayed and compared with its journal on the way.
Invariant: a scan whose results are not as they were recorded says so in ``differs``; whoever writes files
for others leaves it out. Nothing is written into the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from gpu_kernels.engine import Engine, EngineUnavailable
from gpu_kernels.select import open_engine, warm_up
from monitor.forecast_values import Course, CourseAt, Forecast
from monitor.imaging.registration import Registration
from monitor.model import CtVolume, IceSegmentation, scan_of
from monitor.playback import alarms_over_time, scans_in, worked_moments
from monitor.prediction.ensemble import MOST_LATENT
from monitor.procedure import Procedure
from monitor.record.comparing import tolerances_of
from monitor.record.journal import RecordError
from monitor.record.reading import Finding, JournalLine
from monitor.replay import Comparison, Step
from monitor.snapshot import Replayed, Snapshot

# A forecast that starts at a scan's acquisition runs on from that scan.
_SAME_SCAN_S = 1.0


@dataclass(frozen=True)
class WorkedScan:
    """A scan that was measured, in its last revision. ``forecast`` runs on from it (without what is not
    exported); ``expected`` is what the forecast before it came to at its time. ``shown`` is the room's screen
    at ``at_utc_s``, its arrays in the scratch folder."""

    volume: CtVolume
    ice: IceSegmentation | None
    registration: Registration | None
    forecast: Forecast | None
    procedure: Procedure
    shown: Snapshot
    at_utc_s: float
    baseline: bool
    expected: CourseAt | None = None
    differs: tuple[str, ...] = ()

    @property
    def overtaken(self) -> bool:
        """``shown`` has a forecast, but none that runs on from this scan."""
        return self.forecast is None and bool(self.shown.forecast_times_utc_s)

    @property
    def pictured(self) -> Snapshot:
        """``shown`` without another scan's forecast: on paper it would be taken for this one's."""
        return self.shown.without_forecast() if self.overtaken else self.shown


@dataclass
class WorkedOut:
    """All scans by volume id, in order; ``findings`` of the replay; ``broken``: why it could not go on."""

    scans: dict[str, WorkedScan] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken: str = ""
    engine: str = ""


def work_out(
    record: Path, lines: list[JournalLine], scratch: Path, engine: str | None = None
) -> WorkedOut:
    """``engine`` None: the one that was recorded with. What cannot be worked out is said, not raised."""
    out = WorkedOut()
    try:
        opened = open_engine(engine or str(lines[0].fields.get("engine")), MOST_LATENT)
        out.engine = opened.name
        warm_up(opened)
        _gather(record, lines, scratch, opened, out)
    except (RecordError, EngineUnavailable, OSError, ValueError, KeyError, TypeError) as error:
        out.broken = f"{type(error).__name__}: {error}"
    _name_differences(lines, out)
    return out


def _gather(
    record: Path, lines: list[JournalLine], scratch: Path, engine: Engine, out: WorkedOut
) -> None:
    recorded_with = str(lines[0].fields.get("engine"))
    comparison = Comparison(record, tolerances_of(recorded_with, engine.name), out.findings.append)
    alarms, course = alarms_over_time(lines), None
    order: list[str] = []
    told = worked_moments(record, lines, engine, scratch, out.findings.append)
    for moment, step in told:
        if step is not None:
            comparison.take(step)
        shown = moment.shown
        if shown is None or step is None:
            continue
        scan = _scan(step, shown, moment.at_utc_s, out.scans, course)
        if scan is not None:
            standing = next((a for at, a in reversed(alarms) if at <= moment.at_utc_s), ())
            name = scan_of(scan.volume.volume_id)
            if name not in order:
                order.append(name)
            number = order.index(name) + 1
            marked = replace(shown, alarms=standing, replay=_marked(lines, number))
            for before in _same_scan(out.scans, scan.volume.volume_id):
                del out.scans[before]
            out.scans[scan.volume.volume_id] = replace(scan, shown=marked)
        course = shown.course or course


def _same_scan(scans: Mapping[str, WorkedScan], volume_id: str) -> list[str]:
    return [v for v in scans if scan_of(v) == scan_of(volume_id) and v != volume_id]


def _marked(lines: Sequence[JournalLine], scan: int) -> Replayed:
    scans = scans_in(lines)
    return Replayed(lines[0].at_utc_s, 1.0, True, min(scan, scans), scans)


def _scan(
    step: Step,
    shown: Snapshot,
    at_utc_s: float,
    before: Mapping[str, WorkedScan],
    course: Course | None,
) -> WorkedScan | None:
    """As it was assessed, taken again when its own forecast comes or its ice changes; None where this step
    brings nothing of the kind."""
    state = step.state
    a, volume = state.assessment, state.volume
    if a is None or volume is None or a.volume_id != volume.volume_id:
        return None
    forecast = state.forecast
    own = (
        forecast is not None
        and forecast.from_volume_id == volume.volume_id
        and abs(forecast.start_utc_s - a.as_of_utc_s) < _SAME_SCAN_S
    )
    last = before.get(volume.volume_id)
    if last is not None and last.ice is state.ice and (last.forecast is not None or not own):
        return None
    expected = last.expected if last is not None else _at(course, a.as_of_utc_s)
    baseline = state.baseline_volume is not None
    return WorkedScan(
        volume,
        state.ice,
        state.registration,
        _lighter(forecast) if own and forecast is not None else None,
        step.procedure,
        shown,
        at_utc_s,
        baseline and state.baseline_volume.volume_id == volume.volume_id,  # type: ignore[union-attr]
        expected,
    )


def _lighter(f: Forecast) -> Forecast:
    """A dozen scans' members would not fit into memory."""
    return replace(f, probability=None, colder_degc=None, warmer_degc=None, dose=None)


def _at(course: Course | None, at_utc_s: float) -> CourseAt | None:
    """Between two of its times in proportion; None where it does not reach."""
    points = course.points if course else ()
    for a, b in pairwise(points):
        if a.at_utc_s <= at_utc_s <= b.at_utc_s:
            w = (at_utc_s - a.at_utc_s) / (b.at_utc_s - a.at_utc_s)
            names = ("ice_volume_ml", "lesion_covered", "margin_covered", "min_margin_mm")
            values = {
                n: tuple(
                    (1 - w) * x + w * y for x, y in zip(getattr(a, n), getattr(b, n), strict=True)
                )
                for n in names
            }
            return CourseAt(at_utc_s, **values)
    return None


def _name_differences(lines: Sequence[JournalLine], out: WorkedOut) -> None:
    """Each finding to the scan whose line it is of."""
    of = {x.number: str(x.fields.get("volume_id") or x.fields.get("from_volume_id") or "")
          for x in lines}  # fmt: skip
    for finding in out.findings:
        volume_id = of.get(finding.line, "")
        scan = out.scans.get(volume_id)
        if scan is not None:
            out.scans[volume_id] = replace(scan, differs=(*scan.differs, finding.text))
