"""The user guide names nothing that the program does not have, and says the same in both languages.

In docs/guide/*.md bold words are the screen's own ("…" for what it fills in), <kbd> names keys, `iceball …`
is a command. No units. Invariant: what is not the screen's is not in bold.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from monitor.arguments import parser
from monitor.decision.safety import ALARMS
from monitor.view import translations_console
from monitor.view.translations import LANGUAGES, TABLES
from monitor.workstation import load_workstation

_ROOT = Path(__file__).resolve().parent.parent
_GUIDE = _ROOT / "docs" / "guide"
_VIEW = _ROOT / "monitor" / "view"
_CONSOLE = {"en": translations_console.ENGLISH, "fr": translations_console.FRENCH}
# What a key is called in the guide, and by Qt.
_QT_NAMES = {
    "PgUp": "PageUp", "PgDn": "PageDown", "Esc": "Escape", "Enter": "Return", "←": "Left", "→": "Right",
    "↑": "Up", "↓": "Down", "+": "Plus", "−": "Minus", "<": "Less", ">": "Greater", "Pg préc.": "PageUp",
    "Pg suiv.": "PageDown", "Début": "Home", "Fin": "End", "Échap": "Escape", "Entrée": "Return",
    "Espace": "Space", "Retour arrière": "Backspace", "Maj": "Shift", "Ctrl": "Control",
}  # fmt: skip


def guide(language: str) -> str:
    return (_GUIDE / f"{language}.md").read_text(encoding="utf-8")


def flat(words: str) -> str:
    """One line, one kind of apostrophe and of space; no mark of the letter that is pressed."""
    plain = words.replace("&", "").replace("’", "'").replace("\u00a0", " ").replace("\u202f", " ")
    return " ".join(plain.split())


def sentences(language: str) -> list[str]:
    return [flat(re.sub(r"\{\w+\}", "…", words)) for words in TABLES[language].values()]


def unknown_words(text: str, language: str) -> list[str]:
    known = sentences(language)
    prose = re.sub(r"```.+?```|`[^`\n]+`", "", text, flags=re.DOTALL)
    bold = [flat(b) for b in re.findall(r"\*\*(.+?)\*\*", prose, re.DOTALL)]
    assert len(bold) > 100
    return [b for b in bold if not any(b in sentence for sentence in known)]


def keys_there_are(language: str) -> set[str]:
    """By Qt's names, with the letters of the console's buttons and its shortcuts."""
    files = (_VIEW / "keys.py", _VIEW / "console" / "pane.py", _VIEW / "console" / "window.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    found = set(re.findall(r"Qt\.(?:Key_)?(\w+?)(?:Modifier)?\b", sources))
    found |= set(re.findall(r'"((?:Ctrl\+)?[A-Z]\d?)"', sources))
    letters = re.findall(r"&(\w)", "".join(_CONSOLE[language].values()))
    digits = set("123456789") if "Qt.Key_1 <= key <= Qt.Key_9" in sources else set()
    return found | {f"Alt+{letter.upper()}" for letter in letters} | digits | {"Alt"}


def unknown_keys(text: str, language: str) -> list[str]:
    there = keys_there_are(language)
    named = re.findall(r"<kbd>(.+?)</kbd>", text)
    assert len(named) > 50
    return [k for k in named if _QT_NAMES.get(k, k) not in there]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_screen_and_every_key_is_there(language: str) -> None:
    assert not unknown_words(guide(language), language)
    assert not unknown_keys(guide(language), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_word_or_key_would_be_found(language: str) -> None:
    """The gate closes."""
    text = guide(language)
    assert unknown_words(f"{text} **Lesion cooked**", language) == ["Lesion cooked"]
    assert unknown_keys(f"{text} <kbd>Z</kbd> <kbd>Alt+Z</kbd>", language) == ["Z", "Alt+Z"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_alarm_has_a_row(language: str) -> None:
    rows = [flat(row) for row in re.findall(r"^\| \*\*(.+?)\*\* \| `?\*?", guide(language), re.M)]
    codes = {
        *ALARMS,
        *(k.removeprefix("alarm.") for k in TABLES[language] if k.startswith("alarm.")),
    }
    for code in sorted(codes):
        words = flat(re.sub(r"\{\w+\}", "…", TABLES[language][f"alarm.{code}"]))
        assert any(words.startswith(row) for row in rows), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_commands_options_scripts_and_files_are_there(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = guide(language)
    commands = re.findall(r"^(iceball .+)$", text, re.M) + re.findall(r"`(iceball .+?)`", text)
    assert len(commands) >= 5
    for command in commands:
        parser().parse_args(shlex.split(command)[1:])
    options = parser().format_help() + "".join(
        _help_of(monkeypatch, name) for name in ("live", "replay")
    )
    for option in re.findall(r"`(--[a-z]+)", text):
        assert option in options, option
    for path in re.findall(r"`(scripts/\S+?)`", text):
        assert (_ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (_GUIDE / link).exists(), link
    (tmp_path / "w.toml").write_text(re.findall(r"```toml\n(.+?)```", text, re.S)[0], "utf-8")
    assert load_workstation(tmp_path / "w.toml").screen.show == "both"


def _help_of(monkeypatch: pytest.MonkeyPatch, command: str) -> str:
    said: list[str] = []
    monkeypatch.setattr(sys.stdout, "write", said.append)
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    monkeypatch.undo()
    return "".join(said)


def outline(language: str) -> dict[str, list[str]]:
    """What both languages must have alike, in their order."""
    text = guide(language)
    return {
        "headings": re.findall(r"^(#+) ", text, re.M),
        "pictures": re.findall(rf"\]\(images/(\w+)_{language}\.png\)", text),
        "rows": [str(line.count("|")) for line in text.splitlines() if line.startswith("|")],
        "items": re.findall(r"^(-|\d\.) ", text, re.M),
        "options": re.findall(r"`(--[a-z]+|iceball \w+)", text),
    }


def test_both_languages_say_the_same_in_the_same_order() -> None:
    english, french = outline("en"), outline("fr")
    assert len(english["pictures"]) > 30
    for what, there in english.items():
        assert french[what] == there, what


def test_the_pictures_are_those_that_the_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_ROOT / "scripts")
    import guide_pictures

    named = set(guide_pictures.names())
    assert named == set(outline("en")["pictures"])
    files = {path.name for path in (_GUIDE / "images").glob("*.png")}
    assert files == {f"{name}_{language}.png" for name in named for language in LANGUAGES}
    assert sum(p.stat().st_size for p in (_GUIDE / "images").iterdir()) < 6e6
