"""Each fault of scanner and network against a running monitor: what was lost, and when it was right again.

    python scripts/fault_table.py [--tries 20] [--only NAME] [--limit-s 1500] [--write docs/faults.md]

A real ``iceball live --headless`` gets scans of 20 slices from the scanner simulator, each time with one
fault. A scan is right when an assessment stands of the volume with all of its images that can be read. Lost
is an image that the sender was told is kept, and that is in no volume and in no quarantine. Seconds are
counted from the last image's answer (of the next scan where that has to mend it) to the line in the journal
that every screen's next snapshot follows, four a second. Exit status 1 when anything was lost, or a scan did
not become right.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulty_network import NETWORK, PATIENT, TLS, push, scan
from live_room import Room, headless
from pydicom.dataset import Dataset

from scanner_sim.wire.faults import KINDS, Fault
from scanner_sim.wire.push import Target, Tls

_RIGHT_S = 60.0  # longer, and it is not right
_QUIET_S = 0.5
_BLOCKING = frozenset({"other_patient", "wrong_frame"})
# The scan itself is no use: it is kept, said, and the next one is right.
_NEXT_SCAN = frozenset({"wrong_frame", "clock_jump", "clock_back"})


@dataclass
class Row:
    fault: str
    text: str
    tries: int = 0
    sent: int = 0
    quarantined: int = 0
    lost: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        times = "–"
        if self.seconds:
            times = f"{statistics.median(self.seconds):.1f} (at most {max(self.seconds):.1f})"
        right = f"{self.tries - self.wrong} of {self.tries}"
        return (
            f"`{self.fault}`", self.text, str(self.tries), str(self.sent), str(self.quarantined),
            str(self.lost), right, times,
        )  # fmt: skip


_HEAD = ("fault", "what happens", "tried", "images sent", "of them in quarantine, with a reason", "lost",
         "right again", "after … s, in the median")  # fmt: skip


# ------------------------------------------------------------------ one try


def lines_of(room: Room, kind: str) -> list[dict[str, Any]]:
    return [x for x in room.journal() if x["kind"] == kind]


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
        _settled(room, before)
        cleared, ended = _cleared(room, before), time.monotonic()
    if row.fault in _NEXT_SCAN:
        _account(room, row, before)
        slices, before = scan(number + 500_000), len(room.journal())
        push(slices, target)
        ended = time.monotonic()
    right = _right(room, before, slices)
    if right is None:
        row.wrong += 1
    else:
        row.seconds.append(max(right - ended, cleared, 0.0))
    _account(room, row, before)


def _right(room: Room, before: int, slices: list[Dataset]) -> float | None:
    """When the assessment came of the volume with all images that came and can be read; None: it did
    not."""
    sent = {str(d.SOPInstanceUID) for d in slices}
    end = time.monotonic() + _RIGHT_S
    while time.monotonic() < end:
        lines = _settled(room, before)
        came = {x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received"}
        rejected = {x["sop_instance_uid"] for x in lines if x["kind"] == "instance_rejected"}
        inside = {
            u for x in lines if x["kind"] == "volume_completed" for u in x["sop_instance_uids"]
        }
        wanted = (sent & came) - (rejected - inside)  # what came twice is inside, and rejected once
        whole = [
            x["volume_id"] for x in lines
            if x["kind"] == "volume_completed" and wanted <= set(x["sop_instance_uids"])
        ]  # fmt: skip
        for x in lines:
            if x["kind"] == "assessment" and x["volume_id"] in whole:
                return float(x["mono_s"])
        time.sleep(0.1)
    return None


def _cleared(room: Room, before: int) -> float:
    """Seconds from the operator's act, once all is said, until nothing is blocked any more."""

    def standing(kind: str) -> Callable[[list[dict[str, Any]]], bool]:
        return lambda m: any(
            x["kind"] == kind and x["code"].endswith("_mismatch") for x in m[before:]
        )

    room.wait(standing("alarm_raised"), _RIGHT_S)
    began = time.monotonic()
    room.type("clear")
    room.wait(standing("alarm_cleared"), _RIGHT_S)
    return time.monotonic() - began


