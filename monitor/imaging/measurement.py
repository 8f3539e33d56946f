"""Everything that one scan says: how the patient moved, where the needles are, where the ice is.

LPS mm, HU; fields on the analysis grid, which is fixed to the plan's tissue. Invariant: scan,
baseline and plan go in, never the forecast: a measurement that leaned on it could not correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.config import Config
from monitor.geometry import FloatArray, Grid
from monitor.imaging import motion
from monitor.imaging.motion import Template
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline, make_baseline, segment_ice
from monitor.model import CtVolume, IceSegmentation, NeedleLine


@dataclass(frozen=True)
class Reference:
    """The pre-freeze scan, prepared once for everything that later scans are compared with."""

    baseline: Baseline
    template: Template


@dataclass(frozen=True)
class Measurement:
    """``ice`` lives on the analysis grid, in the plan's frame; ``needles`` are in the scan's."""

    ice: IceSegmentation
    registration: Registration
    needles: tuple[NeedleLine, ...]


def make_reference(volume: CtVolume, grid: Grid, config: Config) -> Reference:
    """Prepares the baseline; ``grid`` is the analysis grid."""
    return Reference(
        make_baseline(volume, grid), motion.make_template(volume, grid, config.needles)
    )


def measure(
    volume: CtVolume,
    reference: Reference,
    config: Config,
    starts_mm: Sequence[FloatArray] = (),
) -> Measurement:
    """Measures a scan. Never raises on what a scanner may send: what cannot be measured comes back
    INVALID with the reason. ``starts_mm``: shifts worth trying first (that of the scan before)."""
    registration = motion.register(volume, reference.template, starts_mm)
    ice = segment_ice(
        volume,
        reference.baseline,
        config.needles,
        config.organ.expected_ice_drop_hu,
        registration,
    )
    needles = tuple(NeedleLine(n.number, n.tip_lps_mm, n.entry_lps_mm) for n in config.needles)
    return Measurement(ice, registration, needles)
