"""A record's scans and alarms as CSV, for spreadsheets and statistics. Units in the names; fractions 0..1.

ISO dates, UTC; a dot for decimals. Invariant: what is not known is an empty field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from monitor.journal_fields import iso_utc
from monitor.record.account import Account, AlarmAccount, ScanAccount, interval, number, rows

_NUMBERS = ("ice_volume_ml", "lesion_covered", "margin_covered", "margin_goal_mm", "min_margin_mm",
            "margin_error_mm")  # fmt: skip


def scans_csv(a: Account, bounds_ml: Mapping[str, tuple[float, float]]) -> str:
    """A row for each scan, in its last revision. ``bounds_ml`` by volume id, of those for which they are
    known."""
    names = list(
        dict.fromkeys(str(s.get("name")) for x in a.scans for s in rows(x.assessment, "structures"))
    )
    found = [_scan(s, names, bounds_ml.get(s.volume_id)) for s in a.scans]
    return _text(found, list(_scan(ScanAccount("", {}), names, None)))


def _scan(
    s: ScanAccount, names: list[str], bounds_ml: tuple[float, float] | None
) -> dict[str, object]:
    f = s.assessment
    row: dict[str, object] = {
        "volume_id": s.volume_id,
        "acquired_utc": _iso(s.acquired_utc_s),
        "status": f.get("status"),
        "reasons": " ".join(str(r.get("code")) for r in rows(f, "reasons")),
        "review": s.review,
        **{name: number(f, name) for name in _NUMBERS},
    }
    low, high = bounds_ml or (None, None)
    row |= {"ice_volume_inner_ml": low, "ice_volume_outer_ml": high}
    for what in ("lesion_covered", "margin_covered"):
        low, high = interval(f, f"{what}_interval") or (None, None)
        row |= {f"{what}_low": low, f"{what}_high": high}
    by_name = {str(x.get("name")): x for x in rows(f, "structures")}
    for name in names:
        of = by_name.get(name, {})
        row[f"{name}_distance_mm"] = number(of, "distance_mm")
        row[f"{name}_at_least_mm"] = number(of, "at_least_mm")
    return row


def alarms_csv(a: Account) -> str:
    """A row for each time that an alarm stood."""
    return _text(list(map(_alarm, a.alarms)), list(_alarm(AlarmAccount("", "", "", {}, 0.0))))


def _alarm(x: AlarmAccount) -> dict[str, object]:
    return {
        "code": x.code,
        "about": x.about,
        "priority": x.priority,
        "raised_utc": _iso(x.raised_utc_s),
        "acknowledged_utc": _iso(x.acknowledged_utc_s),
        "cleared_utc": _iso(x.cleared_utc_s),
    }


def _iso(utc_s: float | None) -> str:
    return "" if utc_s is None else iso_utc(utc_s)


def _text(found: list[dict[str, object]], head: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in found)
    return text.getvalue()
