"""What the journal says of each result. Units are in the names; fractions are 0..1.

Other programs read these names (docs/journal.md): they may be added to, never changed.
Invariant: a field that is not known is None, never a default that looks like a measurement.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from monitor.forecast_values import BodyDose, Forecast, NextScan, Outcome, Range, WhatIfAnswer
from monitor.model import Alarm, Assessment, CtVolume, IceSegmentation, Phase, Rejected

if TYPE_CHECKING:  # the journal is read by programs that measure nothing
    from monitor.imaging.registration import Registration


def phase_fields(phase: Phase, noticed_utc_s: float) -> dict[str, Any]:
    """``noticed_utc_s``: when the monitor got to it, later than it began where it was busy."""
    return {
        "phase": phase.kind.value,
        "cycle": phase.cycle,
        "started_utc_s": phase.started_utc_s,
        "planned_end_utc_s": phase.ends_utc_s,
        "noticed_utc_s": noticed_utc_s,
    }


def volume_fields(volume: CtVolume) -> dict[str, Any]:
    g = volume.geometry
    return {
        "volume_id": volume.volume_id,
        "slices": len(g.slice_offsets_mm),
        "spacing_mm": [g.column_spacing_mm, g.row_spacing_mm, g.slice_spacing_mm],
        "acquired_at": iso_utc(volume.acquired_utc_s),
        "rows": g.rows,
        "columns": g.columns,
        "row_direction": g.row_direction,
        "column_direction": g.column_direction,
        "slice_positions_lps_mm": np.round(g.slice_positions_lps_mm(), 6),
        "slice_thickness_mm": g.slice_thickness_mm,
        "tilt_deg": g.tilt_deg,
        "series_instance_uid": volume.series_uid,
        "frame_of_reference_uid": volume.frame_of_reference_uid,
        "completed_by": volume.completed_by,
        "sop_instance_uids": list(dict.fromkeys(i.sop_instance_uid for i in volume.instances)),
        "pixels": f"volumes/{volume.volume_id}.npy",
        **_trust(volume),
    }


def rejected_fields(rejected: Rejected) -> dict[str, Any]:
    return {
        "sop_instance_uid": rejected.instance.sop_instance_uid,
        "sha256": rejected.instance.sha256,
        "reason": rejected.reason.code,
        "text": rejected.reason.text,
    }


def registration_fields(r: Registration, volume_id: str) -> dict[str, Any]:
    return {
        "volume_id": volume_id,
        "shift_lps_mm": r.shift_lps_mm,
        "error_mm": r.error_mm if np.isfinite(r.error_mm) else None,
        "quality": r.quality,
        **_trust(r),
    }


def segmentation_fields(ice: IceSegmentation) -> dict[str, Any]:
    return {
        "volume_id": ice.volume_id,
        "volume_ml": ice.volume_ml,
        "quality": ice.quality,
        "edge_error_mm": ice.edge_error_mm,
        **_trust(ice),
    }


def forecast_fields(f: Forecast) -> dict[str, Any]:
    return {
        "from_volume_id": f.from_volume_id,
        "start": iso_utc(f.start_utc_s),
        "until": iso_utc(f.times_utc_s[-1]),
        "engine": f.engine,
        "time_to_lesion_s": _interval(f.time_to_lesion_s),
        "time_to_margin_s": _interval(f.time_to_margin_s),
        "structures": [
            {
                "name": s.name,
                "time_to_contact_s": _interval(s.time_to_contact_s),
                "coldest_degc": list(s.coldest_degc),
                "limit_infringed_share": [_number(v) for v in s.infringed],
            }
            for s in f.structures
        ],
        "times_s": [t - f.start_utc_s for t in f.times_utc_s],
        "margin_covered_share": [_number(v) for v in f.covered],
        "dose": [_dose_fields(b) for b in f.bodies],
        "next_scan": None if f.next_scan is None else _next_scan_fields(f.next_scan),
        **_trust(f),
    }


def _dose_fields(b: BodyDose) -> dict[str, Any]:
    """So far, and at the end of the forecast."""
    rows = {f.name: getattr(b, f.name) for f in dataclasses.fields(b) if f.name != "name"}
    ends = {"so_far": 0, "end": -1}
    values = {
        end: {n: [_number(v) for v in r[i]] for n, r in rows.items()} for end, i in ends.items()
    }
    return {"body": b.name, **values}


def _next_scan_fields(n: NextScan) -> dict[str, Any]:
    decided = n.decision_utc_s
    return {
        "at": iso_utc(n.at_utc_s),
        "asked_by": n.asked_by,
        "decision": n.decision or None,
        "decision_at": None if decided is None else iso_utc(decided),
        "structure": n.name or None,
    }


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def what_if_fields(a: WhatIfAnswer) -> dict[str, Any]:
    return {
        "asked_utc_s": a.asked_utc_s,
        "from_volume_id": a.from_volume_id,
        "refined": a.refined,
        "members": a.members,
        "engine": a.engine,
        "duty": {str(n): duty for n, duty in a.question.duty.items()},
        "remaining_s": a.question.remaining_s,
        "asked": _outcome(a.asked),
        "going_on": _outcome(a.going_on),
        "change": {
            "lesion_later_s": _ends(a.change.lesion_later_s),
            "margin_later_s": _ends(a.change.margin_later_s),
            "min_margin_mm": _ends(a.change.min_margin_mm),
            "distance_mm": {name: _ends(mm) for name, mm in a.change.distance_mm},
        },
        **_trust(a),
    }


def _outcome(o: Outcome) -> dict[str, Any]:
    return {
        "freeze_ends_s": o.freeze_ends_s,
        "time_to_lesion_s": _ends(o.time_to_lesion_s),
        "time_to_margin_s": _ends(o.time_to_margin_s),
        "lesion_covered": o.lesion_covered,
        "margin_covered": o.margin_covered,
        "min_margin_mm": _ends(o.min_margin_mm),
        "structures": [
            {
                "name": s.name,
                "time_to_contact_s": _ends(s.time_to_contact_s),
                "distance_mm": _ends(s.distance_mm),
                "coldest_degc": _ends(s.coldest_degc),
            }
            for s in o.structures
        ],
    }


def _ends(interval: Range | None) -> list[float | None] | None:
    """Each end by itself, None where it is open."""
    return None if interval is None else [x if np.isfinite(x) else None for x in interval]


def assessment_fields(a: Assessment) -> dict[str, Any]:
    at_least_s = a.time_to_margin_s[0] if a.time_to_margin_s else None
    return {
        "as_of": iso_utc(a.as_of_utc_s),
        "volume_id": a.volume_id,
        **_trust(a),
        "lesion_covered": a.lesion_covered,
        "margin_covered": a.margin_covered,
        "lesion_covered_interval": a.lesion_covered_interval,
        "margin_covered_interval": a.margin_covered_interval,
        "margin_goal_mm": a.margin_goal_mm,
        "min_margin_mm": a.min_margin_mm,
        "min_margin_at_lps_mm": a.min_margin_at_lps_mm,
        "margin_error_mm": a.margin_error_mm,
        "ice_volume_ml": a.ice_volume_ml,
        "structures": [dataclasses.asdict(s) for s in a.structures],
        "time_to_margin_s": _interval(a.time_to_margin_s),
        "time_to_margin_at_least_s": at_least_s,
    }


def alarm_fields(alarm: Alarm) -> dict[str, Any]:
    return {
        "code": alarm.code,
        "about": alarm.about,
        "priority": alarm.priority.value,
        "params": alarm.params,
        "latched": alarm.latched,
    }


def _interval(seconds: tuple[float, float] | None) -> tuple[float, float] | None:
    """Programs get an interval with two ends or none; an open one is in ``…_at_least_s``."""
    return seconds if seconds is not None and np.isfinite(seconds[1]) else None


def _trust(
    result: CtVolume | Registration | IceSegmentation | Forecast | Assessment | WhatIfAnswer,
) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "reasons": [dataclasses.asdict(r) for r in result.reasons],
    }


def iso_utc(utc_s: float) -> str:
    """ISO 8601 with milliseconds, UTC."""
    return (
        datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
