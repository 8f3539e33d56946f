"""From the case to a bioheat problem. Points LPS mm, arrays (z, y, x), temperatures °C; problem
time is seconds since the first freeze began.

Invariant: the problem depends on the case, the baseline's tissue and what the needles have done;
never on a measured ice surface (that enters through the state, see ``anchor``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Members, Needle, Problem, TimeTable, Tissue
from monitor.config import Config, NeedleConfig, TissueConfig
from monitor.geometry import Grid
from monitor.imaging.distance import resample
from monitor.imaging.needles import needle_direction
from monitor.model import Float32Array, Interval, PhaseKind

_NOMINAL = Members()

# Blood does not come back into tissue that has thawed (vascular stasis) within a procedure: an
# assumption that no source gives a number for.
_STASIS_S = 3600.0

_FAT_HU = (-160.0, -40.0)
_AIR_HU = -250.0


def prediction_grid(analysis: Grid, spacing_mm: float = 3.0, pad_mm: float = 8.0) -> Grid:
    """The grid heat is computed on: the analysis grid's box and a rim for the outer boundary. With
    3 mm an ensemble takes a quarter of the time it takes with 2 mm, and its forecasts are as good to
    0.1 mm (decision 9)."""
    x, y, z = analysis.axes_lps_mm()
    low = np.array([x[0], y[0], z[0]]) - pad_mm
    high = np.array([x[-1], y[-1], z[-1]]) + pad_mm
    return Grid.around(low, high, spacing_mm)


def make_problem(
    config: Config,
    grid: Grid,
    label_zyx: npt.NDArray[np.uint8],
    intervals: Sequence[Interval],
    members: Members = _NOMINAL,
    duties: Mapping[int, float | TimeTable] = MappingProxyType({}),
) -> Problem:
    """The bioheat problem of this case with the needles driven over ``intervals``; ``duties`` by number
    where they are not the case's. A needle that is off is one too: it may be started."""
    tissues = (config.organ.tissue, config.organ.fat, config.organ.gas)
    return Problem(
        label_zyx=label_zyx,
        tissues=tuple(_tissue(t) for t in tissues),
        origin_mm=grid.origin_lps_mm,
        spacing_mm=grid.spacing_mm,
        needles=tuple(_needle(n, intervals, duties.get(n.number, n.duty)) for n in config.needles),
        members=members,
        stasis_s=_STASIS_S,
    )


def tissue_labels(baseline_hu: Float32Array, analysis: Grid, grid: Grid) -> npt.NDArray[np.uint8]:
    """0 the organ, 1 fat, 2 air and lung, from the baseline's CT numbers; the organ where unseen."""
    hu = resample(np.nan_to_num(baseline_hu, nan=40.0), analysis, grid, outside=40.0)
    label = np.zeros(grid.shape_zyx, np.uint8)
    label[(hu > _FAT_HU[0]) & (hu < _FAT_HU[1])] = 1
    label[hu <= _AIR_HU] = 2
    return label


def _tissue(tissue: TissueConfig) -> Tissue:
    return Tissue(**dataclasses.asdict(tissue))


def _needle(needle: NeedleConfig, intervals: Sequence[Interval], duty: float | TimeTable) -> Needle:
    d = needle_direction(needle)
    return Needle(
        tip_mm=needle.tip_lps_mm,
        direction=(float(d[0]), float(d[1]), float(d[2])),
        diameter_mm=needle.type.diameter_mm,
        active_length_mm=needle.type.active_length_mm,
        surface_degc=surface_table(needle, intervals),
        duty=duty,
    )


def surface_table(
    needle: NeedleConfig, intervals: Sequence[Interval], body_degc: float = 37.0
) -> tuple[tuple[float, float], ...]:
    """The shaft's temperature over problem time: a ramp at each freeze, NaN (passive) in thaws."""
    table: list[tuple[float, float]] = []
    cold = needle.type.freeze_surface_degc
    for kind, start_s, end_s in intervals:
        if kind is PhaseKind.FREEZE and end_s > start_s:
            ramp_s = min(needle.type.ramp_s, end_s - start_s)
            first = body_degc if not table else 0.0
            table += [
                (start_s, first),
                (start_s + ramp_s, cold),
                (end_s, cold),
                (end_s, float("nan")),
            ]
    return tuple(table) or ((0.0, float("nan")),)
