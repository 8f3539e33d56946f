"""TOML written: text, numbers, truths, lists and tables, under the plain keys that a case has. No units.

Invariant: ``tomllib.loads(toml_text(case)) == case``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def toml_text(case: dict[str, Any]) -> str:
    """The text of a case's tables."""
    plain = {k: v for k, v in case.items() if not isinstance(v, dict) and not _is_tables(v)}
    lines = list(_pairs(plain))
    for key, value in case.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *_pairs(value)]
        elif key not in plain:
            for table in value:
                lines += ["", f"[[{key}]]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _pairs(table: dict[str, Any]) -> Iterator[str]:
    return (f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """A basic string: JSON's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
