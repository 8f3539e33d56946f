"""Every fault is seen by a real receiver on loopback, as what it is and nothing more. Seconds."""

from __future__ import annotations

import logging
import ssl
import subprocess
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from scanner_sim.scenario import ScenarioError
from scanner_sim.wire import faults, push
from scanner_sim.wire.faults import KINDS, Fault, parse
from scanner_sim.wire.push import Clock, Pace, PushError, Target, Tls, deliver, play
from scanner_sim.wire.steps import AbortIn, Absence, Silence, Store
from tests.scanner_sim.samples import Receiver, acquisition, fluoro, writer

FAST = Pace(slices_per_s=1000.0)


class Scans:
    """As many small scans as asked for, all ready at once."""

    def __init__(self, count: int = 1, slices: int = 12, syntax: str = "explicit") -> None:
        self.ready_times_s = [0.0] * count
        self._scans = [
            list(writer(syntax=syntax).slices(acquisition(n, slices))) for n in range(count)
        ]

    def datasets(self, number: int) -> list[Dataset]:
        return self._scans[number]

    def uids(self, number: int = 0) -> list[str]:
        return [str(d.SOPInstanceUID) for d in self._scans[number]]


def played(
    receiver: Receiver, scans: Scans, *asked: Fault, pace: Pace = FAST, **target: object
) -> list[str]:
    """Plays to the receiver; returns what the simulator said."""
    said: list[str] = []
    clock = Clock(time.time(), 1.0)
    play(
        scans,
        Target("RX", "127.0.0.1", receiver.port, **target),
        clock,
        clock.now_utc_s(),
        said.append,
        pace,
        asked,
    )
    return said


def one(name: str, seconds: float | None = None) -> Fault:
    fault = parse(f"{name}:0")
    return fault if seconds is None else replace(fault, seconds=seconds)


# ------------------------------------------------------------------ without a fault


def test_a_scan_without_faults_comes_once_in_order_and_unchanged() -> None:
    scans = Scans(2)
    with Receiver() as rx:
        said = played(rx, scans)
    assert rx.uids == scans.uids(0) + scans.uids(1)
    assert [d.PixelData for d in rx.stored] == [d.PixelData for d in scans.datasets(0)] + [
        d.PixelData for d in scans.datasets(1)
    ]
    assert [s.call for s in rx.kinds("released")] == [0, 1]
    assert not rx.kinds("aborted")
    assert said == ["scan 0 at 0 s: 12 slices sent", "scan 1 at 0 s: 12 slices sent"]


def test_images_come_at_the_pace_of_the_reconstruction() -> None:
    with Receiver() as rx:
        played(rx, Scans(slices=6), pace=Pace(slices_per_s=20.0))
    gaps = np.diff([s.at_s for s in rx.kinds("stored")])
    assert 0.2 < gaps.sum() < 1.0
    assert gaps.sum() == pytest.approx(0.25, abs=0.15)


def test_order_is_by_instance_number_within_each_series() -> None:
    datasets = list(writer().slices(acquisition(slices=6, kernels=("soft", "sharp"))))

    def numbers(pace: Pace) -> list[int]:
        return [int(d.InstanceNumber) for d in pace.ordered(datasets, 1)]

    up = [1, 2, 3, 4, 5, 6]
    assert numbers(Pace()) == up * 2
    assert numbers(Pace(order="descending")) == up[::-1] * 2
    shuffled = numbers(Pace(order="shuffled", seed=3))
    assert sorted(shuffled[:6]) == up != shuffled[:6]
    assert shuffled == numbers(Pace(order="shuffled", seed=3)) != numbers(Pace(order="shuffled"))


@pytest.mark.parametrize(("per_image", "calls"), [(False, 2), (True, 8)])
def test_an_association_for_each_series_or_image(per_image: bool, calls: int) -> None:
    datasets = list(writer().slices(acquisition(slices=4, kernels=("soft", "sharp"))))
    with Receiver() as rx:
        deliver(datasets, Target("RX", "127.0.0.1", rx.port, per_image=per_image))
    assert len(rx.kinds("requested")) == len(rx.kinds("released")) == calls
    assert len(rx.stored) == 8


@pytest.mark.parametrize("per_image", [False, True])
def test_what_is_refused_for_now_is_sent_again(per_image: bool) -> None:
    scans = Scans()
    with Receiver(refuse=5) as rx:
        target = Target("RX", "127.0.0.1", rx.port, per_image=per_image)
        assert deliver(scans.datasets(0), target).taken == 12
    assert sorted(rx.uids) == sorted(scans.uids())


