"""Each scenario over time as a picture: margin, volume, agreement. Minutes, mm, ml.

Invariant: what was not measured is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from monitor.benchmark.imaging import Row
from monitor.benchmark.report import by_scenario
from monitor.view.timeline import Series, save_timeline

_NAN = float("nan")


def save_plots(folder: Path, rows: Sequence[Row]) -> None:
    """One PNG per scenario, named after it."""
    for name, group in by_scenario(rows).items():
        file = folder / f"{name.strip('/').replace('/', '_')}.png"
        save_timeline(file, f"Imaging benchmark: {name}", _plots(group))


def _plots(rows: Sequence[Row]) -> list[Series]:
    minutes = [r.minutes for r in rows]
    return [
        Series("Minimal margin, mm", minutes, _known(r.margin_mm for r in rows),
               _known(r.margin_true_mm for r in rows)),
        Series("Ice volume, ml", minutes, _known(r.volume_ml for r in rows),
               [r.volume_true_ml for r in rows]),
        Series("Dice", minutes, _known(r.dice for r in rows)),
        Series("Mean surface distance, mm", minutes, _known(r.surface_mean_mm for r in rows)),
    ]  # fmt: skip


def _known(values: Iterable[float | None]) -> list[float]:
    return [_NAN if v is None else float(v) for v in values]
