"""Undo and redo of edits, as a value. No units.

Invariant: ``undone`` then ``redone`` gives back the very same present; an edit forgets what was undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# Edits hold arrays of a megabyte or so.
_MOST = 100


@dataclass(frozen=True)
class Edit(Generic[T]):
    """A state, and the name of the edit that made it."""

    name: str
    state: T


@dataclass(frozen=True)
class History(Generic[T]):
    """``past``: older edits, the oldest first; ``future``: what was undone, the next to redo last."""

    present: Edit[T]
    past: tuple[Edit[T], ...] = ()
    future: tuple[Edit[T], ...] = ()

    @staticmethod
    def of(state: T) -> History[T]:
        return History(Edit("", state))

    @property
    def state(self) -> T:
        return self.present.state

    def edited(self, name: str, state: T) -> History[T]:
        """After an edit; nothing when it changes nothing."""
        if state == self.state:
            return self
        return History(Edit(name, state), (*self.past, self.present)[-_MOST:])

    def undone(self) -> History[T]:
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (*self.future, self.present))

    def redone(self) -> History[T]:
        if not self.future:
            return self
        return History(self.future[-1], (*self.past, self.present), self.future[:-1])

    @property
    def undoes(self) -> str | None:
        """The name of the edit that undo takes back; None when there is none."""
        return self.present.name if self.past else None

    @property
    def redoes(self) -> str | None:
        return self.future[-1].name if self.future else None
