"""One receiver, called whenever there is something for it. Wall-clock seconds.

Invariant: every instance handed over ends as taken, refused for good, or to be sent again; nothing
is dropped in silence.
"""

from __future__ import annotations

import copy
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from scanner_sim.wire.link import VERIFICATION, Link, LinkError

_NOBODYS_CLASS = generate_uid(entropy_srcs=["a storage class that nobody takes"])


class PushError(RuntimeError):
    """A scan could not be delivered; the message says what, where and why."""


@dataclass(frozen=True)
class Tls:
    """TLS 1.2 or newer; the receiver is verified against ``ca_file`` and ``server_name`` (default:
    the host). ``cert_file`` and ``key_file``, where it asks for the scanner's own certificate."""

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = [str(f) for f in (self.ca_file, self.cert_file, self.key_file) if f]
            raise PushError(f"TLS with {', '.join(files)}: {error}") from error
        return context


@dataclass(frozen=True)
class Target:
    """A receiver. ``per_image``: an association for each image instead of for each series."""

    ae_title: str
    host: str
    port: int
    calling_ae_title: str = "SCANNER"
    per_image: bool = False
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class Answer(Enum):
    TAKEN, REFUSED, LATER = range(3)


class NotTaken(ValueError):
    """The receiver accepts no transfer syntax in which the instance could go."""


class Line:
    """Calls when there is something to send. ``why`` says what went wrong last. Contexts are
    proposed for ``datasets``: each class in its own syntax and, as PS3.5 10.1 asks, the default."""

    def __init__(self, target: Target, datasets: Iterable[Dataset]) -> None:
        self.why = ""
        self._target = target
        self._link: Link | None = None
        self._unreachable = False
        pairs = [(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets]
        pairs += [
            (c, s) for c, _ in pairs for s in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        ]
        self._proposed = list(dict.fromkeys(pairs))
        self._tls = target.tls.context() if target.tls else None

    def store(self, dataset: Dataset) -> Answer:
        try:
            link = self._open()
            prepared, syntax = _acceptable(dataset, link.syntaxes(dataset.SOPClassUID))
            answer = self._judge(link.store(prepared, syntax))
        except NotTaken as error:
            self.why = str(error)
            answer = Answer.REFUSED
        except LinkError as error:
            self.why, self._link = str(error), None
            return Answer.LATER
        if self._target.per_image:
            self.release()
        return answer

    def abort_in(self, dataset: Dataset) -> None:
        """Half of a C-STORE's data set, then A-ABORT."""
        try:
            link = self._open()
            link.store_half_and_abort(*_acceptable(dataset, link.syntaxes(dataset.SOPClassUID)))
        except (LinkError, NotTaken) as error:
            self.why = str(error)
        self._link = None

    def reset(self) -> None:
        """The connection dies as when a cable is pulled and a firewall answers."""
        if self._link is not None:
            self._link.reset()
        self._link = None

    def call_in_vain(self) -> None:
        """Asks for a service that no receiver has."""
        try:
            self._call([(_NOBODYS_CLASS, ImplicitVRLittleEndian)]).release()
        except LinkError as error:
            self.why = str(error)

    def verify(self) -> None:
        """A C-ECHO, where the receiver takes one. Raises ``PushError`` when it cannot be called."""
        try:
            link = self._call([(VERIFICATION, ImplicitVRLittleEndian)])
            if ImplicitVRLittleEndian in link.syntaxes(VERIFICATION):
                link.echo(ImplicitVRLittleEndian)
            link.release()
        except LinkError as error:
            raise PushError(f"{self._target}: {error}") from error

    def release(self) -> None:
        if self._link is not None:
            self._link.release()
        self._link = None

    def _open(self) -> Link:
        """Tries once: a receiver that is gone costs one time-out, not one for each image."""
        if self._link is None and not self._unreachable:
            self._unreachable = True
            self._link = self._call(self._proposed)
            self._unreachable = False
        if self._link is None:
            raise LinkError(self.why)
        return self._link

    def _call(self, proposed: list[tuple[str, str]]) -> Link:
        target = self._target
        name = target.host if target.tls is None else target.tls.server_name or target.host
        return Link(
            (target.host, target.port),
            (target.calling_ae_title, target.ae_title),
            proposed,
            (self._tls, name) if self._tls else None,
        )

    def _judge(self, status: int) -> Answer:
        if status == 0x0000 or 0xB000 <= status <= 0xBFFF:
            return Answer.TAKEN
        self.why = f"status 0x{status:04X}"
        # 0xA7xx: out of resources for now; other failures are the instance's own (PS3.4 B.2.3).
        return Answer.LATER if 0xA700 <= status <= 0xA7FF else Answer.REFUSED


def _acceptable(dataset: Dataset, taken: Iterable[UID]) -> tuple[Dataset, UID]:
    """The dataset and a syntax the receiver takes it in: its own, or uncompressed (PS3.5 10.1)."""
    own, taken = dataset.file_meta.TransferSyntaxUID, list(taken)
    if own in taken:
        return dataset, own
    plain = [s for s in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if s in taken]
    if not plain:
        raise NotTaken(f"the receiver takes no {dataset.SOPClassUID.name}")
    return (_decompressed(dataset) if own.is_compressed else dataset), plain[0]


def _decompressed(dataset: Dataset) -> Dataset:
    copied = copy.deepcopy(dataset)
    # pylibjpeg-rle answers damage with a Rust panic, which is no Exception.
    plugin = "pydicom" if dataset.file_meta.TransferSyntaxUID == RLELossless else ""
    try:
        copied.decompress(decoding_plugin=plugin, generate_instance_uid=False)
    except Exception as error:  # each codec raises its own
        raise NotTaken(
            f"it is not taken compressed, nor can it be decompressed: {error}"
        ) from error
    return copied
