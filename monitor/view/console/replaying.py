"""The console beside a record that is played: said at the top and on the plane.

Invariant: while a record is played nothing that acts on the procedure can be pressed (``may_act``).
"""

from __future__ import annotations

from typing import Any

from monitor.snapshot import Replayed
from monitor.view.palette import COLOURS
from monitor.view.replaying import said

_SHEET = f"background: {COLOURS['replay']}; color: {COLOURS['replay_text']}; padding: 3px;"


def show_replay(window: Any, replayed: Replayed | None, patient: str) -> None:
    """``window``: the console. Nothing where what it shows is live."""
    words = None if replayed is None else said(replayed, window.words.language)
    sheet = _SHEET if words else ""
    if window.patient.styleSheet() != sheet:  # setting one costs, even the same
        window.patient.setStyleSheet(sheet)
    window.shown.banner = f"{words.title} · {words.short}" if words else ""
    if words is not None:
        about = {"title": words.title, "playing": words.playing, "patient": patient}
        window.words.put(window.patient.setText, "replay.console", **about)
        window.shown.changed.emit()
