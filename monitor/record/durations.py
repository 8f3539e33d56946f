"""How long the stages of a record's scans and forecasts took, from its ``timing`` lines. Seconds.

Pure: lines in, rows out. Invariant: a figure that is missing or not a number is left out, never taken as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.record.reading import JournalLine

# In the order in which a scan goes through them; others follow by name.
_ORDER = (
    "decode", "assembly", "keep", "baseline", "needles", "registration", "segmentation", "assessment",
    "publish", "assimilation", "learning", "forecast", "what_if",
)  # fmt: skip
LAST_SLICE_TO_SHOWN = "last slice to shown"


@dataclass(frozen=True)
class Row:
    """Seconds; ``p95_s`` by linear interpolation, ``worst_of``: the scan of the worst."""

    stage: str
    count: int
    median_s: float
    p95_s: float
    worst_s: float
    worst_of: str


def rows(lines: Sequence[JournalLine]) -> list[Row]:
    """A row for each stage that was timed."""
    found: dict[str, list[tuple[float, str]]] = {}
    for line in lines:
        if line.kind != "timing":
            continue
        fields, of = line.fields, _scan(line)
        stages = fields.get("stages")
        for name, took in stages.items() if isinstance(stages, dict) else ():
            _add(found, str(name), took, of)
        _add(found, LAST_SLICE_TO_SHOWN, fields.get("since_received_s"), of)
    rank = {name: i for i, name in enumerate(_ORDER)}
    last = len(rank)
    names = sorted(found, key=lambda n: (rank.get(n, last), n == LAST_SLICE_TO_SHOWN, n))
    return [_row(name, found[name]) for name in names]


def _scan(line: JournalLine) -> str:
    volumes = line.fields.get("volume_ids")
    if isinstance(volumes, list) and volumes:
        return ", ".join(map(str, volumes))
    return str(line.fields.get("from_volume_id") or "")


def _add(found: dict[str, list[tuple[float, str]]], name: str, took: Any, of: str) -> None:
    if isinstance(took, int | float) and not isinstance(took, bool) and math.isfinite(took):
        found.setdefault(name, []).append((float(took), of))


def _row(name: str, taken: list[tuple[float, str]]) -> Row:
    seconds = np.array([s for s, _ in taken])
    worst = int(seconds.argmax())
    median, p95 = np.percentile(seconds, (50, 95))
    return Row(name, len(taken), float(median), float(p95), taken[worst][0], taken[worst][1])
