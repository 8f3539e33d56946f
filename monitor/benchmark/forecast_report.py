"""From scored forecasts to verdicts and their Markdown and JSON. mm, s, fractions 0..1.

Scans with ice to forecast count. Invariant: a verdict without a scan to judge by is not a pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from monitor.benchmark.forecast_rows import (
    METHODS,
    EventRow,
    ForecastRow,
    NeverRow,
    Scored,
    WallRow,
)
from monitor.benchmark.report import Verdict, table, verdict_cells

_LEAST_ML = 0.15
_BAND = (0.75, 0.88)
_BASELINES = METHODS[1:]


def counted(rows: Sequence[ForecastRow]) -> list[ForecastRow]:
    return [r for r in rows if r.true_ml >= _LEAST_ML]


def verdicts(
    rows: Sequence[ForecastRow], events: Sequence[EventRow], walls: Sequence[WallRow] = ()
) -> list[Verdict]:
    """Whether the requirements are met, over all rows given; the seconds are those of ``walls``, which have
    the scans that no other follows, too, else of the rows."""
    seconds = [w.wall_s for w in walls] or [r.wall_s for r in counted(rows)]
    rows = counted(rows)
    soft, lung = ([r for r in rows if (r.organ == "lung") == is_lung] for is_lung in (False, True))
    late = [e for e in events if e.seen >= 2 and not e.of_structure]
    medians = [abs(e.median_s - e.true_s) for e in late]
    return [
        _at_most("mean surface error, soft tissue, median, mm", 1.0, _means(soft)),
        _at_most("mean surface error, lung, median, mm", 1.5, _means(lung)),
        _at_most("largest surface error, mm", 5.0, _largest(rows), worst=True),
        _at_least("Dice, median", 0.90, [r.methods["forecast"].dice for r in rows]),
        _best(rows),
        _band(rows),
        _within(late),
        _at_most("error of the median time to coverage, median, s", 40.0, medians),
        _at_most("scan to refreshed forecast, worst, s", 5.0, seconds, worst=True),
    ]


def _means(rows: Sequence[ForecastRow]) -> list[float]:
    found = [r.methods["forecast"].mean_mm for r in rows]
    return [math.inf if v is None else v for v in found]


def _largest(rows: Sequence[ForecastRow]) -> list[float]:
    found = [r.methods["forecast"].largest_mm for r in rows]
    return [math.inf if v is None else v for v in found]


def _at_most(what: str, limit: float, values: Sequence[float], worst: bool = False) -> Verdict:
    found = float(max(values) if worst else np.median(values)) if values else None
    known = found if found is not None and math.isfinite(found) else None
    remark = f"{sum(v <= limit for v in values)} within" if worst and values else ""
    passed = known is not None and known <= limit
    return Verdict(what, f"<= {limit:g}", known, passed, len(values), remark)


def _at_least(what: str, limit: float, values: Sequence[float]) -> Verdict:
    found = float(np.median(values)) if values else None
    return Verdict(what, f">= {limit:g}", found, found is not None and found >= limit, len(values))


def beats_all(row: ForecastRow) -> bool:
    """Whether no baseline's mean surface error is as small as the forecast's."""
    mine = row.methods["forecast"].mean_mm
    others = [row.methods[b].mean_mm for b in _BASELINES]
    return mine is not None and all(o is None or mine < o for o in others)


def _best(rows: Sequence[ForecastRow]) -> Verdict:
    late = [r for r in rows if r.seen >= 2]
    share = float(np.mean([beats_all(r) for r in late])) if late else None
    lost = [f"{r.scenario} {r.scan}" for r in late if not beats_all(r)]
    remark = "not: " + ", ".join(lost[:6]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
    what = "better than every baseline, share of scans after the second"
    return Verdict(what, ">= 0.9", share, share is not None and share >= 0.9, len(late),
                   remark if lost else "")  # fmt: skip


def _band(rows: Sequence[ForecastRow]) -> Verdict:
    shares = [r.within_band for r in rows if r.within_band is not None]
    found = float(np.mean(shares)) if shares else None
    low, high = _BAND
    passed = found is not None and low <= found <= high
    what = "true surface within the 80 % band, mean share"
    return Verdict(what, f"{low:g}-{high:g}", found, passed, len(shares))


def _within(events: Sequence[EventRow]) -> Verdict:
    inside = [e.low_s <= e.true_s <= e.high_s for e in events]
    found = float(np.mean(inside)) if inside else None
    what = "time to coverage within its interval, from the second scan on"
    return Verdict(what, ">= 0.8", found, found is not None and found >= 0.8, len(inside))


# ------------------------------------------------------------------ out


def as_json(scored: Scored) -> dict[str, Any]:
    return {
        "verdicts": [asdict(v) for v in verdicts(scored.rows, scored.events, scored.walls)],
        "scans": [_finite(asdict(r)) for r in scored.rows],
        "events": [_finite(asdict(e)) for e in scored.events],
        "never": [asdict(n) for n in scored.never],
        "walls": [asdict(w) for w in scored.walls],
    }


def _finite(value: Any) -> Any:
    """None for what JSON cannot hold."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_markdown(scored: Scored) -> str:
    rows, events = scored.rows, scored.events
    names = list(dict.fromkeys(r.scenario for r in rows))
    groups = [(n, [r for r in counted(rows) if r.scenario == n]) for n in names]
    parts = [
        "# Forecast benchmark",
        f"From each scan to the next one: {len(counted(rows))} scans with ice to forecast.",
        table(
            ("requirement", "wanted", "found", "", "scans", "remark"),
            [verdict_cells(v) for v in verdicts(rows, events, scored.walls)],
        ),
        "## Structures",
        "When the ice reaches a structure, or its limit, where in truth it does in the freeze that runs; "
        "from the second scan on. No target is set.",
        table(
            ("what", "forecasts", "within its interval", "error of the median, median, s"),
            _structure_cells(events),
        ),
        "## Scenarios: median mean surface error, mm",
        table(
            ("scenario", "scans", *METHODS, "largest", "Dice", "within band", "wall, s"),
            [_group_cells(n, g) for n, g in [*groups, ("**all**", counted(rows))] if g],
        ),
        "## Scans",
        table(
            ("scenario", "scan", "min", "ahead, s", "seen", "true ml", *METHODS, "largest", "Dice", "band"),
            [_row_cells(r) for r in rows],
        ),
        "## Times",
        table(
            ("scenario", "from scan", "seen", "what", "true, s", "low", "median", "high"),
            [_event_cells(e) for e in events],
        ),
        "## Will not be covered",
        "Scans of a freeze with lesion and margin not yet covered. The forecast means its 15 minutes: a "
        "freeze that ends sooner proves wrong what came to be covered, and nothing right.",
        table(
            ("said", "scans", "covered in that freeze", "not by its end"), _never_cells(scored.never)
        ),
        table(
            ("said wrongly", "from scan", "of the freeze"),
            [(n.scenario, str(n.scan), f"{n.share:.0%}") for n in scored.never if n.said and n.covered],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _structure_cells(events: Sequence[EventRow]) -> list[list[str]]:
    cells = []
    for kind, said in (("contact ", "contact"), ("limit ", "limit passed")):
        late = [e for e in events if e.seen >= 2 and e.what.startswith(kind)]
        held = [e.low_s <= e.true_s <= e.high_s for e in late]
        errors = [abs(e.median_s - e.true_s) for e in late]
        cells.append([
            said, str(len(late)), f"{np.mean(held):.2f}" if held else "-",
            _number(float(np.median(errors)) if errors else None, ".0f"),
        ])  # fmt: skip
    return cells


def _never_cells(never: Sequence[NeverRow]) -> list[list[str]]:
    cells = []
    for name, said in (("will not be covered", True), ("nothing", False)):
        covered = [n.covered for n in never if n.said == said]
        cells.append([name, str(len(covered)), str(sum(covered)), str(len(covered) - sum(covered))])
    return cells


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:{form}}"


def _median(values: Sequence[float | None], form: str) -> str:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return f"{np.median(known):{form}}" if known else "-"


def _group_cells(name: str, rows: Sequence[ForecastRow]) -> list[str]:
    largest = [v for r in rows if (v := r.methods["forecast"].largest_mm) is not None]
    return [
        name,
        str(len(rows)),
        *(_median([r.methods[m].mean_mm for r in rows], ".2f") for m in METHODS),
        f"{max(largest):.1f}" if largest else "-",
        _median([r.methods["forecast"].dice for r in rows], ".3f"),
        _median([r.within_band for r in rows], ".2f"),
        _median([r.wall_s for r in rows], ".1f"),
    ]


def _row_cells(r: ForecastRow) -> list[str]:
    mine = r.methods["forecast"]
    return [
        r.scenario,
        str(r.scan),
        f"{r.minutes:.1f}",
        f"{r.ahead_s:.0f}",
        str(r.seen),
        f"{r.true_ml:.1f}",
        *(_number(r.methods[m].mean_mm, ".2f") for m in METHODS),
        _number(mine.largest_mm, ".1f"),
        _number(mine.dice, ".3f"),
        _number(r.within_band, ".2f"),
    ]


def _event_cells(e: EventRow) -> list[str]:
    times = (_number(v, ".0f") for v in (e.true_s, e.low_s, e.median_s, e.high_s))
    return [e.scenario, str(e.scan), str(e.seen), e.what, *times]
