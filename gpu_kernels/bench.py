"""``iceball bench``: benchmark problem P1 on this machine, every engine, and a general-purpose peer.

P1: 96³ voxels of 1 mm, a needle of 2 × 2 voxels held over 30 mm, 37 → −140 °C in 60 s, 600 s of
freezing, walls at 37 °C. Times are medians of several runs in one process, so that ratios mean
something on a shared machine. SI units, °C, mm.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Engine, FloatArray, Members, Needle, Problem, Tissue
from gpu_kernels.peer import peer_available, run_peer

SOFT = Tissue("soft", 1050.0, 3600.0, 1900.0, 0.5, 2.0, 250e3, -8.0, -1.0, 5e-4, 0.0)
FREEZE = ((0.0, 37.0), (60.0, -140.0))
DURATION_S = 600.0
ISOTHERMS_DEGC = (0.0, -20.0, -40.0)
# A stage reads the field, the stage before, the start and its rate, and writes the next stage.
_BYTES_PER_UPDATE = 20


@dataclass(frozen=True)
class Row:
    """One line of the table. ``off_mm``: the largest difference of an isotherm's radius from the
    converged answer on this grid; ``share`` of the memory bandwidth; NaN where it means nothing."""

    case: str
    engine: str
    wall_s: float
    gvoxel_per_s: float = float("nan")
    share: float = float("nan")
    off_mm: float = float("nan")


def p1(voxels: int = 96, spacing_mm: float = 1.0) -> Problem:
    """Benchmark problem P1, or its like on another grid."""
    label = np.zeros((voxels,) * 3, np.uint8)
    c, wide, long = voxels // 2, round(1.0 / spacing_mm), round(15.0 / spacing_mm)
    label[c - long : c + long, c - wide : c + wide, c - wide : c + wide] = 1
    held = replace(SOFT, name="needle", held_degc=FREEZE)
    low_mm = -0.5 * (voxels - 1) * spacing_mm
    return Problem(label, (SOFT, held), (low_mm,) * 3, (spacing_mm,) * 3, ())


def layered() -> Problem:
    """P1 in an abdominal wall: skin, fat, two muscles, a lesion, bone and bowel."""
    problem = p1()
    z, y, x = np.indices(problem.label_zyx.shape)
    bodies = (
        ((y < 8), 0.37, 2e-3),
        ((y >= 8) & (y < 30 + 3 * np.sin(x / 9.0)), 0.21, 5e-4),
        ((y >= 60 + 4 * np.cos(z / 11.0)), 0.5, 7e-4),
        ((x - 48) ** 2 + (y - 45) ** 2 + (z - 48) ** 2 < 15**2, 0.39, 6e-4),
        ((x - 20) ** 2 + (y - 50) ** 2 < 36, 0.32, 3e-4),
        ((x - 75) ** 2 + (y - 70) ** 2 < 144, 0.53, 8e-3),
    )
    label, tissues = problem.label_zyx.copy(), list(problem.tissues)
    for inside, k, perfusion in bodies:
        label[inside & (label != 1)] = len(tissues)
        tissues.append(replace(SOFT, k_unfrozen_w_m_k=k, perfusion_per_s=perfusion))
    return replace(problem, label_zyx=label, tissues=tuple(tissues))


def forecast(members: int = 1, voxels: int = 48) -> Problem:
    """One needle on a 2 mm grid; members differ in every parameter."""
    low_mm = -(voxels - 1.0)
    needle = Needle((0.0, 0.0, -15.0), (0.0, 0.0, 1.0), 1.5, 30.0, FREEZE)
    rng = np.random.default_rng(7)
    drawn = rng.lognormal(0.0, 0.2, (4, members)) if members > 1 else np.ones((4, 1))
    return Problem(
        np.zeros((voxels,) * 3, np.uint8),
        (SOFT,),
        (low_mm,) * 3,
        (2.0,) * 3,
        (needle,),
        members=Members(*(tuple(float(v) for v in row) for row in drawn)),
    )


def radii_mm(problem: Problem, degc: FloatArray) -> list[float]:
    """Where the isotherms cross the x axis through the middle, mm from the needle's axis."""
    n = degc.shape[0]
    c = n // 2
    x_mm = problem.origin_mm[0] + np.arange(n) * problem.spacing_mm[0]
    profile = degc[c - 1 : c + 1, c - 1 : c + 1].mean((0, 1))
    return [float(np.interp(v, profile[c:], x_mm[c:])) for v in ISOTHERMS_DEGC]


