"""What freezing, bleeding and injected saline do to the CT numbers. HU, plan coordinates, (z, y, x).

The CT number falls with the frozen share of the tissue's water: 85 HU in water, 50-75 in tissue,
about 10 in fat (data/tissues.toml); temperature below that does not show (Sandison 1998).
Invariant: where nothing froze, bled or was injected, the anatomy's numbers stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.bodies import body_level
from scanner_sim.frame import FloatArray, Frame, on_axes
from scanner_sim.freezing.heat import direction
from scanner_sim.patient.anatomy import Anatomy, Rough
from scanner_sim.scenario import Scenario, tissue_names

_CRACK_HU, _CRACK_HALF_MM = -130.0, 0.7


@dataclass(frozen=True)
class State:
    """The heat grid at one scan, on an even frame: frozen share of the freezable water,
    temperature, and how far lung has filled with blood; (z, y, x)."""

    frame: Frame
    fraction: npt.NDArray[np.float32]
    temperature_degc: npt.NDArray[np.float32]
    wet: npt.NDArray[np.float32]


def changed_hu(
    scenario: Scenario, anatomy: Anatomy, state: State, time_s: float
) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.float32]]:
    """The part of the anatomy around the ice, and its CT numbers now."""
    window = _window(anatomy.frame, state.frame)
    z, y, x = (a[w] for a, w in zip((anatomy.frame.z, anatomy.frame.y, anatomy.frame.x), window,
                                    strict=True))  # fmt: skip
    hu, label = anatomy.hu[window].copy(), anatomy.label[window]
    fraction = on_axes(state.fraction, state.frame, z, y, x)
    tissues = [scenario.tissues[t] for t in tissue_names()]
    drop = np.array([t.drop_hu for t in tissues], np.float32)[label]
    here = Frame(x, y, z)
    if state.wet.any():
        share = on_axes(state.wet, state.frame, z, y, x)
        hu, drop = _bled(scenario, hu, drop, label, share, here)
    for body in scenario.bodies:
        if 0 < body.appears_at_s <= time_s:
            inside = np.clip(0.5 - body_level(body)(*here.grid()) / 0.8, 0.0, 1.0)
            tissue = scenario.tissues[body.tissue]
            hu += inside * (tissue.hu + body.hu_offset - hu)
            drop += inside * (tissue.drop_hu - drop)
    hu -= drop * fraction
    if time_s >= scenario.ice.cracks_at_s:
        _crack(scenario, anatomy, hu, fraction, here)
    return window, hu.astype(np.float32)


def _window(frame: Frame, part: Frame) -> tuple[slice, slice, slice]:
    found = [
        slice(int(np.searchsorted(a, b[0])), int(np.searchsorted(a, b[-1], "right")))
        for a, b in zip((frame.z, frame.y, frame.x), (part.z, part.y, part.x), strict=True)
    ]
    return (found[0], found[1], found[2])


def _bled(
    scenario: Scenario, hu: FloatArray, drop: FloatArray, label: npt.NDArray[np.uint8],
    share: FloatArray, frame: Frame,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Ground glass to consolidation: blood between what air is left."""
    wet = scenario.tissues["lung_wet"]
    clots = Rough(1.0, scenario.seed + 11)(*frame.grid())
    share = share * (label == tissue_names().index("lung"))
    filled = hu + share * (wet.hu + wet.grain_hu * clots - hu)
    return filled, drop + share * (wet.drop_hu - drop)


def _crack(
    scenario: Scenario, anatomy: Anatomy, hu: FloatArray, fraction: FloatArray, frame: Frame
) -> None:
    """Thin sheets from the needle out through the ice, wandering a little."""
    rng = np.random.default_rng(scenario.seed + 5)
    x, y, z = frame.grid()
    depth = ndimage.distance_transform_edt(fraction >= 0.5, sampling=frame.spacing_mm[::-1])
    for number in range(scenario.ice.cracks):
        needle = anatomy.needles[number % len(anatomy.needles)]
        d = direction(needle)
        aside = np.cross(d, rng.normal(size=3))
        aside /= np.linalg.norm(aside)
        out = np.cross(d, aside)
        px, py, pz = (p - t for p, t in zip((x, y, z), needle.tip_lps_mm, strict=True))
        off = px * aside[0] + py * aside[1] + pz * aside[2]
        away = px * out[0] + py * out[1] + pz * out[2]
        along = px * d[0] + py * d[1] + pz * d[2]
        off = off + 0.8 * np.sin(away / 3.1) + 0.6 * np.sin(along / 4.3 + number)
        sheet = np.clip(1.5 - np.abs(off) / _CRACK_HALF_MM, 0.0, 1.0)
        inside = (away > 1.0) & (depth > 2.5) & (along > 0) & (along < 24.0)
        hu += (_CRACK_HU - hu) * sheet * inside
