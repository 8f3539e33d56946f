"""An OpenIGTLink server that only gives: each client gets the latest of each device, as fast as it takes it.

Bytes, seconds. Why not pyigtl's: docs/decisions/0016. Invariant: ``post`` never waits, memory is one
message a device however slow a client is, and what clients send is thrown away unread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

CLIENTS = 4
# A client that takes nothing for so long is cut.
STALLED_S = 10.0
_CHUNK = 2**18
_WAIT_S = 0.1


class Server:
    """Bound to one address. ``allowed``: the addresses of clients; none: loopback's own only."""

    def __init__(
        self, address: str, port: int, allowed: tuple[str, ...] = (), stalled_s: float = STALLED_S
    ) -> None:
        """Raises ``OSError``."""
        self._allowed, self._stalled_s = frozenset(allowed), stalled_s
        self._latest: dict[str, tuple[int, bytes]] = {}
        self._number = 0
        self._news = threading.Condition()
        self._clients = 0
        self._over = False
        self._socket = bound(address, port)
        self._socket.listen(CLIENTS)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, name="igtl-accept", daemon=True).start()

    def post(self, device: str, message: bytes) -> None:
        """What the device shows from now on."""
        with self._news:
            self._number += 1
            self._latest[device] = (self._number, message)
            self._news.notify_all()

    def close(self) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._news:
            self._news.notify_all()

    # ------------------------------------------------------------------ clients

    def _accept(self) -> None:
        while not self._over:
            try:
                client, address = self._socket.accept()
            except OSError:
                time.sleep(_WAIT_S)
                continue
            with self._news:
                welcome = self._clients < CLIENTS and self._knows(str(address[0]))
                self._clients += welcome
            if welcome:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            else:
                client.close()

    def _knows(self, address: str) -> bool:
        return address in self._allowed or (not self._allowed and is_loopback(address))

    def _serve(self, client: socket.socket) -> None:
        sent: dict[str, int] = {}
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(self._stalled_s)
            while not self._over and _there(client):
                message = self._next(sent)
                view = memoryview(message)
                while view:
                    view = view[client.send(view[:_CHUNK]) :]
        except OSError:
            pass  # it left, or took nothing for too long
        finally:
            client.close()
            with self._news:
                self._clients -= 1

    def _next(self, sent: dict[str, int]) -> bytes:
        """The message that has waited longest for this client; nothing after a moment without any."""
        with self._news:
            if not (waiting := self._waiting(sent)):
                self._news.wait(_WAIT_S)
                waiting = self._waiting(sent)
            if not waiting:
                return b""
            number, device = min(waiting)
            sent[device] = number
            return self._latest[device][1]

    def _waiting(self, sent: dict[str, int]) -> list[tuple[int, str]]:
        return [(n, device) for device, (n, _) in self._latest.items() if n > sent.get(device, 0)]


def _there(client: socket.socket) -> bool:
    """Whether the client is; what it says (Slicer asks for what it may get) is read so that it is not kept
    waiting, and not looked at."""
    while select.select([client], [], [], 0)[0]:
        if not client.recv(_CHUNK):
            return False
    return True


class StreamError(OSError):
    """The port cannot be had; the message names it and says why."""


def check_stream(address: str, port: int) -> None:
    """Raises ``StreamError``: told before a record is begun."""
    try:
        bound(address, port).close()
    except OSError as error:
        text = f"OpenIGTLink: cannot listen on {address}:{port}: {error.strerror or error}"
        raise StreamError(text) from None


def bound(address: str, port: int) -> socket.socket:
    """Raises ``OSError``."""
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address, port))
    except OSError:
        found.close()
        raise
    return found


def is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
