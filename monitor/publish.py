"""From the procedure's state to what a screen gets: arrays into files, the rest into a Snapshot.

LPS mm, UTC seconds. Invariant: an array is written once; a snapshot names only files that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from monitor.acts import last_done
from monitor.ahead import next_scan_known
from monitor.config import UNIDENTIFIED, ProtocolConfig
from monitor.course import course, dose_by
from monitor.decision import protocol
from monitor.duties import duty_now
from monitor.forecast_values import Course
from monitor.geometry import Grid
from monitor.imaging.distance import volume_ml
from monitor.model import Alarm, Assessment, CtVolume, IceSegmentation, PhaseKind, Status, scan_of
from monitor.procedure import Procedure, critical_structures
from monitor.record.store import Store
from monitor.snapshot import (
    ArrayRef,
    NeedleLine,
    PastScan,
    PhaseBand,
    ReceivedVolume,
    Snapshot,
)
from monitor.state import State

Point = tuple[float, float, float]
# A procedure has a dozen; a screen is sent all of them four times a second.
_MOST_SCANS = 60


@dataclass(frozen=True)
class Shared:
    """The arrays of one state, as files."""

    volume: ArrayRef | None = None
    volumes: Mapping[str, ArrayRef] = field(default_factory=dict)
    ice_sdf: ArrayRef | None = None
    ice_inner_sdf: ArrayRef | None = None
    ice_outer_sdf: ArrayRef | None = None
    lesion_sdf: ArrayRef | None = None
    structure_sdfs: tuple[tuple[str, ArrayRef], ...] = ()
    forecast_temperature: ArrayRef | None = None
    forecast_band: ArrayRef | None = None
    forecast_lowest: ArrayRef | None = None
    history: tuple[PastScan, ...] = ()
    course: Course | None = None


class Publisher:
    """Writes what changed since the last state. Used by the worker thread alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._plan: Procedure | None = None
        self._state: State | None = None
        self._shared = Shared()
        self._volumes: dict[str, ArrayRef] = {}

    def volume_kept(self, volume_id: str, ref: ArrayRef) -> None:
        """The pixels of a volume are in the record already: the screen reads them there."""
        self._volumes = {**self._volumes, volume_id: ref}

    def recall(self, history: tuple[PastScan, ...]) -> None:
        """The scans that an earlier run of the program had shown, as far as their files are still there."""
        self._shared = _with(self._shared, history=tuple(map(_there, history)))

    def share(self, state: State, procedure: Procedure) -> Shared:
        """The files of ``state``'s arrays; only what is new is written."""
        old, shared = self._state, self._shared
        keep = self._store.keep_field
        if self._plan is not procedure:
            shared = _with(
                shared,
                lesion_sdf=None if procedure.draft else keep("lesion", procedure.lesion_sdf),
                structure_sdfs=tuple(
                    (s.name, keep(f"structure{i}", s.sdf_mm))
                    for i, s in enumerate(critical_structures(procedure))
                ),
            )
        shown = state.volume and self._volumes.get(state.volume.volume_id)
        shared = _with(shared, volume=shown, volumes=self._volumes)
        if old is None or old.ice is not state.ice:
            shared = _with(shared, **self._ice(state.ice))
        if old is None or old.forecast is not state.forecast:
            f = state.forecast
            band, dose = None, None if f is None else f.dose
            if f is not None and f.colder_degc is not None and f.warmer_degc is not None:
                band = np.stack([f.colder_degc, f.warmer_degc])
            shared = _with(
                shared,
                forecast_temperature=None if f is None else keep("forecast", f.temperature_degc),
                forecast_band=None if band is None else keep("forecast_band", band),
                forecast_lowest=None if dose is None else keep("forecast_lowest", dose.min_degc),
                course=None if f is None or procedure.draft else course(f, procedure.plan),
            )
        if old is None or old.assessment is not state.assessment:
            shared = _with(shared, history=with_scan(shared.history, state, shared, procedure))
        self._state, self._plan, self._shared = state, procedure, shared
        return shared

    def _ice(self, ice: IceSegmentation | None) -> dict[str, ArrayRef | None]:
        """The measured surface and its bounds, whichever there are; of every scan, for looking back."""
        fields = {
            "ice_sdf": ice.sdf_mm if ice else None,
            "ice_inner_sdf": ice.inner_sdf_mm if ice else None,
            "ice_outer_sdf": ice.outer_sdf_mm if ice else None,
        }
        # Half precision is 0.03 mm wrong at most, 32 mm from the edge, and half the disk.
        return {
            name: None
            if sdf is None or ice is None
            else self._store.keep_field(f"{name}_{ice.volume_id}", sdf.astype(np.float16))
            for name, sdf in fields.items()
        }


