"""The DICOM listener, in a process of its own: takes bytes, keeps them, queues their name, answers.

Nothing is decoded here. A thread for each connection, which its address has to be allowed; TLS, the
A-ASSOCIATE and all that follows happen on that thread, within limits, so that no peer waits for another.
Invariant: an instance is answered with success only when it is on disk and on the queue; what a sender
chose (UIDs, AE titles) is never part of a path.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig
from monitor.intake.admission import Admission, Doors, Refusals
from monitor.intake.association import (
    Association,
    Incoming,
    Rejection,
)
from monitor.intake.channel import STOP, Outbox
from monitor.intake.limits import Limits
from monitor.intake.messages import (
    KeptAgain,
    LetIn,
    ListenerFailed,
    Listening,
    NotKept,
    Refused,
)
from monitor.intake.ports import bound, cannot_listen
from monitor.intake.received import ReceivedInstance
from monitor.intake.syntaxes import TRANSFER_SYNTAXES
from monitor.intake.tls import TlsError, failure, failure_code, server_context
from monitor.intake.wire import Closed, Connection, Hello, WireError
from monitor.model import AssociationEnded

# Scanners push the others along with the CT. They are taken and rejected with a reason, so that
# nothing that was sent is unaccounted for.
SOP_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)
VERIFICATION = "1.2.840.10008.1.1"
OFFERED: dict[str, tuple[str, ...]] = {
    VERIFICATION: (*map(str, TRANSFER_SYNTAXES[:3]),),
    **{str(c): tuple(map(str, TRANSFER_SYNTAXES)) for c in SOP_CLASSES},
}

# Slices waiting for the core; a full queue is told to the scanner (0xA700), which sends again.
INBOX = 2000
_BACKLOG = 128
# An image that could not be kept is said for so long, while others of its association are.
_SAID_S = 10.0
# So much nicer are core and view to this process, where the system lets it say so: at 250 slices a second it
# needs a quarter of a core, and what they compute must not keep the scanner waiting (docs/network.md).
_AHEAD = 10
# The root of the storage SOP classes (PS3.4 B.5), and how many of a peer's are named to it.
_STORAGE, _NAMED = "1.2.840.10008.5.1.4.1.1.", 3
# PS3.8 9.3.4: the reasons for a rejection.
_CALLING_TITLE_UNKNOWN, _CALLED_TITLE_UNKNOWN = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07)
_TOO_MANY = (0x02, 0x03, 0x02)


def run_listener(
    config: ListenerConfig,
    blobs: Path,
    clock: ProcedureClock,
    pipe: Pipe,
    size: int = INBOX,
) -> None:
    """The process: listens until ``pipe`` says ``STOP`` or nobody holds its other end. Exit status 2 when it
    cannot listen. ``size``: of the messages that may wait for the core."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the core decides when to stop
    # Before any thread: each takes it from the one that starts it, and one left behind would keep the others
    # waiting for the interpreter.
    with contextlib.suppress(OSError):  # an ordinary user may not, unless RLIMIT_NICE allows it
        os.nice(-_AHEAD)
    out = Outbox(pipe, size)
    server = Listener(config, blobs, clock, out)
    try:
        server.start()
    except (OSError, TlsError) as error:
        text = str(error) if isinstance(error, TlsError) else cannot_listen(config, error)
        out.put(ListenerFailed(text))
        out.close()
        sys.exit(2)
    with contextlib.suppress(
        EOFError, OSError
    ):  # the core is gone: nobody would hear of another slice
        while pipe.recv() != STOP:
            pass
    server.shutdown()
    out.close()


@dataclass(frozen=True)
class _Failure:
    """Why the last image that could not be kept was not, in which association, and when."""

    code: str
    association: int
    mono_s: float

    def over(self, association: int, now_mono_s: float) -> bool:
        """By an image that is kept: of a later association, or after a while."""
        return association > self.association or now_mono_s - self.mono_s > _SAID_S


