"""The spool against DCMTK's storescp: stopped, started, and refusing. Loopback."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from monitor.arguments import parser
from monitor.cli import main
from monitor.record.spool import Spool
from monitor.sending import Receiver, receiver_of, send_all
from tests.intake.intake_helpers import ct_dataset


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    for k in range(5):
        d = ct_dataset(k)
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        d.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def uids(folder: Path) -> set[str]:
    return {str(pydicom.dcmread(p).SOPInstanceUID) for p in folder.iterdir() if p.is_file()}


def storescp(dcmtk: dict[str, str], port: int, out: Path, *options: str) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    process = subprocess.Popen([dcmtk["storescp"], *options, "-od", str(out), str(port)])
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    raise AssertionError("storescp does not listen")


def test_an_outage_loses_nothing(dcmtk: dict[str, str], objects: Path, tmp_path: Path) -> None:
    """Nobody listens at first; what waits lies in the spool, and a later run sends it, once."""
    port, spools = free_port(), tmp_path / "spool"
    spool = Spool.of(spools, "PACS", "127.0.0.1", port)
    args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{port}", "--spool", str(spools)]
    assert main([*args, "--give-up-after", "1.5"]) == 1
    assert len(spool.pending()) == 5
    said: list[str] = []
    to = Receiver("PACS", "127.0.0.1", port)
    sending = threading.Thread(
        target=send_all, args=(spool, to, lambda t, *_: said.append(t.code), 60.0)
    )
    sending.start()
    while not said:
        time.sleep(0.05)
    process = storescp(dcmtk, port, tmp_path / "pacs")
    try:
        assert set(said) == {"no_connection"}
        sending.join(60.0)
        assert uids(tmp_path / "pacs") == uids(objects)
        assert spool.pending() == []
        for p in (tmp_path / "pacs").iterdir():
            p.unlink()
        assert main(args) == 0
        assert list((tmp_path / "pacs").iterdir()) == []
    finally:
        process.terminate()
        process.wait(10.0)


def test_a_refused_object_is_kept_with_its_reason(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0xA700 is tried again, 0xC000 is not."""
    answers = iter([0xA700, 0xC000, 0x0000, 0xB000, 0x0000, 0x0000])
    ae = AE()
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: next(answers))]
    )
    try:
        port = server.socket.getsockname()[1]
        args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{port}"]
        assert main(args) == 1
        spool = Spool.of(objects / "spool", "PACS", "127.0.0.1", port)
        assert [reason for _, reason in spool.refused()] == ["status 0xC000"]
        assert "0xC000" in capsys.readouterr().err
        answers = iter([0x0000])
        assert main(args) == 0  # it is tried once more, and no longer said to be refused
    finally:
        server.shutdown()
    assert "1 sent, 4 sent before, 0 waiting" in capsys.readouterr().out
    assert (spool.count("sent"), spool.refused()) == (5, [])
    assert next(answers, None) is None


def test_objects_that_find_no_room_do_not_keep_the_others_back(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some receivers say 0xA700 of an object that they do not like: the first three here, each time."""
    monkeypatch.setattr("monitor.sending._FIRST_WAIT_S", 0.01)
    disliked = {pydicom.dcmread(objects / f"{k}.dcm").SOPInstanceUID for k in range(3)}
    asked: list[str] = []

    def answer(event: Any) -> int:
        asked.append(event.request.AffectedSOPInstanceUID)
        return 0xA700 if asked[-1] in disliked else 0x0000

    ae = AE()
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)]
    )
    spool = Spool(tmp_path / "spool")
    for path in sorted(objects.iterdir()):
        spool.add(path)
    more: list[Path] = []

    def another() -> None:
        """A running procedure makes more of them."""
        d = pydicom.dcmread(objects / "4.dcm")
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{len(more)}"
        more.append(tmp_path / f"z{len(more):02d}.dcm")
        d.save_as(more[-1])
        spool.add(more[-1])

    try:
        to = Receiver("PACS", "127.0.0.1", server.socket.getsockname()[1])
        # With nobody else to compare with, what is left is offered until the time is up.
        assert not send_all(spool, to, lambda *_: None, 0.5)
        assert (spool.count("sent"), spool.refused()) == (2, [])
        assert send_all(spool, to, lambda *_: another(), 30.0)  # others are taken: then it is these
    finally:
        server.shutdown()
    assert spool.count("sent") == 2 + len(more) <= 22
    assert {pydicom.dcmread(p).SOPInstanceUID for p, _ in spool.refused()} == disliked
    assert {reason for _, reason in spool.refused()} == {"status 0xA700: out of resources"}
    assert all(asked.count(uid) >= 3 for uid in disliked)


def test_what_one_receiver_has_is_not_taken_for_sent_to_another(
    dcmtk: dict[str, str], objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another title at the same port, or another port: nothing of the first one's is theirs."""
    first, second = free_port(), free_port()

    def send(to: str) -> int:
        return main(["send", str(objects), "--to", to, "--give-up-after", "0.5"])

    processes = [storescp(dcmtk, first, tmp_path / "first")]
    try:
        assert send(f"A@127.0.0.1:{first}") == 0
        assert "5 sent, 0 sent before, 0 waiting" in capsys.readouterr().out
        assert send(f"A@127.0.0.1:{second}") == 1  # nobody is there yet
        assert "0 sent, 0 sent before, 5 waiting" in capsys.readouterr().out
        for p in (tmp_path / "first").iterdir():
            p.unlink()
        assert send(f"B@127.0.0.1:{first}") == 0
        assert uids(tmp_path / "first") == uids(objects)
        processes.append(storescp(dcmtk, second, tmp_path / "second"))
        assert send(f"A@127.0.0.1:{second}") == 0
        assert uids(tmp_path / "second") == uids(objects)
        assert send(f"A@127.0.0.1:{first}") == 0
        assert "0 sent, 5 sent before, 0 waiting" in capsys.readouterr().out.splitlines()[-1]
    finally:
        for process in processes:
            process.terminate()
            process.wait(10.0)


def test_a_title_with_a_slash_leaves_no_spool_elsewhere(objects: Path, tmp_path: Path) -> None:
    spools = tmp_path / "spools"
    Spool.of(spools, "../../A", "Host", 104).add(objects / "0.dcm")
    assert [p.name for p in spools.iterdir()] == ["..%2F..%2FA@host:104"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["objects", "spools"]


def test_a_receiver_that_there_is_not_is_an_error_and_leaves_no_spool(
    objects: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A title that is not the receiver's, ours that it does not know, a name that nobody knows."""
    ae = AE(ae_title="PACS")
    ae.require_called_aet = True
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
    taken: list[Any] = []
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda e: taken.append(e) or 0)],
    )
    port = server.socket.getsockname()[1]
    try:
        assert main(["send", str(objects), "--to", f"WRONG@127.0.0.1:{port}"]) == 2
        assert "it is not called WRONG" in capsys.readouterr().err
        ae.require_calling_aet = ["OTHER"]
        assert main(["send", str(objects), "--to", f"PACS@127.0.0.1:{port}"]) == 2
        assert "it does not know ICEBALL" in capsys.readouterr().err
        assert not (objects / "spool").exists()
        ae.require_calling_aet = []  # and one that serves storage alone is sent to
        assert main(["send", str(objects), "--to", f"PACS@127.0.0.1:{port}"]) == 0
        assert len(taken) == 5
    finally:
        server.shutdown()

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    shutil.rmtree(objects / "spool")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert main(["send", str(objects), "--to", "PACS@pacs.invalid:104"]) == 2
    assert "pacs.invalid: Name or service not known" in capsys.readouterr().err
    assert not (objects / "spool").exists()


