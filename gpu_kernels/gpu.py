"""The GPU engine: cupy, the kernels of ``cuda/bioheat.cu``, RKL2. SI units, °C, (member, z, y, x).

Python decides between steps, the device computes them: a step costs one small upload (how needles and
held bodies are driven in its stages) and one small download (how fast the field changes, by blocks).
All members take the same steps; heat is computed in the box that it has reached.
Invariant: same answer as the reference engine within the parity tests' tolerance.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.engine import EngineUnavailable, FloatArray, History, Problem, State, Work
from gpu_kernels.fields import (
    fraction_of,
    held_enthalpy,
    initial_state,
    own_companions,
    start_enthalpy,
    temperature_of,
)
from gpu_kernels.needles import (
    breakpoints_s,
    drive,
    driven_at,
    may_change,
    shafts,
    sink_per_s,
    touched,
)
from gpu_kernels.stepping import (
    MOST_LATENT,
    SAME_S,
    STILL_DEGC,
    diffusivities_m2_s,
    next_change,
    per_latent,
    reach_m,
    step_s,
)

_WARP = 32
_BLOCK = (_WARP, 8, 1)
_CHUNK = 16  # planes that a thread marches through
_MOST_BLOCKS_Z = 65535
_MOST_TISSUES = 32
_KERNELS = (
    "rate_of", "survey", "first_stage", "stage", "piece_heat", "draw", "remember", "settle",
)  # fmt: skip


def kernel_source() -> str:
    """The kernels' text."""
    return (resources.files("gpu_kernels") / "cuda" / "bioheat.cu").read_text(encoding="utf-8")


def compile_options(real: npt.DTypeLike) -> tuple[str, ...]:
    """What the kernels are compiled with, beside what cupy adds."""
    return (f"-DREAL={'float' if np.dtype(real) == np.float32 else 'double'}",)


def open_cupy() -> Any:
    """cupy with a device. Raises ``EngineUnavailable`` saying what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise EngineUnavailable(f"engine gpu: cupy is not installed ({error})") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        # cupy's own error types need a driver to be told apart; any of them means no device.
        raise EngineUnavailable(f"engine gpu: no CUDA device ({error})") from None
    if count < 1:
        raise EngineUnavailable("engine gpu: no CUDA device")
    return cupy


class GpuEngine:
    """RKL2 on a CUDA device; ``real`` is float32, or float64 for parity tests."""

    name = "gpu"

    def __init__(
        self,
        why: str = "asked for by name",
        real: npt.DTypeLike = np.float32,
        most_latent: float = MOST_LATENT,
    ) -> None:
        self.cupy = open_cupy()
        self.why, self.real, self.most_latent = why, np.dtype(real), most_latent
        self.work = Work(0, 0, 0)
        module = self.cupy.RawModule(code=kernel_source(), options=compile_options(real))
        self.kernels = {name: module.get_function(name) for name in _KERNELS}
        self.stream = self.cupy.cuda.Stream(non_blocking=True)

    def initial(
        self,
        problem: Problem,
        temperature_degc: float | FloatArray,
        time_s: float = 0.0,
        history: bool = False,
    ) -> State:
        return initial_state(problem, temperature_degc, time_s, history, self.real)

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        start = start_enthalpy(problem, state, until_s, self.real)
        back_s, past = own_companions(problem, state)
        with self.stream:
            run = _Run(self, problem, start, back_s, past, state.time_s)
            run.to(until_s)
            h, back_s, past = run.result()
        self.work = run.work
        if not all(np.isfinite(member).all() for member in h):
            raise FloatingPointError("gpu engine: the enthalpy is no longer finite")
        return State(until_s, h, back_s, past)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state, np.float32)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state, np.float32)


@dataclass(frozen=True)
class Box:
    """Voxels from (x0, y0, z0) up to, not including, (x1, y1, z1); x0 is a warp's first."""

    x0: int
    x1: int
    y0: int
    y1: int
    z0: int
    z1: int

    def joined(self, other: Box) -> Box:
        """The smallest box around both."""
        low = {n: min(getattr(self, n), getattr(other, n)) for n in ("x0", "y0", "z0")}
        high = {n: max(getattr(self, n), getattr(other, n)) for n in ("x1", "y1", "z1")}
        return Box(**low, **high)

    @property
    def voxels(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0) * (self.z1 - self.z0)


