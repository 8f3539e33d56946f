"""Mutation run over the decision's gate: small wrong versions of it, each of which a test must notice.

    python scripts/mutate_decision.py                 # all of them: about 6 minutes on two free cores
    python scripts/mutate_decision.py --sample 20     # some, as the tests do
    python scripts/mutate_decision.py --only safety

One mutant is one change to the syntax tree: a comparison, an operator, a number, a text, a condition, a
branch, a statement, a call. Unlike mutmut's, they are also in tables and constants of modules (half of what
can be wrong here), and unlike cosmic-ray's they cost a fork, not the start of an interpreter. Each
is run against tests/decision in a process of its own, its module's tests first; a failing test, an error
and more than a minute of computing count as noticed. Mutants that change nothing that can be seen are
listed with the reason in tests/decision/equivalent_mutants.toml; a listed one that is noticed is an
error, too.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import random
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EQUIVALENT = ROOT / "tests" / "decision" / "equivalent_mutants.toml"
# The module's own tests, which notice nearly all, then the others.
_TESTS = {
    "alarm_states": (("alarm_states",), ("alarm_table", "safety", "not_a_number")),
    "safety": (("alarm_table",), ("safety",), ("not_a_number",)),
    "assessment": (("assessment", "assessment_grid"), ("not_a_number",)),
    "not_a_number": (("not_a_number",), ("alarm_table", "safety", "assessment", "assessment_grid")),
    "protocol": (("protocol",),),
}
MODULES = tuple(_TESTS)
_PRELOADED = (
    "hypothesis.extra.numpy", "_hypothesis_pytestplugin", "scipy.spatial", "scipy.ndimage", "pytest",
    "monitor.imaging.distance", "monitor.config", "tests.conftest",
)  # fmt: skip
_LIMIT_S = 60
_WORKERS = 2
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "argmin": "argmax",
}
_NAMES |= {"HIGH": "LOW", "MEDIUM": "HIGH", "LOW": "MEDIUM", "_HIGH": "_LOW", "_MEDIUM": "_HIGH"}
_NAMES |= {"_LOW": "_MEDIUM", "FREEZE": "THAW", "THAW": "FREEZE", "inf": "nan", "nan": "inf"}
_NAMES |= {
    "UNACKNOWLEDGED": "ACKNOWLEDGED",
    "ACKNOWLEDGED": "UNACKNOWLEDGED",
    "LATCHED": "INACTIVE",
}
_NAMES |= {"INACTIVE": "LATCHED", "OK": "DEGRADED", "DEGRADED": "INVALID", "INVALID": "DEGRADED"}

# The first two arguments of these may be swapped (of np.clip, while they are ordered).
_COMMUTE = ("min", "max", "np.clip", "worst")


@dataclass(frozen=True)
class Mutant:
    """``name`` is stable while its line is: module, the line as it was, the change. ``place`` is the
    node in the order of ``ast.walk``, ``way`` which of its changes."""

    module: str
    name: str
    place: int
    way: int

    def source(self) -> str:
        tree = _parsed(self.module)
        node = list(ast.walk(tree))[self.place]
        _replace(tree, node, list(_changes(node))[self.way][1])
        return ast.unparse(ast.fix_missing_locations(tree))


# --------------------------------------------------------------------------- making them


def mutants(module: str) -> list[Mutant]:
    """Every mutant of a module of monitor/decision."""
    tree, lines = _parsed(module), _text(module).splitlines()
    made: list[Mutant] = []
    seen: dict[str, int] = {}
    for place, node in enumerate(ast.walk(tree)):
        for way, (what, _) in enumerate(_changes(node)):
            name = f"{module} | {lines[_line(tree, node) - 1].strip()} | {what}"
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            made.append(Mutant(module, name, place, way))
    return made


def _text(module: str) -> str:
    return (ROOT / "monitor" / "decision" / f"{module}.py").read_text(encoding="utf-8")


def _parsed(module: str) -> ast.Module:
    """The syntax tree, with ``spared`` on the nodes that are not to be spoilt."""
    tree = ast.parse(_text(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            _spare_words(node)
    return tree


def _line(tree: ast.AST, node: ast.AST) -> int:
    """Of the node, or of what holds it."""
    if hasattr(node, "lineno"):
        return int(node.lineno)
    parents = (p for p in ast.walk(tree) if hasattr(p, "lineno") and node in ast.walk(p))
    return max(int(p.lineno) for p in parents)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """``old`` by ``new`` wherever it hangs."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                setattr(parent, name, [new if v is old else v for v in value])


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(what, the node that takes its place) for each way to spoil a node. Types are left alone: they
    are the type checker's; so are the sentences that explain."""
    if getattr(node, "spared", False):
        return
    if isinstance(node, ast.Compare):
        yield from _comparisons(node)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and <-> or", ast.BoolOp(other, node.values)
        for k in range(len(node.values)):
            rest = node.values[:k] + node.values[k + 1 :]
            yield f"part {k} left out", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp):
        yield f"{type(node.op).__name__} left out", node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield "operator", ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.IfExp):
        yield "branches swapped", ast.IfExp(node.test, node.orelse, node.body)
        yield "always the first", node.body
        yield "always the second", node.orelse
    elif isinstance(node, ast.If | ast.While):
        for value in (True, False) if isinstance(node, ast.If) else (False,):
            yield f"condition {value}", type(node)(ast.Constant(value), node.body, node.orelse)
    elif isinstance(node, ast.comprehension):
        for k in range(len(node.ifs)):
            rest = node.ifs[:k] + node.ifs[k + 1 :]
            yield "filter left out", ast.comprehension(node.target, node.iter, rest, 0)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Name | ast.Attribute):
        yield from _names(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
        yield "returns None", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        yield "statement left out", ast.Pass()
    elif isinstance(node, ast.Continue | ast.Break):
        yield "left out", ast.Pass()
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        yield "last left out", ast.Tuple(node.elts[:-1], node.ctx)


def _comparisons(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    for k, op in enumerate(node.ops):
        for other in _COMPARISONS[type(op)]:
            ops = [*node.ops[:k], other(), *node.ops[k + 1 :]]
            what = f"{type(op).__name__} -> {other.__name__}"
            yield (
                f"{what} in part {k}" if k else what,
                ast.Compare(node.left, ops, node.comparators),
            )


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value: Any = node.value
    if isinstance(value, bool):
        yield f"{value} -> {not value}", ast.Constant(not value)
    elif isinstance(value, int | float):
        for other in (value + 1, value - 1) if isinstance(value, int) else (value * 1.01 + 0.001,):
            yield f"{value} -> {other}", ast.Constant(other)
    elif isinstance(value, str) and value:
        yield f"{value!r} changed", ast.Constant(value + "X")
    elif value is None:
        yield "None -> True", ast.Constant(True)


def _names(node: ast.Name | ast.Attribute) -> Iterator[tuple[str, ast.AST]]:
    name = node.id if isinstance(node, ast.Name) else node.attr
    if name in _NAMES and isinstance(node.ctx, ast.Load):
        other = _NAMES[name]
        if isinstance(node, ast.Name):
            yield f"{name} -> {other}", ast.Name(other, node.ctx)
        else:
            yield f"{name} -> {other}", ast.Attribute(node.value, other, node.ctx)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    for k, keyword in enumerate(node.keywords):
        rest = node.keywords[:k] + node.keywords[k + 1 :]
        yield f"{keyword.arg} left out", ast.Call(node.func, node.args, rest)
    if len(node.args) > 1 and ast.unparse(node.func) not in _COMMUTE:
        yield (
            "first two arguments swapped",
            ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords),
        )


def _spare_words(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> None:
    """Docstrings, imports, annotations and decorators are not spoilt."""
    spared: list[ast.AST | None] = []
    if ast.get_docstring(node) is not None:
        spared.append(node.body[0])
    if isinstance(node, ast.FunctionDef):
        arguments = (*node.args.args, *node.args.kwonlyargs)
        spared += [node.returns, *node.decorator_list, *(a.annotation for a in arguments)]
    if isinstance(node, ast.ClassDef):
        spared += node.decorator_list
    for inner in ast.walk(node):
        if isinstance(inner, ast.AnnAssign):
            spared.append(inner.annotation)
    if isinstance(node, ast.Module):
        spared += [n for n in node.body if isinstance(n, ast.Import | ast.ImportFrom)]
        spared += [n.value for n in node.body if _is_type_alias(n)]  # type: ignore[attr-defined]
    for tree in spared:
        for inner in ast.walk(tree) if tree is not None else ():
            inner.spared = True  # type: ignore[attr-defined]


def _is_type_alias(node: ast.stmt) -> bool:
    """``Key = tuple[...]``"""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)


# --------------------------------------------------------------------------- running them


def survivors(chosen: Sequence[Mutant], tell: bool = False) -> list[Mutant]:
    """Those that no test notices."""
    _preload()
    waiting, running, left = list(chosen)[::-1], list[_Run](), list[Mutant]()
    done, began = 0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < _WORKERS:
            running.append(_Run(waiting.pop()))
        multiprocessing.connection.wait([r.process.sentinel for r in running], 0.5)
        ended = [r for r in running if r.ended()]
        left += [r.mutant for r in ended if r.process.exitcode == 0]
        done += len(ended)
        running = [r for r in running if r not in ended]
        if tell and ended and done % 50 < len(ended):
            took_s = time.monotonic() - began
            print(f"{done} of {len(chosen)} in {took_s:.0f} s", file=sys.stderr, flush=True)
    return left


class _Run:
    """The tests against one mutant, in a forked process."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.process = multiprocessing.get_context("fork").Process(target=_tested, args=(mutant,))
        self.process.start()

    def ended(self) -> bool:
        over = not self.process.is_alive()
        if over and self.process.exitcode == -signal.SIGXCPU:
            print(f"out of time: {self.mutant.name}", file=sys.stderr, flush=True)
        return over


def _preload() -> None:
    """What every run needs and no mutant changes, so that a fork has it already."""
    sys.path.insert(0, str(ROOT))
    os.environ["ICEBALL_MUTANTS"] = "1"
    for name in _PRELOADED:
        importlib.import_module(name)
    # Whoever asked may have imported the gate and its tests: each fork imports them anew.
    for name in [n for n in sys.modules if n.startswith(("tests.decision", "monitor.decision."))]:
        del sys.modules[name]


class _Spoilt(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutant in the module's place."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant, self._name = mutant, f"monitor.decision.{mutant.module}"

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: Any) -> None:
        exec(compile(self._mutant.source(), self._mutant.name, "exec"), module.__dict__)


def _tested(mutant: Mutant) -> None:
    import pytest

    # Of the processor's time: by the clock on the wall a busy machine would kill what tests do not.
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_S, _LIMIT_S + 5))
    sys.meta_path.insert(0, _Spoilt(mutant))
    quiet = ["-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-o", "addopts="]
    for plugin in ("cacheprovider", "timeout", "unraisableexception", "threadexception"):
        quiet += ["-p", f"no:{plugin}"]
    with (
        open(os.devnull, "w") as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        for group in _TESTS[mutant.module]:
            files = [str(ROOT / "tests" / "decision" / f"test_{name}.py") for name in group]
            if pytest.main([*quiet, f"--rootdir={ROOT}", *files]) != 0:
                os._exit(1)
    os._exit(0)


# --------------------------------------------------------------------------- telling


def equivalent() -> dict[str, str]:
    """Name of a mutant that changes nothing that can be seen → why."""
    return {
        m["mutant"]: m["why"] for m in tomllib.loads(EQUIVALENT.read_text("utf-8"))["equivalent"]
    }


def sample(count: int, seed: int, modules: Sequence[str] = MODULES) -> list[Mutant]:
    """Some mutants that a test must notice."""
    listed = equivalent()
    every = [m for module in modules for m in mutants(module) if m.name not in listed]
    return random.Random(seed).sample(every, count)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=MODULES, help="one module")
    parser.add_argument("--sample", type=int, help="so many, drawn by chance")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    modules = [args.only] if args.only else MODULES
    listed = equivalent()
    made = [m for module in modules for m in mutants(module)]
    chosen = sample(args.sample, args.seed, modules) if args.sample else made
    began = time.monotonic()
    left = survivors(chosen, tell=True)
    print(f"{'module':<14}{'mutants':>8}{'killed':>8}{'equivalent':>12}{'survived':>10}")
    for module in modules:
        of_it = [m for m in chosen if m.module == module]
        alive = [m for m in left if m.module == module]
        same = sum(m.name in listed for m in alive)
        print(
            f"{module:<14}{len(of_it):>8}{len(of_it) - len(alive):>8}{same:>12}{len(alive) - same:>10}"
        )
    print(f"{time.monotonic() - began:.0f} s")
    wrong = [m.name for m in left if m.name not in listed]
    noticed = listed.keys() & {m.name for m in chosen} - {m.name for m in left}
    gone = set() if args.only else listed.keys() - {m.name for m in made}
    for what, names in (
        ("SURVIVED", wrong),
        ("LISTED BUT KILLED", noticed),
        ("LISTED BUT GONE", gone),
    ):
        for name in sorted(names):
            print(f"{what}: {name}")
    return 1 if wrong or noticed or gone else 0


if __name__ == "__main__":
    sys.exit(main())
