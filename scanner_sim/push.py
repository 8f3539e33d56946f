"""Plays a procedure live: each scan is sent by C-STORE when its time has come. Seconds.

The procedure clock shows ``epoch + speed·(wall − epoch)``. Invariant: no slice is skipped; a scan
that cannot be delivered ends the push with an error that names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from scanner_sim.dicom_out import Writer
from scanner_sim.simulation import Simulation

_RETRIES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


class PushError(RuntimeError):
    """A scan could not be delivered."""


@dataclass(frozen=True)
class Target:
    ae_title: str
    host: str
    port: int
    calling_ae_title: str = "SCANNER"
    per_image: bool = False


@dataclass(frozen=True)
class Clock:
    epoch_utc_s: float
    speed: float

    def now_utc_s(self) -> float:
        return self.epoch_utc_s + self.speed * (time.time() - self.epoch_utc_s)

    def wait_until(self, utc_s: float) -> None:
        while (left := utc_s - self.now_utc_s()) > 0:
            time.sleep(min(left / self.speed, 0.2))


def play(simulation: Simulation, target: Target, clock: Clock, say: Callable[[str], None]) -> float:
    """Sends every scan; returns when the baseline was acquired (UTC s). Raises ``PushError``."""
    hu = simulation.scan(0)
    start_utc_s = clock.now_utc_s()
    writer = Writer(simulation.scenario, simulation.anatomy.frame, start_utc_s)
    for number, time_s in enumerate(simulation.scan_times_s):
        if number:
            clock.wait_until(start_utc_s + time_s)
            hu = simulation.scan(number)
        clock.wait_until(start_utc_s + time_s + simulation.scenario.scan.duration_s)
        sent = deliver(list(writer.slices(number, time_s, hu)), target)
        say(f"scan {number} at {time_s:.0f} s: {sent} slices sent")
    return start_utc_s


def deliver(slices: list[Dataset], target: Target) -> int:
    """All slices, over one association or one for each; what is refused is sent again."""
    left = slices
    for pause_s in (0.0, *_RETRIES_S):
        time.sleep(pause_s)
        left = list(_unsent(left, target))
        if not left:
            return len(slices)
    raise PushError(
        f"{len(left)} of {len(slices)} slices were not accepted by "
        f"{target.ae_title}@{target.host}:{target.port}"
    )


def _unsent(slices: Iterable[Dataset], target: Target) -> Iterator[Dataset]:
    """Sends what it can; yields what was not taken."""
    association: Any = None
    for dataset in slices:
        if association is None or not association.is_established:
            association = _associate(target)
        status = None
        if association.is_established:
            answer = association.send_c_store(dataset)
            status = answer.get("Status") if answer else None
        if status != 0x0000 and not _warning(status):
            yield dataset
        if target.per_image and association.is_established:
            association.release()
    if association is not None and association.is_established:
        association.release()


def _warning(status: int | None) -> bool:
    return status is not None and 0xB000 <= status <= 0xBFFF


def _associate(target: Target) -> Any:
    ae = AE(ae_title=target.calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30.0
    ae.connection_timeout = 5.0
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    return ae.associate(target.host, target.port, ae_title=target.ae_title, max_pdu=131072)
