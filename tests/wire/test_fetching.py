"""``iceball fetch`` against Orthanc, DCMTK's dcmqrscp and a PACS that misbehaves. Loopback.

What is stored and compared is the simulator's: its CT, its RTSTRUCT and its SEG of one patient.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from monitor import certificates
from monitor.cli import main
from monitor.config import ClientTls
from monitor.fetching.asking import FIND, MOVE, FetchError, Series, series_of
from monitor.fetching.fetching import fetch
from monitor.fetching.keeping import NOT_AUTHORIZED
from monitor.intake.folder import volumes_in
from monitor.record.spool import Spool
from monitor.sending import Receiver, send_all
from monitor.workstation import FetchConfig, load_workstation
from scanner_sim.cli import main as simulate
from tests.intake.intake_helpers import ct_dataset
from tests.wire.test_sending import free_port, orthanc

ID = "DEMO-LIVER"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert simulate(["render", "liver_near_vessel", "--scans", "1", "--out", str(folder)]) == 0
    return folder


def files(made: Path) -> list[Path]:
    return [*sorted((made / "scan_000").glob("*.dcm")), made / "rtstruct.dcm", made / "seg.dcm"]


class Room:
    """An Orthanc and the workstation that asks it."""

    def __init__(self, folder: Path, **more: object) -> None:
        self.folder, self.more = folder, dict(more)
        self.dicom, self.http, self.own = free_port(), free_port(), free_port()
        self.known: dict[str, Any] = {"ICEBALL": ["ICEBALL", "127.0.0.1", self.own]}
        self.pacs = folder / "pacs"
        self.pacs.mkdir()

    def running(self) -> Any:
        return orthanc(self.pacs, self.dicom, self.http, DicomModalities=self.known, **self.more)

    def workstation(self, **keys: object) -> Path:
        path = self.folder / "workstation.toml"
        given = {
            "from": f"PACS@127.0.0.1:{self.dicom}",
            "port": self.own,
            "timeout_s": 20.0,
            **keys,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in given.items()]
        path.write_text("[fetch]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    def config(self, **keys: object) -> FetchConfig:
        found = load_workstation(self.workstation(**keys)).fetch
        assert found is not None
        return found

    def stored(self, paths: Sequence[Path]) -> None:
        spool = Spool(self.folder / "spool")
        for path in paths:
            spool.add(path)
        to = Receiver("PACS", "127.0.0.1", self.dicom)
        assert send_all(spool, to, lambda *_: None, 20.0)
        assert spool.refused() == []


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(x) for x in text.splitlines()]


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def pixels(paths: Sequence[Path]) -> dict[str, Any]:
    read = [pydicom.dcmread(p) for p in paths]
    return {str(d.SOPInstanceUID): d.pixel_array for d in read}


def is_slice(path: Path) -> bool:
    return "LOCALIZER" not in pydicom.dcmread(path).ImageType


def series_sizes(made: Path) -> dict[str, int]:
    return dict(Counter(str(pydicom.dcmread(p).SeriesInstanceUID) for p in files(made)))


def planning(listed: Sequence[Series], made: Path) -> list[Series]:
    """Without the scout; not every PACS counts images."""
    sizes = series_sizes(made)
    return [s for s in listed if s.modality != "CT" or sizes[s.series_uid] > 1]


def contours(path: Path) -> list[tuple[int, list[float]]]:
    return [
        (int(roi.ReferencedROINumber), [float(v) for v in c.ContourData])
        for roi in pydicom.dcmread(path).ROIContourSequence
        for c in roi.ContourSequence
    ]


@pytest.mark.requirement("REQ-FETCH")
@pytest.mark.parametrize("method", ["move", "get"])
def test_all_of_it_comes_from_orthanc_as_it_went_in(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    room, to = Room(tmp_path), tmp_path / "plan"
    station = str(room.workstation(method=method))
    with room.running():
        room.stored(files(made))
        asked = ["fetch", "--case", str(made / "case.toml"), "--workstation", station, "--json"]
        assert main(asked) == 0
        listed = lines(capsys.readouterr().out)
        assert {x["series_uid"]: x["instances"] for x in listed} == series_sizes(made)
        assert {x["modality"] for x in listed} == {"CT", "RTSTRUCT", "SEG"}
        # Not the scout, which is a CT of one image.
        wanted = [x for x in listed if x["modality"] != "CT" or x["instances"] > 1]
        assert len(wanted) == 3
        chosen = [word for x in wanted for word in ("--series", x["series_uid"])]
        assert main([*asked, *chosen, "--to", str(to)]) == 0
    came = lines(capsys.readouterr().out)
    assert came[-1]["kind"] == "fetched"
    count = sum(x["instances"] for x in wanted)
    assert {"kind": "progress", "received": count, "of": count} in came
    assert entries(to) == ["ct_1", "rtstruct_1.dcm", "seg_1.dcm"]
    sent = pixels([p for p in (made / "scan_000").glob("*.dcm") if is_slice(p)])
    got = pixels(sorted((to / "ct_1").iterdir()))
    assert sent.keys() == got.keys()
    assert all(np.array_equal(sent[uid], got[uid]) for uid in sent)
    assert contours(to / "rtstruct_1.dcm") == contours(made / "rtstruct.dcm")
    masks = [pydicom.dcmread(p).PixelData for p in (to / "seg_1.dcm", made / "seg.dcm")]
    assert masks[0] == masks[1]
    assert [len(v.hu) for v in volumes_in(to / "ct_1", ID)] == [len(sent)]
    # The case reads it as it read what it was made with, and in the same space.
    shutil.copy(made / "case.toml", to / "case.toml")
    text = (to / "case.toml").read_text(encoding="utf-8").replace("rtstruct.dcm", "rtstruct_1.dcm")
    (to / "case.toml").write_text(text, encoding="utf-8")
    assert main(["check", str(made / "case.toml")]) == 0
    before = capsys.readouterr().out
    assert main(["check", str(to / "case.toml")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == before.splitlines()[1:]
    frames = {x["modality"]: x["frames"] for x in came if x["kind"] == "fetched"}
    assert frames["CT"] == frames["RTSTRUCT"] != []


@pytest.mark.parametrize("method", ["get", "move"])
def test_by_mutual_tls_and_not_without_it(
    made: Path, tmp_path: Path, pki: Path, method: str
) -> None:
    """For a C-MOVE Orthanc calls back by TLS, too, with the certificate that it is called by."""
    tls = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pki / "pacs.pem"),
        "DicomTlsPrivateKey": str(pki / "pacs.key"),
        "DicomTlsTrustedCertificates": str(pki / "ca.pem"),
        "DicomTlsRemoteCertificateRequired": True,
    }
    room = Room(tmp_path, **tls)
    back = {"AET": "ICEBALL", "Host": "127.0.0.1", "Port": room.own, "UseDicomTls": True}
    room.known = {"ICEBALL": back}
    own = ClientTls(pki / "ca.pem", pki / "own.pem", pki / "own.key")
    config = replace(room.config(method=method, timeout_s=10.0), tls=own)
    with room.running():
        spool = Spool(tmp_path / "spool")
        for path in (made / "rtstruct.dcm", made / "seg.dcm"):
            spool.add(path)
        to = Receiver("PACS", "127.0.0.1", room.dicom, tls=own)
        assert send_all(spool, to, lambda *_: None, 20.0)
        placed = fetch(config, ID, series_of(config, ID), tmp_path / "plan")
        with pytest.raises(FetchError) as found:
            series_of(replace(config, tls=None), ID)
    assert found.value.code == "no_connection"
    assert sorted(p.series.modality for p in placed) == ["RTSTRUCT", "SEG"]
    assert contours(tmp_path / "plan" / "rtstruct_1.dcm") == contours(made / "rtstruct.dcm")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs that may both call and be called, of one authority, as a site has them."""
    folder = tmp_path_factory.mktemp("pki")
    begin, until = datetime.now(UTC) - timedelta(minutes=5), datetime.now(UTC) + timedelta(days=1)
    ca_key = certificates._key()
    ca = certificates._certificate("test", begin, until, ca_key, None, ca_key)
    (folder / "ca.pem").write_bytes(certificates._pem(ca))
    for name in ("pacs", "own"):
        key = certificates._key()
        pem = certificates._certificate(name, begin, until, key, ca, ca_key, None, ["127.0.0.1"])
        (folder / f"{name}.pem").write_bytes(certificates._pem(pem))
        (folder / f"{name}.key").write_bytes(certificates._key_pem(key))
    return folder


