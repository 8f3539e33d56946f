"""The DICOM upper layer (PS3.8) as the listener needs it: PDUs and command sets, read with bounds.

Written out instead of taken from a library: pynetdicom reads a PDU as long as its header says, waits as
long as the peer likes and polls every millisecond (docs/decisions/0014). Bytes, seconds. Invariant: no
more is read or kept than ``Limits`` allow; whatever is not as PS3.8 has it is a ``WireError``.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from monitor.intake.limits import Limits

__all__ = ["Limits"]

PDU_BYTES = 131072  # what we take in one P-DATA-TF, told to the peer
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
IMPLEMENTATION_CLASS_UID = "2.25.332218948740660342026664556134076519819"
IMPLEMENTATION_VERSION = "ICEBALL"
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_HELLO_BYTES = 2**17
_AHEAD_BYTES = 2**18
_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers from 1 to 255
_TLS_HANDSHAKE = 0x16


class WireError(OSError):
    """A peer broke the protocol or a bound; the message says which. ``reason``: of an A-ABORT by the
    service provider (PS3.8 9.3.8). ``code``: of what operators read, if that kept it out."""

    def __init__(self, text: str, reason: int = 0, code: str = "peer_no_dicom") -> None:
        super().__init__(text)
        self.reason, self.code = reason, code


class Closed(WireError):
    """The peer is gone; ``inside`` a PDU or between two."""

    def __init__(self, inside: bool = False) -> None:
        super().__init__("the connection was closed inside a PDU" if inside else "closed")
        self.inside = inside


class Connection:
    """A connected socket, plain or TLS, read whole PDUs at a time. What follows a PDU may be read with it:
    senders cut an image into PDUs of 16 kB, and each wait for the system costs more than such a one."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._socket, self._limits = sock, limits
        self._buffer = bytearray(_AHEAD_BYTES)
        self._start = self._end = 0  # of what was received and not asked for yet
        self.heard_mono_s = time.monotonic()

    def pdu(self, patience_s: float, most_bytes: int) -> tuple[int, memoryview]:
        """(type, what follows its length) of the next PDU, valid until the next call. Raises ``WireError``,
        ``TimeoutError`` or ``OSError``."""
        if self._start == self._end:
            self._start = self._end = 0
            self._receive(patience_s)
        _begins_well(self._buffer[self._start])
        deadline_s = time.monotonic() + self._limits.pdu_s
        self._fill(6, deadline_s)
        kind, length = struct.unpack_from(">BxL", self._buffer, self._start)
        if length > most_bytes:
            raise WireError(f"a PDU of {length} bytes is announced", 6)
        self._fill(6 + length, deadline_s)
        body = memoryview(self._buffer)[self._start + 6 : self._start + 6 + length]
        self._start += 6 + length
        return kind, body

    def hello(self) -> memoryview:
        """The A-ASSOCIATE-RQ that a connection has to begin with."""
        kind, body = self.pdu(self._limits.hello_s, _HELLO_BYTES)
        if kind != ASSOCIATE_RQ:
            raise WireError(f"the first PDU is of type 0x{kind:02X}", 2)
        return body

    def send(self, data: bytes) -> None:
        self._socket.settimeout(self._limits.pdu_s)
        self._socket.sendall(data)

    def _fill(self, count: int, deadline_s: float) -> None:
        """Until so many bytes are there, in one piece."""
        if self._start + count > len(self._buffer):
            rest = self._buffer[self._start : self._end]
            if count > len(self._buffer):
                self._buffer = bytearray(count)
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while self._end - self._start < count:
            left_s = deadline_s - time.monotonic()
            try:
                if left_s <= 0:
                    raise TimeoutError
                self._receive(left_s)
            except TimeoutError:
                raise WireError("the peer stopped inside a PDU") from None

    def _receive(self, patience_s: float) -> None:
        self._socket.settimeout(patience_s)
        read = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        if not read:
            raise Closed(inside=self._end > self._start)
        self._end += read
        self.heard_mono_s = time.monotonic()


def _begins_well(first: int) -> None:
    if first == _TLS_HANDSHAKE:
        text = "the peer speaks TLS, and listener.tls is not set"
        raise WireError(text, 1, "peer_speaks_tls")
    if not ASSOCIATE_RQ <= first <= ABORT:
        raise WireError(f"a PDU of type 0x{first:02X} is no DICOM", 1)


# ------------------------------------------------------------------ association


@dataclass(frozen=True)
class Proposed:
    """A presentation context: its abstract syntax, and the transfer syntaxes it may have."""

    number: int
    abstract: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class Hello:
    """An A-ASSOCIATE-RQ. ``pdu_bytes``: what the peer takes in one P-DATA-TF; 0 is without limit."""

    called: bytes
    calling: bytes
    contexts: tuple[Proposed, ...]
    pdu_bytes: int


