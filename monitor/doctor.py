"""Whether this machine can carry a procedure: each thing it needs, looked at, with its mend in a sentence.

Seconds, bytes. Invariant: a check that fails itself is a finding, never a silence; nothing is left behind.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from importlib import metadata
from pathlib import Path

from gpu_kernels.engine import EngineUnavailable
from gpu_kernels.select import open_engine
from gpu_kernels.selftest import check_engine
from monitor.case import load_case
from monitor.config import Config, ConfigError, ListenerConfig, TlsConfig
from monitor.intake.ports import ListenError, check_port
from monitor.intake.tls import TlsError, client_context, server_context, valid_until
from monitor.metrics import ADDRESS
from monitor.sending import Receiver, asked
from monitor.view.process import has_display
from monitor.workstation import Workstation, load_what_is_right, load_workstation

LOCK = Path(__file__).parents[1] / "requirements" / "run.txt"
FONTS = Path(__file__).parent / "view" / "fonts"
# A procedure of 20 scans of 100 slices is 1 GB as received and 1 GB assembled; room for several.
LEAST_FREE_BYTES = 5_000_000_000
# A scan of 60 slices, 0.5 MB each and synced one by one, is not to take longer than a few seconds.
_IMAGE_BYTES, _IMAGES, _SLOW_S = 500_000, 30, 2.0
GPUS = Path("/proc/driver/nvidia/gpus")
_SOON_DAYS = 30.0
# For each of a PACS's answers: who waits for this command stands before a machine.
_ASK_S = 4.0
# The workstation's tables that have a row of their own.
_LOOKED_AT = frozenset({"listener", "metrics", "openigtlink", "fetch", "pacs"})
_TIMEX_BYTES, _UNSYNCHRONISED_US = 256, 16_000_000


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


def examine(workstation: Path | None, record: Path, case: Path | None = None) -> list[Finding]:
    """All checks, in order; ``record``: the folder that records are kept in. ``case``: whose listener and
    [pacs] are looked at in place of the workstation's."""
    found, wrong, first = workstation_of(workstation)
    config, given = found.config if found else None, [first]
    if case is not None:
        config, said = case_of(case)
        given.append(said)
        wrong -= {"listener"}
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("packages", lambda: packages(LOCK)),
        ("engine", engine),
        ("gpu", lambda: gpu(GPUS)),
        ("display", display),
        ("fonts", lambda: fonts(FONTS)),
        ("disk", lambda: disk(record)),
        ("clock", clock),
        ("locale", locale_and_zone),
    ]
    if config is not None and "listener" not in wrong:
        listener = config.listener
        checks.append(("listener", lambda: port(listener)))
        checks.append(("certificates", lambda: certificates(listener.tls)))
    for table, place in (other_ports(found) if found else {}).items():
        checks.append((table, partial(port_of, table, *place)))
    for name, receiver in peers(config, found).items():
        checks.append((name, partial(peer, name, receiver)))
    made = [*given, *(_made(name, check) for name, check in checks)]
    return made + _left_out(wrong & _LOOKED_AT, {f.check for f in made})


def _left_out(wrong: frozenset[str], made: set[str]) -> list[Finding]:
    """No row may be missing without a word."""
    mend = "Correct the file first."
    return [
        Finding(table, Level.CANNOT_RUN, f"not looked at: [{table}] of the file is wrong", mend)
        for table in sorted(wrong - made)
    ]


