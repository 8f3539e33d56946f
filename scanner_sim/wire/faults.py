"""What goes wrong between a scanner and a receiver, as transformations of steps. Seconds.

Nothing is sent here: steps in, steps out. Scan 0 is the baseline. Invariant: the same seed, scan and
faults give the same steps; a scan that no fault names comes out as it went in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import generate_uid

from scanner_sim.scenario import ScenarioError
from scanner_sim.wire.steps import AbortIn, Absence, Release, Silence, Step, Store
from scanner_sim.wire.times import shift_times

DEFAULT_SCANS = frozenset({2})  # the second after the baseline: the ice is there and still grows


@dataclass(frozen=True)
class Fault:
    """``scans`` None: every scan. ``seconds``: how long or how far, for those that have a length."""

    name: str
    scans: frozenset[int] | None = DEFAULT_SCANS
    seconds: float = 0.0

    def hits(self, scan: int) -> bool:
        return self.scans is None or scan in self.scans


@dataclass(frozen=True)
class Kind:
    """``change`` of the steps of one scan, with a generator of its own and the fault's seconds."""

    text: str
    change: Callable[[list[Step], np.random.Generator, float], list[Step]]
    seconds: float = 0.0


def parse(text: str) -> Fault:
    """``NAME[:when]``; when is ``all`` or scan numbers (``3`` or ``2,5``). Raises
    ``ScenarioError`` that says what was expected."""
    name, _, when = text.partition(":")
    if name not in KINDS:
        raise ScenarioError(f"fault {name!r}: there are {', '.join(KINDS)}")
    numbers = when.split(",")
    scans: frozenset[int] | None = DEFAULT_SCANS
    if when == "all":
        scans = None
    elif all(n.strip().isdecimal() for n in numbers):
        scans = frozenset(int(n) for n in numbers)
    elif ":" in text:
        raise ScenarioError(f"fault {text!r}: expected {name}:all or scan numbers, as {name}:2,5")
    return Fault(name, scans, KINDS[name].seconds)


def check(faults: Iterable[Fault], scans: int) -> None:
    """Raises ``ScenarioError`` for a fault that would strike a scan that there is not."""
    for fault in faults:
        beyond = sorted(n for n in fault.scans or () if n >= scans)
        if beyond:
            raise ScenarioError(
                f"fault {fault.name}: there is no scan {beyond[0]}, the last one is {scans - 1}"
            )


def describe() -> str:
    """One line a fault, for a command's help."""
    width = max(map(len, KINDS))
    return "\n".join(f"{name:<{width}}  {kind.text}" for name, kind in KINDS.items())


def apply(
    datasets: Sequence[Dataset], scan: int, faults: Iterable[Fault] = (), seed: int = 0
) -> list[Step]:
    """The steps that send a scan, one association a series, with every fault that hits it. The
    datasets stay as they are."""
    steps: list[Step] = []
    for before, dataset in zip([None, *datasets], datasets, strict=False):
        if before is not None and before.SeriesInstanceUID != dataset.SeriesInstanceUID:
            steps.append(Release())
        steps.append(Store(dataset))
    hitting = {f.name: f for f in faults if f.hits(scan)}
    for number, (name, kind) in enumerate(
        KINDS.items()
    ):  # in the table's order, whatever was asked
        if name in hitting and steps:
            rng = np.random.default_rng([seed, scan, number])
            steps = kind.change(steps, rng, hitting[name].seconds)
    return steps


# ------------------------------------------------------------------ what is in the instances