@pytest.mark.requirement("REQ-FETCH")
@pytest.mark.parametrize("asked", ["DEMO-LIVE", "demo-liver", "SOMEBODY ELSE", "DEMO*", ""])
def test_another_patient_is_not_found(made: Path, tmp_path: Path, asked: str) -> None:
    room = Room(tmp_path)
    with room.running():
        room.stored([made / "rtstruct.dcm"])
        with pytest.raises(FetchError) as found:
            series_of(room.config(), asked)
    assert found.value.code == ("patient_id" if asked in ("DEMO*", "") else "no_patient")
    assert asked == "" or asked not in str(found.value)


def test_a_pacs_that_does_not_know_the_destination(made: Path, tmp_path: Path) -> None:
    room = Room(tmp_path)
    with room.running():
        room.stored([made / "rtstruct.dcm"])
        listed = series_of(room.config(), ID)
    room.known = {"OTHER": ["OTHER", "127.0.0.1", room.own]}
    room.more = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
    with room.running(), pytest.raises(FetchError) as found:
        fetch(room.config(), ID, listed, tmp_path / "plan")
    # Orthanc answers any failure of a C-MOVE's beginning with one status; dcmqrscp below has 0xA801.
    assert found.value.code in ("unknown_destination", "failed")
    assert entries(tmp_path / "plan") == []


