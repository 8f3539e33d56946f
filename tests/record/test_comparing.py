"""What differs from a recorded line, and by how much it may. Units by the ends of names."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.record.comparing import (
    OTHER_ENGINE,
    SAME_ENGINE,
    Tolerance,
    aligned,
    differences,
    tolerances_of,
    unit_of,
)
from monitor.record.reading import JournalLine

SAME, OTHER = tolerances_of("cpu", "cpu"), tolerances_of("cpu", "reference")


def line(kind: str, **fields: Any) -> JournalLine:
    return JournalLine(7, 7, 0.0, kind, {"seq": 7, "at": "", "mono_s": 1.0, "kind": kind, **fields})


def beyond(recorded: JournalLine, now: dict[str, Any], tolerances: Any = SAME) -> list[str]:
    """The fields that differ by more than they may."""
    return [d.field for d in differences(recorded, now, tolerances) if not d.within]


@pytest.mark.parametrize(
    ("recorded", "now", "differs"),
    [
        (1.0, 1.0, False),
        (1.0, 1.0 + 0.9 * SAME_ENGINE.mm, False),
        (1.0, 1.0 + 1.1 * SAME_ENGINE.mm, True),
        (1.0, None, True),
        (None, 1.0, True),
        (None, float("inf"), False),  # the journal holds no infinity
        (float("nan"), 1.0, True),
        (1.0, True, True),
        ([1.0, 2.0], (1.0, 2.5), True),
        ([1.0, 2.0], (1.0,), True),
        ("1.0", 1.0, True),
    ],
)
def test_a_number_may_differ_by_its_tolerance_and_nothing_else_may(
    recorded: Any, now: Any, differs: bool
) -> None:
    assert bool(beyond(line("registered", x_mm=recorded), {"x_mm": now})) == differs


def test_a_field_is_named_by_its_path_and_measured_in_the_unit_of_the_nearest_name() -> None:
    recorded = line("assessment", structures=[{"name": "skin", "distance_mm": 3.0}])
    (found,) = differences(recorded, {"structures": [{"name": "skin", "distance_mm": 3.5}]}, SAME)
    assert (found.field, found.unit, found.apart) == ("structures[0].distance_mm", "mm", 0.5)


def test_numbers_by_the_name_of_a_body_have_the_unit_of_the_field_that_holds_them() -> None:
    recorded = line("what_if", change={"distance_mm": {"skin": [3.0, 4.0], "colon": None}})
    now = {"change": {"distance_mm": {"skin": [3.0, 4.5], "colon": None}}}
    (found,) = differences(recorded, now, SAME)
    assert (found.field, found.unit) == ("change.distance_mm.skin[1]", "mm")
    other_mm = {
        "change": {"distance_mm": {"skin": [3.0, 4.0 + 0.9 * OTHER_ENGINE.mm], "colon": None}}
    }
    assert beyond(recorded, other_mm, OTHER) == []
    assert beyond(recorded, other_mm, SAME) == ["change.distance_mm.skin[1]"]


def test_a_field_that_is_gone_or_new_differs_and_where_a_file_lies_does_not_matter() -> None:
    recorded = line("instance_rejected", reason="localizer", path="quarantine/a.dcm")
    assert beyond(recorded, {"reason": "localizer"}) == []
    assert beyond(recorded, {"reason": "localizer", "text": "why"}) == ["text"]
    assert beyond(recorded, {}) == ["reason"]


def test_another_engine_may_differ_in_what_it_computed_and_in_nothing_else() -> None:
    some_s = 0.9 * OTHER_ENGINE.s
    forecast = line("forecast", engine="cpu", time_to_margin_s=[100.0, 200.0])
    now = {"engine": "reference", "time_to_margin_s": [100.0 + some_s, 200.0]}
    assert beyond(forecast, now, OTHER) == []
    assert beyond(forecast, now) == ["engine", "time_to_margin_s[0]"]
    measured = line("assessment", min_margin_mm=1.0, time_to_margin_s=[100.0, 200.0])
    now = {
        "min_margin_mm": 1.0 + 1.1 * SAME_ENGINE.mm,
        "time_to_margin_s": [100.0, 200.0 + some_s],
    }
    assert beyond(measured, now, OTHER) == ["min_margin_mm"]


def test_units_are_the_ends_of_names() -> None:
    names = {"min_margin_at_lps_mm": "mm", "coldest_degc": "degc", "ice_volume_ml": "ml",
             "time_to_margin_s": "s", "structures": "", "quality": "", "number_one": ""}  # fmt: skip
    assert {name: unit_of(name) for name in names} == names
    assert all(value > 0 for t in (SAME_ENGINE, OTHER_ENGINE) for value in vars(t).values())
    assert set(vars(SAME_ENGINE)) == set(Tolerance.__dataclass_fields__)


def test_a_result_that_is_missing_does_not_shift_the_others() -> None:
    recorded = [line("registered"), line("assessment")]
    now: list[tuple[str, dict[str, Any]]] = [
        ("registered", {}),
        ("ice_segmented", {}),
        ("assessment", {}),
    ]
    pairs = [(a and a.kind, b and b[0]) for a, b in aligned(recorded, now)]
    assert pairs == [
        ("registered", "registered"), (None, "ice_segmented"), ("assessment", "assessment"),
    ]  # fmt: skip