def _there(scan: PastScan) -> PastScan:
    refs = {f.name: getattr(scan, f.name) for f in fields(scan)}
    gone = {
        n: None for n, r in refs.items() if isinstance(r, ArrayRef) and not Path(r.path).exists()
    }
    return replace(scan, **gone)  # type: ignore[arg-type]


def with_scan(
    before: tuple[PastScan, ...], state: State, shared: Shared, procedure: Procedure
) -> tuple[PastScan, ...]:
    """The scans so far with the latest; a revision takes the place of what it revises. None of a draft, whose
    volumes may be of several patients."""
    a, volume, ice = state.assessment, state.volume, state.ice
    if procedure.draft:
        return ()
    if a is None or volume is None or a.volume_id != volume.volume_id:
        return before
    shift = _shift(state)
    bounds = None
    if ice is not None and ice.inner_sdf_mm is not None and ice.outer_sdf_mm is not None:
        low, high = (volume_ml(sdf, ice.grid) for sdf in (ice.inner_sdf_mm, ice.outer_sdf_mm))
        bounds = (low, high)
    scan = PastScan(
        assessment=replace(_assessment(a, shift) or a, time_to_margin_s=None),
        volume=shared.volume,
        volume_geometry=volume.geometry,
        analysis_grid=_grid(procedure.analysis_grid, shift),
        ice_sdf=shared.ice_sdf,
        ice_inner_sdf=shared.ice_inner_sdf,
        ice_outer_sdf=shared.ice_outer_sdf,
        ice_edge_error_mm=_finite(ice.edge_error_mm if ice else 0.0),
        volume_ml=bounds,
    )
    scans = (*(p for p in before if _scan(p.assessment) != _scan(a)), scan)
    return scans[:1] + scans[1:][-_MOST_SCANS:]  # the first may be the baseline


def _scan(a: Assessment) -> str:
    return scan_of(a.volume_id or "")


def phase_bands(progress: protocol.Progress, rules: ProtocolConfig) -> tuple[PhaseBand, ...]:
    """The phases as they happened, then as the protocol has them follow."""
    bands: list[PhaseBand] = []
    starts, cycle = progress.started_utc_s, 0
    for i, config in enumerate(rules.phases if starts else ()):
        cycle += config.kind is PhaseKind.FREEZE
        if progress.ended_utc_s is not None and i >= len(starts):
            break
        start = starts[i] if i < len(starts) else bands[-1].end_utc_s
        end = start + config.duration_s
        if i + 1 < len(starts):
            end = starts[i + 1]
        elif i + 1 == len(starts) and progress.ended_utc_s is not None:
            end = progress.ended_utc_s
        bands.append(PhaseBand(config.kind, cycle, start, end))
    return tuple(bands)


def _shift(state: State) -> Point:
    return state.registration.shift_lps_mm if state.registration else (0.0, 0.0, 0.0)


def _with(shared: Shared, **fields: object) -> Shared:
    return Shared(**{**shared.__dict__, **fields})


