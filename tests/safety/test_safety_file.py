"""Hazards, requirements, tests, alarms and dependencies name each other, and none is left over."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.decision.safety import ALARMS

ROOT = Path(__file__).parents[2]
SAFETY = ROOT / "docs" / "safety"
HAZARD = {"id", "hazard", "cause", "harm", "before", "after", "controlled_by"}
REQUIREMENT = {"id", "text", "controls", "implemented_in", "verified"}
SOUP = {"name", "versions", "purpose", "failure", "anomalies"}
SEVERITY, PROBABILITY = re.compile(r"S[1-5]"), re.compile(r"P[1-5]")


def read(name: str) -> Any:
    return yaml.safe_load((SAFETY / name).read_text(encoding="utf-8"))


def marks(text: str) -> Iterator[str]:
    """The ids of every ``pytest.mark.requirement`` in a module, wherever it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), ast.unparse(node)
                yield argument.value


def marked() -> dict[str, set[str]]:
    """requirement id → the files whose tests verify it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for name in marks(text) if "mark.requirement" in text else ():
            found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def orphans(
    hazards: list[dict[str, Any]],
    requirements: list[dict[str, Any]],
    tested: dict[str, set[str]],
    alarms: set[str],
) -> list[str]:
    """Whatever names nothing, or is named by nothing."""
    by_hazard = {(h["id"], r) for h in hazards for r in h["controlled_by"]}
    by_requirement = {(h, r["id"]) for r in requirements for h in r["controls"]}
    known, of = (
        {r["id"] for r in requirements},
        {a for r in requirements for a in r.get("alarms", ())},
    )
    found = [f"{r}: no test carries it" for r in known - tested.keys()]
    found += [
        f"{', '.join(sorted(tested[r]))}: {r} is no requirement" for r in tested.keys() - known
    ]
    found += [f"{h['id']}: no control" for h in hazards if not h["controlled_by"]]
    found += [f"{r['id']}: controls no hazard" for r in requirements if not r["controls"]]
    found += [f"{h} says {r} controls it, {r} does not" for h, r in by_hazard - by_requirement]
    found += [f"{r} says it controls {h}, {h} does not" for h, r in by_requirement - by_hazard]
    found += [f"alarm {a}: of no requirement" for a in alarms - of]
    found += [f"alarm {a}: there is none" for a in of - alarms]
    return sorted(found)


def normal(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", text, re.M):
        pins.setdefault(normal(name), set()).add(version)
    return pins


def soup_faults(
    soup: list[dict[str, Any]], direct: set[str], pins: dict[str, set[str]]
) -> list[str]:
    said = {normal(p["name"]): set(p["versions"]) for p in soup}
    found = [f"{name}: not in soup.yml" for name in direct - said.keys()]
    found += [f"{name}: not a dependency" for name in said.keys() - direct]
    found += [
        f"{name}: {sorted(said[name])}, the lock has {sorted(pins.get(name, set()))}"
        for name in said.keys() & direct
        if said[name] != pins.get(name)
    ]
    return sorted(found)


def direct() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normal(re.split(r"[\s<>=!;\[]", d, maxsplit=1)[0]) for d in project["dependencies"]}


@pytest.fixture(scope="module")
def file() -> tuple[Any, Any, dict[str, set[str]], set[str]]:
    return read("hazards.yml"), read("requirements.yml"), marked(), set(ALARMS)


def test_nothing_is_an_orphan(file: Any) -> None:
    assert orphans(*file) == []


def test_every_entry_is_whole(file: Any) -> None:
    hazards, requirements, _, _ = file
    for entries, keys in ((hazards, HAZARD), (requirements, REQUIREMENT)):
        assert len({e["id"] for e in entries}) == len(entries)
        for e in entries:
            assert keys <= e.keys() <= keys | {"alarms"}, e["id"]
            assert all(e.values()), e["id"]
    for h in hazards:
        for when in (h["before"], h["after"]):
            assert SEVERITY.fullmatch(when["severity"]), h["id"]
            assert PROBABILITY.fullmatch(when["probability"]), h["id"]
        assert h["after"]["severity"] <= h["before"]["severity"]
        assert h["after"]["probability"] < h["before"]["probability"], h["id"]


def test_what_implements_a_requirement_is_there(file: Any) -> None:
    missing = [
        (r["id"], p) for r in file[1] for p in r["implemented_in"] if not (ROOT / p).exists()
    ]
    assert missing == []


def test_every_dependency_is_in_the_soup_at_the_version_of_the_lock() -> None:
    soup = read("soup.yml")
    pins = locked((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8"))
    assert soup_faults(soup["packages"], direct(), pins) == []
    for p in soup["packages"]:
        assert p.keys() == SOUP, p["name"]
        assert all(p.values()), p["name"]
    assert all(f.keys() == {"id", "reason"} for f in soup["ignored_findings"])


def test_the_requirements_that_threats_name_are_there(file: Any) -> None:
    named = set(
        re.findall(r"REQ-[A-Z-]+[A-Z]", (SAFETY / "threats.md").read_text(encoding="utf-8"))
    )
    assert named
    assert named <= {r["id"] for r in file[1]}


@pytest.mark.parametrize(
    "says",
    [
        "REQ-NEW: no test carries it", "REQ-NEW: controls no hazard", "tests/test_x.py: REQ-GONE is no",
        "HAZ-NEW: no control", "alarm new_alarm: of no requirement", "does not",
    ],
)  # fmt: skip
def test_each_orphan_would_be_found(file: Any, says: str) -> None:
    hazards, requirements, tested, alarms = deepcopy(file)
    requirements.append({"id": "REQ-NEW", "controls": []})
    hazards.append({"id": "HAZ-NEW", "controlled_by": []})
    hazards[0]["controlled_by"].pop()
    tested["REQ-GONE"] = {"tests/test_x.py"}
    assert any(says in f for f in orphans(hazards, requirements, tested, alarms | {"new_alarm"}))


def test_another_version_and_a_new_dependency_would_be_found() -> None:
    soup = [{"name": "NumPy", "versions": ["2.0"]}, {"name": "old", "versions": ["1"]}]
    assert soup_faults(soup, {"numpy", "new"}, {"numpy": {"2.1"}}) == [
        "new: not in soup.yml",
        "numpy: ['2.0'], the lock has ['2.1']",
        "old: not a dependency",
    ]


def test_marks_are_read_wherever_they_stand() -> None:
    text = '@pytest.mark.requirement("A", "B")\ndef f(): ...\npytestmark = [pytest.mark.requirement("C")]'
    assert list(marks(text)) == ["A", "B", "C"]
