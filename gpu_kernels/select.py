"""Which engine runs. Invariant: the choice is said (``engine.why``) and never changed in silence."""

from __future__ import annotations

import numpy as np

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import CHOICES, Engine, EngineUnavailable, Needle, Problem, Tissue
from gpu_kernels.gpu import GpuEngine
from gpu_kernels.reference import ReferenceEngine
from gpu_kernels.stepping import MOST_LATENT

__all__ = ["CHOICES", "open_engine", "warm_up"]


def open_engine(choice: str, most_latent: float = MOST_LATENT) -> Engine:
    """The engine by name; ``engine.why`` says why this one. ``auto`` takes the GPU where there is
    one, else the CPU. ``most_latent`` is the error target of all but the reference. Raises
    ``EngineUnavailable`` when the one asked for cannot run here."""
    if choice == "auto":
        try:
            return GpuEngine(why="auto: a CUDA device is there", most_latent=most_latent)
        except EngineUnavailable as error:
            why = f"auto: {error}, so the CPU engine runs"
            return CpuEngine(why=why, most_latent=most_latent)
    if choice == "cpu":
        return CpuEngine(most_latent=most_latent)
    if choice == "reference":
        return ReferenceEngine()
    if choice == "gpu":
        return GpuEngine(most_latent=most_latent)
    raise EngineUnavailable(f"engine {choice!r}: expected one of {', '.join(CHOICES)}")


def warm_up(engine: Engine) -> None:
    """Compiles whatever the engine compiles, on a problem of a few voxels."""
    tissue = Tissue("warm-up", 1000.0, 3600.0, 1800.0, 0.5, 2.0, 250e3, -8.0, -1.0, 5e-4, 500.0)
    needle = Needle(
        (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 1.5, 6.0, ((0.0, -140.0), (10.0, float("nan")))
    )
    problem = Problem(
        np.zeros((8, 8, 8), np.uint8), (tissue,), (-8.0, -8.0, -8.0), (2.0, 2.0, 2.0), (needle,)
    )
    engine.advance(problem, engine.initial(problem, 37.0), 5.0)
