"""Which windows a command opens, where, from how far the room's is read, and what the console starts."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from monitor.supervisor import COMMAND
from monitor.view.legibility import MM_PER_INCH, MM_PER_M, ROOM, Viewing
from monitor.view.pedal import Pedal
from monitor.view.remembered import Remembered, recall, remember
from monitor.workstation import ScreenOptions


@dataclass(frozen=True)
class Windows:
    """``show``: room, console or both; ``monitor`` None: wherever they were last."""

    show: str
    monitor: int | None
    viewing: Viewing
    pedal: Pedal = ()

    @property
    def room(self) -> bool:
        return self.show != "console"

    @property
    def console(self) -> bool:
        return self.show != "room"


def windows_of(args: argparse.Namespace, given: ScreenOptions, headless: bool = False) -> Windows:
    """What is typed, else what the workstation's file says (``given``), else what was shown last."""
    show = args.screen or given.show or recall("live").show or "room"
    if args.screen and not headless:
        remember("live", Remembered(show=show))
    monitor = args.monitor
    if monitor is None and show != "console":
        monitor = given.monitor  # the in-room one
    diagonal_in = given.diagonal_mm and given.diagonal_mm / MM_PER_INCH
    distance_m = given.distance_mm and given.distance_mm / MM_PER_M
    viewing = Viewing(
        args.diagonal or diagonal_in or ROOM.diagonal_in,
        args.distance or distance_m or ROOM.distance_m,
    )
    return Windows(show, monitor, viewing, given.pedal)


def console_fetch(workstation: Path | None) -> tuple[str, ...]:
    """The command with which the console asks a PACS: in a process of its own, which reads the patient from
    its input."""
    where = () if workstation is None else ("--workstation", str(workstation.resolve()))
    return (*COMMAND, "fetch", "--json", "--patient", "-", *where)