def read_hello(body: memoryview) -> Hello:
    """PS3.8 9.3.2. Raises ``WireError``."""
    if len(body) < 68:
        raise WireError("an A-ASSOCIATE-RQ that ends early", 6)
    if not struct.unpack_from(">H", body)[0] & 1:
        raise WireError("another protocol version is asked for", 6)
    contexts, pdu_bytes = [], 0
    for kind, item in _items(body[68:]):
        if kind == 0x20:
            contexts.append(_context(item))
        elif kind == 0x50:
            for sub, value in _items(item):
                if sub == 0x51 and len(value) == 4:
                    (pdu_bytes,) = struct.unpack(">L", value)
    numbers = {c.number for c in contexts}
    if not contexts or len(contexts) > _MOST_CONTEXTS or len(numbers) < len(contexts):
        raise WireError(f"{len(contexts)} presentation contexts, or two of one number", 6)
    return Hello(bytes(body[4:20]), bytes(body[20:36]), tuple(contexts), pdu_bytes)


def _context(item: memoryview) -> Proposed:
    abstract, syntaxes = "", []
    if len(item) < 4:
        raise WireError("a presentation context that ends early", 6)
    for kind, value in _items(item[4:]):
        name = _uid(value)
        if kind == 0x30:
            abstract = name
        elif kind == 0x40:
            syntaxes.append(name)
    return Proposed(item[0], abstract, tuple(syntaxes))


def _items(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise WireError("an item that ends early", 6)
        kind, length = struct.unpack_from(">BxH", body, at)
        at += 4
        if at + length > len(body):
            raise WireError("an item that is longer than what holds it", 6)
        yield kind, body[at : at + length]
        at += length


def _uid(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0 ").decode("ascii", "replace")


def accept_pdu(hello: Hello, accepted: dict[int, str], refused: dict[int, int]) -> bytes:
    """A-ASSOCIATE-AC (PS3.8 9.3.3): the transfer syntax of each accepted context, the result of each
    other one."""
    items = _item(0x10, _APPLICATION_CONTEXT)
    for context in hello.contexts:
        syntax = accepted.get(context.number, "")
        head = struct.pack(">BxBx", context.number, refused.get(context.number, 0))
        items += _item(0x21, head + _item(0x40, syntax.encode()))
    user = _item(0x51, struct.pack(">L", PDU_BYTES))
    user += _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
    user += _item(0x55, IMPLEMENTATION_VERSION.encode())
    items += _item(0x50, user)
    body = struct.pack(">HH16s16s32x", 1, 0, hello.called, hello.calling) + items
    return _pdu(ASSOCIATE_AC, body)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    return _pdu(ASSOCIATE_RJ, struct.pack(">xBBB", result, source, reason))


def abort_pdu(reason: int) -> bytes:
    """By the service provider."""
    return _pdu(ABORT, struct.pack(">xxBB", 2, reason))


def release_pdu() -> bytes:
    return _pdu(RELEASE_RP, bytes(4))


# ------------------------------------------------------------------ messages


def fragments(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(context, message control header, fragment) of a P-DATA-TF (PS3.8 9.3.5, E.2)."""
    at = 0
    while at < len(body):
        if at + 6 > len(body):
            raise WireError("a presentation data value that ends early", 6)
        length, context, control = struct.unpack_from(">LBB", body, at)
        if length < 2 or at + 4 + length > len(body):
            raise WireError(f"a presentation data value of {length} bytes", 6)
        yield context, control, body[at + 6 : at + 4 + length]
        at += 4 + length


# Command elements (PS3.7 E.1).
SOP_CLASS, FIELD, MESSAGE_ID, ANSWERED_ID = 0x0002, 0x0100, 0x0110, 0x0120
DATA_SET_TYPE, STATUS, SOP_INSTANCE = 0x0800, 0x0900, 0x1000
NO_DATA_SET = 0x0101


class Command:
    """A command set: Implicit VR Little Endian, group 0000. Raises ``WireError`` when it is none."""

    def __init__(self, data: bytes) -> None:
        self._values: dict[int, bytes] = {}
        at = 0
        while at < len(data):
            if at + 8 > len(data):
                raise WireError("a command that ends early", 6)
            group, element, length = struct.unpack_from("<HHL", data, at)
            at += 8
            if group or at + length > len(data):
                raise WireError("a command with an element that does not belong into it", 6)
            self._values[element] = data[at : at + length]
            at += length

    def number(self, element: int) -> int:
        value = self._values.get(element, b"")
        if len(value) != 2:
            raise WireError(f"a command without element (0000,{element:04X})", 6)
        return int.from_bytes(value, "little")

    def text(self, element: int) -> str:
        return self._values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")

    def answer_pdu(self, context: int, status: int) -> bytes:
        """The response to this request, in a P-DATA-TF."""
        field = self.number(FIELD) | 0x8000
        body = _element(FIELD, field) + _element(ANSWERED_ID, self.number(MESSAGE_ID))
        body += _element(DATA_SET_TYPE, NO_DATA_SET) + _element(STATUS, status)
        named = {e: self._values[e] for e in (SOP_CLASS, SOP_INSTANCE) if e in self._values}
        body = _long(SOP_CLASS, named) + body + _long(SOP_INSTANCE, named)
        body = struct.pack("<HHLL", 0, 0, 4, len(body)) + body
        return _pdu(P_DATA, struct.pack(">LBB", len(body) + 2, context, 3) + body)


def _element(element: int, value: int) -> bytes:
    return struct.pack("<HHLH", 0, element, 2, value)


def _long(element: int, named: dict[int, bytes]) -> bytes:
    value = named.get(element)
    return b"" if value is None else struct.pack("<HHL", 0, element, len(value)) + value
