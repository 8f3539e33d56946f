"""The life of alarms in a running monitor: real processes, killed and hung for real."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.begun import LiveOptions
from monitor.runtime import Live
from monitor.screen import Screen
from tests.wire.live import FedInbox, LiveProcess, sphere_case

LIMIT_S = 60.0


class Room:
    """A monitor in this process, with its intake and its (offscreen) view in theirs."""

    def __init__(self, folder: Path, organ: str = "liver", speed: float = 1.0) -> None:
        case = sphere_case(folder, "A", (0.0, 0.0, 0.0), needles=True)
        case.write_text(case.read_text().replace("liver", organ), encoding="utf-8")
        self.record = folder / "record"
        self.live = Live(
            LiveOptions(case, self.record, False, True, "reference", speed),
            lambda kind, fields: None,
        )
        self.live._inbox = self.inbox = FedInbox()

    def lines(self, kind: str, code: str | None = None) -> list[dict[str, Any]]:
        text = (self.record / "journal.jsonl").read_text(encoding="utf-8")
        every = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [x for x in every if x["kind"] == kind and code in (None, x.get("code"))]

    def wait(self, until: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            found = until()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError("it did not come")

    @property
    def screen(self) -> Screen:
        return self.live._windows._screens["view"]

    def shown(self) -> dict[str, Any]:
        """The alarms of the snapshot that went to the screen last."""
        latest = self.screen._latest
        return {} if latest is None else {a.code: a for a in latest.alarms}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    made.live.start()
    try:
        made.wait(lambda: made.lines("listening"))
        yield made
    finally:
        made.live.finish()


class Hang:
    """A message over which the worker hangs."""

    seconds = 8.0

    def line(self) -> tuple[str, dict[str, Any]]:
        time.sleep(self.seconds)
        return "listening", {}


class LongHang(Hang):
    seconds = 20.0


@pytest.mark.requirement("REQ-ALARM-LIFE")
def test_acknowledgement_outlives_the_screen(room: Room) -> None:
    room.wait(lambda: "no_baseline" in room.shown())
    room.live.act("acknowledge", ("no_baseline", ""))
    room.wait(lambda: room.lines("alarm_acknowledged", "no_baseline"))
    old = room.screen
    os.kill(old._process.pid or 0, signal.SIGKILL)
    room.wait(lambda: [x for x in room.lines("process_restarted") if x["process"] == "view"])
    room.wait(lambda: room.screen is not old and "no_baseline" in room.shown())
    assert room.shown()["no_baseline"].acknowledged
    assert len(room.lines("alarm_raised", "no_baseline")) == 1


def test_a_pedal_typed_at_the_console_acts_on_the_rooms_screen(room: Room) -> None:
    """The alarm that is in the room's row is acknowledged from there; what is not for a pedal is not done."""

    def pedalled() -> list[dict[str, Any]]:
        for do in ("phase_next", "quit", "acknowledge"):  # as the console sends it
            room.live.act("pedal", params={"do": do})
        time.sleep(0.5)
        return room.lines("alarm_acknowledged", "no_baseline")

    room.wait(lambda: "no_baseline" in room.shown())
    room.wait(pedalled)
    assert not room.live.stopping.is_set()
    assert {x["act"] for x in room.lines("operator")} == {"acknowledge"}


@pytest.mark.requirement("REQ-ALIVE")
def test_a_death_of_reception_does_not_pass_unseen(room: Room) -> None:
    intake = room.live._intake
    assert intake is not None
    os.kill(intake.pid or 0, signal.SIGKILL)
    room.wait(lambda: len(room.lines("listening")) == 2)
    (over,) = room.wait(lambda: room.lines("alarm_cleared", "intake_dead"))
    assert (over["latched"], over["priority"]) == (True, "high")
    room.wait(lambda: (a := room.shown().get("intake_dead")) and a.latched)
    room.live.act("acknowledge")
    room.wait(lambda: room.lines("alarm_acknowledged", "intake_dead"))
    room.wait(lambda: "intake_dead" not in room.shown())


@pytest.mark.requirement("REQ-ALIVE")
def test_a_worker_that_hangs_alarms_and_can_be_acknowledged_meanwhile(room: Room) -> None:
    room.inbox.put(Hang())
    room.wait(lambda: room.lines("alarm_raised", "core_silent"))
    room.live.act("acknowledge")
    room.wait(lambda: room.lines("alarm_acknowledged", "core_silent"))
    assert not room.lines("alarm_cleared", "core_silent")
    (over,) = room.wait(lambda: room.lines("alarm_cleared", "core_silent"))
    assert not over["latched"]


def test_while_the_worker_hangs_the_protocol_goes_on_by_the_clock(tmp_path: Path) -> None:
    made = Room(tmp_path, organ="adrenal", speed=120.0)  # ten minutes of freezing are five seconds
    made.live.start()
    try:
        made.wait(lambda: made.lines("listening"))
        made.live.act("phase_next")
        made.wait(lambda: made.lines("phase"))
        made.inbox.put(LongHang())
        made.wait(lambda: made.lines("alarm_raised", "adrenal_thaw"))
        assert [x["phase"] for x in made.lines("phase")] == ["freeze"]
        made.wait(lambda: len(made.lines("phase")) >= 3)
        assert [x["phase"] for x in made.lines("phase")][:3] == ["freeze", "thaw", "freeze"]
    finally:
        made.live.finish()


@pytest.mark.requirement("REQ-ALIVE")
def test_a_message_that_cannot_be_read_is_a_fault_and_the_next_is_served(room: Room) -> None:
    room.inbox.put("no message")
    room.wait(lambda: room.lines("alarm_raised", "core_fault"))
    room.live.act("phase_next")
    room.wait(lambda: room.lines("phase"))
    assert len(room.lines("fault")) == 1


@pytest.mark.requirement("REQ-CLOCKS")
def test_a_clock_that_is_set_alarms(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = time.time
    monkeypatch.setattr("monitor.clock.time.time", lambda: wall() - 60.0)
    (raised,) = room.wait(lambda: room.lines("alarm_raised", "clock_jump"))
    assert raised["params"] == {"seconds": "-60"}


@pytest.mark.requirement("REQ-ALIVE")
def test_a_watch_that_fails_says_so_once_and_shows_nothing_old(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(facts: Any, now: float) -> Any:
        raise ZeroDivisionError("spoilt")

    room.wait(room.shown)
    with monkeypatch.context() as spoilt:
        spoilt.setattr("monitor.runtime.causes", fail)
        room.wait(lambda: room.lines("fault"))
        before = room.live._seq
        time.sleep(1.0)
        assert room.live._seq == before
        assert len(room.lines("fault")) == 1
    room.wait(lambda: room.lines("alarm_raised", "core_fault"))
    room.wait(lambda: room.live._seq > before)


def test_what_stands_is_acknowledged_at_the_terminal(tmp_path: Path) -> None:
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0))
    with LiveProcess(case, tmp_path / "record", "--engine", "reference") as live:
        codes = {"no_baseline", "needles_unknown"}
        live.wait(lambda lines: codes <= {x.get("code") for x in lines})
        live.type("acknowledge")
        live.wait(
            lambda lines: codes <= {x["code"] for x in lines if x["kind"] == "alarm_acknowledged"}
        )
    assert "Alarm acknowledged: * NO BASELINE" in live.output
