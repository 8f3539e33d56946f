"""From scored scans to medians, verdicts and their Markdown and JSON. mm, fractions 0..1.

Only scans from two minutes of freezing on count. A scan that was refused (INVALID) counts with a
Dice of 0 and no surface at all, so that refusing what is hard improves nothing but honesty.
Invariant: a verdict without a scan to judge by is not a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monitor.benchmark.imaging import Row

FROM_MINUTES = 2.0
# The scan "at 3 minutes": the first check of a freeze.
_EARLY_MINUTES = (2.0, 4.0)
BAD_DICE, BAD_MARGIN_MM = 0.80, 3.0
_MARGIN_MM = 1.5

# What is summed up: key, heading, format, whether its size alone matters.
METRICS: tuple[tuple[str, str, str, bool], ...] = (
    ("dice", "Dice", ".3f", False),
    ("dice_water", "Dice, water-rich", ".3f", False),
    ("surface_mean_mm", "surface mean, mm", ".2f", False),
    ("surface_p95_mm", "surface 95 %, mm", ".2f", False),
    ("volume_error_percent", "\\|volume error\\|, %", ".0f", True),
    ("margin_error_mm", "\\|margin error\\|, mm", ".1f", True),
    ("coverage_error", "\\|coverage error\\|", ".3f", True),
    ("between_share", "between bounds", ".2f", False),
    ("needle_tip_mm", "tip, mm", ".1f", False),
    ("needle_angle_deg", "needle, °", ".1f", False),
    ("registration_mm", "registration, mm", ".2f", False),
    ("wall_s", "wall, s", ".2f", False),
)


@dataclass(frozen=True)
class Verdict:
    """One row of the requirements: what was wanted, what was found (None: nothing to judge by)."""

    what: str
    wanted: str
    found: float | None
    passed: bool
    scans: int
    remark: str = ""


def counted(rows: Sequence[Row]) -> list[Row]:
    """The scans that count: frozen long enough, with ice to see or ice that was seen."""
    return [r for r in rows if r.frozen_minutes >= FROM_MINUTES - 1e-6 and r.dice is not None]


# ------------------------------------------------------------------ verdicts


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Whether the requirements are met, over all rows given."""
    rows = counted(rows)
    first, last = _EARLY_MINUTES
    early = [r for r in rows if first - 1e-6 <= r.frozen_minutes <= last]
    return [
        _water("Dice in water-rich tissue, median", 0.92, rows),
        _water(f"the same at 3 minutes ({first:g}-{last:g})", 0.88, early),
        _at_most("mean surface distance, median, mm", 1.0, _surface(rows, "surface_mean_mm")),
        _at_most("95th percentile of it, median, mm", 3.0, _surface(rows, "surface_p95_mm")),
        _margin(rows),
        *_honesty(rows),
        _between(rows),
    ]


def _water(what: str, limit: float, rows: Sequence[Row]) -> Verdict:
    """Over the scans that show water-rich tissue with ice, true or measured."""
    known = [(r.dice_water, r) for r in rows if r.dice_water is not None]
    if not known:
        return Verdict(what, f">= {limit:g}", None, False, 0, "no scan")
    median = float(np.median([v for v, _ in known]))
    least, where = min(known, key=lambda pair: pair[0])
    remark = f"lowest {least:.3f}: {_named([where])}"
    return Verdict(what, f">= {limit:g}", median, median >= limit, len(known), remark)


def _surface(rows: Sequence[Row], key: str) -> list[float]:
    """A distance for every scan; where there is no surface, the worst that could be."""
    found = [getattr(r, key) for r in rows]
    return [math.inf if v is None else v for v in found]


def _at_most(what: str, limit: float, values: Sequence[float]) -> Verdict:
    median = float(np.median(values)) if values else None
    refused = sum(math.isinf(v) for v in values)
    remark = f"{refused} without a surface" if refused else ""
    found = None if median is None or math.isinf(median) else median
    return Verdict(what, f"<= {limit:g}", found, found is not None and found <= limit, len(values),
                   remark)  # fmt: skip


def _margin(rows: Sequence[Row]) -> Verdict:
    errors = [r.margin_error_mm for r in rows if r.status == "OK" and r.margin_error_mm is not None]
    within = float(np.mean(np.abs(errors) <= _MARGIN_MM)) if errors else None
    what = f"share of OK scans with |margin error| <= {_MARGIN_MM:g} mm"
    worst = f"worst {np.abs(errors).max():.1f} mm" if errors else "no OK scan"
    return Verdict(
        what, ">= 0.90", within, within is not None and within >= 0.9, len(errors), worst
    )


def bad(row: Row) -> bool:
    """Whether a result must not look trustworthy."""
    margin_mm = row.margin_error_mm
    return (row.dice is not None and row.dice < BAD_DICE) or (
        margin_mm is not None and abs(margin_mm) > BAD_MARGIN_MM
    )


def _honesty(rows: Sequence[Row]) -> list[Verdict]:
    wrong, right = [r for r in rows if bad(r)], [r for r in rows if not bad(r)]
    silent = [r for r in wrong if r.status == "OK"]
    cried = [r for r in right if r.status != "OK"]
    said = 1.0 - len(silent) / len(wrong) if wrong else 1.0  # nothing bad is nothing to tell
    alarmed = len(cried) / len(right) if right else None
    what = f"bad scans (Dice < {BAD_DICE:g} or margin off by > {BAD_MARGIN_MM:g} mm) not called OK"
    fine = alarmed is not None and alarmed <= 0.10
    return [
        Verdict(what, ">= 0.95", said, bool(rows) and said >= 0.95, len(wrong), _named(silent)),
        Verdict("good scans not called OK", "<= 0.10", alarmed, fine, len(right), _named(cried)),
    ]


