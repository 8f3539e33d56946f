"""What one peer may take of the listener. Bytes, seconds. Pure: no sockets, no clock.

Invariant: every resource that a peer can use up has its bound here, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Times: ``handshake_s`` for TLS, ``hello_s`` until an A-ASSOCIATE is asked for, ``idle_s`` without a
    PDU, ``pdu_s`` for one PDU from its first byte to its last.

    Of each address that ``allowed_peers`` names, and of all those together that only "*" lets in:
    ``hellos`` connections that have not associated yet (one more, and the oldest is cut), ``associations``
    (one more, and that which has been silent for longest is cut, if for ``silent_s``; else it is rejected),
    ``messages_per_s`` (more, and the peer is kept waiting). ``stored_bytes`` of one
    address in one procedure; at least ``disk_free_bytes`` stay free whoever sends.
    ``queue_s``: how long a full queue to the core is waited for: longer than the core measures a scan, which
    it does in one piece, and shorter than senders wait for an answer. ``durable``: what is acknowledged
    survives a power cut (fdatasync)."""

    instance_bytes: int = 600 * 2**20
    pdu_bytes: int = 2**20
    command_bytes: int = 2**14
    handshake_s: float = 5.0
    hello_s: float = 5.0
    idle_s: float = 60.0
    pdu_s: float = 10.0
    hellos: int = 8
    associations: int = 16
    silent_s: float = 10.0
    messages_per_s: int = 2000
    stored_bytes: int = 256 * 2**30
    disk_free_bytes: int = 2 * 2**30
    queue_s: float = 10.0
    durable: bool = True


# What [listener.limits] may say: (lowest, highest). The rest follows from how the program is built.
SETTABLE: dict[str, tuple[float, float]] = {
    "instance_bytes": (2**20, 2 * 2**30),
    "handshake_s": (0.5, 60.0),
    "hello_s": (0.5, 60.0),
    "idle_s": (5.0, 3600.0),
    "pdu_s": (0.5, 120.0),
    "hellos": (2, 256),
    "associations": (1, 256),
    "messages_per_s": (50, 100_000),
    "stored_bytes": (2**30, 2**44),
    "disk_free_bytes": (0, 2**44),
}
WHOLE = frozenset(f.name for f in fields(Limits) if f.type == "int")
