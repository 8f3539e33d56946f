"""Why the last act was not done, in the language of the screen. No units.

Invariant: what is not known here is said in English, within a sentence that says so, rather than not at all.
"""

from __future__ import annotations

from monitor.view.translations import TABLES, body_name, text
from monitor.view.translations_refusals import parsed

# What stands in a placeholder and has a word of its own.
_WORDS = {"verdict": "console.review.{}", "phase": "phase.{}"}
# Between the errors of one file.
_NEXT = "\n  "


def refusal_text(language: str, refused: str) -> str:
    """Of "act: reason" as the snapshot has it."""
    act, _, reason = refused.partition(": ")
    key = f"act.{act}"
    name = text(language, key) if key in TABLES[language] else act
    separator = "\u00a0: " if language == "fr" else ": "
    return f"{name}{separator}{_reason(language, reason)}"


def _reason(language: str, reason: str) -> str:
    if _NEXT in reason:
        return _NEXT.join(_reason(language, each) for each in reason.split(_NEXT))
    found = parsed(reason)
    if found is None:
        return text(language, "refused.technical", why=reason)
    key, params = found
    return text(language, key, **{n: _said(language, n, v) for n, v in params.items()})


def _said(language: str, name: str, value: str) -> str:
    if name == "why":
        return _reason(language, value)
    if name == "body":
        return body_name(language, value)
    key = _WORDS[name].format(value) if name in _WORDS else ""
    return text(language, key).lower() if key in TABLES[language] else value


def failure_text(language: str, why: str) -> str:
    """Of a drawing's code, or of an error's own sentence."""
    key = f"drawing.{why}"
    return text(language, key) if key in TABLES[language] else _reason(language, why)
