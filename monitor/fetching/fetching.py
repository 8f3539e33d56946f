"""Planning series from a PACS onto this disk: by C-MOVE to a receiver of our own, or by C-GET. Seconds.

Invariant: a series is put in place when all its instances have come, by the PACS's own count, and none was
refused; of several series all are, or none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import build_role, evt
from pynetdicom.association import Association

from monitor.fetching.asking import (
    GET,
    MOVE,
    SYNTAXES,
    FetchError,
    Patience,
    Series,
    associated,
    checked_patient,
    silent,
    waiting,
)
from monitor.fetching.keeping import Placed, Shelf
from monitor.fetching.receiving import OFFERED, SOP_CLASSES, Receiver
from monitor.intake.limits import Limits
from monitor.workstation import FetchConfig

# PS3.4 C.4.2.1.5 and C.4.3.1.4.
UNKNOWN_DESTINATION, CANCELLED, SUB_OPERATIONS_FAILED = 0xA801, 0xFE00, 0xB000
_PENDING = (0xFF00, 0xFF01)
_MESSAGE = 1

Progress = Callable[[int, int | None], None]


def fetch(
    config: FetchConfig,
    patient_id: str,
    chosen: Sequence[Series],
    folder: Path,
    progress: Progress = lambda received, of: None,
    stop: threading.Event | None = None,
) -> tuple[Placed, ...]:
    """The chosen series of this patient, in ``folder``. ``progress``: how many instances came, of how many
    (None: not known). ``stop`` gives it up. Raises ``FetchError``; then nothing is left in the folder."""
    checked_patient(patient_id)
    stop, limits = stop or threading.Event(), replace(Limits(), idle_s=config.timeout_s)
    counts = [s.instances for s in chosen]
    of = None if None in counts else sum(c or 0 for c in counts)
    with Shelf(folder, patient_id, chosen, limits) as shelf:
        try:
            _retrieved(config, chosen, shelf, lambda: progress(shelf.received, of), stop)
        except FetchError as error:
            if error.code != "failed" or not shelf.refused:
                raise
            # The PACS only knows that something was refused here.
        missing = sum(shelf.short(s) for s in chosen)
        if missing or shelf.refused:
            about = f"{shelf.received}/{shelf.received + missing}"
            raise FetchError("partial", _partial(shelf, missing), about)
        progress(shelf.received, of)
        return shelf.place()


def _partial(shelf: Shelf, missing: int) -> str:
    refused = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in shelf.refused.items())
    said = f"{shelf.received} instance(s) came, {missing} did not"
    return f"{said}{'; refused: ' + refused if refused else ''}; nothing was kept"


def _retrieved(
    config: FetchConfig,
    chosen: Sequence[Series],
    shelf: Shelf,
    told: Callable[[], None],
    stop: threading.Event,
) -> None:
    if config.method == "get":
        contexts = [(GET, SYNTAXES), *((c, OFFERED[str(c)]) for c in SOP_CLASSES)]
        roles = [build_role(c, scp_role=True) for c in SOP_CLASSES]
        handlers = [(evt.EVT_C_STORE, lambda event: _stored(event, shelf))]
        with associated(config, stop, contexts, roles, handlers) as association:
            for series in chosen:
                _one(association, config, series, shelf, told, stop)
        return
    with Receiver(config, shelf), associated(config, stop, [(MOVE, SYNTAXES)]) as association:
        for series in chosen:
            _one(association, config, series, shelf, told, stop)


def _stored(event: Any, shelf: Shelf) -> int:
    """A C-STORE within a C-GET."""
    request = event.request
    arriving = shelf.begin(
        str(request.AffectedSOPClassUID),
        str(request.AffectedSOPInstanceUID),
        str(event.context.transfer_syntax),
    )
    with request.DataSet.getbuffer() as data:
        arriving.write(data)
    return arriving.end()


def _one(
    association: Association,
    config: FetchConfig,
    series: Series,
    shelf: Shelf,
    told: Callable[[], None],
    stop: threading.Event,
) -> None:
    """One C-MOVE or C-GET. Raises ``FetchError`` unless it ends in success."""
    model = GET if config.method == "get" else MOVE
    patience = _Patience(association, config, stop, shelf, told, model)
    before = shelf.received
    with waiting(patience, config, "C-GET" if model == GET else "C-MOVE"):
        for status, _ in _answers(association, config, series):
            patience.heard()
            told()
            code = status.get("Status")
            if code is None:
                raise FetchError(patience.code or "no_answer", silent(config, patience.code))
            if code not in _PENDING:
                _judged(config, status)
                _arrived(config, status, shelf.received - before)


class _Patience(Patience):
    """Instances that come are signs of life as much as answers; what came is told meanwhile."""

    def __init__(
        self,
        association: Association,
        config: FetchConfig,
        stop: threading.Event,
        shelf: Shelf,
        told: Callable[[], None],
        model: Any,
    ) -> None:
        super().__init__(
            association, config.timeout_s, stop,
            lambda: association.send_c_cancel(_MESSAGE, query_model=model),
        )  # fmt: skip
        self._shelf, self._told, self._said = shelf, told, 0

    def last_s(self) -> float:
        if self._shelf.received != self._said:
            self._said = self._shelf.received
            self._told()
        return max(super().last_s(), self._shelf.heard_s)


def _answers(
    association: Association, config: FetchConfig, series: Series
) -> Iterator[tuple[Dataset, Dataset | None]]:
    asked = Dataset()
    asked.QueryRetrieveLevel = "SERIES"
    asked.StudyInstanceUID, asked.SeriesInstanceUID = series.study_uid, series.series_uid
    if config.method == "get":
        return association.send_c_get(asked, GET, msg_id=_MESSAGE)
    return association.send_c_move(asked, config.calling, MOVE, msg_id=_MESSAGE)


def _arrived(config: FetchConfig, status: Dataset, received: int) -> None:
    """A PACS may know another machine by this side's title. Raises ``FetchError``."""
    sent = int(status.get("NumberOfCompletedSuboperations") or 0)
    if received < sent:
        text = f"{config.ae_title} sent {sent} instance(s), {received} came here; nothing was kept"
        raise FetchError("partial", text, f"{received}/{sent}")


def _judged(config: FetchConfig, status: Dataset) -> None:
    """The last answer. Raises ``FetchError`` unless it is success."""
    code = int(status.Status)
    failed = int(status.get("NumberOfFailedSuboperations") or 0)
    if code == 0 and not failed:
        return
    if code == UNKNOWN_DESTINATION:
        text = f"{config.ae_title} does not know {config.calling} as a destination"
        raise FetchError("unknown_destination", text, config.calling)
    if code == CANCELLED:
        raise FetchError("cancelled", "cancelled")
    if code in (0, SUB_OPERATIONS_FAILED):
        done = int(status.get("NumberOfCompletedSuboperations") or 0)
        text = f"{config.ae_title}: {done} instance(s) sent, {failed} failed; nothing was kept"
        raise FetchError("partial", text, f"{done}/{done + failed}")
    comment = "".join(c for c in str(status.get("ErrorComment") or "") if c.isprintable())
    text = f"{config.ae_title}: status 0x{code:04X} {comment}".strip()
    raise FetchError("failed", text, f"0x{code:04X}")
