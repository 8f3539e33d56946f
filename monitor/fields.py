"""Reading TOML tables field by field: each value checked once, each error naming its field.

Invariant: every problem of a file is collected; nothing is read that was not asked for, since a key
that is not known is an error too (a misspelt limit must not be a missing one).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

_REQUIRED = object()


class Table:
    """One table of a TOML file, with the path of names that leads to it."""

    def __init__(self, values: Any, path: str, errors: list[str]) -> None:
        self.path = path
        self.errors = errors
        self._seen: set[str] = set()
        self._lacking: dict[str, str] = {}
        if isinstance(values, dict):
            self._values: dict[str, Any] = values
        else:
            self._values = {}
            self.error("", f"expected a table, got {_shown(values)}")

    def error(self, key: str, text: str) -> None:
        name = f"{self.path}.{key}" if self.path and key else self.path or key
        self.errors.append(f"{name}: {text}")

    def lacks(self, keys: Sequence[str], text: str) -> None:
        """An error, unless one of the keys turns out to be there, misspelt (``done``)."""
        self.error(keys[0] if len(keys) == 1 else "", text)
        self._lacking.update(dict.fromkeys(keys, self.errors[-1]))

    def has(self, key: str) -> bool:
        self._seen.add(key)
        return key in self._values

    @property
    def keys(self) -> set[str]:
        return set(self._values)

    def raw(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value as it stands; None with an error when it is required and missing."""
        self._seen.add(key)
        if key in self._values:
            return self._values[key]
        if default is _REQUIRED:
            self.lacks((key,), "missing")
            return None
        return default

    def text(self, key: str, default: Any = _REQUIRED, choices: Sequence[str] = ()) -> str:
        value = self.raw(key, default)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.error(key, f"expected text, got {_shown(value)}")
            return ""
        if choices and value not in choices:
            self.error(
                key,
                f"expected one of {', '.join(choices)}; got {_shown(value)}{_hint(value, choices)}",
            )
            return choices[0]
        return value

    def number(
        self, key: str, low: float, high: float, unit: str = "", default: Any = _REQUIRED
    ) -> float:
        value = self.raw(key, default)
        if value is None:
            return low
        if not _is_number(value) or not low <= value <= high:
            self.error(
                key,
                f"expected a number from {low:g} to {high:g}{unit and ' ' + unit}, got {_shown(value)}",
            )
            return low
        return float(value)

    def whole(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        value = self.raw(key, default)
        if value is None:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.error(key, f"expected a whole number from {low} to {high}, got {_shown(value)}")
            return low
        return value

    def truth(self, key: str, default: bool) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            self.error(key, f"expected true or false, got {_shown(value)}")
            return default
        return value

    def triple(
        self, key: str, low: float = -5000.0, high: float = 5000.0
    ) -> tuple[float, float, float]:
        value = self.raw(key)
        if value is None:
            return (0.0, 0.0, 0.0)
        fine = isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
        if not fine or not all(low <= v <= high for v in value):
            self.error(
                key, f"expected 3 numbers (x, y, z) from {low:g} to {high:g}, got {_shown(value)}"
            )
            return (0.0, 0.0, 0.0)
        return (float(value[0]), float(value[1]), float(value[2]))

    def table(self, key: str) -> Table:
        """A sub-table; an empty one when it is missing (its fields then say what they need)."""
        return Table(self.raw(key, {}), f"{self.path}.{key}" if self.path else key, self.errors)

    def tables(self, key: str) -> list[Table]:
        """An array of tables, numbered from 1 as a person would count them."""
        value = self.raw(key, [])
        name = f"{self.path}.{key}" if self.path else key
        if not isinstance(value, list):
            if isinstance(value, dict):
                self.error(key, f"write [[{name}]] for each, with two brackets")
            else:
                self.error(key, f"expected [[{name}]] tables, got {_shown(value)}")
            return []
        return [Table(v, f"{name}[{i}]", self.errors) for i, v in enumerate(value, 1)]

    def done(self) -> None:
        """Errors for what was not asked for; what is misspelt is not missing, too."""
        for key in sorted(self._values.keys() - self._seen):
            close = _close(key, sorted(self._seen))
            lacking = self._lacking.get(close)
            if lacking in self.errors:
                self.errors.remove(lacking)
            self.error(key, f"unknown{_hint(key, sorted(self._seen))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _close(word: str, known: Sequence[str]) -> str:
    """The likeliest of what is known; "" where nothing is like it."""
    return next(iter(difflib.get_close_matches(word, known, 1)), "")


def _hint(word: str, known: Sequence[str]) -> str:
    close = _close(word, known)
    return f" (did you mean {close}?)" if close else ""
