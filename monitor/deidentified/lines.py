"""The journal without its patient. Pure: a line's fields in, new ones out. UTC seconds, ISO 8601.

A string is kept only in a field whose strings are words of the program's own; times, UIDs, hashes and paths
are replaced. Invariant: what is not known to be safe is left out, and counted in ``left_out``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.deidentified.substitutes import Substitutes

# Of the network, of the machine, or of who was refused: nothing follows from them.
DROPPED = frozenset(
    {
        "listening", "listener_failed", "association_refused", "images_refused", "delivery", "record_damaged",
        "checkpoint_failed",
    }
)  # fmt: skip
# Of the wall clock, without the ending that others have.
_WALL_S = "anchor_wall_s"
_MISMATCH = frozenset({"patient_mismatch", "frame_of_reference_mismatch"})
_WORDS = frozenset(
    {
        "kind", "version", "engine", "organ", "status", "code", "reason", "volume_id", "from_volume_id",
        "completed_by", "phase", "priority", "act", "verdict", "of", "by", "process", "event", "decision",
        "asked_by", "where", "state",
    }
)  # fmt: skip
_BODIES = frozenset({"name", "body", "structure", "structures", "about"})
_SENTENCES = frozenset({"text"})
_APART = frozenset({"seq", "kept_case", "patient_id", "calling_ae_title"})
_UIDS = frozenset(
    {
        "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "series_instance_uid",
        "frame_of_reference_uid", "study_instance_uid", "sop_instance_uids",
    }
)  # fmt: skip
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_NUMBER = re.compile(r"[+−-]?[\d.,:/% ]{1,12}")


@dataclass
class Lines:
    """``files``: what became of a file of the record, its new path and hash; ``hashes``: old to new."""

    to: Substitutes
    files: Mapping[str, tuple[str, str]]
    hashes: Mapping[str, str]
    left_out: Counter[str] = field(default_factory=Counter)
    _kind: str = ""

    def line(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """All but ``seq``. Numbers keep every digit they have."""
        self._kind = kind = str(fields["kind"])
        made = {k: self._field(k, v) for k, v in fields.items() if k not in _APART}
        kept = fields.get("kept_case")
        if isinstance(kept, Mapping):
            made["kept_case"] = self._kept_case(kept)
        if "patient_id" in fields:
            given = fields["patient_id"]
            made["patient_id"] = given if given is None else self.to.patient_id(str(given))
        if kind == "instance_received":
            made["calling_ae_title"] = "SCANNER"
        return made

    def _field(self, name: str, value: Any) -> Any:
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            dated = name.endswith("_utc_s") or name == _WALL_S
            return self.to.utc_s(value) if dated else value
        if isinstance(value, Mapping):
            return {self._key(k): self._field(k, v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._field(name, v) for v in value]
        return self._text(name, str(value))

    def _key(self, key: str) -> str:
        """Fields are the program's; bodies and needles' numbers are what else objects are keyed by."""
        return key if self._own(key) else self.to.body(key)

    def _own(self, key: str) -> bool:
        return bool(re.fullmatch(r"[a-z0-9_]+", key)) and key not in self.to.renamed

    def _text(self, name: str, value: str) -> str:
        if _ISO.fullmatch(value):
            return self.to.iso(value)
        if name in _UIDS:
            return self.to.uid(value)
        if name == "sha256":
            return self.hashes.get(value, "")
        if name in ("path", "pixels"):
            return value if name == "pixels" else self.files.get(value, ("", ""))[0]
        if name in _BODIES:
            return self.to.body(value)
        if name in _SENTENCES:
            return self.to.sentence(value)
        figure = self._kind.startswith("alarm_") and _NUMBER.fullmatch(value)
        if name in _WORDS or figure or not value:
            return value
        said = name if self._own(name) else "(named by an operator)"
        self.left_out[f"{self._kind}.{said}"] += 1
        return ""

    def _kept_case(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        new = [self.files[name] for name in kept.get("sha256", {}) if name in self.files]
        return {"path": str(kept.get("path")), "sha256": dict(new)}


def about_others(fields: Mapping[str, Any]) -> bool:
    """A rejection, or an alarm, of another patient's images."""
    return fields.get("reason") in _MISMATCH or fields.get("code") in _MISMATCH


def undone_nothing(fields: Mapping[str, Any]) -> bool:
    """An act that could not even be read: no input, and its reason names files."""
    return fields.get("kind") == "operator" and "refused" in fields
