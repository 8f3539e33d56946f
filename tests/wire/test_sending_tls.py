"""Sending by TLS to peers that are not ours: DCMTK's storescp and Orthanc. What is wrong is said in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.certificates import make_certificates
from monitor.cli import main
from monitor.config import ClientTls
from monitor.record.spool import Spool
from monitor.sending import Receiver, Trouble, send_all
from tests.wire.test_sending import free_port, held, objects, orthanc, storescp, uids

__all__ = ["objects"]  # a fixture


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_certificates(folder, ["127.0.0.1"])
    return folder


@contextmanager
def listening(dcmtk: dict[str, str], folder: Path, out: Path, *options: str) -> Iterator[int]:
    """A storescp that asks for a client's certificate, in BCP 195's profile."""
    port = free_port()
    process = storescp(
        dcmtk, port, out, "+tls", str(folder / "listener.key"), str(folder / "listener.pem"),
        "+cf", str(folder / "ca.pem"), *options,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10.0)


def mutual(pki: Path, **changed: object) -> ClientTls:
    given = {"ca": pki / "ca.pem", "certificate": pki / "scanner.pem", "key": pki / "scanner.key"}
    return ClientTls(**{**given, **changed})  # type: ignore[arg-type]


def troubles(spool: Spool, port: int, tls: ClientTls | None) -> list[Trouble]:
    said: list[Trouble] = []
    to = Receiver("PACS", "127.0.0.1", port, tls=tls)
    assert not send_all(spool, to, lambda t, *_: said.append(t), 0.5)
    assert said
    return said


def spooled(objects: Path, tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    for path in objects.iterdir():
        spool.add(path)
    return spool


@pytest.mark.parametrize("profile", [(), ("+py",)])
def test_dcmtk_takes_all_by_mutual_tls(
    dcmtk: dict[str, str], pki: Path, objects: Path, tmp_path: Path, profile: tuple[str, ...]
) -> None:
    with listening(dcmtk, pki, tmp_path / "pacs", *profile) as port:
        args = ["send", str(objects), "--to", f"PACS@127.0.0.1:{port}", "--spool", str(tmp_path / "s"),
                "--tls-ca", str(pki / "ca.pem"), "--tls-certificate", str(pki / "scanner.pem"),
                "--tls-key", str(pki / "scanner.key"), "--give-up-after", "20"]  # fmt: skip
        assert main(args) == 0
    assert uids(tmp_path / "pacs") == uids(objects)


def test_orthanc_takes_all_by_mutual_tls(pki: Path, objects: Path, tmp_path: Path) -> None:
    dicom_port, http_port = free_port(), free_port()
    tls = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pki / "listener.pem"),
        "DicomTlsPrivateKey": str(pki / "listener.key"),
        "DicomTlsTrustedCertificates": str(pki / "ca.pem"),
        "DicomTlsRemoteCertificateRequired": True,
    }
    spool = spooled(objects, tmp_path)
    with orthanc(tmp_path, dicom_port, http_port, **tls):
        to = Receiver("PACS", "127.0.0.1", dicom_port, tls=mutual(pki))
        assert send_all(spool, to, lambda *_: None, 20.0)
        assert held(http_port) == 5
        (tmp_path / "again").mkdir()
        troubles(spooled(objects, tmp_path / "again"), dicom_port, None)  # not without it
        assert held(http_port) == 5


def test_what_is_wrong_with_certificates_is_said(
    dcmtk: dict[str, str], pki: Path, objects: Path, tmp_path: Path
) -> None:
    spool, others = spooled(objects, tmp_path), tmp_path / "others"
    make_certificates(others, ["127.0.0.1"])
    with listening(dcmtk, pki, tmp_path / "pacs") as port:
        for tls, said in (
            (mutual(pki, ca=others / "ca.pem"), "the peer's certificate is not accepted"),
            (mutual(pki, host="pacs.example"), "Hostname mismatch"),
            (mutual(pki, certificate=None, key=None), "certificate"),
            (mutual(others, ca=pki / "ca.pem"), "does not trust this side's certificate"),
            (mutual(pki, key=others / "scanner.key"), "does not match the certificate"),
            (mutual(pki, ca=tmp_path / "none.pem"), "none.pem: No such file"),
        ):
            found = troubles(spool, port, tls)[0]
            assert found.code == "tls"
            assert said in found.text, found
    assert list((tmp_path / "pacs").iterdir()) == []
    assert len(spool.pending()) == 5


def test_a_receiver_without_tls_is_told_from_one_that_is_away(
    dcmtk: dict[str, str], pki: Path, objects: Path, tmp_path: Path
) -> None:
    spool, port = spooled(objects, tmp_path), free_port()
    process = storescp(dcmtk, port, tmp_path / "pacs")
    try:
        found = troubles(spool, port, mutual(pki))[0]
        assert found.code == "tls"
    finally:
        process.terminate()
        process.wait(10.0)
    assert troubles(spool, free_port(), mutual(pki))[0].code == "no_connection"


def test_an_expired_certificate_is_an_error_before_anything_is_sent(
    pki: Path, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    make_certificates(old, ["127.0.0.1"], 1.0, datetime.now(UTC) - timedelta(days=9))
    args = ["send", str(objects), "--to", "PACS@127.0.0.1:1", "--spool", str(tmp_path / "s"),
            "--tls-ca", str(pki / "ca.pem"), "--tls-certificate", str(old / "scanner.pem")]  # fmt: skip
    began = time.monotonic()
    assert main([*args, "--tls-key", str(old / "scanner.key")]) == 2
    assert "--tls.certificate" in (said := capsys.readouterr().err)
    assert "expired on" in said
    assert main(args) == 2
    assert "belong together" in capsys.readouterr().err
    assert time.monotonic() - began < 30.0