def snapshot(
    seq: int,
    now_utc_s: float,
    heartbeat_utc_s: float,
    state: State,
    shared: Shared,
    procedure: Procedure,
    alarms: tuple[Alarm, ...],
) -> Snapshot:
    """All that a screen needs of one moment. What lies in the plan's frame is shown where it lies in
    the scan on the screen: shifted as the target has moved."""
    config, planned = procedure.config, procedure.planned
    phase = protocol.phase(state.progress, config.protocol)
    # Of another phase than the one that runs it foresees what will not come.
    forecast = state.forecast
    forecast = forecast if forecast is not None and forecast.kind is phase.kind else None
    baseline = state.baseline_volume
    shift, undo = _shift(state), last_done(state, now_utc_s)
    return Snapshot(
        seq=seq,
        now_utc_s=now_utc_s,
        heartbeat_utc_s=heartbeat_utc_s,
        patient_label=_patient_label(state, procedure),
        margin_goal_mm=config.margin_goal_mm,
        stale_after_s=config.stale_after_s,
        phase=phase,
        blocked=state.block is not None,
        alarms=alarms,
        needles=tuple(
            NeedleLine(n.number, _moved(n.tip_lps_mm, shift), _moved(n.entry_lps_mm, shift))
            for n in config.needles
        ),
        assessment=_assessment(state.assessment, shift),
        baseline_id=None if baseline is None else baseline.volume_id,
        volume_id=state.volume.volume_id if state.volume else None,
        volume=shared.volume,
        volume_geometry=state.volume.geometry if state.volume else None,
        analysis_grid=None if planned is None else _grid(planned.analysis_grid, shift),
        ice_sdf=shared.ice_sdf,
        ice_inner_sdf=shared.ice_inner_sdf,
        ice_outer_sdf=shared.ice_outer_sdf,
        ice_edge_error_mm=_finite(state.ice.edge_error_mm if state.ice else 0.0),
        lesion_sdf=shared.lesion_sdf,
        structure_sdfs=shared.structure_sdfs,
        structure_grids=tuple(_grid(s.grid, shift) for s in critical_structures(procedure)),
        forecast_grid=_grid(forecast.grid, shift) if forecast else None,
        forecast_times_utc_s=forecast.times_utc_s if forecast else (),
        forecast_temperature=shared.forecast_temperature if forecast else None,
        forecast_band=shared.forecast_band if forecast else None,
        forecast_edge_degc=forecast.edge_degc if forecast else None,
        forecast_lowest=shared.forecast_lowest if forecast else None,
        forecast_doubtful=forecast is not None and forecast.status is not Status.OK,
        dose=dose_by(forecast, now_utc_s) if forecast else (),
        next_scan=next_scan_known(state, procedure, now_utc_s),
        window_hu=(config.organ.window_level_hu, config.organ.window_width_hu),
        what_if=state.what_if,
        what_if_dropped=state.what_if_dropped,
        draft=procedure.draft,
        received=tuple(_received(v, shared) for v in state.kept),
        ice_review=state.review.verdict if state.review else None,
        needle_duties=tuple((n.number, duty_now(n, state.needle_sets)) for n in config.needles),
        refused=state.refused,
        undo=undo.act if undo else None,
        undo_of=undo.of if undo else "",
        relearning=0 if state.relearning is None else len(state.relearning.left),
        history=shared.history,
        course=shared.course if forecast else None,
        phases=phase_bands(state.progress, config.protocol),
    )


def _patient_label(state: State, procedure: Procedure) -> str:
    """While nobody has said whom it is about: whose images are shown; "" where that is not known either."""
    config, volume = procedure.config, state.volume
    given = "" if config.patient_label == UNIDENTIFIED else config.patient_label
    if config.patient_id is not None or volume is None:
        return given
    name = volume.patient_name.replace("^", " ").strip()
    return " · ".join(x for x in (name, volume.patient_id) if x) or given


def _received(volume: CtVolume, shared: Shared) -> ReceivedVolume:
    return ReceivedVolume(
        volume.volume_id,
        volume.acquired_utc_s,
        len(volume.geometry.slice_offsets_mm),
        volume.patient_id,
        shared.volumes.get(volume.volume_id),
        volume.geometry,
        volume.patient_name,
        volume.series_description,
    )


def _moved(point: Point, shift: Point) -> Point:
    return (point[0] + shift[0], point[1] + shift[1], point[2] + shift[2])


def _grid(grid: Grid, shift: Point) -> Grid:
    return replace(grid, origin_lps_mm=_moved(grid.origin_lps_mm, shift))


def _assessment(a: Assessment | None, shift: Point) -> Assessment | None:
    if a is None or a.min_margin_at_lps_mm is None:
        return a
    return replace(a, min_margin_at_lps_mm=_moved(a.min_margin_at_lps_mm, shift))


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 0.0
