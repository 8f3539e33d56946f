"""Sentences on widgets that follow the language. No units.

Invariant: every text of the window was set here, so that one call changes the language of all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monitor.view.translations import text


class Words:
    """Who shows which sentence. ``put`` also when only the parameters change."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._shown: dict[Any, tuple[str, dict[str, str]]] = {}

    def say(self, key: str, **params: str) -> str:
        return text(self.language, key, **params)

    def put(self, show: Callable[[str], None], key: str, **params: str) -> None:
        """Shows a sentence by ``show`` (a widget's ``setText``, say), now and in every language."""
        if self._shown.get(show) != (key, params):
            self._shown[show] = (key, params)
            show(self.say(key, **params))

    def speak(self, language: str) -> None:
        self.language = language
        for show, (key, params) in self._shown.items():
            show(self.say(key, **params))
