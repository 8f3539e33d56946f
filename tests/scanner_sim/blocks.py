"""Scenarios small enough to test with, and tissue without an anatomy. LPS mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scanner_sim import scenario as scenarios
from scanner_sim.bodies import ellipsoid
from scanner_sim.frame import Frame
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.scenario import Scenario, tissue_names

AWE = "abdominal_wall_endometriosis"


def small(name: str, **scanner: object) -> Scenario:
    """A scenario whose images have 128² pixels and 12 slices of 5 mm."""
    s = scenarios.load(name)
    coarse = {"matrix": 128, "slices": 12, "thickness_mm": 5.0, **scanner}
    return replace(s, scanner=replace(s.scanner, **coarse))


def block(scenario: Scenario, tissue: str, around_mm: float = 80.0) -> Anatomy:
    """One tissue and nothing else around the scenario's needles; its lesion is outlined only."""
    axes = [np.arange(-around_mm, around_mm + 1, 4.0) + c for c in scenario.lesion.centre_lps_mm]
    frame = Frame(*axes)
    label = np.full(frame.shape, tissue_names().index(tissue), np.uint8)
    lesion = ellipsoid(scenario.lesion.centre_lps_mm, scenario.lesion.semi_axes_mm)
    hu = np.full(frame.shape, scenario.tissues[tissue].hu, np.float32)
    return Anatomy(frame, lesion, scenario.lesion.centre_lps_mm, {}, scenario.needles, hu, label)


def nearest_voxel(frame: Frame, point_lps_mm: Sequence[float]) -> tuple[int, int, int]:
    """Its (z, y, x) index."""
    x, y, z = (
        int(np.argmin(np.abs(axis - c)))
        for axis, c in zip((frame.x, frame.y, frame.z), point_lps_mm, strict=True)
    )
    return (z, y, x)
