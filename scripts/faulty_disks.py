"""What goes wrong with the disk of a record while a scan comes: a small ext4 file system of its own. Seconds.

Full: to its last byte. Protected: every file and folder of it refuses to be changed, those that are open,
too. Read-only: the kernel has met an error in it and takes nothing more until it is mended. Needs root.
Invariant: no other disk is touched, and what was mounted is gone with the block.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fault_accounts import account
from fault_rows import Row
from fault_tries import Group, NotTried, Run, Scanner, Strike, possible, rounds, struck, whole
from faulty_machine import case, frozen, replayed, since, until
from faulty_network import scan
from live_room import Room, headless

_BYTES = 2**30  # more than all tries need
# So many images of a scan are still to come at least: with the last of them, nothing meets the fault.
_TO_COME = 8
# Images are refused for want of the room itself, not of a reserve.
_LIMITS = "disk_free_bytes = 0\n"
_TOOLS = ("mkfs.ext4", "e2fsck", "mount", "umount", "chattr", "findmnt")
_SAID = "NOT KEPT"


@dataclass(frozen=True)
class Disk:
    """``image``, mounted at ``at``."""

    image: Path
    at: Path

    def mount(self) -> None:
        _done("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.at))

    def unmount(self) -> None:
        _done("umount", str(self.at))

    def fill(self) -> None:
        """At once, as far as it can be claimed so; then to the last byte."""
        with (self.at / "else").open("wb", buffering=0) as other:
            for size in (2**28, 2**24, 2**20):
                with suppress(OSError):
                    while True:
                        end = other.seek(0, os.SEEK_END)
                        os.posix_fallocate(other.fileno(), end, size)
            for size in (4096, 1):
                with suppress(OSError):
                    while True:
                        other.write(bytes(size))

    def room_again(self) -> None:
        (self.at / "else").unlink()

    def protect(self) -> None:
        _done("chattr", "-R", "-f", "+i", str(self.at / "record"))

    def unprotect(self) -> None:
        _done("chattr", "-R", "-f", "-i", str(self.at / "record"))

    def break_down(self) -> None:
        """As the kernel does it when it reads nonsense from a disk (ext4, errors=remount-ro)."""
        device = Path(_done("findmnt", "-no", "SOURCE", str(self.at)).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("by fault_table")

    def mend(self) -> None:
        """Off, checked, and on again."""
        self.unmount()
        checked = subprocess.run(["e2fsck", "-fp", self.image], check=False, capture_output=True)
        if checked.returncode > 1:  # 1: mended
            raise SystemExit(f"e2fsck: {checked.stdout!r}")
        self.mount()


def _done(*command: str) -> str:
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise NotTried(f"{' '.join(command[:2])}: {ran.stderr.strip()}")
    return ran.stdout


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Raises ``NotTried`` where nobody may have one."""
    if os.geteuid():
        raise NotTried("only root can mount a disk of its own")
    if gone := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise NotTried(f"{', '.join(gone)} not installed")
    made = Disk(folder / "disk.img", folder / "disk")
    made.at.mkdir()
    with made.image.open("wb") as image:
        image.truncate(_BYTES)
    _done("mkfs.ext4", "-q", "-m", "0", str(made.image))
    made.mount()
    try:
        yield made
    finally:
        with suppress(NotTried):  # it was mended in vain
            made.unmount()


# ------------------------------------------------------------------ full, or protected, for a while


def _full(on: Disk) -> Strike:
    def strike(room: Room, chance: random.Random) -> float:
        before = len(room.journal())
        on.fill()
        # The journal has room of its own.
        until(lambda: since(room, before, "alarm_raised", code="images_refused"), _SAID)
        room.type("acknowledge")
        time.sleep(chance.uniform(0.0, 1.0))
        on.room_again()
        return _kept_again(room, before)

    return strike


def _protected(on: Disk) -> Strike:
    def strike(room: Room, chance: random.Random) -> float:
        before, told = len(room.journal()), room.said().count(_SAID)
        on.protect()
        try:
            until(lambda: room.said().count(_SAID) > told, f"{_SAID}, on the terminal")
            room.type("acknowledge")
            time.sleep(chance.uniform(0.0, 1.0))
        finally:
            on.unprotect()
        return _kept_again(room, before)

    return strike


