"""Mechanical mutants of kernel text: small wrong versions that a good test must notice.

Only bodies of ``__global__`` and ``__device__`` functions are changed; comments, strings and
preprocessor lines are not. Conditions and steps of loops are left alone where the change could
keep the loop from ending.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import multiprocessing.connection
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from . import shim

_MASKED = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|^[ \t]*#(?:\\\n|[^\n])*", re.S | re.M
)
_FUNCTION = re.compile(r"__(?:global|device)__[^;{}]*\)\s*(?:const\s*)?\{")
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[fFuUlL]*|0[xX][0-9a-fA-F]+[uUlL]*)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<operator><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\s\w])"
)
_REPLACED_OPERATOR = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "%": "/",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
    "/=": "*=",
}
_REPLACED_WORD = {
    "min": "max",
    "max": "min",
    "fmin": "fmax",
    "fmax": "fmin",
    "fminf": "fmaxf",
    "fmaxf": "fminf",
}
_NEIGHBOUR = {"x": "y", "y": "z", "z": "x", "X": "Y", "Y": "Z", "Z": "X"}
_TYPE_WORDS = re.compile(
    r"auto|bool|char|const|double|float|int|long|real|short|signed|size_t|static|unsigned|void|"
    r"__restrict__|__shared__|u?int(?:8|16|32|64)_t"
)
_CASTS = {"static_cast", "reinterpret_cast", "const_cast", "template"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Mutant:
    """``description`` names the line and column (counted from 1) and the change."""

    description: str
    line: int
    source: str


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: str
    label: str


def generate(
    source: str,
    limit: int | None = None,
    seed: int = 0,
    defines: Mapping[str, str] | None = None,
) -> list[Mutant]:
    """All mutants in the order of the text, or ``limit`` of them drawn by ``seed``. With
    ``defines``, lines that the preprocessor leaves out under them are not changed."""
    edits = sorted(set(_edits(source)), key=lambda e: (e.start, e.end, e.text))
    if defines is not None:
        active = shim.active_lines(source, defines)
        edits = [edit for edit in edits if _line(source, edit) in active]
    if limit is not None and limit < len(edits):
        chosen = sorted(random.Random(seed).sample(range(len(edits)), limit))
        edits = [edits[k] for k in chosen]
    return [_apply(source, edit) for edit in edits]


def survivors(
    mutants: Iterable[Mutant],
    check: Callable[[str], None],
    timeout_s: float = 20.0,
    workers: int = 2,
) -> list[Mutant]:
    """Mutants whose source ``check`` accepts. Each check runs in a forked process, ``workers`` at a
    time; an exception, a crash and a run of more than ``timeout_s`` all count as noticed."""
    order = list(mutants)
    waiting = order[::-1]
    running: list[_Run] = []
    alive: set[Mutant] = set()
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(_Run(waiting.pop(), check, timeout_s))
        multiprocessing.connection.wait([run.process.sentinel for run in running], 0.2)
        ended = [run for run in running if run.ended()]
        alive |= {run.mutant for run in ended if run.process.exitcode == 0}
        running = [run for run in running if run not in ended]
    return [mutant for mutant in order if mutant in alive]


class _Run:
    """One check in a process of its own."""

    def __init__(self, mutant: Mutant, check: Callable[[str], None], timeout_s: float) -> None:
        self.mutant = mutant
        self.deadline = time.monotonic() + timeout_s
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_quietly, args=(check, mutant.source))
        self.process.start()

    def ended(self) -> bool:
        """Whether the process has ended; one past its deadline is killed."""
        if self.process.is_alive() and time.monotonic() > self.deadline:
            self.process.kill()
            self.process.join()
        return not self.process.is_alive()


def _quietly(check: Callable[[str], None], source: str) -> None:
    """Exit with 1, and without a traceback, where ``check`` raises."""
    faulthandler.disable()
    try:
        check(source)
    except BaseException:
        raise SystemExit(1) from None


def _apply(source: str, edit: _Edit) -> Mutant:
    line = _line(source, edit)
    column = edit.start - source.rfind("\n", 0, edit.start)
    text = source[: edit.start] + edit.text + source[edit.end :]
    return Mutant(f"line {line}:{column}: {edit.label}", line, text)


def _line(source: str, edit: _Edit) -> int:
    return source.count("\n", 0, edit.start) + 1


def _edits(source: str) -> Iterator[_Edit]:
    masked = _MASKED.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)
    types = _type_names(masked)
    words = set(re.findall(r"[A-Za-z_]\w*", masked))
    for match in _FUNCTION.finditer(masked):
        body = _tokens(masked, match.end() - 1)
        yield from _Body(masked, body, types, words).edits()


def _type_names(masked: str) -> set[str]:
    names = {word for word in re.findall(r"\w+", masked) if _TYPE_WORDS.fullmatch(word)}
    names |= set(re.findall(r"typedef\s[^;]*?(\w+)\s*;", masked))
    names |= set(re.findall(r"(?:using|struct|typename|class)\s+(\w+)", masked))
    return names


def _tokens(masked: str, opening: int) -> list[_Token]:
    """Tokens from a brace to the one that closes it."""
    tokens, depth = [], 0
    for match in _TOKEN.finditer(masked, opening):
        tokens.append(_Token(match.lastgroup or "", match[0], match.start()))
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            break
    return tokens


class _Body:
    """The tokens of one function body."""

    def __init__(
        self, masked: str, tokens: Sequence[_Token], types: set[str], words: set[str]
    ) -> None:
        self.masked, self.tokens, self.types, self.words = masked, tokens, types, words
        self.partner = self._partners()
        self.templates = self._template_brackets()
        self.fixed = self._fixed_tokens()

    def edits(self) -> Iterator[_Edit]:
        for k, token in enumerate(self.tokens):
            if k in self.fixed:
                continue
            if token.kind == "operator":
                yield from self._operator(k)
            elif token.kind == "number":
                yield self._replace(k, _other_number(token.text))
            else:
                yield from self._word(k)

    # ---- Structure -------------------------------------------------------------------------

    def _text(self, k: int) -> str:
        return self.tokens[k].text if 0 <= k < len(self.tokens) else ""

    def _partners(self) -> dict[int, int]:
        """Position of the bracket that closes each opening one."""
        partner, stack = {}, []
        for k, token in enumerate(self.tokens):
            if token.text in _CLOSING:
                stack.append(k)
            elif token.text in _CLOSING.values() and stack:
                partner[stack.pop()] = k
        return partner

    def _template_brackets(self) -> set[int]:
        """Angle brackets of casts, which are no comparisons."""
        found = set()
        for k, token in enumerate(self.tokens):
            if token.text == "<" and self._text(k - 1) in _CASTS:
                end = next(j for j in range(k, len(self.tokens)) if self._text(j) == ">")
                found |= {k, end}
        return found

    def _fixed_tokens(self) -> set[int]:
        """Tokens that stay: loop conditions that may never fail, loop steps, array sizes."""
        fixed = set(self.templates)
        for k, token in enumerate(self.tokens):
            if token.text == "while" and self._text(k + 1) == "(":
                fixed |= set(range(k, self.partner[k + 1] + 1))
            elif token.text == "for" and self._text(k + 1) == "(":
                fixed |= self._fixed_in_for(k + 1)
            elif token.text == "[" and self._is_declaration(k):
                fixed |= set(range(k, self.partner[k] + 1))
        return fixed

    def _fixed_in_for(self, opening: int) -> set[int]:
        end = self.partner[opening]
        parts = [k for k in range(opening, end) if self._text(k) == ";"]
        steps = range(parts[1], end + 1)
        counts = {"++", "--", "+="} & {self._text(k) for k in steps}
        return set(steps) if counts else set(range(parts[0], end + 1))

    def _statement_start(self, k: int) -> int:
        while k > 0 and self._text(k - 1) not in ";{}":
            k -= 1
        return k

    def _is_declaration(self, bracket: int) -> bool:
        """Whether this bracket gives the size of an array that the statement declares."""
        start = self._statement_start(bracket)
        between = [self._text(j) for j in range(start, bracket)]
        return self._text(start) in self.types and not {"=", "("} & set(between)

    # ---- Edits -----------------------------------------------------------------------------

    def _replace(self, k: int, text: str) -> _Edit:
        token = self.tokens[k]
        return _Edit(token.start, token.end, text, f"{token.text} -> {text}")

    def _operator(self, k: int) -> Iterator[_Edit]:
        token = self.tokens[k]
        if token.text in _REPLACED_OPERATOR and self._is_binary(k):
            yield self._replace(k, _REPLACED_OPERATOR[token.text])
        if token.text == "[":
            end = self.tokens[self.partner[k]].start
            for step in (" + 1", " - 1"):
                yield _Edit(end, end, step, f"index{step}")
        if token.text == "?":
            yield from self._swapped_branches(k)

    def _is_binary(self, k: int) -> bool:
        before = self.tokens[k - 1]
        if before.text in self.types or self._text(k + 1) in ("__restrict__", "const"):
            return False
        if before.text == ")" and self._is_cast(k - 1):
            return False
        if before.kind == "operator":
            return before.text in (")", "]")
        return before.text != "return"

    def _is_cast(self, closing: int) -> bool:
        opening = next(j for j, end in self.partner.items() if end == closing)
        inside = [self._text(j) for j in range(opening + 1, closing)]
        return bool(inside) and all(text in self.types or text == "*" for text in inside)

    def _word(self, k: int) -> Iterator[_Edit]:
        token, following = self.tokens[k], self._text(k + 1)
        if token.text in _REPLACED_WORD and following == "(":
            yield self._replace(k, _REPLACED_WORD[token.text])
        elif token.text == "__syncthreads":
            end = self.tokens[k + 2].end
            yield _Edit(token.start, end, "", "__syncthreads() dropped")
        elif token.text == "if" and following == "(":
            start, end = self.tokens[k + 1].end, self.tokens[self.partner[k + 1]].start
            yield _Edit(start, end, f"!({self.masked[start:end]})", "condition negated")
        else:
            yield from self._neighbour_name(k)

    def _neighbour_name(self, k: int) -> Iterator[_Edit]:
        """nx -> ny, threadIdx.x -> threadIdx.y, where the new name is in use too."""
        text = self.tokens[k].text
        if self._declares(k):
            return
        for at in {0, len(text) - 1}:
            if text[at] in _NEIGHBOUR:
                other = text[:at] + _NEIGHBOUR[text[at]] + text[at + 1 :]
                if other in self.words:
                    yield self._replace(k, other)

    def _declares(self, k: int) -> bool:
        """Whether the word is being declared here: it follows a type, or a comma after one."""
        if self._text(k - 1) in self.types:
            return True
        in_declaration = self._text(self._statement_start(k)) in self.types
        return in_declaration and self._text(k - 1) == "," and self._text(k + 1) == "="

    def _swapped_branches(self, k: int) -> Iterator[_Edit]:
        """c ? a : b -> c ? b : a, where neither branch is conditional itself."""
        colon = self._skip(k + 1, {":"})
        end = self._skip(colon + 1, {",", ";", ")", "]", "}", "?", ":"})
        if self._text(colon) != ":" or self._text(end) in ("?", ":"):
            return
        start, stop = self.tokens[k + 1].start, self.tokens[end - 1].end
        first = self.masked[start : self.tokens[colon - 1].end]
        second = self.masked[self.tokens[colon + 1].start : stop]
        yield _Edit(start, stop, f"{second} : {first}", "branches of ?: swapped")

    def _skip(self, k: int, stop: set[str]) -> int:
        """Position of the next stopping token outside brackets."""
        while k < len(self.tokens) - 1 and self._text(k) not in stop | {"?", ";"}:
            k = self.partner.get(k, k) + 1
        return k


def _other_number(text: str) -> str:
    """0 -> 1, 3 -> 4, 0.5f -> 0.25f."""
    match = re.fullmatch(r"(\d*\.?\d*(?:[eE][+-]?\d+)?)([fFuUlL]*)", text)
    if match is None:  # hexadecimal
        return f"({text} + 1)"
    digits, suffix = match.groups()
    if not set(digits) & set(".eE"):
        return f"{int(digits) + 1}{suffix}"
    return f"{float(digits) * 0.5 if float(digits) else 1.0!r}{suffix}"
