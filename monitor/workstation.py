"""What a workstation brings to every procedure, before anybody is on the table: ``workstation.toml``.

docs/example_workstation.toml explains every field; lengths in mm. Invariant: the draft case made of it is
valid, names no patient and no lesion, and holds nothing that was not given or is not a default of a case.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.case import anchored, case_of, client_tls, organ_names, place_of, read_toml
from monitor.config import ClientTls, Config, ConfigError
from monitor.fields import Table
from monitor.streaming.process import StreamOptions
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
class FetchConfig:
    """The PACS that planning data is asked of. ``calling``: this side's title, also as the destination of a
    C-MOVE, which comes to ``address`` and ``port`` (0: any that is free). ``method``: "move" or "get".
    ``timeout_s``: without a sign of life. ``tls``: of both directions."""

    ae_title: str
    host: str
    port: int
    calling: str
    method: str
    address: str
    receive_port: int
    timeout_s: float
    tls: ClientTls | None = None


@dataclass(frozen=True)
class Workstation:
    """``draft`` is a case's tables without patient and lesion, ``config`` the same read."""

    path: Path
    draft: dict[str, Any]
    config: Config
    screen: ScreenOptions
    metrics_port: int | None = None
    fetch: FetchConfig | None = None
    stream: StreamOptions | None = None

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
    return _read(tables, found)


def load_what_is_right(path: Path | None = None) -> tuple[Workstation, frozenset[str]]:
    """Of a file that is wrong: what its tables say that are right by themselves, and which are not. Raises
    ``ConfigError`` where it cannot be read at all."""
    found = path or default_path()
    tables = read_toml(found)
    right = {key: table for key, table in tables.items() if _is_right(key, table, found)}
    return _read(right, found), frozenset(tables.keys() - right.keys())


def _is_right(key: str, table: Any, path: Path) -> bool:
    try:
        _read({key: table}, path)
    except ConfigError:
        return False
    return True


def _read(tables: dict[str, Any], found: Path) -> Workstation:
    screen, metrics_port, fetch, stream = _own(tables, found)
    draft = {key: tables[key] for key in _OF_A_CASE if key in tables}
    draft = anchored(draft, found.parent)
    draft.setdefault("organ", {"preset": organ_names()[0]})
    config = case_of(draft, found)
    return Workstation(found, draft, config, screen, metrics_port, fetch, stream)


def _pedal(table: Table) -> Pedal:
    keys = [key for key in PEDAL_KEYS if table.has(key)]
    pedal = tuple((key, table.text(key, choices=PEDAL_ACTS)) for key in keys)
    table.done()
    return pedal


_METHODS = ("move", "get")


def _fetch(t: Table, folder: Path) -> FetchConfig:
    given = t.text("from")
    place = place_of(given)
    if given and place is None:
        t.error("from", f'expected "AE@host:port", got {given!r}')
    calling = t.text("ae_title", "ICEBALL")
    if len(calling) > 16 or not calling.isascii():
        t.error("ae_title", f"expected at most 16 ASCII characters, got {calling!r}")
    method, address = t.text("method", "move", _METHODS), t.text("address", "127.0.0.1")
    if not _is_address(address):
        t.error("address", f"expected an IP address, got {address!r}")
    port, timeout_s = t.whole("port", 0, 65535, 11113), t.number("timeout_s", 1.0, 600.0, "s", 60.0)
    tls = client_tls(t.table("tls"), folder) if t.has("tls") else None
    if tls is not None and tls.certificate is None and method == "move":
        t.error("tls", "a C-MOVE comes to this side, which needs a certificate and its key")
    t.done()
    name, host, at = place or ("", "", 0)
    return FetchConfig(name, host, at, calling, method, address, port, timeout_s, tls)


def _stream(t: Table) -> StreamOptions:
    port, address = t.whole("port", 1, 65535), t.text("address", "127.0.0.1")
    given = t.raw("allowed", [])
    allowed = tuple(map(str, given)) if isinstance(given, list) else ()
    for key, value in (("address", address), *(("allowed", a) for a in allowed)):
        if not _is_address(value):
            t.error(key, f"expected an IP address, got {value!r}")
    if _is_address(address) and not ipaddress.ip_address(address).is_loopback and not allowed:
        t.error("allowed", f"required when listening on {address}, which others can reach")
    t.done()
    return StreamOptions(port, address, allowed)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_Own = tuple[ScreenOptions, int | None, FetchConfig | None, StreamOptions | None]


def _own(tables: dict[str, Any], path: Path) -> _Own:
    """What is the workstation's, and no case's: its screens, the port of its metrics, whom it asks for plans
    and to whom it streams."""
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
    fetch = _fetch(root.table("fetch"), path.parent) if root.has("fetch") else None
    stream = _stream(root.table("openigtlink")) if root.has("openigtlink") else None
    root.done()
    if errors:
        raise ConfigError("\n  ".join([f"{path}: {len(errors)} problem(s)", *errors]))
    return options, port, fetch, stream
