"""Processes of a running monitor killed, as its user would see it: it is started again and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor.supervisor import GIVEN_UP
from tests.wire.live import LiveProcess, sphere_case

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("REQ-RESUME")]
CENTRE = (0.0, 0.0, 0.0)


def lines_of(lines: list[dict[str, Any]], kind: str, **wanted: Any) -> list[dict[str, Any]]:
    return [x for x in lines if x["kind"] == kind and all(x[k] == v for k, v in wanted.items())]


def test_a_killed_core_and_a_killed_intake_come_back_and_the_terminal_still_works(
    tmp_path: Path,
) -> None:
    case = sphere_case(tmp_path, "P1", CENTRE, needles=True)
    with LiveProcess(case, tmp_path / "record") as room:
        room.type("next")
        room.wait(lambda lines: lines_of(lines, "phase", phase="freeze"))
        os.kill(room.core, signal.SIGKILL)
        room.wait(lambda lines: lines_of(lines, "alarm_raised", code="restarted"))
        room.type("acknowledge")
        room.wait(lambda lines: lines_of(lines, "alarm_acknowledged", code="restarted"))
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 2)
        os.kill(room.intake, signal.SIGKILL)
        room.wait(lambda lines: lines_of(lines, "process_restarted", process="intake"))
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 3)
    assert room.process.returncode == 0
    lines = room.journal()
    (phase,) = lines_of(lines, "phase", phase="freeze")  # begun once, and gone on with
    (resumed,) = lines_of(lines, "procedure_resumed")
    assert resumed["seq"] > phase["seq"]
    assert [x["seq"] for x in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["kind"] == "procedure_ended"
    left = {p.name for p in (tmp_path / "record").iterdir()}
    assert not left & {"checkpoints", "scratch", "running.lock", "running.json"}


def test_a_whole_process_group_is_told_to_end(tmp_path: Path) -> None:
    """As ``timeout`` and ``systemctl stop`` do it; and after the intake process has died."""
    case, record = sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record"
    command = [sys.executable, "-m", "monitor.cli", "live", "--headless", str(case)]
    process = subprocess.Popen(
        [*command, "--record", str(record)], stdin=subprocess.DEVNULL, start_new_session=True
    )
    room = LiveProcess.__new__(LiveProcess)
    room.record, room.process = record, process
    room.wait(lambda lines: lines_of(lines, "listening"))
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 0
    assert room.journal()[-1]["kind"] == "procedure_ended"


def test_what_dies_again_and_again_is_given_up_and_can_be_resumed_by_hand(tmp_path: Path) -> None:
    case, record = sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record"
    room = LiveProcess(case, record)
    for deaths in range(1, 4):
        room.wait(lambda lines, n=deaths: len(lines_of(lines, "listening")) == n)
        os.kill(room.core, signal.SIGKILL)
    output = room.process.communicate(timeout=60)[0]
    assert room.process.returncode == GIVEN_UP
    assert f"iceball live --resume {record}" in output
    # The same command once more would begin anew beside it.
    command = [sys.executable, "-m", "monitor.cli", "live", "--headless"]
    again = subprocess.run(
        [*command, str(case), "--record", str(tmp_path / "other")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 2
    assert f"{record}: a procedure of this patient was not ended" in again.stderr
    assert not (tmp_path / "other").exists()
    with LiveProcess(None, record, "--resume", str(record)) as room:
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 4)
    assert room.process.returncode == 0
    assert lines_of(room.journal(), "procedure_ended")


def test_what_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor.cli", "live", "--headless", "--resume"]
    ran = subprocess.run(
        [*command, str(tmp_path / "none")], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert "none: there is no record to go on with" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())
