"""Two monitors in memory and hands on them: X servers, a window manager, mouse and keys by xdotool.

Pixels, seconds. What the hands do is counted, so that a procedure's effort can be said. Invariant: nothing
here reaches into a program: it sees pictures of the monitors and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageGrab
from scipy import ndimage
from x_server import running, x_server

TOOLS = ("Xvfb", "Xephyr", "openbox", "xdotool")
MONITORS = ((1920, 1080), (1920, 1080))
_PATIENCE_S = 60.0
# A press that the program has not yet drawn is not to be followed by the next.
_SETTLE_S = 0.12
# How long a trained person takes for a key, for pointing, and to think before an act (keystroke-level
# model: Card, Moran and Newell 1980, doi:10.1145/358886.358895): seconds.
_KEY_S, _POINT_S, _CLICK_S, _THINK_S = 0.28, 1.1, 0.2, 1.35

Rect = tuple[int, int, int, int]


@dataclass
class Effort:
    """What was done by hand: ``acts`` are what somebody has to decide on, of one or several presses."""

    clicks: int = 0
    drags: int = 0
    keys: int = 0
    acts: int = 0

    def person_s(self) -> float:
        """A trained person's time for it, without waiting for the program."""
        pointing = self.clicks * (_POINT_S + _CLICK_S) + self.drags * (2 * _POINT_S + _CLICK_S)
        return pointing + self.keys * _KEY_S + self.acts * _THINK_S

    def __sub__(self, other: Effort) -> Effort:
        return Effort(
            self.clicks - other.clicks, self.drags - other.drags,
            self.keys - other.keys, self.acts - other.acts,
        )  # fmt: skip


@dataclass
class Hands:
    """On the display of that name; (x, y) are of the whole desktop, all monitors side by side."""

    display: str
    effort: Effort = field(default_factory=Effort)

    def _do(self, *words: object) -> None:
        environment = {**os.environ, "DISPLAY": self.display}
        command = ["xdotool", *map(str, words)]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
        time.sleep(_SETTLE_S)

    def key(self, *names: str) -> None:
        """Each pressed and released; "alt+f" together."""
        self.effort.keys += len(names)
        self._do("key", "--delay", 60, *names)

    def type(self, text: str) -> None:
        self.effort.keys += len(text)
        self._do("type", "--delay", 40, text)

    def click(self, x: float, y: float) -> None:
        self.effort.clicks += 1
        self._do("mousemove", "--sync", round(x), round(y), "click", 1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """By way of a few places: a mouse does not jump."""
        self.effort.drags += 1
        words: list[object] = ["mousemove", round(start[0]), round(start[1]), "mousedown", 1]
        for k in range(1, 9):
            x, y = (a + (b - a) * k / 8 for a, b in zip(start, end, strict=True))
            words += ["mousemove", round(x), round(y), "sleep", 0.02]
        self._do(*words, "sleep", 0.05, "mouseup", 1)

    def wheel(self, steps: int, control: bool = False) -> None:
        """Towards the head for positive steps; with Ctrl larger."""
        self.effort.keys += 1  # one turn of the finger
        turn = ["click", "--repeat", abs(steps), "--delay", 40, 4 if steps > 0 else 5]
        self._do(*(["keydown", "ctrl", *turn, "keyup", "ctrl"] if control else turn))

    def focus(self, title: str) -> None:
        """The window of that title gets the keys."""
        until(lambda: self._activated(title), f"a window called {title}")

    def shown(self, title: str) -> bool:
        """Whether there is a window of that title to be seen."""
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            self._do("search", "--onlyvisible", "--name", title)
            return True
        return False

    def _activated(self, title: str) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            self._do("search", "--onlyvisible", "--name", title, "windowactivate", "--sync")
            return True
        return False

    def picture(self, monitor: int | None = None) -> Image.Image:
        """What that monitor shows, or all."""
        whole = ImageGrab.grab(xdisplay=self.display)
        if monitor is None:
            return whole
        left = sum(width for width, _ in MONITORS[:monitor])
        width, height = MONITORS[monitor]
        return whole.crop((left, 0, left + width, height))


def until(ready: Callable[[], Any], what: str, patience_s: float = _PATIENCE_S) -> Any:
    """What ``ready`` gives, once it gives something."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"no {what} after {patience_s:.0f} s")


def areas(picture: Image.Image, colour: str, least: tuple[int, int] = (40, 20)) -> list[Rect]:
    """The filled rectangles (left, top, right, bottom) of that colour and at least that size, by lines."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    mask = (np.asarray(picture.convert("RGB")).astype(int) == wanted).all(-1)
    found = []
    for rows, columns in ndimage.find_objects(ndimage.label(mask)[0]):
        if columns.stop - columns.start >= least[0] and rows.stop - rows.start >= least[1]:
            found.append((columns.start, rows.start, columns.stop, rows.stop))
    return sorted(found, key=lambda r: (r[1], r[0]))


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@contextlib.contextmanager
def desktop() -> Iterator[Hands]:
    """Two monitors side by side with a window manager, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        wide, high = sum(w for w, _ in MONITORS), max(h for _, h in MONITORS)
        outer = stack.enter_context(x_server("-screen", "0", f"{wide}x{high}x24"))
        screens: list[str] = []
        left = 0
        for width, height in MONITORS:
            screens += ["-origin", f"{left},0", "-screen", f"{width}x{height}+{left}+0"]
            left += width
        # Without RandR Qt asks Xinerama, which knows both.
        inner = stack.enter_context(
            x_server(
                *screens,
                "+xinerama",
                "-extension",
                "RANDR",
                program="Xephyr",
                display=outer.name,
            )
        )
        stack.enter_context(running("openbox", display=inner.name))
        yield Hands(inner.name)