def test_what_is_refused_for_good_ends_the_push_and_is_not_sent_again() -> None:
    with (
        Receiver(status=0xC000) as rx,
        pytest.raises(PushError, match=r"scan 0: RX@127.*instance 1 was refused: status 0xC000"),
    ):
        played(rx, Scans(slices=3))
    assert len(rx.stored) == 3


def test_nobody_listening_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_RETRIES_S", (0.01,))
    with pytest.raises(PushError, match=r"2 of 2 slices .* RX@127\.0\.0\.1:1: no connection"):
        deliver(Scans(slices=2).datasets(0), Target("RX", "127.0.0.1", 1))


@pytest.mark.parametrize("syntax", ["implicit", "rle", "jpegls", "jpeg2000"])
def test_a_syntax_is_proposed_and_used(syntax: str) -> None:
    scans = Scans(slices=3, syntax=syntax)
    with Receiver() as rx:
        played(rx, scans)
    sent = scans.datasets(0)
    assert {d.file_meta.TransferSyntaxUID for d in rx.stored} == {
        sent[0].file_meta.TransferSyntaxUID
    }
    assert (rx.stored[0].pixel_array == sent[0].pixel_array).all()


def test_a_receiver_without_the_codec_gets_it_uncompressed() -> None:
    scans, plain = Scans(slices=2, syntax="jpegls"), Scans(slices=2)
    with Receiver(syntaxes=(ExplicitVRLittleEndian, "1.2.840.10008.1.2")) as rx:
        played(rx, scans)
    assert [d.PixelData for d in rx.stored] == [d.PixelData for d in plain.datasets(0)]
    assert rx.uids == scans.uids()


# ------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a receiver (127.0.0.1) and a scanner it vouches for, and a stranger."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    try:
        for name in ("ca", "stranger"):
            openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
        for name in ("receiver", "scanner"):
            openssl(
                *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                "-addext", "subjectAltName=IP:127.0.0.1", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-addext", "basicConstraints=critical,CA:FALSE",
            )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed: no certificates for TLS")
    return folder


