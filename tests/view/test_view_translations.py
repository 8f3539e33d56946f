"""Both languages say everything, with the same parameters, and every alarm and reason is known."""

import re
import tomllib
from pathlib import Path

import pytest

import monitor
from monitor.decision.safety import ALARMS
from monitor.model import Alarm, PhaseKind, Priority
from monitor.view import translations
from monitor.view.alarms import sentence
from monitor.view.translations import (
    TABLES,
    alarm_text,
    body_name,
    placeholders,
    reason_text,
    text,
)
from monitor.view.viewmodel import State

_ROOT = Path(monitor.__file__).parent
SCENARIOS = _ROOT.parent / "scanner_sim" / "scenarios"


@pytest.mark.requirement("REQ-LANGUAGE")
def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, french = TABLES["en"], TABLES["fr"]
    assert english.keys() == french.keys()
    for key in english:
        assert placeholders(english[key]) == placeholders(french[key]), key
        assert english[key].strip(), key
        assert french[key].strip(), key


@pytest.mark.requirement("REQ-LANGUAGE")
def test_sentences_are_translated_not_copied() -> None:
    same = {k for k, v in TABLES["en"].items() if v == TABLES["fr"][k]}
    allowed = (
        "letter.",
        "window",
        "others",
        "cycle",
        "plane.short",
        "legend.margin",
        "legend.cold",
        "replay.console",
        "key.scan",
    )
    assert not {k for k in same if not k.startswith(allowed)}


def _quoted(pattern: str, *folders: str) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        for path in (_ROOT / folder).rglob("*.py"):
            found |= set(re.findall(pattern, path.read_text(encoding="utf-8")))
    return found


def test_every_key_the_view_asks_for_exists() -> None:
    keys = _quoted(
        r'(?<![a-z_])text\(\s*(?:self\._?\w*\.?)?(?:model\.)?language,\s*"([a-z_.0-9]+)"', "view"
    )
    assert len(keys) > 20
    assert keys <= TABLES["en"].keys()
    for kind in PhaseKind:
        assert f"phase.{kind.value}" in TABLES["en"]
    for state in (State.NO_CORE, State.WAITING, State.BASELINE, State.BLOCKED, State.CORE_SILENT):
        assert f"state.{state.value}" in TABLES["en"]


@pytest.mark.requirement("REQ-ALARM-SEEN")
def test_every_alarm_the_core_raises_has_a_sentence() -> None:
    assert {f"alarm.{code}" for code in ALARMS} <= TABLES["en"].keys()


def test_every_reason_of_a_measurement_has_a_sentence() -> None:
    codes = _quoted(r'Reason\(\s*"([a-z_]+)"', "imaging", "decision", "prediction", "review.py")
    assert len(codes) >= 8
    assert {f"reason.{code}" for code in codes} <= TABLES["en"].keys()


def test_every_reason_for_a_rejection_or_a_refusal_has_a_sentence() -> None:
    """Also those that no literal of a ``Reason`` gives: of a peer, of a stranger's image."""
    codes = _quoted(
        r'(?:Refusal|Reason|_mismatch)\(\s*(?:s, )?"([a-z_]+)"', "intake", "baselines.py"
    )
    codes |= _quoted(r'"((?:peer|image)_[a-z]+(?:_[a-z]+)*)"', "intake")
    codes |= _quoted(r'\bcode(?:, \w+)? = "([a-z_]+)"', "intake")
    codes |= _quoted(r'\bcode = .* else "([a-z_]+)"', "intake")
    assert {"localizer", "patient_mismatch", "single_slice", "frame_of_reference_mismatch"} <= codes
    assert {"peer_silent", "peer_address", "image_quota"} <= codes
    codes -= {"peer_accepted"}  # a line of the journal
    assert {f"reason.{code}" for code in codes} <= TABLES["en"].keys()


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_unknown_codes_still_say_something(language: str) -> None:
    assert "gremlins" in alarm_text(language, "gremlins", {})
    assert reason_text(language, "gremlins", "There are gremlins.") == "There are gremlins."
    assert reason_text(language, "gremlins", "") == "gremlins"
    assert "?" in alarm_text(language, "structure_near", {"name": "colon"})


def test_missing_key_is_an_error_not_a_blank() -> None:
    with pytest.raises(KeyError):
        text("fr", "no.such.key")


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("skin", "peau"),
        ("Bowel", "intestin"),
        ("ureter", "uretère"),
        ("nerve", "nerf"),
        ("diaphragm", "diaphragme"),
        ("pleura", "plèvre"),
        ("gallbladder", "vésicule biliaire"),
        ("pancreas", "pancréas"),
        ("ma structure", "ma structure"),
    ],
)
def test_structures_are_named_in_the_language_of_the_screen(english: str, french: str) -> None:
    assert body_name("fr", english) == french
    assert body_name("en", english) == english.lower()
    near = Alarm("structure_near", Priority.HIGH, 0.0, {"name": english, "distance_mm": "3.4"})
    assert french in sentence(near, None, "fr")


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_structure_that_the_simulator_plans_has_a_french_name(scenario: Path) -> None:
    planned = tomllib.loads(scenario.read_text(encoding="utf-8"))["structure"]
    for name in (s["name"] for s in planned):
        assert f"body.{name}" in TABLES["fr"], name
