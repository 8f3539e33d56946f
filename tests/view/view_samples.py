"""Synthetic snapshots with real array files: an abdominal wall, a lesion, ice, a forecast.

LPS mm, °C, Hounsfield units. Nothing here imports Qt.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monitor.forecast_values import Course, CourseAt, DoseAt, NextScan
from monitor.geometry import Grid, SliceGeometry
from monitor.model import (
    Alarm,
    Assessment,
    Phase,
    PhaseKind,
    Priority,
    Reason,
    Status,
    StructureDistance,
)
from monitor.snapshot import ArrayRef, NeedleLine, PastScan, PhaseBand, Replayed, Snapshot

NOW = 1_000_000.0
LESION = (20.0, -80.0, 12.0)
LESION_RADIUS = 11.0
BOWEL = (-22.0, -52.0, 10.0)
ICE_CENTRE = (22.0, -79.0, 11.0)
WORST = (10.0, -84.0, 12.0)
GRID = Grid((-40.0, -140.0, -48.0), (1.0, 1.0, 1.0), (121, 121, 121))
FORECAST_GRID = Grid((-30.0, -130.0, -38.0), (1.5, 1.5, 1.5), (67, 67, 67))


def aligned_geometry(
    shape: tuple[int, int, int] = (40, 256, 256),
    spacing: tuple[float, float, float] = (3.0, 1.2, 1.2),
) -> SliceGeometry:
    """An ordinary supine stack centred near the lesion."""
    nz, ny, nx = shape
    dz, dy, dx = spacing
    origin = (-dx * nx / 2, -60 - dy * ny / 2, 12.0 - dz * nz / 2)
    return SliceGeometry(
        origin,
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
        dx,
        dy,
        tuple(dz * k for k in range(nz)),
        dz,
        ny,
        nx,
    )


def points(geometry: SliceGeometry) -> np.ndarray:
    """The voxel centres of a stack, (slices, rows, columns, 3)."""
    shape = (len(geometry.slice_offsets_mm), geometry.rows, geometry.columns)
    return geometry.to_lps_mm(np.stack(np.indices(shape), -1))


def anatomy_hu(p: np.ndarray, seed: int = 1, frozen: bool = True) -> np.ndarray:
    """A body with skin, fat, muscle, bowel gas and the dark iceball."""
    rng = np.random.default_rng(seed)
    x, y = p[..., 0], p[..., 1]
    body = (x / 140) ** 2 + ((y + 20) / 100) ** 2
    hu = np.where(body < 1, -95.0, -1000.0)
    hu[body < 0.82] = 55.0
    hu[(x / 115) ** 2 + ((y + 5) / 68) ** 2 < 1] = 20.0
    hu[np.hypot(x, y - 40) < 22] = 320.0
    hu[_ball(p, LESION, LESION_RADIUS) < 0] = 70.0
    bowel = _ball(p, BOWEL, 11)
    hu[bowel < 0] = 30.0
    hu[bowel < -5] = -700.0
    ice = ice_sdf(p)
    hu = np.where((ice < 0) & (hu > 0) & frozen, hu - 75, hu)
    for needle in NEEDLES:
        hu[_shaft(p, needle) < 1.3] = 2500.0
    return np.clip(hu + rng.normal(0, 9, hu.shape), -1024, 3000).astype(np.int16)


def _ball(p: np.ndarray, centre: tuple[float, ...], radius: float) -> np.ndarray:
    return np.linalg.norm(p - np.array(centre), axis=-1) - radius


def ice_sdf(p: np.ndarray) -> np.ndarray:
    """An approximate signed distance of an egg-shaped iceball."""
    scaled = (p - np.array(ICE_CENTRE)) / np.array([1.0, 1.35, 1.05])
    return np.linalg.norm(scaled, axis=-1) - 13.5


def _shaft(p: np.ndarray, needle: NeedleLine) -> np.ndarray:
    tip, entry = np.array(needle.tip_lps_mm), np.array(needle.entry_lps_mm)
    axis = entry - tip
    t = np.clip((p - tip) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(p - tip - t[..., None] * axis, axis=-1)


NEEDLES = (
    NeedleLine(1, (16.0, -68.0, 12.0), (8.0, -122.0, 14.0)),
    NeedleLine(2, (28.0, -68.0, 11.0), (38.0, -121.0, 3.0)),
)


def save(folder: Path, name: str, array: Any) -> ArrayRef:
    path = folder / f"{name}.npy"
    np.save(path, array)
    return ArrayRef(str(path))


def assessment(**changes: Any) -> Assessment:
    base = Assessment(
        "v003",
        NOW - 48.0,
        Status.OK,
        (),
        0.968,
        0.744,
        5.0,
        -1.2,
        WORST,
        0.8,
        14.2,
        (StructureDistance("colon", 9.27, 5.0, 8.0), StructureDistance("skin", 21.0, 5.0, 19.5)),
        (200.0, 320.0),
    )
    return replace(base, **changes)


def snapshot(folder: Path, geometry: SliceGeometry | None = None, **changes: Any) -> Snapshot:
    """A normal moment of the first freeze; files go into ``folder``."""
    geometry = geometry or aligned_geometry()
    grid_points = GRID.points_lps_mm()
    fp = FORECAST_GRID.points_lps_mm()
    times = tuple(NOW - 48.0 + 60.0 * i for i in range(11))
    base = ice_sdf(fp)
    fields = np.stack(
        [np.clip(-2.0 + 3.6 * (base - 0.011 * (t - times[0])), -150, 37) for t in times]
    ).astype(np.float32)
    made = Snapshot(
        seq=7,
        now_utc_s=NOW,
        heartbeat_utc_s=NOW - 0.1,
        patient_label="DUPONT M. · 1957-03-14 · ID 00412-7",
        margin_goal_mm=5.0,
        stale_after_s=210.0,
        phase=Phase(PhaseKind.FREEZE, 1, NOW - 402.0, NOW + 198.0),
        blocked=False,
        alarms=(),
        needles=NEEDLES,
        assessment=assessment(),
        baseline_id="v001",
        volume_id="v003",
        volume=save(folder, "volume", anatomy_hu(points(geometry))),
        volume_geometry=geometry,
        analysis_grid=GRID,
        ice_sdf=save(folder, "ice", ice_sdf(grid_points).astype(np.float32)),
        ice_inner_sdf=save(folder, "ice_inner", (ice_sdf(grid_points) + 2.0).astype(np.float32)),
        ice_outer_sdf=save(folder, "ice_outer", (ice_sdf(grid_points) - 1.2).astype(np.float32)),
        ice_edge_error_mm=0.8,
        lesion_sdf=save(
            folder, "lesion", _ball(grid_points, LESION, LESION_RADIUS).astype(np.float32)
        ),
        structure_sdfs=(
            ("colon", save(folder, "bowel", _ball(grid_points, BOWEL, 11).astype(np.float32))),
        ),
        forecast_grid=FORECAST_GRID,
        forecast_times_utc_s=times,
        forecast_temperature=save(folder, "forecast", fields),
        forecast_edge_degc=-2.0,
        forecast_band=save(
            folder, "forecast_band", np.stack([fields - 4.0, fields + 4.0]).astype(np.float16)
        ),
        # Colder before than it is now, so that the one cannot be taken for the other.
        forecast_lowest=save(folder, "forecast_lowest", (2.2 * fields - 6.0).astype(np.float16)),
        dose=dose(times[0]),
        next_scan=NextScan(NOW + 162.0, "image_age", "covered", NOW + 431.0),
        window_hu=(20.0, 300.0),
        phases=PHASES,
        course=course(times),
    )
    made = replace(made, history=history(folder, made, geometry, grid_points))
    return replace(made, **changes)


def dose(at_utc_s: float) -> tuple[DoseAt, ...]:
    """What the forecast of ``snapshot`` has of the cold at one of its times."""
    return (
        DoseAt("lesion", at_utc_s, (0.72, 0.85), (0.0, 0.2), (-17.6, -12.2),
               (0.0, 0.0), (0.0, 0.0), (1.0, 1.0)),
        DoseAt("lesion and margin", at_utc_s, (0.41, 0.52), (0.0, 0.08), (1.3, 4.1), (0.0, 0.0),
               (0.0, 0.0), (0.0, 0.0)),
    )  # fmt: skip


PHASES = (
    PhaseBand(PhaseKind.FREEZE, 1, NOW - 402.0, NOW + 198.0),
    PhaseBand(PhaseKind.THAW, 1, NOW + 198.0, NOW + 498.0),
    PhaseBand(PhaseKind.FREEZE, 2, NOW + 498.0, NOW + 858.0),
)


def course(times: tuple[float, ...]) -> Course:
    """A forecast that grows, with a band that widens."""
    points = []
    for i, t in enumerate(times):
        lesion, margin = min(1.0, 0.96 + 0.01 * i), min(1.0, 0.72 + 0.04 * i)
        points.append(
            CourseAt(
                t,
                (13.5 + 0.8 * i, 14.8 + 1.2 * i),
                (lesion, min(1.0, lesion + 0.02)),
                (margin, min(1.0, margin + 0.03 + 0.01 * i)),
                (-1.6 + 0.4 * i, -0.6 + 0.55 * i),
            )
        )
    return Course(tuple(points))


def history(
    folder: Path, now: Snapshot, geometry: SliceGeometry, grid_points: np.ndarray
) -> tuple[PastScan, ...]:
    """The baseline, a scan of smaller ice three minutes ago, and the scan of now."""
    unknown = assessment(
        volume_id="v001", as_of_utc_s=NOW - 520.0, status=Status.INVALID,
        reasons=(Reason("baseline", "baseline"),), lesion_covered=None, margin_covered=None,
        min_margin_mm=None, min_margin_at_lps_mm=None, margin_error_mm=None, ice_volume_ml=None,
    )  # fmt: skip
    smaller = assessment(
        volume_id="v002", as_of_utc_s=NOW - 228.0, lesion_covered=0.71, margin_covered=0.48,
        min_margin_mm=-5.4, margin_error_mm=1.1, ice_volume_ml=8.1,
        lesion_covered_interval=(0.64, 0.78), margin_covered_interval=(0.41, 0.55),
    )  # fmt: skip
    bare = save(folder, "baseline_volume", anatomy_hu(points(geometry), frozen=False))
    ice = save(folder, "ice_before", (ice_sdf(grid_points) + 3.5).astype(np.float32))
    assert now.assessment is not None
    return (
        PastScan(unknown, bare, geometry, GRID),
        PastScan(smaller, now.volume, geometry, GRID, ice, volume_ml=(7.2, 9.3)),
        PastScan(
            now.assessment, now.volume, geometry, GRID, now.ice_sdf, now.ice_inner_sdf,
            now.ice_outer_sdf, 0.8, (13.1, 15.6),
        ),
    )  # fmt: skip


def states(normal: Snapshot) -> dict[str, Snapshot | None]:
    """Every state of the screen, made from a normal snapshot."""
    a = normal.assessment
    assert a is not None
    uncertain = Reason("edge_hidden", "60 % of the ice edge lies where ice hardly shows.")
    first = Phase(PhaseKind.FREEZE, 1, NOW - 402.0, NOW + 198.0)
    mismatch = Alarm(
        "patient_mismatch", Priority.HIGH, NOW, {"expected": "00412-7", "received": "00981-3"}
    )
    near = Alarm(
        "structure_near",
        Priority.HIGH,
        NOW,
        {"name": "colon", "distance_mm": "3.4", "at_least_mm": "2.1", "limit_mm": "5.0"},
        about="colon",
    )
    poor = Alarm("segmentation_poor", Priority.LOW, NOW, {"reason": "edge_hidden"})
    nothing = {
        "volume_id": None,
        "volume": None,
        "volume_geometry": None,
        "ice_sdf": None,
        "forecast_temperature": None,
        "forecast_band": None,
        "forecast_lowest": None,
        "dose": (),
        "forecast_grid": None,
        "forecast_times_utc_s": (),
        "forecast_edge_degc": None,
        "next_scan": None,
    }
    waiting = Phase(PhaseKind.WAITING, 0, None, None)
    no_numbers = {
        "lesion_covered": None,
        "margin_covered": None,
        "min_margin_mm": None,
        "min_margin_at_lps_mm": None,
        "margin_error_mm": None,
        "ice_volume_ml": None,
        "time_to_margin_s": None,
    }
    return {
        "normal": normal,
        "alarm": replace(normal, alarms=(near, poor)),
        "stale": replace(normal, assessment=replace(a, as_of_utc_s=NOW - 373.0)),
        # What is predicted is still of the CT before.
        "earlier_ct": replace(normal, assessment=replace(a, as_of_utc_s=NOW - 10.0)),
        "degraded": replace(
            normal,
            ice_edge_error_mm=1.8,
            alarms=(poor,),
            assessment=replace(
                a,
                status=Status.DEGRADED,
                reasons=(uncertain,),
                margin_error_mm=1.8,
                lesion_covered_interval=(0.882, 1.0),
                margin_covered_interval=(0.613, 0.91),
            ),
        ),
        "invalid": replace(
            normal,
            ice_sdf=None,
            alarms=(replace(poor, priority=Priority.MEDIUM),),
            assessment=replace(
                a,
                status=Status.INVALID,
                reasons=(Reason("needle_outside_scan", "The tip of needle 2 is outside."),),
                **no_numbers,
            ),
        ),
        "blocked": replace(normal, blocked=True, alarms=(mismatch,)),
        "baseline": replace(
            normal,
            ice_sdf=None,
            volume_id="v001",
            phase=waiting,
            phases=(),
            history=normal.history[:1],
            course=None,
            forecast_temperature=None,
            alarms=(Alarm("needles_unknown", Priority.LOW, NOW),),
            needles=(),
            assessment=replace(
                a,
                volume_id="v001",
                status=Status.INVALID,
                reasons=(Reason("baseline", "baseline"),),
                **no_numbers,
            ),
        ),
        "waiting": replace(
            normal,
            assessment=None,
            baseline_id=None,
            phase=waiting,
            phases=(),
            history=(),
            course=None,
            alarms=(Alarm("no_baseline", Priority.LOW, NOW),),
            **nothing,
        ),
        "thaw": replace(normal, phase=Phase(PhaseKind.THAW, 1, NOW - 62.0, NOW + 238.0)),
        "ended": replace(
            normal,
            phase=Phase(PhaseKind.ENDED, 2, NOW - 30.0, None),
            alarms=(Alarm("margin_reached", Priority.LOW, NOW, {"margin_mm": "5"}),),
            assessment=replace(a, lesion_covered=1.0, margin_covered=1.0, min_margin_mm=5.31),
        ),
        "replay": replace(normal, replay=Replayed(NOW - 640.0, 4.0, False, 3, 7), alarms=(near,)),
        "core_silent": normal,
        "no_core": None,
        "no_ice": replace(
            normal,
            phase=first,
            assessment=replace(
                a,
                lesion_covered=0.0,
                margin_covered=0.0,
                min_margin_mm=None,
                min_margin_at_lps_mm=None,
                ice_volume_ml=0.0,
                structures=(StructureDistance("colon", float("inf"), 5.0, float("inf")),),
                time_to_margin_s=(500.0, float("inf")),
            ),
        ),
    }
