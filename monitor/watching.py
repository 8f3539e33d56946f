"""What the watch looks at: the worker's last state and the clock, as the facts of ``decision.safety``. Pure.

UTC seconds on the procedure clock. Invariant: a state, a time and a machine give the same facts in a
procedure and in its replay; the protocol goes on by the clock, whatever the worker is busy with.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.decision import protocol
from monitor.decision.safety import Facts
from monitor.pipeline import progress_at
from monitor.procedure import Procedure
from monitor.state import State


@dataclass(frozen=True)
class Machine:
    """What no state knows: how the processes and the wall clock are (as in ``Facts``)."""

    heartbeat_age_s: float = 0.0
    intake_alive: bool = True
    record_ok: bool = True
    clock_jump_s: float = 0.0
    fault: str | None = None
    down_s: float = 0.0
    record_damage: int = 0
    shut_out: tuple[tuple[str, str], ...] = ()
    not_kept: tuple[tuple[str, str], ...] = ()


def facts_of(state: State, procedure: Procedure, now_utc_s: float, machine: Machine) -> Facts:
    """All that alarms depend on, at a time."""
    config = procedure.config
    progress = progress_at(state, now_utc_s, procedure)
    return Facts(
        phase=protocol.phase(progress, config.protocol),
        baseline_id=state.baseline_volume.volume_id if state.baseline_volume else None,
        planned=not procedure.draft,
        needles_known=bool(config.needles),
        assessment=state.assessment,
        received_utc_s=state.volume.last_received_utc_s if state.volume else None,
        structures=state.structures,
        block=state.block,
        stale_after_s=config.stale_after_s,
        unused=state.unused,
        clock_offset_s=state.clock_offset_s,
        forecast=state.forecast,
        organ=config.organ.name,
        **vars(machine),
    )
