"""TLS on the listener, with DCMTK as the scanner: who gets in, who does not, and what is said of it."""

from __future__ import annotations

import contextlib
import queue
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.certificates import make_certificates
from monitor.cli import main
from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig, Peer, TlsConfig
from monitor.intake.limits import Limits
from monitor.intake.listener import Listener
from monitor.intake.messages import Listening, Refused
from monitor.intake.tls import TlsError, server_context
from monitor.model import AssociationEnded, Instance
from monitor.rejection import rejected
from tests.intake.intake_helpers import ct_dataset

LIMITS = Limits(handshake_s=1.0, hello_s=1.0, hellos=4, durable=False)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_certificates(folder, ["127.0.0.1", "localhost"])
    make_certificates(folder / "strange", ["127.0.0.1"])
    make_certificates(folder / "old", ["127.0.0.1"], 1.0, datetime.now(UTC) - timedelta(days=9))
    make_certificates(folder / "early", ["127.0.0.1"], 1.0, datetime.now(UTC) + timedelta(days=9))
    return folder


def tls_of(folder: Path, **changes: object) -> TlsConfig:
    return TlsConfig(
        **{
            "certificate": folder / "listener.pem",
            "key": folder / "listener.key",
            "ca": folder / "ca.pem",
            **changes,
        }
    )


class Here:
    """A listener in this process."""

    def __init__(self, record: Path, config: ListenerConfig) -> None:
        (record / "blobs").mkdir(parents=True, exist_ok=True)
        self.queue: queue.Queue = queue.Queue()
        self.listener = Listener(config, record / "blobs", ProcedureClock.start(), self.queue)
        self.listener.start()
        first = self.queue.get(timeout=5)
        assert isinstance(first, Listening)
        self.port = first.port

    def next(self, kind: type, timeout_s: float = 15.0):
        end = time.monotonic() + timeout_s
        while True:
            message = self.queue.get(timeout=max(end - time.monotonic(), 0.01))
            if isinstance(message, kind):
                return message


@contextlib.contextmanager
def listening_here(
    record: Path,
    tls: TlsConfig | None = None,
    limits: Limits = LIMITS,
    peers: tuple[Peer, ...] = (),
) -> Iterator[Here]:
    here = Here(record, ListenerConfig("ICEBALL", "127.0.0.1", 0, peers, tls, limits))
    try:
        yield here
    finally:
        here.listener.shutdown()


