"""A record's scans and alarms as CSV, for spreadsheets and statistics. Units in the names; fractions 0..1.

ISO dates, UTC; a dot for decimals. Invariant: what is not known is an empty field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from monitor.journal_fields import iso_utc
from monitor.record.account import Account, interval, number, rows

_NUMBERS = ("ice_volume_ml", "lesion_covered", "margin_covered", "margin_goal_mm", "min_margin_mm",
            "margin_error_mm")  # fmt: skip


def scans_csv(a: Account, bounds_ml: Mapping[str, tuple[float, float]]) -> str:
    """A row for each scan, in its last revision. ``bounds_ml`` by volume id, of those for which they are
    known."""
    names = list(
        dict.fromkeys(str(s.get("name")) for x in a.scans for s in rows(x.assessment, "structures"))
    )
    found: list[dict[str, object]] = []
    for s in a.scans:
        f = s.assessment
        row: dict[str, object] = {
            "volume_id": s.volume_id,
            "acquired_utc": _iso(s.acquired_utc_s),
            "status": f.get("status"),
            "reasons": " ".join(str(r.get("code")) for r in rows(f, "reasons")),
            "review": s.review,
            **{name: number(f, name) for name in _NUMBERS},
        }
        low, high = bounds_ml.get(s.volume_id, (None, None))
        row |= {"ice_volume_inner_ml": low, "ice_volume_outer_ml": high}
        for what in ("lesion_covered", "margin_covered"):
            low, high = interval(f, f"{what}_interval") or (None, None)
            row |= {f"{what}_low": low, f"{what}_high": high}
        by_name = {str(x.get("name")): x for x in rows(f, "structures")}
        for name in names:
            of = by_name.get(name, {})
            row[f"{name}_distance_mm"] = number(of, "distance_mm")
            row[f"{name}_at_least_mm"] = number(of, "at_least_mm")
        found.append(row)
    head = [
        *("volume_id", "acquired_utc", "status", "reasons", "review", *_NUMBERS),
        *(f"ice_volume_{end}_ml" for end in ("inner", "outer")),
        *(
            f"{what}_{end}"
            for what in ("lesion_covered", "margin_covered")
            for end in ("low", "high")
        ),
        *(f"{name}_{what}_mm" for name in names for what in ("distance", "at_least")),
    ]
    return _text(found, head)


def alarms_csv(a: Account) -> str:
    """A row for each time that an alarm stood."""
    return _text(
        [
            {
                "code": x.code,
                "about": x.about,
                "priority": x.priority,
                "raised_utc": _iso(x.raised_utc_s),
                "acknowledged_utc": _iso(x.acknowledged_utc_s),
                "cleared_utc": _iso(x.cleared_utc_s),
            }
            for x in a.alarms
        ],
        ["code", "about", "priority", "raised_utc", "acknowledged_utc", "cleared_utc"],
    )


def _iso(utc_s: float | None) -> str:
    return "" if utc_s is None else iso_utc(utc_s)


def _text(found: list[dict[str, object]], head: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in found)
    return text.getvalue()
