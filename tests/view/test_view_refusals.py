"""Every refusal of the core has a sentence in both languages: found in the code, so that a new one fails."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from monitor import acts, baselines, review, scans
from monitor.planning import drawn
from monitor.view.console import editor
from monitor.view.refusals import failure_text, refusal_text
from monitor.view.translations import TABLES, text
from monitor.view.translations_refusals import parsed

# Functions whose strings are reasons; "" is none.
SAYING = {
    acts: (
        "_needle",
        "_number",
        "_duty",
        "_accept",
        "_reject",
        "_correct",
        "_reviewed_scan",
        "_undo",
    ),
    baselines: ("unsuited", "_unpickable"),
    scans: ("misfit",),
    review: ("corrected",),
}
CALLS = ("Refusal", "ValueError")


def spelled(node: ast.AST) -> str | None:
    """A literal as it would read, with X for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
    if isinstance(node, ast.IfExp):
        return spelled(node.body) or spelled(node.orelse)
    return None


def reasons(module: ModuleType, names: tuple[str, ...]) -> Iterator[str]:
    tree = ast.parse(inspect.getsource(module))
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    for name in names:
        for node in ast.walk(functions[name]):
            said: str | None = None
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                assert getattr(node.exc.func, "id", "") in CALLS
                said = spelled(node.exc.args[0])
            elif (
                isinstance(node, ast.Return)
                and node.value is not None
                and module not in (acts, review)
            ):
                said = spelled(node.value)
            if said:
                yield said


ALL = sorted(
    {r for module, names in SAYING.items() for r in reasons(module, names)}
    | {baselines._TOO_LITTLE, "X has not been received (X)", "no volume has been received yet"}
)


def test_they_are_found() -> None:
    assert len(ALL) > 20
    for module in (acts, baselines):
        raised = inspect.getsource(module).count("raise Refusal(")
        assert raised <= sum(
            inspect.getsource(module).count(f"def {n}(") * 9 for n in SAYING[module]
        )


@pytest.mark.parametrize("reason", ALL)
def test_a_refusal_is_known_and_is_french_in_french(reason: str) -> None:
    whole = reason.replace("X: X", "X: it shows too little of the lesion")
    assert parsed(whole) is not None, reason
    french = refusal_text("fr", f"undo: {whole}")
    assert french.startswith("reprise\u00a0: ")
    assert whole not in french
    assert refusal_text("en", f"undo: {whole}") == f"taking back: {whole}"


def test_a_new_refusal_would_be_missed() -> None:
    assert parsed("the moon is in the way") is None
    assert refusal_text("fr", "undo: the moon is in the way").endswith("the moon is in the way")


def test_reasons_within_reasons_and_their_words() -> None:
    nested = (
        "open_case: the baseline v001 stands against it: it is of another patient than the case"
    )
    assert refusal_text("fr", nested) == (
        "envoi du plan\u00a0: la référence v001 s’y oppose : il est d’un autre patient que le cas"
    )
    said = refusal_text("fr", "accept_ice: v003 has been corrected already; undo that first")
    assert "v003 est déjà corrigé" in said
    assert refusal_text("fr", "open_case: /a/case.toml: lesion: expected a file").endswith(
        "/a/case.toml: lesion: expected a file"
    )


def test_every_act_that_can_be_refused_has_a_name() -> None:
    for act in (*acts._ACTS, "pick_baseline", "reload", "open_case"):
        assert f"act.{act}" in TABLES["fr"]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_drawing_error_has_a_sentence(language: str) -> None:
    codes = set()
    for module in (drawn, editor):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DrawingError":
                codes.add(spelled(node.args[0]))
    assert {"empty", "long_axis_length", "short_axis_length"} <= codes
    for code in codes:
        assert failure_text(language, str(code)) == text(language, f"drawing.{code}")
    assert failure_text(language, "disk full") == "disk full"
