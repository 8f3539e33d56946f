"""The DICOM listener, in a process of its own: takes bytes, keeps them, queues their name, answers.

Nothing is decoded here: a busy Python thread beside pynetdicom costs it a factor of eight.
Invariant: an instance is answered with success only when it is on disk and on the queue; what a
sender chose (UIDs, AE titles) is never part of a path.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import os
import queue
import signal
import sys
import threading
from multiprocessing.queues import Queue as ProcessQueue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE, evt
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
from monitor.model import AssociationEnded, Instance

# What ``decode`` can read. Deflated is refused: a small file may unpack to gigabytes.
TRANSFER_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
]
# Scanners push these along with the CT. They are taken and rejected with a reason, so that nothing
# that was sent is unaccounted for.
SOP_CLASSES = [
    CTImageStorage,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
]

MAX_INSTANCE_BYTES = 64 * 2**20
_MAX_ASSOCIATIONS = 20
_IDLE_S = 60.0
_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND, _SUCCESS = 0xA700, 0xC000, 0x0000


def run_listener(
    config: ListenerConfig,
    blobs: Path,
    clock: ProcedureClock,
    out: ProcessQueue[Any],
    stop: ProcessEvent,
) -> None:
    """The process: listens until ``stop`` is set. Exit status 2 when it cannot listen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the core decides when to stop
    server = _Listener(config, blobs, clock, out)
    try:
        server.start()
    except OSError as error:
        out.put(
            ListenerFailed(
                f"cannot listen on {config.address}:{config.port} as {config.ae_title}: {error.strerror}"
            )
        )
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


class _Listener:
    def __init__(
        self, config: ListenerConfig, blobs: Path, clock: ProcedureClock, out: ProcessQueue[Any]
    ) -> None:
        self._config = config
        self._blobs = blobs
        self._clock = clock
        self._out = out
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._associations: dict[
            int, tuple[int, int]
        ] = {}  # id(assoc) → (number, instances stored)
        self._server: Any = None

    def start(self) -> None:
        ae = AE(ae_title=self._config.ae_title)
        ae.maximum_pdu_size = 131072
        ae.maximum_associations = _MAX_ASSOCIATIONS
        ae.network_timeout = ae.dimse_timeout = _IDLE_S
        ae.acse_timeout = 10.0
        ae.require_called_aet = True
        ae.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, TRANSFER_SYNTAXES)
        self._server = ae.start_server(
            (self._config.address, self._config.port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._on_connection),
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_RELEASED, self._on_end, [False]),
                (evt.EVT_ABORTED, self._on_end, [True]),
                (evt.EVT_CONN_CLOSE, self._on_end, [True]),
            ],
        )
        host, port = self._server.socket.getsockname()[:2]
        self._out.put(Listening(self._config.ae_title, host, port))

    def shutdown(self) -> None:
        self._server.shutdown()

    # ------------------------------------------------------------------ who may talk

    def _on_connection(self, event: evt.Event) -> None:
        """Strangers are cut off before they can say anything; half-open talk times out."""
        address = event.address[0]  # type: ignore[attr-defined]
        if not self._address_allowed(address):
            self._tell(Refused(address, "address not in listener.allowed_peers"))
            event.assoc.abort()
            return
        socket = event.assoc.dul.socket
        if socket is not None and socket.socket is not None:
            socket.socket.settimeout(_IDLE_S)

    def _on_requested(self, event: evt.Event) -> None:
        requestor = event.assoc.requestor
        title = str(requestor.ae_title).strip()
        if not self._peer_allowed(title, requestor.address):
            self._tell(
                Refused(f"{title}@{requestor.address}", "peer not in listener.allowed_peers")
            )
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # calling AE title not recognized
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

    def _on_store(self, event: evt.Event) -> int:
        data = event.request.DataSet.getbuffer()  # type: ignore[union-attr]
        if len(data) > MAX_INSTANCE_BYTES:
            self._tell(Refused(event.assoc.requestor.address, f"instance of {len(data)} bytes"))
            return _CANNOT_UNDERSTAND
        number = self._number(event.assoc, stored=0)
        try:
            instance = self._keep(event, data, number)
            self._out.put(instance, timeout=1.0)
        except queue.Full:
            return _OUT_OF_RESOURCES  # the sender still has it, and is told to send again
        except OSError as error:
            self._tell(
                Refused(event.assoc.requestor.address, f"cannot keep an instance: {error.strerror}")
            )
            return _OUT_OF_RESOURCES
        self._number(event.assoc, stored=1)
        return _SUCCESS

    def _keep(self, event: evt.Event, data: memoryview, number: int) -> Instance:
        """The bytes as a Part 10 file, its preamble zero (CVE-2019-11687), under their own hash."""
        meta = DicomBytesIO()
        info = event.file_meta
        write_file_meta_info(meta, info, enforce_standard=True)
        head = b"\x00" * 128 + b"DICM" + meta.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        path = self._blobs / f"{digest}.dcm"
        if not path.exists():
            part = self._blobs / f"{digest}.{threading.get_ident()}.part"
            with part.open("wb") as file:
                file.write(head)
                file.write(data)
            os.replace(part, path)
        return Instance(
            sha256=digest,
            path=f"{self._blobs.name}/{digest}.dcm",
            sop_class_uid=_uid(info.MediaStorageSOPClassUID),
            sop_instance_uid=_uid(info.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=_uid(info.TransferSyntaxUID),
            association_id=number,
            calling_ae_title=str(event.assoc.requestor.ae_title).strip(),
            received_utc_s=self._clock.now_utc_s(),
            received_mono_s=self._clock.mono_s(),
        )

    def _number(self, association: Any, stored: int) -> int:
        """The association's number; counts what it stored."""
        with self._lock:
            number, count = self._associations.get(id(association), (0, 0))
            number = number or next(self._numbers)
            self._associations[id(association)] = (number, count + stored)
            return number

    def _on_end(self, event: evt.Event, aborted: bool) -> None:
        with self._lock:
            number, count = self._associations.pop(id(event.assoc), (0, 0))
        if number:
            self._out.put(AssociationEnded(number, aborted, count, self._clock.mono_s()))

    def _tell(self, message: Refused) -> None:
        """Not worth blocking a peer for: strangers must not fill the queue."""
        try:
            self._out.put_nowait(message)
        except queue.Full:
            return


def _uid(value: UID) -> str:
    """A UID as a sender chose it, made harmless for logs: only printable, at most 64 characters."""
    return "".join(c for c in str(value) if c.isascii() and c.isprintable())[:64]