class _Constants:
    """What a problem's run needs on the device, and on the host to decide."""

    def __init__(self, engine: GpuEngine, problem: Problem) -> None:
        xp, real = engine.cupy, engine.real
        if len(problem.tissues) > _MOST_TISSUES:
            raise ValueError(
                f"tissues: the GPU engine takes {_MOST_TISSUES} at most, got {len(problem.tissues)}"
            )
        self.problem, self.table = problem, law.table(problem)
        self.shafts = shafts(problem)
        sinks = sink_per_s(problem, self.table, self.shafts)
        self.euler_s = 0.95 * law.stable_step_s(problem, self.table, sinks)
        self.diffusivity_m2_s = float(diffusivities_m2_s(self.table)[1])
        self.folds = law.folded(problem, self.table)
        self.label = xp.asarray(pitched(problem.label_zyx))
        self.par = xp.asarray(_parameters(problem, self.table, self.folds).astype(real))
        self.surface = xp.asarray(_surfaces(problem).astype(real))
        self._sinks(xp, real)

    def _sinks(self, xp: Any, real: np.dtype[Any]) -> None:
        s, problem = self.shafts, self.problem
        by_voxel = touched(s)
        nx, pitch = problem.label_zyx.shape[2], pitch_of(problem.label_zyx.shape[2])
        cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
        integers = {
            "start": s.start,
            "voxel": s.voxel // nx * pitch + s.voxel % nx,
            "needle": s.needle,
            "kind": [drive(n).kind for n in problem.needles],
            "touched": by_voxel.voxel // nx * pitch + by_voxel.voxel % nx,
            "touched_start": by_voxel.start,
            "touched_piece": by_voxel.piece,
        }
        reals = {
            "weight": s.weight,
            "shape": s.shape,
            "strength": s.metre / cell_m3,
            "contact": s.contact_w_m_k,
            "share": s.tissue,
            "cooling": problem.members.cooling_by_needle(len(problem.needles))[:, s.needle],
            "touched_weight": by_voxel.weight,
            "free": may_change(problem, by_voxel.voxel),
        }
        self.pieces, self.touched_count = len(s.needle), len(by_voxel.voxel)
        self.touched_voxel = by_voxel.voxel
        self.sinks = {n: xp.asarray(np.ascontiguousarray(v, np.int32)) for n, v in integers.items()}
        self.sinks |= {n: xp.asarray(np.ascontiguousarray(v, real)) for n, v in reals.items()}


