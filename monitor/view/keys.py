"""The operator's keys, also those of a foot pedal that types. Seconds of the view's clock.

What cannot be undone asks twice: C clears a wrong-patient block, Q ends the procedure; Esc only
takes a question back. Invariant: holding a key down (auto-repeat) never acts again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt5.QtCore import QTimer
from PyQt5.QtGui import QKeyEvent

from monitor.view.qt import Qt
from monitor.view.translations import text
from monitor.view.views import Views

if TYPE_CHECKING:
    from monitor.view.window import RoomWindow

# Between the first and the second press of a key that asks; and of F, against a double press.
ASK_S = 4.0
BOUNCE_S = 2.0
HOLD_MS = 1500
_LOOK = {Qt.Key_Left: -1, Qt.Key_Right: 1}
_REPLAY = {
    Qt.Key_Space: "replay_pause",
    Qt.Key_Return: "replay_step",
    Qt.Key_Enter: "replay_step",
    Qt.Key_Backspace: "replay_back",
    Qt.Key_N: "replay_next",
    Qt.Key_B: "replay_previous",
    Qt.Key_Greater: "replay_faster",
    Qt.Key_Less: "replay_slower",
}
_ACTS = (Qt.Key_F, Qt.Key_A, Qt.Key_C)
# Up and down turn the bodies while they are shown, with Shift over and under; else they scroll.
_TURN = {Qt.Key_Up: 1, Qt.Key_Down: -1}
_SCROLL = {Qt.Key_PageUp: 1, Qt.Key_Up: 1, Qt.Key_PageDown: -1, Qt.Key_Down: -1}


class Keys:
    """Turns key events into the window's acts."""

    def __init__(self, window: RoomWindow, mono: Callable[[], float]) -> None:
        self._window, self._mono = window, mono
        self._asked: tuple[str, float] = ("", 0.0)
        self._last_phase_s = float("-inf")
        self._hold = QTimer(window)
        self._hold.setSingleShot(True)
        self._hold.timeout.connect(self._held)

    def pressed(self, event: QKeyEvent) -> None:
        key = event.key()
        if key in _TURN and self._window.turn_solid(
            _TURN[key], bool(event.modifiers() & Qt.ShiftModifier)
        ):
            return
        if key in _SCROLL:  # scrolling and looking may repeat
            self._window.scroll_plane(_SCROLL[key])
            return
        if key in _LOOK:
            self._window.look_on(_LOOK[key])
            return
        if event.isAutoRepeat() or (self._window.replaying and self._replayed(key)):
            return
        actions: dict[int, Callable[[], None]] = {
            Qt.Key_F: self._phase_next,
            Qt.Key_A: self._window.acknowledge,
            Qt.Key_C: self._clear,
            Qt.Key_L: self._window.switch_language,
            Qt.Key_End: self._window.look_now,
            Qt.Key_Home: self._window.home,
            Qt.Key_Plus: lambda: self._window.zoom(1.25),
            Qt.Key_Equal: lambda: self._window.zoom(1.25),
            Qt.Key_Minus: lambda: self._window.zoom(0.8),
            Qt.Key_Q: self.quit_asked,
            Qt.Key_Escape: self._take_back,
            Qt.Key_W: lambda: self._window.show_views(Views.other_window),
            Qt.Key_S: lambda: self._window.show_views(Views.other_subtraction),
            Qt.Key_T: lambda: self._window.show_views(Views.next_slab),
            Qt.Key_V: lambda: self._window.show_views(Views.next_third),
            Qt.Key_H: self._window.switch_help,
            Qt.Key_M: self._window.switch_simple,
            Qt.Key_F11: self._window.toggle_full_screen,
        }
        if key in actions:
            actions[key]()

    def pedal(self, act: str) -> None:
        """What a pedal's key is for (``pedal.PEDAL_ACTS``), pressed in this window or in the other; nothing
        for what is not."""
        w = self._window
        acts: dict[str, Callable[[], None]] = {
            "acknowledge": w.acknowledge,
            "next_view": lambda: w.show_views(Views.next_third),
            "home": w.home,
            "now": w.look_now,
            "scroll_up": lambda: w.scroll_plane(1),
            "scroll_down": lambda: w.scroll_plane(-1),
            "look_back": lambda: w.look_on(-1),
            "look_on": lambda: w.look_on(1),
        }
        if act == "acknowledge" and w.replaying:
            w.say(text(w.language, "replay.refused"))
        elif act in acts:
            acts[act]()

    def _replayed(self, key: int) -> bool:
        """Whether the key was the player's, or is not to be used while a record is played."""
        if key in _REPLAY:
            self._window.act(_REPLAY[key])
        elif Qt.Key_1 <= key <= Qt.Key_9:
            self._window.play_scan(key - Qt.Key_0)
        elif key in _ACTS:
            self._window.say(text(self._window.language, "replay.refused"))
        return key in _REPLAY or key in _ACTS

    def released(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key_C and not event.isAutoRepeat():
            self._hold.stop()

    def quit_asked(self) -> None:
        """Q, or the window's own close button."""
        if self._confirmed("quit"):
            self._window.ask_to_end()

    def _phase_next(self) -> None:
        if self._mono() - self._last_phase_s >= BOUNCE_S:
            self._last_phase_s = self._mono()
            self._window.act("phase_next")

    def _clear(self) -> None:
        """Only where there is something to clear."""
        if not self._window.is_blocked():
            return
        if self._confirmed("clear_block"):
            self._hold.stop()
            self._window.act("clear_block")
        else:
            self._hold.start(HOLD_MS)

    def _held(self) -> None:
        if self._window.is_blocked():
            self._asked = ("", 0.0)
            self._window.act("clear_block")

    def _take_back(self) -> None:
        self._hold.stop()
        self._asked = ("", 0.0)
        self._window.say("")

    def _confirmed(self, what: str) -> bool:
        """True on the second press in time; on the first, asks for it."""
        asked, until = self._asked
        if asked == what and self._mono() < until:
            self._asked = ("", 0.0)
            return True
        self._asked = (what, self._mono() + ASK_S)
        asks = f"replay.ask.{what}" if self._window.replaying else f"ask.{what}"
        self._window.say(text(self._window.language, asks), ASK_S)
        return False
