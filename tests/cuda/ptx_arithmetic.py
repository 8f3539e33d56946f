"""What PTX's arithmetic instructions do to NumPy arrays, to the last bit where PTX defines it.

Every operation takes an instruction and its typed source values and returns the typed result.
Operations that PTX leaves approximate are computed in float64 and rounded (``APPROXIMATE``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .ptx_parse import TYPE_BYTES, Instruction, PtxError

Array = Any  # an array or a scalar of the type that the instruction names
Operation = Callable[..., Array]

DTYPES: dict[str, np.dtype[Any]] = {
    f"{letter}{8 * size}": np.dtype(f"{kind}{size}")
    for letter, kind in (("b", "u"), ("u", "u"), ("s", "i"), ("f", "f"))
    for size in (1, 2, 4, 8)
    if letter != "f" or size > 1
}
DTYPES |= {"pred": np.dtype(bool), "f32x2": np.dtype("f4")}
APPROXIMATE = {"approx", "full"}
TINY = np.finfo(np.float32).smallest_normal
SPLITTER = float(2**27 + 1)


def wide(type_: str) -> str:
    """The type of twice the width: s32 -> s64."""
    return f"{type_[0]}{2 * int(type_[1:])}"


def source_types(ins: Instruction) -> list[str]:
    """Types of the source operands, in order."""
    count, type_ = len(ins.operands) - 1, ins.type
    if ins.opcode in ("shl", "shr"):
        return [type_, "u32"]
    if ins.opcode in ("bfe", "bfi"):
        return [type_] * (count - 2) + ["u32", "u32"]
    if ins.opcode in ("selp", "setp") and count == 3:
        return [type_, type_, "pred"]
    if ins.opcode == "mad" and "wide" in ins.modifiers:
        return [type_, type_, wide(type_)]
    return [type_] * count


def result_type(ins: Instruction) -> str:
    if ins.opcode == "setp":
        return "pred"
    if ins.opcode in ("popc", "clz"):
        return "u32"
    if "wide" in ins.modifiers:
        return wide(ins.type)
    return ins.types[0] if ins.opcode == "cvt" else ins.type


def compute(ins: Instruction, values: list[Array]) -> Array:
    """Result of one instruction. Raises PtxError for an opcode that is not known."""
    operation = OPERATIONS.get(ins.opcode)
    if operation is None:
        raise PtxError(f"instruction not known: {ins.text}")
    flush = "ftz" in ins.modifiers
    if flush:
        values = [_flushed(value) for value in values]
    result = operation(ins, *values)
    if "sat" in ins.modifiers and DTYPES[result_type(ins)].kind == "f":
        result = np.where(np.isnan(result), 0, np.clip(result, 0, 1)).astype(result.dtype)
    return _flushed(result) if flush else result


def _flushed(value: Array) -> Array:
    """Subnormal float32 numbers become zeros of their sign; other types stay."""
    if np.asarray(value).dtype != np.float32:
        return value
    return np.where(np.abs(value) < TINY, np.copysign(np.float32(0), value), value)


# ---- Correctly rounded float arithmetic ----------------------------------------------------


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    a_high = (a * SPLITTER) - (a * SPLITTER - a)
    b_high = (b * SPLITTER) - (b * SPLITTER - b)
    a_low, b_low = a - a_high, b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


def _sum_rounded_to_odd(a: Array, b: Array) -> Array:
    """a + b in float64, an inexact sum having an odd last bit: rounding once more is then safe."""
    total, error = _two_sum(np.asarray(a, np.float64), np.asarray(b, np.float64))
    bits = np.array(total).view(np.int64)
    even = (bits & 1) == 0
    outwards = (error > 0) == (total > 0)
    odd = np.where(outwards, bits + 1, bits - 1)
    fix = np.isfinite(total) & np.isfinite(error) & (error != 0) & even
    return np.where(fix, odd, bits).view(np.float64)


def _to_float32(exact: Array, modifiers: frozenset[str]) -> Array:
    """Round float64 to float32 in the instruction's mode: rn (default), rz, rm or rp."""
    near = exact.astype(np.float32)
    down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    up = np.where(near < exact, np.nextafter(near, np.float32(np.inf)), near)
    if "rm" in modifiers:
        return down
    if "rp" in modifiers:
        return up
    return np.where(exact > 0, down, up) if "rz" in modifiers else near