class _Run:
    """One ``advance``: fields on the device, and what is decided between steps."""

    def __init__(
        self,
        engine: GpuEngine,
        problem: Problem,
        start: FloatArray,
        back_s: npt.NDArray[np.float32] | None,
        past: History | None,
        from_s: float,
    ) -> None:
        xp = self.xp = engine.cupy
        self.engine, self.problem, self.from_s = engine, problem, from_s
        self.k = _Constants(engine, problem)
        self.members, self.nz, self.ny, self.nx = start.shape
        self.h = xp.asarray(pitched(start))
        self.a, self.b = self.h.copy(), self.h.copy()
        self.rate = xp.zeros_like(self.h)
        nothing = np.zeros(1, np.float32)
        self.back = xp.asarray(nothing if back_s is None else pitched(back_s))
        self.has_back = back_s is not None
        opened = nothing if back_s is None else (from_s >= pitched(back_s))
        self.open = xp.asarray(opened.astype(engine.real))
        self.has_past = past is not None
        fields = list(vars(past)) if past is not None else []
        empty = [nothing, nothing, nothing, np.zeros(1, np.uint8)]
        values = [pitched(getattr(past, n)) for n in fields] if fields else empty
        self.past = [xp.asarray(v) for v in values]
        self.box = self.everything
        self.work = Work(0, 0, 0)
        self.peak = self.flow = np.zeros((0, 0, 0))

    @property
    def everything(self) -> Box:
        return Box(0, self.nx, 0, self.ny, 0, self.nz)

    def to(self, until_s: float) -> None:
        """Steps until a time."""
        time_s, tau = self.from_s, 1.0
        changes = breakpoints_s(self.problem)
        while until_s - time_s > SAME_S:
            fastest = self._rate(time_s)
            still_degc_s = STILL_DEGC / max(tau, 1.0)
            end_s, since_s = next_change(changes, time_s, until_s)
            tau = step_s(time_s, end_s, since_s, fastest, self.k.euler_s, np.inf,
                         self.engine.most_latent)  # fmt: skip
            first = self.work.steps == 0
            reach = reach_m(tau, self.k.diffusivity_m2_s, first)
            reached = self._reached(still_degc_s, reach)
            if first:
                self.box = self._seeds(reach).joined(reached) if reached else self._seeds(reach)
            count = law.stages_for(tau, self.k.euler_s)
            self._stages(time_s, tau, law.rkl2(count))
            time_s += tau
            self._remember(time_s, tau)
            self.h, self.a = self.a, self.h
            updates = self.work.voxel_updates + count * self.members * self.box.voxels
            self.work = Work(self.work.steps + 1, self.work.stages + count, updates)
            if reached:
                self._grow(self.box.joined(reached), time_s)
        self._grow(self.everything, until_s)

    def result(
        self,
    ) -> tuple[FloatArray, npt.NDArray[np.float32] | None, History | None]:
        """The fields, on the host."""
        past = History(*(self._host(p) for p in self.past)) if self.has_past else None
        return self._host(self.h), self._host(self.back) if self.has_back else None, past

    def _host(self, field: Any) -> npt.NDArray[Any]:
        return np.ascontiguousarray(field.get()[..., : self.nx])

    # -------------------------------------------------------------- launches

    def _over(self, name: str, box: Box, *args: Any) -> tuple[int, int, int]:
        """A kernel over a box; returns its grid."""
        chunk = _CHUNK
        while -(-(box.z1 - box.z0) // chunk) * self.members > _MOST_BLOCKS_Z:
            chunk *= 2
        chunks = -(-(box.z1 - box.z0) // chunk)
        grid = (-(-(box.x1 - box.x0) // _WARP), -(-(box.y1 - box.y0) // _BLOCK[1]),
                chunks * self.members)  # fmt: skip
        sizes = (self.nz, self.ny, self.nx, pitch_of(self.nx), self.problem.boundary == "fixed")
        edges = (box.x0, box.x1, box.y0, box.y1, box.z0, box.z1, chunk)
        self._launch(name, grid, _BLOCK, *args, *sizes, *edges)
        return grid

    def _launch(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        """Numbers go as the kernels take them: int32, ``real``, or as they are where they have a
        NumPy type. A Python number would go as 64 bits and be read as garbage."""
        typed = [self._typed(a) for a in args]
        self.engine.kernels[name](grid, block, tuple(typed), stream=self.engine.stream)

    def _typed(self, value: Any) -> Any:
        if isinstance(value, bool | int):
            return np.int32(value)
        if type(value) is not float:
            return value
        return np.float64(value) if self.engine.real == np.float64 else np.float32(value)

    @functools.cached_property
    def _per_square(self) -> tuple[float, float, float]:
        x, y, z = ((1e3 / d) ** 2 for d in self.problem.spacing_mm)
        return x, y, z

    @property
    def _tissues(self) -> int:
        return len(self.problem.tissues)

    @property
    def _voxels(self) -> np.int64:
        return np.int64(self.nz * self.ny * pitch_of(self.nx))

    # -------------------------------------------------------------- a step

    def _rate(self, time_s: float) -> float:
        """∂H/∂t of the field; returns its largest size per latent heat."""
        k = self.k
        held = self._device(self._held(time_s))
        self._heat(self.h, *self._driven([time_s]))
        self._over("rate_of", self.box, self.h, self.rate, k.label, k.par, k.surface, held,
                   self.open, self.has_back, self._tissues, *self._per_square)  # fmt: skip
        self._draw(self.rate, 1.0)
        blocks = self.members * -(-self.nx // _WARP) * -(-self.ny // _BLOCK[1]) * self.nz
        peak, flow = (self.xp.zeros(blocks, self.engine.real) for _ in range(2))
        grid = self._over("survey", self.box, self.h, self.rate, k.label, k.par, self.open,
                          self.has_back, self._tissues, peak, flow)  # fmt: skip
        count = int(np.prod(grid))
        by_block = (self.members, -1, grid[1], grid[0])
        self.flow = flow[:count].get().reshape(by_block).max(0)
        self.peak = peak[:count].get().reshape(by_block).max(0)
        return float(self.peak.max())

    def _reached(self, still_degc_s: float, reach: float) -> Box | None:
        """The blocks in which heat flows, with a margin."""
        z, y, x = np.nonzero(self.flow > still_degc_s)
        if not len(z):
            return None
        b = self.box
        planes = -(-(b.z1 - b.z0) // len(self.flow))
        chunk = _CHUNK * -(-planes // _CHUNK)
        return self._inside(
            Box(
                b.x0 + int(x.min()) * _WARP,
                b.x0 + int(x.max() + 1) * _WARP,
                b.y0 + int(y.min()) * _BLOCK[1],
                b.y0 + int(y.max() + 1) * _BLOCK[1],
                b.z0 + int(z.min()) * chunk,
                b.z0 + int(z.max() + 1) * chunk,
            ),
            reach,
        )

    def _inside(self, box: Box, reach: float) -> Box:
        """A box and ``reach`` metres around it, within the grid, from a warp's first voxel on."""
        e = self.everything
        mx, my, mz = (1 + int(1e3 * reach / d) for d in self.problem.spacing_mm)
        return Box(
            max(box.x0 - mx, 0) // _WARP * _WARP,
            min(box.x1 + mx, e.x1),
            max(box.y0 - my, 0),
            min(box.y1 + my, e.y1),
            max(box.z0 - mz, 0),
            min(box.z1 + mz, e.z1),
        )

    def _seeds(self, reach: float) -> Box:
        """Where needles and bodies whose temperature changes are; one voxel where there are none."""
        moving = [len(t.held_degc) > 1 for t in self.problem.tissues]
        seeds = np.array(moving)[self.problem.label_zyx]
        seeds.reshape(-1)[self.k.touched_voxel] = True
        if not seeds.any():
            return self._inside(Box(0, 1, 0, 1, 0, 1), reach)
        found = np.argwhere(seeds)
        z, y, x = (int(v) for v in found.min(0))
        z1, y1, x1 = (int(v) + 1 for v in found.max(0))
        return self._inside(Box(x, x1, y, y1, z, z1), reach)

    def _stages(self, time_s: float, tau: float, c: law.Stages) -> None:
        k = self.k
        count = len(c.mu)
        values, duties = self._driven(list(time_s + tau * c.at))
        ends_s = time_s + tau * np.append(c.at, 1.0)
        held = self._device(np.stack([self._held(float(t)) for t in ends_s]))
        self._over("first_stage", self.box, self.h, self.rate, self.a, self.b, k.label, held[0],
                   self._tissues, float(c.first * tau))  # fmt: skip
        for j in range(count):
            now = float(c.rate[j] * tau)
            self._heat(self.a, values, duties, j)
            self._over("stage", self.box, self.a, self.b, self.h, self.rate, k.label, k.par,
                       k.surface, held[j + 1], self.open, self.has_back, self._tissues,
                       *self._per_square, float(c.mu[j]), float(c.nu[j]), now,
                       float(c.rate0[j] * tau))  # fmt: skip
            self._draw(self.b, now)
            self.a, self.b = self.b, self.a

    def _heat(self, h: Any, values: Any, duties: Any, stage: int = 0) -> None:
        """What the pieces of the needles draw, into ``heat``."""
        k, s = self.k, self.k.sinks
        if not k.pieces:
            return
        self.heat = self.xp.empty((self.members, k.pieces), self.engine.real)
        self._launch("piece_heat", (k.pieces, self.members), (128,), h, k.label, k.par, s["start"],
                     s["voxel"], s["weight"], s["needle"], s["kind"], values[stage], duties[stage],
                     s["cooling"], s["shape"], s["strength"], s["contact"], s["share"], self.heat,
                     k.pieces, self._tissues, self._voxels)  # fmt: skip

    def _draw(self, out: Any, scale: float) -> None:
        k, s = self.k, self.k.sinks
        if k.pieces:
            grid = (-(-k.touched_count // 128), self.members)
            self._launch("draw", grid, (128,), out, self.heat, s["touched"], s["touched_start"],
                         s["touched_piece"], s["touched_weight"], s["free"], scale,
                         k.touched_count, k.pieces, self._voxels)  # fmt: skip

    def _driven(self, times_s: list[float]) -> tuple[Any, Any]:
        """(time, needle): the value of each needle's table, and its duty."""
        per_needle = [[driven_at(n, t) for n in self.problem.needles] for t in times_s]
        table = np.array(per_needle, float).reshape(len(times_s), -1, 2)
        return self._device(table[..., 0]), self._device(table[..., 1])

    def _held(self, time_s: float) -> FloatArray:
        """(member, tissue): the enthalpy of bodies of given temperature, NaN for tissue."""
        table = np.full((self.members, self._tissues), np.nan)
        for label, h in held_enthalpy(self.problem, self.k.table, time_s).items():
            table[:, label] = h
        return table

    def _device(self, table: FloatArray) -> Any:
        return self.xp.asarray(np.ascontiguousarray(table, self.engine.real))

    # -------------------------------------------------------------- between steps

    def _remember(self, time_s: float, tau: float) -> None:
        if self.has_back or self.has_past:
            k = self.k
            self._over("remember", self.box, self.h, self.a, k.label, k.par, self._tissues,
                       np.float32(time_s), np.float32(tau), np.float32(self.problem.stasis_s),
                       self.has_back, self.back, self.open, self.has_past, *self.past)  # fmt: skip

    def _grow(self, box: Box, time_s: float) -> None:
        """Takes the box further; what blood did there since the start is made up for."""
        if box == self.box:
            return
        k, inner = self.k, self.box
        one, two, three = (k.folds[..., i] for i in (5, 6, 7))
        latent, lasting_s = k.folds[..., 0], time_s - self.from_s
        gain = one - two * latent
        flows = three > 0.0
        keep = np.where(flows, np.exp(-lasting_s * latent * three), 1.0)
        rest = np.where(flows, gain / np.where(flows, three, 1.0), lasting_s * latent * gain)
        edges = (inner.x0, inner.x1, inner.y0, inner.y1, inner.z0, inner.z1)
        held = self._device(self._held(time_s))
        self._over("settle", box, self.h, k.label, k.par, self._device(keep), self._device(rest),
                   held, self.open, self.has_back, self._tissues, *edges)  # fmt: skip
        self.box = box


def pitch_of(nx: int) -> int:
    """Voxels a row takes in memory: whole warps."""
    return -(-nx // _WARP) * _WARP


def pitched(field: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(…, x) with rows of ``pitch_of`` voxels, filled with each row's last."""
    extra = pitch_of(field.shape[-1]) - field.shape[-1]
    return np.ascontiguousarray(
        np.pad(field, [(0, 0)] * (field.ndim - 1) + [(0, extra)], mode="edge")
    )


def _parameters(problem: Problem, p: law.Table, folds: FloatArray) -> FloatArray:
    """(member, tissue, 16), as ``bioheat.cu`` has them."""
    per_c = [1.0 / (t.rho_kg_m3 * t.c_unfrozen_j_kg_k) for t in problem.tissues]
    columns = [p.solidus, p.width, p.per_cf, p.per_cu, p.k_frozen, p.k_unfrozen, per_latent(p)]
    rest = np.stack([*columns, np.broadcast_to(per_c, p.solidus.shape)], axis=-1)
    return np.concatenate([folds, rest], axis=-1)


def _surfaces(problem: Problem) -> FloatArray:
    """(tissue, axis): the k that conducts a body's surface coefficient, −1 for the others."""
    return np.array(
        [
            [law.half_voxel_k(t, d) if t.surface_h_w_m2k is not None else -1.0
             for d in problem.spacing_mm]
            for t in problem.tissues
        ]
    )  # fmt: skip
