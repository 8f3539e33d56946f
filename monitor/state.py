"""What a procedure knows, what may happen to it, and what follows for others. Times are UTC seconds on
the procedure clock; LPS mm.

Invariant: all of it is frozen; ``pipeline.step`` alone makes a new state out of an old one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.decision import protocol
from monitor.decision.safety import Block
from monitor.duties import NeedleSet
from monitor.forecast_values import Forecast, WhatIf, WhatIfAnswer
from monitor.imaging.measurement import Reference
from monitor.imaging.registration import Registration
from monitor.intake import assembly
from monitor.model import (
    Assessment,
    AssociationEnded,
    CtFrames,
    CtSlice,
    CtVolume,
    IceSegmentation,
    Int16Array,
    Rejected,
    Structure,
    StructureDistance,
)
from monitor.prediction.estimate import Estimate
from monitor.prediction.forecast import Job
from monitor.prediction.what_if import WhatIfJob
from monitor.procedure import Procedure
from monitor.review import Review, Verdict

# --------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Tick:
    """Time has passed. Sent when it is ``due``."""

    now_utc_s: float
    now_mono_s: float


@dataclass(frozen=True)
class OperatorAct:
    """ "phase_next", "clear_block", "acknowledge", "reload" (with the new ``procedure``, whose case
    the record keeps in ``kept_case``), "what_if" (its ``params`` as ``prediction.what_if.question``
    takes them), or one of ``monitor.acts`` and "pick_baseline". ``drawn``: the ice of a "correct_ice", in the
    scan's space, from the file that its params name. Every field but ``procedure`` and ``drawn`` is
    journalled as it stands."""

    act: str
    now_utc_s: float
    procedure: Procedure | None = None
    kept_case: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    drawn: Structure | None = None


@dataclass(frozen=True)
class ForecastDue:
    """Carry the forecast on, then the answer to a what-if, then learning. The runtime sends it while
    ``State.work_pending`` and nothing more urgent waits."""

    now_utc_s: float


@dataclass(frozen=True)
class Ending:
    now_utc_s: float


Event = CtSlice | CtFrames | Rejected | AssociationEnded | Tick | OperatorAct | ForecastDue | Ending

# --------------------------------------------------------------------------- outputs


@dataclass(frozen=True)
class Line:
    """A line for the journal."""

    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class KeepVolume:
    volume: CtVolume


Output = Line | KeepVolume | Rejected

# --------------------------------------------------------------------------- state


@dataclass(frozen=True)
class Asked:
    """A what-if that is being answered: by a few members, then (``refined``) by all. ``job`` begins when
    no forecast waits."""

    question: WhatIf
    now_utc_s: float
    refined: bool = False
    job: WhatIfJob | None = None


@dataclass(frozen=True)
class Relearning:
    """Earlier scans being measured and learned from anew, beside what is shown: ``left`` (volumes), the
    oldest first; ``ice``: the one just measured, to be learned from next."""

    left: tuple[str, ...]
    reference: Reference
    estimate: Estimate
    registration: Registration | None = None
    ice: IceSegmentation | None = None


@dataclass(frozen=True)
class Picked:
    """Which volume is the baseline, if any, and whether an operator ``picked`` it."""

    volume_id: str | None
    picked: bool


@dataclass(frozen=True)
class Done:
    """An act that can be undone: of which needle, volume or phase, and what stood ``before`` it; after
    ``until_utc_s`` it cannot be any more."""

    act: str
    of: str
    before: tuple[NeedleSet, ...] | Review | Picked | protocol.Progress
    until_utc_s: float = math.inf


@dataclass(frozen=True)
class State:
    """``kept``: all volumes of the room as they were received, each in its last revision, the oldest
    first. ``picked``: an operator chose the baseline, and a newer scan does not replace it. ``needle_sets``:
    all, in order. ``what_if_dropped``: what overtook a question that is unanswered. ``review``: of the scan
    measured last; ``verdicts`` by volume, of all scans rejected or corrected. ``done``: what can be undone,
    the last last. ``refused``: why the last act was, if it was."""

    assembly: assembly.AssemblyState
    progress: protocol.Progress = field(default_factory=protocol.Progress)
    baseline_volume: CtVolume | None = None
    reference: Reference | None = None
    label_zyx: npt.NDArray[np.uint8] | None = None
    clock_offset_s: float | None = None
    volume: CtVolume | None = None
    ice: IceSegmentation | None = None
    registration: Registration | None = None
    assessment: Assessment | None = None
    structures: tuple[StructureDistance, ...] = ()
    estimate: Estimate | None = None
    forecast: Forecast | None = None
    forecast_wanted: bool = False
    job: Job | None = None
    asked: Asked | None = None
    what_if: WhatIfAnswer | None = None
    what_if_dropped: str | None = None
    block: Block | None = None
    kept: tuple[CtVolume, ...] = ()
    picked: bool = False
    # When a freeze that nobody has told of must have begun: midway between the last scan without ice and the
    # first with it.
    unannounced_utc_s: float | None = None
    relearning: Relearning | None = None
    needle_sets: tuple[NeedleSet, ...] = ()
    review: Review | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    done: tuple[Done, ...] = ()
    refused: str | None = None
    # Of images that came and are in no volume, since the last one: why, and from when on that is said.
    unused: tuple[str, float] | None = None

    @property
    def forecast_pending(self) -> bool:
        return self.forecast_wanted or self.job is not None or self.relearning is not None

    @property
    def work_pending(self) -> bool:
        """A forecast, the answer to a what-if, or what learning has put off."""
        due = self.estimate is not None and self.estimate.due
        return self.forecast_pending or self.asked is not None or due


def on_disk(state: State, volume_id: str, hu: Int16Array) -> State:
    """With the pixels of a kept volume where the record holds them: a procedure's scans would not all fit
    into memory."""

    def there(volume: CtVolume | None) -> CtVolume | None:
        same = volume is not None and volume.volume_id == volume_id
        return replace(volume, hu=hu) if same else volume  # type: ignore[type-var]

    kept = tuple(replace(v, hu=hu) if v.volume_id == volume_id else v for v in state.kept)
    return replace(
        state, kept=kept, volume=there(state.volume), baseline_volume=there(state.baseline_volume)
    )


def initial_state(procedure: Procedure) -> State:
    config = procedure.config
    expectation = assembly.Expectation(config.patient_id, config.frame_of_reference_uid)
    return State(assembly=assembly.initial(expectation))
