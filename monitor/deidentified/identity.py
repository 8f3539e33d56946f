"""What identifies a patient in a record: gathered before anything is replaced, looked for afterwards.

From every DICOM file, the cases and the journal. Invariant: what is gathered is never written or said.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pydicom

from monitor.case import preset_names
from monitor.view.translations import TABLES

_IDENTIFIERS = frozenset(
    {
        "PatientID", "OtherPatientIDs", "AccessionNumber", "MedicalRecordLocator", "AdmissionID",
        "PatientAddress", "PatientTelephoneNumbers", "IssuerOfPatientID",
        "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
        "DeviceSerialNumber",
    }
)  # fmt: skip
# In the place of a name: nobody's.
_NOBODY = frozenset(
    {"patient", "demo", "test", "anonymous", "anonym", "anon", "unknown", "unidentified", "phantom"}
)
# The program's own words: on its screens, in its presets and in what it writes for other programs.
_WRITTEN = "iceball bioheat forecast measurement research software medical device record frozen"
_OWN = frozenset(
    re.findall(
        r"[a-z]+",
        " ".join(
            (
                _WRITTEN,
                *TABLES["en"],
                *TABLES["en"].values(),
                *preset_names("organs"),
                *preset_names("needles"),
                *preset_names("tissues"),
            )
        ).lower(),
    )
)
# Shorter, it would be found by chance in whatever holds numbers or text.
_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 6
# Shorter, it is looked for as a whole word only.
WHOLE_WORD = 4


@dataclass
class Identity:
    """``words`` by what they are ("part of a name", ...); all in lower case. ``epochs_utc_s``: the days
    of the record. ``not_looked_for``: what is too short, or a word that the program itself writes."""

    words: dict[str, str] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    dates: set[date] = field(default_factory=set)
    epochs_utc_s: tuple[float, float] = (0.0, 0.0)
    not_looked_for: set[str] = field(default_factory=set)

    def add_name(self, name: str, kind: str = "part of a name") -> None:
        for part in re.findall(r"[^\W\d_]+", name):
            if part.lower() in _NOBODY:
                continue
            if len(part) < _SHORTEST_NAME or _is_own(part.lower()):
                self.not_looked_for.add(kind)
            else:
                self.words.setdefault(part.lower(), kind)

    def add_identifier(self, value: str, kind: str) -> None:
        value = value.strip().lower()
        if not value:
            return
        shortest = _SHORTEST_NUMBER if value.isdigit() else 2
        if len(value) < shortest:
            self.not_looked_for.add(kind)
        else:
            self.words.setdefault(value, kind)

    def add_date(self, text: str) -> None:
        """YYYYMMDD or YYYY.MM.DD, also as the beginning of a date and time."""
        found = re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", text)
        if found:
            with contextlib.suppress(ValueError):
                self.dates.add(date(*map(int, found.groups())))

    def add_moment(self, at_utc_s: float) -> None:
        """In UTC and, since a scanner's stamps are local, in this machine's zone."""
        self.dates |= {
            datetime.fromtimestamp(at_utc_s, UTC).date(),
            datetime.fromtimestamp(at_utc_s).date(),
        }
        low, high = self.epochs_utc_s
        self.epochs_utc_s = (min(low or at_utc_s, at_utc_s), max(high, at_utc_s))

    def add_dataset(self, d: pydicom.Dataset) -> None:
        """All of it, whatever cannot be read left out: it will not be in the export either."""
        for element in _elements(d):
            for value in _values(element):
                self._add(element, value)

    def _add(self, element: pydicom.DataElement, value: str) -> None:
        if element.VR == "PN":
            self.add_name(value)
        elif element.VR == "UI" and not element.keyword.endswith("ClassUID"):
            if not value.startswith("1.2.840.10008.") and value.count(".") >= 2:
                self.uids.add(value)
        elif element.VR in ("DA", "DT"):
            self.add_date(value)
        elif element.keyword in _IDENTIFIERS:
            self.add_identifier(value, element.keyword)

    def add_case(self, case: Mapping[str, Any]) -> None:
        patient = case.get("patient")
        if isinstance(patient, Mapping):
            self.add_identifier(str(patient.get("id") or ""), "PatientID")
            self.add_name(str(patient.get("label") or ""))

    def add_line(self, fields: Mapping[str, Any], at_utc_s: float) -> None:
        self.add_moment(at_utc_s)
        self.add_identifier(str(fields.get("patient_id") or ""), "PatientID")


def _is_own(word: str) -> bool:
    """A short word is looked for as a whole one, a longer one also within others."""
    return word in _OWN if len(word) < WHOLE_WORD else any(word in own for own in _OWN)


def _elements(d: pydicom.Dataset) -> Iterator[pydicom.DataElement]:
    for tag in list(d.keys()):
        try:
            element = d[tag]
        except Exception:  # pydicom converts lazily and raises whatever the conversion does
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)
        else:
            yield element


def _values(element: pydicom.DataElement) -> list[str]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return (
        [str(v) for v in value] if isinstance(value, pydicom.multival.MultiValue) else [str(value)]
    )
