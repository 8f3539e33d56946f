"""How a live procedure begins: with a new record, or with one that is gone on with. UTC seconds.

Invariant: what cannot begin says why before anything of a record is made or changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_kernels.engine import Engine
from gpu_kernels.select import open_engine
from monitor.clock import ProcedureClock
from monitor.config import Config
from monitor.intake.ports import check_port, check_tls
from monitor.opening import open_case
from monitor.prediction.ensemble import MOST_LATENT
from monitor.procedure import Procedure
from monitor.record.cases import KeptCase, keep_case
from monitor.record.journal import FORMAT_VERSION, JOURNAL, Journal, RecordError
from monitor.record.left_behind import kept_names
from monitor.record.running import Running
from monitor.resuming import Unfinished, open_unfinished
from monitor.streaming.process import StreamOptions
from monitor.view.legibility import ROOM, Viewing
from monitor.view.pedal import Pedal
from monitor.workstation import Workstation, load_workstation

# An intake process whose core was killed has given its port up by then, on a machine however busy.
_PORT_S = 30.0
# What is told when it was no time at all.
_LEAST_DOWN_S = 0.001


@dataclass(frozen=True)
class LiveOptions:
    """``case`` None: a draft, made of the ``workstation`` file (None: the usual one). ``screen``: a window
    for the room. ``console``: one for the technologist. ``screenshots``: a PNG per scan into
    RECORD/screens. ``monitor``: the one asked for, from 0 (``view.remembered``). ``pedal``: see
    ``view.pedal``. ``stream``: OpenIGTLink, if any. ``fetch``: the command that asks a PACS, if there is one.
    ``log_level``: of RECORD/logs. ``resume``: what ``record`` holds is gone on with, and its own case."""

    case: Path | None
    record: Path
    screen: bool
    screenshots: bool
    engine: str = "auto"
    clock_speed: float = 1.0
    clock_epoch_utc_s: float | None = None
    workstation: Path | None = None
    viewing: Viewing = ROOM
    console: bool = False
    monitor: int | None = None
    pedal: Pedal = ()
    stream: StreamOptions | None = None
    fetch: tuple[str, ...] = ()
    resume: bool = False
    log_level: str = "info"

    @property
    def show(self) -> str:
        if self.screen and self.console:
            return "both"
        return "console" if self.console else "room"


@dataclass(frozen=True)
class Begun:
    """What a procedure runs with. ``given``: the case's own file, as the operator named it. ``line``: the
    first that this program writes. Of a record that is gone on with, ``unfinished``: what it holds, and
    ``kept``: the images that were there before anything new could come."""

    config: Config
    engine: Engine
    clock: ProcedureClock
    running: Running
    journal: Journal
    procedure: Procedure
    given: Path
    line: tuple[str, dict[str, Any]]
    unfinished: Unfinished | None = None
    kept: frozenset[str] = frozenset()
    down_s: float = 0.0


def begin(options: LiveOptions, check: Callable[[Config], None]) -> Begun:
    """As ``options`` have it. ``check``: what else must be fine. Raises what says why it cannot."""
    return _gone_on(options, check) if options.resume else _new(options, check)


def kept_case(record: Path, path: Path) -> tuple[Procedure, KeptCase]:
    """The case as the record keeps it from now on: what is worked with is what a replay will find."""
    kept = keep_case(record, path)
    return open_case(record / kept.path)[1], kept


# ------------------------------------------------------------------ a new record


def _new(options: LiveOptions, check: Callable[[Config], None]) -> Begun:
    draft = load_workstation(options.workstation) if options.case is None else None
    config = draft.config if draft else open_case(options.case)[0]  # type: ignore[arg-type]
    engine = open_engine(options.engine, MOST_LATENT)
    check_port(config.listener)
    check_tls(config.listener)
    check(config)
    clock = ProcedureClock.start(options.clock_speed, options.clock_epoch_utc_s)
    # Made last: what cannot begin leaves no folder behind.
    _make(options.record)
    running = Running(options.record)
    journal = Journal(options.record, clock)
    given = options.case or _drafted(options.record, draft)
    procedure, kept = kept_case(options.record, given)
    line = _started(config, engine, clock, given, kept)
    return Begun(config, engine, clock, running, journal, procedure, given, line)


def _make(record: Path) -> None:
    try:
        record.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{record}: {error.strerror}") from None


def _drafted(record: Path, workstation: Workstation | None) -> Path:
    """RECORD/draft/case.toml: the case that begins as what the workstation says, for a console to edit."""
    assert workstation is not None
    path = record / "draft" / "case.toml"
    try:
        path.parent.mkdir()
        path.write_text(workstation.draft_text(), encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    return path


def _started(
    config: Config, engine: Engine, clock: ProcedureClock, given: Path, kept: KeptCase
) -> tuple[str, dict[str, Any]]:
    return "procedure_started", {
        "format_version": FORMAT_VERSION,
        "version": version("iceball-monitor"),
        "case": str(given),
        "kept_case": asdict(kept),
        "patient_id": config.patient_id,
        "organ": config.organ.name,
        "margin_goal_mm": config.margin_goal_mm,
        "engine": engine.name,
        "clock_speed": clock.speed,
        "needles": [n.number for n in config.needles],
        "structures": [s.name for s in config.structures],
        "clock": clock.anchors(),
    }


# ------------------------------------------------------------------ a record gone on with


def _gone_on(options: LiveOptions, check: Callable[[Config], None]) -> Begun:
    record = options.record
    if not (record / JOURNAL).exists():
        raise RecordError(f"{record}: there is no record to go on with")
    running = Running(record)
    down_s = max(running.down_s, _LEAST_DOWN_S)
    try:
        found = open_unfinished(record)
    except RecordError:
        running.close()
        raise
    config, recorded = found.procedure.config, str(found.started.get("engine", "auto"))
    engine = open_engine(recorded if options.engine == "auto" else options.engine, MOST_LATENT)
    check_port(config.listener, _PORT_S)
    check_tls(config.listener)
    check(config)
    clock = _clock_of(found)
    kept = kept_names(record)
    journal = Journal(record, clock, resume=True)
    line = (
        "procedure_resumed",
        {
            "version": version("iceball-monitor"),
            "engine": engine.name,
            "checkpoint_seq": found.seq,
            "torn_bytes": journal.torn,
            "down_s": down_s,
            "clock": clock.anchors(),
        },
    )
    return Begun(
        *(config, engine, clock, running, journal, found.procedure, found.given, line),
        *(found, kept, down_s),
    )


def _clock_of(found: Unfinished) -> ProcedureClock:
    try:
        return ProcedureClock.resumed(found.clock(), found.last_utc_s, found.last_mono_s)
    except (KeyError, TypeError, ValueError) as error:
        text = f"{found.record / JOURNAL}: does not say how its clock ran ({error})"
        raise RecordError(text) from None
