"""Each fault against a running monitor: what was lost, and when it was right again.

    python scripts/fault_table.py [--tries 20] [--only NAME] [--limit-s 3600] [--write docs/faults.md]

A real ``iceball live`` gets scans of 20 slices from a scanner, each time with one fault: of the scanner, the
network, the files, the disk, the clock, a process, the PACS. A scan is right when an assessment stands of the
volume with all of its images that can be read. Lost is an image that the sender was told is kept, and that is
in no volume and in no quarantine. Seconds are counted from the last image's answer (of the next scan where
that has to mend it) to the line in the journal that every screen's next snapshot follows, four a second; of a
process that was killed, a disk, a clock and a PACS until it was right again, if that takes longer. Exit
status 1 when anything was lost, or did not become right. The time is shared by all faults; what this machine
cannot make is not tried, and says so: disks need root, the others Xvfb, xdotool, gcc and Orthanc or DCMTK
(scripts/system_packages.sh test). Needs the tests' packages.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faulty_disks
import faulty_machine
import faulty_pacs
from fault_accounts import RIGHT_S, account, right_at, settled
from fault_rows import Row, markdown, written
from fault_tries import Group, Run, counted, rounds, whole
from faulty_files import FILES
from faulty_network import NETWORK, PATIENT, TLS, Network, push, scan
from live_room import Room, headless
from pydicom.dataset import Dataset

from scanner_sim.wire.faults import KINDS, Fault
from scanner_sim.wire.push import Target, Tls

_BLOCKING = frozenset({"other_patient", "wrong_frame"})
# The scan itself is no use: it is kept, said, and the next one is right.
_NEXT_SCAN = frozenset({"wrong_frame", "clock_jump", "clock_back"})
_STRUCK: Mapping[str, tuple[str, Network]] = {**NETWORK, **FILES, **TLS}


# ------------------------------------------------------------------ one try


def tried(
    room: Room, row: Row, target: Target, send: Callable[[list[Dataset]], None], number: int
) -> None:
    slices = scan(number)
    before = len(room.journal())
    send(slices)
    ended = time.monotonic()
    row.tries += 1
    cleared = 0.0
    if row.fault in _BLOCKING:
        settled(room, before)
        cleared, ended = _cleared(room, before), time.monotonic()
    if row.fault in _NEXT_SCAN:
        account(room, row, before)
        slices, before = scan(number + 500_000), len(room.journal())
        push(slices, target)
        ended = time.monotonic()
    right = right_at(room, before, slices)
    if right is None:
        row.wrong += 1
    else:
        row.seconds.append(max(right - ended, cleared, 0.0))
    account(room, row, before)


def _cleared(room: Room, before: int) -> float:
    """Seconds from the operator's act, once all is said, until nothing is blocked any more."""

    def standing(kind: str) -> Callable[[list[dict[str, Any]]], bool]:
        return lambda m: any(
            x["kind"] == kind and x["code"].endswith("_mismatch") for x in m[before:]
        )

    room.wait(standing("alarm_raised"), RIGHT_S)
    began = time.monotonic()
    room.type("clear")
    room.wait(standing("alarm_cleared"), RIGHT_S)
    return time.monotonic() - began


# ------------------------------------------------------------------ scanner, network and files


def case(folder: Path, tls: Path | None = None) -> Path:
    text = (
        f'[patient]\nid = "{PATIENT}"\n[organ]\npreset = "liver"\n[lesion]\n'
        "centre_lps_mm = [0.0, 0.0, 24.0]\nradius_mm = 8.0\n"
        '[listener]\nport = 0\nallowed_peers = ["*@127.0.0.1"]\n'
        "[listener.limits]\npdu_s = 2.0\nhello_s = 2.0\nhandshake_s = 2.0\n"
        "instance_bytes = 33554432\n"
    )
    if tls is not None:
        text += f'[listener.tls]\ncertificate = "{tls}/listener.pem"\nkey = "{tls}/listener.key"\n'
        text += f'ca = "{tls}/ca.pem"\n'
    path = folder / "case.toml"
    path.write_text(text)
    return path


@contextmanager
def monitor(folder: Path, tls: Path | None = None) -> Iterator[tuple[Room, Target]]:
    with headless(case(folder, tls), folder / "record") as room:
        host = "127.0.0.1" if tls is None else "localhost"
        pair = tls and Tls(tls / "ca.pem", tls / "scanner.pem", tls / "scanner.key")
        target = Target("ICEBALL", host, room.port, tls=pair or None)
        push(scan(0), target)
        room.wait(lambda m: [x for x in m if x["kind"] == "baseline_set"])
        room.type("next")  # while nothing freezes, any scan is just another baseline
        room.wait(lambda m: [x for x in m if x["kind"] == "phase"])
        yield room, target


