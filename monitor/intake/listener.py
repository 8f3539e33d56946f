"""The DICOM listener, in a process of its own: takes bytes, keeps them, queues their name, answers.

Nothing is decoded here: a busy Python thread beside pynetdicom costs it a factor of eight.
Invariant: an instance is answered with success only when it is on disk and on the queue; what a
sender chose (UIDs, AE titles) is never part of a path.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import logging
import os
import queue
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from multiprocessing.queues import Queue as ProcessQueue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    EnhancedCTImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
    XRayRadiationDoseSRStorage,
)

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig
from monitor.intake.messages import ListenerFailed, Listening, Refused
from monitor.intake.pixels import TRANSFER_SYNTAXES
from monitor.intake.wire import Limits, guard
from monitor.model import AssociationEnded, Instance

# Scanners push the others along with the CT. They are taken and rejected with a reason, so that
# nothing that was sent is unaccounted for.
SOP_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)

_PDU_BYTES = 131072
_LIMITS = Limits()
# PS3.4 B.2.3: out of resources, cannot understand. PS3.8 9.3.4: the reasons for a rejection.
_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND, _SUCCESS = 0xA700, 0xC000, 0x0000
_CALLING_TITLE_UNKNOWN, _CALLED_TITLE_UNKNOWN = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07)


class ListenError(OSError):
    """The port cannot be had; the message names it and why."""


def check_port(config: ListenerConfig) -> None:
    """Raises ``ListenError`` when another program has the port: told before a record is begun. The
    listener binds it anew, and tells it again should the port be lost in between."""
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # As the listener's: a port that a connection lingers on can be had again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.address, config.port))
    except OSError as error:
        raise ListenError(_cannot_listen(config, error)) from None


def _cannot_listen(config: ListenerConfig, error: OSError) -> str:
    return (
        f"cannot listen on {config.address}:{config.port} as {config.ae_title}: "
        f"{error.strerror or error}"
    )


def run_listener(
    config: ListenerConfig,
    blobs: Path,
    clock: ProcedureClock,
    out: ProcessQueue[Any],
    stop: ProcessEvent,
    limits: Limits = _LIMITS,
) -> None:
    """The process: listens until ``stop`` is set. Exit status 2 when it cannot listen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the core decides when to stop
    logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
    server = Listener(config, blobs, clock, out, limits)
    try:
        server.start()
    except OSError as error:
        out.put(ListenerFailed(_cannot_listen(config, error)))
        out.close()
        out.join_thread()
        sys.exit(2)
    parent = os.getppid()
    while not stop.wait(0.2):
        if os.getppid() != parent:
            break  # the core is gone: nobody would hear of another slice
    server.shutdown()
    out.close()
    out.join_thread()


@dataclass
class _Talk:
    """What we know of one association. ``message_bytes``: of the message being received."""

    number: int
    stored: int = 0
    message_bytes: int = 0
    ended: bool = False


