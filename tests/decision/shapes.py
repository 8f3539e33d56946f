"""Balls of ice, a lesion and structures whose distances are known. LPS mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from monitor.decision.assessment import Plan
from monitor.decision.bodies import Body, body
from monitor.geometry import Grid
from monitor.model import IceSegmentation, Role, Structure

GRID = Grid((-30.0, -30.0, -30.0), (1.0, 1.0, 1.0), (61, 61, 61))
FINE = Grid((-12.0, -12.0, -12.0), (0.5, 0.5, 0.5), (49, 49, 49))


def ball(grid: Grid, centre: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    distance = np.linalg.norm(grid.points_lps_mm() - np.array(centre), axis=-1) - radius_mm
    return distance.astype(np.float32)


def plan(margin_mm: float = 5.0, lesion_mm: float = 6.0) -> Plan:
    lesion = Structure("lesion", Role.LESION, FINE, ball(FINE, (0, 0, 0), lesion_mm))
    around = Structure("margin", Role.LESION, GRID, ball(GRID, (0, 0, 0), lesion_mm))
    near = Grid((12.0, -8.0, -8.0), (0.5, 0.5, 0.5), (33, 33, 33))
    far = Grid((40.0, -8.0, -8.0), (0.5, 0.5, 0.5), (33, 33, 33))
    bowel = Structure("bowel", Role.CRITICAL, near, ball(near, (20, 0, 0), 4.0), 5.0)
    nerve = Structure("nerve", Role.CRITICAL, far, ball(far, (48, 0, 0), 4.0), 5.0)
    return Plan(
        body(lesion), body(around, grow_mm=margin_mm), (body(bowel), body(nerve)), margin_mm
    )


PLAN = plan()


def ice(centre: tuple[float, float, float], radius_mm: float, **changes: object) -> IceSegmentation:
    made = IceSegmentation(
        "v002",
        100.0,
        GRID,
        ball(GRID, centre, radius_mm),
        np.ones(GRID.shape_zyx, bool),
        4 / 3 * np.pi * radius_mm**3 / 1000,
        0.5,
        0.9,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def pinned(name: str, *points: tuple[float, float, float], limit_mm: float = 5.0) -> Body:
    return Body(name, np.array(points, float).reshape(-1, 3), np.ones(len(points)), limit_mm)
