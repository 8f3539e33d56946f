"""Interprets one launch of NVRTC's PTX on NumPy arrays, checking every access.

All threads of a group of blocks advance in lock step, those at the smallest position first; a warp
that diverged therefore reunites at the next label that both sides reach, and its requests are
counted as such. Blocks run in groups, upwards. Results equal a device's to the last bit, apart
from instructions that PTX defines as approximate (listed in ``Report.approximate``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import limits
from .ptx_arithmetic import APPROXIMATE, DTYPES, compute, result_type, source_types
from .ptx_memory import (
    SECTOR_BYTES,
    WARP,
    Access,
    BlockMemory,
    Fault,
    GlobalMemory,
    Misaligned,
    OutOfBounds,
    Race,
    RaceDetector,
)
from .ptx_parse import TYPE_BYTES, Instruction, Program, PtxError, Variable, parse, register_family

GROUP_THREADS = 1 << 15
MAX_STEPS = 2_000_000  # basic-block visits in one group: far beyond any kernel that ends
SHARED_WINDOW, LOCAL_WINDOW = 1 << 40, 1 << 41  # generic addresses of shared and local memory
SPACES = ("param", "shared", "local", "global", "const")
NO_EFFECT = {"membar", "fence", "prefetch", "prefetchu", "discard"}

Array = Any


class DivergentBarrier(Fault):
    """Some threads of a block wait in a barrier that others passed by or never reach."""


class DataRace(Fault):
    """Raised by ``Report.check`` only."""


@dataclass
class Report:
    """What a launch did. ``instructions`` counts threads times instructions."""

    instructions: int = 0
    barriers: int = 0
    accesses: dict[int, Access] = field(default_factory=dict)
    races: list[Race] = field(default_factory=list)
    uninitialised_shared_reads: list[str] = field(default_factory=list)
    approximate: set[str] = field(default_factory=set)
    unique_bytes_loaded: int = 0
    unique_bytes_stored: int = 0

    def _global(self) -> list[Access]:
        return [a for a in self.accesses.values() if a.space == "global"]

    @property
    def global_bytes_requested(self) -> int:
        """Bytes that all lanes asked of global memory, loads and stores."""
        return sum(a.bytes_requested for a in self._global())

    @property
    def sectors(self) -> int:
        """32-byte sectors that all warp requests to global memory touched."""
        return sum(a.sectors for a in self._global())

    @property
    def useful_fraction(self) -> float:
        """Distinct bytes per request, over all global requests, per byte of their sectors: 1 for
        perfectly coalesced access, 1/8 for a float in a sector of its own."""
        sectors = self.sectors
        useful = sum(a.useful_bytes for a in self._global())
        return useful / (SECTOR_BYTES * sectors) if sectors else 1.0

    @property
    def unique_bytes(self) -> int:
        """Distinct bytes of the arguments loaded, plus those stored: the least DRAM traffic."""
        return self.unique_bytes_loaded + self.unique_bytes_stored

    @property
    def bank_conflicts(self) -> int:
        """Passes over shared memory beyond one per request."""
        return sum(a.bank_conflicts for a in self.accesses.values())

    def check(self) -> None:
        """Raise DataRace where the launch raced or read shared memory that nobody wrote."""
        if self.races:
            raise DataRace(f"{len(self.races)} races, first: {self.races[0]}")
        if self.uninitialised_shared_reads:
            raise DataRace(f"read before written: {self.uninitialised_shared_reads[0]}")


def launch(
    ptx: str, kernel: str, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]
) -> Report:
    """Run one kernel; arrays among ``args`` are changed in place.

    Every array starts at a multiple of 512 bytes in device memory. Raises TypeError (arguments),
    ValueError (launch sizes), PtxError (unknown PTX) and Fault with its subclasses.
    """
    sizes = limits.three(grid), limits.three(block)
    limits.check_sizes(*sizes)
    program = parse(ptx, kernel)
    _check_arguments(program, args)
    fixed = [v for v in program.variables.values() if v.space in ("const", "global")]
    memory = GlobalMemory([a for a in args if isinstance(a, np.ndarray)], [v.data for v in fixed])
    symbols = {v.name: v.offset for v in program.variables.values()}
    symbols |= {
        v.name: address for v, address in zip(fixed, memory.constant_addresses, strict=True)
    }
    parameters = _parameter_bytes(program, args, memory)
    report = Report()
    blocks, threads = math.prod(sizes[0]), math.prod(sizes[1])
    step = max(1, GROUP_THREADS // threads)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, step):
            numbers = np.arange(first, min(first + step, blocks))
            _Group(program, symbols, parameters, memory, report, sizes, numbers).run()
    report.unique_bytes_loaded = memory.touched(store=False)
    report.unique_bytes_stored = memory.touched(store=True)
    return report


def _check_arguments(program: Program, args: Sequence[Any]) -> None:
    if len(args) != len(program.parameters):
        raise TypeError(
            f"{program.name} takes {len(program.parameters)} arguments, {len(args)} given"
        )
    for number, (parameter, arg) in enumerate(zip(program.parameters, args, strict=True)):
        if not _fits(parameter, arg):
            given = getattr(arg, "dtype", type(arg).__name__)
            raise TypeError(f"{program.name}, argument {number} ({parameter.type}): {given} given")


def _fits(parameter: Variable, arg: Any) -> bool:
    if isinstance(arg, np.ndarray):
        return parameter.type in ("u64", "b64") and arg.flags.c_contiguous
    if not isinstance(arg, np.generic) or arg.dtype.itemsize != parameter.size:
        return False
    kinds = "V" if parameter.type == "struct" else "f" if parameter.type[0] == "f" else "iub"
    return arg.dtype.kind in kinds


def _parameter_bytes(program: Program, args: Sequence[Any], memory: GlobalMemory) -> np.ndarray:
    buffer = np.zeros(max((p.offset + p.size for p in program.parameters), default=0) + 16, "u1")
    for parameter, arg in zip(program.parameters, args, strict=True):
        value = np.uint64(memory.address(arg)) if isinstance(arg, np.ndarray) else arg
        end = parameter.offset + parameter.size
        buffer[parameter.offset : end] = np.frombuffer(value.tobytes(), "u1")
    return buffer


class _Group:
    """Some blocks of a launch, all threads in lock step."""

    def __init__(
        self,
        program: Program,
        symbols: dict[str, int],
        parameters: np.ndarray,
        memory: GlobalMemory,
        report: Report,
        sizes: tuple[tuple[int, int, int], tuple[int, int, int]],
        blocks: np.ndarray,
    ) -> None:
        self.program, self.code, self.symbols = program, program.code, symbols
        self.parameters, self.memory, self.report = parameters, memory, report
        self.parameter_offsets = {p.name: p.offset for p in program.parameters}
        self.targets = set(program.labels.values())
        self.per_block = math.prod(sizes[1])
        count = len(blocks) * self.per_block
        self.count, self.first_thread = count, int(blocks[0]) * self.per_block
        self.index = np.arange(count)
        self.local_thread = self.index % self.per_block
        self.row = self.index // self.per_block
        self.block = blocks[self.row]
        warps_per_block = -(-self.per_block // WARP)
        self.warp = self.row * warps_per_block + self.local_thread // WARP
        self.registers: dict[str, np.ndarray] = _special_registers(
            self.local_thread, self.block, sizes
        )
        self.position = np.zeros(count, np.int32)
        self.waiting = np.zeros(count, bool)
        self.ended = np.zeros(count, bool)
        self.epoch = np.zeros(len(blocks), np.int32)
        self.shared = BlockMemory(len(blocks), program.bytes_of("shared"))
        self.shared_races = RaceDetector(len(blocks) * self.shared.stride)
        self.local = BlockMemory(count, program.bytes_of("local"))

    # ---- Control -------------------------------------------------------------------------

    def run(self) -> None:
        """Run until every thread has ended."""
        for _ in range(MAX_STEPS):
            active = ~(self.waiting | self.ended)
            if active.any():
                position = int(self.position[active].min())
                self._run_from(position, np.flatnonzero(active & (self.position == position)))
            elif self.waiting.any():
                self._release()
            else:
                return
        raise Fault(f"{self.program.name} does not end")

    def _release(self) -> None:
        """Let every block that is complete at its barrier go on."""
        waiting = self.waiting.reshape(-1, self.per_block)
        at = np.where(waiting, self.position.reshape(-1, self.per_block), -1)
        partial = waiting.any(axis=1) & (at.min(axis=1) != at.max(axis=1))
        if partial.any():
            row = int(np.flatnonzero(partial)[0])
            number = int(self.block[row * self.per_block])
            raise DivergentBarrier(
                f"{self.program.name}, block {number}: {np.count_nonzero(waiting[row])} of "
                f"{self.per_block} threads wait, at different barriers or without the others"
            )
        self.report.barriers += int(np.count_nonzero(waiting.any(axis=1)))
        self.epoch += waiting.any(axis=1)
        self.waiting[:] = False

    def _run_from(self, position: int, threads: np.ndarray) -> None:
        """Run these threads up to the next branch, barrier, end or label."""
        while True:
            ins = self.code[position]
            self.report.instructions += len(threads)
            chosen = self._chosen(ins, threads)
            if self._control(ins, position, threads, chosen):
                return
            if len(chosen):
                self._execute(ins, position, chosen)
            position += 1
            if position in self.targets:
                self.position[threads] = position
                return

    def _chosen(self, ins: Instruction, threads: np.ndarray) -> np.ndarray:
        """The threads whose predicate lets them execute."""
        if ins.predicate is None:
            return threads
        return threads[self._register(ins.predicate, "pred")[threads] ^ ins.negated]

    def _control(
        self, ins: Instruction, position: int, threads: np.ndarray, chosen: np.ndarray
    ) -> bool:
        """Handle branches, ends and barriers; False for any other instruction."""
        if ins.opcode in ("ret", "exit"):
            self.ended[chosen] = True
        elif ins.opcode == "trap" and len(chosen):
            raise Fault(f"{self.program.name}: trap")
        elif ins.opcode in ("bar", "barrier") and "warp" not in ins.modifiers:
            self.waiting[chosen] = True
        elif ins.opcode not in ("bra", "brx"):
            return False
        self.position[threads] = position + 1
        if ins.opcode == "bra":
            self.position[chosen] = self.program.labels[ins.operands[0]]
        elif ins.opcode == "brx":
            table = [self.program.labels[name] for name in self.program.tables[ins.operands[1]]]
            self.position[chosen] = np.array(table)[self._value(ins.operands[0], "u32", chosen)]
        return True

    def _execute(self, ins: Instruction, position: int, threads: np.ndarray) -> None:
        if ins.opcode == "ld":
            self._load(ins, position, threads)
        elif ins.opcode == "st":
            self._store(ins, position, threads)
        elif ins.opcode == "cvta":
            self._convert_address(ins, threads)
        elif ins.opcode == "mov" and "{" in "".join(ins.operands):
            self._repack(ins, threads)
        elif ins.opcode not in NO_EFFECT and ins.opcode != "bar":
            self._compute(ins, threads)

    # ---- Registers -----------------------------------------------------------------------

    def _register(self, name: str, type_: str) -> np.ndarray:
        """A register's raw bits, one entry per thread; zero until written."""
        if name not in self.registers:
            declared = self.program.registers.get(register_family(name), type_)
            size = TYPE_BYTES[declared]
            dtype = np.dtype(bool) if declared == "pred" else np.dtype(f"u{size}")
            self.registers[name] = np.zeros(self.count, dtype)
        return self.registers[name]

    def _value(self, operand: str, type_: str, threads: np.ndarray) -> Array:
        """An operand as an array of the type, or as a scalar where it is a constant."""
        dtype = DTYPES[type_]
        if operand[0] == "%":
            raw = self._register(operand, type_)[threads]
            if type_ == "f32x2":
                return raw.view(dtype).reshape(-1, 2)
            if raw.dtype.itemsize != TYPE_BYTES[type_]:
                raw = raw.astype(f"u{dtype.itemsize}")
            return raw.view(dtype)
        if operand[:2].lower() in ("0f", "0d"):
            bits = int(operand[2:], 16)
            return np.array(bits, f"u{len(operand) // 2 - 1}").view(f"f{len(operand) // 2 - 1}")[()]
        number = self._number(operand)
        return np.array(number % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)[()]

    def _number(self, operand: str) -> int:
        name, _, offset = operand.partition("+")
        if name in self.symbols:
            return self.symbols[name] + int(offset or 0)
        return int(operand.rstrip("U"), 0)

    def _write(self, name: str, type_: str, threads: np.ndarray, value: Array) -> None:
        if name == "_":
            return
        register = self._register(name, type_)
        value = np.asarray(value)
        if type_ == "f32x2":
            value = np.ascontiguousarray(value, np.float32).view(np.uint64)[..., 0]
        if register.dtype != bool:
            if value.dtype.itemsize != register.dtype.itemsize:
                kind = "i" if value.dtype.kind == "i" else "u"
                value = value.astype(f"{kind}{register.dtype.itemsize}")
            value = value.view(register.dtype)
        register[threads] = value

    def _compute(self, ins: Instruction, threads: np.ndarray) -> None:
        types = source_types(ins)
        sources = ins.operands[1:]
        values = [self._value(o, t, threads) for o, t in zip(sources, types, strict=True)]
        value = compute(ins, values)
        if ins.modifiers & APPROXIMATE:
            self.report.approximate.add(ins.text)
        result, _, inverse = ins.operands[0].partition("|")
        self._write(result, result_type(ins), threads, value)
        if inverse:
            self._write(inverse, "pred", threads, ~np.asarray(value))

    def _repack(self, ins: Instruction, threads: np.ndarray) -> None:
        """mov between one wide register and a list of narrow ones, lowest bits first."""
        target, source = (_names(operand) for operand in ins.operands)
        count = max(len(target), len(source))
        part = f"b{8 * TYPE_BYTES[ins.type] // count}"
        if len(target) == 1:
            parts = [np.broadcast_to(self._value(s, part, threads), len(threads)) for s in source]
            whole = np.stack(parts, axis=1).view(DTYPES[ins.type])[:, 0]
            self._write(target[0], ins.type, threads, whole)
            return
        value = np.broadcast_to(self._value(source[0], ins.type, threads), len(threads))
        pieces = np.ascontiguousarray(value).view(DTYPES[part]).reshape(len(threads), count)
        for name, piece in zip(target, pieces.T, strict=True):
            self._write(name, part, threads, np.ascontiguousarray(piece))

    # ---- Memory --------------------------------------------------------------------------

    def _convert_address(self, ins: Instruction, threads: np.ndarray) -> None:
        window = SHARED_WINDOW if "shared" in ins.modifiers else 0
        window = LOCAL_WINDOW if "local" in ins.modifiers else window
        sign = -1 if "to" in ins.modifiers else 1
        value = self._value(ins.operands[1], "s64", threads) + np.int64(sign * window)
        self._write(ins.operands[0], "s64", threads, value)

    def _addresses(self, ins: Instruction, operand: str, threads: np.ndarray) -> Array:
        base, _, offset = operand.strip("[]").partition("+")
        width = "s64"
        if base[0] == "%" and self._register(base, "s64").dtype.itemsize == 4:
            width = "u32"
        value = np.asarray(self._value(base, width, threads)).astype(np.int64)
        return np.broadcast_to(value + int(offset or 0), threads.shape)

    def _load(self, ins: Instruction, position: int, threads: np.ndarray) -> None:
        names = _names(ins.operands[0])
        if "param" in ins.modifiers:
            self._load_parameter(ins, names, threads)
            return
        size = TYPE_BYTES[ins.type] * len(names)
        for space, at, where in self._spaces(ins, self._addresses(ins, ins.operands[1], threads)):
            chosen = threads[at]
            self._follow(ins, position, space, chosen, where, size)
            for k, name in enumerate(names):
                value = self._read(space, chosen, where + k * TYPE_BYTES[ins.type], ins.type)
                self._write(name, ins.type, chosen, value)

    def _load_parameter(self, ins: Instruction, names: list[str], threads: np.ndarray) -> None:
        name, _, offset = ins.operands[1].strip("[]").partition("+")
        start = self.parameter_offsets[name] + int(offset or 0)
        size = TYPE_BYTES[ins.type]
        for k, register in enumerate(names):
            raw = self.parameters[start + k * size : start + (k + 1) * size]
            self._write(register, ins.type, threads, raw.view(DTYPES[ins.type])[0])

    def _store(self, ins: Instruction, position: int, threads: np.ndarray) -> None:
        names = _names(ins.operands[1])
        size = TYPE_BYTES[ins.type] * len(names)
        for space, at, where in self._spaces(ins, self._addresses(ins, ins.operands[0], threads)):
            chosen = threads[at]
            self._follow(ins, position, space, chosen, where, size)
            for k, name in enumerate(names):
                value = np.broadcast_to(self._value(name, ins.type, chosen), chosen.shape)
                self._put(space, chosen, where + k * TYPE_BYTES[ins.type], value)

    def _spaces(self, ins: Instruction, addresses: Array) -> list[tuple[str, Array, Array]]:
        """State space of each access: (space, which threads, addresses within the space)."""
        for space in SPACES:
            if any(part.split("::")[0] == space for part in ins.modifiers):
                return [(space, slice(None), addresses)]
        window = np.where(addresses >= LOCAL_WINDOW, 2, np.where(addresses >= SHARED_WINDOW, 1, 0))
        parts = []
        for number, space, start in (
            (0, "global", 0),
            (1, "shared", SHARED_WINDOW),
            (2, "local", LOCAL_WINDOW),
        ):
            at = window == number
            if at.any():
                parts.append((space, at, addresses[at] - start))
        return parts

    def _follow(
        self,
        ins: Instruction,
        position: int,
        space: str,
        threads: np.ndarray,
        addresses: Array,
        size: int,
    ) -> None:
        """Check and count one access of ``size`` bytes per thread."""
        self._check_bounds(ins, space, threads, addresses, size)
        if space not in ("global", "shared"):
            return
        store = ins.opcode == "st"
        access = self.report.accesses.setdefault(position, Access(ins.text, space, store))
        access.count(self.warp[threads], self.local_thread[threads] % WARP, addresses, size)
        if space == "shared":
            self._detect_shared(ins, threads, addresses, size)
            return
        number, offset, _ = self.memory.locate(addresses, size)
        self.memory.mark(number, offset, size, store)
        for k in np.unique(number):
            at = number == k
            self._detect(ins, self.memory.races[k], threads[at], offset[at], size, "global", int(k))

    def _check_bounds(
        self, ins: Instruction, space: str, threads: np.ndarray, addresses: Array, size: int
    ) -> None:
        if space in ("global", "const"):
            outside = self.memory.locate(addresses, size)[2]
        else:
            extent = self.shared.row_bytes if space == "shared" else self.local.row_bytes
            outside = (addresses < 0) | (addresses + size > extent)
        if outside.any():
            raise OutOfBounds(self._describe(ins, space, threads, addresses, outside))
        crooked = addresses % size != 0
        if crooked.any():
            raise Misaligned(self._describe(ins, space, threads, addresses, crooked))

    def _describe(
        self, ins: Instruction, space: str, threads: np.ndarray, addresses: Array, bad: Array
    ) -> str:
        first = int(np.flatnonzero(bad)[0])
        thread, address = threads[first], int(addresses[first])
        text = f"byte {address} of {space} memory"
        if space == "global":
            number = max(0, int(np.searchsorted(self.memory.bases, address, "right")) - 1)
            text = f"byte {address - int(self.memory.bases[number])} of array {number} "
            text += f"({int(self.memory.sizes[number])} bytes)"
        return (
            f"{self.program.name}: {ins.text}: {np.count_nonzero(bad)} threads, first block "
            f"{self.block[thread]} thread {self.local_thread[thread]} at {text}"
        )

    def _detect_shared(
        self, ins: Instruction, threads: np.ndarray, addresses: Array, size: int
    ) -> None:
        place = self.shared.place(self.row[threads], addresses)
        if ins.opcode == "ld":
            unwritten = any(
                (self.shared_races.writer[place + k] < 0).any() for k in range(0, size, 4)
            )
            if unwritten and ins.text not in self.report.uninitialised_shared_reads:
                self.report.uninitialised_shared_reads.append(ins.text)
        self._detect(ins, self.shared_races, threads, place, size, "shared", None)

    def _detect(
        self,
        ins: Instruction,
        races: RaceDetector,
        threads: np.ndarray,
        place: Array,
        size: int,
        space: str,
        array: int | None,
    ) -> None:
        record = races.store if ins.opcode == "st" else races.load
        for word in range(0, size, 4):
            at, thread = place + word, threads + self.first_thread
            before = np.where(races.writer[at] < 0, races.reader[at], races.writer[at])
            bad = record(
                at, thread, self.block[threads], self.epoch[self.row[threads]], self.per_block
            )
            if bad.any() and all(r.text != ins.text for r in self.report.races):
                k = int(np.flatnonzero(bad)[0])
                kind = "store" if ins.opcode == "st" else "load"
                where = int(addresses_in_row(at[k], space, self.shared.stride))
                self.report.races.append(
                    Race(ins.text, kind, space, where, array, int(thread[k]), int(before[k]))
                )

    def _read(self, space: str, threads: np.ndarray, addresses: Array, type_: str) -> Array:
        dtype = DTYPES[type_]
        if space in ("global", "const"):
            number, offset, _ = self.memory.locate(addresses, dtype.itemsize)
            return self.memory.load(number, offset, dtype)
        memory, rows = self._block_memory(space, threads)
        return memory.load(memory.place(rows, addresses), dtype)

    def _put(self, space: str, threads: np.ndarray, addresses: Array, values: Array) -> None:
        if space == "global":
            number, offset, _ = self.memory.locate(addresses, values.dtype.itemsize)
            self.memory.store(number, offset, values)
            return
        memory, rows = self._block_memory(space, threads)
        memory.store(memory.place(rows, addresses), values)

    def _block_memory(self, space: str, threads: np.ndarray) -> tuple[BlockMemory, Array]:
        if space == "shared":
            return self.shared, self.row[threads]
        if space == "local":
            return self.local, threads
        raise PtxError(f"state space not known: {space}")


def addresses_in_row(place: int, space: str, stride: int) -> int:
    """Byte offset within the block's shared memory, or the array offset as it is."""
    return place % stride if space == "shared" else place


def _names(operand: str) -> list[str]:
    """{%f1, %f2} or %f1, as a list."""
    return [name.strip() for name in operand.strip("{}").split(",")]


def _special_registers(
    thread: np.ndarray, block: np.ndarray, sizes: tuple[tuple[int, int, int], tuple[int, int, int]]
) -> dict[str, np.ndarray]:
    grid, shape = sizes
    registers = {}
    for k, axis in enumerate("xyz"):
        registers[f"%tid.{axis}"] = thread // math.prod(shape[:k]) % shape[k]
        registers[f"%ctaid.{axis}"] = block // math.prod(grid[:k]) % grid[k]
        registers[f"%ntid.{axis}"] = np.full(len(thread), shape[k])
        registers[f"%nctaid.{axis}"] = np.full(len(thread), grid[k])
    registers["%laneid"] = thread % WARP
    registers["%warpid"] = thread // WARP
    return {name: values.astype(np.uint32) for name, values in registers.items()}