def _kept_again(room: Room, before: int) -> float:
    """Seconds until the operator's act of meanwhile is in the journal, and nothing is said to fail."""
    mended_s = time.monotonic()

    def over() -> bool:
        raised = since(room, before, "alarm_raised")
        cleared = [x["code"] for x in since(room, before, "alarm_cleared")]
        failing = {"images_refused", "record_failing"} & {x["code"] for x in raised}
        acts = since(room, before, "operator", act="acknowledge")
        return bool(acts) and all(code in cleared for code in failing)

    return until(over, "kept again") - mended_s


STRIKES = {
    "disk_full": ("its disk is full to the last byte, then there is room again", _full),
    "disk_protected": (
        "every file and folder of its disk refuses to be changed (immutable), then no more",
        _protected,
    ),
}


def _for_a_while(rows: list[Row], run: Run) -> None:
    with possible(rows), disk(run.folder) as on:
        record, terminal = on.at / "record", run.folder / "terminal"
        with headless(case(run.folder, limits=_LIMITS), record, terminal=terminal) as room:
            target = frozen(room)

            def one(row: Row, number: int) -> None:
                struck(room, row, target, STRIKES[row.fault][1](on), number, to_come=_TO_COME)

            rounds(rows, run, one)
        whole(room, rows[-1])
        replayed(record, rows[-1])


# ------------------------------------------------------------------ read-only to the end

READ_ONLY = {
    "disk_read_only": "the kernel makes its disk read-only after an error: that is said, the procedure is "
    "ended, the disk mended, and what the journal still had is appended to it"
}


def _to_the_end(rows: list[Row], run: Run) -> None:
    """A monitor and a disk for each try: ext4 takes nothing more before it has been mended."""
    with possible(rows):
        numbers = iter(range(run.tries))

        def one(row: Row, number: int) -> None:
            folder = run.folder / str(next(numbers))
            folder.mkdir()
            with disk(folder) as on:
                _broken(row, on, folder, number)

        rounds(rows, run, one)


def _broken(row: Row, on: Disk, folder: Path, number: int) -> None:
    """Seconds are until the terminal says that images are not kept."""
    chance, record, terminal = random.Random(number), on.at / "record", folder / "terminal"
    path = case(folder, limits=_LIMITS)
    with headless(path, record, terminal=terminal, env={"TMPDIR": str(folder)}) as room:
        target = frozen(room)
        before, slices = len(room.journal()), scan(number)
        scanner = Scanner(target, slices)
        scanner.start()
        scanner.reached(chance.randrange(2, len(slices) - 2))
        row.tries += 1
        on.break_down()
        broken_s = time.monotonic()
        said_s = until(lambda: _SAID in room.said(), f"{_SAID}, on the terminal")
        room.type("next")
        until(lambda: "thaw" in room.said().lower(), "the act is answered")
        room.process.send_signal(signal.SIGINT)
        status = room.process.wait(60)
    found = re.search(r"they are in (\S+\.jsonl):", room.said())
    on.mend()
    if status != 4 or found is None:
        row.wrong += 1
        row.lost += 1
        return
    with (record / "journal.jsonl").open("ab") as journal:
        journal.write(Path(found[1]).read_bytes())
    _ended(row, room, before, scanner)
    row.seconds.append(said_s - broken_s)


def _ended(row: Row, room: Room, before: int, scanner: Scanner) -> None:
    """The whole record, with what was typed meanwhile. A volume's file, which its images make again, may not
    have been on the disk yet."""
    account(room, row, before, scanner.kept)
    row.lost += not since(room, before, "operator", act="phase_next")
    row.wrong += not since(room, before, "procedure_ended")
    whole(room, row)
    replayed(room.record, row, "volume_unreadable")


GROUPS = (
    Group({name: text for name, (text, _) in STRIKES.items()}, 12.0, _for_a_while),
    Group(READ_ONLY, 20.0, _to_the_end),
)