@contextmanager
def dcmqrscp(folder: Path, port: int) -> Iterator[None]:
    path = shutil.which("dcmqrscp")
    if path is None:
        pytest.skip("DCMTK is not installed: apt-get install dcmtk")
    (folder / "db").mkdir(parents=True)
    (folder / "qr.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {folder / 'db'} RW (200, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([path, "-c", str(folder / "qr.cfg")], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(10.0)


def test_dcmqrscp_says_that_the_destination_is_unknown_and_gives_by_get(
    made: Path, tmp_path: Path
) -> None:
    room = Room(tmp_path)
    with dcmqrscp(tmp_path / "dcmtk", room.dicom):
        room.stored(files(made))
        listed = planning(series_of(room.config(), ID), made)
        assert {s.modality for s in listed} == {"CT", "RTSTRUCT", "SEG"}
        with pytest.raises(FetchError) as found:
            fetch(room.config(), ID, listed, tmp_path / "plan")
        assert found.value.code == "unknown_destination"
        assert entries(tmp_path / "plan") == []
        placed = fetch(room.config(method="get"), ID, listed, tmp_path / "plan")
    assert entries(tmp_path / "plan") == ["ct_1", "rtstruct_1.dcm", "seg_1.dcm"]
    assert len({frame for p in placed for frame in p.frames}) == 1


def test_a_pacs_that_stops_midway_leaves_nothing(made: Path, tmp_path: Path) -> None:
    room = Room(tmp_path)
    with room.running():
        room.stored(files(made))
        listed = planning(series_of(room.config(), ID), made)

    def stop_it(received: int, of: int | None) -> None:
        if received >= 5:
            stopping.set()

    stopping = threading.Event()
    with room.running() as pacs:

        def die() -> None:
            stopping.wait(60.0)
            pacs.kill()

        threading.Thread(target=die, daemon=True).start()
        with pytest.raises(FetchError) as found:
            fetch(room.config(timeout_s=5.0), ID, listed, tmp_path / "plan", stop_it)
    assert stopping.is_set()
    assert found.value.code in ("no_answer", "timed_out")
    assert entries(tmp_path / "plan") == []
    with room.running():  # and it is all there when it is back
        fetch(room.config(), ID, listed, tmp_path / "plan")
    assert entries(tmp_path / "plan") == ["ct_1", "rtstruct_1.dcm", "seg_1.dcm"]


# ------------------------------------------------------------------ a PACS that misbehaves


class Wicked:
    """A PACS that sends what it likes to whoever asks it to move: real associations by pynetdicom."""

    def __init__(
        self, answers: Sequence[Dataset], send: Sequence[Dataset], wait_s: float = 0.0
    ) -> None:
        self.answers, self.send, self.wait_s = answers, send, wait_s
        self.statuses: list[int] = []
        self.to = 0
        self.titles = ("PACS", "ICEBALL")
        self.fails = False  # at the end: 0xC514, else that it does not know the destination

    def find(self, event: Any) -> Iterator[Any]:
        level = event.identifier.QueryRetrieveLevel
        for answer in self.answers:
            if answer.QueryRetrieveLevel == level:
                yield 0xFF00, answer

    def push(self) -> None:
        ae = AE(ae_title=self.titles[0])
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.to, ae_title=self.titles[1])
        if not association.is_established:
            self.statuses.append(-1)
            return
        for d in self.send:
            self.statuses.append(int(association.send_c_store(d).get("Status", -1)))
        association.release()

    @contextmanager
    def serving(self) -> Iterator[int]:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(FIND)
        ae.add_supported_context(MOVE)

        def move(event: Any) -> Iterator[Any]:
            time.sleep(self.wait_s)
            self.push()
            if self.fails:
                raise RuntimeError
            yield None, None

        server = ae.start_server(
            ("127.0.0.1", 0), block=False,
            evt_handlers=[(evt.EVT_C_FIND, self.find), (evt.EVT_C_MOVE, move)],
        )  # fmt: skip
        try:
            yield int(server.socket.getsockname()[1])
        finally:
            server.shutdown()


