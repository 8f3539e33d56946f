"""The console's process: as ``view.process``, with acts that have params. Times as in ``window``.

Invariant: when the pipe closes, the window says so and stays.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.case import load_case
from monitor.config import ListenerConfig
from monitor.planning.draft import draft_of
from monitor.view.pedal import Pedal, listen
from monitor.view.platform import prepare
from monitor.view.process import Link, Loop, ViewOptions, has_display, install_excepthook

if TYPE_CHECKING:
    from monitor.view.console.window import ConsoleWindow


@dataclass(frozen=True)
class ConsoleOptions:
    """``folder``: where plans and corrections are written. ``listener``: for the cases it writes.
    ``case``: what the monitor works with already, if it has a plan.
    ``size``: of the window; without one it opens where it was last (``show``, ``monitor``: as in
    ``view.process``). ``fetch``: the command that asks a PACS; none: there is none."""

    folder: str
    listener: ListenerConfig
    stale_after_s: float = 210.0
    language: str = "en"
    clock_speed: float = 1.0
    size: tuple[int, int] | None = None
    show: str = "console"
    monitor: int | None = None
    case: str | None = None
    pedal: Pedal = ()
    fetch: tuple[str, ...] = ()


def run_console(conn: Connection, options: ConsoleOptions) -> None:
    """Runs the console until told to quit. The target of a spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    headless = not has_display()
    prepare(window=not headless)
    from PyQt5.QtWidgets import QApplication

    from monitor.view.console.window import ConsoleWindow
    from monitor.view.style import load_fonts

    app = QApplication(sys.argv[:1])
    load_fonts()
    link = Link(conn)
    window = ConsoleWindow(
        link.send,
        options.language,
        Path(options.folder),
        options.listener,
        options.stale_after_s,
        options.clock_speed,
        fetch=options.fetch,
    )
    install_excepthook(window)
    listen(app, options.pedal, lambda do: link.send({"act": "pedal", "params": {"do": do}}))
    if options.case is not None:
        window.begin(draft_of(load_case(Path(options.case))))
    window.resize(*(options.size or (1280, 800)))
    window.start_clock()
    if options.size or headless:
        window.show()
    else:
        _open(window, options)
    loop = Loop(app, window, link, ViewOptions(window=not headless), headless)
    loop.start()
    app.exec_()
    loop.finish()


def _open(window: ConsoleWindow, options: ConsoleOptions) -> None:
    """On a monitor beside the room's, where there is one."""
    from monitor.view.placement import Keeper, chosen, open_on, say_gone
    from monitor.view.remembered import recall

    before, where = recall("console"), chosen(options.show, options.monitor)
    window.speak(before.language or options.language)
    open_on(window, where.console, before)
    if options.show == "console":  # else the room's window says it
        say_gone(where.gone)
        for number in where.gone:
            window.editor.tell("console.monitor_gone", number=str(number))
    Keeper(window, "console", options.language)
