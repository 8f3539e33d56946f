"""One instance of a C-STORE: written as it comes, then queued and answered. Bytes.

Invariant: it is answered with success only when it is on disk and on the queue; what is not kept is read
to its end, so that the sender gets an answer and not a cut.
"""

from __future__ import annotations

import errno
import queue
from typing import TYPE_CHECKING

from monitor.intake.association import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from monitor.intake.keeping import Part, free_bytes, part10_head
from monitor.intake.wire import IMPLEMENTATION_CLASS_UID
from monitor.model import Instance

if TYPE_CHECKING:
    from monitor.intake.listener import Listener, Talk


class ReceivedInstance:
    """One instance on its way: written as it comes, then queued and answered."""

    def __init__(
        self, talk: Talk, listener: Listener, sop_class: str, sop_instance: str, syntax: str
    ) -> None:
        self._talk, self._listener = talk, listener
        self._class, self._instance, self._syntax = sop_class, sop_instance, syntax
        self._status: int | None = None
        self._part: Part | None = None
        try:
            free = free_bytes(listener.blobs)
            if free < listener.limits.disk_free_bytes:
                text = f"the disk is full: {free // 2**20} MiB are free"
                self._fail(OUT_OF_RESOURCES, "image_disk_full", text)
                return
            head = part10_head(sop_class, sop_instance, syntax, IMPLEMENTATION_CLASS_UID)
            self._part = Part(listener.blobs, head)
        except OSError as error:
            self._disk_failed(error)

    def write(self, fragment: memoryview) -> None:
        if self._part is None:
            return
        if self._part.size + len(fragment) > self._listener.limits.instance_bytes:
            most = self._listener.limits.instance_bytes
            self._fail(CANNOT_UNDERSTAND, "image_too_large", f"instance of over {most} bytes")
            return
        try:
            self._part.write(fragment)
        except OSError as error:
            self._disk_failed(error)

    def end(self) -> int:
        part, listener = self._part, self._listener
        if part is None:
            return CANNOT_UNDERSTAND if self._status is None else self._status
        with listener.lock:
            fits = listener.admission.room_for(self._talk.address, part.size)
        if not fits:
            most = listener.limits.stored_bytes
            text = f"more than {most} bytes of this address"
            self._fail(OUT_OF_RESOURCES, "image_quota", text)
            return OUT_OF_RESOURCES
        try:
            listener.put(self._named(part.keep(listener.limits.durable)))
        except queue.Full:
            return OUT_OF_RESOURCES  # the sender still has it, and is told to send again
        except OSError as error:
            self._disk_failed(error)
            return OUT_OF_RESOURCES
        self._talk.stored += 1
        listener.kept(self._talk, part.size)
        return SUCCESS

    def discard(self) -> None:
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _disk_failed(self, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        text = f"cannot keep an instance: {error.strerror or error}"
        self._fail(OUT_OF_RESOURCES, "image_disk_full" if full else "image_disk", text)

    def _fail(self, status: int, code: str, reason: str) -> None:
        """The rest of the message is read and thrown away: the peer gets an answer, not a cut."""
        self._status = status
        self.discard()
        self._talk.keep_failed(code, reason)

    def _named(self, sha256: str) -> Instance:
        listener, talk = self._listener, self._talk
        return Instance(
            sha256=sha256,
            path=f"{listener.blobs.name}/{sha256}.dcm",
            sop_class_uid=self._class,
            sop_instance_uid=self._instance,
            transfer_syntax_uid=self._syntax,
            association_id=talk.number,
            calling_ae_title=talk.title,
            received_utc_s=listener.clock.now_utc_s(),
            received_mono_s=listener.clock.mono_s(),
        )
