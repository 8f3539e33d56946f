"""What the intake process tells the core, besides ``Instance`` and ``AssociationEnded``.

Each message knows its journal line. Times are seconds on the clock that their names say.
Invariant: no message carries patient data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Listening:
    ae_title: str
    address: str
    port: int

    def line(self) -> tuple[str, dict[str, Any]]:
        return "listening", {"ae_title": self.ae_title, "address": self.address, "port": self.port}


@dataclass(frozen=True)
class ListenerFailed:
    error: str

    def line(self) -> tuple[str, dict[str, Any]]:
        return "listener_failed", {"error": self.error}


@dataclass(frozen=True)
class Refused:
    """A peer, an image or a request that was turned away on the wire; the peer was told."""

    peer: str
    reason: str

    def line(self) -> tuple[str, dict[str, Any]]:
        return "association_refused", {"peer": self.peer, "reason": self.reason}
