"""Operators' acts in a running monitor: what a console sends, and what its snapshot says of it."""

from __future__ import annotations

import hashlib
import multiprocessing

import numpy as np

from monitor.geometry import SliceGeometry
from monitor.record.masks import write_nifti
from monitor.screen import Screen
from monitor.snapshot import Snapshot
from tests.wire.test_alarms_live import Room, room

__all__ = ["room"]  # a fixture
GEOMETRY = SliceGeometry(
    (-8.0, -8.0, -8.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), 2.0, 2.0,
    tuple(2.0 * k for k in range(8)), 2.0, 8, 8,
)  # fmt: skip


def shown(room: Room) -> Snapshot:
    latest = room.screen._latest
    assert latest is not None
    return latest


def test_acts_and_refusals_are_in_the_snapshot(room: Room) -> None:
    live = room.live
    room.wait(lambda: room.shown())
    assert shown(room).needle_duties == ((1, 1.0),)
    live.act("needle", params={"number": 1, "duty": 0.5})
    room.wait(lambda: shown(room).needle_duties == ((1, 0.5),))
    assert (shown(room).undo, shown(room).undo_of) == ("needle", "1")
    live.act("correct_ice", params={"volume_id": "v001", "path": "none.nii.gz"})
    (line,) = room.wait(lambda: [x for x in room.lines("operator") if "refused" in x])
    assert "none.nii.gz: No such file" in line["refused"]
    room.wait(lambda: str(shown(room).refused).startswith("correct_ice: "))
    live.act("undo")
    room.wait(lambda: shown(room).needle_duties == ((1, 1.0),))
    room.wait(lambda: shown(room).refused is None)
    assert shown(room).undo is None


def test_a_drawing_is_kept_before_the_act_is_tried(room: Room) -> None:
    drawn = room.record / "drawn.nii.gz"
    write_nifti(drawn, np.ones((8, 8, 8), np.uint8), GEOMETRY)
    for number in (1, 2):
        room.live.act("correct_ice", params={"volume_id": "v001", "path": "drawn.nii.gz"})
        room.wait(lambda n=number: len(room.lines("act_refused")) == n)
    sent = [x["params"] for x in room.lines("operator")]
    assert [p["path"] for p in sent] == [
        "corrections/001_drawn.nii.gz",
        "corrections/002_drawn.nii.gz",
    ]
    for p in sent:
        kept = (room.record / p["path"]).read_bytes()
        assert hashlib.sha256(kept).hexdigest() == p["sha256"]
    reasons = {x["reason"] for x in room.lines("act_refused")}
    assert reasons == {"no scan has been measured yet"}
    room.wait(lambda: shown(room).refused == "correct_ice: no scan has been measured yet")


def test_an_act_comes_with_its_params() -> None:
    """What a window sends through its pipe."""
    heard: list[tuple[object, ...]] = []
    screen = Screen.__new__(Screen)
    screen._on_act = lambda *act: heard.append(act)  # type: ignore[method-assign]
    ours, theirs = multiprocessing.Pipe()
    theirs.send({"act": "needle", "params": {"number": 2, "duty": 0.0}})
    theirs.send({"act": "acknowledge", "alarm": ("no_baseline", "")})
    theirs.close()
    screen._hear(ours)
    assert heard == [
        ("needle", None, {"number": 2, "duty": 0.0}),
        ("acknowledge", ("no_baseline", ""), None),
    ]
