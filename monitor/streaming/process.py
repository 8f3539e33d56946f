"""The OpenIGTLink stream's process: snapshots in over a pipe, as a screen gets them; nothing comes back.

Seconds. Invariant: it ends with the core, and a port that cannot be had yet is asked for again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from monitor.snapshot import ArrayRef, Snapshot

if TYPE_CHECKING:
    from monitor.streaming.server import Server

_AGAIN_S = 1.0


@dataclass(frozen=True)
class StreamOptions:
    """``allowed``: addresses of clients; none: this machine's own."""

    port: int
    address: str = "127.0.0.1"
    allowed: tuple[str, ...] = ()


def run_stream(conn: Connection, options: StreamOptions) -> None:
    """Serves until told to quit, or the core is gone. The target of a spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"  # pyqtgraph, for its marching cubes
    with contextlib.suppress(OSError):
        os.nice(10)  # core and view go before
    server: Server | None = None
    posted: dict[str, tuple[Any, ...]] = {}
    with contextlib.suppress(EOFError, ConnectionError):
        while (snapshot := _latest(conn)) is not None:
            server = server or _opened(options)
            if server is not None:
                _posted(server, snapshot, posted)
    if server is not None:
        server.close()


def _array(ref: ArrayRef | None) -> Any:
    import numpy as np

    return None if ref is None else np.load(ref.path, mmap_mode="r")


def _latest(conn: Connection) -> Snapshot | None:
    """The newest of the snapshots that wait; None when it is over."""
    latest: Snapshot | None = None
    while latest is None or conn.poll():
        message = conn.recv()
        if message[0] == "quit":
            return None
        if message[0] == "snapshot":
            latest = message[1]
    return latest


def _opened(options: StreamOptions) -> Server | None:
    from monitor.streaming.server import Server

    try:
        return Server(options.address, options.port, options.allowed)
    except OSError:
        time.sleep(_AGAIN_S)
        return None


def _posted(server: Server, snapshot: Snapshot, posted: dict[str, tuple[Any, ...]]) -> None:
    # A file that a later snapshot has replaced: that one names its own.
    with contextlib.suppress(FileNotFoundError):
        post(server, snapshot, posted)


def post(server: Server, snapshot: Snapshot, posted: dict[str, tuple[Any, ...]]) -> None:
    """What has changed since ``posted``, which is brought up to date."""
    from monitor.streaming.messages import sendings

    for sending in sendings(snapshot, _array):
        if posted.get(sending.device) != sending.key:
            server.post(sending.device, sending.pack())
            posted[sending.device] = sending.key
