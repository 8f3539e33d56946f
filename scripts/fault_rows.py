"""A fault and what its tries came to: the rows of docs/faults.md. Seconds.

Invariant: a fault that was not tried says so, and why.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = ("fault", "what happens", "tried", "images sent", "of them in quarantine, with a reason", "lost",
         "right again", "after … s, in the median")  # fmt: skip


@dataclass
class Row:
    """``why_not``: what kept it from being tried on this machine."""

    fault: str
    text: str
    tries: int = 0
    sent: int = 0
    quarantined: int = 0
    lost: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)
    why_not: str = "the time was up"

    def cells(self) -> tuple[str, ...]:
        if not self.tries:
            return (f"`{self.fault}`", self.text, f"**not tried**: {self.why_not}", *["–"] * 5)
        times = "–"
        if self.seconds:
            times = f"{statistics.median(self.seconds):.1f} (at most {max(self.seconds):.1f})"
        right = f"{self.tries - self.wrong} of {self.tries}"
        return (
            f"`{self.fault}`", self.text, str(self.tries), str(self.sent), str(self.quarantined),
            str(self.lost), right, times,
        )  # fmt: skip


def markdown(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in rows)]) + "\n"


def written(path: Path, section: str, rows: list[Row]) -> None:
    """The table in the place of the one that its section has."""
    text = path.read_text(encoding="utf-8")
    head, found, rest = text.partition(f"## {section}\n")
    if not found:
        sys.exit(f"fault_table: {path}: no section '{section}'")
    section_text, again, others = rest.partition("\n## ")
    before, table = _around_table(section_text)
    path.write_text(head + found + before + markdown(rows) + table + again + others, "utf-8")


def _around_table(section: str) -> tuple[str, str]:
    """What stands before and behind a section's first table."""
    lines = section.splitlines(keepends=True)
    first = next((i for i, x in enumerate(lines) if x.startswith("| ")), len(lines))
    last = next((i for i in range(first, len(lines)) if not lines[i].startswith("|")), len(lines))
    return "".join(lines[:first]), "".join(lines[last:])
