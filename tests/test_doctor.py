"""Each check of ``iceball doctor`` is made to fail for real."""

from __future__ import annotations

import json
import locale
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from monitor import doctor
from monitor.certificates import make_certificates
from monitor.cli import main
from monitor.config import ClientTls, ListenerConfig, TlsConfig
from monitor.doctor import Level
from monitor.sending import Receiver

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
    assert "30 images of 0.5 MB kept in" in doctor.disk(tmp_path / "not" / "yet").text
    with monkeypatch.context() as slow:
        slow.setattr(doctor, "_SLOW_S", 1e-6)
        assert "local disk" in doctor.disk(tmp_path).mend
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
    error_us = doctor.clock_error_us()
    assert error_us is not None
    assert error_us >= 0
    assert f"{error_us / 1e3:.0f} ms" in doctor.clock().text or error_us < 10_000_000  # it grows
    for error_us, level in (
        (15_999_999, Level.FINE),
        (16_000_000, Level.WARNING),
        (None, Level.WARNING),
    ):
        monkeypatch.setattr(doctor, "clock_error_us", lambda e=error_us: e)
        assert doctor.clock().level is level


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
    assert "not looked at" in found["listener"]["text"]
    assert all(f["mend"] for f in found.values() if f["level"] != "fine")


def test_what_is_right_in_a_wrong_file_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "workstation.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        wrong.write_text(
            f'[listener]\nport = {number}\n[metrics]\nport = {number}\n[screen]\nmonitor = "left"\n'
            "[openigtlink]\nport = 0\n[bells]\n",
            encoding="utf-8",
        )
        given = ["doctor", "--workstation", str(wrong), "--record", str(tmp_path), "--json"]
        assert main(given) == 2
        found = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
        for named in ("screen.monitor", "openigtlink.port", "bells"):
            assert named in found["workstation"]["text"]
        assert {found[n]["level"] for n in ("listener", "metrics")} == {"cannot_run"}
        assert all(str(number) in found[n]["text"] for n in ("listener", "metrics"))
        assert "not looked at" in found["openigtlink"]["text"]
        assert found["certificates"]["level"] == "fine"
        wrong.write_text("[listener\n", encoding="utf-8")
        assert main(given) == 2
    found = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    assert "not looked at" in found["listener"]["text"]
    assert found["engine"]["level"] == "fine"


