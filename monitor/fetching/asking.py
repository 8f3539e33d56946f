"""What a PACS has of a patient: C-FIND in the study root, of studies, then of their series. Seconds.

Invariant: what is listed is of the patient that was asked for, by the PACS's own answer; an identifier that
could mean several patients is not asked for.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from monitor.intake.tls import TlsError, client_context
from monitor.rejection import rejected, title_unknown
from monitor.workstation import FetchConfig

# What is wrong is said here, in words; its own lines are for programmers, and hold what was asked for.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

# Study root query/retrieve information models (PS3.4 C.6.2).
FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
# Planning images and what is drawn on them.
MODALITIES = ("CT", "RTSTRUCT", "SEG")
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# More of one patient is no answer to choose from.
MOST_ANSWERS = 1000
_LOOK_S = 0.05


class FetchError(RuntimeError):
    """Why nothing came of it: ``code`` and what it is ``about`` (a peer, counts, a status) for who
    translates, the text for who reads English."""

    def __init__(self, code: str, text: str, about: str = "") -> None:
        super().__init__(text)
        self.code, self.about = code, about


@dataclass(frozen=True)
class Series:
    """``date``: YYYYMMDD, "" if unknown. ``instances``: how many, where the PACS says so."""

    study_uid: str
    series_uid: str
    modality: str
    date: str
    description: str
    instances: int | None


class Patience(threading.Thread):
    """Ends an association that is given up (``stop``) or has not been heard of for ``timeout_s``; why is
    ``code``. The library's own waiting would end with the first long pause of a PACS that is at work."""

    def __init__(
        self,
        association: Association,
        timeout_s: float,
        stop: threading.Event,
        cancel: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="patience", daemon=True)
        self.code = ""
        self._association, self._timeout_s, self._given_up = association, timeout_s, stop
        self._cancel = cancel
        self._heard_s = time.monotonic()
        self._over = threading.Event()

    def heard(self) -> None:
        self._heard_s = time.monotonic()

    def last_s(self) -> float:
        """When the last sign of life was, monotonic."""
        return self._heard_s

    def run(self) -> None:
        while not self._over.wait(_LOOK_S):
            late = time.monotonic() - self.last_s() > self._timeout_s
            if not late and not self._given_up.is_set():
                continue
            self.code = "cancelled" if self._given_up.is_set() else "timed_out"
            with contextlib.suppress(Exception):  # it may have gone in this moment
                self._cancel()
            # As the library tells whoever waits that the connection is gone: it aborts then, and answers.
            self._association.dimse.msg_queue.put((None, None))
            return

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def associated(
    config: FetchConfig,
    stop: threading.Event,
    contexts: Sequence[tuple[str, Sequence[str]]],
    roles: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, Any]] = (),
) -> Iterator[Association]:
    """An association with the PACS. Raises ``FetchError``."""
    ae = AE(ae_title=config.calling)
    ae.acse_timeout = ae.connection_timeout = config.timeout_s
    ae.dimse_timeout = ae.network_timeout = None  # ``Patience``
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, list(syntaxes))
    try:
        tls = None if config.tls is None else client_context(config.tls, "fetch.tls")
    except TlsError as error:
        raise FetchError("tls", str(error), "[fetch.tls]") from None
    named = None if tls is None or config.tls is None else (tls, config.tls.host or config.host)
    peer = f"{config.ae_title}@{config.host}:{config.port}"
    association = _unless(stop, peer, lambda: ae.associate(
        config.host, config.port, ae_title=config.ae_title, tls_args=named,
        ext_neg=list(roles), evt_handlers=list(handlers),
    ))  # fmt: skip
    if not association.is_established:
        if tls is not None and tls.trouble:
            raise FetchError("tls", f"{peer}: {tls.trouble}", peer)
        if rejected(association):
            raise _refusal(association, config, peer)
        raise FetchError("no_connection", f"{peer}: no connection", peer)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    if association.is_established:
        association.release()


def _refusal(association: Association, config: FetchConfig, peer: str) -> FetchError:
    said, unknown = f"{peer} rejected the association", title_unknown(association)
    if unknown == "called":
        text = f"{said}: it is not called {config.ae_title}, which [fetch] from calls it"
        return FetchError("called_title", text, config.ae_title)
    why = f": it does not know {config.calling}" if unknown == "calling" else ""
    return FetchError("rejected", said + why, peer)


