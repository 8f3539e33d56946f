"""Logs of real processes that fail in every way a process can, and files that cannot be written."""

from __future__ import annotations

import ctypes
import json
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor import logs
from monitor.logs import LogOptions

pytestmark = pytest.mark.requirement("REQ-LOGS")
SECRET = "ROSALIND^ID4711"


def lines(folder: Path, process: str = "x") -> list[dict[str, Any]]:
    text = (folder / f"{process}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def ran(folder: Path, target: Callable[..., None], level: str = "info", *given: Any) -> int | None:
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=logs.run, args=(LogOptions(folder, level), "x", target, *given))
    process.start()
    process.join(60)
    return process.exitcode


def fails() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        raise KeyError(SECRET) from error


def fails_in_a_thread() -> None:
    thread = threading.Thread(target=fails, name="worker")
    thread.start()
    thread.join()


class Spoilt:
    def __del__(self) -> None:
        fails()


def fails_in_a_destructor() -> None:
    Spoilt()


def fails_in_a_slot() -> None:
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from PyQt5.QtCore import QTimer
    from PyQt5.QtWidgets import QApplication

    from monitor.view.process import install_excepthook

    app = QApplication(["x"])
    said: list[str] = []
    install_excepthook(type("Window", (), {"show_error": staticmethod(said.append)}))  # type: ignore[arg-type]
    QTimer.singleShot(0, fails)
    QTimer.singleShot(50, app.quit)
    app.exec_()
    if said != ["KeyError"]:
        raise SystemExit(3)


def crashes() -> None:
    ctypes.string_at(0)


def exits() -> None:
    raise SystemExit(2)


def libraries_talk() -> None:
    logging.getLogger("pydicom").warning("bad value %s", SECRET)
    logging.getLogger("pynetdicom").debug("PatientName %s", SECRET)
    logging.getLogger().error(SECRET)
    warnings.warn(SECRET, stacklevel=1)


@pytest.mark.parametrize(
    ("target", "event", "code"),
    [
        (fails, "process_fails", 1),
        (fails_in_a_thread, "uncaught_in_thread", 0),
        (fails_in_a_destructor, "uncaught_in_destructor", 0),
        (fails_in_a_slot, "uncaught_in_slot", 0),
    ],
)
def test_what_nobody_catches_is_logged_with_its_place_and_without_its_words(
    target: Callable[..., None], event: str, code: int, tmp_path: Path
) -> None:
    assert ran(tmp_path, target, "debug") == code
    (line,) = [x for x in lines(tmp_path) if x["event"] == event]
    assert (line["level"], line["process"]) == ("error", "x")
    assert [e["type"] for e in line["error"]] == ["KeyError", "ValueError"]
    assert line["error"][0]["trace"][-1].endswith(" fails")
    assert "test_logs.py" in line["error"][0]["trace"][-1]
    assert SECRET not in (tmp_path / "x.jsonl").read_text(encoding="utf-8")


def test_a_crash_in_c_code_leaves_where_it_was(tmp_path: Path) -> None:
    assert ran(tmp_path, crashes) == -signal.SIGSEGV
    assert "in crashes" in (tmp_path / "x.crash.txt").read_text(encoding="utf-8")
    assert lines(tmp_path)[-1]["event"] == "process_begun"


def test_an_exit_says_its_status(tmp_path: Path) -> None:
    assert ran(tmp_path, exits) == 2
    assert [x["fields"].get("status") for x in lines(tmp_path)] == [None, 2, None]


@pytest.mark.requirement("REQ-PRIVACY")
def test_of_a_library_only_where_it_spoke_is_told(tmp_path: Path) -> None:
    assert ran(tmp_path, libraries_talk, "debug") == 0
    told = [x for x in lines(tmp_path) if x["event"] == "library"]
    assert [x["fields"]["library"] for x in told] == ["pydicom", "root"]
    assert told[0]["fields"]["where"].startswith("test_logs:")
    assert SECRET not in (tmp_path / "x.jsonl").read_text(encoding="utf-8")


def test_files_stay_within_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 5000)
    with logs.logged(LogOptions(tmp_path), "x"):
        for i in range(1000):
            logs.say(logging.INFO, "turn", number=i)
    files = sorted(tmp_path.glob("x.jsonl*"))
    assert len(files) == 1 + logs._EARLIER_FILES
    assert all(f.stat().st_size <= 5000 for f in files)
    assert lines(tmp_path)[-2]["fields"]["number"] == 999


def test_levels(tmp_path: Path) -> None:
    with logs.logged(LogOptions(tmp_path, "warning"), "x"):
        logs.say(logging.INFO, "quiet")
        given = {"code": "c", "priority": "high", "params": {"a": SECRET}}
        logs.journal_line("alarm_raised", given)
        logs.journal_line("timing", {"event": "Tick", "took_s": 1.0})  # of less weight
    (line,) = lines(tmp_path)
    assert (line["event"], line["fields"]["code"]) == ("alarm_raised", "c")
    assert SECRET not in str(line)


def test_a_log_that_cannot_be_written_disturbs_nothing_and_is_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.write_text("in the way", encoding="utf-8")
    with logs.logged(LogOptions(folder), "x"):
        logs.say(logging.INFO, "first")
        logs.say(logging.INFO, "second")
        folder.unlink()
        folder.mkdir()
        logs.say(logging.INFO, "third", share=float("nan"))
    # "process_begun" and that there is no file for crashes were lost, too.
    assert [(x["event"], x.get("lost_before")) for x in lines(folder)] == [
        ("third", 4),
        ("process_ends", None),
    ]
    assert lines(folder)[0]["fields"]["share"] is None
    assert capfd.readouterr() == ("", "")


def test_hooks_and_handlers_are_as_they_were(tmp_path: Path) -> None:
    import sys

    before = (sys.excepthook, threading.excepthook, logging.getLogger().handlers[:])
    with pytest.raises(ZeroDivisionError), logs.logged(LogOptions(tmp_path), "x"):
        raise ZeroDivisionError
    assert (sys.excepthook, threading.excepthook, logging.getLogger().handlers) == before
    assert [x["event"] for x in lines(tmp_path)][1] == "process_fails"
