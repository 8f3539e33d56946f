"""``iceball report``: from a record's folder to its report's files. UTC seconds.

Invariant: the record is only read; what of it cannot be read or worked out is in the report.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.record.account import Account, account
from monitor.record.cases import sha256_of
from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import Finding, JournalLine, read_journal
from monitor.report.content import Content, Made, content
from monitor.report.pictures import Pictures, application
from monitor.worked_out import WorkedOut, work_out

if TYPE_CHECKING:
    from PyQt5.QtGui import QImage


@dataclass(frozen=True)
class Identity:
    """Whom the record is of, by its latest case; None where it names nobody or cannot be read. ``needles``:
    number and type of each."""

    label: str | None
    patient_id: str | None
    language: str
    needles: tuple[tuple[str, str], ...]


def write_report(record: Path, out: Path, language: str | None, engine: str | None) -> list[Path]:
    """``report.html`` and ``report.pdf`` in ``out``. ``language`` None: the case's. Raises ``RecordError``
    where there is no journal, or the files cannot be written."""
    findings: list[Finding] = []
    lines = read_journal(record, findings.append)
    a = account(lines, findings.append)
    with tempfile.TemporaryDirectory(prefix="iceball-report-") as scratch:
        worked = work_out(record, lines, Path(scratch), engine)
        return report_of(record, out, language, lines, a, findings, worked)


def report_of(
    record: Path,
    out: Path,
    language: str | None,
    lines: list[JournalLine],
    a: Account,
    findings: list[Finding],
    worked: WorkedOut,
) -> list[Path]:
    """The same of what was worked out already."""
    from monitor.report.files import write_html, write_pdf
    from monitor.report.timeline import timeline

    who = identity(record, lines, a)
    # Where it is read and, most likely, was recorded: no journal says where a hospital is.
    zone = datetime.fromtimestamp(a.began_utc_s).astimezone().tzinfo or UTC
    sha256 = sha256_of(record / JOURNAL)
    made = Made(version("iceball-monitor"), sha256, who.label, who.patient_id, who.needles, zone)
    said = content(a, worked, findings, made, language or who.language)
    application()
    images = {"timeline": timeline(a, worked, said.language), **_pictures(said, worked)}
    paths = [out / "report.html", out / "report.pdf"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_html(paths[0], said, images)
        write_pdf(paths[1], said, images)
    except OSError as error:
        raise RecordError(f"{error.filename or out}: {error.strerror or error}") from error
    return paths


def _pictures(said: Content, worked: WorkedOut) -> Mapping[str, QImage]:
    pictures = Pictures(said.language)
    try:
        found = {
            volume_id: pictures.planes(replace(worked.scans[volume_id].pictured, replay=None))
            for volume_id, _ in said.pictures
            if volume_id in worked.scans
        }
        return {**found, "legend": pictures.legend()} if found else found
    finally:
        pictures.close()


def identity(record: Path, lines: list[JournalLine], a: Account) -> Identity:
    """By the case that was in force last."""
    case: dict[str, Any] = {}
    for path in reversed(a.cases):
        try:
            case = tomllib.loads((record / path).read_text(encoding="utf-8"))
            break
        except (OSError, ValueError):
            continue
    patient = case.get("patient")
    patient = patient if isinstance(patient, dict) else {}
    recorded = lines[0].fields.get("patient_id")
    patient_id = patient.get("id", recorded)
    label = patient.get("label", patient_id)
    language = "fr" if case.get("language") == "fr" else "en"
    return Identity(
        str(label) if label else None,
        str(patient_id) if patient_id else None,
        language,
        _needles(case.get("needle")),
    )


def _needles(tables: Any) -> tuple[tuple[str, str], ...]:
    found = [t for t in tables if isinstance(t, dict)] if isinstance(tables, list) else []
    return tuple((str(t.get("number", "?")), str(t.get("type", "?"))) for t in found)
