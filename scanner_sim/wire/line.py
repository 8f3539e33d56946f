"""The edge: one association at a time to one receiver. Wall-clock seconds.

Invariant: every instance handed over ends as taken, refused for good, or to be sent again; nothing
is dropped in silence.
"""

from __future__ import annotations

import copy
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

_MAX_PDU_BYTES = 131072
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


class Line:
    """Calls when there is something to send. ``why`` says what went wrong last. Contexts are
    proposed for ``datasets``: each class in its own syntax and, as PS3.5 10.1 asks, the default."""

    def __init__(self, target: Target, datasets: Iterable[Dataset]) -> None:
        self.why = ""
        self._target = target
        self._association: Any = None
        self._unreachable = False
        pairs = [(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets]
        pairs += [(sop_class, ImplicitVRLittleEndian) for sop_class, _ in pairs]
        self._contexts = [build_context(c, s) for c, s in dict.fromkeys(pairs)]
        self._tls = target.tls.context() if target.tls else None

    def open(self) -> bool:
        """Tries once: a receiver that is gone costs one time-out, not one for each image."""
        if self._unreachable:
            return False
        if self._association is None or not self._association.is_established:
            self._association = self._call(self._contexts)
        self._unreachable = not self._association.is_established
        return not self._unreachable

    def store(self, dataset: Dataset) -> Answer:
        if not self.open():
            return Answer.LATER
        try:
            answer = self._association.send_c_store(self._acceptable(dataset))
        except (
            ValueError,
            RuntimeError,
        ) as error:  # no context for it, or the association just died
            self.why = str(error)
            return Answer.REFUSED if isinstance(error, ValueError) else Answer.LATER
        finally:
            if self._target.per_image:
                self.release()
        return self._judge(answer.get("Status"))

    def abort_in(self, dataset: Dataset) -> None:
        """Half of a C-STORE's data set, then A-ABORT."""
        if self.open() and self._accepted(dataset.SOPClassUID):
            for fragment in self._half(dataset):
                self._association.dul.send_pdu(fragment)
            self._association.abort()

    def reset(self) -> None:
        """The connection dies as when a cable is pulled and a firewall answers: TCP reset."""
        association, self._association = self._association, None
        raw = association.dul.socket.socket if association and association.dul.socket else None
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()

    def call_in_vain(self) -> None:
        """Asks for a service that no receiver has."""
        association = self._call([build_context(_NOBODYS_CLASS, ImplicitVRLittleEndian)])
        if association.is_established:
            association.abort()

    def release(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _call(self, contexts: list[Any]) -> Any:
        target = self._target
        ae = AE(ae_title=target.calling_ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30.0
        ae.connection_timeout = 5.0
        name = target.host if target.tls is None else target.tls.server_name or target.host
        association = ae.associate(
            target.host,
            target.port,
            contexts=contexts,
            ae_title=target.ae_title,
            max_pdu=_MAX_PDU_BYTES,
            tls_args=(self._tls, name) if self._tls else None,
        )
        if association.is_rejected:
            self.why = "the association was rejected"
        elif not association.is_established:
            tls = " or its certificate or ours is not trusted" if self._tls else ""
            self.why = f"no association: nobody answers, or not to this call{tls}"
        return association

    def _accepted(self, sop_class: UID) -> list[Any]:
        return [c for c in self._association.accepted_contexts if c.abstract_syntax == sop_class]

    def _acceptable(self, dataset: Dataset) -> Dataset:
        """Decompressed where the receiver does not take it compressed, as PS3.5 10.1 has it."""
        own = dataset.file_meta.TransferSyntaxUID
        syntaxes = [c.transfer_syntax[0] for c in self._accepted(dataset.SOPClassUID)]
        if own in syntaxes or not own.is_compressed or not syntaxes:
            return dataset
        plain = copy.deepcopy(dataset)
        try:
            plain.decompress(generate_instance_uid=False)
        except Exception as error:  # each codec raises its own; a damaged codestream is one cause
            raise ValueError(
                f"it is not taken compressed, and not to be decompressed: {error}"
            ) from error
        return plain

    def _half(self, dataset: Dataset) -> list[Any]:
        dataset = self._acceptable(dataset)
        context = self._accepted(dataset.SOPClassUID)[0]
        syntax = context.transfer_syntax[0]
        body = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian) or b""
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = dataset.SOPClassUID
        request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
        request.DataSet = BytesIO(body)
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        limit = self._association.dimse.maximum_pdu_size or _MAX_PDU_BYTES
        fragments = list(message.encode_msg(context.context_id, min(limit, len(body) // 8 + 512)))
        return fragments[: len(fragments) // 2]

    def _judge(self, status: int | None) -> Answer:
        if status is None:
            self.why = "the association ended without an answer"
            return Answer.LATER
        if status == 0x0000 or 0xB000 <= status <= 0xBFFF:
            return Answer.TAKEN
        self.why = f"status 0x{status:04X}"
        # 0xA7xx is out of resources, for now; the other failures are about the instance (PS3.4 B.2.3).
        return Answer.LATER if 0xA700 <= status <= 0xA7FF else Answer.REFUSED