def _unless(stop: threading.Event, peer: str, do: Callable[[], Association]) -> Association:
    """An association is asked for on a thread of its own: the library cannot be told to stop waiting."""
    made: queue.SimpleQueue[Association | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            made.put(do())
        except socket.gaierror as error:
            made.put(FetchError("no_connection", f"{peer}: {error.strerror or error}", peer))
        except Exception as error:
            made.put(error)

    threading.Thread(target=ask, name="associate", daemon=True).start()
    while not stop.is_set():
        with contextlib.suppress(queue.Empty):
            answer = made.get(timeout=_LOOK_S)
            if isinstance(answer, Exception):
                raise answer
            return answer
    raise FetchError("cancelled", "cancelled")


def series_of(
    config: FetchConfig,
    patient_id: str,
    study_uid: str | None = None,
    stop: threading.Event | None = None,
) -> tuple[Series, ...]:
    """The planning series of a patient, the newest first. Raises ``FetchError``."""
    checked_patient(patient_id)
    stop = stop or threading.Event()
    with associated(config, stop, [(FIND, SYNTAXES)]) as association:
        studies = _find(association, config, stop, _study(patient_id, study_uid))
        own = [s for s in studies if str(s.get("PatientID", "")).strip() == patient_id.strip()]
        if not own:
            what = "patient" if study_uid is None else "study of this patient"
            raise FetchError("no_patient", f"{config.ae_title} has no such {what}")
        found: list[Series] = []
        for study in own:
            uid = str(study.StudyInstanceUID)
            answers = _find(association, config, stop, _series(uid))
            found += [_read(a, uid, str(study.get("StudyDate") or "")) for a in answers]
    listed = [s for s in found if s.modality in MODALITIES and s.series_uid]
    if not listed:
        raise FetchError(
            "no_series", f"{config.ae_title} has no {', '.join(MODALITIES)} of this patient"
        )
    return tuple(sorted(listed, key=lambda s: (s.date, s.study_uid, s.modality), reverse=True))


def checked_patient(patient_id: str) -> None:
    """Raises ``FetchError`` where an identifier is none, or stands for several (PS3.4 C.2.2.2)."""
    if not patient_id.strip() or any(c in patient_id for c in "*?\\"):
        raise FetchError(
            "patient_id", "a patient's identifier is needed, without *, ? or backslash"
        )


def _study(patient_id: str, study_uid: str | None) -> Dataset:
    q = Dataset()
    q.QueryRetrieveLevel = "STUDY"
    q.PatientID, q.StudyInstanceUID = patient_id, study_uid or ""
    q.StudyDate = ""
    if not patient_id.isascii():
        q.SpecificCharacterSet = "ISO_IR 192"
    return q


def _series(study_uid: str) -> Dataset:
    q = Dataset()
    q.QueryRetrieveLevel = "SERIES"
    q.StudyInstanceUID, q.SeriesInstanceUID = study_uid, ""
    q.Modality = q.SeriesDescription = q.SeriesDate = ""
    q.NumberOfSeriesRelatedInstances = None
    return q


def _find(
    association: Association, config: FetchConfig, stop: threading.Event, asked: Dataset
) -> list[Dataset]:
    patience = Patience(association, config.timeout_s, stop)
    answers: list[Dataset] = []
    with waiting(patience, config, "C-FIND"):
        for status, answer in association.send_c_find(asked, FIND):
            patience.heard()
            code = status.get("Status")
            if code is None:
                raise FetchError(patience.code or "no_answer", silent(config, patience.code))
            if code in (0xFF00, 0xFF01) and answer is not None:
                answers.append(answer)
                if len(answers) > MOST_ANSWERS:
                    raise FetchError("too_many", f"more than {MOST_ANSWERS} answers")
            elif code != 0:
                text = f"{config.ae_title}: C-FIND status 0x{code:04X}"
                raise FetchError("failed", text, f"0x{code:04X}")
    return answers


@contextlib.contextmanager
def waiting(patience: Patience, config: FetchConfig, service: str) -> Iterator[None]:
    """With patience; what the library raises meanwhile is a ``FetchError``."""
    patience.start()
    try:
        yield
    except ValueError as error:  # the context was not accepted
        raise FetchError("not_served", f"{config.ae_title} does not answer {service}") from error
    except RuntimeError as error:
        if isinstance(error, FetchError):
            raise
        raise FetchError(patience.code or "no_answer", silent(config, patience.code)) from error
    finally:
        patience.end()


def silent(config: FetchConfig, code: str) -> str:
    """Why no answer came, by ``Patience``'s code."""
    if code == "timed_out":
        return f"{config.ae_title}: no answer within {config.timeout_s:g} s"
    return "cancelled" if code == "cancelled" else f"{config.ae_title}: the association broke off"


def _read(answer: Dataset, study_uid: str, study_date: str) -> Series:
    count = answer.get("NumberOfSeriesRelatedInstances")
    return Series(
        study_uid,
        str(answer.get("SeriesInstanceUID") or ""),
        str(answer.get("Modality") or ""),
        str(answer.get("SeriesDate") or "") or study_date,
        _shown(str(answer.get("SeriesDescription") or "")),
        None if count is None else int(count),
    )


def _shown(text: str) -> str:
    """What somebody wrote, fit for a terminal."""
    return "".join(c for c in text if c.isprintable()).strip()[:64]
