"""What a workstation remembers of its windows from one procedure to the next. Logical pixels of the desktop.

One small JSON file for each window and one for ``live`` under ``$XDG_STATE_HOME/iceball``, by default
~/.local/state. Invariant: nothing here is needed: a file that is missing, broken or cannot be written costs
an operator a key press, never a procedure.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from monitor.view.translations import LANGUAGES

ROOM, CONSOLE, LIVE = "room", "console", "live"
_SHOWN = ("room", "console", "both")
_MOST_PX = 100_000


@dataclass(frozen=True)
class Remembered:
    """None: nothing was chosen. ``monitor``: its number, from 0. ``box``: (left, top, width, height) of a
    window that is neither maximised nor fills the screen. ``show``: which windows; of ``live`` only."""

    monitor: int | None = None
    language: str | None = None
    simple: bool | None = None
    full_screen: bool | None = None
    box: tuple[int, int, int, int] | None = None
    show: str | None = None


def folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "iceball"


def recall(name: str) -> Remembered:
    """What is remembered of "room", "console" or "live"; of a wrong value, nothing."""
    try:
        found = json.loads((folder() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Remembered()
    if not isinstance(found, dict):
        return Remembered()
    return Remembered(**{f.name: _checked(f.name, found.get(f.name)) for f in fields(Remembered)})


def _checked(name: str, value: Any) -> Any:
    if name == "box" and isinstance(value, list):
        value = tuple(value)
    return value if _IS_RIGHT[name](value) else None


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 4
        and all(_whole(v, -_MOST_PX, _MOST_PX) for v in value)
        and min(value[2:]) >= 100
    )


_IS_RIGHT = {
    "monitor": lambda v: _whole(v, 0, 15),
    "language": lambda v: v in LANGUAGES,
    "simple": lambda v: isinstance(v, bool),
    "full_screen": lambda v: isinstance(v, bool),
    "box": _is_box,
    "show": lambda v: v in _SHOWN,
}


def remember(name: str, what: Remembered) -> None:
    """Whole or not at all; a home that cannot be written to is no reason to stop."""
    path = folder() / f"{name}.json"
    new = path.with_suffix(f".{os.getpid()}.new")
    said = {key: value for key, value in asdict(what).items() if value is not None}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        new.replace(path)


# ------------------------------------------------------------------ which monitor


@dataclass(frozen=True)
class Monitors:
    """Which monitor the two windows belong on; ``gone``: those that were wanted and are not there."""

    room: int
    console: int
    gone: tuple[int, ...] = ()


def monitors(
    count: int, primary: int, show: str, given: int | None, room: int | None, console: int | None
) -> Monitors:
    """``given``: the one asked for, for the room's window, or for the console where only that is shown.
    ``room``, ``console``: where they were last. Where nothing is known, the console is on the primary
    monitor, where its user sits, and the room's window on another."""
    there = [i for i in range(count) if i != primary]
    asked = console if show == "console" and given is None else given
    asked = room if asked is None and show != "console" else asked
    gone = (asked,) if asked is not None and asked >= count else ()
    first = None if gone else asked
    if show != "both":
        one = primary if first is None else first
        return Monitors(one, one, gone)
    if first is None:  # a room's window that fell back lies on the primary one, as is said
        first = primary if gone or not there else there[0]
    others = [i for i in (primary, *there) if i != first]
    second = console if console in others else next(iter(others), primary)
    return Monitors(first, second, gone)
