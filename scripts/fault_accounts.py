"""Where every image of a running monitor is, and when its screens were right. Seconds, monotonic.

A scan is right when an assessment stands of the volume with all of its images that can be read. Lost is an
image that the sender was told is kept, and that is in no volume and in no quarantine.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fault_rows import Row
from live_room import Room
from pydicom.dataset import Dataset

RIGHT_S = 60.0  # longer, and it is not right
_QUIET_S = 0.5

Lines = list[dict[str, Any]]


def right_at(room: Room, before: int, slices: Iterable[Dataset]) -> float | None:
    """When the assessment came of the volume with all images that came and can be read; None: it did
    not."""
    sent = {str(d.SOPInstanceUID) for d in slices}
    end = time.monotonic() + RIGHT_S
    while time.monotonic() < end:
        lines = settled(room, before)
        came = {x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received"}
        rejected = {x["sop_instance_uid"] for x in lines if x["kind"] == "instance_rejected"}
        inside = _inside(lines)
        wanted = (sent & came) - (rejected - inside)  # what came twice is inside, and rejected once
        whole = [
            x["volume_id"] for x in lines
            if x["kind"] == "volume_completed" and wanted <= set(x["sop_instance_uids"])
        ]  # fmt: skip
        for x in lines:
            if x["kind"] == "assessment" and x["volume_id"] in whole:
                return float(x["mono_s"])
        time.sleep(0.1)
    return None


def _inside(lines: Lines) -> set[str]:
    return {u for x in lines if x["kind"] == "volume_completed" for u in x["sop_instance_uids"]}


def left(lines: Lines) -> list[str]:
    """Images that came and are nowhere yet; what came twice is in a volume and rejected, or twice that."""
    left = Counter(x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received")
    left -= Counter(x["sop_instance_uid"] for x in lines if x["kind"] == "instance_rejected")
    left -= Counter(_inside(lines))
    return list(left.elements())


def settled(room: Room, before: int) -> Lines:
    """The journal since then, when an association has been over, every image that came is somewhere, and none
    (of another association) has come for a moment; or after a while."""
    end, came, since = time.monotonic() + 30.0, -1, 0.0
    while True:
        lines = room.journal()[before:]
        over = any(x["kind"] == "association_ended" for x in lines)
        count, now = sum(x["kind"] == "instance_received" for x in lines), time.monotonic()
        if count != came:
            came, since = count, now
        if (over and not left(lines) and now - since > _QUIET_S) or now > end:
            return lines
        time.sleep(0.1)


def account(room: Room, row: Row, before: int, kept: Iterable[str] = ()) -> None:
    """Every image that came, counted by where it is; a duplicate is in the quarantine as one. ``kept``: what
    the sender was told is kept, whether or not the journal knows."""
    lines = settled(room, before)
    rejected = [x for x in lines if x["kind"] == "instance_rejected"]
    row.sent += sum(x["kind"] == "instance_received" for x in lines)
    row.quarantined += len(rejected)
    missing = [x for x in rejected if not (room.record / x["path"]).is_file()]
    known = _inside(lines) | {x["sop_instance_uid"] for x in rejected}
    lost = {*left(lines), *(set(kept) - known)}
    row.lost += len(lost) + len(missing)


def gaps(lines: Lines) -> int:
    """Lines that were numbered and are not there, and others that have the same number."""
    once = {json.dumps(x) for x in lines}  # word for word the same, it is the same
    return len(set(range(1, len(once) + 1)) ^ {x["seq"] for x in lines})