def send(here: Here, dcmtk: dict[str, str], folder: Path, *options: str) -> int:
    path = folder / "slice.dcm"
    ct_dataset().save_as(path, enforce_file_format=True)
    port = str(here.port)
    command = [dcmtk["storescu"], *options, "-aec", "ICEBALL", "127.0.0.1", port, str(path)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def own(folder: Path) -> list[str]:
    return ["+tls", str(folder / "scanner.key"), str(folder / "scanner.pem")]


def test_dcmtk_with_its_own_certificate(tmp_path: Path, pki: Path, dcmtk: dict[str, str]) -> None:
    with listening_here(tmp_path, tls_of(pki)) as here:
        assert send(here, dcmtk, tmp_path, *own(pki), "+cf", str(pki / "ca.pem")) == 0
        assert isinstance(here.next(Instance), Instance)
        assert here.next(AssociationEnded).aborted is False


_WRONG = {
    "plain": ([], "does not speak TLS"),
    "no certificate": (["+tla", "-ic"], "the peer has no certificate"),
    "of another authority": ([*"SCK", "-ic"], "certificate is not accepted"),
    "expired": ([*"OCK", "-ic"], "certificate has expired"),
    "that does not trust us": ([*"PCK", "+cf", "STRANGE"], "does not trust"),
}


@pytest.mark.parametrize(("options", "reason"), _WRONG.values(), ids=_WRONG.keys())
def test_a_handshake_that_fails_is_told_with_the_reason(
    tmp_path: Path, pki: Path, dcmtk: dict[str, str], options: list[str], reason: str
) -> None:
    folders = {"S": pki / "strange", "O": pki / "old", "P": pki}
    given = (
        own(folders[options[0]]) + options[3:] if options[:1] and options[0] in folders else options
    )
    given = [str(pki / "strange" / "ca.pem") if o == "STRANGE" else o for o in given]
    ca = pki / "ca.pem"
    if options[:1] == ["O"]:  # of our authority's name, and late: the chain is judged by its dates
        ca = pki / "old" / "ca.pem"
    with listening_here(tmp_path, tls_of(pki)) as here:
        if options[:1] == ["O"]:
            here.listener._tls.load_verify_locations(ca)
        assert send(here, dcmtk, tmp_path, *given) != 0
        refused = here.next(Refused)
    assert reason in refused.reason
    assert refused.peer.endswith("127.0.0.1")
    assert not list((tmp_path / "blobs").iterdir())


def test_silent_handshakes_keep_nobody_waiting(
    tmp_path: Path, pki: Path, dcmtk: dict[str, str]
) -> None:
    patient = Limits(handshake_s=60.0, hello_s=60.0, hellos=4, durable=False)
    with listening_here(tmp_path, tls_of(pki), patient) as here:
        silent = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(30)]
        for peer in silent[::2]:
            with contextlib.suppress(OSError):  # cut already
                peer.sendall(b"\x16\x03\x01\x02\x00\x01")  # half a ClientHello
        assert send(here, dcmtk, tmp_path, *own(pki), "+cf", str(pki / "ca.pem")) == 0
        assert "say nothing" in here.next(Refused).reason
        for peer in silent:
            peer.close()


def test_a_handshake_has_a_time_limit(tmp_path: Path, pki: Path) -> None:
    with (
        listening_here(tmp_path, tls_of(pki)) as here,
        socket.create_connection(("127.0.0.1", here.port), timeout=10) as silent,
    ):
        assert silent.recv(1) == b""
        assert here.next(Refused).reason == "it said nothing in time"