def run_bench(engines: list[Engine], say: Callable[[str], None], runs: int = 5) -> dict[str, Any]:
    """Runs everything; returns what ``--json`` writes."""
    problem = p1()
    converged = converged_radii_mm(problem)
    bandwidth = triad_gb_per_s()
    say(f"memory bandwidth {bandwidth:.0f} GB/s; converged radii {_shown(converged)} mm")
    rows = []
    for engine in engines:
        rows += _engine_rows(engine, problem, converged, bandwidth, runs)
    if peer_available():
        for case, harmonic in (("P1, harmonic means", True), ("P1, our heat potential", False)):
            seconds, degc = run_peer(problem, DURATION_S, runs=3, harmonic=harmonic)
            row = _row(case, "devito", seconds, problem, degc, converged)
            rows.append(replace(row, off_mm=float("nan")) if harmonic else row)
    else:
        say("devito is not installed: no peer (pip install devito)")
    return {
        "machine": {"processor": platform.processor() or platform.machine(),
                    "cores": len(os.sched_getaffinity(0)), "triad_gb_per_s": bandwidth},
        "converged_mm": converged,
        "rows": [asdict(r) for r in rows],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def scaling(engine: Engine, runs: int = 3) -> dict[str, list[dict[str, float]]]:
    """Wall time over grid and ensemble sizes."""
    grids = [
        {"voxels": n, "wall_s": _median(engine, forecast(voxels=n), runs)}
        for n in (24, 32, 48, 64, 96, 128)
    ]
    members = [
        {"members": m, "wall_s": _median(engine, forecast(m), runs)}
        for m in (1, 2, 4, 8, 16, 32, 64)
    ]
    return {"grids": grids, "members": members}


def converged_radii_mm(problem: Problem) -> list[float]:
    """With an eighth of the steps' error target and every voxel computed."""
    engine = CpuEngine(whole=True, most_latent=0.05)
    state = engine.advance(problem, engine.initial(problem, 37.0), DURATION_S)
    return radii_mm(problem, engine.temperature_degc(problem, state)[0])


def _engine_rows(
    engine: Engine, problem: Problem, converged: list[float], bandwidth: float, runs: int
) -> list[Row]:
    if engine.name == "reference":
        return [_reference_row(engine)]
    seconds = _median(engine, problem, runs)
    state = engine.advance(problem, engine.initial(problem, 37.0), DURATION_S)
    rate = engine.work.voxel_updates / seconds / 1e9
    degc = engine.temperature_degc(problem, state)[0]
    rows = [replace(_row("P1", engine.name, seconds, problem, degc, converged), gvoxel_per_s=rate)]
    if isinstance(engine, CpuEngine):
        whole = CpuEngine(whole=True)
        seconds = _median(whole, problem, runs)
        rate = whole.work.voxel_updates / seconds / 1e9
        share = rate * _BYTES_PER_UPDATE / bandwidth
        rows.append(Row("P1, every voxel all the time", engine.name, seconds, rate, share))
    for case, other in (
        ("P1 in seven tissues", layered()),
        ("2 mm, 48³, 10 min", forecast()),
        ("2 mm, 48³, 10 min, 64 members", forecast(64)),
    ):
        seconds = _median(engine, other, runs)
        rows.append(Row(case, engine.name, seconds, engine.work.voxel_updates / seconds / 1e9))
    return rows


def _reference_row(engine: Engine) -> Row:
    """Two seconds of P1: all 600 would take a quarter of an hour."""
    problem = p1()
    state = engine.initial(problem, 37.0)
    started = time.perf_counter()
    engine.advance(problem, state, 2.0)
    seconds = time.perf_counter() - started
    rate = engine.work.voxel_updates / seconds / 1e9
    return Row("P1, extrapolated", engine.name, seconds * DURATION_S / 2.0, rate)


def _row(
    case: str,
    name: str,
    seconds: float,
    problem: Problem,
    degc: FloatArray,
    converged: list[float],
) -> Row:
    off = np.abs(np.array(radii_mm(problem, degc)) - converged).max()
    return Row(case, name, seconds, off_mm=float(off))


def _median(engine: Engine, problem: Problem, runs: int) -> float:
    """Seconds of ten minutes' freezing, after a first run."""
    state = engine.initial(problem, 37.0)
    engine.advance(problem, state, 5.0)
    return statistics.median(_seconds(engine, problem, state) for _ in range(runs))


def _seconds(engine: Engine, problem: Problem, state: Any) -> float:
    started = time.perf_counter()
    engine.advance(problem, state, DURATION_S)
    return time.perf_counter() - started


@njit(nogil=True, fastmath=True)
def _triad(a: Any, b: Any, c: Any, scale: Any) -> None:  # pragma: no cover - compiled
    for i in range(a.size):
        a[i] = b[i] + scale * c[i]


def triad_gb_per_s(megabytes: int = 240) -> float:
    """What all cores together move between memory and registers: a ← b + s·c over arrays that no
    cache holds. P1 itself fits in a large last-level cache and may exceed it."""
    workers = len(os.sched_getaffinity(0))
    size = megabytes * 1_000_000 // 12 // workers
    parts = [[np.ones(size, np.float32) for _ in range(3)] for _ in range(workers)]
    scale = np.float32(0.5)
    _triad(parts[0][0][:8], parts[0][1][:8], parts[0][2][:8], scale)
    best = np.inf
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(20):
            started = time.perf_counter()
            list(pool.map(lambda p: [_triad(p[0], p[1], p[2], scale) for _ in range(4)], parts))
            best = min(best, (time.perf_counter() - started) / 4)
    return 12.0 * size * workers / best / 1e9


def table(result: dict[str, Any]) -> str:
    """The rows as text."""
    lines = [
        f"{'case':31} {'engine':10} {'wall s':>8} {'Gvoxel/s':>9} {'bandwidth':>9} {'off mm':>7}"
    ]
    for r in result["rows"]:
        numbers = (f"{r['wall_s']:8.3f}", _or_dash(r["gvoxel_per_s"], "9.2f"),
                   _or_dash(100 * r["share"], "8.0f") + ("%" if r["share"] == r["share"] else " "),
                   _or_dash(r["off_mm"], "7.3f"))  # fmt: skip
        lines.append(f"{r['case']:31} {r['engine']:10} {' '.join(numbers)}")
    walls = {(r["case"], r["engine"]): r["wall_s"] for r in result["rows"]}
    ours, seven = walls.get(("P1", "cpu")), walls.get(("P1 in seven tissues", "cpu"))
    for case, seconds in ((c, s) for (c, name), s in walls.items() if name == "devito" and ours):
        lines.append(f"cpu is {seconds / ours:.1f} times as fast as devito ({case})")
    if ours and seven:
        lines.append(f"seven tissues cost {seven / ours:.2f} times one")
    return "\n".join(lines)


def _or_dash(value: float, how: str) -> str:
    width = int(how.split(".")[0])
    return format(value, how) if value == value else "–".rjust(width)


def _shown(values: list[float]) -> str:
    return " ".join(f"{v:.3f}" for v in values)