def image(number: int, patient: str, study: str, series: str) -> Dataset:
    d = ct_dataset(number)
    d.PatientID, d.StudyInstanceUID, d.SeriesInstanceUID = patient, study, series
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return d


def asked_series() -> Series:
    return Series(generate_uid(), generate_uid(), "CT", "20260101", "plan", 3)


def config_for(port: int, timeout_s: float = 5.0) -> FetchConfig:
    return FetchConfig(
        "PACS", "127.0.0.1", port, "ICEBALL", "move", "127.0.0.1", free_port(), timeout_s
    )


@pytest.mark.requirement("REQ-FETCH")
def test_what_was_not_asked_for_is_refused_on_the_wire_and_not_kept(tmp_path: Path) -> None:
    wanted = asked_series()
    own = (wanted.study_uid, wanted.series_uid)
    pacs = Wicked((), [
        image(0, ID, *own),
        image(1, "SOMEBODY", *own),
        image(2, ID, generate_uid(), wanted.series_uid),
        image(3, ID, wanted.study_uid, generate_uid()),
    ])  # fmt: skip
    with pacs.serving() as port:
        config = config_for(port)
        pacs.to = config.receive_port
        with pytest.raises(FetchError) as found:
            fetch(config, ID, [wanted], tmp_path / "plan")
    assert pacs.statuses == [0, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED]
    assert entries(tmp_path / "plan") == []
    assert "SOMEBODY" not in str(found.value)
    with socket.socket() as s:  # and nobody listens any more
        assert s.connect_ex(("127.0.0.1", config.receive_port)) != 0


@pytest.mark.requirement("REQ-FETCH")
def test_why_an_image_was_refused_here_is_said_when_the_pacs_only_says_that_it_failed(
    tmp_path: Path,
) -> None:
    wanted = asked_series()
    pacs = Wicked((), [image(1, "SOMEBODY", wanted.study_uid, wanted.series_uid)])
    pacs.fails = True
    with pacs.serving() as port:
        config = config_for(port)
        pacs.to = config.receive_port
        with pytest.raises(FetchError, match="1 other patient") as found:
            fetch(config, ID, [wanted], tmp_path / "plan")
        pacs.send = []
        with pytest.raises(FetchError, match="0xC514"):
            fetch(config, ID, [wanted], tmp_path / "plan")
    assert found.value.code == "partial"
    assert entries(tmp_path / "plan") == []


def test_answers_about_another_patient_are_not_listed() -> None:
    study, other = Dataset(), Dataset()
    for d, whose in ((study, "SOMEBODY"), (other, "DEMO-LIVER-2")):
        d.QueryRetrieveLevel, d.PatientID, d.StudyInstanceUID = "STUDY", whose, generate_uid()
    with Wicked((study, other), ()).serving() as port, pytest.raises(FetchError) as found:
        series_of(config_for(port), ID)
    assert found.value.code == "no_patient"


def test_called_by_another_title_nobody_is_let_in(tmp_path: Path) -> None:
    wanted = asked_series()
    pacs = Wicked((), [image(0, ID, wanted.study_uid, wanted.series_uid)])
    pacs.titles = ("PACS", "OTHER")
    with pacs.serving() as port:
        config = config_for(port)
        pacs.to = config.receive_port
        with pytest.raises(FetchError):
            fetch(config, ID, [wanted], tmp_path / "plan")
    assert pacs.statuses == [-1]


def test_from_another_address_nobody_is_let_in(tmp_path: Path) -> None:
    """The PACS is said to be at 127.0.0.2; who comes is at 127.0.0.1, and is cut off before it speaks."""
    wanted = asked_series()
    pacs = Wicked((), [image(0, ID, wanted.study_uid, wanted.series_uid)])
    ae = AE(ae_title="PACS")
    ae.add_supported_context(MOVE)

    def move(event: Any) -> Iterator[Any]:
        pacs.push()
        yield None, None

    server = ae.start_server(("127.0.0.2", 0), block=False, evt_handlers=[(evt.EVT_C_MOVE, move)])
    try:
        config = replace(config_for(server.socket.getsockname()[1]), host="127.0.0.2")
        pacs.to = config.receive_port
        with pytest.raises(FetchError):
            fetch(config, ID, [wanted], tmp_path / "plan")
    finally:
        server.shutdown()
    assert pacs.statuses == [-1]
    assert entries(tmp_path / "plan") == []


