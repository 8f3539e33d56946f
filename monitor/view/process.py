"""The view's process: snapshots in, operator acts out, over one pipe. Times as in ``window``.

In: ("snapshot", Snapshot), ("render", path), ("pedal", what), ("quit",). Out: {"act": NAME},
("rendered", path). Of several waiting snapshots the last is shown. Qt is imported here inside
``run_view`` only, so that who starts the process does not load it.
Invariant: when the pipe closes, a window says so and stays; a headless view ends.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor import logs
from monitor.snapshot import Snapshot
from monitor.view.legibility import ROOM, Viewing
from monitor.view.pedal import Pedal, listen
from monitor.view.platform import prepare

if TYPE_CHECKING:
    from monitor.view.window import RoomWindow

_POLL_MS = 30
# A forecast that starts at a scan's acquisition runs on from that scan.
_SAME_SCAN_S = 1.0
# Long enough to be read by somebody who is still setting up.
_GONE_S = 20.0


@dataclass(frozen=True)
class ViewOptions:
    """``window``: show one (where there is a display). ``png_dir``: a PNG per scan into it.
    ``clock_speed``: procedure seconds per second. ``size``: pixels of the picture or window;
    a window without a size opens where and as it was last. ``viewing``: the monitor and how far away it is
    read from. ``show``, ``monitor``: which windows there are, and the monitor asked for (``remembered``)."""

    language: str = "en"
    clock_speed: float = 1.0
    window: bool = True
    png_dir: str | None = None
    size: tuple[int, int] | None = None
    viewing: Viewing = ROOM
    show: str = "room"
    monitor: int | None = None
    pedal: Pedal = ()


def run_view(conn: Connection, options: ViewOptions) -> None:
    """Runs the view until told to quit. The target of a spawned process."""
    # Ctrl-C reaches every process of a terminal; the core hears it and tells this one to quit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    headless = not options.window or not has_display()
    prepare(window=not headless)
    from PyQt5.QtWidgets import QApplication

    from monitor.view.style import load_fonts
    from monitor.view.window import DESIGN, RoomWindow

    timings = os.environ.get("ICEBALL_VIEW_TIMINGS")
    app: Any = _timed(Path(timings)) if timings else QApplication(sys.argv[:1])
    load_fonts()
    link = Link(conn)
    window = RoomWindow(link.send, options.language, options.clock_speed, viewing=options.viewing)
    install_excepthook(window)
    listen(app, options.pedal, window.keys.pedal)
    if timings:
        app.window = window
    window.resize(*(options.size or DESIGN))
    if not headless:
        window.start_clock()
    if headless or options.size:
        window.show()
    else:
        open_room(window, options)
    loop = Loop(app, window, link, options, headless)
    loop.start()
    app.exec_()
    loop.finish()


def open_room(window: RoomWindow, options: ViewOptions) -> None:
    """Where it belongs and as it was left; from then on that is kept."""
    from monitor.view.placement import Keeper, chosen, open_on, say_gone
    from monitor.view.qt import Qt
    from monitor.view.remembered import recall
    from monitor.view.translations import text

    before, where = recall("room"), chosen(options.show, options.monitor)
    window.language = window.help.language = before.language or options.language
    window.simple = before.simple
    # Who works at the console types there; the room's window, up later, is not to take the keys away.
    window.setAttribute(Qt.WA_ShowWithoutActivating, options.show == "both")
    open_on(window, where.room, before)
    say_gone(where.gone)
    for number in where.gone:
        window.say(text(window.language, "said.monitor_gone", number=str(number)), _GONE_S)
    Keeper(window, "room", options.language)


def _timed(path: Path) -> Any:
    from monitor.view.timings import TimedApplication

    return TimedApplication(sys.argv[:1], path)


def has_display() -> bool:
    """Whether a window can be shown here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Link:
    """The view's end of the pipe."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.closed = False

    def send(self, message: Any) -> None:
        try:
            self._conn.send(message)
        except OSError:
            self.closed = True

    def waiting(self) -> list[tuple[Any, ...]]:
        """All messages that are there now. One that cannot be read raises, already taken out."""
        messages: list[tuple[Any, ...]] = []
        try:
            while self._conn.poll():
                messages.append(self._conn.recv())
        except (EOFError, OSError):
            self.closed = True
        return messages


class Loop:
    """Drains the pipe, shows the latest, writes the pictures."""

    def __init__(
        self, app: Any, window: RoomWindow, link: Link, options: ViewOptions, headless: bool
    ) -> None:
        from PyQt5.QtCore import QTimer

        self._app, self._window, self._link = app, window, link
        self._headless = headless
        self._pngs = Pictures(window, Path(options.png_dir)) if options.png_dir else None
        self._timer = QTimer()
        self._timer.timeout.connect(self._turn)
        self._said_gone = False

    def start(self) -> None:
        self._timer.start(_POLL_MS)

    def finish(self) -> None:
        """The last picture, of whatever the screen says at the end."""
        self._timer.stop()
        if self._pngs is not None:
            self._pngs.final()
        self._window.close_for_good()

    def _turn(self) -> None:
        for message in self._worth_showing(self._link.waiting()):
            try:
                self._take(message)
            except Exception as error:
                # What follows it in the pipe may be fine and must not be lost with it.
                logs.failed("message_not_shown", error)
                traceback.print_exc()
                self._window.show_error(type(error).__name__)
        if self._link.closed and not self._said_gone:
            self._said_gone = True
            self._window.core_gone()
            if self._headless:
                self._app.quit()

    def _worth_showing(self, messages: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Of the snapshots only the last, and, where pictures are taken, the last of each scan."""
        last: dict[Any, int] = {}
        for i, message in enumerate(messages):
            if message[0] == "snapshot":
                last[_scan(message[1]) if self._pngs else None] = i
        keep = set(last.values())
        return [m for i, m in enumerate(messages) if m[0] != "snapshot" or i in keep]

    def _take(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "snapshot":
            if not isinstance(message[1], Snapshot):
                raise TypeError(f"expected a Snapshot, got {type(message[1]).__name__}")
            self._window.show_snapshot(message[1])
            if self._pngs is not None:
                self._pngs.take(message[1])
        elif kind == "render":
            from monitor.view.png import save_png

            self._window.refresh()
            save_png(self._window, Path(message[1]))
            self._link.send(("rendered", message[1]))
        elif kind == "pedal":
            self._window.keys.pedal(message[1])
        elif kind == "quit":
            self._app.quit()


class Pictures:
    """``screen_<volume_id>.png`` when a scan's assessment comes, again when its forecast does, and
    ``screen_final.png``."""

    def __init__(self, window: RoomWindow, folder: Path) -> None:
        self._window, self._folder = window, folder
        self._taken: set[tuple[str, bool]] = set()

    def take(self, snapshot: Snapshot) -> None:
        a = snapshot.assessment
        if a is None or a.volume_id is None or snapshot.blocked:
            return
        times = snapshot.forecast_times_utc_s
        foreseen = bool(times) and abs(times[0] - a.as_of_utc_s) < _SAME_SCAN_S
        if (a.volume_id, foreseen) in self._taken or (a.volume_id, True) in self._taken:
            return
        self._taken.add((a.volume_id, foreseen))
        self._save(f"screen_{a.volume_id}.png")

    def final(self) -> None:
        self._save("screen_final.png")

    def _save(self, name: str) -> None:
        from monitor.view.png import save_png

        try:
            save_png(self._window, self._folder / name)
        except OSError as error:
            logs.failed("picture_not_kept", error)
            traceback.print_exc()


def _scan(snapshot: Any) -> str | None:
    assessment = getattr(snapshot, "assessment", None)
    return assessment.volume_id if assessment else None


def install_excepthook(window: RoomWindow) -> None:
    """PyQt5 aborts on an exception in a slot; with a hook the screen says so and lives on."""

    def hook(kind: type[BaseException], error: BaseException, where: Any) -> None:
        logs.failed("uncaught_in_slot", error)
        traceback.print_exception(kind, error, where)
        if issubclass(kind, Exception):
            window.show_error(kind.__name__)

    sys.excepthook = hook
