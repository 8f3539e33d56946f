"""What the supervisor makes of an end that no test can time: the program is a stand-in, the record real."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from monitor import supervisor
from monitor.clock import ProcedureClock
from monitor.record.journal import FORMAT_VERSION, Journal

pytestmark = pytest.mark.requirement("REQ-RESUME")


def test_a_program_that_dies_after_the_end_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was sending results: there is nothing to go on with, but something to do."""
    journal = Journal(tmp_path, ProcedureClock.start())
    journal.write("procedure_started", format_version=FORMAT_VERSION)
    journal.write("procedure_ended", by="operator")
    journal.close()
    started = tmp_path / "started"
    program = f"import os; open({str(started)!r}, 'a').write('x'); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(supervisor, "COMMAND", [sys.executable, "-c", program])
    said: list[str] = []
    assert supervisor.supervise(["live"], tmp_path, said.append) == 128 + signal.SIGKILL
    assert started.read_text() == "x"
    (text,) = said
    assert f"iceball send {tmp_path} --to" in text