def test_a_receiver_that_stays_away_is_not_waited_for_without_end(
    objects: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = f"PACS@127.0.0.1:{free_port()}"
    assert main(["send", str(objects), "--to", to, "--give-up-after", "0"]) == 1
    said = capsys.readouterr()
    assert "5 waiting" in said.out
    assert f"what waits is in {objects / 'spool' / to}" in said.err
    for given, meant in (([], 600.0), (["--give-up-after", "inf"], math.inf)):
        assert parser().parse_args(["send", "x", "--to", to, *given]).give_up_after == meant
    with pytest.raises(SystemExit):
        parser().parse_args(["send", "x", "--to", to, "--give-up-after", "nan"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "neither a record"),
        (lambda p: p.write_text("x"), "not a folder"),
    ],
)
def test_nothing_to_send_is_an_error(
    make: Callable[[Path], object], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "x")
    assert main(["send", str(tmp_path / "x"), "--to", "A@b:1"]) == 2
    assert f"{tmp_path / 'x'}: {why}" in (said := capsys.readouterr()).err
    assert said.out == ""


def test_a_file_that_is_not_dicom_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_text("no")
    spool = Spool(tmp_path / "spool")
    spool.add(tmp_path / "x.dcm")
    assert send_all(spool, Receiver("A", "127.0.0.1", free_port()), lambda *_: None, 0.0)
    assert "not a DICOM file" in spool.refused()[0][1]


@pytest.mark.parametrize(
    "text", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "A" * 17 + "@h:1"]
)
def test_a_wrong_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected AE@host:port"):
        receiver_of(text)


@contextmanager
def orthanc(
    folder: Path, dicom_port: int, http_port: int, **more: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A PACS on loopback whose store outlives it; known peers only, as sites have it."""
    path = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if path is None:
        pytest.skip("Orthanc is not installed: apt-get install orthanc")
    configuration = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomAet": "PACS",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    process = subprocess.Popen(
        [path, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            with socket.socket() as a, socket.socket() as b:
                if not (
                    a.connect_ex(("127.0.0.1", dicom_port))
                    or b.connect_ex(("127.0.0.1", http_port))
                ):
                    break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(20.0)


def held(http_port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/statistics", timeout=10) as answer:
        return int(json.load(answer)["CountInstances"])


def test_orthanc_that_stops_and_comes_back_gets_each_object_once(
    objects: Path, tmp_path: Path
) -> None:
    dicom_port, http_port = free_port(), free_port()
    args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{dicom_port}",
            "--spool", str(tmp_path / "spool"), "--give-up-after", "1.5"]  # fmt: skip
    with orthanc(tmp_path, dicom_port, http_port):
        assert main(args) == 0
        assert held(http_port) == 5
    later = ct_dataset(9)
    later.SOPInstanceUID = later.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    later.save_as(objects / "later.dcm", enforce_file_format=True)
    assert main(args) == 1
    assert len(Spool.of(tmp_path / "spool", "PACS", "127.0.0.1", dicom_port).pending()) == 1
    with orthanc(tmp_path, dicom_port, http_port):
        assert main(args) == 0
        assert held(http_port) == 6
