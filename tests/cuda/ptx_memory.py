"""Memory of a simulated launch: bounds, alignment, data races and the cost of warp requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SECTOR_BYTES = 32
BANKS = 32
WARP = 32
BANK_BYTES = 4
FIRST_ADDRESS = 1 << 20
ALIGNMENT = 512  # of every allocation, as cupy's pool has it
GAP = 1 << 16
NOBODY, SEVERAL = -1, -2
POISON = 0xFF

Array = Any


class Fault(Exception):
    """The launch did what a device forbids."""


class OutOfBounds(Fault):
    """An access outside every array, or outside the block's shared memory."""


class Misaligned(Fault):
    """An address that is no multiple of the access's width."""


class ReadOnly(Fault):
    """A store into an array that NumPy marks as read-only."""


@dataclass
class Access:
    """What one load or store instruction did in the whole launch.

    ``requests`` counts warps times executions. A request's sectors are the aligned 32-byte pieces
    of memory that its lanes touch; its useful bytes are the distinct bytes they touch, so a value
    that all lanes read counts once. ``bytes_requested`` counts it once per lane.
    ``bank_conflicts`` (shared memory) counts the passes beyond the first.
    """

    text: str
    space: str
    store: bool
    requests: int = 0
    bytes_requested: int = 0
    sectors: int = 0
    useful_bytes: int = 0
    bank_conflicts: int = 0

    def count(self, warps: Array, lanes: Array, addresses: Array, size: int) -> None:
        """Add one execution; ``warps`` ascending, one entry per active thread."""
        self.requests += 1 + int(np.count_nonzero(np.diff(warps)))
        self.bytes_requested += size * len(addresses)
        if self.space == "shared":
            self.bank_conflicts += bank_conflicts(warps, lanes, addresses, size)
            return
        start = warps.astype(np.int64) << 42
        self.sectors += _distinct(start | (addresses // SECTOR_BYTES))
        self.useful_bytes += size * _distinct(start | (addresses // size))


def bank_conflicts(warps: Array, lanes: Array, addresses: Array, size: int) -> int:
    """Extra passes: per request, the most words that one bank must give, less one. Accesses of 8
    and 16 bytes go by half and quarter warps."""
    words_each = max(1, size // BANK_BYTES)
    phase = warps.astype(np.int64) * words_each + lanes * words_each // WARP
    phase = phase - phase.min()
    words = addresses // BANK_BYTES
    keys = [(phase << 32) | (words + k) for k in range(words_each)]
    distinct = np.unique(np.concatenate(keys))
    load = np.bincount((distinct >> 32) * BANKS + (distinct & 0xFFFFFFFF) % BANKS)
    load = np.pad(load, (0, -len(load) % BANKS)).reshape(-1, BANKS).max(axis=1)
    return int(np.maximum(load - 1, 0).sum())


def _distinct(keys: Array) -> int:
    keys = np.sort(keys)
    return 1 + int(np.count_nonzero(np.diff(keys)))


@dataclass(frozen=True)
class Race:
    """Two threads touch one place without a barrier between them, and at least one writes.
    ``place`` is a byte offset in shared memory or in argument ``array``; ``other`` is a thread
    number in the launch, or SEVERAL."""

    text: str
    kind: str
    space: str
    place: int
    array: int | None
    thread: int
    other: int


class RaceDetector:
    """Last writer and reader of every byte of one array, or of all blocks' shared memory.

    Threads of one block are ordered by barriers, threads of different blocks never. An access of
    four or more bytes is followed word by word; narrower ones by their first byte.
    """

    def __init__(self, size: int) -> None:
        self.writer = np.full(size, NOBODY, np.int32)
        self.write_epoch = np.zeros(size, np.int32)
        self.reader = np.full(size, NOBODY, np.int32)
        self.reader_block = np.full(size, NOBODY, np.int32)
        self.read_epoch = np.zeros(size, np.int32)

    def load(self, at: Array, thread: Array, block: Array, epoch: Array, per_block: int) -> Array:
        """Record loads; returns a mask of those that race with a store."""
        conflict = self._races_with_store(at, thread, block, epoch, per_block)
        fresh = (self.reader_block[at] == block) & (self.read_epoch[at] < epoch)
        alone = fresh | (self.reader[at] == NOBODY)
        same_block = (self.reader_block[at] == block) | (self.reader[at] == NOBODY)
        shared = ~alone & (self.reader[at] != thread)
        self.reader[at] = thread
        self.reader[at[shared]] = SEVERAL
        self.reader_block[at] = np.where(same_block, block, SEVERAL)
        self.read_epoch[at] = epoch
        twice = self.reader[at] != np.where(shared, SEVERAL, thread)
        self.reader[at[twice]] = SEVERAL
        other_block = self.reader_block[at] != np.where(same_block, block, SEVERAL)
        self.reader_block[at[other_block]] = SEVERAL
        return conflict

    def store(self, at: Array, thread: Array, block: Array, epoch: Array, per_block: int) -> Array:
        """Record stores; returns a mask of those that race with a load or a store."""
        conflict = self._races_with_store(at, thread, block, epoch, per_block)
        read = (self.reader[at] != NOBODY) & (self.reader[at] != thread)
        conflict |= read & ((self.reader_block[at] != block) | (self.read_epoch[at] == epoch))
        self.writer[at] = thread
        self.write_epoch[at] = epoch
        return conflict | (self.writer[at] != thread)

    def _races_with_store(
        self, at: Array, thread: Array, block: Array, epoch: Array, per_block: int
    ) -> Array:
        writer = self.writer[at]
        foreign = (writer != NOBODY) & (writer != thread)
        return foreign & ((writer // per_block != block) | (self.write_epoch[at] == epoch))


class GlobalMemory:
    """The arrays of a launch at made-up device addresses, far enough apart to notice strays."""

    def __init__(self, arrays: Sequence[np.ndarray], constants: Sequence[bytes]) -> None:
        self.arrays: list[np.ndarray] = []
        self._by_extent: dict[tuple[int, int], int] = {}
        self.bases = np.zeros(0, np.int64)
        for array in arrays:
            self._add(array)
        self.first_constant = len(self.arrays)
        self.constant_addresses = [self._add(np.frombuffer(data, np.uint8)) for data in constants]
        self._bytes = [a.reshape(-1).view(np.uint8) for a in self.arrays]
        self.sizes = np.array([a.nbytes for a in self.arrays], np.int64)
        self.races = [RaceDetector(a.nbytes) for a in self.arrays]
        self.loaded = [np.zeros(a.nbytes, bool) for a in self.arrays]
        self.stored = [np.zeros(a.nbytes, bool) for a in self.arrays]

    def address(self, array: np.ndarray) -> int:
        return self._by_extent[array.ctypes.data, array.nbytes]

    def _add(self, array: np.ndarray) -> int:
        extent = (array.ctypes.data, array.nbytes)
        if extent not in self._by_extent:
            if any(np.may_share_memory(array, other) for other in self.arrays):
                raise ValueError("arguments overlap in part")
            end = FIRST_ADDRESS
            if self.arrays:
                end = int(self.bases[-1]) + self.arrays[-1].nbytes + GAP
            self._by_extent[extent] = -(-end // ALIGNMENT) * ALIGNMENT
            self.arrays.append(array)
            self.bases = np.append(self.bases, self._by_extent[extent])
        return self._by_extent[extent]

    def locate(self, addresses: Array, size: int) -> tuple[Array, Array, Array]:
        """Array number and byte offset of every address, and a mask of those outside."""
        number = np.searchsorted(self.bases, addresses, "right") - 1
        if not len(self.bases):
            return number, addresses, np.ones(len(addresses), bool)
        offset = addresses - self.bases[number]
        outside = (number < 0) | (offset + size > self.sizes[number])
        return number, offset, outside

    def load(self, number: Array, offset: Array, dtype: np.dtype[Any]) -> Array:
        out = np.empty(len(offset), dtype)
        for k in np.unique(number):
            at = number == k
            out[at] = self._elements(int(k), dtype)[offset[at] // dtype.itemsize]
        return out

    def store(self, number: Array, offset: Array, values: Array) -> None:
        for k in np.unique(number):
            if not self.arrays[k].flags.writeable:
                raise ReadOnly(f"a store into array {k}, which is read-only")
            at = number == k
            elements = self._elements(int(k), values.dtype)
            elements[offset[at] // values.dtype.itemsize] = values[at]

    def mark(self, number: Array, offset: Array, size: int, store: bool) -> None:
        """Remember which bytes the launch touched."""
        maps = self.stored if store else self.loaded
        for k in np.unique(number):
            start = offset[number == k]
            for byte in range(size):
                maps[k][start + byte] = True

    def touched(self, store: bool) -> int:
        """Distinct bytes of the arguments loaded or stored so far."""
        maps = (self.stored if store else self.loaded)[: self.first_constant]
        return sum(int(np.count_nonzero(m)) for m in maps)

    def _elements(self, number: int, dtype: np.dtype[Any]) -> np.ndarray:
        whole = len(self._bytes[number]) // dtype.itemsize * dtype.itemsize
        return self._bytes[number][:whole].view(dtype)


class BlockMemory:
    """Shared memory of many blocks, or local memory of many threads: one row each, poisoned."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self.stride = -(-row_bytes // 16) * 16 + 16
        self._bytes = np.full(rows * self.stride, POISON, np.uint8)

    def place(self, row: Array, offset: Array) -> Array:
        return row.astype(np.int64) * self.stride + offset

    def load(self, place: Array, dtype: np.dtype[Any]) -> Array:
        return self._bytes.view(dtype)[place // dtype.itemsize]

    def store(self, place: Array, values: Array) -> None:
        self._bytes.view(values.dtype)[place // values.dtype.itemsize] = values
