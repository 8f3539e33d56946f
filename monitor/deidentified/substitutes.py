"""What takes the place of what identifies somebody: UIDs, patients' ids, dates, names of bodies. UTC seconds.

The secret exists only while an export is made, so that nobody, we neither, can go back. Invariant: the same
thing has the same substitute everywhere in one export, and whole days are taken off every date, so that
intervals, and times of day in sentences, stay as they were.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import pydicom
from dicognito.idanonymizer import IDAnonymizer
from dicognito.randomizer import Randomizer
from dicognito.uianonymizer import UIAnonymizer

from monitor.journal_fields import iso_utc
from monitor.view.translations import TABLES

DAY_S = 86400
# As dicognito has them by default: two months to two years back.
_FEWEST_DAYS, _MOST_DAYS = 62, 730
# Roots of the standard's own UIDs, which tell nothing of anybody.
_STANDARD = "1.2.840.10008."


class Substitutes:
    """Of one export."""

    def __init__(self, secret: str, days: int) -> None:
        self.secret, self.days = secret, days
        randomizer = Randomizer(secret)
        self._uids = UIAnonymizer(randomizer)
        self._ids = IDAnonymizer(randomizer, "", "", "PatientID")
        # Bodies by the name that a case gives them, where it is not a word of the program's own.
        self.renamed: dict[str, str] = {}

    def uid(self, uid: str) -> str:
        """A standard one, or none, stays what it is."""
        if not uid or uid.startswith(_STANDARD):
            return uid
        return self._by(self._uids, "SOPInstanceUID", "UI", uid)

    def patient_id(self, patient_id: str) -> str:
        """None stays none: such images can be followed only by a case that says so."""
        given = patient_id.strip()
        return self._by(self._ids, "PatientID", "LO", given) if given else ""

    @staticmethod
    def _by(handler: UIAnonymizer | IDAnonymizer, keyword: str, vr: str, value: str) -> str:
        element = pydicom.DataElement(pydicom.tag.Tag(keyword), vr, value)
        handler(pydicom.Dataset(), element)
        return str(element.value)

    def utc_s(self, at_utc_s: float) -> float:
        """Whole seconds less, within one power of two since 2004: exact in double precision."""
        return at_utc_s - self.days * DAY_S

    def iso(self, text: str) -> str:
        """ISO 8601 as the journal has it. Raises ``ValueError``."""
        moved = datetime.fromisoformat(text) - timedelta(days=self.days)
        return iso_utc(moved.timestamp())

    def body(self, name: str) -> str:
        """A structure's name where it is a word of the program's own; else a number, as it came up first."""
        if not name:
            return name
        if f"body.{name.strip().lower()}" in TABLES["en"] or name in _OWN_BODIES:
            return name
        return self.renamed.setdefault(name, f"structure {len(self.renamed) + 1}")

    def sentence(self, text: str) -> str:
        """One of the program's own, which may name bodies and UIDs."""
        for name in sorted(self.renamed, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self.renamed[name], text)
        return re.sub(r"(?<![\w.])\d+(?:\.\d+){4,}", lambda m: self.uid(m[0]), text)


_OWN_BODIES = frozenset({"lesion", "lesion and margin"})


def substitutes(real: Iterable[date]) -> Substitutes:
    """With a new secret; no date that is moved falls on a real one, which the search would take it for."""
    known = set(real)
    while True:
        days = _FEWEST_DAYS + secrets.randbelow(_MOST_DAYS - _FEWEST_DAYS)
        if not any(day - timedelta(days=days) in known for day in known):
            return Substitutes(secrets.token_hex(32), days)
