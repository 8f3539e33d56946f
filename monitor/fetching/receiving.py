"""Where a C-MOVE comes in: a storage SCP for as long as it takes, from the PACS's addresses alone. Seconds.

The listener's own upper layer (``intake.association``) with another service. Invariant: nothing is listened
for before or after, and what is taken is what a ``Shelf`` takes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from monitor.config import TlsConfig
from monitor.fetching.asking import FetchError
from monitor.fetching.keeping import Arriving, Shelf
from monitor.intake.association import Association, Rejection
from monitor.intake.syntaxes import TRANSFER_SYNTAXES
from monitor.intake.tls import TlsError, server_context
from monitor.intake.wire import Connection, Hello
from monitor.workstation import FetchConfig

SOP_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)
OFFERED = {str(c): tuple(map(str, TRANSFER_SYNTAXES)) for c in SOP_CLASSES}
CONNECTIONS = 4
_CALLED_TITLE_UNKNOWN = (0x01, 0x01, 0x07)


class Receiver:
    """Use as a context. Raises ``FetchError`` where it cannot listen."""

    def __init__(self, config: FetchConfig, shelf: Shelf) -> None:
        self.config, self.shelf = config, shelf
        self._addresses = _addresses(config.host)
        self._tls = _context(config)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Receiver:
        c = self.config
        try:
            family = socket.AF_INET6 if ":" in c.address else socket.AF_INET
            self._socket = socket.socket(family)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((c.address, c.receive_port))
            self._socket.listen(CONNECTIONS)
        except OSError as error:
            self._socket.close()
            where = f"{c.address}:{c.receive_port}"
            text = f"cannot listen on {where}: {error.strerror}"
            raise FetchError("cannot_listen", text, where) from None
        threading.Thread(target=self._accept, name="move-accept", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._over:
            try:
                sock, address = self._socket.accept()
            except OSError:
                time.sleep(0.05)  # no file descriptor left, or a peer that left while it waited
                continue
            with self._lock:
                welcome = not self._over and len(self._open) < CONNECTIONS
                welcome = welcome and str(address[0]) in self._addresses
                if welcome:
                    self._open.add(sock)
            if welcome:
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()
            else:
                sock.close()

    def _serve(self, raw: socket.socket) -> None:
        sock, limits = raw, self.shelf.limits
        # Whatever a peer does, the C-MOVE's own answer says what became of it.
        with contextlib.suppress(Exception):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(limits.handshake_s)
                sock = self._tls.wrap_socket(sock, server_side=True)
            Association(Connection(sock, limits), limits, OFFERED, _Service(self)).serve()
        with self._lock:
            self._open.discard(raw)
        sock.close()


class _Service:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def admit(self, hello: Hello) -> Rejection | None:
        called = hello.called.decode("latin-1").strip(" \0")
        if called != self._receiver.config.calling.strip():
            return Rejection("called by another title", _CALLED_TITLE_UNKNOWN, "peer_called_title")
        return None

    def agreed(self, offered: Sequence[str], served: Sequence[str]) -> None:
        pass  # the PACS tells of it

    def pace(self) -> float:
        return 0.0

    def begin(self, sop_class: str, sop_instance: str, syntax: str) -> Arriving:
        return self._receiver.shelf.begin(sop_class, sop_instance, syntax)


def _addresses(host: str) -> frozenset[str]:
    try:
        return frozenset(str(a[4][0]) for a in socket.getaddrinfo(host, None))
    except OSError as error:
        raise FetchError("no_connection", f"{host}: {error.strerror}", host) from None


def _context(config: FetchConfig) -> ssl.SSLContext | None:
    """With the files that this side calls with: who comes has to show a certificate of the same authority."""
    tls = config.tls
    if tls is None or tls.certificate is None or tls.key is None:
        return None
    try:
        return server_context(TlsConfig(tls.certificate, tls.key, tls.ca))
    except TlsError as error:
        text = str(error).replace("listener.tls", "fetch.tls")
        raise FetchError("tls", text, "[fetch.tls]") from None
