"""CT volumes from a folder of DICOM files, by the decoding and assembly of the listener. LPS mm, HU.

The files are given to the assembly in the order in which the scanner made them, since names on disk
mean nothing. Invariant: there is no second reading of DICOM: a folder yields what the same files,
sent one after another, would have.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.filereader import read_file_meta_info

from monitor.intake import assembly
from monitor.intake.decode import decode
from monitor.model import CtFrames, CtSlice, CtVolume, Instance, Rejected

# CT numbers of tissue, in which noise is judged: neither air nor bone nor metal.
_TISSUE_HU = (-150, 150)
# Two passes with one kernel differ in noise by a few per cent, two kernels by a factor of 2 or more.
_SAME_NOISE = 1.3


class FolderError(ValueError):
    """A folder holds no CT volume; the message names it and says what is in it instead."""


def volumes_in(
    folder: Path, patient_id: str | None, frame_of_reference_uid: str | None = None
) -> list[CtVolume]:
    """The volumes of the files right in ``folder``, in order of acquisition, each in its latest
    revision; of this patient and, when given, this frame of reference. Raises ``FolderError`` when
    there is none."""
    decoded = [decode(instance, folder) for instance in _instances(folder)]
    rejected = [d for d in decoded if isinstance(d, Rejected)]
    slices = sorted((s for d in decoded for s in _slices(d)), key=_made)
    state = assembly.initial(assembly.Expectation(patient_id, frame_of_reference_uid))
    outcomes: list[assembly.Outcome] = []
    for s in slices:
        state, more = assembly.add_slice(state, s)
        outcomes += more
    outcomes += assembly.finish(state)[1]
    latest = {v.volume_id.partition("r")[0]: v for v in outcomes if isinstance(v, CtVolume)}
    if not latest:
        rejected += [r for r in outcomes if isinstance(r, Rejected)]
        raise FolderError(f"{folder}: holds no CT volume: {_what_instead(rejected)}")
    return sorted(latest.values(), key=lambda v: v.acquired_utc_s)


def soft_volume(volumes: Sequence[CtVolume]) -> CtVolume:
    """The one to measure: most slices, then the softest kernel, then the latest.

    Kernels are told apart by their noise and not by their names: a sharper kernel makes the same
    projections noisier whoever built the scanner, while Siemens' Br38, GE's STANDARD, Philips' B and
    Canon's FC08 have no order in common."""
    most = max(len(v.hu) for v in volumes)
    whole = [v for v in volumes if len(v.hu) == most]
    if len(whole) == 1:
        return whole[0]
    noise_hu = [_noise_hu(v) for v in whole]
    least_hu = min(noise_hu)
    soft = [v for v, n in zip(whole, noise_hu, strict=True) if n <= _SAME_NOISE * least_hu]
    return max(soft, key=lambda v: v.acquired_utc_s)


# ------------------------------------------------------------------ files


def _instances(folder: Path) -> list[Instance]:
    try:
        paths = sorted(p for p in folder.iterdir() if p.is_file())
        return [_instance(path) for path in paths]
    except OSError as error:
        raise FolderError(f"{folder}: cannot be read ({error.strerror})") from None


def _instance(path: Path) -> Instance:
    """As the listener would have taken it, were the file's header the sender's command."""
    meta = {
        "MediaStorageSOPClassUID": "",
        "MediaStorageSOPInstanceUID": "",
        "TransferSyntaxUID": "",
    }
    try:
        found = read_file_meta_info(path)
        meta = {name: str(found.get(name, "")) for name in meta}
    except (
        Exception
    ):  # whatever a file that is no DICOM makes the parser do: decode says what it is
        pass
    return Instance(
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        path=path.name,
        sop_class_uid=meta["MediaStorageSOPClassUID"],
        sop_instance_uid=meta["MediaStorageSOPInstanceUID"],
        transfer_syntax_uid=meta["TransferSyntaxUID"],
        association_id=0,
        calling_ae_title="",
        received_utc_s=path.stat().st_mtime,
        received_mono_s=0.0,
    )


def _slices(decoded: CtSlice | CtFrames | Rejected) -> tuple[CtSlice, ...]:
    if isinstance(decoded, CtFrames):
        return decoded.slices
    return (decoded,) if isinstance(decoded, CtSlice) else ()


def _made(s: CtSlice) -> tuple[float, str, int, str]:
    """Sorts as the scanner made them: by time; GE stamps all slices of a series alike."""
    at_s = np.inf if s.acquired_utc_s is None else s.acquired_utc_s
    return at_s, s.series_uid, s.instance_number or 0, s.instance.path


def _what_instead(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return "it is empty (folders in it are not searched)"
    said = Counter(f"{r.reason.code}: {_text(r)}" for r in rejected)
    return "; ".join(f"{count} file(s): {text}" for text, count in said.most_common(5))


def _text(rejected: Rejected) -> str:
    """A terminal does not get to see whose images they are."""
    if rejected.reason.code == "patient_mismatch":
        return "Of another patient than the case's."
    return rejected.reason.text


# ------------------------------------------------------------------ kernels


def _noise_hu(volume: CtVolume) -> float:
    """The median difference between neighbouring pixels of tissue, in the middle slice."""
    middle = volume.hu[len(volume.hu) // 2].astype(np.int32)
    low, high = _TISSUE_HU
    tissue = (middle > low) & (middle < high)
    steps = np.abs(np.diff(middle, axis=1))[tissue[:, 1:] & tissue[:, :-1]]
    return float(np.median(steps)) if len(steps) else np.inf
