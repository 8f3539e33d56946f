"""The command line: what it names is there; what is mistyped is told before anything heavy is imported."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from monitor.arguments import parser
from monitor.cli import main
from monitor.config import PACS_OBJECTS
from monitor.export import OBJECTS, objects_named

HEAVY = ("numba", "scipy", "highdicom", "pydicom", "pynetdicom", "SimpleITK", "PyQt5")


def commands(p: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in p._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from commands(child)
    if p.get_default("run"):
        yield p
    yield from getattr(p, "instead", {}).values()


def test_every_command_has_its_function() -> None:
    found = {p.prog: p.get_default("run") for p in commands(parser())}
    assert len(found) == 19
    for prog, run in found.items():
        module, name = (c.cell_contents for c in run.__closure__)
        assert callable(getattr(import_module(f"monitor.commands.{module}"), name)), prog


def test_who_looks_after_a_procedure_imports_nothing_heavy() -> None:
    """It stays for hours, beside the program that it starts again at once."""
    code = (
        f"import sys, monitor.commands.procedure\nprint([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("typed", [["send", "x", "--to", "PACS"], ["live", "--screen", "none"]])
def test_a_mistyped_option_is_told_without_heavy_imports(typed: list[str]) -> None:
    code = (
        "import sys\nfrom monitor.cli import main\ntry:\n    main(sys.argv[1:])\n"
        f"except SystemExit as e:\n    print(e.code, [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *typed], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2 []"
    assert typed[-1] in done.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["demo", "--ct", "{here}/none"], "iceball: --ct {here}/none: not a folder\n"),
        (
            ["demo", "--ct", "{here}", "--out", "{here}/out"],
            "iceball: {here}: no CT in it\n",
        ),
        (
            ["simulate", "{here}/no.toml"],
            "iceball: {here}/no.toml: cannot be read: No such file or directory\n",
        ),
    ],
)
def test_one_line_says_what_is_wrong(
    typed: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(here=tmp_path) for word in typed]) == 2
    assert capfd.readouterr().err == said.format(here=tmp_path)


def test_the_patients_label_leaves_only_when_that_is_asked_for() -> None:
    """It is burned into the captured screens."""
    sent = parser().parse_args(["send", "record", "--to", "PACS@127.0.0.1:104"]).objects
    assert objects_named(sent) == OBJECTS - {"screen"}
    typed = ["send", "record", "--to", "PACS@127.0.0.1:104", "--objects", *PACS_OBJECTS]
    assert objects_named(parser().parse_args(typed).objects) == OBJECTS
