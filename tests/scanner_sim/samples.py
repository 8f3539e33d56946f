"""Small acquisitions, and a real receiver that writes down what comes over the wire. HU, LPS mm."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ABORT_RQ

from scanner_sim.bodies import Level, ellipsoid
from scanner_sim.dicom import profiles
from scanner_sim.dicom.study import Procedure
from scanner_sim.dicom.writer import Writer
from scanner_sim.images import Acquisition, Geometry, Image, Technique

PROCEDURE = Procedure("sample", 7, "SIM-1", "DUPONT, Hélène", "liver")
EPOCH_UTC_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC
TECHNIQUE = Technique(120.0, 100.0, 0.5)
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
BODIES: dict[str, Level] = {
    "Lesion": ellipsoid((0.0, -8.0, 110.0), (7.0, 6.0, 5.0)),
    "Bowel": ellipsoid((11.0, -8.0, 110.0), (3.0, 6.0, 5.0)),
}


def geometry(tilt_deg: float = 0.0) -> Geometry:
    """Rows and columns of different spacing; the top of the gantry away from the table's end."""
    tilt = np.radians(tilt_deg)
    down = (0.0, float(np.cos(tilt)), float(-np.sin(tilt)))
    return Geometry((-20.0, -25.0, 100.0), (1.0, 0.0, 0.0), down, (0.0, 0.0, 2.5), (0.8, 0.7))


def acquisition(
    number: int = 0, slices: int = 8, kernels: tuple[str, ...] = ("soft",), tilt_deg: float = 0.0
) -> Acquisition:
    """One minute after the one before; smooth enough to compress, different in every voxel row."""
    rng = np.random.default_rng(number)
    ramp = np.arange(48)[None, :, None] * 20 + np.arange(40)[None, None, :] * 3 - 900
    hu = (ramp + rng.normal(0, 8, (slices, 48, 40)) + 7 * np.arange(slices)[:, None, None]).astype(
        np.int16
    )
    at_s = 60.0 * number
    images = [Image(hu, geometry(tilt_deg), 2.5, k, TECHNIQUE, at_s, 4.0) for k in kernels]
    return Acquisition(number, "volume", at_s, tuple(images))


def fluoro(number: int = 1, frames: int = 4) -> Acquisition:
    """Three slices, four times a second."""
    hu = acquisition(number, 3).images[0].hu
    at_s = 60.0 * number
    images = [
        Image(hu + np.int16(n), geometry(), 2.5, "soft", TECHNIQUE, at_s + 0.25 * n, 0.2)
        for n in range(frames)
    ]
    return Acquisition(number, "fluoro", at_s, tuple(images))


def writer(profile: str = "siemens", **options: Any) -> Writer:
    return Writer(PROCEDURE, profiles.load(profile), EPOCH_UTC_S, **options)


@dataclass
class Seen:
    """``call`` counts the connections; ``fragments`` are the P-DATA since the last whole C-STORE."""

    kind: str
    call: int
    at_s: float
    dataset: Dataset | None = None
    classes: tuple[str, ...] = ()
    fragments: bytes = b""


@dataclass
class Receiver:
    """A storage provider on loopback. ``refuse``: how many instances get 0xA700 first, or
    ``status`` what each gets."""

    refuse: int = 0
    status: int = 0x0000
    syntaxes: tuple[str, ...] = SYNTAXES
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        self._lock, self._calls, self._parts = threading.Lock(), {}, {}
        ae = AE("RX")
        ae.maximum_pdu_size = 16384
        ae.network_timeout = 60
        for sop_class in (CTImageStorage, EnhancedCTImageStorage):
            ae.add_supported_context(sop_class, list(self.syntaxes))
        events = {
            evt.EVT_CONN_OPEN: "open",
            evt.EVT_CONN_CLOSE: "closed",
            evt.EVT_REQUESTED: "requested",
            evt.EVT_RELEASED: "released",
        }
        handlers: list[Any] = [(e, self._note, [kind]) for e, kind in events.items()]
        handlers += [(evt.EVT_PDU_RECV, self._part), (evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        self.port = self._server.socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + 5.0
        while len(self.kinds("open")) > len(self.kinds("closed")) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._server.shutdown()

    def _see(self, event: evt.Event, kind: str, dataset: Dataset | None = None) -> None:
        with self._lock:
            call = self._calls.setdefault(event.assoc, len(self._calls))
            asked = event.assoc.requestor.requested_contexts if kind == "requested" else []
            classes = tuple(str(c.abstract_syntax) for c in asked)
            fragments = self._parts.get(event.assoc, b"")
            self.seen.append(Seen(kind, call, time.monotonic(), dataset, classes, fragments))

    def _note(self, event: evt.Event, kind: str) -> None:
        self._see(event, kind)

    def _part(self, event: evt.Event) -> None:
        # EVT_ABORTED also comes where a connection was lost: only the PDU is an A-ABORT.
        if isinstance(event.pdu, A_ABORT_RQ):
            self._see(event, "aborted")
        if hasattr(event.pdu, "presentation_data_value_items"):
            data = b"".join(
                item.presentation_data_value for item in event.pdu.presentation_data_value_items
            )
            self._parts[event.assoc] = self._parts.get(event.assoc, b"") + data

    def _store(self, event: evt.Event) -> int:
        self._parts[event.assoc] = b""
        if self.refuse:
            self.refuse -= 1
            return 0xA700
        d = event.dataset
        d.file_meta = event.file_meta
        self._see(event, "stored", d)
        return self.status

    def kinds(self, *kinds: str) -> list[Seen]:
        return [s for s in self.seen if s.kind in kinds]

    @property
    def stored(self) -> list[Dataset]:
        return [s.dataset for s in self.kinds("stored") if s.dataset is not None]

    @property
    def uids(self) -> list[str]:
        return [str(d.SOPInstanceUID) for d in self.stored]
