"""One association as its acceptor: asked for, agreed, served, ended. On the thread that calls ``serve``.

Blocking reads with deadlines, one message at a time: who sends waits for the answer (no asynchronous
operations). Invariant: every way in which an association can end is one return of ``serve``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from monitor.intake import wire
from monitor.intake.limits import Limits
from monitor.intake.wire import Closed, Command, Connection, Hello, WireError

# PS3.7 C.5, PS3.4 B.2.3.
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0122, 0x0211
C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
# PS3.8 9.3.3.2: abstract syntax not supported, transfer syntaxes not supported.
_NO_CLASS, _NO_SYNTAX = 3, 4


@dataclass(frozen=True)
class Rejection:
    """``why``: result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4). ``code``: of the sentence that
    operators read."""

    text: str
    why: tuple[int, int, int]
    code: str


class Incoming(Protocol):
    """An instance that is being received."""

    def write(self, fragment: memoryview) -> None:
        """Never raises; what went wrong is the answer of ``end``."""

    def end(self) -> int:
        """The instance is whole: the status of the answer."""

    def discard(self) -> None:
        """It will not be whole."""


class Service(Protocol):
    """What the listener does for an association."""

    def admit(self, hello: Hello) -> Rejection | None: ...

    def agreed(self, offered: Sequence[str], served: Sequence[str]) -> None:
        """It has an association, for those of the SOP classes it ``offered`` that are ``served``."""

    def pace(self) -> float:
        """Seconds that the next message has to wait."""

    def begin(self, sop_class: str, sop_instance: str, syntax: str) -> Incoming: ...


class Association:
    """``offered``: the transfer syntaxes, best first, of each SOP class that is served."""

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        offered: Mapping[str, Sequence[str]],
        service: Service,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._connection, self._limits = connection, limits
        self._offered, self._service, self._sleep = offered, service, sleep
        self._contexts: dict[int, tuple[str, str]] = {}
        self._message: _Message | None = None

    def serve(self) -> bool | Rejection:
        """True: the peer released it; False: the peer aborted it or left. Raises ``OSError``
        (``WireError`` and time-outs among them) when it had to be broken off, which the peer is told."""
        try:
            return self._serve()
        except Closed:
            raise
        except WireError as error:
            self._abort(error.reason)
            raise
        except TimeoutError:
            self._abort(0)
            raise
        finally:
            if self._message is not None:
                self._message.discard()

    def _serve(self) -> bool | Rejection:
        hello = wire.read_hello(self._connection.hello())
        rejection = self._service.admit(hello)
        if rejection is not None:
            self._connection.send(wire.reject_pdu(*rejection.why))
            return rejection
        self._connection.send(self._agreed(hello))
        while True:
            try:
                kind, body = self._connection.pdu(self._limits.idle_s, self._limits.pdu_bytes)
            except Closed as error:
                if error.inside or self._message is not None:
                    raise
                return False
            if kind == wire.P_DATA:
                for context, control, fragment in wire.fragments(body):
                    self._fragment(context, control, fragment)
            elif kind == wire.RELEASE_RQ:
                self._connection.send(wire.release_pdu())
                return True
            elif kind == wire.ABORT:
                return False
            else:
                raise WireError(f"a PDU of type 0x{kind:02X} within an association", 2)

    def _abort(self, reason: int) -> None:
        try:
            self._connection.send(wire.abort_pdu(reason))
        except OSError:
            return  # it is gone already

    def _agreed(self, hello: Hello) -> bytes:
        accepted: dict[int, str] = {}
        refused: dict[int, int] = {}
        for context in hello.contexts:
            served = self._offered.get(context.abstract)
            syntax = next((s for s in served or () if s in context.syntaxes), None)
            if syntax is None:
                refused[context.number] = _NO_CLASS if served is None else _NO_SYNTAX
            else:
                accepted[context.number] = syntax
                self._contexts[context.number] = (context.abstract, syntax)
        served = [abstract for abstract, _ in self._contexts.values()]
        self._service.agreed([c.abstract for c in hello.contexts], served)
        return wire.accept_pdu(hello, accepted, refused)

    # ------------------------------------------------------------------ messages

    def _fragment(self, context: int, control: int, data: memoryview) -> None:
        if context not in self._contexts:
            raise WireError(f"presentation context {context} was not agreed", 6)
        if self._message is None:
            self._pace()
            self._message = _Message(context, self._limits)
        if context != self._message.context:
            raise WireError("a message in two presentation contexts", 6)
        if control & 1:
            if self._message.add_command(data, last=bool(control & 2)):
                self._begin(self._message)
        else:
            self._message.add_data(data)
            if control & 2:
                self._end()

    def _pace(self) -> None:
        wait_s = self._service.pace()
        if wait_s > 0:
            self._sleep(wait_s)  # unread, so that the peer's own sending is slowed down

    def _begin(self, message: _Message) -> None:
        command = message.command
        assert command is not None
        sop_class, syntax = self._contexts[message.context]
        field = command.number(wire.FIELD)
        stored = field == C_STORE_RQ and command.text(wire.SOP_CLASS) == sop_class
        if stored and command.number(wire.DATA_SET_TYPE) != wire.NO_DATA_SET:
            message.incoming = self._service.begin(
                sop_class, command.text(wire.SOP_INSTANCE), syntax
            )
        if command.number(wire.DATA_SET_TYPE) == wire.NO_DATA_SET:
            self._end()

    def _end(self) -> None:
        message, self._message = self._message, None
        assert message is not None
        command = message.command
        assert command is not None
        field = command.number(wire.FIELD)
        if field == C_CANCEL_RQ or field & 0x8000:
            return  # there is nothing to cancel, and nothing was asked of the peer
        if message.incoming is not None:
            status = message.incoming.end()
            message.incoming = None
        elif field == C_ECHO_RQ:
            status = SUCCESS
        elif field == C_STORE_RQ:
            wrong = command.text(wire.SOP_CLASS) != self._contexts[message.context][0]
            status = CLASS_NOT_SUPPORTED if wrong else CANNOT_UNDERSTAND
        else:
            status = UNRECOGNIZED_OPERATION
        self._connection.send(command.answer_pdu(message.context, status))


class _Message:
    """A command, and after it its data set (PS3.7 6.3.1), fragment by fragment."""

    def __init__(self, context: int, limits: Limits) -> None:
        self.context = context
        self.command: Command | None = None
        self.incoming: Incoming | None = None
        self._bytes, self._most_bytes = bytearray(), limits.command_bytes
        # What is too large is read on for the sake of an answer, but not without end.
        self._left_bytes = 2 * limits.instance_bytes

    def add_command(self, data: memoryview, last: bool) -> bool:
        """Whether the command is whole."""
        if self.command is not None:
            raise WireError("a command within a data set", 6)
        self._bytes += data
        if len(self._bytes) > self._most_bytes:
            raise WireError(f"a command of over {self._most_bytes} bytes", 6)
        if last:
            self.command = Command(bytes(self._bytes))
        return last

    def add_data(self, data: memoryview) -> None:
        if self.command is None:
            raise WireError("a data set before its command", 6)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise WireError("a message without end", 6)
        if self.incoming is not None:
            self.incoming.write(data)

    def discard(self) -> None:
        if self.incoming is not None:
            self.incoming.discard()