def _named(rows: Sequence[Row]) -> str:
    shown = ", ".join(f"{r.scenario} {r.scan}" for r in rows[:6])
    return shown + (f" and {len(rows) - 6} more" if len(rows) > 6 else "")


def _between(rows: Sequence[Row]) -> Verdict:
    """Over the surfaces of all scans that were measured, by area."""
    known = [(r.between_share, r.true_area_mm2) for r in rows if r.between_share is not None]
    area = sum(a for _, a in known)
    share = sum(s * a for s, a in known) / area if area else None
    what = "true surface between inner and outer, share of its area"
    return Verdict(what, ">= 0.90", share, share is not None and share >= 0.9, len(known))


# ------------------------------------------------------------------ summaries


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Median, 5th and 95th percentile of each metric over the scans that count and know it."""
    rows = counted(rows)
    result: dict[str, Any] = {
        "scans": len(rows),
        "status": {s: sum(r.status == s for r in rows) for s in ("OK", "DEGRADED", "INVALID")},
    }
    for key, _, _, size in METRICS:
        values = [v for r in rows if (v := getattr(r, key)) is not None]
        result[key] = _spread(np.abs(values) if size else np.array(values))
    return result


def _spread(values: Any) -> dict[str, float] | None:
    if not len(values):
        return None
    p5, median, p95 = (float(v) for v in np.percentile(values, (5, 50, 95)))
    return {"median": median, "p5": p5, "p95": p95, "scans": len(values)}


def by_scenario(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.scenario, []).append(row)
    return groups


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "verdicts": [asdict(v) for v in verdicts(rows)],
        "overall": summary(rows),
        "scenarios": {name: summary(group) for name, group in by_scenario(rows).items()},
        "scans": [asdict(r) for r in rows],
    }


# ------------------------------------------------------------------ Markdown


def as_markdown(rows: Sequence[Row]) -> str:
    parts = [
        "# Imaging benchmark",
        f"Scans from {FROM_MINUTES:g} minutes of freezing on: {len(counted(rows))} of {len(rows)}.",
        table(
            ("requirement", "wanted", "found", "", "scans", "remark"),
            [verdict_cells(v) for v in verdicts(rows)],
        ),
        "## Scenarios: median (5th-95th percentile)",
        table(
            ("scenario", "scans", "OK/DEGRADED/INVALID", *(m[1] for m in METRICS)),
            [
                *(_summary_cells(n, summary(g)) for n, g in by_scenario(rows).items()),
                _summary_cells("**all**", summary(rows)),
            ],
        ),
        "## Scans",
        table([c[0] for c in _COLUMNS], [[c[1](r) for c in _COLUMNS] for r in rows]),
    ]
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *lines)
    )


def verdict_cells(v: Verdict) -> list[str]:
    found = "-" if v.found is None else f"{v.found:.3f}"
    what = v.what.replace("|", "\\|")
    return [what, v.wanted, found, "pass" if v.passed else "**FAIL**", str(v.scans), v.remark]


def _summary_cells(name: str, found: Mapping[str, Any]) -> list[str]:
    status = "/".join(str(n) for n in found["status"].values())
    cells = [name, str(found["scans"]), status]
    for key, _, form, _ in METRICS:
        s = found[key]
        cells.append(
            "-" if s is None else f"{s['median']:{form}} ({s['p5']:{form}}-{s['p95']:{form}})"
        )
    return cells


def _shown(key: str, form: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = getattr(row, key)
        return "-" if value is None else f"{value:{form}}"

    return show


_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("scenario", lambda r: r.scenario),
    ("scan", lambda r: str(r.scan)),
    ("frozen, min", _shown("frozen_minutes", ".1f")),
    ("kind", lambda r: r.kind),
    ("status", lambda r: r.status),
    ("reasons", lambda r: ", ".join(r.reasons)),
    ("Dice", _shown("dice", ".3f")),
    ("Dice water", _shown("dice_water", ".3f")),
    ("surface mean", _shown("surface_mean_mm", ".2f")),
    ("surface 95 %", _shown("surface_p95_mm", ".2f")),
    ("true ml", _shown("volume_true_ml", ".1f")),
    ("volume, %", _shown("volume_error_percent", "+.0f")),
    ("true margin", _shown("margin_true_mm", "+.1f")),
    ("margin error", _shown("margin_error_mm", "+.1f")),
    ("of delineated", _shown("margin_delineated_error_mm", "+.1f")),
    ("coverage error", _shown("coverage_error", "+.3f")),
    ("between", _shown("between_share", ".2f")),
    ("edge error said", _shown("edge_error_mm", ".1f")),
    ("needles", lambda r: r.needles_found),
    ("tip", _shown("needle_tip_mm", ".1f")),
    ("needle °", _shown("needle_angle_deg", ".1f")),
    ("registration", _shown("registration_mm", ".2f")),
    ("said", _shown("registration_said_mm", ".2f")),
    ("s", _shown("wall_s", ".1f")),
)
