"""A rendered case as its forecast sees it, and its truth on the same grids. LPS mm, s since the first freeze.

Invariant: the problem knows phases and needles, never the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gpu_kernels.engine import Members, Problem
from monitor.benchmark.truth import ScanTruth
from monitor.config import Config, NeedleConfig
from monitor.decision import protocol
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import resample, sample, signed_distance_mm
from monitor.imaging.needles import needle_direction
from monitor.model import Float32Array, PhaseKind
from monitor.prediction.forecast import HORIZON_S
from monitor.prediction.setup import make_problem, tissue_labels
from monitor.procedure import Procedure

# The makers' planning ellipsoids at 0 °C after ten minutes in gel: width and length, mm (IceSeed and
# IceRod: ProstateCryoAblation, default.cfg; IceSphere: Cryoablation-Dosimetry), here centred on the active
# zone. For the others no figure was found: the active length and a little more is an assumption.
_ELLIPSOID_MM = {
    "icesphere_1_5": (32.0, 37.0),
    "iceseed_1_5": (20.0, 25.0),
    "icerod_1_5": (25.0, 35.0),
}
_OTHER_WIDTH_MM, _BEYOND_ACTIVE_MM = 30.0, 8.0


@dataclass(frozen=True)
class Known:
    """A scan: when (s since the first freeze began), its truth, and that on the analysis grid;
    ``depth_mm``: how deep the least covered point of "lesion" and "margin" lies in the true ice, and of each
    structure the most covered one ("contact NAME"), or of what lies at its limit ("limit NAME")."""

    truth: ScanTruth
    at_s: float
    level: FloatArray
    depth_mm: dict[str, float]


@dataclass(frozen=True)
class Case:
    config: Config
    procedure: Procedure
    label_zyx: np.ndarray

    @staticmethod
    def of(config: Config, procedure: Procedure, baseline_hu: Float32Array) -> Case:
        grid = procedure.prediction_grid
        label = tissue_labels(baseline_hu, procedure.analysis_grid, grid)
        return Case(config, procedure, label)

    @property
    def grid(self) -> Grid:
        return self.procedure.prediction_grid

    def kind_at(self, at_s: float) -> PhaseKind:
        return protocol.kind_at(self.progress(at_s), self.config.protocol, at_s)

    def progress(self, at_s: float) -> protocol.Progress:
        """What has begun by then: rendered scenarios keep to the protocol."""
        rules = self.config.protocol
        return protocol.advanced(protocol.next_phase(protocol.Progress(), rules, 0.0), rules, at_s)

    def problem(self, members: Members) -> Problem:
        """Of the whole procedure, as it came to be."""
        return self._problem(math.inf, members)

    def going_on(self, at_s: float, members: Members) -> Problem:
        """When the phase that runs at a time is not ended, as a live forecast has it."""
        return self._problem(at_s, members)

    def _problem(self, at_s: float, members: Members) -> Problem:
        rules = self.config.protocol
        intervals = protocol.intervals(self.progress(at_s), rules, HORIZON_S)
        return make_problem(self.config, self.grid, self.label_zyx, intervals, members)

    def known(self, truth: ScanTruth) -> Known:
        """The truth where the tissue lay in the plan, on the analysis grid."""
        points = truth.motion.to_scan(self.procedure.analysis_grid.points_lps_mm())
        index = np.moveaxis(truth.grid.to_index_zyx(points), -1, 0)
        level = ndimage.map_coordinates(truth.level, index, order=1, mode="constant", cval=0.5)
        delay_s = self.config.protocol.start_after_baseline_s or 0.0
        return Known(truth, 60.0 * truth.minutes - delay_s, level, self._depth_mm(level))

    def _depth_mm(self, level: FloatArray) -> dict[str, float]:
        """From the surface itself: the truth's own margins are in steps of half a millimetre, in which
        ice late in a freeze takes a minute."""
        grid, target = self.procedure.analysis_grid, self.procedure.target
        distance_mm = signed_distance_mm(level.astype(np.float32), grid)
        bodies = {"lesion": target.lesion_lps_mm, "margin": target.margin_lps_mm}
        depth_mm = {
            name: -float(sample(distance_mm, grid, points, outside=np.inf).max(initial=-np.inf))
            for name, points in bodies.items()
        }
        for i, (name, points) in enumerate(target.structures_lps_mm):
            reached_mm = -float(
                sample(distance_mm, grid, points, outside=np.inf).min(initial=np.inf)
            )
            depth_mm[f"contact {name}"] = reached_mm
            if target.limits_lps_mm:
                at_limit = sample(distance_mm, grid, target.limits_lps_mm[i], outside=np.inf)
                depth_mm[f"limit {name}"] = max(reached_mm, -float(at_limit.min(initial=np.inf)))
        return depth_mm

    def fine(self, ice: Float32Array) -> Float32Array:
        """½ − ice (``prediction.reading``) on the analysis grid: negative in ice."""
        fine = resample(ice, self.grid, self.procedure.analysis_grid, outside=0.0)
        return np.asarray(0.5 - fine, np.float32)


def ellipsoid_level(needles: Sequence[NeedleConfig], grid: Grid) -> FloatArray:
    """Negative in the union of the makers' ellipsoids; mm, roughly."""
    points = grid.points_lps_mm()
    level = np.full(grid.shape_zyx, np.inf)
    for needle in (n for n in needles if n.duty > 0):
        active_mm = needle.type.active_length_mm
        width_mm, length_mm = _ELLIPSOID_MM.get(
            needle.type.name, (_OTHER_WIDTH_MM, active_mm + _BEYOND_ACTIVE_MM)
        )
        axis = needle_direction(needle)
        offset = points - (np.array(needle.tip_lps_mm) + 0.5 * active_mm * axis)
        along = offset @ axis
        across = np.sqrt(np.maximum((offset**2).sum(-1) - along**2, 0.0))
        share = np.hypot(2.0 * along / length_mm, 2.0 * across / width_mm)
        level = np.minimum(level, 0.5 * width_mm * (share - 1.0))
    return level