def test_tls_with_certificates_on_both_ends(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "receiver.pem", certificates / "receiver.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    tls = Tls(certificates / "ca.pem", certificates / "scanner.pem", certificates / "scanner.key")
    with Receiver(tls=context) as rx:
        played(rx, Scans(slices=3), tls=tls)
        assert len(rx.stored) == 3
    assert tls.context().minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("ca", ["stranger.pem", "missing.pem"])
def test_a_receiver_that_cannot_be_verified_gets_nothing(
    certificates: Path, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_RETRIES_S", (0.01,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "receiver.pem", certificates / "receiver.key")
    with (
        Receiver(tls=context) as rx,
        pytest.raises(PushError, match=r"certificate|TLS with .*missing\.pem"),
    ):
        played(rx, Scans(slices=2), tls=Tls(certificates / ca))
    assert not rx.stored


# ------------------------------------------------------------------ parsing and choosing


def test_when_a_fault_strikes() -> None:
    assert parse("stall") == Fault("stall", frozenset({2}), 30.0)
    assert parse("lost_slices:3").scans == frozenset({3})
    assert parse("lost_slices:2,5").scans == frozenset({2, 5})
    assert parse("lost_slices:all").scans is None
    assert [n for n in range(5) if parse("refused").hits(n)] == [2]


@pytest.mark.parametrize("text", ["nonsense", "stall:", "stall:x", "stall:1,,2", "stall:-1"])
def test_a_fault_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"there are wrong_frame|expected stall:all or"):
        parse(text)


def test_a_fault_in_a_scan_that_there_is_not_is_told() -> None:
    faults.check([parse("stall:2"), parse("refused:all")], 3)
    for text in ("stall:3", "stall", "stall:0,99"):
        with pytest.raises(
            ScenarioError, match=r"fault stall: there is no scan \d+, the last one is 1"
        ):
            faults.check([parse(text)], 2)


def test_describe_names_every_fault() -> None:
    lines = faults.describe().splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_fault_is_repeatable_and_leaves_other_scans_and_its_input_alone(name: str) -> None:
    datasets = Scans().datasets(0)
    before = [d.to_json() for d in datasets]
    fault = parse(f"{name}:3")
    assert faults.apply(datasets, 2, [fault]) == [Store(d) for d in datasets]
    struck = faults.apply(datasets, 3, [fault], seed=5)
    assert struck == faults.apply(datasets, 3, [fault], seed=5) != [Store(d) for d in datasets]
    assert [d.to_json() for d in datasets] == before


def test_all_faults_at_once_in_any_order() -> None:
    datasets = Scans().datasets(0)
    every = [parse(f"{name}:all") for name in KINDS]
    steps = faults.apply(datasets, 1, every)
    assert steps == faults.apply(datasets, 1, every[::-1])
    assert {type(s) for s in steps} >= {Store, AbortIn, Absence, Silence}


# ------------------------------------------------------------------ each, as the receiver sees it


def test_lost_slices() -> None:
    scans = Scans(slices=24)
    with Receiver() as rx:
        played(rx, scans, one("lost_slices"))
    missing = set(scans.uids()) - set(rx.uids)
    assert len(missing) == 2
    assert not missing & {scans.uids()[0], scans.uids()[-1]}
    assert rx.kinds("released")


def test_duplicate_slices() -> None:
    scans = Scans(slices=24)
    with Receiver() as rx:
        played(rx, scans, one("duplicate_slices"))
    assert sorted(Counter(rx.uids).values()) == [1] * 22 + [2, 2]


def test_sent_twice() -> None:
    scans = Scans()
    with Receiver() as rx:
        played(rx, scans, one("sent_twice"))
    assert rx.uids == scans.uids() * 2
    assert len(rx.kinds("released")) == 2


def test_abort_in_store() -> None:
    scans = Scans()
    with Receiver() as rx:
        played(rx, scans, one("abort_in_store"))
    aborted = rx.kinds("aborted")
    assert [s.call for s in aborted] == [0]
    # The C-STORE had begun, its instance is named, and half of its pixels are not there.
    victim = scans.uids()[6]
    pixels = scans.datasets(0)[6].PixelData
    assert victim.encode() in aborted[0].fragments
    assert 0 < len(aborted[0].fragments) < len(pixels)
    assert [s.call for s in rx.kinds("stored")] == [0] * 6 + [1] * 6
    assert rx.uids == scans.uids()
    assert [s.call for s in rx.kinds("released")] == [1]


def test_stall() -> None:
    with Receiver() as rx:
        played(rx, Scans(), one("stall", seconds=0.7))
    gaps = np.diff([s.at_s for s in rx.kinds("stored")])
    assert (gaps > 0.6).tolist() == [False] * 5 + [True] + [False] * 5
    assert len(rx.kinds("requested")) == len(rx.kinds("released")) == 1


def test_a_stall_is_as_long_on_the_procedure_clock() -> None:
    clock = Clock(time.time(), 100.0)
    with Receiver() as rx:
        target = Target("RX", "127.0.0.1", rx.port)
        play(Scans(), target, clock, clock.now_utc_s(), print, FAST, [one("stall")])
    gaps = np.diff([s.at_s for s in rx.kinds("stored")])
    assert gaps.max() == pytest.approx(0.3, abs=0.15)


def test_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "pynetdicom")  # whoever sends from this process has it silent
    scans = Scans()
    with Receiver() as rx:
        played(rx, scans, one("refused", seconds=0.5))
    assert [s.call for s in rx.kinds("stored")] == [0] * 6 + [2] * 6
    assert rx.uids == scans.uids()
    # Call 0 dies with no release and no A-ABORT; nobody calls for a while; call 1 is in vain.
    assert "Connection reset by peer" in caplog.text
    assert [s.call for s in rx.kinds("released")] == [1, 2]
    assert not rx.kinds("aborted")
    gone = next(s for s in rx.kinds("closed") if s.call == 0)
    back = next(s for s in rx.kinds("open") if s.call == 1)
    assert back.at_s - gone.at_s > 0.4
    vain = next(s for s in rx.kinds("requested") if s.call == 1)
    assert "1.2.840.10008.5.1.4.1.1.2" not in vain.classes