def _other_patient(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    """After every third slice one of somebody else's, who is being looked at on the console."""
    mixed: list[Step] = []
    for place, step in enumerate(steps):
        mixed.append(step)
        if place % 3 == 1 and isinstance(step, Store):
            mixed.append(Store(_somebody_elses(step.dataset)))
    return mixed


def _somebody_elses(dataset: Dataset) -> Dataset:
    d = copy.deepcopy(dataset)
    d.PatientID, d.PatientName = f"{dataset.PatientID}-OTHER", "OTHER^PATIENT"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if keyword in d:
            d[keyword].value = generate_uid(entropy_srcs=[d[keyword].value, "other patient"])
    uid = generate_uid(entropy_srcs=[d.SOPInstanceUID, "other patient"])
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid
    return d


def _wrong_frame(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    def change(d: Dataset) -> None:
        if "FrameOfReferenceUID" in d:
            d.FrameOfReferenceUID = generate_uid(entropy_srcs=[d.FrameOfReferenceUID, "wrong"])

    return [_changed(step, change) for step in steps]


def _clock_jump(steps: list[Step], rng: np.random.Generator, seconds: float) -> list[Step]:
    return [_changed(step, lambda d: shift_times(d, seconds)) for step in steps]


def _truncated_pixels(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    """One slice's pixel data ends early; its header promises all of it."""
    return _damage_one(steps, rng, lambda pixels: pixels[: len(pixels) // 4 * 2], False)


def _corrupted_pixels(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    """A damaged codestream; where there is none, more pixel data than the header allows."""
    return _damage_one(steps, rng, lambda pixels: pixels + pixels[:64], True)


def _damage_one(
    steps: list[Step],
    rng: np.random.Generator,
    change: Callable[[bytes], bytes],
    scramble: bool,
) -> list[Step]:
    victim = int(rng.choice([n for n, step in enumerate(steps) if isinstance(step, Store)]))

    def damage(d: Dataset) -> None:
        if not d.file_meta.TransferSyntaxUID.is_compressed:
            d.PixelData = change(d.PixelData)
            return
        frame = next(generate_frames(d.PixelData, number_of_frames=1))
        d.PixelData = encapsulate([_scrambled(frame) if scramble else change(frame)])

    return [_changed(s, damage) if n == victim else s for n, s in enumerate(steps)]


def _scrambled(codestream: bytes) -> bytes:
    """Its head still says what it is; the middle half is the complement of what it was."""
    a, b = len(codestream) // 4, 3 * len(codestream) // 4
    return codestream[:a] + bytes(255 - v for v in codestream[a:b]) + codestream[b:]


def _changed(step: Step, change: Callable[[Dataset], None]) -> Step:
    if not isinstance(step, Store):
        return step
    d = copy.deepcopy(step.dataset)
    change(d)
    return Store(d)


# ------------------------------------------------------------------ which are sent, and when


def _lost_slices(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    """A tenth, from within: what is missing at an end nobody can know of."""
    lost = _some(steps, rng)
    return [step for place, step in enumerate(steps) if place not in lost]


def _duplicate_slices(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    twice = _some(steps, rng)
    return [s for place, step in enumerate(steps) for s in [step] * (2 if place in twice else 1)]


def _some(steps: list[Step], rng: np.random.Generator) -> set[int]:
    stores = [isinstance(step, Store) for step in steps]
    inner = [n for n in range(1, len(steps) - 1) if all(stores[n - 1 : n + 2])]
    inner = inner or [n for n, store in enumerate(stores) if store]
    return set(rng.choice(inner, max(1, len(inner) // 10), replace=False).tolist())


def _sent_twice(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    return [*steps, Release(), *steps]


def _stall(steps: list[Step], rng: np.random.Generator, seconds: float) -> list[Step]:
    return _in_the_middle(steps, Silence(seconds))


def _abort_in_store(steps: list[Step], rng: np.random.Generator, _: float) -> list[Step]:
    for place in range(len(steps) // 2, len(steps)):
        step = steps[place]
        if isinstance(step, Store):
            return steps[:place] + [AbortIn(step.dataset)] + steps[place:]
    return steps


def _refused(steps: list[Step], rng: np.random.Generator, seconds: float) -> list[Step]:
    return _in_the_middle(steps, Absence(seconds))


def _in_the_middle(steps: list[Step], step: Step) -> list[Step]:
    middle = (len(steps) + 1) // 2
    return steps[:middle] + [step] + steps[middle:]


KINDS: dict[str, Kind] = {
    "wrong_frame": Kind("the scan has another FrameOfReferenceUID", _wrong_frame),
    "clock_jump": Kind("the scan's times are an hour ahead", _clock_jump, 3600.0),
    "clock_back": Kind("the scan's times are an hour behind", _clock_jump, -3600.0),
    "truncated_pixels": Kind("one slice's pixel data ends half way", _truncated_pixels),
    "corrupted_pixels": Kind(
        "one slice's codestream is damaged; uncompressed: it is too long", _corrupted_pixels
    ),
    "other_patient": Kind("another patient's slices come in between", _other_patient),
    "lost_slices": Kind("a tenth of the slices never comes", _lost_slices),
    "duplicate_slices": Kind("a tenth of the slices comes twice, same UID", _duplicate_slices),
    "sent_twice": Kind("the whole scan comes twice, same UIDs", _sent_twice),
    "stall": Kind("30 s of silence in mid-scan, the association stays open", _stall, 30.0),
    "abort_in_store": Kind(
        "A-ABORT in the middle of a slice; the rest comes in a new association", _abort_in_store
    ),
    "refused": Kind(
        "connection reset in mid-scan, 20 s nobody, one call in vain, then the rest",
        _refused,
        20.0,
    ),
}
