"""Every refusal of the core has a sentence in both languages: found in the code, so that a new one fails."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from monitor import acts, ahead, baselines, case, fields, opening, procedure, review, scans
from monitor.intake import structures
from monitor.planning import draft, drawn
from monitor.prediction import what_if
from monitor.record import cases, drawings, journal
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
CALLS = ("Refusal", "ValueError", "OSError")


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


# Whatever reading a case, a delineation or a question finds wrong: every sentence of these modules is known.
READING = (
    case,
    fields,
    structures,
    opening,
    procedure,
    draft,
    cases,
    drawings,
    journal,
    what_if,
    ahead,
)
# What says it there: an exception, or a list of what is wrong with a file.
WRONG = ("ValueError", "ConfigError", "StructureError", "RecordError", "OSError")


def wrongs(module: ModuleType) -> Iterator[str]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        owner = ast.unparse(node.func)
        if name in WRONG or owner in ("errors.append", "self.errors.append"):
            sentence = node.args[0]
        elif name in ("error", "lacks") and len(node.args) == 2:
            sentence = node.args[1]
        else:
            continue
        said = spelled(sentence)
        if said is None:
            whole = ast.unparse(sentence)
            assert "join(" in whole or whole in ("text", "str(error)"), whole
        elif said != "X: X":  # a file and what the system says of it
            yield {"unknownX": "unknown (did you mean X?)"}.get(said, said)


FILES = sorted(
    {said for module in READING for said in wrongs(module)} | set(reasons(drawn, ("write_mask",)))
)
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


@pytest.mark.parametrize("wrong", FILES)
def test_what_is_wrong_with_a_file_is_known_and_is_french_in_french(wrong: str) -> None:
    assert parsed(wrong) is not None, wrong
    assert failure_text("fr", wrong) != wrong
    assert failure_text("en", wrong) == wrong
    at = f"/a b/case.toml: lesion.file: {wrong}"
    assert failure_text("fr", at).startswith("/a b/case.toml: lesion.file"), at
    assert wrong.removeprefix("X: ") not in failure_text("fr", at)


def test_what_is_wrong_with_files_is_found() -> None:
    assert len(FILES) > 50
    assert "X: ROI X has no closed planar contour" in FILES
    assert "X: cannot be written (X)" in FILES


def test_a_new_refusal_would_be_missed() -> None:
    assert parsed("the moon is in the way") is None
    assert (
        refusal_text("en", "undo: the moon is in the way") == "taking back: the moon is in the way"
    )
    assert refusal_text("fr", "undo: the moon is in the way") == (
        "reprise\u00a0: message technique, en anglais : the moon is in the way"
    )


def test_reasons_within_reasons_and_their_words() -> None:
    nested = (
        "open_case: the baseline v001 stands against it: it is of another patient than the case"
    )
    assert refusal_text("fr", nested) == (
        "envoi du plan\u00a0: la référence v001 s’y oppose : il est d’un autre patient que le cas"
    )
    said = refusal_text("fr", "accept_ice: v003 has been corrected already; undo that first")
    assert "v003 est déjà corrigé" in said


def test_errors_as_they_are_raised(tmp_path: Path) -> None:
    """Of a real case: every line of it, whatever is filled in."""
    path = tmp_path / "case.toml"
    path.write_text(
        'organ = {preset = "livr"}\n[lesion]\nfile = "gone.dcm"\n[[needle]]\nnumbr = 1\n'
    )
    with pytest.raises(ValueError, match="problem") as raised:
        case.load_case(path)
    said = refusal_text("fr", f"open_case: {raised.value}")
    for piece in (
        "erreur(s)",
        "(liver peut-être ?)",
        "gone.dcm n’est pas un fichier",
        "numbr : inconnu (number",
    ):
        assert piece in said
    assert "expected" not in said
    assert "anglais" not in said
    with pytest.raises(ValueError, match="read") as raised:
        case.load_case(tmp_path / "none.toml")
    assert failure_text("fr", str(raised.value)) == (
        f"{tmp_path}/none.toml : ne peut être lu : fichier ou dossier introuvable"
    )


def test_every_act_that_can_be_refused_has_a_name() -> None:
    for act in (*acts._ACTS, "pick_baseline", "reload", "open_case", "what_if"):
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
    assert failure_text(language, "disk full").endswith("disk full")
