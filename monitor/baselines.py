"""The baseline that all scans are compared with: taken as it comes, picked by an operator, and taken once
more when the case has changed. UTC seconds on the procedure clock; LPS mm.

Invariant: a volume that shows too little of the lesion is no baseline, whoever would have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gpu_kernels.engine import Engine
from monitor import acts, scans
from monitor.decision.assessment import unknown, unplanned
from monitor.imaging.measurement import make_reference
from monitor.intake import assembly
from monitor.journal_fields import assessment_fields
from monitor.model import Assessment, CtVolume, Reason
from monitor.prediction.ensemble import prior_of
from monitor.prediction.estimate import first_estimate
from monitor.prediction.setup import make_problem, tissue_labels
from monitor.procedure import Procedure
from monitor.state import Done, Line, OperatorAct, Output, Picked, State

# Of the lesion's points, in a baseline.
_LEAST_SHOWN = 0.9
_TOO_LITTLE = "it shows too little of the lesion"


def before_freeze(state: State, volume: CtVolume) -> bool:
    begun = state.progress.started_utc_s
    return not begun or volume.acquired_utc_s < begun[0]


def shows_lesion(volume: CtVolume, procedure: Procedure) -> bool:
    """A few slices that came first, or a scan of elsewhere, are nothing to compare with. In a draft nobody
    knows yet."""
    if procedure.draft:
        return True
    index = volume.geometry.to_index_zyx(procedure.plan.lesion.points_lps_mm)
    last = np.array(volume.hu.shape) - 1
    inside = ((index >= -0.5) & (index <= last + 0.5)).all(axis=-1)
    return bool(inside.mean() >= _LEAST_SHOWN)


def unsuited(state: State, new: Procedure) -> str:
    """Why a case cannot take the place of the one before, "" when it can."""
    baseline, wanted = state.baseline_volume, scans.expected(new.config)
    if baseline is None:
        return ""
    against = f"the baseline {baseline.volume_id} stands against it"
    if not scans.suits(baseline, wanted):
        return f"{against}: {scans.misfit(baseline, wanted)}"
    return "" if shows_lesion(baseline, new) else f"{against}: {_TOO_LITTLE}"


# --------------------------------------------------------------------------- taken


def taken(
    state: State, volume: CtVolume, outputs: list[Output], procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """From now on only this patient and frame of reference."""
    mine = assembly.Expectation(volume.patient_id, volume.frame_of_reference_uid)
    state = replace(
        state,
        assembly=assembly.expecting(state.assembly, mine),
        baseline_volume=volume,
        volume=volume,
        ice=None,
        registration=None,
        review=None,
        done=acts.still(state.done, "needle", "pick_baseline"),
        relearning=None,
        forecast=None,
        unannounced_utc_s=None,
    )
    if procedure.draft:
        state, lines = _unprepared(state, volume, procedure)
    else:
        state, lines = _prepared(state, volume, procedure, engine)
    state, skipped = acts.forecast_anew(state, procedure, "baseline")
    return state, [*outputs, *skipped, *lines]


_BASELINE = Reason("baseline", "This scan is the baseline: there is no ice to measure yet.")


def _unprepared(state: State, volume: CtVolume, procedure: Procedure) -> tuple[State, list[Output]]:
    """In a draft nothing says which part of the baseline matters."""
    assessment = _without_plan(volume, procedure, (_BASELINE,))
    state = replace(state, reference=None, label_zyx=None, estimate=None, assessment=assessment)
    return state, [
        Line("baseline_set", {"volume_id": volume.volume_id, "seen_fraction": None}),
        Line("assessment", assessment_fields(assessment)),
    ]


def _prepared(
    state: State, volume: CtVolume, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    reference = make_reference(volume, procedure.analysis_grid, procedure.config)
    base_hu = reference.baseline.hu
    grid = procedure.prediction_grid
    label = tissue_labels(base_hu, procedure.analysis_grid, grid)
    config = replace(procedure.config, needles=reference.needles)
    reasons = (*volume.reasons, *reference.reasons, _BASELINE)
    assessment = unknown(procedure.plan, volume.volume_id, volume.acquired_utc_s, reasons)
    state = replace(
        state,
        reference=reference,
        label_zyx=label,
        assessment=assessment,
        estimate=first_estimate(
            prior_of(config),
            lambda m: make_problem(config, grid, label, (), m),
            engine,
            config.needles,
        ),
    )
    seen = float(np.isfinite(base_hu).mean())
    return state, [
        Line("baseline_set", {"volume_id": volume.volume_id, "seen_fraction": seen}),
        Line("assessment", assessment_fields(assessment)),
    ]


def shown(state: State, procedure: Procedure) -> tuple[State, list[Output]]:
    """The latest volume, measured; in a draft there is nothing to measure it against."""
    if not procedure.draft:
        return scans.measured(state, procedure)
    assert state.volume is not None
    assessment = _without_plan(state.volume, procedure, ())
    return replace(state, assessment=assessment), [
        Line("assessment", assessment_fields(assessment))
    ]


def _without_plan(
    volume: CtVolume, procedure: Procedure, reasons: tuple[Reason, ...]
) -> Assessment:
    no_plan = Reason("no_plan", "No lesion is drawn yet: nothing is measured.")
    return unplanned(
        procedure.config.margin_goal_mm,
        volume.volume_id,
        volume.acquired_utc_s,
        (*volume.reasons, *reasons, no_plan),
    )


# --------------------------------------------------------------------------- another case, another baseline


def reloaded(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """The case changed (a lesion was drawn, needles became known): what was received is measured, and
    learned from, again."""
    if event.procedure is not None and (reason := unsuited(state, event.procedure)):
        return acts.refused(state, event, reason)
    state = replace(state, refused=None)
    if state.baseline_volume is not None:
        baseline = scans.as_received(state, state.baseline_volume)
        return _based_on(state, baseline, state.volume, procedure, engine)
    return _nobody_picked(state, procedure, engine)


def _nobody_picked(
    state: State, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """Nobody has picked a baseline: the case says whose volumes may be one, and, when it is whole, the
    newest of them from before the freeze that shows no ice is."""
    wanted = scans.expected(procedure.config)
    state = replace(state, assembly=assembly.expecting(state.assembly, wanted))
    mine = [v for v in state.kept if scans.suits(v, wanted)]
    latest = scans.latest_of(mine)
    if latest is None:
        return replace(state, volume=None, assessment=None), []
    if procedure.draft:
        return shown(replace(state, volume=scans.doubted(latest, procedure)), procedure)
    baseline, frozen = _newest_without_ice(state, mine, procedure)
    if baseline is None:
        return replace(state, volume=scans.doubted(latest, procedure), assessment=None), []
    state, outputs = _based_on(state, baseline, latest, procedure, engine)
    return state if frozen is None else unannounced(state, baseline, frozen), outputs


def _newest_without_ice(
    state: State, volumes: Iterable[CtVolume], procedure: Procedure
) -> tuple[CtVolume | None, CtVolume | None]:
    """Of the scans from before the freeze: the baseline, and the first after it that shows ice, for then
    the freeze had begun. The scans come one by one, as they would have come to a case that was whole."""
    baseline: CtVolume | None = None
    for volume in sorted(volumes, key=lambda v: v.acquired_utc_s):
        if not before_freeze(state, volume) or not shows_lesion(volume, procedure):
            continue
        if baseline is not None:
            reference = make_reference(baseline, procedure.analysis_grid, procedure.config)
            known = replace(state, reference=reference, registration=None)
            if scans.with_ice(known, volume, procedure) is not None:
                return baseline, volume
        baseline = volume
    return baseline, None


def unannounced(state: State, before: CtVolume, frozen: CtVolume) -> State:
    """A freeze that nobody told began, as far as one can know, midway between these two scans."""
    if state.progress.started_utc_s or state.unannounced_utc_s is not None:
        return state
    midway_utc_s = 0.5 * (before.acquired_utc_s + frozen.acquired_utc_s)
    return replace(state, unannounced_utc_s=midway_utc_s)


def _based_on(
    state: State,
    baseline: CtVolume,
    latest: CtVolume | None,
    procedure: Procedure,
    engine: Engine,
) -> tuple[State, list[Output]]:
    """On that baseline the latest volume is measured at once, the scans before it little by little."""
    doubted = scans.doubted(baseline, procedure)
    state, outputs = taken(state, doubted, [], procedure, engine)
    if latest is None or latest.volume_id == baseline.volume_id:
        return state, outputs
    latest = scans.doubted(scans.as_received(state, latest), procedure)
    state, more = shown(replace(state, volume=latest), procedure)
    return scans.learned_anew(state), outputs + more


def picked(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """That volume is the baseline, and no newer one replaces it. Until a freeze begins it is also what is
    shown."""
    volume_id = (event.params or {}).get("volume_id")
    volume = scans.of_id(state, volume_id)
    if volume is None or (reason := _unpickable(state, volume, procedure)):
        known = ", ".join(v.volume_id for v in state.kept)
        unknown_id = f"{volume_id} has not been received ({known})"
        missing = unknown_id if known else "no volume has been received yet"
        return acts.refused(state, event, missing if volume is None else reason)
    before = None if state.baseline_volume is None else state.baseline_volume.volume_id
    done = Done(event.act, volume.volume_id, Picked(before, state.picked))
    latest = None
    if state.progress.started_utc_s:
        latest = scans.latest_of(v for v in state.kept if _alike(v, volume))
    state = replace(state, picked=True, done=(*state.done, done), refused=None)
    return _based_on(state, volume, latest, procedure, engine)


def _unpickable(state: State, volume: CtVolume, procedure: Procedure) -> str:
    """Why a volume cannot become the baseline, "" when it can."""
    wanted, now = scans.expected(procedure.config), state.baseline_volume
    if state.block is not None:
        return "images of another patient or frame of reference came; clear that first"
    if not scans.suits(volume, wanted):
        return f"{volume.volume_id}: {scans.misfit(volume, wanted)}"
    if not shows_lesion(volume, procedure):
        return f"{volume.volume_id}: {_TOO_LITTLE}"
    if state.progress.started_utc_s and now is not None:
        return "the first freeze has begun: the baseline stays"
    if not before_freeze(state, volume):
        return f"{volume.volume_id} was acquired after the first freeze began"
    if state.picked and now is not None and now.volume_id == volume.volume_id:
        return f"{volume.volume_id} has been picked already"
    return ""


def unpicked_again(
    state: State, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """The baseline that was there before; where none was, any may be chosen again."""
    last, state = state.done[-1], replace(state, done=state.done[:-1], refused=None)
    assert isinstance(last.before, Picked)
    state = replace(state, picked=last.before.picked)
    said: list[Output] = [Line("undone", {"act": last.act, "of": last.of})]
    volume = scans.of_id(state, last.before.volume_id)
    if volume is not None:
        state, outputs = _based_on(state, volume, None, procedure, engine)
    else:
        state = replace(state, baseline_volume=None, reference=None, label_zyx=None, estimate=None)
        state = replace(state, ice=None, registration=None, review=None)
        state, outputs = _nobody_picked(state, procedure, engine)
    return state, said + outputs


def _alike(a: CtVolume, b: CtVolume) -> bool:
    """Of one patient and frame of reference."""
    return scans.suits(a, assembly.Expectation(b.patient_id, b.frame_of_reference_uid))
