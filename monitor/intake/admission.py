"""Who may talk to the listener, and how many at once. Monotonic seconds.

Pure bookkeeping; the caller holds a lock and does what is said here. Invariant: peers that
``allowed_peers`` names by address never compete with any other address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from monitor.config import Peer
from monitor.intake.limits import Limits

# Refusals told of one peer within this time, before they are only counted: a journal is no bucket.
_TOLD, _TOLD_WITHIN_S = 5, 10.0
_ADDRESSES_REMEMBERED = 1000
# Strangers that are told on the screens: the scanner by a wrong address may be one, a port scan is thousands.
_STRANGERS_TOLD = 3


class Talking(Hashable, Protocol):
    """An association's connection; ``heard_mono_s``: when bytes came last."""

    @property
    def heard_mono_s(self) -> float: ...


@dataclass
class _Crowd:
    """Connections of one address (or of all those that only "*" admits). ``due_s``: when the next message
    may be taken at the rate agreed."""

    hellos: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    associated: set[Talking] = field(default_factory=set)
    stored_bytes: int = 0
    due_s: float = 0.0


class Admission:
    """One for a listener."""

    def __init__(self, peers: tuple[Peer, ...], limits: Limits) -> None:
        self._peers, self._limits = peers, limits
        self._crowds: dict[str, _Crowd] = {}

    def address_allowed(self, address: str) -> bool:
        if not self._peers:
            return ipaddress.ip_address(address).is_loopback
        return any(p.address in ("*", address) for p in self._peers)

    def peer_allowed(self, title: str, address: str) -> bool:
        return not self._peers or any(
            p.ae_title in ("*", title) and p.address in ("*", address) for p in self._peers
        )

    def connected(self, address: str, connection: Hashable) -> Hashable | None:
        """The connection that has to go for this one: that which has been saying nothing for longest. Who
        speaks at once is never locked out by who does not."""
        hellos = self._crowd(address).hellos
        hellos[connection] = None
        return hellos.popitem(last=False)[0] if len(hellos) > self._limits.hellos else None

    def associated(
        self, address: str, connection: Talking, now_mono_s: float
    ) -> tuple[bool, Talking | None]:
        """Whether there is room for one association more, and which has to go for it: a scanner that died
        leaves some behind, and must not lock itself out."""
        crowd, silent = self._crowd(address), None
        crowd.hellos.pop(connection, None)
        if len(crowd.associated) >= self._limits.associations:
            silent = min(crowd.associated, key=lambda c: c.heard_mono_s)
            if now_mono_s - silent.heard_mono_s < self._limits.silent_s:
                return False, None
            crowd.associated.discard(silent)
        crowd.associated.add(connection)
        return True, silent

    def gone(self, address: str, connection: Talking) -> None:
        crowd = self._crowd(address)
        crowd.hellos.pop(connection, None)
        crowd.associated.discard(connection)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long the peer's next message has to wait; a second's worth may come at once."""
        crowd = self._crowd(address)
        crowd.due_s = max(crowd.due_s, now_s - 1.0) + 1.0 / self._limits.messages_per_s
        return max(crowd.due_s - now_s, 0.0)

    def room_for(self, address: str, count: int) -> bool:
        """Whether ``count`` bytes more of this address may be kept."""
        return self._crowd(address).stored_bytes + count <= self._limits.stored_bytes

    def kept(self, address: str, count: int) -> None:
        self._crowd(address).stored_bytes += count

    def _crowd(self, address: str) -> _Crowd:
        named = any(p.address == address for p in self._peers)
        return self._crowds.setdefault(address if named else "*", _Crowd())


class Doors:
    """Whether those who are expected get in: the addresses that ``allowed_peers`` names, those that were let
    in before, and, where it names none, all that may call at all (loopback). Until one has got in, a few
    strangers are expected as well: one may be the scanner, by an address that nobody wrote down."""

    def __init__(self, peers: tuple[Peer, ...]) -> None:
        self._named = frozenset(p.address for p in peers if p.address != "*")
        self._anybody = not peers
        # Address → why it was shut out since it was let in last; nothing: it is in.
        self._out: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._strangers: set[str] = set()
        self._somebody_is_in = False

    def let_in(self, address: str) -> bool:
        """Whether that is news: it is the first time, or it was shut out before."""
        self._somebody_is_in = True
        news = self._out.get(address) != frozenset()
        self._set(address, frozenset())
        return news

    def shut_out(self, address: str, why: str) -> tuple[bool, bool]:
        """Whether somebody has to hear of it, and whether it is news: each reason once, until it is in."""
        expected = self._anybody or address in self._named or address in self._out
        before = self._out.get(address, frozenset())
        if expected:
            self._set(address, before | {why})
        return expected, expected and why not in before

    def stranger(self, address: str) -> tuple[bool, bool]:
        """The same of an address that may not call at all."""
        news = address not in self._strangers
        if self._somebody_is_in or (news and len(self._strangers) >= _STRANGERS_TOLD):
            return False, False
        self._strangers.add(address)
        return True, news

    def _set(self, address: str, why: frozenset[str]) -> None:
        self._out[address] = why
        self._out.move_to_end(address)
        if len(self._out) > _ADDRESSES_REMEMBERED:
            self._out.popitem(last=False)


class Refusals:
    """Which is worth telling: of each peer a few refusals in a while, and how many more there were."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def worth(self, address: str, now_s: float) -> int | None:
        """How many before it were not told, or None: nor is this one."""
        since_s, count = self._told.pop(address, (now_s, 0))
        more = count - _TOLD if count > _TOLD else 0
        if now_s - since_s > _TOLD_WITHIN_S:
            since_s, count = now_s, 0
        else:
            more = 0
        self._told[address] = (since_s, count + 1)
        if len(self._told) > _ADDRESSES_REMEMBERED:
            self._told.popitem(last=False)
        return None if count >= _TOLD else more
