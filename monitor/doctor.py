"""Whether this machine can carry a procedure: each thing it needs, looked at, with its mend in a sentence.

Seconds, bytes. Invariant: a check that fails itself is a finding, never a silence; nothing is left behind.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from importlib import metadata
from pathlib import Path

from gpu_kernels.engine import EngineUnavailable
from gpu_kernels.select import open_engine
from gpu_kernels.selftest import check_engine
from monitor.config import ConfigError, ListenerConfig
from monitor.intake.listener import ListenError, check_port
from monitor.view.process import has_display
from monitor.workstation import load_workstation

LOCK = Path(__file__).parents[1] / "requirements" / "run.txt"
FONTS = Path(__file__).parent / "view" / "fonts"
# A procedure of 20 scans of 100 slices is 1 GB as received and 1 GB assembled; room for several.
LEAST_FREE_BYTES = 5_000_000_000
# A scan of 60 slices, 0.5 MB each and synced one by one, is not to take longer than a few seconds.
_PROBE_BYTES, _SLOW_S = 16_000_000, 2.0


class Level(IntEnum):
    """Also the exit status."""

    FINE = 0
    WARNING = 1
    CANNOT_RUN = 2


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    text: str
    mend: str = ""


def examine(workstation: Path | None, record: Path) -> list[Finding]:
    """All checks, in order; ``record``: the folder that records are kept in."""
    listener, first = workstation_of(workstation)
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("packages", lambda: packages(LOCK)),
        ("engine", engine),
        ("display", display),
        ("fonts", lambda: fonts(FONTS)),
        ("disk", lambda: disk(record)),
        ("clock", clock),
        ("locale", locale_and_zone),
    ]
    if listener is not None:
        checks.append(("listener", lambda: port(listener)))
    return [first, *(_made(name, check) for name, check in checks)]


def _made(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        text = f"could not be looked at: {type(error).__name__}: {error}"
        return Finding(name, Level.WARNING, text, "Look at it by hand, and report this.")


def workstation_of(path: Path | None) -> tuple[ListenerConfig | None, Finding]:
    """The workstation's listener, None where the file is wrong."""
    try:
        found = load_workstation(path)
    except ConfigError as error:
        mend = "Correct the file; docs/example_workstation.toml explains every field."
        return None, Finding("workstation", Level.CANNOT_RUN, str(error), mend)
    said = f"{found.path}" if found.path.exists() else f"no {found.path}: the defaults of a case"
    return found.config.listener, Finding("workstation", Level.FINE, said)