def test_a_pacs_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that answers, one that rejects the title, one that only stores, one that says nothing, none."""

    def serving(sop_class: str, port: int = 0) -> tuple[Any, int]:
        ae = AE(ae_title="PACS")
        ae.require_called_aet = True
        ae.add_supported_context(sop_class)
        server = ae.start_server(("127.0.0.1", port), block=False)
        return server, server.socket.getsockname()[1]

    (whole, port), (stores, storing) = serving(Verification), serving(CTImageStorage)
    try:
        found = doctor.peer("pacs", Receiver("PACS", "127.0.0.1", port))
        assert (found.level, found.text) == (Level.FINE, f"PACS@127.0.0.1:{port} answers ICEBALL")
        assert doctor.peer("pacs", Receiver("PACS", "127.0.0.1", storing)).level is Level.FINE
        found = doctor.peer("fetch.from", Receiver("OTHER", "127.0.0.1", port))
        assert (found.level, "rejected" in found.text) == (Level.WARNING, True)
        assert "[fetch]" in found.mend
        file = tmp_path / "workstation.toml"
        file.write_text(
            f'[listener]\nport = 0\n[pacs]\nsend_to = "PACS@127.0.0.1:{port}"\n'
            f'[fetch]\nfrom = "ELSE@127.0.0.1:{port}"\nmethod = "get"\n',
            encoding="utf-8",
        )
        assert main(["doctor", "--workstation", str(file), "--record", str(tmp_path), "--json"]) < 2
    finally:
        whole.shutdown()
        stores.shutdown()
    rows = {f["check"]: f["level"] for f in json.loads(capsys.readouterr().out)}
    assert (rows["pacs"], rows["fetch.from"]) == ("fine", "warning")
    found = doctor.peer("pacs", Receiver("PACS", "127.0.0.1", port))
    assert (found.level, "no connection" in found.text) == (Level.WARNING, True)


def test_tls_files_for_a_pacs_that_are_wrong_keep_live_from_beginning(tmp_path: Path) -> None:
    to = Receiver("PACS", "127.0.0.1", 104, tls=ClientTls(ca=tmp_path / "ca.pem"))
    found = doctor.peer("pacs", to)
    assert (found.level, "pacs.tls.ca" in found.text) == (Level.CANNOT_RUN, True)
    assert doctor.peer("fetch.from", to).level is Level.WARNING


def test_a_pacs_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ASK_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        found = doctor.peer("pacs", Receiver("PACS", "127.0.0.1", silent.getsockname()[1]))
        assert found.level is Level.WARNING
        assert time.monotonic() - began < 10.0


def tls(folder: Path, **given: Any) -> TlsConfig:
    files = {"certificate": folder / "listener.pem", "key": folder / "listener.key"}
    return TlsConfig(**{**files, "ca": folder / "ca.pem", **given})


def test_certificates_that_are_fine_end_soon_have_ended_or_do_not_belong_together(
    tmp_path: Path,
) -> None:
    assert doctor.certificates(None).level is Level.FINE
    for name, days in (("fine", 400.0), ("soon", 20.0), ("other", 400.0)):
        make_certificates(tmp_path / name, ["localhost"], days)
    make_certificates(tmp_path / "over", ["localhost"], 1.0, datetime.now(UTC) - timedelta(days=3))
    found = doctor.certificates(tls(tmp_path / "fine"))
    assert (found.level, "399 days" in found.text) == (Level.FINE, True)
    found = doctor.certificates(tls(tmp_path / "soon"))
    assert (found.level, "19 days" in found.text) == (
        Level.WARNING,
        True,
    )
    found = doctor.certificates(tls(tmp_path / "fine", ca=tmp_path / "soon" / "ca.pem"))
    assert found.level is Level.WARNING
    found = doctor.certificates(tls(tmp_path / "over"))
    assert (found.level, "expired on" in found.text) == (Level.CANNOT_RUN, True)
    found = doctor.certificates(tls(tmp_path / "fine", key=tmp_path / "other" / "listener.key"))
    assert (found.level, "does not match" in found.text) == (Level.CANNOT_RUN, True)
    (tmp_path / "fine" / "listener.key").chmod(0o644)
    found = doctor.certificates(tls(tmp_path / "fine"))
    assert (found.level, found.mend[:9]) == (Level.WARNING, "chmod 600")


def test_a_gpu_that_is_there_and_not_used(tmp_path: Path) -> None:
    assert doctor.gpu(tmp_path / "none").level is Level.FINE
    (tmp_path / "0000:01:00.0").mkdir()
    found = doctor.gpu(tmp_path)
    assert found.level is (Level.FINE if doctor.GPUS.is_dir() else Level.WARNING)


def test_a_case_and_every_port_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, file = tmp_path / "case.toml", tmp_path / "workstation.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        file.write_text(
            f"[listener]\nport = 0\n[metrics]\nport = {number}\n[openigtlink]\nport = {number}\n"
            f'[fetch]\nfrom = "PACS@127.0.0.1:104"\nport = {number}\n',
            encoding="utf-8",
        )
        case.write_text(
            f'[patient]\nid = "A"\n[organ]\npreset = "liver"\n[listener]\nport = {number}\n',
            encoding="utf-8",
        )
        given = ["doctor", "--workstation", str(file), "--record", str(tmp_path), "--json"]
        assert main([*given, "--case", str(case)]) == 2
    found = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    asked = ("metrics", "listener", "openigtlink", "fetch")
    assert {found[n]["level"] for n in asked} == {"cannot_run"}
    assert all(str(number) in found[n]["text"] for n in asked)
    assert all(f"[{n}]" in found[n]["mend"] for n in asked)
    case.write_text("[patient]\n", encoding="utf-8")
    assert doctor.case_of(case)[1].level is Level.CANNOT_RUN


def test_a_check_that_fails_itself_is_a_finding() -> None:
    found = doctor._made("x", lambda: doctor.fonts(None))  # type: ignore[arg-type]
    assert (found.check, found.level) == ("x", Level.WARNING)


def test_the_process_keeps_its_locale() -> None:
    """In whose encoding it goes on to read files."""
    before = locale.setlocale(locale.LC_ALL)
    doctor.locale_and_zone()
    assert locale.setlocale(locale.LC_ALL) == before
