"""Instances that were asked for, as they come from a PACS: looked at, kept or refused; then put in place.

Bytes. Invariant: nothing is kept that is not of the patient, the study and the series that were asked for;
the folder it is put in holds whole series only, each on the disk before it has its name.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from monitor.fetching.asking import FetchError, Series
from monitor.intake.association import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from monitor.intake.keeping import Part, free_bytes, part10_head
from monitor.intake.limits import Limits
from monitor.intake.structures import frame_of_reference
from monitor.intake.wire import IMPLEMENTATION_CLASS_UID
from monitor.record.journal import sync_folder

# PS3.7 C.5.10: refused, not authorized.
NOT_AUTHORIZED = 0x0124


@dataclass(frozen=True)
class Placed:
    """A series in its place: a folder of a CT's images, or a file for each structure set or segmentation.
    ``before``: those of ``paths`` that were there already."""

    series: Series
    paths: tuple[Path, ...]
    frames: frozenset[str]
    before: frozenset[Path] = frozenset()


@dataclass
class _Kept:
    path: Path
    number: int
    frame: str | None


@dataclass
class _Box:
    """What has come of one series, by SOP instance."""

    series: Series
    kept: dict[str, _Kept] = field(default_factory=dict)


class Shelf:
    """Takes instances from any thread. ``heard_s``: when the last byte came, monotonic. Use as a context:
    what was not put in place is gone afterwards."""

    def __init__(
        self, folder: Path, patient_id: str, wanted: Sequence[Series], limits: Limits
    ) -> None:
        self.folder, self.limits = folder, limits
        self.heard_s = time.monotonic()
        self.refused: dict[str, int] = {}
        self._patient_id = patient_id.strip()
        self._boxes = {s.series_uid: _Box(s) for s in wanted}
        self._lock = threading.Lock()

    def __enter__(self) -> Shelf:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=self.folder))
        except OSError as error:
            text = f"{self.folder}: {error.strerror}"
            raise FetchError("folder", text, str(self.folder)) from None
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def received(self) -> int:
        return sum(len(b.kept) for b in self._boxes.values())

    def begin(self, sop_class: str, sop_instance: str, syntax: str) -> Arriving:
        return Arriving(self, self._scratch, (sop_class, sop_instance, syntax))

    # ------------------------------------------------------------------ what comes

    def take(self, path: Path, sop_instance: str) -> int:
        """An instance that is on the disk: the status it is answered with. A refused one is removed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's quote values
                header = pydicom.dcmread(path, stop_before_pixels=True)
            why, box = self._wrong(header, sop_instance)
            kept = _Kept(path, int(header.get("InstanceNumber") or 0), frame_of_reference(header))
        except Exception:  # whatever a broken header leads a parser to
            return self._refuse(path, "unreadable", CANNOT_UNDERSTAND)
        if box is None:
            return self._refuse(path, why, NOT_AUTHORIZED)
        with self._lock:
            before = box.kept.setdefault(sop_instance, kept)
        if before.path != path:
            return self._refuse(path, "twice", CANNOT_UNDERSTAND)
        return SUCCESS

    def _wrong(self, header: pydicom.Dataset, sop_instance: str) -> tuple[str, _Box | None]:
        if str(header.get("PatientID", "")).strip() != self._patient_id:
            return "other_patient", None
        box = self._boxes.get(str(header.get("SeriesInstanceUID", "")))
        if box is None or box.series.study_uid != str(header.get("StudyInstanceUID", "")):
            return "not_asked_for", None
        if sop_instance != str(header.get("SOPInstanceUID", "")):
            return "unreadable", None
        return "", box

    def _refuse(self, path: Path, why: str, status: int) -> int:
        path.unlink(missing_ok=True)
        return self.refuse(why, status)

    def refuse(self, why: str, status: int) -> int:
        with self._lock:
            self.refused[why] = self.refused.get(why, 0) + 1
        return status

    # ------------------------------------------------------------------ what stays

    def short(self, series: Series) -> int:
        """How many images of a series are missing, by the PACS's own count."""
        have = len(self._boxes[series.series_uid].kept)
        return max((series.instances or 0) - have, 0 if have else 1)

    def place(self) -> tuple[Placed, ...]:
        """All series under names of their own. Raises ``FetchError`` where a disk fails."""
        try:
            placed = tuple(self._placed(box) for box in self._boxes.values())
            sync_folder(self.folder)
        except OSError as error:
            text = f"{self.folder}: {error.strerror}"
            raise FetchError("folder", text, str(self.folder)) from None
        return placed

    def _placed(self, box: _Box) -> Placed:
        frames = frozenset(k.frame for k in box.kept.values() if k.frame)
        name = box.series.modality.lower()
        if box.series.modality != "CT":
            there = _instances_in(self.folder.glob(f"{name}_*.dcm"))
            files = tuple(
                there.get(uid) or self._named(k.path, name, ".dcm") for uid, k in _ordered(box)
            )
            return Placed(box.series, files, frames, frozenset(there.values()).intersection(files))
        before = self._same_images(box)
        if before is not None:
            return Placed(box.series, (before,), frames, frozenset([before]))
        own = Path(tempfile.mkdtemp(dir=self._scratch))
        for i, (_, k) in enumerate(_ordered(box), 1):
            k.path.rename(own / f"{i:04d}.dcm")
        own.chmod(0o750)
        sync_folder(own)
        return Placed(box.series, (self._named(own, name, ""),), frames)

    def _same_images(self, box: _Box) -> Path | None:
        """Where a fetch before has put them; a folder with others, or with fewer, is another one."""
        for folder in sorted(self.folder.glob("ct_*")):
            if folder.is_dir() and _instances_in(folder.iterdir()).keys() == box.kept.keys():
                return folder
        return None

    def _named(self, path: Path, name: str, suffix: str) -> Path:
        number = 1
        while (free := self.folder / f"{name}_{number}{suffix}").exists():
            number += 1
        return path.rename(free)


