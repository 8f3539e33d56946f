"""An X server in memory, for tests, benchmarks and pictures of windows. Invariant: it picks its own number,
and ends with the block.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class XServer:
    """``name``: for DISPLAY."""

    name: str
    pid: int


@contextmanager
def x_server(*options: str, program: str = "Xvfb", display: str | None = None) -> Iterator[XServer]:
    """Of 96 dots an inch, as tests of pictures want it; without ``options`` of 1920 × 1080 pixels.
    ``display``: where the server itself is shown, if it is one that is."""
    read, write = os.pipe()
    told = options or ("-screen", "0", "1920x1080x24")
    command = [program, "-displayfd", str(write), *told, "-dpi", "96", "-nolisten", "tcp"]
    with running(*command, display=display, pass_fds=(write,)) as server:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        if not number:
            raise RuntimeError(f"{program} did not start")
        yield XServer(f":{number}", server.pid)


@contextmanager
def running(
    *command: str, display: str | None = None, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended with the block."""
    environment = {**os.environ, **({} if display is None else {"DISPLAY": display})}
    process = subprocess.Popen(
        command,
        env=environment,
        pass_fds=pass_fds,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
