"""Undo and redo are each other's inverse, whatever was edited."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.planning.history import History


@given(st.lists(st.integers(), max_size=20), st.integers(0, 30))
def test_undo_then_redo_gives_back_the_present(edits: list[int], back: int) -> None:
    h = History.of(0)
    for i, value in enumerate(edits):
        h = h.edited(str(i), value)
    again = h
    for _ in range(back):
        again = again.undone()
    for _ in range(back):
        again = again.redone()
    assert again == h


@given(st.lists(st.integers(), max_size=20))
def test_undo_gives_back_every_state_in_turn(edits: list[int]) -> None:
    h, states = History.of(0), [0]
    for value in edits:
        h = h.edited("e", value)
        if value != states[-1]:
            states.append(value)
    for state in reversed(states):
        assert h.state == state
        h = h.undone()
    assert h.undoes is None


def test_an_edit_forgets_what_was_undone_and_names_tell_what_comes() -> None:
    h = History.of("").edited("first", "a").edited("second", "b").undone()
    assert (h.undoes, h.redoes) == ("first", "second")
    h = h.edited("third", "c")
    assert (h.undoes, h.redoes) == ("third", None)
    assert h.redone() is h