class Listener:
    """Accepts on a thread of its own; ``run_listener`` is its process."""

    def __init__(
        self, config: ListenerConfig, blobs: Path, clock: ProcedureClock, out: Outbox
    ) -> None:
        self.config, self.blobs, self.clock = config, blobs, clock
        self.limits: Limits = config.limits
        self.lock = threading.Lock()
        self.admission = Admission(config.allowed_peers, config.limits)
        self.numbers = itertools.count(1)
        self._refusals = Refusals()
        self._doors = Doors(config.allowed_peers)
        # By address, as far as it has been told.
        self._not_kept: dict[str, _Failure] = {}
        self._out = out
        self._tls = server_context(config.tls) if config.tls else None
        self._talks: set[Talk] = set()
        self._over = False

    def start(self) -> None:
        """Raises ``OSError`` when the port cannot be had."""
        self._socket = bound(self.config)
        self._socket.listen(_BACKLOG)
        host, port = self._socket.getsockname()[:2]
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._acceptor.start()
        self.put(Listening(self.config.ae_title, host, port))

    def shutdown(self, patience_s: float = 2.0) -> None:
        """Takes nothing more; what is being received is broken off and not answered."""
        self._over = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self.lock:
            talks = list(self._talks)
        for talk in talks:
            talk.cut()
        end_s = time.monotonic() + patience_s
        for talk in talks:
            talk.join(max(end_s - time.monotonic(), 0.01))

    def put(self, message: Any) -> None:
        """Raises ``queue.Full`` when the core does not keep up."""
        self._out.put(message, timeout=self.limits.queue_s)

    def refused(
        self, peer: str, address: str, reason: str, code: str, shut_out: bool = False
    ) -> None:
        """``shut_out``: it was to become an association, and did not."""
        with self.lock:
            out = self._doors.shut_out(address, code) if shut_out else (False, False)
        self._refused(Refused(peer, reason, code, address), *out)

    def turned_off(self, address: str) -> None:
        """A stranger, at the door."""
        with self.lock:
            out = self._doors.stranger(address)
        text = "address not in listener.allowed_peers"
        self._refused(Refused(address, text, "peer_address", address), *out)

    def _refused(self, message: Refused, expected: bool, news: bool) -> None:
        """Told, if the journal is not full of that peer already, and there is room on the queue: strangers
        must not fill either. That a peer who is ``expected`` was shut out is told in any case, the first time
        that it is for this reason (``news``)."""
        with self.lock:
            untold = self._refusals.worth(message.address, time.monotonic())
        if untold is not None or news:
            out = message.code if expected else ""
            with contextlib.suppress(queue.Full):
                self._out.put_nowait(replace(message, shut_out=out, untold=untold or 0))

    def let_in(self, peer: str, address: str) -> None:
        with self.lock:
            news = self._doors.let_in(address)
        if news:
            with contextlib.suppress(queue.Full):
                self._out.put_nowait(LetIn(peer, address))

    def not_kept(self, talk: Talk, code: str) -> None:
        with self.lock, contextlib.suppress(queue.Full):  # then the next one's is the news
            before = self._not_kept.get(talk.address)
            if before is None or before.code != code:
                self._out.put_nowait(NotKept(talk.peer, talk.address, code))
            self._not_kept[talk.address] = _Failure(code, talk.number, time.monotonic())

    def kept(self, talk: Talk, count: int) -> None:
        """One image that is not kept among many that are would be said for no time at all."""
        with self.lock, contextlib.suppress(queue.Full):
            self.admission.kept(talk.address, count)
            failure = self._not_kept.get(talk.address)
            if failure is not None and failure.over(talk.number, time.monotonic()):
                self._out.put_nowait(KeptAgain(talk.peer, talk.address))
                del self._not_kept[talk.address]

    def ended(self, talk: Talk) -> None:
        with self.lock:
            self.admission.gone(talk.address, talk)
            self._talks.discard(talk)

    # ------------------------------------------------------------------ connections

    def _accept(self) -> None:
        while not self._over:
            try:
                sock, address = self._socket.accept()
            except OSError:
                time.sleep(0.05)  # no file descriptor left, or a peer that left while it waited
                continue
            try:
                self._welcome(sock, str(address[0]))
            except Exception as error:  # whatever it is, the next peer is served
                sock.close()
                text = f"cannot serve: {error}"
                self.refused(str(address[0]), str(address[0]), text, "peer_not_served")

    def _welcome(self, sock: socket.socket, address: str) -> None:
        """Strangers are cut off before they can say anything."""
        if not self.admission.address_allowed(address):
            sock.close()
            self.turned_off(address)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        talk = Talk(self, sock, address, self._tls)
        with self.lock:
            self._talks.add(talk)
            silent = self.admission.connected(address, talk)
        if isinstance(silent, Talk):
            text = f"more than {self.limits.hellos} connections that say nothing"
            silent.cut(text, "peer_says_nothing")
        talk.start()


