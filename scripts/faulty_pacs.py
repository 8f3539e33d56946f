"""A PACS that is away while results are made for it, and a sending process that is killed over them. Seconds.

Orthanc, or DCMTK's storescp where that is not installed, gets the ice of each scan of a phantom that freezes.
Invariant: what counts is what the PACS itself says that it holds, by SOP Instance UID.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from fault_rows import Row
from fault_tries import Group, NotTried, Run, Strike, possible, rounds, struck, whole
from faulty_machine import case, free_port, frozen, killed_and_back, since, until
from faulty_network import scan
from live_room import Room, headless
from pydicom.dataset import Dataset

from monitor.record.spool import Spool

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.replay.recorded import PIXEL_MM, PIXELS, SLICE_MM, SLICES, drawn

_START_S, _WAIT_S = 30.0, 120.0


# ------------------------------------------------------------------ a PACS


@dataclass
class Pacs(ABC):
    """``folder``: what it holds outlives it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def held(self) -> Counter[str]:
        """How often it has each SOP Instance UID."""

    def start(self) -> float:
        """When it took calls."""
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return until(lambda: _answers(self.port), "the PACS does not start", _START_S)

    def stop(self, at_once: bool = False) -> None:
        """``at_once``: Orthanc takes seconds to end in order, and takes calls meanwhile."""
        if self.process is not None:
            (self.process.kill if at_once else self.process.terminate)()
            self.process.wait(_START_S)


def _answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Orthanc(Pacs):
    http_port: int = 0

    def command(self) -> list[str]:
        self.http_port = self.http_port or free_port()
        told = {
            "StorageDirectory": str(self.folder), "IndexDirectory": str(self.folder),
            "DicomAet": "PACS", "DicomPort": self.port, "HttpPort": self.http_port,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
        }  # fmt: skip
        (self.folder / "orthanc.json").write_text(json.dumps(told))
        return [_orthanc(), str(self.folder / "orthanc.json")]

    def held(self) -> Counter[str]:
        until(lambda: _answers(self.http_port), "Orthanc's REST API")
        url = f"http://127.0.0.1:{self.http_port}/instances?expand"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return Counter(x["MainDicomTags"]["SOPInstanceUID"] for x in json.load(answer))


class StoreScp(Pacs):
    """A file for each time that something came."""

    def command(self) -> list[str]:
        return [_storescp(), "-aet", "PACS", "-uf", "-od", str(self.folder), str(self.port)]

    def held(self) -> Counter[str]:
        files = (p for p in self.folder.iterdir() if p.is_file())
        return Counter(str(pydicom.dcmread(p).SOPInstanceUID) for p in files)


def _orthanc() -> str:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin") or ""


def _storescp() -> str:
    """DCMTK's: pynetdicom installs programs of the same names beside Python."""
    beside = Path(sys.executable).parent
    path = os.pathsep.join(f for f in os.get_exec_path() if Path(f) != beside)
    return shutil.which("storescp", path=path) or ""


@contextmanager
def running_pacs(folder: Path) -> Iterator[Pacs]:
    """Raises ``NotTried``."""
    if not (_orthanc() or _storescp()):
        raise NotTried("neither Orthanc nor DCMTK is installed")
    folder.mkdir()
    pacs: Pacs = (Orthanc if _orthanc() else StoreScp)(folder, free_port())
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


# ------------------------------------------------------------------ a phantom with ice

_PLAN = """[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 7.0
[[needle]]
number = 1
type = "icerod_1_5"
tip_lps_mm = [0.0, 6.0, 0.0]
entry_lps_mm = [0.0, -50.0, 0.0]
"""


def freezing(number: int) -> list[Dataset]:
    """A scan of now with 6 to 10 mm of ice around the needle; none in number 0, the baseline."""
    ice_mm = random.Random(number).uniform(6.0, 10.0) if number else 0.0
    half_mm = 0.5 * PIXEL_MM * (PIXELS - 1)
    made = scan(number, SLICES, PIXELS)
    for k, (d, hu) in enumerate(zip(made, drawn(ice_mm, number), strict=True)):
        d.ImagePositionPatient = [-half_mm, -half_mm, SLICE_MM * (k - SLICES // 2)]
        d.PixelSpacing, d.SliceThickness = [PIXEL_MM, PIXEL_MM], str(SLICE_MM)
        d.PixelData = (hu + 1024).astype("<u2").tobytes()
    return made


# ------------------------------------------------------------------ faults


def _away(pacs: Pacs) -> Strike:
    def strike(room: Room, chance: random.Random) -> float:
        """Gone before there is anything to send, started again when something has waited for it."""
        before = len(room.journal())
        pacs.stop(at_once=True)
        until(lambda: since(room, before, "delivery", code="no_connection"), "it waits", _WAIT_S)
        time.sleep(chance.uniform(0.0, 2.0))
        there_s = pacs.start()
        return until(lambda: _sent(room, before), "sent", _WAIT_S) - there_s

    return strike


def _sent(room: Room, before: int) -> bool:
    """Nothing waits any more, and something had."""
    told = since(room, before, "delivery")
    return bool(told) and told[-1]["code"] == "sent" and told[-1]["waiting"] == 0


def _killed_over_it(room: Room, chance: random.Random) -> float:
    """While the surface is made into an object, or is on its way."""
    before = len(room.journal())
    until(lambda: since(room, before, "ice_segmented"), "the ice is measured", _WAIT_S)
    time.sleep(chance.uniform(0.0, 1.0))
    return killed_and_back("kill_pacs")(room, chance)


FAULTS: dict[str, tuple[str, Callable[[Pacs], Strike]]] = {
    "pacs_away": ("the PACS is killed before a scan's ice goes to it, and started again", _away),
    "kill_pacs_over_it": (
        "`kill -9` of the process that sends to the PACS, over an object",
        lambda _: _killed_over_it,
    ),
}


def _pacs(rows: list[Row], run: Run) -> None:
    with possible(rows), running_pacs(run.folder / "pacs") as pacs:
        send = f'[pacs]\nsend_to = "PACS@127.0.0.1:{pacs.port}"\nobjects = ["ice"]\ngive_up_after_s = 30\n'
        path, record = case(run.folder, send, plan=_PLAN), run.folder / "record"
        with headless(path, record) as room:
            target = frozen(room, freezing)

            def one(row: Row, number: int) -> None:
                struck(room, row, target, FAULTS[row.fault][1](pacs), number, freezing)

            rounds(rows, run, one)
        whole(room, rows[-1])
        _once(room, pacs, rows[0])


def _once(room: Room, pacs: Pacs, row: Row) -> None:
    """When the procedure has ended the PACS has each scan's ice, and has it once."""
    lines = room.journal()
    measured = [x for x in lines if x["kind"] == "ice_segmented" and x["volume_ml"] is not None]
    spool = Spool.of(room.record / "spool", "PACS", "127.0.0.1", pacs.port)
    sent = {str(pydicom.dcmread(p).SOPInstanceUID) for p in (spool.folder / "sent").glob("*.dcm")}
    held = pacs.held()
    print(
        f"PACS: {len(measured)} measured, {len(sent)} sent, {sum(held.values())} held", flush=True
    )
    row.lost += len(sent - set(held)) + max(len(measured) - len(sent), 0) + len(spool.pending())
    row.wrong += sum(n - 1 for n in held.values()) + len(set(held) - sent) + len(spool.refused())


GROUPS = (Group({name: text for name, (text, _) in FAULTS.items()}, 30.0, _pacs),)
