"""The listener process on loopback: who is let in, what is kept, what a bad peer can do."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from monitor.config import ListenerConfig, Peer
from monitor.intake.messages import LetIn, ListenerFailed, Refused
from monitor.intake.ports import ListenError, check_port
from monitor.intake.wire import Closed, Connection, Limits
from monitor.model import AssociationEnded, Instance
from monitor.rejection import rejected
from tests.intake.intake_helpers import Running, ct_dataset, listening


def associate(
    running: Running,
    title: str = "SCANNER",
    called: str = "ICEBALL",
    syntax: str = ExplicitVRLittleEndian,
):
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(CTImageStorage, syntax)
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", running.port, ae_title=called)


def send(running: Running, *datasets) -> list[int]:
    association = associate(running)
    assert association.is_established
    statuses = [association.send_c_store(d).Status for d in datasets]
    association.release()
    return statuses


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_an_instance_is_kept_whole_before_it_is_acknowledged(tmp_path: Path) -> None:
    with listening(tmp_path) as running:
        association = associate(running)
        dataset = ct_dataset()
        assert association.send_c_store(dataset).Status == 0x0000
        files = list((tmp_path / "blobs").iterdir())
        association.release()
        (received,) = running.instances(1)
        (ended,) = running.of(AssociationEnded)
    assert [f.name for f in files] == [f"{received.sha256}.dcm"]
    content = (tmp_path / received.path).read_bytes()
    assert content[:132] == b"\0" * 128 + b"DICM"
    assert hashlib.sha256(content).hexdigest() == received.sha256
    assert dcmread(tmp_path / received.path).PixelData == dataset.PixelData
    assert received.sop_instance_uid == dataset.SOPInstanceUID
    assert (ended.association_id, ended.stored, ended.aborted) == (
        received.association_id,
        1,
        False,
    )


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_full_queue_is_told_to_the_sender_and_nothing_is_lost(tmp_path: Path) -> None:
    datasets = [ct_dataset(k) for k in range(60)]  # the pipe itself holds some, too
    with listening(tmp_path, size=2, limits=Limits(queue_s=0.005)) as running:
        statuses = send(running, *datasets)
        taken = statuses.count(0x0000)
        assert 2 <= taken < len(datasets)
        assert statuses == [0x0000] * taken + [0xA700] * (len(datasets) - taken)
        running.instances(taken, ended=0)
        for count, dataset in enumerate(datasets[taken : taken + 3], taken + 1):
            assert send(running, dataset) == [0x0000]
            running.instances(count, ended=0)
        received = {i.sop_instance_uid for i in running.of(Instance)}
    assert received == {d.SOPInstanceUID for d in datasets[: taken + 3]}


@pytest.mark.requirement("REQ-RESUME")
def test_the_port_of_a_program_that_was_killed_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        config = ListenerConfig("ICEBALL", "127.0.0.1", held.getsockname()[1], ())
        with pytest.raises(ListenError, match="in use"):
            check_port(config)
        with pytest.raises(ListenError, match="in use"):
            check_port(config, 0.2)
        threading.Timer(0.5, held.close).start()
        check_port(config, 20.0)


def test_all_threads_of_the_process_go_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was left behind core and view would hold the interpreter while the scanner waits."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # NumPy's own, which do not hold it
    with listening(tmp_path) as running:
        association = associate(running)  # while it lasts it has a thread, too
        threads = list(Path(f"/proc/{running.process.pid}/task").iterdir())
        nice = [os.getpriority(os.PRIO_PROCESS, int(t.name)) for t in threads]
        association.release()
    assert len(nice) >= 4  # main, accept, outbox, talk
    assert len(set(nice)) == 1


def test_pdus_come_out_whole_however_they_are_cut() -> None:
    rng = random.Random(7)
    sizes = [0, 1, 16_000, 300_000, *(rng.randrange(40_000) for _ in range(60))]
    bodies = [rng.randbytes(size) for size in sizes]
    sent = b"".join(struct.pack(">BxL", 4, len(b)) + b for b in bodies)
    ours, theirs = socket.socketpair()

    def dribble() -> None:
        at = 0
        while at < len(sent):
            count = rng.choice((1, 5, 6, 7, 1000, 50_000, 400_000))
            theirs.sendall(sent[at : at + count])
            at += count
        theirs.close()

    sender = threading.Thread(target=dribble)
    sender.start()
    connection = Connection(ours, Limits())
    for body in bodies:
        kind, came = connection.pdu(20.0, 2**20)
        assert (kind, bytes(came)) == (4, body)
    with pytest.raises(Closed) as closed:
        connection.pdu(20.0, 2**20)
    assert not closed.value.inside
    sender.join()
    ours.close()


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_disk_error_is_told_to_the_sender(tmp_path: Path) -> None:
    with listening(tmp_path) as running:
        (tmp_path / "blobs").rename(tmp_path / "gone")
        assert send(running, ct_dataset()) == [0xA700]
        (tmp_path / "gone").rename(tmp_path / "blobs")
        assert send(running, ct_dataset()) == [0x0000]
        running.instances(1)
    assert "cannot keep" in running.of(Refused)[0].reason


@pytest.mark.requirement("REQ-HOSTILE-FILES")
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_identifiers_never_become_paths(tmp_path: Path) -> None:
    dataset = ct_dataset()
    dataset.SOPInstanceUID = "../../../tmp/evil"
    before = {p for p in tmp_path.parent.rglob("*") if "evil" in p.name}
    with listening(tmp_path) as running:
        association = associate(running)
        association.send_c_store(dataset)
        association.release()
        (received,) = running.instances(1)
    assert received.path == f"blobs/{received.sha256}.dcm"
    assert {p for p in tmp_path.parent.rglob("*") if "evil" in p.name} == before
    assert not Path("/tmp/evil").exists()


@pytest.mark.requirement("REQ-FLOOD")
def test_too_large_an_instance_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    with listening(tmp_path, limits=Limits(instance_bytes=100_000)) as running:
        large, small = ct_dataset(0, rows=512, columns=128), ct_dataset(1)
        assert send(running, large, small) == [0xC000, 0x0000]
        running.instances(1)
    assert "bytes" in running.of(Refused)[0].reason


@pytest.mark.requirement("REQ-FLOOD")
def test_a_message_without_end_is_cut_off(tmp_path: Path) -> None:
    with listening(tmp_path, limits=Limits(instance_bytes=150_000)) as running:
        association = associate(running)
        answer = association.send_c_store(ct_dataset(0, rows=1024, columns=512))
        assert "Status" not in answer
        running.wait(lambda m: any(isinstance(x, Refused) for x in m))
        assert send(running, ct_dataset(1)) == [0x0000]


def test_deflated_images_are_refused(tmp_path: Path) -> None:
    with listening(tmp_path) as running:
        association = associate(running, syntax=DeflatedExplicitVRLittleEndian)
        assert [c.abstract_syntax for c in association.accepted_contexts] == [Verification]
        association.release()


# ------------------------------------------------------------------ who may talk


@pytest.mark.requirement("REQ-PEERS")
def test_unknown_titles_are_rejected_and_named(tmp_path: Path) -> None:
    with listening(tmp_path, peers=(Peer("SCANNER", "127.0.0.1"),)) as running:
        assert rejected(associate(running, title="STRANGER"))
        assert rejected(associate(running, called="OTHER"))
        known = associate(running)
        assert known.is_established
        assert known.send_c_echo().Status == 0x0000
        known.release()
        running.wait(lambda m: sum(isinstance(x, Refused) for x in m) >= 2)
    told = [(m.peer, m.reason, m.code) for m in running.of(Refused)]
    assert told == [
        ("STRANGER@127.0.0.1", "peer not in listener.allowed_peers", "peer_calling_title"),
        ("SCANNER@127.0.0.1", "called 'OTHER'", "peer_called_title"),
    ]


@pytest.mark.requirement("REQ-TURNED-AWAY")
def test_who_may_only_ask_whether_somebody_is_in_and_wanted_to_store_did_not_get_in(
    tmp_path: Path,
) -> None:
    with listening(tmp_path) as running:
        ae = AE(ae_title="SCANNER")
        ae.add_requested_context(Verification)
        ae.add_requested_context(MRImageStorage)
        ae.associate("127.0.0.1", running.port, ae_title="ICEBALL").release()
        running.wait(lambda m: any(isinstance(x, Refused) for x in m))
        (told,) = running.of(Refused)
        assert (told.shut_out, "MR Image Storage" in told.reason) == ("peer_nothing_taken", True)
        assert running.of(LetIn) == []
        associate(running).release()  # CT
        running.wait(lambda m: any(isinstance(x, LetIn) for x in m))


def test_a_rejection_is_known_however_fast_it_comes(tmp_path: Path) -> None:
    """The listener answers within the moment in which pynetdicom is not looking, one time in three."""
    with listening(tmp_path) as running:
        assert [rejected(associate(running, called="OTHER")) for _ in range(40)] == [True] * 40
        known = associate(running)
        assert known.is_established
        assert not rejected(known)
        known.release()
    assert not rejected(associate(running))  # nobody is there any more


@pytest.mark.requirement("REQ-PEERS")
def test_unknown_addresses_are_cut_off_before_they_say_anything(tmp_path: Path) -> None:
    with listening(tmp_path, peers=(Peer("*", "192.0.2.1"),)) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as stranger:
            assert stranger.recv(1) == b""
        running.wait(lambda m: any(isinstance(x, Refused) for x in m))
    assert running.of(Refused)[0].peer == "127.0.0.1"


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listening(tmp_path, port=port) as running:
            running.process.join(10)
            assert running.process.exitcode == 2
    (failed,) = running.of(ListenerFailed)
    assert f"127.0.0.1:{port}" in failed.error
    assert "in use" in failed.error


# ------------------------------------------------------------------ half-open talk

_HALF = {
    "silent": b"",
    "half a header": b"\x01\x00\x00",
    "half an A-ASSOCIATE": b"\x01\x00" + struct.pack(">L", 200) + b"\x00\x01",
    "4 GiB announced": b"\x01\x00\xff\xff\xff\xff" + b"\x00" * 64,
    "not DICOM": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(hello_s=0.5, pdu_s=0.5, hellos=4)
    with listening(tmp_path_factory.mktemp("impatient"), limits=limits) as running:
        yield running


@pytest.mark.requirement("REQ-FLOOD")
@pytest.mark.parametrize("said", _HALF.values(), ids=_HALF.keys())
def test_half_open_connections_are_closed(impatient: Running, said: bytes) -> None:
    peers = [socket.create_connection(("127.0.0.1", impatient.port)) for _ in range(4)]
    for peer in peers:
        peer.settimeout(5)
        peer.sendall(said)
    for peer in peers:
        _wait_closed(peer)
    _wait_until_served(impatient)


def test_a_peer_that_stops_inside_its_data_is_closed_and_its_association_reported(
    tmp_path: Path,
) -> None:
    with listening(tmp_path, limits=Limits(pdu_s=0.5)) as running:
        association = associate(running)
        association.send_c_store(ct_dataset())
        association.dul.socket.socket.sendall(b"\x04\x00" + struct.pack(">L", 5000) + b"\x00" * 10)
        running.instances(1)
        (ended,) = running.of(AssociationEnded)
        association.abort()
    assert ended.aborted
    assert ended.stored == 1


@pytest.mark.requirement("REQ-FLOOD")
def test_a_crowd_from_one_address_does_not_lock_the_listener(tmp_path: Path) -> None:
    with listening(tmp_path, limits=Limits(hello_s=5.0, hellos=5)) as running:
        crowd = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
        running.wait(lambda m: any(isinstance(x, Refused) for x in m))
        _wait_until_served(running)
        for peer in crowd:
            peer.close()


def _wait_closed(peer: socket.socket) -> None:
    try:
        while peer.recv(4096):  # an A-ABORT may come first
            pass
    except ConnectionResetError:
        pass
    peer.close()


def _wait_until_served(running: Running, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while True:
        association = associate(running)
        if association.is_established:
            assert association.send_c_echo().Status == 0x0000
            association.release()
            return
        assert time.monotonic() < end, "locked out"
        time.sleep(0.1)


def test_echoscu_is_answered(tmp_path: Path, dcmtk: dict[str, str]) -> None:
    with listening(tmp_path) as running:
        command = [dcmtk["echoscu"], "-aec", "ICEBALL", "127.0.0.1", str(running.port)]
        assert subprocess.run(command, check=False, timeout=20).returncode == 0