class Talk(threading.Thread):
    """A connection's thread, and the service its association gets."""

    def __init__(
        self, listener: Listener, sock: socket.socket, address: str, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(name="talk", daemon=True)
        self.address = address
        self._listener, self._raw, self._tls = listener, sock, tls
        self.peer = address
        self.title = ""
        self.number = 0
        self.stored = 0
        self._shook = False
        self._connection: Connection | None = None
        # Why another thread ended it, and the code of that.
        self._cut_for: tuple[str, str] | None = None

    def run(self) -> None:
        sock, released = self._raw, False
        limits = self._listener.limits
        try:
            if self._tls is not None:
                sock = self._shaken()
            self._connection = Connection(sock, limits)
            outcome = Association(self._connection, limits, OFFERED, self).serve()
            if isinstance(outcome, Rejection):
                why = outcome.text, outcome.code
                self._listener.refused(self.peer, self.address, *why, shut_out=True)
            elif not outcome and self._cut_for is not None:
                self._refused(*self._cut_for)
            released = outcome is True
        except Exception as error:  # a bug met by one peer must not end the others
            self._broken(error)
        finally:
            _closed(sock)
            if self.stored:
                self._tell_end(not released)
            self._listener.ended(self)

    def cut(self, reason: str = "the listener ends", code: str = "peer_listener_ends") -> None:
        """From another thread, whatever this one waits for. The connection is closed by its own thread."""
        self._cut_for = reason, code
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)

    @property
    def heard_mono_s(self) -> float:
        return 0.0 if self._connection is None else self._connection.heard_mono_s

    def _shaken(self) -> ssl.SSLSocket:
        """On this thread and within a time: who does not finish a handshake keeps nobody waiting."""
        assert self._tls is not None
        self._raw.settimeout(self._listener.limits.handshake_s)
        if not self._raw.recv(1, socket.MSG_PEEK):
            raise Closed  # who only looks whether somebody is in has not failed at TLS
        sock = self._tls.wrap_socket(self._raw, server_side=True, do_handshake_on_connect=False)
        self._raw = sock
        sock.settimeout(self._listener.limits.handshake_s)
        sock.do_handshake()
        self._shook = True
        return sock

    def _broken(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._cut_for is not None:
            self._refused(*self._cut_for)
        elif isinstance(error, TimeoutError):
            self._refused("it said nothing in time", "peer_timeout")
        elif isinstance(error, ssl.SSLError):
            self._refused(failure(error), failure_code(error), shut_out=True)
        elif isinstance(error, Closed) and not error.inside:
            return  # a knock at the door, as of who looks whether somebody is in
        elif self._tls is not None and not self._shook:
            self._refused(text, "peer_tls", shut_out=True)
        elif isinstance(error, WireError):
            code = "peer_breaks_rules" if self.number else error.code
            self._refused(text, code, shut_out=True)
        else:
            self._refused(text, "peer_connection_lost")

    def _refused(self, reason: str, code: str, shut_out: bool = False) -> None:
        """``shut_out``: not let in, if it is a connection that never became an association."""
        out = shut_out and not self.number
        self._listener.refused(self.peer, self.address, reason, code, out)

    def _tell_end(self, aborted: bool) -> None:
        ended = AssociationEnded(self.number, aborted, self.stored, self._listener.clock.mono_s())
        with contextlib.suppress(queue.Full):  # silence will complete the pass instead
            self._listener.put(ended)

    # ------------------------------------------------------------------ what an association asks for

    def admit(self, hello: Hello) -> Rejection | None:
        listener = self._listener
        self.title, called = _harmless(hello.calling), _harmless(hello.called)
        self.peer = f"{self.title}@{self.address}"
        if called != listener.config.ae_title.strip():
            return Rejection(f"called {called!r}", _CALLED_TITLE_UNKNOWN, "peer_called_title")
        if not listener.admission.peer_allowed(self.title, self.address):
            text = "peer not in listener.allowed_peers"
            return Rejection(text, _CALLING_TITLE_UNKNOWN, "peer_calling_title")
        with listener.lock:
            fits, silent = listener.admission.associated(self.address, self, time.monotonic())
            if not fits:
                text = f"more than {listener.limits.associations} associations"
                return Rejection(text, _TOO_MANY, "peer_too_many")
            self.number = next(listener.numbers)
        if isinstance(silent, Talk):
            text = f"it was silent, and one of over {listener.limits.associations} associations"
            silent.cut(text, "peer_silent")
        return None

    def agreed(self, offered: Sequence[str], served: Sequence[str]) -> None:
        """Who wants to store, and can store nothing, has an association and yet did not get in; of who can do
        nothing else is nobody's concern but the journal's."""
        wanted = [c for c in offered if c.startswith(_STORAGE)]
        shut_out = bool(wanted) and not any(c.startswith(_STORAGE) for c in served)
        if served and not shut_out:
            self._listener.let_in(self.peer, self.address)
            return
        named = ", ".join(_harmless(UID(c).name) for c in (wanted or offered)[:_NAMED])
        reason, code = f"nothing that it offers is taken: {named}", "peer_nothing_taken"
        self._listener.refused(self.peer, self.address, reason, code, shut_out)

    def pace(self) -> float:
        with self._listener.lock:
            return self._listener.admission.wait_s(self.address, time.monotonic())

    def begin(self, sop_class: str, sop_instance: str, syntax: str) -> Incoming:
        return ReceivedInstance(
            self, self._listener, _harmless(sop_class), _harmless(sop_instance), syntax
        )

    def keep_failed(self, code: str, reason: str) -> None:
        self._refused(reason, code)
        self._listener.not_kept(self, code)


def _closed(sock: socket.socket) -> None:
    """Read out first, for a moment: a close with unread bytes resets the connection, and the peer may lose
    the answer that it is about to read."""
    with contextlib.suppress(OSError, ValueError):
        sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError, ValueError):
        sock.settimeout(0.2)
        for _ in range(16):
            if not sock.recv(65536):
                break
    sock.close()


def _harmless(chosen: object) -> str:
    """What a sender chose, fit for a log: printable ASCII, at most 64 characters."""
    text = chosen.decode("latin-1") if isinstance(chosen, bytes) else str(chosen or "")
    return "".join(c for c in text if c.isascii() and c.isprintable()).strip()[:64]
