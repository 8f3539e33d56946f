"""What a workstation brings to every procedure, before anybody is on the table: ``workstation.toml``.

docs/example_workstation.toml explains every field; lengths in mm. Invariant: the draft case made of it is
valid, names no patient and no lesion, and holds nothing that was not given or is not a default of a case.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.case import anchored, case_of, organ_names, read_toml
from monitor.config import Config, ConfigError
from monitor.fields import Table
from monitor.toml_text import toml_text
from monitor.view.pedal import PEDAL_ACTS, PEDAL_KEYS, Pedal

# What a case takes over as it stands.
_OF_A_CASE = ("language", "organ", "margin", "protocol", "listener", "display", "pacs")
SCREENS = ("room", "console", "both")


@dataclass(frozen=True)
class ScreenOptions:
    """Which windows, and the in-room monitor: its number (from 0), diagonal and how far its viewer stands;
    None where nothing is said. ``pedal``: keys with what they do."""

    show: str | None = None
    monitor: int | None = None
    diagonal_mm: float | None = None
    distance_mm: float | None = None
    pedal: Pedal = ()


@dataclass(frozen=True)
class Workstation:
    """``draft`` is a case's tables without patient and lesion, ``config`` the same read."""

    path: Path
    draft: dict[str, Any]
    config: Config
    screen: ScreenOptions
    metrics_port: int | None = None

    def draft_text(self) -> str:
        return toml_text(self.draft)


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/iceball/workstation.toml``, by default under ~/.config."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "iceball" / "workstation.toml"


def load_workstation(path: Path | None = None) -> Workstation:
    """The workstation's file, which must be there when it is named; without the usual one, the defaults of a
    case and the first organ. Raises ``ConfigError`` listing every field that is wrong."""
    found = path or default_path()
    tables = {} if path is None and not found.exists() else read_toml(found)
    screen, metrics_port = _own(tables, found)
    draft = {key: tables[key] for key in _OF_A_CASE if key in tables}
    draft = anchored(draft, found.parent)
    draft.setdefault("organ", {"preset": organ_names()[0]})
    return Workstation(found, draft, case_of(draft, found), screen, metrics_port)


def _pedal(table: Table) -> Pedal:
    keys = [key for key in PEDAL_KEYS if table.has(key)]
    pedal = tuple((key, table.text(key, choices=PEDAL_ACTS)) for key in keys)
    table.done()
    return pedal


def _own(tables: dict[str, Any], path: Path) -> tuple[ScreenOptions, int | None]:
    """What is the workstation's, and no case's: its screens, and the port of its metrics."""
    errors: list[str] = []
    root = Table(tables, "", errors)
    for key in _OF_A_CASE:  # the case's reader looks at them
        root.has(key)
    table = root.table("screen")
    options = ScreenOptions(
        table.text("show", choices=SCREENS) if table.has("show") else None,
        table.whole("monitor", 0, 15) if table.has("monitor") else None,
        table.number("diagonal_mm", 100.0, 5000.0, "mm") if table.has("diagonal_mm") else None,
        table.number("distance_mm", 300.0, 10000.0, "mm") if table.has("distance_mm") else None,
        _pedal(root.table("pedal")),
    )
    table.done()
    metrics = root.table("metrics")
    port = metrics.whole("port", 1, 65535) if metrics.has("port") else None
    metrics.done()
    root.done()
    if errors:
        raise ConfigError("\n  ".join([f"{path}: {len(errors)} problem(s)", *errors]))
    return options, port
