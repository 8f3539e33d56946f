"""A storage client's half of an association (PS3.8) on one socket, without threads. Seconds.

pynetdicom makes and reads the PDUs; its own client is not used: its polling thread can take an
answer that comes at once, which is then waited for in vain until the time-out (seen with 3.0.4).
Here a thing is sent when it is said, so that a fault is exactly what it says. Invariant: whatever
ends a link raises ``LinkError`` with the reason, and leaves no socket open.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import (
    A_ABORT,
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

VERIFICATION = UID("1.2.840.10008.1.1")  # PS3.4 A.4
_MAX_PDU_BYTES = 131072
_CONNECT_S, _ANSWER_S = 5.0, 30.0
_PDUS = {
    0x02: A_ASSOCIATE_AC,
    0x03: A_ASSOCIATE_RJ,
    0x04: P_DATA_TF,
    0x06: A_RELEASE_RP,
    0x07: A_ABORT_RQ,
}


class LinkError(OSError):
    """The association could not be made, or has ended; the message says why."""


class Link:
    """An association that proposes one context for each (SOP class, transfer syntax)."""

    def __init__(
        self,
        address: tuple[str, int],
        titles: tuple[str, str],
        proposed: Sequence[tuple[str, str]],
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> None:
        """``titles``: calling and called. Raises ``LinkError``."""
        self._socket = _connect(address, tls)
        self._messages = 0
        try:
            contexts = [build_context(*pair) for pair in proposed]
            for number, context in enumerate(contexts):
                context.context_id = 2 * number + 1
            self._send(_request(titles, contexts))
            answer = self._receive()
            if not isinstance(answer, A_ASSOCIATE_AC):
                reason = answer.reason_str if isinstance(answer, A_ASSOCIATE_RJ) else answer
                raise LinkError(f"the association was rejected: {reason}")
            self._agree(answer, contexts)
        except LinkError:
            self.close()
            raise

    def syntaxes(self, sop_class: UID) -> dict[UID, int]:
        """Accepted transfer syntaxes and the contexts they were accepted in."""
        return {syntax: c for c, (own, syntax) in self._accepted.items() if own == sop_class}

    def store(self, dataset: Dataset, syntax: UID, more: bytes = b"") -> int:
        """The status of a C-STORE in an accepted syntax. ``more``: bytes behind the data set, whatever they
        are."""
        for pdu in self._store_pdus(dataset, syntax, self._limit, more):
            self._send(pdu)
        return self._status()

    def echo(self, syntax: UID) -> int:
        """The status of a C-ECHO in an accepted syntax."""
        request, message = C_ECHO(), C_ECHO_RQ()
        request.MessageID, request.AffectedSOPClassUID = self._number(), VERIFICATION
        message.primitive_to_message(request)
        for fragment in message.encode_msg(self.syntaxes(VERIFICATION)[syntax], self._limit):
            pdu = P_DATA_TF()
            pdu.from_primitive(fragment)
            self._send(pdu.encode())
        return self._status()

    def _number(self) -> int:
        self._messages = self._messages % 65535 + 1
        return self._messages

    def _status(self) -> int:
        answer = DIMSEMessage()
        while True:
            part = self._receive()
            if not isinstance(part, P_DATA_TF):
                raise LinkError(f"the receiver ended the association ({type(part).__name__})")
            if answer.decode_msg(part.to_primitive()):
                status = getattr(answer.message_to_primitive(), "Status", None)
                if not isinstance(status, int):
                    raise LinkError("the receiver's answer has no status")
                return status

    def store_half_and_abort(self, dataset: Dataset, syntax: UID) -> None:
        """Half of a C-STORE's fragments, then A-ABORT."""
        size = len(dataset.PixelData) // 8 + 512
        pdus = self._store_pdus(dataset, syntax, min(self._limit, size))
        for pdu in pdus[: len(pdus) // 2]:
            self._send(pdu)
        abort, primitive = A_ABORT_RQ(), A_ABORT()
        primitive.abort_source = 0x00
        abort.from_primitive(primitive)
        self._send(abort.encode())
        self.close()

    def release(self) -> None:
        pdu, primitive = A_RELEASE_RQ(), A_RELEASE()
        pdu.from_primitive(primitive)
        try:
            self._send(pdu.encode())
            self._receive()
        except LinkError:
            pass  # it is over either way
        self.close()

    def reset(self) -> None:
        """TCP reset, with no word of DICOM."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _agree(self, answer: A_ASSOCIATE_AC, contexts: Iterable[PresentationContext]) -> None:
        primitive = answer.to_primitive()
        classes = {c.context_id: c.abstract_syntax for c in contexts}
        self._accepted = {
            int(c.context_id or 0): (classes[c.context_id], c.transfer_syntax[0])
            for c in primitive.presentation_context_definition_results_list
            if c.result == 0x00
        }
        # 0 is "no limit" (PS3.8 D.1).
        self._limit = min(primitive.maximum_length_received or _MAX_PDU_BYTES, _MAX_PDU_BYTES)

    def _store_pdus(
        self, dataset: Dataset, syntax: UID, limit_bytes: int, more: bytes = b""
    ) -> list[bytes]:
        body = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
        if body is None:
            raise ValueError(f"instance {dataset.SOPInstanceUID} cannot be encoded")
        request, message = C_STORE(), C_STORE_RQ()
        request.MessageID, request.Priority = self._number(), 0x0002
        request.AffectedSOPClassUID = dataset.SOPClassUID
        request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
        request.DataSet = BytesIO(body + more)
        message.primitive_to_message(request)
        pdus = []
        for fragment in message.encode_msg(self.syntaxes(dataset.SOPClassUID)[syntax], limit_bytes):
            pdu = P_DATA_TF()
            pdu.from_primitive(fragment)
            pdus.append(pdu.encode())
        return pdus

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise LinkError(f"the connection was lost while sending: {error}") from error

    def _receive(self) -> object:
        kind, length = struct.unpack(">BxL", self._read(6))
        body = self._read(length)
        if kind not in _PDUS:
            raise LinkError(f"the receiver sent a PDU of type 0x{kind:02X}")
        pdu = _PDUS[kind]()
        pdu.decode(struct.pack(">BxL", kind, length) + body)
        return pdu

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        try:
            while len(parts) < size:
                part = self._socket.recv(size - len(parts))
                if not part:
                    raise LinkError("the receiver closed the connection")
                parts += part
        except TimeoutError as error:
            raise LinkError(f"no answer within {_ANSWER_S:.0f} s") from error
        except LinkError:
            raise
        except OSError as error:
            raise LinkError(f"the connection was lost: {error}") from error
        return bytes(parts)


def _connect(address: tuple[str, int], tls: tuple[ssl.SSLContext, str] | None) -> socket.socket:
    raw = None
    try:
        raw = socket.create_connection(address, _CONNECT_S)
        raw.settimeout(_ANSWER_S)
        # Command and data set are two writes: with Nagle's delay an image takes 40 ms.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls[0].wrap_socket(raw, server_hostname=tls[1]) if tls else raw
    except OSError as error:  # ssl's errors are OSErrors
        if raw is not None:
            raw.close()
        raise LinkError(f"no connection: {error}") from error


def _request(titles: tuple[str, str], contexts: list[PresentationContext]) -> bytes:
    primitive, pdu = A_ASSOCIATE(), A_ASSOCIATE_RQ()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = titles
    primitive.presentation_context_definition_list = contexts
    length, maker = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = _MAX_PDU_BYTES
    maker.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    primitive.user_information = [length, maker]
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())