def test_old_protocols_are_refused(tmp_path: Path, pki: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with listening_here(tmp_path, tls_of(pki)) as here:
        with (
            socket.create_connection(("127.0.0.1", here.port)) as raw,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            context.wrap_socket(raw)
        assert "older than 1.2" in here.next(Refused).reason


def test_only_good_ciphers(pki: Path) -> None:
    names = [c["name"] for c in server_context(tls_of(pki)).get_ciphers()]
    assert names
    assert all(n.startswith(("TLS_", "ECDHE-")) for n in names)
    assert all("GCM" in n or "CHACHA20" in n for n in names)


# ------------------------------------------------------------------ files


def _wrong_files(pki: Path, tmp_path: Path) -> dict[str, tuple[TlsConfig, str]]:
    text = tmp_path / "text.pem"
    text.write_text("no certificate", encoding="utf-8")
    return {
        "missing": (tls_of(pki, certificate=pki / "none.pem"), "none.pem: No such file"),
        "a folder": (tls_of(pki, key=pki), "Is a directory"),
        "text": (tls_of(pki, certificate=text), "text.pem: is not a certificate"),
        "no key": (tls_of(pki, key=text), "text.pem: is not a private key"),
        "of another": (tls_of(pki, key=pki / "scanner.key"), "scanner.key: does not match"),
        "expired": (tls_of(pki / "old"), "old/listener.pem: expired on"),
        "not yet": (tls_of(pki / "early"), "early/listener.pem: not valid before"),
        "wrong host": (tls_of(pki, host="ct.example"), "is for localhost, 127.0.0.1, not for ct"),
        "no authority": (tls_of(pki, ca=text), "listener.tls.ca: "),
        "old authority": (tls_of(pki, ca=pki / "old" / "ca.pem"), "old/ca.pem: expired"),
    }


@pytest.mark.parametrize(
    "what",
    ["missing", "a folder", "text", "no key", "of another", "expired", "not yet"]
    + ["wrong host", "no authority", "old authority"],
)
def test_what_is_wrong_with_a_file_is_said(what: str, pki: Path, tmp_path: Path) -> None:
    config, text = _wrong_files(pki, tmp_path)[what]
    with pytest.raises(TlsError, match=r"listener\.tls") as error:
        server_context(config)
    assert text in str(error.value)


def test_the_host_may_be_named(pki: Path) -> None:
    server_context(tls_of(pki, host="LOCALHOST"))
    server_context(tls_of(pki, host="127.0.0.1"))


CASE = """[patient]
id = "A"
[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 10.0
"""


def test_check_reads_the_files_of_a_case(
    pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "case.toml"
    table = 'certificate = "listener.pem"\nkey = "{key}"\nca = "ca.pem"\n'
    for name in ("listener.pem", "listener.key", "scanner.key", "ca.pem"):
        (tmp_path / name).write_bytes((pki / name).read_bytes())
    case.write_text(CASE + "[listener.tls]\n" + table.format(key="listener.key"))
    assert main(["check", str(case)]) == 0
    assert "with TLS" in capsys.readouterr().out
    case.write_text(CASE + "[listener.tls]\n" + table.format(key="scanner.key"))
    assert main(["check", str(case)]) == 2
    assert f"{tmp_path / 'scanner.key'}: does not match" in capsys.readouterr().err
    case.write_text(CASE + '[listener.tls]\ncertificate = "listener.pem"\nkey = "listener.key"\n')
    assert main(["check", str(case)]) == 2
    assert "listener.tls.ca: missing" in capsys.readouterr().err
    case.write_text(CASE + "[listener.limits]\nidle_s = 1\nhelos = 3\n")
    assert main(["check", str(case)]) == 2
    said = capsys.readouterr().err
    assert "listener.limits.idle_s: expected a number from 5 to 3600 s, got 1" in said
    assert "listener.limits.helos: unknown (did you mean hellos?)" in said


def test_the_printed_commands_work(
    tmp_path: Path, dcmtk: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    assert main(["certificates", str(folder), "--host", "127.0.0.1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    (echo,) = (line for line in printed if line.startswith("echoscu"))
    assert printed[printed.index(echo) - 2].endswith("tools of DCMTK:")
    with listening_here(tmp_path, tls_of(folder)) as here:
        command = [dcmtk["echoscu"], *shlex.split(echo.replace("11112", str(here.port)))[1:]]
        assert subprocess.run(command, check=False, timeout=30).returncode == 0
    assert main(["certificates", str(folder), "--host", "127.0.0.1"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (folder / "listener.key").stat().st_mode & 0o077 == 0


# ------------------------------------------------------------------ limits


def test_strangers_do_not_take_a_named_peers_places(tmp_path: Path, dcmtk: dict[str, str]) -> None:
    """127.0.0.2 comes in by "*" only, and holds all that it may."""
    peers = (Peer("SCANNER", "127.0.0.1"), Peer("*", "*"))
    limits = Limits(hellos=2, associations=1, hello_s=30.0, durable=False)
    with listening_here(tmp_path, None, limits, peers) as here:
        held = [
            socket.create_connection(("127.0.0.1", here.port), source_address=("127.0.0.2", 0))
            for _ in range(20)
        ]
        assert send(here, dcmtk, tmp_path, "-aet", "SCANNER") == 0
        assert here.next(Instance).calling_ae_title == "SCANNER"
        for peer in held:
            peer.close()


def test_one_association_too_many_is_rejected(tmp_path: Path) -> None:
    from pynetdicom import AE

    limits = Limits(associations=1, durable=False)
    with listening_here(tmp_path, None, limits) as here:
        ae = AE(ae_title="A")
        ae.add_requested_context("1.2.840.10008.1.1")
        first = ae.associate("127.0.0.1", here.port, ae_title="ICEBALL")
        assert first.is_established
        assert rejected(ae.associate("127.0.0.1", here.port, ae_title="ICEBALL"))
        assert "more than 1 associations" in here.next(Refused).reason
        first.release()
        end = time.monotonic() + 5
        while not (
            again := ae.associate("127.0.0.1", here.port, ae_title="ICEBALL")
        ).is_established:
            assert time.monotonic() < end
        again.release()


def test_a_full_disk_is_told(tmp_path: Path, dcmtk: dict[str, str]) -> None:
    limits = Limits(disk_free_bytes=2**60, durable=False)
    with listening_here(tmp_path, None, limits) as here:
        assert send(here, dcmtk, tmp_path) != 0
        assert "the disk is full" in here.next(Refused).reason
    assert not list((tmp_path / "blobs").iterdir())


def test_an_association_that_is_silent_makes_room_for_another(tmp_path: Path) -> None:
    """A scanner that died and came back is not kept out by what it left behind; one that talks stays."""
    from pynetdicom import AE

    limits = Limits(associations=2, silent_s=0.5, durable=False)
    with listening_here(tmp_path, None, limits) as here:
        ae = AE(ae_title="A")
        ae.add_requested_context("1.2.840.10008.1.1")
        left, talks = (ae.associate("127.0.0.1", here.port, ae_title="ICEBALL") for _ in range(2))
        time.sleep(0.6)
        assert talks.send_c_echo().Status == 0x0000
        again = ae.associate("127.0.0.1", here.port, ae_title="ICEBALL")
        assert again.is_established
        assert "silent" in here.next(Refused).reason
        assert talks.send_c_echo().Status == 0x0000
        end = time.monotonic() + 5
        while left.is_established and time.monotonic() < end:
            time.sleep(0.02)
        assert not left.is_established
        assert rejected(ae.associate("127.0.0.1", here.port, ae_title="ICEBALL"))
        for each in (talks, again):
            each.release()


def test_a_peers_share_of_the_disk_is_bounded(tmp_path: Path, dcmtk: dict[str, str]) -> None:
    with listening_here(tmp_path, None, Limits(stored_bytes=1500, durable=False)) as here:
        assert send(here, dcmtk, tmp_path) == 0
        assert send(here, dcmtk, tmp_path) != 0
        assert "of this address" in here.next(Refused).reason
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_too_many_messages_are_slowed_down_and_none_is_lost(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    """By DCMTK's echoscu: pynetdicom's requestor misses an answer, now and then, that comes within 2 ms."""
    with listening_here(tmp_path, None, Limits(messages_per_s=50, durable=False)) as here:
        command = [dcmtk["echoscu"], "-v", "--repeat", "75", "-aec", "ICEBALL", "127.0.0.1"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, str(here.port)], check=True, capture_output=True, text=True, timeout=60
        )
        assert time.monotonic() - began > 0.4
    said = done.stdout + done.stderr
    assert said.count("Received Echo Response (Success)") == 75


def test_a_flood_of_refusals_does_not_fill_the_journal(tmp_path: Path) -> None:
    with listening_here(tmp_path, None, LIMITS, (Peer("*", "192.0.2.1"),)) as here:
        for _ in range(50):
            socket.create_connection(("127.0.0.1", here.port)).close()
        time.sleep(0.5)
        assert here.queue.qsize() == 5


# ------------------------------------------------------------------ patient data

TELLTALE = "TELLTALE^NAME"


def test_no_patient_data_but_in_files(tmp_path: Path) -> None:
    """Accepted, refused and broken: what the process prints and tells never names the patient."""
    script = Path(__file__).with_name("telltale_peer.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), TELLTALE],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "accepted 1 refused 2" in done.stdout
    assert TELLTALE.partition("^")[0] not in done.stdout + done.stderr
    kept = b"".join(p.read_bytes() for p in (tmp_path / "blobs").iterdir())
    assert TELLTALE.encode() in kept  # it was there to be leaked
    assert threading.active_count() < 50