def _ordered(box: _Box) -> list[tuple[str, _Kept]]:
    return sorted(box.kept.items(), key=lambda k: (k[1].number, k[1].path.stat().st_mtime_ns))


def _instances_in(paths: Iterable[Path]) -> dict[str, Path]:
    """By SOP instance; what cannot be read is nobody's."""
    found: dict[str, Path] = {}
    for path in sorted(paths):
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]
            )
            found.setdefault(str(header.SOPInstanceUID), path)
    return found


class Arriving:
    """One instance on its way (``intake.association.Incoming``)."""

    def __init__(self, shelf: Shelf, folder: Path, what: tuple[str, str, str]) -> None:
        self._shelf, self._folder, self._sop_instance = shelf, folder, what[1]
        self._status = SUCCESS
        self._part: Part | None = None
        try:
            if free_bytes(folder) < shelf.limits.disk_free_bytes:
                self._fail("disk_full", OUT_OF_RESOURCES)
            else:
                self._part = Part(folder, part10_head(*what, IMPLEMENTATION_CLASS_UID))
        except (OSError, UnicodeError):
            self._fail("disk", OUT_OF_RESOURCES)

    def write(self, fragment: memoryview) -> None:
        self._shelf.heard_s = time.monotonic()
        if self._part is None:
            return
        try:
            if self._part.size + len(fragment) > self._shelf.limits.instance_bytes:
                self._fail("too_large", CANNOT_UNDERSTAND)
            else:
                self._part.write(fragment)
        except OSError:
            self._fail("disk", OUT_OF_RESOURCES)

    def end(self) -> int:
        part, self._part = self._part, None
        if part is None:
            return self._status
        try:
            name = part.keep(durable=True)
        except OSError:
            return self._shelf.refuse("disk", OUT_OF_RESOURCES)
        return self._shelf.take(self._folder / f"{name}.dcm", self._sop_instance)

    def discard(self) -> None:
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _fail(self, why: str, status: int) -> None:
        self.discard()
        self._status = self._shelf.refuse(why, status)
