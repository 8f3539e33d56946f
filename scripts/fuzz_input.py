"""Mutated DICOM instances through decoding and assembly: each has to end as slices or as a rejection.

    python scripts/fuzz_input.py [--count 100000] [--seed 1] [--data ../shared/data]

Seeds are pydicom's test files, public CT where it is there, and images and Enhanced CT made here; many are
dressed as CT so that their codecs are reached. Workers have bounded memory; one that dies (a codec that
crashes), takes over SLOW_S for an instance or more than MEMORY_BYTES is a finding. Exit status 1 with
findings. Bytes, CPU seconds (other programs may be at work).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from monitor.intake import assembly
from monitor.intake.decode import decode
from monitor.model import CtFrames, CtSlice, Instance, Rejected

ADDRESSES_BYTES = 4 * 2**30
MEMORY_BYTES = 768 * 2**20
SLOW_S = 10.0
_LARGEST_SEED_BYTES = 700_000
_NUMBERS = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


# ------------------------------------------------------------------ seeds


def seeds(data: Path | None) -> list[bytes]:
    # Those in the wheel: pydicom.data would fetch others from the net.
    found = list((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
    if data is not None and data.is_dir():
        found += sorted(p for p in (data / "codecs_ct").iterdir() if p.suffix == ".dcm")
        found += sorted((data / "dcm_qa_ct").rglob("*.dcm"))[:8]
    small = sorted(p for p in found if p.is_file() and p.stat().st_size < _LARGEST_SEED_BYTES)
    made = [path.read_bytes() for path in small]
    made += [dressed for path in small if (dressed := _as_ct(path)) is not None]
    return (
        made + [_bytes(_plain(rows)) for rows in (8, 64)] + [_bytes(_enhanced(n)) for n in (1, 5)]
    )


def _as_ct(path: Path) -> bytes | None:
    """The file with all that a CT slice needs around its pixels."""
    try:
        d = dcmread(path)
        if d.get("SamplesPerPixel") != 1 or "PixelData" not in d:
            return None
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        _geometry(d)
        return _bytes(d)
    except Exception:  # many of these files are broken on purpose
        return None


def _geometry(d: Dataset) -> None:
    d.Modality, d.ImageType, d.PatientID = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "P"
    d.ImagePositionPatient, d.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    d.PixelSpacing, d.SliceThickness, d.FrameOfReferenceUID = [1, 1], 1, "1.2.3"
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024, "HU"


def _plain(rows: int, frames: int = 1) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, f"1.2.{rows}.{frames}"
    _geometry(d)
    d.Rows = d.Columns = rows
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.PixelData = (np.arange(rows * rows * frames) % 4096).astype("<u2").tobytes()
    return d


def _enhanced(frames: int) -> Dataset:
    d = _plain(16, frames)
    d.SOPClassUID, d.NumberOfFrames = EnhancedCTImageStorage, frames
    shared, measures, turned, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = d.PixelSpacing, d.SliceThickness
    turned.ImageOrientationPatient = d.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    shared.PixelValueTransformationSequence = [values]
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = [shared], []
    for number in range(frames):
        own, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, content.StackID = [0, 0, number], "1"
        content.InStackPositionNumber = number + 1
        own.PlanePositionSequence, own.FrameContentSequence = [place], [content]
        d.PerFrameFunctionalGroupsSequence.append(own)
    return d


def _bytes(d: Dataset) -> bytes:
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    out = io.BytesIO()
    d.save_as(out, enforce_file_format=True)
    return out.getvalue()


# ------------------------------------------------------------------ mutations


def mutated(all_seeds: list[bytes], seed: int, number: int) -> bytes:
    """The same for the same seeds, seed and number."""
    chance = random.Random(f"{seed} {number}")
    data = bytearray(chance.choice(all_seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        if data:
            _mutate(data, chance, all_seeds)
    return bytes(data)


def _mutate(data: bytearray, chance: random.Random, all_seeds: list[bytes]) -> None:
    at = chance.randrange(min(len(data), chance.choice((256, 2048, len(data)))))
    kind = chance.randrange(7)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at] = chance.randrange(256)
    elif kind == 2:
        width = chance.choice((1, 2, 4))
        order = chance.choice(("little", "big"))
        value = chance.choice(_NUMBERS) % 256**width
        data[at : at + width] = value.to_bytes(width, "little" if order == "little" else "big")
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + chance.randrange(1, 64)]
    elif kind == 5:
        data[at:at] = data[at : at + chance.randrange(1, 256)]
    else:
        other = chance.choice(all_seeds)
        begin = chance.randrange(len(other))
        data[at : at + 64] = other[begin : begin + chance.randrange(1, 512)]


# ------------------------------------------------------------------ workers


def outcomes(all_seeds: list[bytes], seed: int, numbers: range, folder: Path) -> Iterator[str]:
    """What becomes of each instance. An exception is a finding: it is not caught here."""
    state = assembly.initial(assembly.Expectation(None, None))
    for number in numbers:
        (folder / "blobs").mkdir(exist_ok=True)
        (folder / "blobs" / "a.dcm").write_bytes(mutated(all_seeds, seed, number))
        name = str(number)
        result = decode(
            Instance(name, "blobs/a.dcm", "", name, "", 1, "", 0.0, 0.01 * number), folder
        )
        if isinstance(result, CtSlice):
            state, _ = assembly.add_slice(state, result)
        elif isinstance(result, CtFrames):
            state, _ = assembly.add_frames(state, result)
        if number % 50 == 49:
            state, _ = assembly.tick(state, 0.01 * number + 20.0)
            state = assembly.initial(state.expectation)
        yield (
            f"rejected: {result.reason.code}"
            if isinstance(result, Rejected)
            else type(result).__name__
        )


def _work(args: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
    warnings.simplefilter("ignore")
    first, last = args.work
    all_seeds, counts, slowest = seeds(args.data), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        at, began = first, time.process_time()
        for outcome in outcomes(all_seeds, args.seed, range(first, last), Path(folder)):
            now = time.process_time()
            slowest, began = max(slowest, now - began), now
            counts[outcome] += 1
            at += 1
            if at % 100 == 0 or at == last:
                told = {"at": at, "counts": counts, "slowest_s": slowest, "rss_kib": _most_kib()}
                print(json.dumps(told), flush=True)
    return 0


def _batch(args: argparse.Namespace, first: int, last: int) -> tuple[dict[str, Any], str | None]:
    """What a worker said last, and what it died of."""
    command = [sys.executable, __file__, "--seed", str(args.seed), "--work", str(first), str(last)]
    if args.data is not None:
        command += ["--data", str(args.data)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300 + 1.0 * (last - first)
        )
    except subprocess.TimeoutExpired:
        return {}, f"instances {first} to {last} hang"
    lines = done.stdout.splitlines()
    said = (
        json.loads(lines[-1])
        if lines
        else {"at": first, "counts": {}, "slowest_s": 0, "rss_kib": 0}
    )
    if done.returncode:
        return said, f"after {said['at']}: exit {done.returncode}: {done.stderr[-300:]}"
    return said, None


def _most_kib() -> int:
    """Of this program. What ``getrusage`` tells began as what its parent had when it was forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return _work(args)
    counts, findings, slowest, rss_kib = Counter[str](), [], 0.0, 0
    first = 0
    while first < args.count:
        last = min(first + args.batch, args.count)
        said, finding = _batch(args, first, last)
        first = (
            last if finding is None else int(said.get("at", first)) + 100
        )  # behind what it died of
        counts.update(said.get("counts", {}))
        slowest = max(slowest, float(said.get("slowest_s", 0.0)))
        rss_kib = max(rss_kib, int(said.get("rss_kib", 0)))
        if finding:
            findings.append(finding)
            print("FINDING", finding, flush=True)
        print(f"{sum(counts.values())} instances, {len(findings)} finding(s)", flush=True)
    if slowest > SLOW_S:
        findings.append(f"an instance took {slowest:.1f} s")
    if rss_kib * 1024 > MEMORY_BYTES:
        findings.append(f"a worker took {rss_kib >> 10} MiB")
    for finding in findings:
        print("FINDING", finding)
    for outcome, count in counts.most_common():
        print(f"{count:7d}  {outcome}")
    print(f"slowest {slowest:.2f} s, {rss_kib / 1024:.0f} MiB at most, {len(findings)} finding(s)")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
