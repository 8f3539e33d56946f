"""Why the last act was not done, in the language of the screen. No units.

Invariant: what is not known here is said in English rather than not at all.
"""

from __future__ import annotations

from monitor.view.translations import TABLES, text
from monitor.view.translations_refusals import parsed

# What stands in a placeholder and has a word of its own.
_WORDS = {"verdict": "console.review.{}"}


def refusal_text(language: str, refused: str) -> str:
    """Of "act: reason" as the snapshot has it."""
    act, _, reason = refused.partition(": ")
    key = f"act.{act}"
    name = text(language, key) if key in TABLES[language] else act
    separator = "\u00a0: " if language == "fr" else ": "
    return f"{name}{separator}{_reason(language, reason)}"


def _reason(language: str, reason: str) -> str:
    found = parsed(reason)
    if found is None or (found[0] == "refused.of_scan" and parsed(found[1]["why"]) is None):
        return reason
    key, params = found
    return text(language, key, **{n: _said(language, n, v) for n, v in params.items()})


def _said(language: str, name: str, value: str) -> str:
    if name == "why":
        return _reason(language, value)
    key = _WORDS[name].format(value) if name in _WORDS else ""
    return text(language, key).lower() if key in TABLES[language] else value


def failure_text(language: str, why: str) -> str:
    """Of a drawing's code, or of an error's own sentence."""
    key = f"drawing.{why}"
    return text(language, key) if key in TABLES[language] else why
