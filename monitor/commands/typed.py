"""Operator's acts and questions as they are typed at a headless terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from monitor import console
from monitor.commands import ACTS
from monitor.runtime import Live

_TYPED = {
    "next": "phase_next",
    "acknowledge": "acknowledge",
    "clear": "clear_block",
    "reload": "reload",
    "undo": "undo",
    "quit": "quit",
}
_REVIEWS = {"accept": "accept_ice", "reject": "reject_ice"}


def read_acts(live: Live) -> None:
    """Operator acts typed at a terminal; the end of the input ends nothing."""
    for line in sys.stdin:
        word, given = " ".join(line.lower().split()), line.split(maxsplit=1)
        if word in _TYPED:
            live.act(_TYPED[word])
        elif word.startswith("baseline "):
            live.act("pick_baseline", params={"volume_id": word.removeprefix("baseline ")})
        elif word.startswith("open "):
            live.act("open_case", params={"path": given[1].strip()})
        elif word.startswith("what if"):
            _ask(live, "what_if", console.what_if_params, word)
        elif word in _REVIEWS:
            _review(live, word)
        elif word.startswith("needle"):
            _ask(live, "needle", console.needle_params, word)
        elif word in ("help", "?"):
            print(ACTS, flush=True)
        elif word:
            print(f"unknown: {word!r}; help says what can be typed", flush=True)


def _review(live: Live, word: str) -> None:
    """Of the scan measured last: what the terminal said last is what was looked at."""
    review = live.core.state.review
    if review is None:
        print(f"{word}: no scan has been measured yet", flush=True)
    else:
        live.act(_REVIEWS[word], params={"volume_id": review.volume_id})


def _ask(live: Live, act: str, params: Callable[[str], dict[str, Any]], typed: str) -> None:
    try:
        live.act(act, params=params(typed))
    except ValueError as error:
        said = act.replace("_", " ")
        print(f"{said}: {error}", flush=True)
