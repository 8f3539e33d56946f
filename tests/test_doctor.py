"""Each check of ``iceball doctor`` is made to fail for real."""

from __future__ import annotations

import json
import locale
import os
import socket
from pathlib import Path

import pytest

from monitor import doctor
from monitor.cli import main
from monitor.config import ListenerConfig
from monitor.doctor import Level

pytestmark = pytest.mark.requirement("REQ-DOCTOR")


def listener(address: str, port: int) -> ListenerConfig:
    return ListenerConfig("ICEBALL", address, port, ())


def test_a_port_that_is_taken_and_an_address_of_another_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        found = doctor.port(listener("127.0.0.1", number))
        assert (found.level, str(number) in found.text) == (Level.CANNOT_RUN, True)
    assert doctor.port(listener("127.0.0.1", number)).level is Level.FINE
    assert doctor.port(listener("192.0.2.1", number)).level is Level.CANNOT_RUN


def test_another_version_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "run.txt"
    assert doctor.packages(lock).level is Level.WARNING  # nothing to compare with
    lock.write_text("numpy==0.1 \\\n", encoding="utf-8")
    found = doctor.packages(lock)
    assert found.level is Level.WARNING
    assert "pinned 0.1" in found.text
    assert doctor.packages(doctor.LOCK).level is Level.FINE


def test_a_folder_that_cannot_be_written_to() -> None:
    found = doctor.disk(Path("/proc/record"))  # also for root, whom permissions do not stop
    assert (found.level, "/proc" in found.text) == (Level.CANNOT_RUN, True)


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MB/s" in doctor.disk(tmp_path / "not" / "yet").text
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 62)
    assert doctor.disk(tmp_path).level is Level.WARNING
    assert not list(tmp_path.iterdir())


def test_no_display_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert doctor.display().level is Level.WARNING
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    assert doctor.display().level is Level.CANNOT_RUN


def test_fonts_clock_and_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.fonts(tmp_path).level is Level.CANNOT_RUN
    assert doctor.fonts(doctor.FONTS).level is Level.FINE
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    assert doctor.locale_and_zone().level is Level.WARNING
    fake = tmp_path / "timedatectl"
    fake.write_text("#!/bin/sh\necho no\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    assert doctor.clock().level is Level.WARNING
    fake.write_text("#!/bin/sh\necho yes\n", encoding="utf-8")
    assert doctor.clock().level is Level.FINE
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "unknown" in doctor.clock().text


def test_a_wrong_file_is_said_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "workstation.toml"
    wrong.write_text('[listener]\nport = "x"\n', encoding="utf-8")
    assert main(["doctor", "--workstation", str(wrong), "--record", str(tmp_path), "--json"]) == 2
    found = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    assert found["workstation"]["level"] == "cannot_run"
    assert "listener.port" in found["workstation"]["text"]
    assert found["engine"]["level"] == "fine"
    assert all(f["mend"] for f in found.values() if f["level"] != "fine")


def test_a_check_that_fails_itself_is_a_finding() -> None:
    found = doctor._made("x", lambda: doctor.fonts(None))  # type: ignore[arg-type]
    assert (found.check, found.level) == ("x", Level.WARNING)


def test_the_process_keeps_its_locale() -> None:
    """In whose encoding it goes on to read files."""
    before = locale.setlocale(locale.LC_ALL)
    doctor.locale_and_zone()
    assert locale.setlocale(locale.LC_ALL) == before
