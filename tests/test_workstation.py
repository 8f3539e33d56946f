"""What a workstation brings to every procedure. mm."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from monitor.config import ConfigError
from monitor.workstation import ScreenOptions, default_path, load_workstation

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_workstation.toml"


def test_the_example_makes_a_draft() -> None:
    found = load_workstation(EXAMPLE)
    assert (found.config.draft, found.config.patient_id, found.config.language) == (
        True,
        None,
        "fr",
    )
    assert found.config.organ.name == "liver"
    assert found.screen == ScreenOptions(
        "both",
        1,
        800.0,
        3000.0,
        (("F7", "scroll_up"), ("F8", "scroll_down"), ("F9", "acknowledge")),
    )
    given = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert found.metrics_port == given["metrics"]["port"]
    del given["screen"], given["pedal"], given["metrics"]
    assert tomllib.loads(found.draft_text()) == given


def test_without_a_file_the_defaults_of_a_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = load_workstation()
    assert found.config.draft
    assert (found.config.language, found.screen) == ("en", ScreenOptions())
    default_path().parent.mkdir()
    default_path().write_text('language = "fr"\n', encoding="utf-8")
    assert load_workstation().config.language == "fr"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('F = "acknowledge"', "pedal.F: unknown"),
        ('F6 = "acknowledge"', "pedal.F6: unknown"),
        ('F7 = "phase_next"', "pedal.F7: expected one of acknowledge"),
        ('F7 = "quit"', "pedal.F7: expected one of acknowledge"),
        ("F7 = 3", "pedal.F7: expected text"),
    ],
)
def test_a_pedal_has_keys_of_its_own_and_does_nothing_grave(
    tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "w.toml"
    path.write_text(f"[pedal]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_workstation(path)
