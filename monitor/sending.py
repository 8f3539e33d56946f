"""Sends what a spool holds by C-STORE, until the receiver has answered for all of it. Seconds.

Invariant: nothing leaves ``pending`` but on the receiver's own status (PS3.4 B.2.3): success or a warning is
sent, a lasting failure is refused; no answer, or one that resources are short, is tried again.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from monitor.case import place_of
from monitor.config import ClientTls
from monitor.intake.tls import ClientContext, TlsError, client_context
from monitor.record.spool import Spool
from monitor.rejection import rejected, title_unknown

# What is wrong is said here, in words; its own lines are for programmers, and on the terminal.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

CALLING = "ICEBALL"
_FIRST_WAIT_S, _LONGEST_WAIT_S, _TIMEOUT_S = 1.0, 60.0, 30.0
# So many in a row without room: there is none. So often others found room and one did not: it is that one.
_FULL, _MOST_PUT_OFF = 3, 3
# Of one object, not of the way to the receiver.
_FOR_GOOD = "refused"
# Of one association; a standard allows 128 presentation contexts.
_MOST_CLASSES = 100


@dataclass(frozen=True)
class Receiver:
    """Where to send, the AE title that calls, and what TLS needs; None: plain TCP."""

    ae_title: str
    host: str
    port: int
    calling: str = CALLING
    tls: ClientTls | None = None


@dataclass(frozen=True)
class Trouble:
    """Why what waits cannot be sent now: ``no_connection``, ``rejected``, ``no_answer``, ``no_resources`` or
    ``tls``, and the same in words. ``lasting``: it is not the receiver's state, but that there is no such
    receiver (a name that nobody knows, or a title that it does not)."""

    code: str
    text: str
    lasting: bool = False


Told = Callable[[Trouble, int, float], None]


def receiver_of(text: str, tls: ClientTls | None = None, calling: str = CALLING) -> Receiver:
    """``AE@host:port``. Raises ``ValueError``."""
    found = place_of(text)
    if found is None:
        raise ValueError(f"{text}: expected AE@host:port")
    return Receiver(*found, calling, tls)


def send_all(
    spool: Spool,
    to: Receiver,
    told: Told,
    give_up_after_s: float | None = None,
    stop: threading.Event | None = None,
) -> bool:
    """Whether nothing is pending any more. ``give_up_after_s`` None: until stopped. ``told``: the trouble,
    how many wait, and for how long before it is tried again."""
    stop, began, wait_s = stop or threading.Event(), time.monotonic(), _FIRST_WAIT_S
    put_off: Counter[Path] = Counter()
    turns = itertools.count()
    while pending := spool.pending():
        first = next(turns) % len(pending)  # another one, should those that begin have no room
        pending = pending[first:] + pending[:first]
        done, trouble = _turn(spool, to, pending, stop, put_off)
        if done:
            wait_s = _FIRST_WAIT_S
        if trouble is None:
            continue
        told(trouble, len(spool.pending()), wait_s)
        gone_s = time.monotonic() - began
        if give_up_after_s is not None and gone_s + wait_s > give_up_after_s:
            return False
        if stop.wait(wait_s):
            return False
        wait_s = min(2.0 * wait_s, _LONGEST_WAIT_S)
    return True


def asked(to: Receiver, timeout_s: float) -> Trouble | None:
    """Whether it is there and takes this side's association: by C-ECHO, where it serves that."""
    try:
        tls = None if to.tls is None else client_context(to.tls)
    except TlsError as error:
        return Trouble("tls", str(error))
    ae = AE(ae_title=to.calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(Verification)
    association = _associate(ae, to, tls)
    if isinstance(association, Trouble):
        return association
    if not association.is_established:
        # All contexts refused is an answer, too: some receivers serve storage alone.
        return None if association.rejected_contexts else _not_associated(association, to, tls)
    try:
        answered = association.send_c_echo().get("Status") is not None
    except RuntimeError:  # the association is gone
        answered = False
    if association.is_established:
        association.release()
    return None if answered else Trouble("no_answer", "no answer to C-ECHO")


def _associate(ae: AE, to: Receiver, tls: ClientContext | None) -> Association | Trouble:
    """``Trouble`` where there is no address to ask."""
    named = None if tls is None or to.tls is None else (tls, to.tls.host or to.host)
    try:
        return ae.associate(to.host, to.port, ae_title=to.ae_title, tls_args=named)
    except socket.gaierror as error:
        unknown = error.errno == socket.EAI_NONAME  # that no name server answers is an outage
        return Trouble("no_connection", f"{to.host}: {error.strerror or error}", lasting=unknown)


def _turn(
    spool: Spool, to: Receiver, pending: list[Path], stop: threading.Event, put_off: Counter[Path]
) -> tuple[int, Trouble | None]:
    """One association: how many were answered for, and what was in the way. ``put_off``: how often each found
    no room where another, after it, did."""
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
        return 0, None
    try:
        tls = None if to.tls is None else client_context(to.tls)  # files may have been renewed
    except TlsError as error:
        return 0, Trouble("tls", str(error))
    for sop_class, syntax in offered:
        ae.add_requested_context(sop_class, syntax)
    association = _associate(ae, to, tls)
    if isinstance(association, Trouble):
        return 0, association
    if not association.is_established:
        return 0, _not_associated(association, to, tls)
    try:
        offered_now = [p for p, kind in kinds.items() if kind in offered]
        return _offer(spool, association, offered_now, stop, put_off)
    finally:
        if association.is_established:
            association.release()


def _offer(
    spool: Spool,
    association: object,
    paths: list[Path],
    stop: threading.Event,
    put_off: Counter[Path],
) -> tuple[int, Trouble | None]:
    """One after the other. Without room for one, there may be for the next: some receivers say so of what
    they do not like."""
    done, trouble, without_room = 0, None, list[Path]()
    for path in paths:
        met = _one(association, path)
        if met is None:
            spool.sent(path)
            _put_off(spool, without_room, put_off, trouble)
            done += 1
        elif met.code == _FOR_GOOD:
            spool.refuse(path, met.text)
            done += 1
        else:
            trouble = met
            without_room.append(path)
            if met.code != "no_resources" or len(without_room) >= _FULL:
                break
        if stop.is_set():
            break
    return done, trouble


def _put_off(
    spool: Spool, paths: list[Path], put_off: Counter[Path], trouble: Trouble | None
) -> None:
    """``paths`` found no room, and then another did; ``trouble``: what the receiver said."""
    for path in paths:
        put_off[path] += 1
        if put_off[path] >= _MOST_PUT_OFF and trouble is not None:
            spool.refuse(path, trouble.text)
    paths.clear()


def _not_associated(association: Association, to: Receiver, tls: ClientContext | None) -> Trouble:
    if tls is not None and tls.trouble:
        return Trouble("tls", tls.trouble)
    if rejected(association):
        whose = {
            "called": f"it is not called {to.ae_title}",
            "calling": f"it does not know {to.calling}",
        }
        why = whose.get(title_unknown(association), "")
        said = f"the association was rejected{': ' if why else ''}{why}"
        return Trouble("rejected", said, lasting=bool(why))
    return Trouble("no_connection", "no connection")


def _one(association: object, path: Path) -> Trouble | None:
    """None: it was taken; ``_FOR_GOOD``: it never will be."""
    try:
        status = association.send_c_store(path)  # type: ignore[attr-defined]
    except ValueError as error:  # no presentation context was accepted for it
        return Trouble(_FOR_GOOD, str(error))
    except RuntimeError as error:  # the association is gone
        return Trouble("no_answer", str(error))
    code = status.get("Status")
    if code is None:
        return Trouble("no_answer", "no answer")
    if code == 0 or 0xB000 <= code <= 0xBFFF:
        return None
    said = f"status 0x{code:04X} {status.get('ErrorComment', '')}".strip()
    if 0xA700 <= code <= 0xA7FF:
        return Trouble("no_resources", f"{said}: out of resources")
    return Trouble(_FOR_GOOD, said)
