"""Bounds on what a peer may do to a connection before it is known who it is. Bytes, seconds.

pynetdicom reads a PDU as long as its header says and waits as long as the peer likes; a peer that
says half an A-ASSOCIATE would hold its association for ever, one that announces 4 GiB all memory.
Invariant: a guarded connection that stops talking inside a PDU is closed within ``pdu_s``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Limits:
    """What one peer may take. ``hello_s``: until its A-ASSOCIATE; ``idle_s``: between messages of
    an association; ``pdu_s``: for one PDU. ``connections`` are open at once from one address.
    ``durable``: an acknowledged instance survives a power cut (fsync, some 2 ms each)."""

    instance_bytes: int = 64 * 2**20
    message_bytes: int = 256 * 2**20
    pdu_bytes: int = 2**20
    hello_s: float = 5.0
    idle_s: float = 60.0
    pdu_s: float = 10.0
    associations: int = 24
    connections: int = 16
    queue_s: float = 1.0
    durable: bool = True


def guard(association: Any, limits: Limits) -> None:
    """Replaces how this association's socket is read: bounded in size and in time, and in larger
    pieces than pynetdicom's 4096 bytes."""
    connection = association.dul.socket
    socket = connection.socket

    def receive(count: int) -> bytearray:
        if count > limits.pdu_bytes:
            raise OSError(f"a PDU of {count} bytes is announced")
        deadline = time.monotonic() + limits.pdu_s
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the peer stopped inside a PDU")
            socket.settimeout(left)
            read = socket.recv_into(view[got:], min(_CHUNK, count - got))
            if not read:
                return data[:got]
            got += read
        socket.settimeout(limits.pdu_s)  # for sending, to a peer that does not read
        return data

    connection.recv = receive
