"""``iceball records``: which records there are, and old ones deleted. UTC, days, MB (10⁶ bytes).

Invariant: without ``prune`` and ``--yes`` nothing is deleted; no patient id is shown unless asked for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any

from monitor.journal_fields import iso_utc
from monitor.record.inventory import Found, records
from monitor.record.pruning import delete, why_kept

_DAY_S = 86400.0
_UNKNOWN = "-"
_PATIENT = f"{'patient':12}  "
_HEAD = f"{'began':17}  {'ended':17}  {'age':>7}  {'size':>10}  {_PATIENT}record"


def run(args: argparse.Namespace) -> int:
    found, now_utc_s = records(args.folder, _warn), time.time()
    if args.json:
        print(json.dumps([_fields(f, now_utc_s, args.patients) for f in found]))
        return 0
    print(_HEAD.replace(_PATIENT, _PATIENT if args.patients else ""))
    for f in found:
        print(_line(f, now_utc_s, args.patients))
        if f.unreadable:
            print(f"  {f.unreadable}")
    print(f"{_sum(found)}; {shutil.disk_usage(args.folder).free / 1e9:.1f} GB free")
    return 0


def prune(args: argparse.Namespace) -> int:
    """Exit status 1 if something could not be deleted."""
    now_utc_s, older_than_s = time.time(), args.older_than * _DAY_S
    found = records(args.folder, _warn)
    old = [f for f in found if now_utc_s - f.last_utc_s > older_than_s]
    gone, failed = list[Found](), False
    for f in old:
        try:
            kept = (
                delete(f.folder, now_utc_s, older_than_s)
                if args.yes
                else why_kept(f, now_utc_s, older_than_s)
            )
        except OSError as error:
            _warn(f"not deleted: {error}")
            failed = True
            continue
        word = "kept" if kept else "deleted" if args.yes else "would delete"
        because = f"\n{'':14}{kept}" if kept else ""
        print(f"{word:12}  {_line(f, now_utc_s, args.patients)}{because}", flush=True)
        gone += [] if kept else [f]
    said = f"{_sum(gone)}; {len(found) - len(old)} not older than {args.older_than} days"
    print(
        f"Deleted: {said}."
        if args.yes
        else f"To delete: {said}. Nothing was deleted; --yes does it, for good."
    )
    return 1 if failed else 0


# ------------------------------------------------------------------ said


def _warn(text: str) -> None:
    print(f"iceball: {text}", file=sys.stderr)


def _sum(found: list[Found]) -> str:
    return f"{len(found)} record(s), {sum(f.size_bytes for f in found) / 1e6:.0f} MB"


def _line(f: Found, now_utc_s: float, patients: bool) -> str:
    state = "unreadable" if f.unreadable else _minute(f.ended_utc_s) if f.ended else "not ended"
    columns = (
        f"{_minute(f.began_utc_s):17}",
        f"{state:17}",
        f"{max(now_utc_s - f.last_utc_s, 0.0) / _DAY_S:5.0f} d",
        f"{f.size_bytes / 1e6:7.0f} MB",
        *((f"{_printable(f.patient_id):12}",) if patients else ()),
        f"{f.folder}{' (in use or read-only)' if f.in_use else ''}",
    )
    return "  ".join(columns)


def _minute(utc_s: float | None) -> str:
    return _UNKNOWN if utc_s is None else f"{datetime.fromtimestamp(utc_s, UTC):%Y-%m-%d %H:%MZ}"


def _printable(patient_id: str | None) -> str:
    """An id may hold what a terminal takes for a command."""
    return "".join(c if c.isprintable() else "?" for c in patient_id or _UNKNOWN)


def _fields(f: Found, now_utc_s: float, patients: bool) -> dict[str, Any]:
    return {
        "record": str(f.folder),
        "began": None if f.began_utc_s is None else iso_utc(f.began_utc_s),
        "last": iso_utc(f.last_utc_s),
        "age_days": round((now_utc_s - f.last_utc_s) / _DAY_S, 3),
        "ended": f.ended,
        "ended_at": None if f.ended_utc_s is None else iso_utc(f.ended_utc_s),
        "in_use": f.in_use,
        "size_bytes": f.size_bytes,
        "unreadable": f.unreadable or None,
        **({"patient_id": f.patient_id} if patients else {}),
    }