def test_other_patient() -> None:
    scans = Scans()
    with Receiver() as rx:
        played(rx, scans, one("other_patient"))
    own = [d for d in rx.stored if d.PatientID == "SIM-1"]
    other = [d for d in rx.stored if d.PatientID == "SIM-1-OTHER"]
    assert [str(d.SOPInstanceUID) for d in own] == scans.uids()
    assert len(other) == 4
    assert rx.stored[-1] not in other
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientName"):
        assert len({str(d[keyword].value) for d in own}) == 1
        assert len({str(d[keyword].value) for d in other}) == 1
        assert other[0][keyword].value != own[0][keyword].value
    assert len(set(rx.uids)) == 16
    assert len(rx.kinds("requested")) == 1


def test_wrong_frame() -> None:
    scans = Scans(2)
    with Receiver() as rx:
        played(rx, scans, one("wrong_frame"))
    frames = [str(d.FrameOfReferenceUID) for d in rx.stored]
    assert len(set(frames[:12])) == len(set(frames[12:])) == 1
    assert frames[0] != frames[12] == scans.datasets(0)[0].FrameOfReferenceUID
    assert rx.uids == scans.uids(0) + scans.uids(1)


def test_truncated_pixels() -> None:
    with Receiver() as rx:
        played(rx, Scans(), one("truncated_pixels"))
    lengths = Counter(len(d.PixelData) for d in rx.stored)
    assert lengths == {48 * 40 * 2: 11, 48 * 40: 1}
    broken = next(d for d in rx.stored if len(d.PixelData) == 48 * 40)
    assert (broken.Rows, broken.Columns) == (48, 40)
    with pytest.raises(ValueError, match="pixel data"):
        _ = broken.pixel_array


def test_corrupted_pixels_uncompressed_are_too_long() -> None:
    with Receiver() as rx:
        played(rx, Scans(), one("corrupted_pixels"))
    assert Counter(len(d.PixelData) for d in rx.stored) == {3840: 11, 3904: 1}


@pytest.mark.parametrize("syntax", ["rle", "jpegls", "jpeg2000"])
@pytest.mark.parametrize("name", ["truncated_pixels", "corrupted_pixels"])
def test_damaged_codestreams(syntax: str, name: str) -> None:
    scans = Scans(slices=4, syntax=syntax)
    with Receiver() as rx:
        played(rx, scans, one(name))
    assert rx.uids == scans.uids()
    sound = [_decodes_to(d, s) for d, s in zip(rx.stored, scans.datasets(0), strict=True)]
    assert sorted(sound) == [False, True, True, True]


def _decodes_to(received: Dataset, sent: Dataset) -> bool:
    if received.file_meta.TransferSyntaxUID == RLELossless:
        # pylibjpeg-rle answers damage with a Rust panic, which is no Exception.
        received.pixel_array_options(decoding_plugin="pydicom")
    try:
        return bool((received.pixel_array == sent.pixel_array).all())
    except Exception:  # each codec raises its own
        return False


@pytest.mark.parametrize(("name", "jump_s"), [("clock_jump", 3600), ("clock_back", -3600)])
def test_clocks(name: str, jump_s: int) -> None:
    scans = Scans(2, slices=3)
    with Receiver() as rx:
        played(rx, scans, parse(f"{name}:1"))
    for received, sent in zip(rx.stored, scans.datasets(0) + scans.datasets(1), strict=True):
        expected = jump_s if sent in scans.datasets(1) else 0
        for what in ("Acquisition", "Content", "Series"):
            assert (_when(received, what) - _when(sent, what)).total_seconds() == expected
        assert received.AcquisitionDateTime[:14] == f"{_when(received, 'Acquisition'):%Y%m%d%H%M%S}"
        assert received.StudyTime == sent.StudyTime


def _when(d: Dataset, what: str) -> datetime:
    return datetime.strptime(f"{d[what + 'Date'].value}{d[what + 'Time'].value}", "%Y%m%d%H%M%S.%f")


def test_a_refusal_of_a_faulty_instance_is_told_and_the_push_goes_on() -> None:
    with Receiver(status=0xC000) as rx:
        said = played(rx, Scans(slices=3), one("truncated_pixels"))
    assert said[0] == "scan 0 at 0 s: 0 slices sent, with truncated_pixels"
    assert len(said) == 4


def test_faults_of_a_fluoroscopy() -> None:
    frames = list(writer().slices(fluoro()))
    every = [parse(f"{name}:all") for name in KINDS]
    assert len(faults.apply(frames, 1, every)) > len(frames)


def test_every_fault_has_a_test_on_the_wire() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    untested = [n for n in KINDS if f'one("{n}"' not in tested and f'("{n}",' not in tested]
    assert not untested