def _made(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        text = f"could not be looked at: {type(error).__name__}: {error}"
        return Finding(name, Level.WARNING, text, "Look at it by hand, and report this.")


def workstation_of(path: Path | None) -> tuple[Workstation | None, frozenset[str], Finding]:
    """With the tables that are wrong; None where nothing of the file can be read."""
    try:
        found = load_workstation(path)
    except ConfigError as error:
        mend = "Correct the file; docs/example_workstation.toml explains every field."
        said = Finding("workstation", Level.CANNOT_RUN, str(error), mend)
        try:
            return *load_what_is_right(path), said
        except ConfigError:
            return None, _LOOKED_AT, said
    text = f"{found.path}" if found.path.exists() else f"no {found.path}: the defaults of a case"
    return found, frozenset(), Finding("workstation", Level.FINE, text)


def peers(config: Config | None, found: Workstation | None) -> dict[str, Receiver]:
    """By their tables, the PACSs that results go to and plans come from."""
    asked_of = {}
    pacs = (config.pacs if config else None) or (found.config.pacs if found else None)
    if pacs is not None:
        asked_of["pacs"] = Receiver(pacs.ae_title, pacs.host, pacs.port, pacs.calling, pacs.tls)
    if found is not None and found.fetch is not None:
        f = found.fetch
        asked_of["fetch.from"] = Receiver(f.ae_title, f.host, f.port, f.calling, f.tls)
    return asked_of


def peer(name: str, to: Receiver) -> Finding:
    """Whether a PACS answers. One that does not keeps no procedure from being done, but `live` does not begin
    with files for it that are wrong."""
    place, table = f"{to.ae_title}@{to.host}:{to.port}", name.partition(".")[0]
    try:
        if to.tls is not None:
            client_context(to.tls, f"{table}.tls")
    except TlsError as error:
        level = Level.CANNOT_RUN if table == "pacs" else Level.WARNING
        return Finding(name, level, str(error), f"Correct [{table}.tls] (docs/outputs.md).")
    trouble = asked(to, _ASK_S)
    if trouble is None:
        return Finding(name, Level.FINE, f"{place} answers {to.calling}")
    mend = f"Check [{table}], the network, and that the PACS is up and knows {to.calling}."
    return Finding(name, Level.WARNING, f"{place}: {trouble.text}", mend)


def other_ports(found: Workstation) -> dict[str, tuple[str, int]]:
    """By their tables, the addresses and ports besides the listener's that its file asks for."""
    asked = {}
    if found.metrics_port is not None:
        asked["metrics"] = (ADDRESS, found.metrics_port)
    if found.stream is not None:
        asked["openigtlink"] = (found.stream.address, found.stream.port)
    if found.fetch is not None and found.fetch.method == "move":
        asked["fetch"] = (found.fetch.address, found.fetch.receive_port)
    return asked


def case_of(path: Path) -> tuple[Config | None, Finding]:
    """None where the case is wrong."""
    try:
        return load_case(path), Finding("case", Level.FINE, str(path))
    except ConfigError as error:
        mend = "Correct the case (`iceball check`); docs/example_case.toml explains every field."
        return None, Finding("case", Level.CANNOT_RUN, str(error), mend)


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


def gpu(devices: Path) -> Finding:
    """Whether a GPU that the driver shows is used."""
    there = sorted(p.name for p in devices.iterdir()) if devices.is_dir() else []
    if not there:
        return Finding("gpu", Level.FINE, "no NVIDIA GPU: the CPU engine runs")
    try:
        found = open_engine("gpu")
    except EngineUnavailable as error:
        mend = "Install cupy for the driver's CUDA (docs/engines.md), or leave it: the CPU engine runs."
        return Finding("gpu", Level.WARNING, f"{len(there)} NVIDIA GPU(s), not used: {error}", mend)
    return Finding("gpu", Level.FINE, f"{found.name} ({found.why})")


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
    """Free space, and how long it takes to keep images one by one, where records are (or will be)."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    try:
        took = _kept_s(there)
    except OSError as error:
        text = f"{there}: {error.strerror}"
        mend = "Give the folder to this user, or choose another with --record."
        return Finding("disk", Level.CANNOT_RUN, text, mend)
    text = (
        f"{there}: {free / 1e9:.1f} GB free; {len(took)} images of {_IMAGE_BYTES / 1e6:.1f} MB kept in "
        f"{sum(took):.2f} s, the slowest in {max(took) * 1e3:.0f} ms"
    )
    if free < LEAST_FREE_BYTES:
        mend = (
            f"Make room (old records: `iceball records`): a procedure takes up to 2 GB, "
            f"{LEAST_FREE_BYTES / 1e9:.0f} GB are wanted."
        )
        return Finding("disk", Level.WARNING, text, mend)
    if sum(took) > _SLOW_S:
        return Finding("disk", Level.WARNING, text, "Keep records on a local disk.")
    return Finding("disk", Level.FINE, text)


def _kept_s(folder: Path) -> list[float]:
    """Seconds for each of a few images, on the disk before the next one."""
    took, image = [], os.urandom(_IMAGE_BYTES)
    with tempfile.TemporaryDirectory(prefix=".iceball-", dir=folder) as probe:
        for i in range(_IMAGES):
            began_s = time.monotonic()
            with (Path(probe) / str(i)).open("wb") as file:
                file.write(image)
                file.flush()
                os.fdatasync(file.fileno())
            took.append(time.monotonic() - began_s)
    return took


def clock() -> Finding:
    """Whether the machine's clock follows a time server: a scan's age is judged by it."""
    mend = "Let machine and scanner follow one time server (systemd-timesyncd or chrony)."
    tool = shutil.which("timedatectl")
    if tool is None:
        return _clock_by_kernel(mend)
    command = [tool, "show", "--property=NTPSynchronized", "--value"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if done.stdout.strip() != "yes":
        said = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no answer"])[0]
        return Finding("clock", Level.WARNING, f"not known to be synchronised ({said})", mend)
    return Finding("clock", Level.FINE, "synchronised")


def _clock_by_kernel(mend: str) -> Finding:
    error_us = clock_error_us()
    if error_us is None:
        text = "no timedatectl, and no word from the kernel: synchronised or not is unknown"
        return Finding("clock", Level.WARNING, text, mend)
    said = f"off by {error_us / 1e3:.0f} ms at most, by the kernel"
    if error_us >= _UNSYNCHRONISED_US:  # as systemd has it
        return Finding("clock", Level.WARNING, f"not synchronised ({said})", mend)
    return Finding("clock", Level.FINE, f"synchronised ({said})")


def clock_error_us() -> int | None:
    """The most that the clock can be off, in µs, by adjtimex(2), which whatever keeps it in step tells."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    timex = (ctypes.c_long * (_TIMEX_BYTES // ctypes.sizeof(ctypes.c_long)))()
    if adjtimex(ctypes.byref(timex)) < 0:
        return None
    return int(timex[3])  # struct timex: modes (padded), offset, freq, maxerror


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


def certificates(tls: TlsConfig | None) -> Finding:
    """Whether TLS can be begun, and for how long still."""
    if tls is None:
        return Finding("certificates", Level.FINE, "no [listener.tls]: plain TCP")
    try:
        server_context(tls)
        until = valid_until(tls)
    except TlsError as error:
        mend = (
            "Ask whoever runs the hospital's authority for a pair that is valid (docs/network.md)."
        )
        return Finding("certificates", Level.CANNOT_RUN, str(error), mend)
    days = (until - datetime.now(UTC)).total_seconds() / 86400.0
    text = f"{tls.certificate}: valid until {until:%Y-%m-%d %H:%M} UTC, {int(days)} days"
    if days < _SOON_DAYS:
        mend = "Renew it now (docs/network.md): once expired nothing is received."
        return Finding("certificates", Level.WARNING, text, mend)
    if tls.key.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        text = f"{tls.key}: others than its owner can read this key"
        return Finding("certificates", Level.WARNING, text, f"chmod 600 {tls.key}")
    return Finding("certificates", Level.FINE, text)


def port_of(table: str, address: str, number: int) -> Finding:
    """Whether a port that the workstation's file asks for is free."""
    try:
        check_port(ListenerConfig("", address, number, ()))
    except ListenError:
        text = f"{address}:{number} is taken, or the address is not this machine's"
        mend = f"End the other program, or correct [{table}] in the workstation's file."
        return Finding(table, Level.CANNOT_RUN, text, mend)
    return Finding(table, Level.FINE, f"{address}:{number} is free")
