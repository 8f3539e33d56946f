"""Processes of a running monitor killed, as its user would see it: it is started again and goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.commands import ACTS
from monitor.supervisor import GIVEN_UP
from tests.wire.live import LiveProcess, children, sphere_case

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("REQ-RESUME")]
CENTRE = (0.0, 0.0, 0.0)


def lines_of(lines: list[dict[str, Any]], kind: str, **wanted: Any) -> list[dict[str, Any]]:
    return [x for x in lines if x["kind"] == kind and all(x[k] == v for k, v in wanted.items())]


def wait_for(room: LiveProcess, enough: Callable[[Any], Any], kind: str, **wanted: Any) -> None:
    """In the journal, whatever has become of the process that the test has started."""
    end = time.monotonic() + 60.0
    while not enough(lines_of(room.journal(), kind, **wanted)):
        assert time.monotonic() < end, room.journal()[-5:]
        time.sleep(0.05)


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def ended_within(pid: int, limit_s: float) -> bool:
    """Whether the process is gone, or only waits for who has started it."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_core_and_a_killed_intake_come_back_and_the_terminal_still_works(
    tmp_path: Path,
) -> None:
    case = sphere_case(tmp_path, "P1", CENTRE, needles=True)
    with LiveProcess(case, tmp_path / "record") as room:
        room.type("help")
        room.type("next")
        room.wait(lambda lines: lines_of(lines, "phase", phase="freeze"))
        os.kill(room.core, signal.SIGKILL)
        room.wait(lambda lines: lines_of(lines, "alarm_raised", code="restarted"))
        room.type("acknowledge")
        room.wait(lambda lines: lines_of(lines, "alarm_acknowledged", code="restarted"))
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 2)
        (before,) = lines_of(room.journal(), "alarm_raised", code="no_baseline", priority="medium")
        assert before["seq"] < lines_of(room.journal(), "procedure_resumed")[0]["seq"]
        os.kill(room.intake, signal.SIGKILL)
        room.wait(lambda lines: lines_of(lines, "process_restarted", process="intake"))
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 3)
    assert room.process.returncode == 0
    assert ACTS in room.output
    # What stood before is told anew, once, and what came with the restart as ever.
    assert room.output.count("Alarm stands: ") == 1
    assert "Alarm stands: ** NO BASELINE" in room.output
    lines = room.journal()
    (phase,) = lines_of(lines, "phase", phase="freeze")  # begun once, and gone on with
    (resumed,) = lines_of(lines, "procedure_resumed")
    assert resumed["seq"] > phase["seq"]
    assert [x["seq"] for x in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["kind"] == "procedure_ended"
    left = {p.name for p in (tmp_path / "record").iterdir()}
    assert not left & {"checkpoints", "scratch", "running.lock", "running.json"}


def test_a_killed_supervisor_is_started_again_and_looks_after_the_core(tmp_path: Path) -> None:
    case, record = sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record"
    with LiveProcess(case, record) as room:
        core, supervisor = room.core, room.process.pid
        for times in (1, 2):  # the one that the core has started, too
            os.kill(supervisor, signal.SIGKILL)
            room.process.wait()
            wait_for(
                room, lambda x, n=times: len(x) == n, "process_restarted", process="supervisor"
            )
            (supervisor,) = [p for p in children(core) if b"--take-over" in command_of(p)]
        os.kill(core, signal.SIGKILL)
        wait_for(room, len, "procedure_resumed")
        wait_for(room, lambda x: len(x) == 2, "listening")
        (core,) = children(supervisor)
        os.kill(supervisor, signal.SIGTERM)
        wait_for(room, len, "procedure_ended")
        assert ended_within(supervisor, 20.0)
    assert lines_of(room.journal(), "procedure_ended", by="signal")
    assert "Restarted: the supervisor process\n" in room.output


@pytest.mark.long
def test_the_end_of_a_procedure_ends_the_supervisor_that_it_has_started(tmp_path: Path) -> None:
    with LiveProcess(sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record") as room:
        core = room.core
        os.kill(room.process.pid, signal.SIGKILL)
        room.process.wait()
        wait_for(room, len, "process_restarted", process="supervisor")
        (supervisor,) = [p for p in children(core) if b"--take-over" in command_of(p)]
        room.type("quit")
        wait_for(room, len, "procedure_ended")
        assert ended_within(core, 20.0)
        assert ended_within(supervisor, 5.0)
    assert not lines_of(room.journal(), "procedure_resumed")


@pytest.mark.long
def test_a_record_that_cannot_be_written_is_gone_on_with_once_it_can(tmp_path: Path) -> None:
    with LiveProcess(sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record") as room:
        lock = tmp_path / "record" / "running.lock"
        lock.unlink()
        lock.mkdir()  # as good as a disk that has become read-only, which not everybody may make
        os.kill(room.core, signal.SIGKILL)
        assert room.process.stdout is not None
        while "Nobody monitors now" not in room.output:
            room.output += room.process.stdout.readline()
        lock.rmdir()
        room.wait(lambda lines: len(lines_of(lines, "listening")) == 2)
    assert room.process.returncode == 0
    assert "running.lock: Is a directory" in room.output


def test_what_is_killed_while_it_ends_by_a_wish_still_ends(tmp_path: Path) -> None:
    with LiveProcess(sphere_case(tmp_path, "P1", CENTRE), tmp_path / "record") as room:
        core, intake = room.core, room.intake
        os.kill(intake, signal.SIGSTOP)  # it is waited for
        room.type("quit")
        wait_for(room, len, "procedure_ending")
        os.kill(core, signal.SIGKILL)
        os.kill(intake, signal.SIGCONT)
        assert room.process.wait(60) == 0
    kinds = [x["kind"] for x in room.journal() if x["kind"].startswith("procedure_")]
    assert kinds == [
        *("procedure_started", "procedure_ending", "procedure_resumed", "procedure_ended")
    ]
    assert lines_of(room.journal(), "procedure_ended", by="operator")


def test_a_terminal_that_is_closed_ends_nothing(tmp_path: Path) -> None:
    """Nor is it an error that nothing can be printed any more, before and after a death."""
    ours, theirs = pty.openpty()
    room = LiveProcess.__new__(LiveProcess)
    room.record, room.output = tmp_path / "record", ""
    case = sphere_case(tmp_path, "P1", CENTRE)
    command = [sys.executable, "-m", "monitor.cli", "live", "--headless", str(case)]
    room.process = subprocess.Popen(
        [*command, "--record", str(room.record)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    room.wait(lambda lines: lines_of(lines, "listening"))
    os.close(ours)
    for pid in (room.core, room.process.pid):
        os.kill(pid, signal.SIGHUP)
    os.kill(room.core, signal.SIGKILL)
    room.wait(lambda lines: len(lines_of(lines, "listening")) == 2)
    os.kill(room.core, signal.SIGTERM)
    assert room.process.wait(60) == 0
    lines = room.journal()
    assert len(lines_of(lines, "procedure_resumed")) == 1
    assert lines[-1]["kind"] == "procedure_ended"


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
