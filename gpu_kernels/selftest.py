"""``iceball selftest``: an engine against fields that the reference engine computed once and that are
kept beside the code. °C, arrays (member, z, y, x).

Invariant: the golden fields come from the reference engine and nothing else: ``python -m
gpu_kernels.selftest`` writes them anew, and a test holds them to today's law.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Engine, FloatArray, Members, Needle, Problem, Tissue
from gpu_kernels.reference import ReferenceEngine

_ORGAN = Tissue("organ", 1060.0, 3600.0, 1900.0, 0.52, 2.0, 240e3, -8.0, -1.0, 4e-3, 900.0)
_FAT = Tissue("fat", 911.0, 2348.0, 1900.0, 0.21, 0.35, 50e3, -10.0, -2.0, 5e-4, 400.0)
_VESSEL = replace(_ORGAN, name="vessel", held_degc=((0.0, 37.0),))
_AIR = replace(_FAT, name="air", held_degc=((0.0, 22.0),), surface_h_w_m2k=15.0)
TIMES_S = (150.0, 205.0, 300.0)  # frozen, thawing, frozen again
MOST_RMS_DEGC = 0.3
MOST_ICE_OFF = 5e-3


@dataclass(frozen=True)
class Check:
    """One time of the self-test: root-mean-square difference from the golden field, and how far the
    worst member's ice volume is off, as a share."""

    time_s: float
    rms_degc: float
    ice_off: float

    @property
    def fine(self) -> bool:
        return self.rms_degc <= MOST_RMS_DEGC and self.ice_off <= MOST_ICE_OFF


def golden_problem() -> Problem:
    """Freeze, thaw, freeze in four tissues, three kinds of needle, two members."""
    shape = (20, 22, 24)
    z, y, x = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    label[x + 0.5 * y > 24] = 1
    label[(y - 5) ** 2 + (z - 6) ** 2 < 5] = 2
    label[y > 19] = 3
    table = (
        (0.0, 37.0), (30.0, -140.0), (150.0, -140.0), (150.0, float("nan")),
        (210.0, 0.0), (230.0, -140.0), (300.0, -140.0),
    )  # fmt: skip
    power = ((0.0, 350.0), (150.0, 350.0), (150.0, 0.0), (210.0, 0.0), (210.0, 350.0))
    needles = (
        Needle((-8.0, -3.0, -9.7), (0.0, 0.6, 0.8), 1.5, 18.0, table),
        Needle((7.1, 3.4, 8.2), (0.0, 0.0, -1.0), 2.4, 15.0, cooling_w_per_m=power),
        Needle((0.5, 6.0, 10.0), (0.0, 0.0, -1.0), 2.1, 12.0, cryogen_degc=table,
               h_w_m2k=((0.0, 3e3), (12.0, 6e3))),
    )  # fmt: skip
    return Problem(
        label,
        (_ORGAN, _FAT, _VESSEL, _AIR),
        (-23.0, -21.0, -19.0),
        (2.0, 2.0, 2.0),
        needles,
        members=Members((1.0, 1.7), (1.0, 0.8), (1.0, 1.1), (1.0, 0.8)),
        stasis_s=30.0,
    )


def check_engine(engine: Engine) -> list[Check]:
    """An engine at each golden time."""
    problem, golden = golden_problem(), _golden()
    state, checks = engine.initial(problem, 37.0), []
    for time_s, exact in zip(TIMES_S, golden, strict=True):
        state = engine.advance(problem, state, time_s)
        degc = engine.temperature_degc(problem, state)
        ice, exact_ice = _ice(problem, degc), _ice(problem, exact)
        rms = float(np.sqrt(np.mean((degc - exact) ** 2)))
        checks.append(Check(time_s, rms, float(np.abs(ice / exact_ice - 1.0).max())))
    return checks


def _ice(problem: Problem, degc: FloatArray) -> FloatArray:
    """(member,): the volume that is ice, in voxels, by the share of each one's freezable water."""
    low = np.array([t.solidus_degc for t in problem.tissues])[problem.label_zyx]
    high = np.array([t.liquidus_degc for t in problem.tissues])[problem.label_zyx]
    return np.asarray(np.clip((high - degc) / (high - low), 0.0, 1.0).sum((1, 2, 3)))


def _golden() -> npt.NDArray[np.float32]:
    """(time, member, z, y, x) °C."""
    data = (resources.files("gpu_kernels") / "golden.npz").read_bytes()
    with np.load(io.BytesIO(data)) as arrays:
        return np.asarray(arrays["temperature_degc"], np.float32)


def _write() -> None:
    engine, problem = ReferenceEngine(), golden_problem()
    state, fields = engine.initial(problem, 37.0), []
    for time_s in TIMES_S:
        state = engine.advance(problem, state, time_s)
        fields.append(engine.temperature_degc(problem, state).astype(np.float32))
    path = Path(__file__).with_name("golden.npz")
    np.savez_compressed(path, temperature_degc=np.stack(fields))


if __name__ == "__main__":
    _write()