def _left(lines: list[dict[str, Any]]) -> list[str]:
    """Images that came and are nowhere yet; what came twice is in a volume and rejected, or twice that."""
    left = Counter(x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received")
    left -= Counter(x["sop_instance_uid"] for x in lines if x["kind"] == "instance_rejected")
    left -= Counter(
        {u for x in lines if x["kind"] == "volume_completed" for u in x["sop_instance_uids"]}
    )
    return list(left.elements())


def _settled(room: Room, before: int) -> list[dict[str, Any]]:
    """The journal since then, when an association has been over, every image that came is somewhere, and none
    (of another association) has come for a moment; or after a while."""
    end, came, since = time.monotonic() + 30.0, -1, 0.0
    while True:
        lines = room.journal()[before:]
        over = any(x["kind"] == "association_ended" for x in lines)
        count, now = sum(x["kind"] == "instance_received" for x in lines), time.monotonic()
        if count != came:
            came, since = count, now
        if (over and not _left(lines) and now - since > _QUIET_S) or now > end:
            return lines
        time.sleep(0.1)


def _account(room: Room, row: Row, before: int) -> None:
    """Every image that came, counted by where it is; a duplicate is in the quarantine as one."""
    lines = _settled(room, before)
    rejected = [x for x in lines if x["kind"] == "instance_rejected"]
    row.sent += sum(x["kind"] == "instance_received" for x in lines)
    row.quarantined += len(rejected)
    missing = [x for x in rejected if not (room.record / x["path"]).is_file()]
    row.lost += len(_left(lines)) + len(missing)


# ------------------------------------------------------------------ all


def case(folder: Path, tls: Path | None = None) -> Path:
    text = (
        f'[patient]\nid = "{PATIENT}"\n[organ]\npreset = "liver"\n[lesion]\n'
        "centre_lps_mm = [0.0, 0.0, 24.0]\nradius_mm = 8.0\n"
        '[listener]\nport = 0\nallowed_peers = ["*@127.0.0.1"]\n'
        "[listener.limits]\npdu_s = 2.0\nhello_s = 2.0\nhandshake_s = 2.0\n"
    )
    if tls is not None:
        text += f'[listener.tls]\ncertificate = "{tls}/listener.pem"\nkey = "{tls}/listener.key"\n'
        text += f'ca = "{tls}/ca.pem"\n'
    path = folder / "case.toml"
    path.write_text(text)
    return path


@contextmanager
def monitor(folder: Path, tls: Path | None = None) -> Iterator[tuple[Room, Target]]:
    folder.mkdir()
    with headless(case(folder, tls), folder / "record") as room:
        host = "127.0.0.1" if tls is None else "localhost"
        pair = tls and Tls(tls / "ca.pem", tls / "scanner.pem", tls / "scanner.key")
        target = Target("ICEBALL", host, room.port, tls=pair or None)
        push(scan(0), target)
        room.wait(lambda m: [x for x in m if x["kind"] == "baseline_set"])
        room.type("next")  # while nothing freezes, any scan is just another baseline
        room.wait(lambda m: [x for x in m if x["kind"] == "phase"])
        yield room, target


def table(tries: int, names: set[str], limit_s: float, keep: Path | None = None) -> list[Row]:
    """Every fault in turn, again and again, until each was tried so often or the time is up."""
    rows = {n: Row(n, kind.text) for n, kind in KINDS.items()}
    rows.update({n: Row(n, text) for n, (text, _) in {**NETWORK, **TLS}.items()})
    rows = {n: row for n, row in rows.items() if not names or n in names}
    end = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as name:
        folder = keep or Path(name)
        certificates(folder / "pairs")
        for kind, tls in (("tls", folder / "pairs"), ("plain", None)):  # the shorter first
            mine = [row for n, row in rows.items() if (n in TLS) == (tls is not None)]
            if mine:
                with monitor(folder / kind, tls) as (room, target):
                    _all(room, target, mine, tries, end)
                    _none_left_over(room, mine)
    return list(rows.values())


def _all(room: Room, target: Target, rows: list[Row], tries: int, end: float) -> None:
    for number in range(tries):
        for place, row in enumerate(rows):
            if time.monotonic() > end:
                return
            seed = 1000 * number + place + 1
            print(f"{number + 1} of {tries}: {row.fault}", file=sys.stderr, flush=True)
            try:
                tried(room, row, target, _sender(room, row.fault, target, seed), seed)
            except SystemExit as error:  # it did not answer in time
                print(f"{row.fault}: {error}", file=sys.stderr, flush=True)
                row.wrong += 1
        print(f"{number + 1} of {tries}: {sum(r.lost for r in rows)} lost, "
              f"{sum(r.wrong for r in rows)} not right", flush=True)  # fmt: skip


def _sender(room: Room, fault: str, target: Target, seed: int) -> Callable[[list[Dataset]], None]:
    if fault in KINDS:
        struck = (Fault(fault, None, KINDS[fault].seconds),)
        return lambda slices: push(slices, target, struck, seed)
    _, network = {**NETWORK, **TLS}[fault]
    return lambda slices: network(room, target, slices, random.Random(seed))


def _none_left_over(room: Room, rows: list[Row]) -> None:
    """Files that the journal does not know, and errors of the program."""
    received = {x["path"].rpartition("/")[2] for x in lines_of(room, "instance_received")}
    there = {p.name for f in ("blobs", "quarantine") for p in (room.record / f).glob("*.dcm")}
    rows[-1].lost += len(received - there)
    if faults := lines_of(room, "fault"):
        sys.exit(f"fault_table: the monitor had an error: {faults[0]}")


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


def markdown(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in rows)]) + "\n"


def written(path: Path, rows: list[Row]) -> None:
    """The table in the place of the one that its section has."""
    text = path.read_text(encoding="utf-8")
    head, found, rest = text.partition("## Scanner and network\n")
    if not found:
        sys.exit(f"fault_table: {path}: no section 'Scanner and network'")
    section, again, others = rest.partition("\n## ")
    said = section[: section.index("| ")] if "| " in section else section
    path.write_text(head + found + said + markdown(rows) + again + others, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--limit-s", type=float, default=1500.0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the records stay")
    parser.add_argument("--write", type=Path, metavar="FILE")
    args = parser.parse_args()
    # Told to end, it ends the monitors that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = table(args.tries, set(args.only), args.limit_s, args.keep)
    print(markdown(rows))
    if args.write:
        written(args.write, rows)
    return 1 if any(row.lost or row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
