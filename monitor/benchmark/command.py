"""``iceball benchmark``: scenarios in, a Markdown table out, files where wanted.

Invariant: what was measured before a folder fails is said, and nothing is written of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_kernels.select import open_engine, warm_up
from monitor.benchmark import forecast_report, report
from monitor.benchmark.forecast import run as run_forecast
from monitor.benchmark.forecast_rows import Scored
from monitor.benchmark.imaging import Row, run
from monitor.benchmark.truth import BenchmarkError
from monitor.prediction.ensemble import MOST_LATENT


def benchmark_imaging(
    folders: Sequence[Path], out: Path | None, plots: bool, say: Callable[[str], None]
) -> str:
    """The report as Markdown; with ``out`` also imaging.md, imaging.json and the plots there."""
    if out is not None:
        _make(out)
    rows: list[Row] = [row for _, found in run(list(folders), say) for row in found]
    text = report.as_markdown(rows)
    if out is not None:
        with _writing(out):
            _write(out, "imaging", text, report.as_json(rows))
            if plots:
                from monitor.benchmark.plots import save_plots

                save_plots(out, rows)
    return text


def benchmark_forecast(
    folders: Sequence[Path],
    out: Path | None,
    plots: bool,
    engine_name: str,
    say: Callable[[str], None],
) -> str:
    """The report as Markdown; with ``out`` also forecast.md, forecast.json and the plots there."""
    if out is not None:
        _make(out)
    engine = open_engine(engine_name, MOST_LATENT)
    warm_up(engine)
    scored = sum(run_forecast(list(folders), engine, say), Scored())
    text = forecast_report.as_markdown(scored)
    if out is not None:
        with _writing(out):
            _write(out, "forecast", text, forecast_report.as_json(scored))
            if plots:
                from monitor.benchmark.plots import save_forecast_plots

                save_forecast_plots(out, scored.rows)
    return text


def _make(out: Path) -> None:
    """Before anything is measured: an hour's work must not end at a folder that cannot be made."""
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)


def _write(out: Path, name: str, text: str, found: Mapping[str, Any]) -> None:
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    numbers = json.dumps(found, indent=1, allow_nan=False)
    (out / f"{name}.json").write_text(numbers + "\n", encoding="utf-8")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BenchmarkError(f"--out {out}: {error}") from None