def _fma(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    if ins.type in ("f32", "f32x2"):
        product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
        return _to_float32(_sum_rounded_to_odd(product, c), ins.modifiers)
    _only_to_nearest(ins)
    return _fma64(np.asarray(a, np.float64), np.asarray(b), np.asarray(c))


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """Fused multiply-add of float64 with one rounding (Boldo and Melquiond, 2008), except where a
    partial result overflows or underflows: there the product is rounded first."""
    product, product_error = _two_product(a, b)
    high, low = _two_sum(c, product_error)
    total, total_error = _two_sum(product, high)
    fused = total + _sum_rounded_to_odd(low, total_error)
    small = np.abs(product) < 1e-250
    return np.where(np.isfinite(fused) & ~small, fused, a * b + c)


def _only_to_nearest(ins: Instruction) -> None:
    if ins.modifiers & {"rz", "rm", "rp"}:
        raise PtxError(f"rounding mode not known here: {ins.text}")


def _rounded(ins: Instruction, plain: Array, exact: Callable[[], Array]) -> Array:
    """``plain`` for round to nearest; otherwise ``exact()`` rounded as asked (float32)."""
    if not ins.modifiers & {"rz", "rm", "rp"}:
        return plain
    if ins.type != "f32":
        _only_to_nearest(ins)
    return _to_float32(exact(), ins.modifiers)


def _add(ins: Instruction, a: Array, b: Array) -> Array:
    return _rounded(ins, a + b, lambda: _sum_rounded_to_odd(a, b))


def _subtract(ins: Instruction, a: Array, b: Array) -> Array:
    return _rounded(ins, a - b, lambda: _sum_rounded_to_odd(a, -b))


# ---- Integers ------------------------------------------------------------------------------


def _multiply(ins: Instruction, a: Array, b: Array) -> Array:
    if ins.type[0] == "f":
        return _rounded(ins, a * b, lambda: np.asarray(a, np.float64) * b)
    if "wide" in ins.modifiers:
        dtype = DTYPES[wide(ins.type)]
        return np.asarray(a).astype(dtype) * np.asarray(b).astype(dtype)
    return _high_product(ins, a, b) if "hi" in ins.modifiers else a * b


def _high_product(ins: Instruction, a: Array, b: Array) -> Array:
    dtype, bits = DTYPES[ins.type], 8 * TYPE_BYTES[ins.type]
    if bits < 64:
        dtype_wide = DTYPES[wide(ins.type)]
        return ((np.asarray(a).astype(dtype_wide) * b) >> dtype_wide.type(bits)).astype(dtype)
    product = np.asarray(a).astype(object) * np.asarray(b).astype(object)
    return np.asarray(product >> 64).astype(dtype)


def _multiply_add(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    return _fma(ins, a, b, c) if ins.type[0] == "f" else _multiply(ins, a, b) + c


def _divide(ins: Instruction, a: Array, b: Array) -> Array:
    if ins.type[0] == "f":
        _only_to_nearest(ins)
        return a / b
    safe = np.where(b == 0, 1, b).astype(DTYPES[ins.type])
    quotient = a // safe
    inexact = quotient * safe != a
    towards_zero = quotient + (inexact & ((np.asarray(a) < 0) != (safe < 0)))
    return np.where(b == 0, -1, towards_zero).astype(DTYPES[ins.type])


def _remainder(ins: Instruction, a: Array, b: Array) -> Array:
    return (a - _divide(ins, a, b) * b).astype(DTYPES[ins.type])


def _shift(ins: Instruction, a: Array, amount: Array) -> Array:
    bits = 8 * TYPE_BYTES[ins.type]
    dtype = DTYPES[ins.type]
    by = np.minimum(amount, bits - 1).astype(dtype)
    if ins.opcode == "shl":
        return np.where(np.asarray(amount) >= bits, 0, a << by).astype(dtype)
    gone = (np.asarray(amount) >= bits) & (dtype.kind == "u")
    return np.where(gone, 0, a >> by).astype(dtype)


def _bit_field(ins: Instruction, a: Array, start: Array, length: Array) -> Array:
    if ins.type[0] != "u":
        raise PtxError(f"instruction not known: {ins.text}")
    whole = np.asarray(a).astype(np.uint64) >> np.minimum(start, 63).astype(np.uint64)
    mask = (np.uint64(1) << np.minimum(length, 63).astype(np.uint64)) - np.uint64(1)
    return (whole & mask).astype(DTYPES[ins.type])


def _count_bits(_: Instruction, a: Array) -> Array:
    return np.bitwise_count(a).astype(np.uint32)


def _leading_zeros(ins: Instruction, a: Array) -> Array:
    bits = 8 * TYPE_BYTES[ins.type]
    below = [np.asarray(a) < np.asarray(a).dtype.type(1 << k) for k in range(bits)]
    return np.sum(below, axis=0).astype(np.uint32)


# ---- Selection, comparison, conversion -----------------------------------------------------


def _smaller(ins: Instruction, a: Array, b: Array) -> Array:
    return _extreme(ins, a, b, np.fmin, np.minimum, lambda x: np.signbit(x))


def _larger(ins: Instruction, a: Array, b: Array) -> Array:
    return _extreme(ins, a, b, np.fmax, np.maximum, lambda x: ~np.signbit(x))


def _extreme(
    ins: Instruction, a: Array, b: Array, numeric: Operation, strict: Operation, first: Operation
) -> Array:
    """``numeric`` ignores a NaN operand, ``strict`` keeps it; ``first(a)``: a goes before an equal
    b, which orders -0 below +0."""
    if ins.type[0] != "f" or "NaN" in ins.modifiers:
        return strict(a, b)
    return np.where(np.asarray(a) == b, np.where(first(a), a, b), numeric(a, b))


_COMPARISONS: dict[str, Operation] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_COMBINATIONS: dict[str, Operation] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def _set_predicate(ins: Instruction, a: Array, b: Array, other: Array | None = None) -> Array:
    result = _compared(ins, a, b)
    for name in ins.modifiers & _COMBINATIONS.keys():
        result = _COMBINATIONS[name](result, other)
    return result


def _compared(ins: Instruction, a: Array, b: Array) -> Array:
    missing = np.isnan(a) | np.isnan(b) if ins.type[0] == "f" else np.False_
    for name in ins.modifiers:
        if name in _COMPARISONS:
            return _COMPARISONS[name](a, b) & ~missing
        if name.endswith("u") and name[:-1] in _COMPARISONS:
            return _COMPARISONS[name[:-1]](a, b) | missing
    if ins.modifiers & {"num", "nan"}:
        return missing if "nan" in ins.modifiers else ~missing
    raise PtxError(f"comparison not known: {ins.text}")


_TO_INTEGER: dict[str, Operation] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def _convert(ins: Instruction, a: Array) -> Array:
    target, source = DTYPES[ins.types[0]], DTYPES[ins.types[1]]
    value = np.asarray(a)
    for name in ins.modifiers & _TO_INTEGER.keys():
        value = _TO_INTEGER[name](value)
    if target.kind in "iu" and source.kind == "f":
        return _clamped(value, target)
    if target == np.float32 and ins.modifiers & {"rz", "rm", "rp"}:
        if source.kind != "f":
            raise PtxError(f"rounding mode not known here: {ins.text}")
        return _to_float32(value.astype(np.float64), ins.modifiers)
    if "sat" in ins.modifiers and target.kind in "iu":
        value = np.clip(value, np.iinfo(target).min, np.iinfo(target).max)
    return value.astype(target)


def _clamped(value: Array, target: np.dtype[Any]) -> Array:
    """Float to integer as PTX does it: out of range to the nearest end, NaN to zero."""
    info = np.iinfo(target)
    low, high = float(info.min), float(info.max)
    inside = np.where((value >= low) & (value < high), value, 0).astype(target)
    return np.where(value >= high, info.max, np.where(value < low, info.min, inside)).astype(target)


def _in_float64(function: Operation) -> Operation:
    def operation(_: Instruction, a: Array) -> Array:
        return np.asarray(function(np.asarray(a, np.float64))).astype(np.asarray(a).dtype)

    return operation


def _square_root(ins: Instruction, a: Array) -> Array:
    _only_to_nearest(ins)
    return np.sqrt(a)


def _reciprocal(ins: Instruction, a: Array) -> Array:
    _only_to_nearest(ins)
    return np.asarray(a).dtype.type(1) / a


def _not(ins: Instruction, a: Array) -> Array:
    return np.logical_not(a) if ins.type == "pred" else ~a


OPERATIONS: dict[str, Operation] = {
    "mov": lambda _, a: a,
    "add": _add,
    "sub": _subtract,
    "mul": _multiply,
    "mul24": _multiply,
    "mad": _multiply_add,
    "fma": _fma,
    "div": _divide,
    "rem": _remainder,
    "rcp": _reciprocal,
    "sqrt": _square_root,
    "rsqrt": _in_float64(lambda x: 1 / np.sqrt(x)),
    "ex2": _in_float64(np.exp2),
    "lg2": _in_float64(np.log2),
    "sin": _in_float64(np.sin),
    "cos": _in_float64(np.cos),
    "tanh": _in_float64(np.tanh),
    "neg": lambda _, a: -a,
    "abs": lambda _, a: np.abs(a),
    "copysign": lambda _, sign, size: np.copysign(size, sign),
    "min": _smaller,
    "max": _larger,
    "and": lambda _, a, b: a & b,
    "or": lambda _, a, b: a | b,
    "xor": lambda _, a, b: a ^ b,
    "not": _not,
    "shl": _shift,
    "shr": _shift,
    "bfe": _bit_field,
    "popc": _count_bits,
    "clz": _leading_zeros,
    "selp": lambda _, a, b, p: np.where(p, a, b),
    "setp": _set_predicate,
    "cvt": _convert,
}
