"""What is known of the model after a scan: parameters and state. Seconds since the first freeze began, mm,
arrays (member, z, y, x).

``learning`` corrects the parameters, ``assimilation`` the state. Invariant: before a scan has been measured
it is the prior, at body temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gpu_kernels.engine import Engine, Members, Problem, State
from monitor.config import NeedleConfig
from monitor.model import FloatArray, PhaseKind, Reason
from monitor.prediction import dose, ensemble
from monitor.prediction.disagreement import Miss
from monitor.prediction.drift import Drift
from monitor.prediction.ensemble import Prior
from monitor.prediction.observation import Seen
from monitor.prediction.stopping import Stopped, halted

BODY_DEGC = 37.0
# The problem of this case for given members.
MakeProblem = Callable[[Members], Problem]


@dataclass(frozen=True)
class Estimate:
    """``theta`` is the ensemble, ``prior`` what it began as; ``predicted`` (member, n) is what it says of
    each of ``seen``.
    ``free`` is its own course at the last scan, ``state`` the same with the measured surface: where a
    forecast starts, with a history that begins there. Both hold the mean first, then the members.
    ``course``: that own course at the last few of ``seen``; while it is ``due``, as it was before the last of
    them taught anything. ``stopped``: since when each needle no longer cools. ``past``: what the tissue had
    been through by the last measured scan. ``drifts``: what no parameter explained, in freezes and in thaws.
    ``needles``: where they have frozen since the first of ``seen``; ``taught`` is False from when one was
    moved that had taught something: what the scans teach then would be wrong, and the parameters stay.
    ``missed``: how far the last scan's ice lay from what had been forecast for it."""

    volume_id: str | None
    prior: Prior
    theta: FloatArray
    free: State
    state: State
    stopped: Stopped
    past: dose.Past
    seen: tuple[Seen, ...] = ()
    predicted: tuple[FloatArray, ...] = ()
    course: tuple[State, ...] = ()
    due: bool = False
    drifts: Mapping[PhaseKind, Drift] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    needles: tuple[NeedleConfig, ...] = ()
    taught: bool = True
    missed: Miss | None = None

    @property
    def members(self) -> Members:
        return ensemble.members(self.theta)

    def problem(self, make: MakeProblem) -> Problem:
        """With these members, and the needles that still cool."""
        return halted(make(self.members), self.stopped)


def first_estimate(
    prior: Prior, make: MakeProblem, engine: Engine, needles: tuple[NeedleConfig, ...] = ()
) -> Estimate:
    """Body temperature everywhere, the parameters as they are before any scan."""
    theta = ensemble.drawn(prior)
    state = engine.initial(make(ensemble.members(theta)), BODY_DEGC, history=True)
    free, running = replace(state, history=None), (math.inf,) * len(prior.cooling)
    return Estimate(None, prior, theta, free, state, running, dose.none(state), needles=needles)


def replaced(
    e: Estimate, needles: tuple[NeedleConfig, ...], make: MakeProblem, engine: Engine
) -> Estimate:
    """The estimate when the needles are seen to freeze in these places. A needle that is frozen to the tissue
    cannot be moved: it was moved before the first freeze, or in a thaw. In the first case all begins
    anew with its true place; in the second what the scans have taught stays, and the ice they have shown."""
    if needles == e.needles:
        return e
    if not e.seen:
        return first_estimate(e.prior, make, engine, needles)
    free = replace(e.state, history=None)
    return replace(e, free=free, needles=needles, taught=False, due=False, drifts={})


def without_course(e: Estimate) -> Estimate:
    """Nothing is put off: the next scan runs its members from the first freeze on."""
    return replace(e, due=False, course=())


def taken_over(state: State, old: Problem, new: Problem, engine: Engine) -> State:
    """The same temperatures and stasis with other parameters: an enthalpy means another temperature."""
    taken = engine.initial(new, engine.temperature_degc(old, state), state.time_s)
    return replace(taken, perfused_from_s=state.perfused_from_s)
