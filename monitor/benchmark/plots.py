"""Each scenario over time as a picture: margin, volume, agreement. Minutes, mm, ml.

Invariant: what was not measured is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from monitor.benchmark.forecast_rows import Agreement, ForecastRow
from monitor.benchmark.imaging import Row
from monitor.benchmark.report import by_scenario
from monitor.view.timeline import Series, save_timeline

_NAN = float("nan")


def save_plots(folder: Path, rows: Sequence[Row]) -> None:
    """One PNG per scenario, named after it."""
    for name, group in by_scenario(rows).items():
        save_timeline(_file(folder, name), f"Imaging benchmark: {name}", _plots(group))


def save_forecast_plots(folder: Path, rows: Sequence[ForecastRow]) -> None:
    """One PNG per scenario, named after it; the dashed line is the last scan's surface instead."""
    names = list(dict.fromkeys(r.scenario for r in rows))
    for name in names:
        group = [r for r in rows if r.scenario == name]
        save_timeline(_file(folder, name), f"Forecast benchmark: {name}", _forecast_plots(group))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.strip('/').replace('/', '_')}.png"


def _forecast_plots(rows: Sequence[ForecastRow]) -> list[Series]:
    minutes, names = [r.minutes for r in rows], ("forecast", "the last scan instead")
    mine = [r.methods["forecast"] for r in rows]
    last = [r.methods["persistence"] for r in rows]

    def beside(title: str, value: Callable[[Agreement], float | None]) -> Series:
        return Series(title, minutes, _known(map(value, mine)), _known(map(value, last)), names)

    return [
        beside("Mean surface error, mm", lambda a: a.mean_mm),
        beside("Largest surface error, mm", lambda a: a.largest_mm),
        beside("Dice", lambda a: a.dice),
        Series("True surface within the 80 % band", minutes,
               _known(r.within_band for r in rows), names=names),
    ]  # fmt: skip


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
