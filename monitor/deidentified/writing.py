"""``iceball export RECORD --deidentified OUT``: a record that can be given away, and what comes out of it.

OUT/record replays as the original does, OUT/dicom, nifti and csv are made from it, and OUT/manifest.json says
what was done and what is not there. Invariant: OUT is there only if the search after all has found nothing;
the record itself is only read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK

from monitor.deidentified.identity import Identity
from monitor.deidentified.images import Deidentifier, Unsafe
from monitor.deidentified.lines import DROPPED, Lines, about_others, undone_nothing
from monitor.deidentified.searching import search
from monitor.deidentified.substitutes import substitutes
from monitor.export import Targets, export
from monitor.intake.decode import decode
from monitor.intake.structures import number_of
from monitor.model import CtFrames, CtSlice, Instance, Rejected
from monitor.opening import open_case
from monitor.record.cases import sha256_of
from monitor.record.events import is_input, message_of
from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import JournalLine, read_journal
from monitor.replay import decoding_of
from monitor.toml_text import toml_text

# What a case is made of, without who it is of and where images come from.
_OF_A_CASE = ("language", "organ", "margin", "lesion", "structure", "needle", "protocol", "display")
_OBJECTS = frozenset({"ice_seg", "predicted_seg", "sr"})
# Folders of a record that are given away; the others are named in the manifest.
_KEPT_FOLDERS = frozenset({"blobs", "volumes", "cases", "corrections"})
_DROPPED_FOLDERS = frozenset(
    ["quarantine", "screens", "draft", "console", "report", "spool", "scratch", "checkpoints"]
)


class DeidentifyError(RecordError):
    """Nothing was exported; the message says why, and names nobody."""


def deidentified(
    record: Path, out: Path, engine: str | None = None
) -> tuple[list[Path], list[str]]:
    """The files of OUT, and what of the outputs could not be made. Raises ``RecordError``."""
    if out.exists():
        raise DeidentifyError(f"{out}: is there already")
    part = out.with_name(f".part-{out.name}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / "record").mkdir(parents=True)
        work = _Work(record, part / "record", read_journal(record, lambda f: None))
        work.write()
        targets = Targets(part / "dicom", part / "nifti", part / "csv", objects=_OBJECTS)
        _, missing = export(part / "record", targets, engine)
        _manifest(part / "manifest.json", work, missing)
        if found := search(part, work.identity):
            said = "; ".join(f"{f.path}: {f.kind}" for f in found[:10])
            raise DeidentifyError(
                f"{record}: nothing was exported: after all was replaced, something that identifies "
                f"the patient was still found in {len(found)} place(s): {said}"
            )
        part.rename(out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, RecordError):
            raise
        raise DeidentifyError(f"{error.filename or out}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return sorted(p for p in out.rglob("*") if p.is_file()), missing


@dataclass
class _Work:
    """``files``: of a file of the record, its new path and hash. ``gone``: what was left out, how often."""

    record: Path
    out: Path
    lines: list[JournalLine]
    identity: Identity = field(default_factory=Identity)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    gone: Counter[str] = field(default_factory=Counter)
    blanked: Counter[str] = field(default_factory=Counter)

    def write(self) -> None:
        self._identify()
        self.to = substitutes(self.identity.dates)
        self.images = Deidentifier(self.to, self.identity.words)
        self._cases()
        self._instances()
        self._corrections()
        self._volumes()
        self._journal()
        for path in self.record.rglob("*"):
            top = path.relative_to(self.record).parts[0]
            if path.is_file() and top not in {*_KEPT_FOLDERS, JOURNAL}:
                self.gone[f"{top}/" if top in _DROPPED_FOLDERS else "other files"] += 1

    # ------------------------------------------------------------------ whose it is

    def _identify(self) -> None:
        for line in self.lines:
            self.identity.add_line(line.fields, line.at_utc_s)
            if about_others(line.fields):
                for name in ("expected", "received"):
                    params = line.fields.get("params")
                    value = params.get(name) if isinstance(params, Mapping) else None
                    self.identity.add_identifier(str(value or ""), "PatientID")
        for path in sorted(self.record.rglob("*.toml")):
            self.identity.add_case(_toml(path))
        for folder in ("blobs", "quarantine", "cases"):
            for path in sorted((self.record / folder).rglob("*")):
                if path.is_file() and _is_dicom(path):
                    self.identity.add_dataset(_read(path, stop_before_pixels=True))

    # ------------------------------------------------------------------ cases

    def _cases(self) -> None:
        for line in self.lines:
            kept = line.fields.get("kept_case")
            if isinstance(kept, Mapping) and str(kept.get("path")) not in self.files:
                self._case(str(kept["path"]))

    def _case(self, name: str) -> None:
        source, folder = self.record / name, (self.out / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        given = tomllib.loads(source.read_text(encoding="utf-8"))
        case = {k: given[k] for k in _OF_A_CASE if k in given}
        patient = given.get("patient") or {}
        if "id" in patient:
            patient_id = self.to.patient_id(str(patient["id"]))
            case = {"patient": {"id": patient_id}, **case}
            if "frame_of_reference_uid" in patient:
                case["patient"]["frame_of_reference_uid"] = self.to.uid(
                    patient["frame_of_reference_uid"]
                )
        copies: dict[str, str] = {}
        for body in _bodies(case):
            if "name" in body:
                body["name"] = self.to.body(body["name"])
            if "file" in body:
                if "roi" in body:
                    body["roi"] = number_of(source.parent / body["file"], str(body["roi"]))
                body["file"] = self._body(source.parent, body["file"], folder, copies)
        (folder / "case.toml").write_text(toml_text(case), encoding="utf-8")
        self._became(name, folder / "case.toml")
        if not _same_bodies(source, folder / "case.toml"):
            raise DeidentifyError(
                f"{self.record}: {name}: would have other bodies without its patient"
            )

    def _body(self, of: Path, name: str, folder: Path, copies: dict[str, str]) -> str:
        if name not in copies:
            number = len(copies) + 1
            dicom = _is_dicom(of / name)
            new = folder / f"{number}_bodies.{'dcm' if dicom else 'nrrd'}"
            if dicom:
                self._dicom(of / name, new)
            else:
                _mask(of / name, new)
            copies[name] = new.name
            self._became(str((of / name).relative_to(self.record)), new)
        return copies[name]

    def _dicom(self, source: Path, target: Path) -> None:
        try:
            self.images.object(_read(source)).save_as(target, enforce_file_format=True)
        except Unsafe as error:
            where = source.relative_to(self.record)
            raise DeidentifyError(
                f"{self.record}: nothing was exported: {where}: {error}"
            ) from None

    def _became(self, name: str, new: Path) -> None:
        sha256 = sha256_of(new)
        self.files[name] = (str(new.relative_to(self.out)), sha256)
        if (self.record / name).is_file():
            self.hashes[sha256_of(self.record / name)] = sha256

    # ------------------------------------------------------------------ images, drawings, volumes

    def _instances(self) -> None:
        """Those that a replay gets. What is no CT slice, or another patient's, is not among them."""
        (self.out / "blobs").mkdir()
        others = {x.fields.get("sha256") for x in self.lines
                  if x.kind == "instance_rejected" and about_others(x.fields)}  # fmt: skip
        decoding = decoding_of(self.record, self.lines)
        for line in self.lines:
            if line.kind != "instance_received":
                continue
            instance = message_of(line.kind, line.fields)
            assert isinstance(instance, Instance)
            if instance.path in self.files:
                continue
            found = decoding(instance, self.record)
            if isinstance(found, Rejected) or instance.sha256 in others:
                self.gone["images that were no CT slices, or another patient's"] += 1
            else:
                self._instance(instance, found)

    def _instance(self, instance: Instance, found: CtSlice | CtFrames) -> None:
        source = self.record / instance.path
        if not source.exists():
            source = self.record / "quarantine" / source.name
        if sha256_of(source) != instance.sha256:
            raise DeidentifyError(f"{self.record}: {instance.path} is not what was received")
        made = self.out / "blobs" / "made.part"
        self._dicom(source, made)
        sha256 = sha256_of(made)
        made.rename(made.with_name(f"{sha256}.dcm"))
        path = f"blobs/{sha256}.dcm"
        self.files[instance.path], self.hashes[instance.sha256] = (path, sha256), sha256
        now = replace(instance, path=path, sop_instance_uid=self.to.uid(instance.sop_instance_uid))
        if not self._same(found, decode(now, self.out)):
            raise DeidentifyError(
                f"{self.record}: {instance.path}: would be another image without its patient"
            )

    def _same(self, old: CtSlice | CtFrames, new: CtSlice | CtFrames | Rejected) -> bool:
        if isinstance(old, CtFrames) and isinstance(new, CtFrames):
            return all(self._same(a, b) for a, b in zip(old.slices, new.slices, strict=True))
        if not isinstance(old, CtSlice) or not isinstance(new, CtSlice):
            return False
        at = old.acquired_utc_s
        return (
            np.array_equal(old.hu, new.hu)
            and np.array_equal(old.position_lps_mm, new.position_lps_mm)
            and np.array_equal(old.row_direction, new.row_direction)
            and old.pixel_spacing_mm == new.pixel_spacing_mm
            and self.to.patient_id(old.patient_id) == new.patient_id
            and self.to.uid(old.series_uid) == new.series_uid
            and self.to.uid(old.frame_of_reference_uid) == new.frame_of_reference_uid
            and (at if at is None else self.to.utc_s(at)) == new.acquired_utc_s
        )

    def _corrections(self) -> None:
        for line in self.lines:
            params = line.fields.get("params")
            name = params.get("path") if isinstance(params, Mapping) else None
            if line.kind != "operator" or not isinstance(name, str) or name in self.files:
                continue
            (self.out / "corrections").mkdir(exist_ok=True)
            new = self.out / "corrections" / f"{Path(name).name[:3]}_ice.nrrd"
            _mask(self.record / name, new)
            self._became(name, new)

    def _volumes(self) -> None:
        (self.out / "volumes").mkdir()
        for path in sorted((self.record / "volumes").glob("v*.npy")):
            np.save(
                self.out / "volumes" / path.name, np.load(path, mmap_mode="r", allow_pickle=False)
            )

    # ------------------------------------------------------------------ the journal

    def _journal(self) -> None:
        made = Lines(self.to, self.files, self.hashes)
        with (self.out / JOURNAL).open("w", encoding="utf-8") as file:
            for seq, line in enumerate(self._kept_lines(), 1):
                fields = {"seq": seq, **made.line(line.fields)}
                file.write(json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n")
        self.blanked = made.left_out

    def _kept_lines(self) -> list[JournalLine]:
        refused = _only_refused(self.lines)
        kept = []
        for line in self.lines:
            of_lost = "sha256" in line.fields and line.kind in (
                "instance_received",
                "instance_rejected",
            )
            if (
                line.kind in DROPPED
                or about_others(line.fields)
                or undone_nothing(line.fields)
                or line.number in refused
                or (of_lost and line.fields["sha256"] not in self.hashes)
            ):
                self.gone[f"journal lines: {line.kind}"] += 1
            else:
                kept.append(line)
        return kept


def _only_refused(lines: list[JournalLine]) -> set[int]:
    """Acts of which nothing came but that they were refused, with those refusals, whose words may quote
    what was asked for."""
    found: set[int] = set()
    act: int | None = None
    for line in lines:
        if is_input(line.kind, line.fields):
            act = line.number if line.kind == "operator" else None
        elif line.kind == "act_refused" and act is not None:
            found |= {act, line.number}
    return found


# ------------------------------------------------------------------ files


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read(path: Path, **options: Any) -> Any:
    return pydicom.dcmread(path, **options)


def _mask(source: Path, target: Path) -> None:
    """The voxels as they are read, and where they lie; nothing else of the header."""
    read: Any = SimpleITK.ReadImage(str(source))
    made: Any = SimpleITK.GetImageFromArray(SimpleITK.GetArrayFromImage(read))
    made.SetOrigin(read.GetOrigin())
    made.SetSpacing(read.GetSpacing())
    made.SetDirection(read.GetDirection())
    SimpleITK.WriteImage(made, str(target), True)


def _bodies(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [*([case["lesion"]] if "lesion" in case else []), *case.get("structure", ())]


def _same_bodies(old: Path, new: Path) -> bool:
    a, b = (open_case(path)[1].structures for path in (old, new))
    return len(a) == len(b) and all(
        x.grid == y.grid and np.array_equal(x.sdf_mm, y.sdf_mm) for x, y in zip(a, b, strict=True)
    )


def _manifest(path: Path, work: _Work, missing: list[str]) -> None:
    """What a reader has to know; nothing that leads back."""
    said = {
        "program": f"iceball-monitor {version('iceball-monitor')}",
        "replaced": "patient's id and name, all UIDs, hashes of files, names of files and of unusual bodies; "
        "all dates, by the same whole number of days",
        "kept_of_dicom": "only what monitor/deidentified/images.py lists; no private element",
        "left_out": dict(sorted(work.gone.items())),
        "texts_emptied": dict(sorted(work.blanked.items())),
        "outputs_not_made": ["secondary captures of the screen", *missing],
        "searched_for": sorted({*work.identity.words.values(), "UID", "date"}),
        "too_short_or_too_common_to_be_searched_for": sorted(work.identity.not_looked_for),
        "not_looked_at": "what the voxels show (a face, a tattoo, a serial number on an implant)",
        "sha256_of_journal": hashlib.sha256((work.out / JOURNAL).read_bytes()).hexdigest(),
    }
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
