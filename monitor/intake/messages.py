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
    """A peer, an image or a request that was turned away on the wire; the peer was told. ``reason`` for who
    reads the journal, ``code`` as in ``reason.CODE`` of ``view.translations``. ``shut_out``: that code, of a
    peer that is expected at ``address`` and got no association; else empty. ``untold``: refusals of that
    address before it, which were not told."""

    peer: str
    reason: str
    code: str
    address: str = ""
    shut_out: str = ""
    untold: int = 0

    def line(self) -> tuple[str, dict[str, Any]]:
        more = f" (and {self.untold} refusals before, not told)" if self.untold else ""
        fields = {
            "peer": self.peer,
            "reason": self.reason + more,
            "code": self.code,
            "shut_out": self.shut_out or None,
            "untold": self.untold or None,
        }
        return "association_refused", fields


@dataclass(frozen=True)
class NotKept:
    """An image that could not be kept, which the peer was told: the first of ``address`` for that reason, a
    code of ``reason.CODE`` in ``view.translations``."""

    peer: str
    address: str
    code: str

    def line(self) -> tuple[str, dict[str, Any]]:
        return "images_refused", {"peer": self.peer, "reason": self.code}


@dataclass(frozen=True)
class KeptAgain:
    """After some images of an address could not be kept, the first of a later association was, or the first
    ten seconds after the last of them."""

    peer: str
    address: str

    def line(self) -> tuple[str, dict[str, Any]]:
        return "images_kept_again", {"peer": self.peer}


@dataclass(frozen=True)
class LetIn:
    """The first association of an address, or its first after it had been shut out."""

    peer: str
    address: str

    def line(self) -> tuple[str, dict[str, Any]]:
        return "peer_accepted", {"peer": self.peer}
