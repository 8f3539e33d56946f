"""A monitor that was suspended, and one whose engine takes its time: real processes and threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from monitor.begun import LiveOptions
from monitor.model import AssociationEnded
from monitor.runtime import Live
from tests.wire.live import FedInbox, LiveProcess, sphere_case

SPEED = 120.0
LIMIT_S = 60.0


@pytest.mark.requirement("REQ-PROTOCOL")
def test_suspended_across_a_whole_thaw_the_monitor_misses_no_phase(tmp_path: Path) -> None:
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0), needles=True)
    options = ("--engine", "reference", "--clock-speed", f"{SPEED:g}")
    with LiveProcess(case, tmp_path / "record", *options) as live:
        live.type("next")
        live.wait(lambda lines: [x for x in lines if x["kind"] == "phase"])
        os.kill(live.core, signal.SIGSTOP)
        (freeze,) = live.journal("phase")
        duration_s = freeze["planned_end_utc_s"] - freeze["started_utc_s"]
        time.sleep((2.0 * duration_s) / SPEED)  # the thaw is shorter than the freeze
        os.kill(live.core, signal.SIGCONT)
        live.wait(lambda lines: len([x for x in lines if x["kind"] == "phase"]) >= 3)
        phases = live.journal("phase")
    assert [(x["phase"], x["cycle"]) for x in phases[:3]] == [
        ("freeze", 1), ("thaw", 1), ("freeze", 2),
    ]  # fmt: skip
    for before, after in pairwise(phases[:3]):
        assert after["started_utc_s"] == before["planned_end_utc_s"]
    assert phases[1]["noticed_utc_s"] == phases[2]["noticed_utc_s"]
    assert phases[1]["noticed_utc_s"] > phases[1]["planned_end_utc_s"]  # it slept through the thaw


# ------------------------------------------------------------------ the start


def wait(until: Any) -> Any:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if found := until():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A monitor whose engine is not ready before ``go`` is set, and the lines that it has said."""
    go = threading.Event()
    monkeypatch.setattr("monitor.runtime.warm_up", lambda engine: go.wait(LIMIT_S))
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0), needles=True)
    said: list[tuple[str, dict[str, Any]]] = []
    options = LiveOptions(case, tmp_path / "record", False, True, "reference")
    live = Live(options, lambda kind, fields: said.append((kind, fields)))
    live._inbox = FedInbox()
    live.start()
    try:
        yield live, go, said
    finally:
        go.set()
        live.finish()


def test_a_monitor_that_starts_listens_and_is_not_silent(slow: Any) -> None:
    live, go, said = slow
    wait(lambda: [kind for kind, _ in said if kind == "listening"])
    live.act("phase_next")
    time.sleep(1.5)
    assert not live.core.started
    screen = live._windows._screens["view"]
    assert screen._latest is None  # the screen waits, it is shown nothing
    codes = [fields["code"] for kind, fields in said if kind == "alarm_raised"]
    assert "core_silent" not in codes
    assert "phase" not in [kind for kind, _ in said]
    go.set()
    wait(lambda: [kind for kind, _ in said if kind == "phase"])
    wait(lambda: screen._latest is not None)


@pytest.mark.requirement("REQ-ALIVE")
def test_an_engine_that_hangs_at_the_start_is_told(
    slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, _, said = slow
    wait(lambda: [kind for kind, _ in said if kind == "listening"])
    real = live.clock.mono_s
    monkeypatch.setattr(type(live.clock), "mono_s", lambda self: real() + 70.0)
    wait(lambda: [f for k, f in said if k == "alarm_raised" and f["code"] == "core_silent"])
    assert not live.core.started


def test_what_comes_before_the_engine_is_ready_is_served_in_its_order(slow: Any) -> None:
    live, go, said = slow
    live._inbox.put("no message")
    wait(lambda: [kind for kind, _ in said if kind == "fault"])
    for name in (1, 2):
        live._inbox.put(AssociationEnded(name, False, 0, live.clock.mono_s()))
    time.sleep(0.5)
    assert "association_ended" not in [kind for kind, _ in said]
    go.set()
    ended = wait(lambda: [f for k, f in said if k == "association_ended"][1:] and said)
    names = [f["association_id"] for k, f in ended if k == "association_ended"]
    assert names == [1, 2]
