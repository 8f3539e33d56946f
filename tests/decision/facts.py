"""Facts in which all is well, with every number there is, so that each can be taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from monitor.decision.safety import Facts
from monitor.forecast_values import Forecast, StructureForecast
from monitor.geometry import Grid
from monitor.model import Assessment, Phase, PhaseKind, Status, StructureDistance

NAN, INF = float("nan"), float("inf")
NOW = 1010.0
PHASES = {
    PhaseKind.WAITING: Phase(PhaseKind.WAITING, 0, None, None),
    PhaseKind.FREEZE: Phase(PhaseKind.FREEZE, 1, 900.0, 5000.0),
    PhaseKind.THAW: Phase(PhaseKind.THAW, 1, 900.0, 5000.0),
    PhaseKind.ENDED: Phase(PhaseKind.ENDED, 2, 900.0, None),
}
GOOD = Assessment(
    volume_id="v002",
    as_of_utc_s=1000.0,
    status=Status.OK,
    reasons=(),
    lesion_covered=0.9,
    margin_covered=0.5,
    margin_goal_mm=5.0,
    min_margin_mm=-1.0,
    min_margin_at_lps_mm=(0.0, 0.0, 0.0),
    margin_error_mm=0.6,
    ice_volume_ml=5.0,
    structures=(StructureDistance("bowel", 12.0, 5.0, 10.5),),
    time_to_margin_s=(60.0, 120.0),
    lesion_covered_interval=(0.8, 1.0),
    margin_covered_interval=(0.4, 0.6),
)
_FIELD = np.zeros((2, 1, 2, 2), np.float32)
FAR = Forecast(
    "v002", 1000.0, Grid((0.0, 0.0, 0.0), (3.0, 3.0, 3.0), (1, 2, 2)), (1000.0, 1900.0), _FIELD, -4.5,
    (30.0, INF), (60.0, 120.0), "cpu", probability=_FIELD, colder_degc=_FIELD, warmer_degc=_FIELD,
    structures=(StructureForecast("bowel", (400.0, 500.0), (-20.0, 5.0)),), kind=PhaseKind.FREEZE,
    phase_started_utc_s=900.0,
)  # fmt: skip
FINE = Facts(
    phase=PHASES[PhaseKind.FREEZE],
    baseline_id="v001",
    planned=True,
    needles_known=True,
    assessment=GOOD,
    received_utc_s=940.0,  # long enough ago for its forecast to be there
    structures=GOOD.structures,
    block=None,
    stale_after_s=210.0,
    heartbeat_age_s=0.1,
    intake_alive=True,
    record_ok=True,
    clock_offset_s=0.0,
    clock_jump_s=0.0,
    fault=None,
    shut_out=(),
    not_kept=(),
    unused=("single_slice", 1e9),  # not yet to be said
    forecast=FAR,
    organ="liver",
    down_s=0.0,
    record_damage=0,
)


def forecast(**changes: Any) -> Forecast:
    """Begun at 1000 s; the ice reaches the bowel after 400 to 500 s."""
    return replace(FAR, **changes)
