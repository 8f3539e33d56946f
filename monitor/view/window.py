"""The in-room window: lays the parts out, keeps time, takes the operator's keys.

Where the parts lie: ``layout``. Time: the procedure's
now is the snapshot's, run on by the view's own monotonic clock times ``speed``; the core's silence
is real time by that same clock, so a dead or hung core shows within a second.
Invariant: the window never shows numbers of a snapshot it could not draw whole.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PyQt5.QtCore import QRect, QTimer
from PyQt5.QtWidgets import QWidget

from monitor.snapshot import Snapshot
from monitor.view import style
from monitor.view.dose_pane import DosePane
from monitor.view.help import Help
from monitor.view.keys import Keys
from monitor.view.layout import DESIGN as DESIGN
from monitor.view.layout import Box, Layout, layout
from monitor.view.legibility import Viewing
from monitor.view.looking import Look, look_at, planes_model, seen_then, stepped, still_there
from monitor.view.map_pane import MapPane
from monitor.view.panels import AlarmRow, Footer, Header, Readouts
from monitor.view.panes import PlanePane
from monitor.view.planes import AXIAL, PLANES, SAGITTAL, Plane
from monitor.view.qt import Qt
from monitor.view.replaying import ReplayBorder, as_replayed, inset, said
from monitor.view.scene import Scene
from monitor.view.solid_pane import SolidPane
from monitor.view.strip import Strip
from monitor.view.strip_model import strip_model
from monitor.view.translations import next_language, text
from monitor.view.turns import Turns
from monitor.view.viewmodel import Inputs, ScreenModel, screen_model
from monitor.view.views import THIRD, Views

_REFRESH_MS = 125
_SAID_S = 3.0
# Nobody should take another time for now because somebody left the planes there.
_LOOK_S = 60.0


class RoomWindow(QWidget):
    """The screen. ``send`` takes acts as plain dicts; ``mono`` is a monotonic clock in seconds.
    ``simple`` True or False is the operator's choice of screen; None: by the ``viewing``."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        language: str = "en",
        speed: float = 1.0,
        mono: Callable[[], float] = time.monotonic,
        viewing: Viewing | None = None,
    ) -> None:
        super().__init__()
        self.setWindowTitle("iceball-monitor")
        self.setAutoFillBackground(True)
        palette = self.palette()
        palette.setColor(self.backgroundRole(), style.colour("window"))
        self.setPalette(palette)
        self.setFocusPolicy(Qt.StrongFocus)
        self.language, self.speed = language, speed
        self.model: ScreenModel | None = None
        self._mono, self._send = mono, send
        self._snapshot: Snapshot | None = None
        self._received_mono_s = mono()
        self._core_gone = self._may_close = False
        self._draw_error: str | None = None
        self._slot_error: str | None = None
        self._said: tuple[str, float] = ("", 0.0)
        self.viewing = viewing or Viewing()
        self.simple: bool | None = None
        self.layout_now = Layout(False, 1.0, {})
        self.look: Look | None = None
        self._look_until_s = 0.0
        self.scene = Scene()
        self._make_parts()
        self.keys = Keys(self, mono)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)

    def _make_parts(self) -> None:
        self.turns = turns = Turns(self)
        self.header, self.readouts = Header(self), Readouts(self)
        self.alarm_row, self.footer = AlarmRow(self), Footer(self)
        self.panes = {p.name: PlanePane(p, self.scene, p is AXIAL, self, turns) for p in PLANES}
        self.dose = DosePane(SAGITTAL, self.scene, self, turns)
        for pane in (*self.panes.values(), self.dose):
            plane = pane.plane
            pane.wheeled.connect(lambda steps, plane=plane: self.scroll_plane(steps, plane))
            pane.pointed.connect(lambda r, v, plane=plane: self._pointed(plane, r, v))
        self.strip = Strip(self)
        self.strip.asked.connect(self.look_at)
        self.strip.returned.connect(self.look_now)
        self.map, self.help = MapPane(self.scene, self, turns), Help(self)
        self.solid = SolidPane(self.scene, self, turns)
        self.borders = {
            name: ReplayBorder(name == "axial", self) for name in (*self.panes, *THIRD[1:])
        }
        for border in self.borders.values():
            border.lower()
        self._parts: dict[str, Any] = {
            "map": self.map,
            "solid": self.solid,
            "dose": self.dose,
            "strip": self.strip,
            "header": self.header,
            "readouts": self.readouts,
            "alarm": self.alarm_row,
            "footer": self.footer,
            **self.panes,
        }

    def start_clock(self) -> None:
        """Keeps the screen live between messages."""
        self._timer.start(_REFRESH_MS)

    # ------------------------------------------------------------------ what comes in

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The core's latest word."""
        old, self._snapshot = self._snapshot, snapshot
        if (old is not None and old.replay is not None) != self.replaying:
            self._lay_out()
        self._received_mono_s = self._mono()
        self._draw_error = None
        self._keep_look(old, snapshot)
        self._take()
        self.refresh()

    def _take(self) -> None:
        """What the planes draw: now, or what is looked at."""
        if self._snapshot is None:
            return
        try:
            self.scene.take(seen_then(self._snapshot, self.look))
        except Exception as error:
            self._fail(error)

    def _keep_look(self, old: Snapshot | None, new: Snapshot) -> None:
        """A new scan brings the planes back to now; else the look stays while there is something to see."""
        if self.look is None:
            return
        if old is None or old.volume_id != new.volume_id:
            self.look = None
            self.say(text(self.language, "said.new_scan"))
            return
        self.look = still_there(new, self.look, self.now_utc_s())

    def core_gone(self) -> None:
        """The pipe to the core is closed: say so at once."""
        self._core_gone = True
        self.refresh()

    def show_error(self, name: str) -> None:
        """An exception escaped from a slot: the screen says so until acknowledged, and lives on."""
        self._slot_error = name

    def now_utc_s(self) -> float:
        """The procedure clock's time now; NaN before the first word."""
        if self._snapshot is None:
            return float("nan")
        replay = self._snapshot.replay
        pace = self.speed if replay is None else 0.0 if replay.paused else replay.pace
        return self._snapshot.now_utc_s + pace * (self._mono() - self._received_mono_s)

    @property
    def replaying(self) -> bool:
        """Whether this is a record that is played."""
        return self._snapshot is not None and self._snapshot.replay is not None

    # ------------------------------------------------------------------ refresh

    def refresh(self) -> None:
        """Brings the screen up to this moment. Never raises: what fails is shown as an error."""
        try:
            self._refresh(self._inputs())
        except Exception as error:
            self._fail(error)
            self._refresh(replace(self._inputs(), error=type(error).__name__))

    def _inputs(self) -> Inputs:
        silent_s = float("inf") if self._core_gone else self._mono() - self._received_mono_s
        return Inputs(
            self._snapshot,
            self.now_utc_s(),
            silent_s,
            self.language,
            self._draw_error or self._slot_error,
            self.speed,
        )

    def _refresh(self, inputs: Inputs) -> None:
        replay = self._snapshot.replay if self._snapshot is not None else None
        model = self.model = as_replayed(screen_model(inputs), replay)
        if replay is not None:
            for border in self.borders.values():
                border.say(said(replay, self.language))
        self.alarm_row.lit = self._lit(model)
        words, until = self._said
        self.footer.said = words if self._mono() < until else ""
        if self.look is not None and self._mono() > self._look_until_s:
            self.look = None
            self._take()
        now_utc_s, look = self.now_utc_s(), self.look
        planes = planes_model(model, self._snapshot, look, now_utc_s)
        for name, part in self._parts.items():
            if name in self.layout_now.boxes and name != "strip":
                part.show_model(planes if name in (*self.panes, *THIRD[1:]) else model)
        seen = None if planes is model else look
        self.strip.show_strip(strip_model(self._snapshot, model, now_utc_s, seen))

    def _lit(self, model: ScreenModel) -> bool:
        if model.alarm is None or model.alarm.flash_hz == 0 or not self._timer.isActive():
            return True
        return (self._mono() * model.alarm.flash_hz) % 1.0 < 0.5

    def _fail(self, error: Exception) -> None:
        traceback.print_exception(error)
        self._draw_error = type(error).__name__

    # ------------------------------------------------------------------ the operator

    def act(self, name: str, **about: tuple[str, str]) -> None:
        """Sends an act to the core, and confirms on the screen that it was asked for."""
        self._send({"act": name, **about})
        if f"said.{name}" in ("said.phase_next", "said.acknowledge", "said.clear_block"):
            self.say(text(self.language, f"said.{name}"))

    def play_scan(self, number: int) -> None:
        """Of a record: from the scan of that number on."""
        self._send({"act": "replay_scan", "params": {"number": number}})

    def say(self, words: str, seconds: float = _SAID_S) -> None:
        """Words to the operator, in place of the legend for a few seconds; nothing for ""."""
        self._said = (words, self._mono() + seconds)
        self.refresh()

    def acknowledge(self) -> None:
        """Tells the core that the alarm in the row has been read; the next one then takes its place."""
        self._slot_error = None
        line = self.model.alarm if self.model is not None else None
        if line is not None and not line.acknowledged:
            self.act("acknowledge", alarm=line.key)

    def is_blocked(self) -> bool:
        return self._snapshot is not None and self._snapshot.blocked

    def switch_language(self) -> None:
        self.language = self.help.language = next_language(self.language)
        self.help.update()
        self.refresh()

    def spoken(self) -> str:
        """The language on the screen."""
        return self.language

    def scroll_plane(self, steps: int, plane: Plane = AXIAL) -> None:
        self.scene.scroll(plane, steps)
        self.refresh()

    def turn_solid(self, steps: int, upwards: bool) -> bool:
        """Turns the bodies, if they are what is shown."""
        shown = "solid" in self.layout_now.boxes
        if shown:
            self.solid.turn(steps, upwards)
        return shown

    def show_views(self, change: Callable[[Views], Views]) -> None:
        """Another way of showing the planes."""
        self.scene.views = change(self.scene.views)
        self._lay_out()
        self.refresh()

    def look_at(self, at_utc_s: float) -> None:
        """The planes show another time; after a minute without a hand on it they show now again."""
        self._look(look_at(self._snapshot, at_utc_s, self.now_utc_s()))

    def look_now(self) -> None:
        self._look(None)

    def look_on(self, steps: int) -> None:
        """A scan back or on; beyond the last, a minute of the forecast."""
        self._look(stepped(self._snapshot, self.look, steps, self.now_utc_s()))

    def _look(self, look: Look | None) -> None:
        self.look, self._look_until_s = look, self._mono() + _LOOK_S
        self._take()
        self.refresh()

    def toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ Qt.WindowFullScreen)

    def switch_help(self) -> None:
        """The keys, or the planes again."""
        self.help.language, self.help.replay = self.language, self.replaying
        self.help.setVisible(not self.help.isVisible())
        self.help.raise_()

    def switch_simple(self) -> None:
        """The other of the two screens, whatever the viewing says."""
        self.simple = not self.layout_now.simple
        self._lay_out()
        self.refresh()

    def home(self) -> None:
        self.scene.home()
        self.refresh()

    def zoom(self, factor: float) -> None:
        self.scene.zoom = min(6.0, max(0.4, self.scene.zoom * factor))
        self.refresh()

    def _pointed(self, plane: Plane, right_mm: float, vertical_mm: float) -> None:
        self.scene.point_at(plane, right_mm, vertical_mm)
        self.refresh()

    def close_for_good(self) -> None:
        """Closes without asking again."""
        self._may_close = True
        self.close()

    def ask_to_end(self) -> None:
        """The operator wants to end: the core ends the procedure and then this process; without a
        core there is nobody to wait for."""
        if self._core_gone or self._snapshot is None:
            self.close_for_good()
        else:
            self.act("quit")

    # ------------------------------------------------------------------ Qt

    def keyPressEvent(self, event: Any) -> None:
        self.keys.pressed(event)

    def keyReleaseEvent(self, event: Any) -> None:
        self.keys.released(event)

    def closeEvent(self, event: Any) -> None:
        if self._may_close:
            event.accept()
            return
        event.ignore()
        self.keys.quit_asked()

    def resizeEvent(self, event: Any) -> None:
        self._lay_out()
        self.refresh()

    def _lay_out(self) -> None:
        """Shows the parts that the layout has, where it has them."""
        size = (self.width(), self.height())
        shown = layout(size, self._screen_px(), self.viewing, self.simple)
        self.readouts.simple = self.footer.simple = shown.simple
        boxes = dict(shown.boxes)
        if "sagittal" in boxes:
            boxes[self.scene.views.third] = boxes.pop("sagittal")
        self._lay_borders(boxes, shown.scale)
        self.layout_now = replace(shown, boxes=boxes)
        for name, part in self._parts.items():
            part.setVisible(name in boxes)
            part.scale = shown.scale
            if name in boxes:
                part.setGeometry(QRect(*boxes[name]))
        _, top, _, _ = boxes["axial"]
        self.help.scale = shown.scale
        self.help.setGeometry(0, top, boxes["readouts"][0], boxes["alarm"][1] - top)

    def _lay_borders(self, boxes: dict[str, Box], scale: float) -> None:
        """Around the planes that are shown, which are then smaller, while a record is played."""
        for name, border in self.borders.items():
            border.setVisible(self.replaying and name in boxes)
            border.scale = scale
            if self.replaying and name in boxes:
                border.setGeometry(QRect(*boxes[name]))
                boxes[name] = inset(boxes[name], border.main, scale)

    def _screen_px(self) -> tuple[int, int]:
        """The pixels of the monitor whose diagonal is configured; a window may be smaller than it."""
        screen: Any = self.screen()
        size, ratio = screen.size(), screen.devicePixelRatio()
        return (
            max(round(size.width() * ratio), self.width()),
            max(round(size.height() * ratio), self.height()),
        )
