"""The console as somebody at it sees and works it: buttons found in the picture, the plane, a live process.

Pixels of the console's monitor, LPS mm in the plane. Invariant: where something is, is read from a picture
of the monitor; what the monitor has done, from its journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from desktop import Hands, Rect, areas, until

from monitor.view.translations import text

CONSOLE_TITLE = "^(Iceball console|Console Iceball)$"
ROOM_TITLE = "^iceball-monitor$"
CONSOLE_MONITOR, ROOM_MONITOR = 0, 1
# The console's own colours (monitor/view/console/parts.py): of a button, and of a field to be filled in.
_BUTTON, _CHOSEN, _FIELD = "#23282D", "#2F4A5E", "#15181B"
_BRIGHT = 150
# Where its parts lie on a monitor of 1920 x 1080: steps left of, page right of, orders above, alarms below.
_STEPS_PX, _PAGE_PX, _TOP_PX, _ALARMS_PX = 400, 1300, 80, 870
# Its plane: all of 260 mm across the smaller side at first; + zooms by 1.25.
_FIELD_MM, _ZOOM = 260.0, 1.25
_START_S = 180.0
Point = tuple[float, float]


class Plane:
    """Where the plane lies on the monitor, and what it shows."""

    def __init__(self, box: Rect, centre_mm: Point) -> None:
        self.box, self.centre_mm, self.field_mm = box, centre_mm, _FIELD_MM

    def px(self, at_mm: Point) -> tuple[float, float]:
        left, top, right, bottom = self.box
        per_mm = min(right - left, bottom - top) / self.field_mm
        x = (left + right) / 2 + (at_mm[0] - self.centre_mm[0]) * per_mm
        return x, (top + bottom) / 2 + (at_mm[1] - self.centre_mm[1]) * per_mm

    def zoomed(self, steps: int, cross_mm: Point) -> None:
        self.field_mm /= _ZOOM**steps
        self.centre_mm = cross_mm


class Console:
    """Its window, in front on the first monitor."""

    def __init__(self, hands: Hands, language: str) -> None:
        self.hands, self.language = hands, language
        self.plane: Plane | None = None

    def bring_up(self) -> None:
        until(lambda: self.hands.shown(ROOM_TITLE), "room's window", 60.0)
        self.hands.focus(CONSOLE_TITLE)
        until(lambda: len(self.buttons()) >= 8, "console's buttons", 60.0)

    # ------------------------------------------------------------------ buttons

    def buttons(self) -> list[Rect]:
        return areas(self.hands.picture(CONSOLE_MONITOR), _BUTTON)

    def _page(self, colour: str) -> list[Rect]:
        """Those of the page at the right, from above, by lines."""
        found = areas(self.hands.picture(CONSOLE_MONITOR), colour)
        return [r for r in found if r[0] > _PAGE_PX and r[1] > _TOP_PX and r[3] < _ALARMS_PX]

    def press(self, key: str) -> None:
        """The button of that sentence, by its letter and Alt."""
        said = text(self.language, key)
        self.hands.effort.acts += 1
        self.hands.key(f"alt+{said[said.index('&') + 1].lower()}")

    def press_enabled(self, key: str, number: int) -> None:
        """Once it can be: that button of the page, by its letter."""
        self.wait_enabled(number)
        self.press(key)

    def click_button(self, number: int) -> None:
        """A button of the page, from above."""
        found = until(lambda: self._page(_BUTTON)[number:], f"button {number} of the page")
        self.hands.effort.acts += 1
        self._click(found[0])

    def click_field(self, number: int) -> None:
        found = until(lambda: self._page(_FIELD)[number:], f"field {number} of the page")
        self.hands.effort.acts += 1
        self._click(found[0])

    def step(self, number: int) -> None:
        """One of the six, with the mouse."""
        self.hands.effort.acts += 1
        self._click(until(lambda: self._steps()[number - 1 :], f"step {number}")[0])
        until(lambda: self._is_chosen(number), f"page {number}")

    def _steps(self) -> list[Rect]:
        picture = self.hands.picture(CONSOLE_MONITOR)
        found = [*areas(picture, _BUTTON), *areas(picture, _CHOSEN)]
        return sorted((r for r in found if r[2] < _STEPS_PX), key=lambda r: r[1])

    def _is_chosen(self, number: int) -> bool:
        here = areas(self.hands.picture(CONSOLE_MONITOR), _CHOSEN)
        return [r for r in here if r[2] < _STEPS_PX] == self._steps()[number - 1 : number]

    def _click(self, area: Rect) -> None:
        self.hands.click((area[0] + area[2]) / 2, (area[1] + area[3]) / 2)

    def wait_enabled(self, number: int, patience_s: float = 180.0) -> None:
        """Until a button of the page can be pressed: what it does is done, or may be begun."""
        until(lambda: self._enabled(number), f"button {number} that can be pressed", patience_s)

    def _enabled(self, number: int) -> bool:
        found = self._page(_BUTTON)[number:]
        if not found:
            return False
        left, top, right, bottom = found[0]
        inside = self.hands.picture(CONSOLE_MONITOR).crop(
            (left + 4, top + 4, right - 4, bottom - 4)
        )
        return bool((np.asarray(inside.convert("L")) > _BRIGHT).any())

    def acknowledge(self) -> bool:
        """The gravest alarm that has not been, if there is one."""
        found = [r for r in self.buttons() if r[0] > _PAGE_PX and r[1] > _ALARMS_PX]
        if found:
            self.hands.effort.acts += 1
            self._click(found[0])
        return bool(found)

    # ------------------------------------------------------------------ the plane

    def find_plane(self, centre_mm: Point) -> Plane:
        """By the frame that it shows when it has the keyboard (F6)."""
        self.hands.key("F6")
        self.plane = Plane(until(self._framed, "plane with the keyboard"), centre_mm)
        return self.plane

    def _framed(self) -> Rect | None:
        """The rectangle of two long bright lines, one below the other."""
        grey = np.asarray(self.hands.picture(CONSOLE_MONITOR).convert("L"))
        rows = [y for y in range(60, 900) if (grey[y, 400:1200] > _BRIGHT).all()]
        if len(rows) < 2:
            return None
        line = grey[rows[0]] > _BRIGHT
        across = np.flatnonzero(line)
        return int(across[0]), rows[0], int(across[-1]) + 1, rows[-1] + 1

    def click_mm(self, x: float, y: float) -> None:
        assert self.plane is not None
        self.hands.effort.acts += 1
        self.hands.click(*self.plane.px((x, y)))

    def drag_mm(self, start: Point, end: Point) -> None:
        assert self.plane is not None
        self.hands.effort.acts += 1
        self.hands.drag(self.plane.px(start), self.plane.px(end))

    def zoom_at(self, at_mm: Point, steps: int) -> None:
        """Larger around that point."""
        assert self.plane is not None
        self.click_mm(*at_mm)
        self.hands.key(*["equal"] * steps)
        self.plane.zoomed(steps, at_mm)


class Live:
    """A running ``iceball live`` and its journal."""

    def __init__(self, process: subprocess.Popen[bytes], record: Path, log: Path) -> None:
        self.process, self.record, self._log = process, record, log

    def lines(self, kind: str) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            whole = (self.record / "journal.jsonl").read_text(encoding="utf-8")
            found = [json.loads(x) for x in whole.splitlines(keepends=True) if x.endswith("\n")]
            return [x for x in found if x["kind"] == kind]
        return []

    def wait(
        self, kind: str, count: int = 1, patience_s: float = 180.0, **having: Any
    ) -> dict[str, Any]:
        """The ``count``-th line of that kind with those fields."""

        def there() -> list[dict[str, Any]]:
            if self.process.poll() is not None:
                raise RuntimeError(f"iceball live ended:\n{self.said()}")
            same = [x for x in self.lines(kind) if all(x.get(k) == v for k, v in having.items())]
            return same[count - 1 :]

        found: list[dict[str, Any]] = until(there, f"{kind} {having} in the journal", patience_s)
        return found[0]

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")


@contextlib.contextmanager
def live(
    hands: Hands,
    out: Path,
    language: str,
    epoch_utc_s: float,
    speed: float,
    monitor: int = ROOM_MONITOR,
) -> Iterator[Live]:
    """``iceball live`` with both windows and no case; its record is ``out``/record. It is made to end when
    the block does, unless it has."""
    workstation, record, log = out / "workstation.toml", out / "record", out / "live.log"
    workstation.write_text(f'language = "{language}"\n[listener]\nport = 0\n', encoding="utf-8")
    command: list[object] = [
        sys.executable, "-m", "monitor.cli", "live", "--screen", "both", "--monitor", monitor,
        "--record", record, "--workstation", workstation, "--clock-speed", speed,
        "--clock-epoch", epoch_utc_s,
    ]  # fmt: skip
    environment = {**os.environ, "DISPLAY": hands.display, "XDG_STATE_HOME": str(out / "state")}
    environment.pop("QT_QPA_PLATFORM", None)
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        running = Live(process, record, log)
        running.wait("listening", patience_s=_START_S)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        process.kill()


def after(wait: Callable[[], Any], seconds: float) -> Any:
    """What is waited for, and a moment in which it is drawn."""
    found = wait()
    time.sleep(seconds)
    return found
