"""The spool against DCMTK's storescp: stopped, started, and refusing. Loopback."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

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


def storescp(dcmtk: dict[str, str], port: int, out: Path) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    process = subprocess.Popen([dcmtk["storescp"], "-od", str(out), str(port)])
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    raise AssertionError("storescp does not listen")


def test_an_outage_loses_nothing(dcmtk: dict[str, str], objects: Path, tmp_path: Path) -> None:
    """Nobody listens at first; what waits lies in the spool, and a later run sends it, once."""
    port, spool = free_port(), tmp_path / "spool"
    args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{port}", "--spool", str(spool)]
    assert main([*args, "--give-up-after", "1.5"]) == 1
    assert len(Spool(spool).pending()) == 5
    said: list[str] = []
    sending = threading.Thread(
        target=send_all, args=(Spool(spool), Receiver("PACS", "127.0.0.1", port), said.append, 60.0)
    )
    sending.start()
    while not said:
        time.sleep(0.05)
    process = storescp(dcmtk, port, tmp_path / "pacs")
    try:
        sending.join(60.0)
        assert uids(tmp_path / "pacs") == uids(objects)
        assert Spool(spool).pending() == []
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
        spool = tmp_path / "spool"
        args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{port}", "--spool", str(spool)]
        assert main(args) == 1
    finally:
        server.shutdown()
    assert "0xC000" in capsys.readouterr().err
    assert len(list((spool / "sent").iterdir())) == 4
    assert [reason for _, reason in Spool(spool).refused()] == ["status 0xC000"]
    assert next(answers, None) is None


def test_a_file_that_is_not_dicom_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_text("no")
    spool = Spool(tmp_path / "spool")
    spool.add(tmp_path / "x.dcm")
    assert send_all(spool, Receiver("A", "127.0.0.1", free_port()), lambda _: None, 0.0)
    assert "not a DICOM file" in spool.refused()[0][1]


@pytest.mark.parametrize(
    "text", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "A" * 17 + "@h:1"]
)
def test_a_wrong_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected AE@host:port"):
        receiver_of(text)
