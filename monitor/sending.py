"""Sends what a spool holds by C-STORE, until the receiver has answered for all of it. Seconds.

Invariant: nothing leaves ``pending`` but on the receiver's own status (PS3.4 B.2.3): success or a warning is
sent, a lasting failure is refused; no answer, or one that resources are short, is tried again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pynetdicom import AE

from monitor.record.spool import Spool

_FIRST_WAIT_S, _LONGEST_WAIT_S, _TIMEOUT_S = 1.0, 60.0, 30.0
# Of one association; a standard allows 128 presentation contexts.
_MOST_CLASSES = 100


@dataclass(frozen=True)
class Receiver:
    """Where to send, and the AE title that calls."""

    ae_title: str
    host: str
    port: int
    calling: str = "ICEBALL"


def receiver_of(text: str) -> Receiver:
    """``AE@host:port``. Raises ``ValueError``."""
    found = re.fullmatch(r"([^@\s]{1,16})@([^@\s]+):(\d{1,5})", text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text}: expected AE@host:port")
    return Receiver(found[1], found[2], int(found[3]))


def send_all(
    spool: Spool,
    to: Receiver,
    say: Callable[[str], None],
    give_up_after_s: float | None = None,
    stop: threading.Event | None = None,
) -> bool:
    """Whether nothing is pending any more. ``give_up_after_s`` None: until stopped."""
    stop, began, wait_s = stop or threading.Event(), time.monotonic(), _FIRST_WAIT_S
    while pending := spool.pending():
        done, trouble = _turn(spool, to, pending)
        if done:
            wait_s = _FIRST_WAIT_S
        if not trouble:
            continue
        say(f"{len(spool.pending())} waiting for {to.ae_title}: {trouble}; again in {wait_s:g} s")
        gone_s = time.monotonic() - began
        if give_up_after_s is not None and gone_s + wait_s > give_up_after_s:
            return False
        if stop.wait(wait_s):
            return False
        wait_s = min(2.0 * wait_s, _LONGEST_WAIT_S)
    return True


def _turn(spool: Spool, to: Receiver, pending: list[Path]) -> tuple[int, str]:
    """One association: how many were answered for, and what was in the way, "" if nothing."""
    kinds: dict[Path, tuple[str, str]] = {}
    for path in pending:
        try:
            meta = pydicom.filereader.read_file_meta_info(path)
            kinds[path] = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        except Exception as error:  # whatever is in a file that is not DICOM
            spool.refuse(path, f"not a DICOM file: {error}")
    ae = AE(ae_title=to.calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT_S
    offered = sorted(set(kinds.values()))[:_MOST_CLASSES]
    if not offered:
        return 0, ""
    for sop_class, syntax in offered:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate(to.host, to.port, ae_title=to.ae_title)
    if not association.is_established:
        refused = association.is_rejected
        return 0, "the association was rejected" if refused else "no connection"
    done, trouble = 0, ""
    try:
        for path in (p for p, kind in kinds.items() if kind in offered):
            answered, trouble = _one(spool, association, path)
            done += answered
            if trouble:
                break
    finally:
        if association.is_established:
            association.release()
    return done, trouble


def _one(spool: Spool, association: object, path: Path) -> tuple[int, str]:
    try:
        status = association.send_c_store(path)  # type: ignore[attr-defined]
    except ValueError as error:  # no presentation context was accepted for it
        spool.refuse(path, str(error))
        return 1, ""
    except RuntimeError as error:  # the association is gone
        return 0, str(error)
    code = status.get("Status")
    if code is None:
        return 0, "no answer"
    if code == 0 or 0xB000 <= code <= 0xBFFF:
        spool.sent(path)
        return 1, ""
    said = f"status 0x{code:04X} {status.get('ErrorComment', '')}".strip()
    if 0xA700 <= code <= 0xA7FF:
        return 0, f"{said}: out of resources"
    spool.refuse(path, said)
    return 1, ""
