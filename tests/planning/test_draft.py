"""A draft says what it misses; complete, it makes a case that opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.config import Ellipsoid as Plain
from monitor.config import ListenerConfig
from monitor.opening import open_case
from monitor.planning.case_text import write_case
from monitor.planning.draft import (
    Draft,
    DraftNeedle,
    DraftStructure,
    config_of,
    draft_of,
    drawn_bodies,
    missing,
    plausible,
)
from monitor.planning.drawn import DrawnBody, ball, write_mask

LISTENER = ListenerConfig("ICEBALL", "127.0.0.1", 11112, ())
FULL = Draft(
    "P1",
    "liver",
    None,
    ball((10.0, -20.0, 30.0), 9.0),
    structures=(DraftStructure("colon", ball((40.0, -20.0, 30.0), 12.0)),),
    needles=(DraftNeedle(1, "icerod_1_5", (10.0, -20.0, 30.0), (10.0, -120.0, 30.0)),),
)


@pytest.mark.parametrize(
    ("field", "name"),
    [("patient_id", "baseline"), ("lesion", "lesion"), ("organ", "organ"), ("needles", "needles")],
)
def test_what_is_missing_is_named(field: str, name: str) -> None:
    empty = getattr(Draft(), field)
    draft = replace(FULL, **{field: empty})
    assert missing(draft) == (name,)
    with pytest.raises(ValueError, match=name):
        config_of(draft, Path("/x/case.toml"), LISTENER, "en", 210.0)


def test_that_there_are_no_critical_structures_has_to_be_said() -> None:
    assert missing(replace(FULL, structures=())) == ("structures",)
    assert not missing(replace(FULL, structures=(), no_structures=True))
    assert missing(Draft()) == ("baseline", "lesion", "structures", "needles", "organ")


def test_a_complete_draft_opens_as_a_case(tmp_path: Path) -> None:
    for name, body in drawn_bodies(FULL).items():
        write_mask(body, tmp_path / name)
    config = config_of(FULL, tmp_path / "case.toml", LISTENER, "fr", 210.0)
    write_case(config, config.path)
    opened, procedure = open_case(config.path)
    assert opened == config
    assert [s.name for s in procedure.structures] == ["lesion", "colon"]


def test_needles_of_an_impossible_length() -> None:
    assert not plausible((0, 0, 0), (5, 0, 0))
    assert plausible((0, 0, 0), (0, -120, 0))
    assert not plausible((0, 0, 0), (0, -500, 0))


def test_a_draft_of_a_case_makes_the_same_case_again(tmp_path: Path) -> None:
    """A console that is opened for a case goes on with it."""
    for name, body in drawn_bodies(FULL).items():
        write_mask(body, tmp_path / name)
    config = config_of(FULL, tmp_path / "case.toml", LISTENER, "fr", 210.0)
    again = draft_of(config)
    assert not missing(again)
    assert config_of(again, config.path, LISTENER, "fr", 210.0) == config


def test_a_plain_lesion_is_drawn_and_can_grow(tmp_path: Path) -> None:
    config = config_of(FULL, tmp_path / "case.toml", LISTENER, "en", 210.0)
    plain = Plain((10.0, -20.0, 30.0), (9.0, 7.0, 5.0))
    assert config.lesion is not None
    config = replace(config, structures=(), lesion=replace(config.lesion, shape=plain))
    draft = draft_of(config)
    assert isinstance(draft.lesion, DrawnBody)
    assert draft.marked is not None
    assert draft.no_structures
    inside = draft.lesion.grid.to_lps_mm(np.argwhere(draft.lesion.level_mm < 0))
    np.testing.assert_allclose(np.ptp(inside, axis=0) / 2.0, (9.0, 7.0, 5.0), atol=1.1)
    unknown = replace(config, organ=replace(config.organ, name="spleen"))
    assert missing(draft_of(unknown)) == ("organ",)