def test_a_silent_pacs_is_given_up_and_so_is_what_is_cancelled(tmp_path: Path) -> None:
    wanted, stop = asked_series(), threading.Event()
    with Wicked((), (), wait_s=8.0).serving() as port:
        began = time.monotonic()
        with pytest.raises(FetchError) as found:
            fetch(config_for(port, 1.0), ID, [wanted], tmp_path / "plan")
        assert found.value.code == "timed_out"
        assert time.monotonic() - began < 6.0
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        with pytest.raises(FetchError) as found:
            fetch(config_for(port, 60.0), ID, [wanted], tmp_path / "plan", stop=stop)
        assert found.value.code == "cancelled"
        assert time.monotonic() - began < 6.0
    assert entries(tmp_path / "plan") == []


def test_a_second_fetch_takes_each_instance_once_and_files_are_named_as_the_case_would(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    room, to = Room(tmp_path), tmp_path / "plan"
    station = str(room.workstation(method="get"))
    case = tmp_path / "elsewhere" / "case.toml"
    shutil.copytree(made, case.parent, ignore=lambda *_: ["scan_000"])
    slices = [p for p in files(made) if p.parent != made and is_slice(p)]
    with room.running():
        room.stored([*slices[:5], made / "rtstruct.dcm", made / "seg.dcm"])
        given = ["fetch", "--workstation", station, "--to", "plan"]
        assert main([*given, "--case", "elsewhere/case.toml"]) == 0
        once = capsys.readouterr().out
        assert 'file = "../plan/rtstruct_1.dcm", roi = ' in once
        assert "there already" not in once
        first = {p: p.read_bytes() for p in to.rglob("*.dcm")}
        assert main([*given, "--patient", ID]) == 0
        again = capsys.readouterr().out
        assert f'file = "{to}/rtstruct_1.dcm", roi = ' in again
        assert again.count(", which was there already") == 3
        assert {p: p.read_bytes() for p in to.rglob("*.dcm")} == first
        room.stored(slices[5:6])
        assert main([*given, "--patient", ID]) == 0
    assert capsys.readouterr().out.count(", which was there already") == 2
    assert entries(to) == ["ct_1", "ct_2", "rtstruct_1.dcm", "seg_1.dcm"]
    assert [len(entries(to / n)) for n in ("ct_1", "ct_2")] == [5, 6]


def test_which_title_a_pacs_does_not_know_is_told(tmp_path: Path) -> None:
    def serving(**required: Any) -> tuple[Any, FetchConfig]:
        ae = AE(ae_title="PACS")
        for name, value in required.items():
            setattr(ae, name, value)
        ae.add_supported_context(FIND)
        server = ae.start_server(("127.0.0.1", 0), block=False)
        return server, config_for(server.socket.getsockname()[1])

    for required, asked, code, said in (
        ({"require_called_aet": True}, "STRANGER", "called_title", "is not called STRANGER"),
        ({"require_calling_aet": ["OTHER"]}, "PACS", "rejected", "does not know ICEBALL"),
    ):
        server, config = serving(**required)
        try:
            with pytest.raises(FetchError) as found:
                series_of(replace(config, ae_title=asked), ID)
        finally:
            server.shutdown()
        assert (found.value.code, said in str(found.value)) == (code, True)


def test_no_pacs_a_refusal_and_a_taken_port_are_told_apart(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as found:
        series_of(config_for(free_port()), ID)
    assert found.value.code == "no_connection"
    with pytest.raises(FetchError, match=r"PACS@no\.such\.host\.invalid") as found:
        series_of(replace(config_for(104), host="no.such.host.invalid"), ID)
    assert found.value.code == "no_connection"
    room = Room(tmp_path)
    with room.running():
        room.stored([made / "rtstruct.dcm"])
        with pytest.raises(FetchError) as found:
            series_of(room.config(ae_title="STRANGER"), ID)
        assert found.value.code in ("rejected", "no_answer")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", room.own))
            taken.listen()
            with pytest.raises(FetchError) as found:
                fetch(room.config(), ID, series_of(room.config(), ID), tmp_path / "plan")
    assert found.value.code == "cannot_listen"


def test_without_a_pacs_in_the_file_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.toml").write_text("", encoding="utf-8")
    assert main(["fetch", "--patient", ID, "--workstation", str(tmp_path / "w.toml")]) == 2
    assert "no [fetch]" in capsys.readouterr().err
    (tmp_path / "w.toml").write_text('[fetch]\nfrom = "PACS"\nmethod = "push"\n', encoding="utf-8")
    assert main(["fetch", "--patient", ID, "--workstation", str(tmp_path / "w.toml")]) == 2
    said = capsys.readouterr().err
    assert "fetch.from: expected" in said
    assert "fetch.method: expected one of move, get" in said
