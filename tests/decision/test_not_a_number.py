"""A NaN in any number that flows raises an alarm, or the assessment is INVALID.

The numbers are found by walking the dataclasses, so that a new field is tried as well.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from monitor.decision.assessment import assess
from monitor.decision.not_a_number import first_nan
from monitor.decision.safety import Facts, causes
from monitor.forecast_values import Forecast
from monitor.model import Assessment, IceSegmentation, Phase, PhaseKind, Status, StructureDistance
from tests.decision.facts import FAR, FINE, NAN, NOW, PHASES
from tests.decision.shapes import PLAN, ball, ice

Path = tuple[Any, ...]


def numbers(value: Any) -> Iterator[Path]:
    """Where the numbers are; one element of each array stands for it."""
    if isinstance(value, float):
        yield ()
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        yield (tuple(n // 2 for n in value.shape),)
    elif isinstance(value, tuple):
        yield from ((i, *rest) for i, inner in enumerate(value) for rest in numbers(inner))
    elif is_dataclass(value):
        for f in fields(value):
            yield from ((f.name, *rest) for rest in numbers(getattr(value, f.name)))


def without(value: Any, path: Path) -> Any:
    """``value`` with NaN at ``path``."""
    if not path:
        return NAN
    step, *rest = path
    if isinstance(value, np.ndarray):
        spoilt = value.copy()
        spoilt[step] = NAN
        return spoilt
    if isinstance(value, tuple):
        return (*value[:step], without(value[step], tuple(rest)), *value[step + 1 :])
    return replace(value, **{step: without(getattr(value, step), tuple(rest))})


def named(path: Path) -> str:
    return ".".join(str(p) for p in path)


FACTS = list(numbers(FINE))
MEASURED = ice(
    (0, 0, 0), 9.0,
    inner_sdf_mm=ball(PLAN_GRID := ice((0, 0, 0), 9.0).grid, (0, 0, 0), 8.0),
    outer_sdf_mm=ball(PLAN_GRID, (0, 0, 0), 10.0),
)  # fmt: skip


def fields_of(value: Any) -> Iterator[tuple[type, str, Any]]:
    if isinstance(value, tuple):
        for inner in value:
            yield from fields_of(inner)
    elif is_dataclass(value):
        for name, hint in typing.get_type_hints(type(value)).items():
            if "float" in str(hint):
                yield type(value), name, getattr(value, name)
            yield from fields_of(getattr(value, name))


def test_the_samples_leave_no_number_out() -> None:
    """Every field that may hold a number holds one somewhere: None would hide it from the walk."""
    found = list(fields_of((FINE, MEASURED, PLAN)))
    wanted = {Facts, Assessment, Forecast, StructureDistance, Phase, IceSegmentation}
    assert wanted <= {owner for owner, _, _ in found}
    filled = {(owner, name) for owner, name, value in found if value is not None}
    assert {(owner, name) for owner, name, _ in found} == filled
    assert len(FACTS) > 45


@pytest.mark.requirement("REQ-NAN")
@pytest.mark.parametrize("path", FACTS, ids=named)
@pytest.mark.parametrize("kind", [PhaseKind.FREEZE, PhaseKind.THAW])
def test_nan_in_any_fact_alarms(path: Path, kind: PhaseKind) -> None:
    facts = replace(FINE, phase=PHASES[kind])
    assert causes(facts, NOW) == ()
    found = {c.code: c.params for c in causes(without(facts, path), NOW)}
    assert found["not_a_number"] == {"where": f"facts.{_spelt(path)}"}


def _spelt(path: Path) -> str:
    return ".".join(str(p) for p in path if not (isinstance(p, tuple)))


@pytest.mark.requirement("REQ-NAN")
@pytest.mark.parametrize("path", list(numbers(MEASURED)), ids=named)
def test_nan_in_a_measurement_is_no_measurement(path: Path) -> None:
    assert assess(MEASURED, PLAN, None).status is Status.OK
    found = assess(without(MEASURED, path), PLAN, None)
    assert (found.status, found.lesion_covered) == (Status.INVALID, None)
    assert [r.code for r in found.reasons] == ["not_proved"]


@pytest.mark.requirement("REQ-NAN")
@pytest.mark.parametrize("path", list(numbers(PLAN)), ids=named)
def test_nan_in_the_plan_is_no_measurement(path: Path) -> None:
    found = assess(MEASURED, without(PLAN, path), None)
    assert (found.status, found.lesion_covered) == (Status.INVALID, None)


@pytest.mark.parametrize("path", list(numbers(FAR)), ids=named)
def test_nan_in_a_forecast_lends_nothing_unseen(path: Path) -> None:
    spoilt = without(FAR, path)
    found = assess(MEASURED, PLAN, spoilt)
    facts = replace(FINE, assessment=replace(found, as_of_utc_s=1000.0), forecast=spoilt)
    assert "not_a_number" in {c.code for c in causes(facts, NOW)}


@dataclass(frozen=True)
class Nested:
    name: str
    values: tuple[Any, ...]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (NAN, "x"),
        (np.float32(NAN), "x"),
        (np.array([1.0, NAN]), "x"),
        (Nested("a", (1.0, None, (2, NAN))), "x.values.2.1"),
        (Nested("a", (NAN, NAN)), "x.values.0"),
        ((np.array([]), np.array([True]), np.array([1]), float("inf"), -1.0, "nan", None), None),
    ],
)
def test_the_first_nan_is_named(value: Any, where: str | None) -> None:
    assert first_nan(value, "x") == where