def _in_plain(rows: list[Row], run: Run) -> None:
    _against(rows, run, None)


def _with_tls(rows: list[Row], run: Run) -> None:
    certificates(run.folder / "pairs")
    _against(rows, run, run.folder / "pairs")


def _against(rows: list[Row], run: Run, tls: Path | None) -> None:
    with monitor(run.folder, tls) as (room, target):

        def one(row: Row, seed: int) -> None:
            tried(room, row, target, _sender(room, row.fault, target, seed), seed)

        rounds(rows, run, one)
        whole(room, rows[-1])


def _sender(room: Room, fault: str, target: Target, seed: int) -> Callable[[list[Dataset]], None]:
    if fault in KINDS:
        struck = (Fault(fault, None, KINDS[fault].seconds),)
        return lambda slices: push(slices, target, struck, seed)
    _, network = _STRUCK[fault]
    return lambda slices: network(room, target, slices, random.Random(seed))


def certificates(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "monitor.cli",
        "certificates",
        str(folder),
        "--host",
        "localhost",
    ]
    subprocess.run(command, check=True, capture_output=True)


# ------------------------------------------------------------------ all

_PLAIN = {name: kind.text for name, kind in KINDS.items()}
_PLAIN |= {name: text for name, (text, _) in {**NETWORK, **FILES}.items()}
# By the section of docs/faults.md that has them.
SECTIONS: dict[str, tuple[Group, ...]] = {
    "Scanner, network and files": (
        Group(_PLAIN, 65.0, _in_plain),
        Group({name: text for name, (text, _) in TLS.items()}, 2.0, _with_tls),
    ),
    "Machine and processes": (
        *faulty_disks.GROUPS,
        *faulty_machine.GROUPS,
        *faulty_pacs.GROUPS,
    ),
}


def table(
    tries: int, names: set[str], limit_s: float, keep: Path | None = None
) -> dict[str, list[Row]]:
    """Every fault again and again, until each was tried so often or the time is up. By section."""
    made = {
        section: [(group, _rows(group, names)) for group in groups]
        for section, groups in SECTIONS.items()
    }
    waiting = [(group, rows) for of in made.values() for group, rows in of if rows]
    end = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as name:
        for place, (group, rows) in enumerate(waiting):
            share_s = share(end - time.monotonic(), [g.round_s for g, _ in waiting[place:]])
            folder = (keep or Path(name)) / str(place)
            folder.mkdir(parents=True)
            with counted(rows[-1]):  # a monitor that does not start, or does not end
                group.run(rows, Run(tries, time.monotonic() + share_s, folder))
    return {section: [row for _, rows in of for row in rows] for section, of in made.items()}


def _rows(group: Group, names: set[str]) -> list[Row]:
    return [Row(n, text) for n, text in group.faults.items() if not names or n in names]


def share(left_s: float, rounds_s: list[float]) -> float:
    """Of the time that is left, the first one's, so that each comes to as many rounds; what it does not need
    is the others'."""
    return left_s * rounds_s[0] / sum(rounds_s)


def own_mounts() -> None:
    """This program anew where what it mounts is gone with it, however it ends."""
    alone = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() or "OWN_MOUNTS" in os.environ or shutil.which(alone[0]) is None:
        return
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode == 0:
        os.environ["OWN_MOUNTS"] = "1"
        os.execvp(alone[0], [*alone, sys.executable, *sys.argv])


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--limit-s", type=float, default=3600.0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the records stay")
    parser.add_argument("--write", type=Path, metavar="FILE")
    args = parser.parse_args()
    known = {name for groups in SECTIONS.values() for group in groups for name in group.faults}
    if strange := set(args.only) - known:
        parser.error(
            f"no fault {', '.join(sorted(strange))}; there are: {', '.join(sorted(known))}"
        )
    own_mounts()
    # Told to end, it ends the monitors that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = table(args.tries, set(args.only), args.limit_s, args.keep)
    for section, rows in found.items():
        if rows:
            print(f"{section}\n\n{markdown(rows)}")
            if args.write:
                written(args.write, section, rows)
    return 1 if any(r.lost or r.wrong for rows in found.values() for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
