"""A foot pedal's keys, whichever window has the keyboard. No units.

A pedal is a keyboard to the program: with two windows, what it types goes to the console (decision 13).
Keys that the workstation gives to it (``[pedal]`` of workstation.toml) are taken before any field, slider or
plane sees them, and each does one thing of the room's screen. Invariant: nothing a pedal can do is
irreversible, starts, stops or changes the procedure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PyQt5.QtCore import QObject
    from PyQt5.QtWidgets import QApplication

# Key names with what they do.
Pedal = tuple[tuple[str, str], ...]
# Those that the windows use for something themselves are not to be had: F6, F11.
PEDAL_KEYS = tuple(f"F{n}" for n in range(1, 25) if n not in (6, 11))
# What a held-down switch goes on doing.
REPEATING = ("scroll_up", "scroll_down", "look_back", "look_on")
PEDAL_ACTS = ("acknowledge", "next_view", "home", "now", *REPEATING)


def listen(app: QApplication, pedal: Pedal, do: Callable[[str], None]) -> QObject:
    """Calls ``do`` with what a pedal's key is for; keep what is returned."""
    from PyQt5.QtCore import QEvent, QObject

    from monitor.view.qt import Qt

    does = {getattr(Qt, f"Key_{key}"): act for key, act in pedal}
    kinds: Any = QEvent

    class Listener(QObject):
        def eventFilter(self, _: Any, event: Any) -> bool:
            if event.type() not in (kinds.KeyPress, kinds.KeyRelease):
                return False
            act = does.get(event.key())
            if act is None or event.modifiers() & ~Qt.KeypadModifier:
                return False
            held = event.isAutoRepeat()
            if event.type() == kinds.KeyPress and (not held or act in REPEATING):
                do(act)
            return True

    listener = Listener(app)
    app.installEventFilter(listener)
    return listener
