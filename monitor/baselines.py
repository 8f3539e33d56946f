"""Which of the volumes received is the baseline: the newest before the first freeze, or one that an operator
picks. UTC seconds on the procedure clock.

Invariant: once the first freeze has begun no other volume becomes the baseline by an operator's act.
"""

from __future__ import annotations

from dataclasses import replace

from monitor.acts import Refusal, still
from monitor.model import CtVolume
from monitor.state import Done, Line, OperatorAct, Output, Picked, Received, State

# Volumes whose pixels are held before the first freeze: each has up to 100 MB.
_HELD = 6


def received(state: State, volume: CtVolume) -> State:
    """One more volume. Once the freeze has begun only that it came."""
    held = None if state.progress.started_utc_s else volume
    slices = len(volume.geometry.slice_offsets_mm)
    new = Received(
        volume.volume_id, volume.acquired_utc_s, slices, volume.patient_id, volume.geometry, held
    )
    holding = [r.volume_id for r in state.received if r.volume is not None]
    drop = set(holding[: max(0, len(holding) + 1 - _HELD)])
    kept = tuple(replace(r, volume=None) if r.volume_id in drop else r for r in state.received)
    return replace(state, received=(*kept, new))


def settled(state: State) -> State:
    """The first freeze has begun: the baseline stays what it is."""
    if not state.progress.started_utc_s or not any(r.volume for r in state.received):
        return state
    without = tuple(replace(r, volume=None) for r in state.received)
    acts = {d.act for d in state.done} - {"pick_baseline"}
    return replace(state, received=without, done=still(state.done, *acts))


def chosen(state: State, event: OperatorAct) -> tuple[State, CtVolume, list[Output]]:
    """Of a "pick_baseline", or of the "undo" of one: the volume that becomes the baseline. Raises
    ``Refusal``."""
    if state.baseline_volume is None:
        raise Refusal("no volume has been received yet")
    if state.progress.started_utc_s:
        raise Refusal("the first freeze has begun: the baseline stays")
    now = Picked(state.baseline_volume.volume_id, state.picked)
    if event.act == "undo":
        last = state.done[-1]
        assert isinstance(last.before, Picked)
        wanted, done = last.before, state.done[:-1]
        said: list[Output] = [Line("undone", {"act": last.act, "of": last.of})]
    else:
        wanted = Picked(str((event.params or {}).get("volume_id")), True)
        done = (*state.done, Done(event.act, wanted.volume_id, now))
        said = []
    if wanted == now:
        raise Refusal(f"{now.volume_id} has been picked already")
    return replace(state, picked=wanted.picked, done=done), _held(state, wanted.volume_id), said


def _held(state: State, volume_id: str) -> CtVolume:
    found = next((r for r in state.received if r.volume_id == volume_id), None)
    if state.baseline_volume is not None and state.baseline_volume.volume_id == volume_id:
        return state.baseline_volume
    if found is None:
        known = ", ".join(r.volume_id for r in state.received)
        raise Refusal(f"{volume_id} has not been received ({known})")
    if found.volume is None:
        raise Refusal(f"{volume_id} is too old: only the last {_HELD} volumes are held")
    return found.volume