def packages(lock: Path) -> Finding:
    """Python, and the packages against the lock where there is one (in the source tree)."""
    if not lock.exists():
        text = f"no {lock}: versions were not compared"
        return Finding("packages", Level.WARNING, text, "Compare with requirements/run.txt.")
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text("utf-8"), re.M):
        pins.setdefault(name, set()).add(version)
    there = {n: v for n in pins if (v := _version(n)) is not None}
    # Some are for other platforms only, so that only what the program names itself may be missed.
    needed = {
        re.split(r"[^\w.-]", r)[0].lower()
        for r in metadata.requires("iceball-monitor") or ()
        if ";" not in r
    }
    missing = sorted(n for n in needed if _version(n) is None)
    other = [
        f"{n} {v}, pinned {' or '.join(sorted(pins[n]))}"
        for n, v in there.items()
        if v not in pins[n]
    ]
    if missing or other:
        level = Level.CANNOT_RUN if missing else Level.WARNING
        text = "; ".join([f"{n} is missing" for n in missing] + other)
        return Finding("packages", level, text, "Run `make install`.")
    return Finding(
        "packages", Level.FINE, f"Python {sys.version.split()[0]}, {len(there)} as pinned"
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def engine() -> Finding:
    """The engine that `auto` takes, against the stored fields."""
    try:
        found = open_engine("auto")
        checks = check_engine(found)
    except EngineUnavailable as error:
        return Finding("engine", Level.CANNOT_RUN, str(error), "Run `iceball selftest`.")
    if not all(c.fine for c in checks):
        text = f"{found.name}: its fields are not the stored ones"
        return Finding(
            "engine", Level.CANNOT_RUN, text, "Run `iceball selftest`; use --engine cpu."
        )
    return Finding("engine", Level.FINE, f"{found.name} ({found.why})")


def display() -> Finding:
    """Whether Qt can open a window here, tried in a process that may crash."""
    if not has_display():
        text = "no display: only `--headless` runs"
        return Finding("display", Level.WARNING, text, "Start from a desktop, or set DISPLAY.")
    code = "from PyQt5.QtWidgets import QApplication as A; a = A(['x']); print(a.platformName())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        mend = "Check DISPLAY, and install the libraries of scripts/system_packages.sh."
        return Finding("display", Level.CANNOT_RUN, f"Qt cannot open a window: {said}", mend)
    return Finding("display", Level.FINE, f"Qt on {done.stdout.strip()}")


def fonts(folder: Path) -> Finding:
    found = sorted(p.name for p in folder.glob("*.ttf")) if folder.is_dir() else []
    if not found:
        return Finding(
            "fonts", Level.CANNOT_RUN, f"no font in {folder}", "Install the program anew."
        )
    return Finding("fonts", Level.FINE, f"{len(found)} of the program's own")


def disk(folder: Path) -> Finding:
    """Free space, and how long synced writing takes, where records are kept (or will be)."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    try:
        began = time.monotonic()
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        took_s = time.monotonic() - began
    except OSError as error:
        text = f"{there}: {error.strerror}"
        mend = "Give the folder to this user, or choose another with --record."
        return Finding("disk", Level.CANNOT_RUN, text, mend)
    text = f"{there}: {free / 1e9:.1f} GB free, {_PROBE_BYTES / 1e6 / took_s:.0f} MB/s synced"
    if free < LEAST_FREE_BYTES:
        mend = (
            f"Make room (old records: `iceball records`): a procedure takes up to 2 GB, "
            f"{LEAST_FREE_BYTES / 1e9:.0f} GB are wanted."
        )
        return Finding("disk", Level.WARNING, text, mend)
    if took_s > _SLOW_S:
        return Finding("disk", Level.WARNING, text, "Keep records on a local disk.")
    return Finding("disk", Level.FINE, text)


def clock() -> Finding:
    """Whether the machine's clock follows a time server: a scan's age is judged by it."""
    mend = "Let machine and scanner follow one time server (systemd-timesyncd or chrony)."
    tool = shutil.which("timedatectl")
    if tool is None:
        return Finding(
            "clock", Level.WARNING, "no timedatectl: synchronised or not is unknown", mend
        )
    command = [tool, "show", "--property=NTPSynchronized", "--value"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if done.stdout.strip() != "yes":
        said = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no answer"])[0]
        return Finding("clock", Level.WARNING, f"not known to be synchronised ({said})", mend)
    return Finding("clock", Level.FINE, "synchronised")


def locale_and_zone() -> Finding:
    import locale

    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        text = f"locale {os.environ.get('LC_ALL') or os.environ.get('LANG')!r} is not installed"
        return Finding("locale", Level.WARNING, text, "Set LANG to one of `locale -a`.")
    finally:
        locale.setlocale(locale.LC_ALL, before)  # files are read in its encoding
    return Finding("locale", Level.FINE, f"time zone {time.tzname[0]}")


def port(config: ListenerConfig) -> Finding:
    """Whether the address is this machine's, and the port free."""
    try:
        check_port(config)
    except ListenError as error:
        mend = "End the other program, or correct [listener] in the workstation's file or the case."
        return Finding("listener", Level.CANNOT_RUN, str(error), mend)
    except socket.gaierror as error:
        return Finding("listener", Level.CANNOT_RUN, f"{config.address}: {error}", "Correct it.")
    return Finding("listener", Level.FINE, f"{config.address}:{config.port} is free")
