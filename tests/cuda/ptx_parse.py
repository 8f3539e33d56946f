"""Reads the PTX that NVRTC emits, one statement a line, into instructions and memory layouts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TYPE_BYTES = {
    f"{kind}{bits}": bits // 8 for kind in "busf" for bits in (8, 16, 32, 64) if kind + str(bits)
} | {"f32x2": 8, "pred": 1}
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*(?=[({\n])")
_VARIABLE = re.compile(
    r"\.(shared|local|const|global)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)"
    r"(?:\[(\d+)\])?(?:\s*=\s*\{?([^};]*)\}?)?;"
)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\b[^,]*?)?([\w$]+)(?:\[(\d+)\])?\s*(?:,|$)"
)
_REGISTER = re.compile(r"\.reg\s+\.(\w+)\s+([^;]*);")
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*?);?$")
_LABEL = re.compile(r"([$\w]+):\s*(.*)$")


class PtxError(Exception):
    """The text holds something that this reader does not know."""


@dataclass(frozen=True)
class Instruction:
    """``text`` as written; ``modifiers`` are the opcode's dotted parts that are not types."""

    text: str
    predicate: str | None
    negated: bool
    opcode: str
    modifiers: frozenset[str]
    types: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def type(self) -> str:
        return self.types[-1]


@dataclass(frozen=True)
class Variable:
    """A named piece of memory: ``offset`` and ``size`` in bytes within its state space."""

    space: str
    name: str
    offset: int
    size: int
    type: str
    data: bytes = b""


@dataclass
class Program:
    """One kernel: ``labels`` and ``tables`` (of brx.idx) hold positions in ``code``;
    ``registers`` maps a register's name without its number to its type."""

    name: str
    parameters: list[Variable] = field(default_factory=list)
    variables: dict[str, Variable] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)

    def bytes_of(self, space: str) -> int:
        """Extent of a state space."""
        return max(
            (v.offset + v.size for v in self.variables.values() if v.space == space), default=0
        )


def kernel_names(ptx: str) -> list[str]:
    return _ENTRY.findall(ptx)


def parse(ptx: str, kernel: str) -> Program:
    """Read one kernel. Raises PtxError where it is not there or holds unknown statements."""
    text = re.sub(r"//[^\n]*", "", ptx)
    start = re.search(rf"\.entry\s+{re.escape(kernel)}\s*(?=[(\n{{])", text)
    if start is None:
        raise PtxError(f"no kernel {kernel}; there are {', '.join(kernel_names(ptx))}")
    program = Program(kernel)
    for match in _VARIABLE.finditer(text[: text.index(".entry")]):
        _add_variable(program, match)
    head, body = _head_and_body(text, start.end())
    _read_parameters(program, head)
    for line in body.splitlines():
        _read_line(program, line.strip())
    return program


def _head_and_body(text: str, position: int) -> tuple[str, str]:
    opening = text.index("{", position)
    closing = re.compile(r"^\}", re.M).search(text, opening)
    if closing is None:
        raise PtxError("the kernel's body does not end")
    return text[position:opening], text[opening + 1 : closing.start()]


def _read_parameters(program: Program, head: str) -> None:
    inside = re.match(r"\s*\((.*?)\)", head, re.S)
    offset = 0
    for line in inside[1].splitlines() if inside else []:
        if not line.strip():
            continue
        match = _PARAMETER.match(line.strip())
        if match is None:
            raise PtxError(f"parameter not understood: {line.strip()}")
        size = TYPE_BYTES[match[2]] * int(match[4] or 1)
        offset = _aligned(offset, int(match[1] or TYPE_BYTES[match[2]]))
        type_ = "struct" if match[4] else match[2]
        program.parameters.append(Variable("param", match[3], offset, size, type_))
        offset += size


def _add_variable(program: Program, match: re.Match[str]) -> None:
    space, align, type_, name, count, values = match.groups()
    unit = TYPE_BYTES[type_]
    offset = _aligned(program.bytes_of(space), int(align or unit))
    numbers = [int(v, 0) for v in (values or "").split(",") if v.strip()]
    data = b"".join((n % 256**unit).to_bytes(unit, "little") for n in numbers)
    size = unit * int(count or 1)
    program.variables[name] = Variable(space, name, offset, size, type_, data.ljust(size, b"\0"))


def _read_line(program: Program, line: str) -> None:
    if line in ("", "{", "}"):
        return
    if label := _LABEL.match(line):
        if label[2].startswith(".branchtargets"):
            program.tables[label[1]] = re.findall(r"[$\w]+", label[2].split("targets", 1)[1])
            return
        program.labels[label[1]] = len(program.code)
        line = label[2]
    if match := _VARIABLE.match(line):
        _add_variable(program, match)
    elif match := _REGISTER.match(line):
        for name in match[2].split(","):
            program.registers[register_family(name.strip())] = match[1]
    elif line and not line.startswith("."):
        program.code.append(_instruction(line))


def _instruction(line: str) -> Instruction:
    match = _STATEMENT.match(line)
    if match is None:
        raise PtxError(f"statement not understood: {line}")
    opcode, *parts = match[3].split(".")
    types = tuple(part for part in parts if part in TYPE_BYTES)
    modifiers = frozenset(part for part in parts if part and part not in TYPE_BYTES)
    operands = tuple(o.strip() for o in re.split(r",(?![^{]*\})", match[4]) if o.strip())
    text = " ".join(line.rstrip(";").split())
    return Instruction(text, match[2], bool(match[1]), opcode, modifiers, types, operands)


def register_family(name: str) -> str:
    """%rd12 and %rd<41> are both of the family %rd; a name without a number is its own."""
    return re.sub(r"(?:<\d+>|\d+)$", "", name)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