class Listener:
    """Answers on the threads of pynetdicom; ``run_listener`` is its process."""

    def __init__(
        self,
        config: ListenerConfig,
        blobs: Path,
        clock: ProcedureClock,
        out: ProcessQueue[Any],
        limits: Limits,
    ) -> None:
        self._config = config
        self._blobs = blobs
        self._clock = clock
        self._out = out
        self._limits = limits
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._talks: WeakKeyDictionary[Any, _Talk] = WeakKeyDictionary()
        self._ae = AE(ae_title=config.ae_title)

    def start(self) -> None:
        """Raises ``OSError`` when the port cannot be had."""
        self._configure()
        server: Any = self._ae.start_server(
            (self._config.address, self._config.port), block=False, evt_handlers=self._handlers()
        )
        host, port = server.socket.getsockname()[:2]
        self._out.put(Listening(self._config.ae_title, host, port))

    def shutdown(self) -> None:
        """Takes nothing more; what is being received is broken off and not answered."""
        self._ae.shutdown()

    def _configure(self) -> None:
        ae, limits = self._ae, self._limits
        ae.maximum_pdu_size = _PDU_BYTES
        ae.maximum_associations = limits.associations
        ae.network_timeout = ae.dimse_timeout = limits.idle_s
        ae.acse_timeout = limits.hello_s
        ae.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_PDU_RECV, self._on_pdu),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_end, [False]),
            (evt.EVT_ABORTED, self._on_end, [True]),
            (evt.EVT_CONN_CLOSE, self._on_end, [True]),
        ]

    # ------------------------------------------------------------------ who may talk

    def _on_connection(self, event: Any) -> None:
        """Strangers are cut off before they can say anything; half-open talk times out."""
        address = event.address[0]
        crowd = sum(a.requestor.address == address for a in self._ae.active_associations)
        if not self._address_allowed(address):
            self._cut(event, Refused(address, "address not in listener.allowed_peers"))
        elif crowd >= self._limits.connections:  # this one is not active yet
            self._cut(event, Refused(address, f"more than {self._limits.connections} connections"))
        else:
            guard(event.assoc, self._limits)

    def _cut(self, event: Any, message: Refused) -> None:
        """Ends the conversation under the association, whose threads then find it closed."""
        self._tell(message)
        event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    def _on_requested(self, event: Any) -> None:
        requestor = event.assoc.requestor
        title = _harmless(requestor.primitive.calling_ae_title)
        called = _harmless(requestor.primitive.called_ae_title)
        peer = f"{title}@{requestor.address}"
        if called != self._config.ae_title.strip():
            self._reject(event, Refused(peer, f"called {called!r}"), _CALLED_TITLE_UNKNOWN)
        elif not self._peer_allowed(title, requestor.address):
            message = Refused(peer, "peer not in listener.allowed_peers")
            self._reject(event, message, _CALLING_TITLE_UNKNOWN)

    def _reject(self, event: Any, message: Refused, why: tuple[int, int, int]) -> None:
        self._tell(message)
        event.assoc.acse.send_reject(*why)
        event.assoc.kill()

    def _address_allowed(self, address: str) -> bool:
        peers = self._config.allowed_peers
        if not peers:
            return ipaddress.ip_address(address).is_loopback
        return any(p.address in ("*", address) for p in peers)

    def _peer_allowed(self, title: str, address: str) -> bool:
        peers = self._config.allowed_peers
        return not peers or any(
            p.ae_title in ("*", title) and p.address in ("*", address) for p in peers
        )

    # ------------------------------------------------------------------ instances

    def _on_pdu(self, event: Any) -> None:
        """pynetdicom gathers a message in memory before anyone may refuse it."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        talk = self._talk(event.assoc)
        talk.message_bytes += len(event.pdu)
        if talk.message_bytes > self._limits.message_bytes:
            size = f"message of over {self._limits.message_bytes} bytes"
            self._tell(Refused(event.assoc.requestor.address, size))
            event.assoc.abort()

    def _on_store(self, event: Any) -> int:
        data = event.request.DataSet.getbuffer()
        talk = self._talk(event.assoc)
        talk.message_bytes = 0
        peer = event.assoc.requestor.address
        if len(data) > self._limits.instance_bytes:
            self._tell(Refused(peer, f"instance of {len(data)} bytes"))
            return _CANNOT_UNDERSTAND
        try:
            instance = self._keep(event, data, talk.number)
            self._out.put(instance, timeout=self._limits.queue_s)
        except queue.Full:
            return _OUT_OF_RESOURCES  # the sender still has it, and is told to send again
        except OSError as error:
            self._tell(Refused(peer, f"cannot keep an instance: {error.strerror or error}"))
            return _OUT_OF_RESOURCES
        talk.stored += 1
        return _SUCCESS

    def _keep(self, event: Any, data: memoryview, number: int) -> Instance:
        """The bytes as a Part 10 file, its preamble zero (CVE-2019-11687), under its own hash."""
        sop_class = _harmless(event.request.AffectedSOPClassUID)
        sop_instance = _harmless(event.request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        head = _head(sop_class, sop_instance, syntax)
        digest = hashlib.sha256(head)
        digest.update(data)
        name = f"{digest.hexdigest()}.dcm"
        _write(self._blobs / name, head, data, self._limits.durable)
        return Instance(
            sha256=digest.hexdigest(),
            path=f"{self._blobs.name}/{name}",
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            transfer_syntax_uid=syntax,
            association_id=number,
            calling_ae_title=_harmless(event.assoc.requestor.ae_title),
            received_utc_s=self._clock.now_utc_s(),
            received_mono_s=self._clock.mono_s(),
        )

    # ------------------------------------------------------------------ associations

    def _talk(self, association: Any) -> _Talk:
        """Called from the association's two threads."""
        with self._lock:
            if association not in self._talks:
                self._talks[association] = _Talk(next(self._numbers))
            return self._talks[association]

    def _on_end(self, event: Any, aborted: bool) -> None:
        """Released, aborted or cut: whichever comes first tells; nothing stored, nothing to tell."""
        talk = self._talk(event.assoc)
        if talk.ended or not talk.stored:
            return
        talk.ended = True
        ended = AssociationEnded(talk.number, aborted, talk.stored, self._clock.mono_s())
        try:
            self._out.put(ended, timeout=self._limits.queue_s)
        except queue.Full:
            return  # silence will complete the pass instead

    def _tell(self, message: Refused) -> None:
        """Not worth blocking a peer for: strangers must not fill the queue."""
        try:
            self._out.put_nowait(message)
        except queue.Full:
            return


def _head(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.add_new(0x00020002, "UI", sop_class)
    meta.add_new(0x00020003, "UI", sop_instance)
    meta.add_new(0x00020010, "UI", syntax)
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return b"\x00" * 128 + b"DICM" + buffer.getvalue()


def _write(path: Path, head: bytes, data: memoryview, durable: bool) -> None:
    """Whole and on the disk, or not at all."""
    part = path.with_suffix(f".{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(head)
            file.write(data)
            file.flush()
            if durable:
                os.fdatasync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _harmless(chosen: object) -> str:
    """What a sender chose, fit for a log: printable ASCII, at most 64 characters."""
    text = "".join(c for c in str(chosen or "") if c.isascii() and c.isprintable())
    return text.strip()[:64]
