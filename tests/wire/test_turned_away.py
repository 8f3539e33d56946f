"""A scanner that calls and does not get in: said within seconds, with the reason, until it does."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import MRImageStorage

from monitor.cli import main
from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess, sphere_case

pytestmark = pytest.mark.timeout(300)
SAID_WITHIN_S = 5.0


def case_with(folder: Path, listener: str) -> Path:
    case = sphere_case(folder, "A", (0.0, 0.0, 0.0))
    with case.open("a", encoding="utf-8") as file:
        file.write(listener)
    return case


def echo(dcmtk: dict[str, str], port: int, *options: str, called: str = "ICEBALL") -> int:
    command = [dcmtk["echoscu"], "-aec", called, *options, "localhost", str(port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def send_mr(dcmtk: dict[str, str], port: int, path: Path) -> int:
    """Images of a class that is not taken: the association is accepted, and none of its contexts."""
    d = ct_dataset(1)
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = MRImageStorage
    d.save_as(path, enforce_file_format=True)
    titles = ("-aec", "ICEBALL", "-aet", "SCANNER")
    command = [dcmtk["storescu"], "-R", *titles, "localhost", str(port), str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def alarms(lines: list[dict[str, Any]], kind: str = "alarm_raised") -> list[str]:
    refused = [x for x in lines if x["kind"] == kind and x["code"] == "scanner_refused"]
    return [x["params"]["reason"] for x in refused]


def said(live: LiveProcess, count: int, reason: str) -> None:
    began = time.monotonic()
    live.wait(lambda lines: len(alarms(lines)) >= count)
    assert time.monotonic() - began < SAID_WITHIN_S
    assert alarms(live.journal())[-1] == reason


def gone(live: LiveProcess, count: int) -> None:
    live.wait(lambda lines: len(alarms(lines, "alarm_cleared")) >= count)


@pytest.mark.requirement("REQ-TURNED-AWAY")
def test_wrong_titles_are_said_until_the_scanner_gets_in(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    case = case_with(tmp_path, 'allowed_peers = ["SCANNER@127.0.0.1"]\n')
    with LiveProcess(case, tmp_path / "record") as live:
        assert echo(dcmtk, live.port, "-aet", "SCANNER", called="ICEBOX") != 0
        said(live, 1, "peer_called_title")
        assert echo(dcmtk, live.port, "-aet", "SCANNER") == 0
        gone(live, 1)
        assert echo(dcmtk, live.port, "-aet", "CT2") != 0
        said(live, 2, "peer_calling_title")
        for _ in range(30):  # one reason does not fill the journal; another is told all the same
            assert echo(dcmtk, live.port, "-aet", "CT2") != 0
        with socket.create_connection(("127.0.0.1", live.port)) as browser:
            browser.sendall(b"GET / HTTP/1.0\r\n\r\n")
            said(live, 3, "peer_no_dicom")
        assert echo(dcmtk, live.port, "-aet", "SCANNER") == 0
        gone(live, 3)
        with socket.create_connection(("127.0.0.1", live.port)):
            pass  # who looks whether somebody is in was not turned away
        assert echo(dcmtk, live.port, "-aet", "SCANNER") == 0
        assert len(alarms(live.journal())) == 3
        assert send_mr(dcmtk, live.port, tmp_path / "mr.dcm") != 0
        said(live, 4, "peer_nothing_taken")
        (line,) = [x for x in live.journal("association_refused") if "offers" in x["reason"]]
        assert "MR Image Storage" in line["reason"]
        assert echo(dcmtk, live.port, "-aet", "SCANNER") == 0
        gone(live, 4)
    assert "SCANNER@127.0.0.1 WAS TURNED AWAY" in live.output
    assert main(["replay", str(live.record)]) == 0


@pytest.mark.requirement("REQ-TURNED-AWAY")
def test_a_scanner_by_an_address_that_nobody_wrote_down_is_said_and_a_port_scan_is_no_storm(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    case = case_with(tmp_path, 'allowed_peers = ["SCANNER@127.0.0.1"]\n')
    with LiveProcess(case, tmp_path / "record") as live:
        for _ in range(3):
            knock(live.port, "127.0.0.2")
        said(live, 1, "peer_address")
        for n in range(3, 60):
            knock(live.port, f"127.0.0.{n}")
        live.wait(lambda lines: sum(x["kind"] == "association_refused" for x in lines) >= 60)
        live.wait(lambda lines: len(alarms(lines)) == 3)
        assert echo(dcmtk, live.port, "-aet", "SCANNER") == 0
        gone(live, 3)
        knock(live.port, "127.0.0.2")  # who gets in is known by now
        knock(live.port, "127.0.0.99")
        live.wait(lambda lines: sum(x["kind"] == "association_refused" for x in lines) >= 62)
        assert echo(dcmtk, live.port, "-aet", "SCANNER", called="ICEBOX") != 0
        said(live, 4, "peer_called_title")
    assert "127.0.0.2 WAS TURNED AWAY" in live.output


def knock(port: int, address: str) -> None:
    """A connection of that address, which is closed before it can say anything."""
    with socket.create_connection(("127.0.0.1", port), source_address=(address, 0)) as sock:
        sock.settimeout(10.0)
        assert sock.recv(1) == b""


@pytest.mark.requirement("REQ-TURNED-AWAY")
def test_a_handshake_that_fails_is_said_until_one_succeeds(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    for name in ("hospital", "stranger"):
        assert main(["certificates", str(tmp_path / name), "--host", "localhost"]) == 0
    own, other = tmp_path / "hospital", tmp_path / "stranger"
    files = [f'{field} = "{own / name}"' for field, name in (
        ("certificate", "listener.pem"), ("key", "listener.key"), ("ca", "ca.pem"))]  # fmt: skip
    case = case_with(tmp_path, "[listener.tls]\n" + "\n".join(files) + "\n")
    with LiveProcess(case, tmp_path / "record") as live:
        with socket.create_connection(("127.0.0.1", live.port)):
            pass
        assert echo(dcmtk, live.port) != 0  # no TLS at all
        said(live, 1, "peer_tls_plain")
        assert echo(dcmtk, live.port, *_tls(own, own)) == 0
        gone(live, 1)
        assert echo(dcmtk, live.port, *_tls(other, own)) != 0  # of another authority
        said(live, 2, "peer_tls_certificate")
        assert echo(dcmtk, live.port, *_tls(own, own)) == 0
        gone(live, 2)
        context = ssl.create_default_context(cafile=str(other / "ca.pem"))
        with (
            socket.create_connection(("localhost", live.port)) as sock,
            pytest.raises(ssl.SSLError),  # it does not trust the listener
        ):
            context.wrap_socket(sock, server_hostname="localhost")
        said(live, 3, "peer_tls_not_trusted")


def _tls(pair: Path, trusted: Path) -> tuple[str, ...]:
    key, certificate = str(pair / "scanner.key"), str(pair / "scanner.pem")
    return ("+tls", key, certificate, "+cf", str(trusted / "ca.pem"))
