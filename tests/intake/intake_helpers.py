"""Synthetic slices and a real listener process for the tests of the intake. LPS mm, seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig, Peer, TlsConfig
from monitor.intake.channel import STOP, Inbox
from monitor.intake.decode import decode
from monitor.intake.listener import run_listener
from monitor.intake.messages import ListenerFailed, Listening
from monitor.intake.wire import Limits
from monitor.model import AssociationEnded, CtFrames, CtSlice, Instance, Rejected

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Running:
    """A listener process: where it listens, what it said."""

    port: int
    record: Path
    inbox: Any
    process: Any
    messages: list[Any] = field(default_factory=list)

    def wait(self, done: Any, timeout_s: float = 15.0) -> list[Any]:
        """Collects messages until ``done(messages)``; all of them so far."""
        end = time.monotonic() + timeout_s
        while not done(self.messages):
            try:
                self.messages.append(self.inbox.get(timeout=max(end - time.monotonic(), 0.01)))
            except queue.Empty:
                raise AssertionError(f"not told in {timeout_s} s; was: {self.messages}") from None
        return self.messages

    def of(self, kind: type) -> list[Any]:
        return [m for m in self.messages if isinstance(m, kind)]

    def instances(self, count: int, ended: int = 1) -> list[Instance]:
        self.wait(
            lambda m: (
                sum(isinstance(x, Instance) for x in m) >= count
                and sum(isinstance(x, AssociationEnded) for x in m) >= ended
            )
        )
        return self.of(Instance)

    def decoded(self) -> list[CtSlice | CtFrames | Rejected]:
        return [decode(i, self.record) for i in self.of(Instance)]


@contextlib.contextmanager
def listening(
    record: Path,
    *,
    peers: tuple[Peer, ...] = (),
    size: int = 2000,
    port: int = 0,
    limits: Limits | None = None,
    tls: TlsConfig | None = None,
) -> Iterator[Running]:
    """A listener in a process of its own on loopback."""
    blobs = record / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    inbox, (ours, theirs) = Inbox(), _SPAWN.Pipe()
    inbox.follow(ours)
    config = ListenerConfig("ICEBALL", "127.0.0.1", port, peers, tls, limits or Limits())
    process = _SPAWN.Process(
        target=run_listener,
        args=(config, blobs, ProcedureClock.start(), theirs, size),
    )
    process.start()
    theirs.close()
    try:
        first = inbox.get(timeout=20)
        if isinstance(first, ListenerFailed):
            yield Running(0, record, inbox, process, [first])
        else:
            assert isinstance(first, Listening)
            yield Running(first.port, record, inbox, process)
    finally:
        with contextlib.suppress(OSError):  # it has ended already
            ours.send(STOP)
        process.join(10)
        assert not process.is_alive()


def ct_dataset(
    k: int = 0,
    *,
    series: str = "1.2.3.1",
    frame: str = "1.2.3.9",
    patient: str = "P1",
    rows: int = 16,
    columns: int = 12,
) -> Dataset:
    """A small, complete CT image as a scanner would send it."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[series, str(k)])
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.PatientName, d.PatientID = "Doe^Jane", patient
    d.Modality, d.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.3.0", series, frame
    d.AcquisitionDate, d.AcquisitionTime = "20261123", f"1200{k % 60:02d}.5"
    d.TimezoneOffsetFromUTC = "+0100"
    d.ConvolutionKernel = ["Br38f", "3"]
    d.SliceThickness = "2.5"
    d.ImagePositionPatient = [-10.0, -20.0, 2.5 * k]
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.PixelSpacing = [0.8, 0.7]
    d.Rows, d.Columns, d.SamplesPerPixel = rows, columns, 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = "1", "-1024", "HU"
    stored = (np.arange(rows * columns) + k) % 4096
    d.PixelData = stored.astype("<u2").tobytes()
    return d


def store(d: Dataset, record: Path, name: str = "a") -> Instance:
    """An instance as if it had been received."""
    (record / "blobs").mkdir(exist_ok=True)
    d.save_as(record / "blobs" / f"{name}.dcm", enforce_file_format=True)
    return instance(name)


def instance(name: str, *, mono_s: float = 0.0, association: int = 1, sha: str = "") -> Instance:
    return Instance(
        sha or name, f"blobs/{name}.dcm", "", name, "", association, "CT", mono_s, mono_s
    )


def ct_slice(
    uid: str,
    z_mm: float,
    *,
    series: str = "S",
    patient: str = "P1",
    frame: str = "F",
    mono_s: float = 0.0,
    association: int = 1,
    sha: str = "",
    acquired_utc_s: float | None = None,
    thickness_mm: float | None = 2.5,
    expected: int | None = None,
    value: int = 0,
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    at_mm: tuple[float, float] = (0.0, 0.0),
) -> CtSlice:
    return CtSlice(
        instance=instance(uid, mono_s=mono_s, association=association, sha=sha),
        patient_id=patient,
        study_uid="",
        series_uid=series,
        frame_of_reference_uid=frame,
        position_lps_mm=np.array([*at_mm, z_mm]),
        row_direction=np.array([1.0, 0, 0]),
        column_direction=np.array([0, 1.0, 0]),
        pixel_spacing_mm=(1.0, 1.0),
        slice_thickness_mm=thickness_mm,
        kernel="B30f",
        image_type=image_type,
        acquisition_number=None,
        images_in_acquisition=expected,
        instance_number=None,
        acquired_utc_s=acquired_utc_s,
        hu=np.full((2, 3), value, np.int16),
    )


def enhanced_dataset(images: list[Dataset], stacks: list[str] | None = None) -> Dataset:
    """One Enhanced CT image whose frames are these images, rescale and spacing shared by all."""
    first = images[0]
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = first.file_meta.TransferSyntaxUID
    d.SOPClassUID, d.SOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    for name in (
        *("PatientName", "PatientID", "Modality", "StudyInstanceUID", "SeriesInstanceUID"),
        *("FrameOfReferenceUID", "TimezoneOffsetFromUTC", "Rows", "Columns", "SamplesPerPixel"),
        *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
        *("PixelRepresentation", "ImageType"),
    ):
        d[name] = first[name]
    d.NumberOfFrames = len(images)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(first, "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_item(first, "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [
        _item(first, "RescaleSlope", "RescaleIntercept", "RescaleType")
    ]
    shared.CTReconstructionSequence = [_item(first, "ConvolutionKernel")]
    d.SharedFunctionalGroupsSequence = [shared]
    d.PerFrameFunctionalGroupsSequence = []
    for number, image in enumerate(images):
        own, content = Dataset(), Dataset()
        content.FrameAcquisitionDateTime = image.AcquisitionDate + image.AcquisitionTime
        content.StackID = stacks[number] if stacks else "1"
        content.InStackPositionNumber = number + 1
        own.FrameContentSequence = [content]
        own.PlanePositionSequence = [_item(image, "ImagePositionPatient")]
        d.PerFrameFunctionalGroupsSequence.append(own)
    d.PixelData = b"".join(i.PixelData for i in images)
    return d


def _item(d: Dataset, *names: str) -> Dataset:
    item = Dataset()
    for name in names:
        item[name] = d[name]
    return item
