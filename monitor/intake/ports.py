"""The listener's port and certificates: whether they can be had, told before a record is begun. Seconds."""

from __future__ import annotations

import socket
import time

from monitor.config import ListenerConfig
from monitor.intake.tls import TlsError, server_context


class ListenError(OSError):
    """The port or TLS cannot be had; the message names what and why."""


def check_port(config: ListenerConfig, patience_s: float = 0.0) -> None:
    """Raises ``ListenError`` when another program has the port: told before a record is begun. The
    listener binds it anew, and tells it again should the port be lost in between. ``patience_s``: so long
    whoever has it may take to give it up, as the intake process of a program that was killed."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            with bound(config):
                return
        except OSError as error:
            if time.monotonic() >= end_s:
                raise ListenError(cannot_listen(config, error)) from None
        time.sleep(0.05)


def check_tls(config: ListenerConfig) -> None:
    """Raises ``ListenError`` naming the file that is wrong."""
    if config.tls is not None:
        try:
            server_context(config.tls)
        except TlsError as error:
            raise ListenError(str(error)) from None


def bound(config: ListenerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    found = socket.socket(family)
    try:
        # A port that a connection lingers on can be had again.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((config.address, config.port))
    except OSError:
        found.close()
        raise
    return found


def cannot_listen(config: ListenerConfig, error: OSError) -> str:
    return (
        f"cannot listen on {config.address}:{config.port} as {config.ae_title}: "
        f"{error.strerror or error}"
    )
