"""What came in, as lines of the journal, and back. Seconds and frames as in the messages themselves.

A slice is its instance: the record holds its bytes. Invariant: what is read back from a line is equal
to what was written, but for a reloaded procedure and a drawn surface, which are opened from the files that
the record keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from monitor.model import AssociationEnded, Instance
from monitor.state import Ending, ForecastDue, OperatorAct, Tick

Message = Instance | AssociationEnded | Tick | OperatorAct | ForecastDue | Ending

_KINDS: dict[type[Message], str] = {
    Instance: "instance_received",
    AssociationEnded: "association_ended",
    Tick: "tick",
    OperatorAct: "operator",
    ForecastDue: "forecast_step",
    Ending: "intake_ended",
}
_TYPES = {kind: made for made, kind in _KINDS.items()}
INPUT_KINDS = frozenset(_TYPES)
# Bodies and grids: the record keeps the files they are made from.
_NOT_WRITTEN = ("procedure", "drawn")


def input_line(message: Message) -> tuple[str, dict[str, Any]]:
    """The kind and the fields of a message's line: every field that it has."""
    names = (f.name for f in fields(message) if f.name not in _NOT_WRITTEN)
    return _KINDS[type(message)], {name: getattr(message, name) for name in names}


def is_input(kind: str, line: Mapping[str, Any]) -> bool:
    """Whether a line is of something that the procedure worked on; an act that was refused is not."""
    return kind in INPUT_KINDS and "refused" not in line


def message_of(kind: str, line: Mapping[str, Any]) -> Message:
    """The message of a line. Raises ``TypeError`` naming a field that is missing."""
    made = _TYPES[kind]
    return made(**{f.name: _frozen(line[f.name]) for f in fields(made) if f.name in line})


def _frozen(value: Any) -> Any:
    """Messages hold tuples where JSON has lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
