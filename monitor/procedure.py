"""What stays the same during a procedure: the case, its bodies and its grids. LPS mm.

Built once from the case and its delineations, and again when the operator reloads the case.
Invariant: everything downstream works on ``analysis_grid``; no stage has a grid of its own but the
prediction, whose grid covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.config import Config, ConfigError, NeedleConfig
from monitor.decision.assessment import Plan
from monitor.decision.bodies import Body, around, body, sdf_on
from monitor.geometry import FloatArray, Grid
from monitor.imaging.needles import needle_direction
from monitor.model import Float32Array, Role, Structure
from monitor.prediction.forecast import Target
from monitor.prediction.setup import prediction_grid

ANALYSIS_SPACING_MM = 1.0
# Room for ice beyond lesion and margin, and around the active zones (iceballs reach 25 mm out).
_BEYOND_LESION_MM = 22.0
_BEYOND_NEEDLE_MM = 28.0
# A needle pushed right through the lesion has its tip at most an active length (34 mm) beyond it, and
# ice reaches some 25 mm from there. A tip farther off cannot freeze the lesion: signs swapped (RAS for
# LPS), another patient's plan, a slip of a digit. Its grid would also span everything in between.
_FARTHEST_TIP_MM = 60.0


@dataclass(frozen=True)
class Planned:
    """What follows from a lesion: what has to freeze and what must not, and the grids to see it on."""

    analysis_grid: Grid
    prediction_grid: Grid
    plan: Plan
    target: Target
    lesion_sdf: Float32Array


@dataclass(frozen=True)
class Procedure:
    """``planned`` is None while the case is a draft; what needs it then raises ``ConfigError``."""

    config: Config
    structures: tuple[Structure, ...]
    plan_frames: frozenset[str]
    planned: Planned | None

    @property
    def draft(self) -> bool:
        return self.planned is None

    @property
    def analysis_grid(self) -> Grid:
        return self._known.analysis_grid

    @property
    def prediction_grid(self) -> Grid:
        return self._known.prediction_grid

    @property
    def plan(self) -> Plan:
        return self._known.plan

    @property
    def target(self) -> Target:
        return self._known.target

    @property
    def lesion_sdf(self) -> Float32Array:
        return self._known.lesion_sdf

    @property
    def _known(self) -> Planned:
        if self.planned is None:
            raise ConfigError(f"{self.config.path}: a draft: it has no [lesion] yet")
        return self.planned


def critical_structures(procedure: Procedure) -> tuple[Structure, ...]:
    """What must stay outside the ice, each on its own grid."""
    return tuple(s for s in procedure.structures if s.role is Role.CRITICAL)


def prepare(
    config: Config, structures: Sequence[Structure], plan_frames: frozenset[str] = frozenset()
) -> Procedure:
    """The procedure of a case with its delineations (one lesion, none in a draft, any critical structures)
    and the frames of reference that their files name. Raises ``ConfigError`` where they do not fit
    together."""
    lesion = next((s for s in structures if s.role is Role.LESION), None)
    planned = None if lesion is None else _plan_of(config, lesion, structures)
    return Procedure(config, tuple(structures), plan_frames, planned)


def _plan_of(config: Config, lesion: Structure, structures: Sequence[Structure]) -> Planned:
    lesion_body = body(lesion)
    _check_tips(config, lesion_body)
    critical = [s for s in structures if s.role is Role.CRITICAL]
    grid = _analysis_grid(lesion, config)
    lesion_sdf = sdf_on(lesion, grid)
    margin = Structure("lesion and margin", Role.LESION, grid, lesion_sdf)
    plan = Plan(
        lesion=lesion_body,
        lesion_and_margin=body(margin, grow_mm=config.margin_goal_mm),
        structures=tuple(body(s, within=grid) for s in critical),
        margin_goal_mm=config.margin_goal_mm,
    )
    return Planned(
        grid,
        prediction_grid(grid),
        plan,
        Target(
            plan.lesion.points_lps_mm,
            plan.lesion_and_margin.points_lps_mm,
            tuple((s.name, s.points_lps_mm) for s in plan.structures),
            tuple(around(s, grid, s.limit_mm or 0.0) for s in critical),
            (
                ("lesion", plan.lesion.volume_lps_mm),
                ("lesion and margin", plan.lesion_and_margin.volume_lps_mm),
            ),
            tuple(
                b.surface_lps_mm for b in (plan.lesion, plan.lesion_and_margin, *plan.structures)
            ),
        ),
        lesion_sdf,
    )


def _check_tips(config: Config, lesion: Body) -> None:
    errors = []
    for needle in config.needles:
        apart = np.linalg.norm(lesion.points_lps_mm - np.array(needle.tip_lps_mm), axis=1)
        if not apart.min() <= _FARTHEST_TIP_MM:
            errors.append(
                f"needle {needle.number}: tip_lps_mm: {apart.min():.0f} mm from the lesion, expected at "
                f"most {_FARTHEST_TIP_MM:.0f} mm; are the points of needle and lesion both LPS, of one plan?"
            )
    if errors:
        raise ConfigError("\n  ".join([f"{config.path}: {len(errors)} problem(s)", *errors]))


def _analysis_grid(lesion: Structure, config: Config) -> Grid:
    inside = lesion.grid.to_lps_mm(np.argwhere(lesion.sdf_mm <= 0))
    reach = config.margin_goal_mm + _BEYOND_LESION_MM
    lows, highs = [inside.min(0) - reach], [inside.max(0) + reach]
    for needle in config.needles:
        ends = _active_ends(needle)
        lows.append(ends.min(0) - _BEYOND_NEEDLE_MM)
        highs.append(ends.max(0) + _BEYOND_NEEDLE_MM)
    return Grid.around(np.min(lows, 0), np.max(highs, 0), ANALYSIS_SPACING_MM)


def _active_ends(needle: NeedleConfig) -> FloatArray:
    tip = np.asarray(needle.tip_lps_mm)
    return np.stack([tip, tip + needle.type.active_length_mm * needle_direction(needle)])
