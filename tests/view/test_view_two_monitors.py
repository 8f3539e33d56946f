"""Windows on two monitors (Xephyr with Xinerama): where they open, what is kept, a monitor that is gone."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desktop import MONITORS, Hands, desktop, missing_tools, until

from monitor.config import ListenerConfig
from monitor.model import Alarm, Priority
from monitor.snapshot import Snapshot
from monitor.view.console.process import ConsoleOptions, run_console
from monitor.view.process import ViewOptions, run_view

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing_tools()), reason=f"needs {', '.join(missing_tools())}"),
]
_SPAWN = multiprocessing.get_context("spawn")
ROOM, CONSOLE = "^iceball-monitor$", "^(Iceball console|Console Iceball)$"
PEDAL = (("F8", "acknowledge"),)
LISTENER = ListenerConfig("ICEBALL", "127.0.0.1", 0, ())


@pytest.fixture(scope="module")
def hands() -> Iterator[Hands]:
    with desktop() as there:
        yield there


class Windows:
    """The two processes, started and ended as the runtime does."""

    def __init__(self, hands: Hands, home: Path, normal: Snapshot) -> None:
        self.hands, self.home, self.normal = hands, home, normal
        self.running: list[tuple[Any, Connection]] = []

    def start(self, target: Callable[..., None], options: Any) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=target, args=(theirs, options), daemon=True)
        process.start()
        theirs.close()
        ours.send(("snapshot", self.normal))
        self.running.append((process, ours))

    def room(self, monitor: int | None = None, show: str = "room") -> None:
        self.start(run_view, ViewOptions(show=show, monitor=monitor, pedal=PEDAL))
        until(lambda: self.hands.shown(ROOM), "room's window")

    def console(self, monitor: int | None = None, show: str = "console") -> None:
        options = ConsoleOptions(str(self.home), LISTENER, show=show, monitor=monitor, pedal=PEDAL)
        self.start(run_console, options)
        until(lambda: self.hands.shown(CONSOLE), "console")

    def end(self) -> None:
        for process, pipe in self.running:
            pipe.send(("quit",))
            process.join(30)
            assert process.exitcode == 0
        self.running = []

    def kept(self, name: str) -> dict[str, Any]:
        path = self.home / "iceball" / f"{name}.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def lit(self) -> list[bool]:
        """On which monitors something is shown."""
        return [bool(np.asarray(self.hands.picture(i)).std() > 5.0) for i in range(len(MONITORS))]


@pytest.fixture
def windows(
    hands: Hands, tmp_path: Path, normal: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Windows]:
    monkeypatch.setenv("DISPLAY", hands.display)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    made = Windows(hands, tmp_path, normal)
    yield made
    for process, _ in made.running:
        process.terminate()
        process.join(10)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"


def test_each_on_its_own_and_there_again_the_next_time(windows: Windows) -> None:
    windows.room(0, "both")
    windows.console(0, "both")
    until(lambda: windows.lit() == [True, True], "a window on each monitor")
    until(lambda: windows.kept("room").get("monitor") == 0, "room's monitor kept")
    until(lambda: windows.kept("console").get("monitor") == 1, "console's monitor kept")
    windows.hands.focus(ROOM)
    windows.hands.key("l", "m")
    until(lambda: windows.kept("room") == {"monitor": 0, "language": "fr", "simple": True},
          "language and simple screen kept")  # fmt: skip
    windows.end()
    before = np.asarray(windows.hands.picture(0))
    windows.room()
    until(lambda: windows.lit() == [True, False], "the room's window where it was")
    assert windows.kept("room") == {"monitor": 0, "language": "fr", "simple": True}
    assert np.asarray(windows.hands.picture(0)).std() != before.std()
    windows.hands.focus(ROOM)
    windows.hands.key("l")
    until(
        lambda: windows.kept("room") == {"monitor": 0, "simple": True}, "the case's language again"
    )


def test_one_that_is_gone_is_said_and_the_main_one_taken(
    windows: Windows, capfd: pytest.CaptureFixture[str]
) -> None:
    windows.console(3)
    until(lambda: windows.lit() == [True, False], "the console on the main monitor")
    assert (
        "monitor 3 is not there (there are 0: 1920 x 1080; 1: 1920 x 1080)"
        in capfd.readouterr().err
    )


def test_a_full_screen_is_one_again(windows: Windows) -> None:
    windows.room(1)
    windows.hands.focus(ROOM)
    windows.hands.key("F11")
    until(lambda: windows.kept("room") == {"monitor": 1, "full_screen": True}, "full screen kept")
    windows.end()
    windows.room()
    title = np.asarray(windows.hands.picture(1).convert("RGB"))[2:12, 600:1200]
    until(lambda: windows.lit() == [False, True], "the window on the second monitor")
    title = np.asarray(windows.hands.picture(1).convert("RGB"))[2:12, 400:500]
    assert title.max() < 120, "no title bar"


def test_a_pedals_key_works_in_whichever_window_has_the_keyboard(windows: Windows) -> None:
    stale = Alarm("image_stale", Priority.MEDIUM, 0.0, {"age_s": "300"})
    windows.normal = replace(windows.normal, alarms=(stale,))
    windows.room(0, "both")
    windows.console(1, "both")
    (_, room), (_, console) = windows.running
    windows.hands.focus(CONSOLE)
    windows.hands.key("F8")
    assert console.poll(20)
    asked = console.recv()
    assert asked == {"act": "pedal", "params": {"do": "acknowledge"}}
    assert not room.poll(0.5)
    room.send(("pedal", asked["params"]["do"]))  # as the runtime does
    assert room.poll(20)
    assert room.recv()["act"] == "acknowledge"  # of its own row: by now, that nothing new comes
    windows.hands.focus(ROOM)
    windows.hands.key("F8")
    assert room.poll(20)
    assert room.recv()["act"] == "acknowledge"
    assert not console.poll(0.5)
