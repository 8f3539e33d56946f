"""Whether the machine kept up with a rehearsal that runs faster than life, from its journal. Seconds of the
procedure clock.

Invariant: what is said here was the machine's doing, not the patient's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

_Line = Mapping[str, Any]


def not_kept_up(journal: Iterable[_Line]) -> list[str]:
    """What shows that it did not, in words; nothing when it did."""
    lines = list(journal)
    said = [*_late(lines), *_before_its_freeze(lines)]
    kinds = {line["kind"] for line in lines}
    if "assessment" in kinds and "forecast" not in kinds:
        said.append("no forecast was made")
    raised = [line for line in lines if line["kind"] == "alarm_raised"]
    silences = sum(line["code"] == "core_silent" for line in raised)
    if silences:
        said.append(f"the monitor did not respond in time, {silences} time(s)")
    offset = next((line for line in raised if line["code"] == "clock_offset"), None)
    if offset is not None:
        said.append(f"the scanner's clock seemed to differ by {offset['params']['seconds']} s")
    return said


def _late(lines: list[_Line]) -> list[str]:
    """Scans that were assessed only after the last slice of the next one had come."""
    received = {
        line["sop_instance_uid"]: float(line["received_utc_s"])
        for line in lines
        if line["kind"] == "instance_received"
    }
    assessed: dict[str, float] = {}
    for line in lines:
        if line["kind"] == "assessment" and line["volume_id"] is not None:
            assessed.setdefault(line["volume_id"], _utc_s(line["at"]))
    volumes = [line for line in lines if line["kind"] == "volume_completed"]
    late = []
    for volume, following in pairwise(volumes):
        came = [received[uid] for uid in following["sop_instance_uids"] if uid in received]
        at = assessed.get(volume["volume_id"])
        if came and at is not None and at > max(came):
            late.append(volume["volume_id"])
    return [f"assessed only after the next scan had come: {', '.join(late)}"] if late else []


def _before_its_freeze(lines: list[_Line]) -> list[str]:
    """Scans that were taken in before the monitor had begun the freeze that they were acquired in."""
    taken: dict[str, float] = {}
    early = dict[str, None]()
    for line in lines:
        if line["kind"] == "volume_completed":
            taken[line["volume_id"]] = _utc_s(line["acquired_at"])
        elif line["kind"] == "phase" and line["phase"] == "freeze":
            early.update({v: None for v, at in taken.items() if at >= line["started_utc_s"]})
    return [f"measured before the monitor began its freeze: {', '.join(early)}"] if early else []


def _utc_s(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
