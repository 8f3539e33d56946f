"""A short procedure recorded by the real core, without threads or a network: small drawn scans, a
scripted clock. LPS mm, seconds."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.select import open_engine
from monitor.core import Core
from monitor.decision.alarm_states import Alarms, checked
from monitor.decision.safety import causes
from monitor.journal_fields import alarm_fields
from monitor.model import AssociationEnded, Instance
from monitor.opening import open_case
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record.cases import keep_case
from monitor.record.journal import FORMAT_VERSION, Journal
from monitor.record.store import Store
from monitor.state import Event, OperatorAct, State
from monitor.watching import Machine, facts_of
from tests.intake.intake_helpers import ct_dataset

EPOCH_UTC_S = 1_800_000_000.0
SETTLE = "settle"
PIXELS, PIXEL_MM, SLICES, SLICE_MM = 56, 2.0, 28, 3.0

CASE = """
[patient]
id = "P1"
[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 7.0
[[structure]]
name = "bowel"
limit_mm = 5.0
file = "../plan/bowel.mhd"
[[needle]]
number = 1
type = "icerod_1_5"
tip_lps_mm = [0.0, 6.0, 0.0]
entry_lps_mm = [0.0, -50.0, 0.0]
[protocol]
phases = [{ kind = "freeze", minutes = 6.0 }, { kind = "thaw", minutes = 3.0 }]
"""


class ScriptedClock:
    """A procedure clock that goes on when it is told to."""

    speed = 1.0

    def __init__(self) -> None:
        self.since_s = 1000.0

    def now_utc_s(self) -> float:
        return round(EPOCH_UTC_S + self.since_s, 6)

    def mono_s(self) -> float:
        return round(self.since_s, 6)

    def of_wall(self, wall_s: float) -> float:
        return self.now_utc_s()


class Scripted:
    """Gives the core one item of a script after the other. ``None`` lets it be idle for once, ``SETTLE``
    until no forecast or what-if is left to be computed."""

    def __init__(self, script: list[Any], clock: ScriptedClock) -> None:
        self.script, self.clock = script, clock
        self.acts: queue.SimpleQueue[OperatorAct] = queue.SimpleQueue()
        self.core: RememberingCore | None = None

    def get(self, timeout: float) -> Any:
        self.clock.since_s += timeout
        assert self.core is not None
        self.core.watch()
        if not self.script or (self.script[0] is SETTLE and self.core.state.work_pending):
            raise queue.Empty
        item = self.script.pop(0)
        if callable(item):
            item = item()
        if isinstance(item, OperatorAct):
            self.acts.put(item)
        if item is None or item is SETTLE or isinstance(item, OperatorAct):
            raise queue.Empty
        return item

    def over(self) -> bool:
        return not self.script and self.acts.empty()


class RememberingCore(Core):
    """The core, and every state it was in: after which line of the journal."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.states: list[tuple[Event, State]] = []
        self.alarms: Alarms = ()

    def handle(self, event: Event) -> None:
        super().handle(event)
        self.states.append((event, self.state))
        self.watch()

    def watch(self) -> None:
        """As the watch thread does it, on the scripted clock."""
        now_utc_s = self._clock.now_utc_s()
        facts = facts_of(self.state, self.procedure, now_utc_s, Machine())
        self.alarms, changes = checked(self.alarms, causes(facts, now_utc_s), now_utc_s)
        for kind, alarm in changes:
            self.journal(kind, alarm_fields(alarm))


class Room:
    """A record being made: ``script`` is what happens in the room."""

    def __init__(self, folder: Path) -> None:
        self.record, self.case = folder / "record", folder / "case" / "case.toml"
        self.clock = ScriptedClock()
        self.script: list[Any] = []
        # What else an image holds, for whoever wants to dress it up.
        self.dress: Callable[[Any], None] = lambda d: None
        self._associations = 0
        for made in (self.record, self.case.parent, folder / "plan"):
            made.mkdir(parents=True)
        self.case.write_text(CASE, encoding="utf-8")
        bowel(folder / "plan" / "bowel.mhd")

    def run(self, kind: type[RememberingCore] | None = None) -> Any:
        """Plays the script through ``Core.run``."""
        journal = Journal(self.record, self.clock)  # type: ignore[arg-type]
        store = Store(self.record, self.record.parent / "scratch")
        kept = keep_case(self.record, self.case)
        _, procedure = open_case(self.record / kept.path)
        engine = open_engine("cpu", MOST_LATENT)
        core = (kind or RememberingCore)(procedure, engine, journal, store, self.clock)
        core.journal(
            "procedure_started",
            {
                "format_version": FORMAT_VERSION,
                "version": "test",
                "engine": engine.name,
                "kept_case": asdict(kept),
            },
        )
        inbox = Scripted(self.script, self.clock)
        inbox.core, self.inbox = core, inbox
        core.run(inbox, inbox.acts, inbox.over)  # type: ignore[arg-type]
        core.journal("procedure_ended", {"by": "request"})
        journal.close()
        return core

    # ------------------------------------------------------------------ what happens

    def first_freeze(self) -> None:
        """A baseline, the freeze, and a scan of it, each worked out to its end."""
        self.scan(0.0)
        self.wait(2.0)
        self.act("phase_next")
        self.script.append(SETTLE)
        self.wait(60.0)
        self.scan(7.0)
        self.script.append(SETTLE)

    def wait(self, seconds: float) -> None:
        def passes() -> None:
            for _ in range(round(2.0 * seconds)):
                self.clock.since_s += 0.5
                self.inbox.core.watch()  # type: ignore[union-attr]

        self.script.append(passes)

    def act(self, name: str, params: dict[str, Any] | None = None) -> None:
        self.script.append(lambda: OperatorAct(name, self.clock.now_utc_s(), params=params))

    def reload(self, text: str) -> None:
        def reloaded() -> OperatorAct:
            self.case.write_text(text, encoding="utf-8")
            kept = asdict(keep_case(self.record, self.case))
            _, procedure = open_case(self.record / kept["path"])
            return OperatorAct("reload", self.clock.now_utc_s(), procedure, kept)

        self.script.append(reloaded)

    def scan(self, ice_mm: float, *, slices: int = SLICES, ended: bool = True) -> None:
        """A scan with ice of that radius (0: none); ``ended``: its association says so."""
        self._associations += 1
        number = self._associations
        hu = drawn(ice_mm, seed=number)
        for k in range(slices):
            self.script.append(lambda k=k: self.received(k, hu[k], number))
        if ended:
            self.script.append(lambda: AssociationEnded(number, False, slices, self.clock.mono_s()))

    def duplicate(self) -> None:
        """The last image once more."""
        self.script.append(lambda: self._last)

    def slice(self, k: int = 0, **changed: Any) -> None:
        """One image, of an association of its own."""
        self._associations += 1
        number, hu = self._associations, np.zeros((PIXELS, PIXELS), np.int16)
        self.script.append(lambda: self.received(k, hu, number, **changed))

    def received(self, k: int, hu: npt.NDArray[np.int16], number: int, **changed: Any) -> Instance:
        """An image as the listener keeps it."""
        self.clock.since_s += 0.05
        d = ct_dataset(k, series=f"1.2.3.{number}", rows=PIXELS, columns=PIXELS)
        at = datetime.fromtimestamp(self.clock.now_utc_s(), UTC)
        d.AcquisitionDate, d.AcquisitionTime = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
        d.TimezoneOffsetFromUTC = "+0000"
        half_mm = 0.5 * PIXEL_MM * (PIXELS - 1)
        d.ImagePositionPatient = [-half_mm, -half_mm, SLICE_MM * (k - SLICES // 2)]
        d.PixelSpacing, d.SliceThickness = [PIXEL_MM, PIXEL_MM], SLICE_MM
        d.PixelData = (hu + 1024).astype("<u2").tobytes()
        for name, value in changed.items():
            setattr(d, name, value)
        self.dress(d)
        part = self.record / "blobs" / "received.part"
        d.save_as(part, enforce_file_format=True)
        sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
        part.rename(part.with_name(f"{sha256}.dcm"))
        self._last = Instance(
            sha256,
            f"blobs/{sha256}.dcm",
            str(d.SOPClassUID),
            str(d.SOPInstanceUID),
            str(d.file_meta.TransferSyntaxUID),
            number,
            "CT",
            self.clock.now_utc_s(),
            self.clock.mono_s(),
        )
        return self._last


def drawn(ice_mm: float, seed: int) -> npt.NDArray[np.int16]:
    """(z, y, x) HU: tissue with a few blobs to register by, a needle from in front, ice around its
    active part."""
    z, y, x = _centres()
    rng = np.random.default_rng(7)
    hu = np.full(z.shape, 55.0)
    for centre in rng.uniform(-45.0, 45.0, (30, 3)):
        hu += rng.uniform(-40.0, 40.0) * (
            np.hypot(np.hypot(x - centre[0], y - centre[1]), z - centre[2]) < 9
        )
    along = np.clip(y, -22.0, 4.0)  # of the active zone
    hu[np.hypot(np.hypot(x, y - along), z) < ice_mm] = -15.0
    hu[(np.hypot(x, z) < 2.0) & (y <= 6.0)] = 2500.0
    noise = np.random.default_rng(seed).normal(0.0, 8.0, z.shape)
    return np.asarray(np.clip(hu + noise, -1000, 3000), np.int16)


def _centres() -> tuple[npt.NDArray[np.float64], ...]:
    plane = PIXEL_MM * (np.arange(PIXELS) - 0.5 * (PIXELS - 1))
    return np.meshgrid(SLICE_MM * (np.arange(SLICES) - SLICES // 2), plane, plane, indexing="ij")


def bowel(path: Path) -> None:
    """A ball beside the lesion, as a header whose voxels lie in another file."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ones((6, 6, 6), np.uint8))
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((20.0, 0.0, 0.0))
    SimpleITK.WriteImage(image, str(path))
    assert path.with_suffix(".raw").exists()
