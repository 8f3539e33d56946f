"""Ice of two needles, the second a weak one, grown by the engine itself: something to learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Members, Needle, Problem, Tissue
from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.model import IceSegmentation
from monitor.prediction import ensemble
from monitor.prediction.learning import Settings
from monitor.prediction.reading import ice_of
from monitor.prediction.stopping import Stopped, halted

GRID = Grid((-30.0, -30.0, -30.0), (3.0, 3.0, 3.0), (21, 21, 21))
TISSUE = Tissue("soft", 1050.0, 3600.0, 1900.0, 0.5, 2.0, 250e3, -8.0, -1.0, 1e-3, 500.0)
ENGINE = CpuEngine()
# The blood is as warm as it is thought to be, and the scans lie where the plan does.
PRIOR = ensemble.Prior(
    cooling=((-0.3, 0.3),) * 2,
    perfusion=(0.0, 0.5),
    latent_heat=(0.0, 0.12),
    k_frozen=(0.0, 0.12),
    blood_degc=(0.0, 0.0),
    members=16,
)
STILL = Settings(registration_mm=0.0)


def problem(members: Members) -> Problem:
    table = ((0.0, 37.0), (30.0, -140.0))
    needles = tuple(Needle((x, 0.0, -10.0), (0.0, 0.0, 1.0), 1.5, 20.0, table) for x in (-7.0, 7.0))
    return Problem(
        np.zeros(GRID.shape_zyx, np.uint8), (TISSUE,), GRID.origin_lps_mm, GRID.spacing_mm,
        needles, members=members,
    )  # fmt: skip


TRUTH = Members((1.8,), (1.0,), (1.0,), ((0.75, 0.4),))


def true_ice(
    at_s: float,
    number: int,
    stopped: Stopped = (np.inf, np.inf),
    of: Callable[[Members], Problem] = problem,
) -> IceSegmentation:
    p = halted(of(TRUTH), stopped)
    state = ENGINE.advance(p, ENGINE.initial(p, 37.0), at_s)
    sdf = signed_distance_mm(0.5 - ice_of(p, state, ENGINE)[0], GRID)
    known = np.ones(GRID.shape_zyx, bool)
    return IceSegmentation(f"v{number}", at_s, GRID, sdf, known, 1.0, 0.4, 1.0)
