"""What each process of a procedure says of itself: RECORD/logs/<process>.jsonl, one JSON object a line.

``at`` is UTC by the machine's clock, not the procedure's. No patient data, at any level: of an exception, and
of what a library says, where it came from is kept and not its text, which may quote what was read; of a
journal's line the fields that ``_TOLD`` names. Each file is of one process and of bounded size.
Invariant: a log that cannot be written disturbs nothing; the next line that can be says how many were lost.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
FOLDER = "logs"
# The file that is written and so many before it: 10 MB for each process.
_FILE_BYTES, _EARLIER_FILES = 2_000_000, 4
_OURS = "iceball"
_LOG = logging.getLogger(_OURS)

# What is told of a journal's line, and how loudly: none of these fields is about the patient. Lines of other
# kinds are told by their kind.
_D, _I, _W, _E = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
_TOLD: dict[str, tuple[int, tuple[str, ...]]] = {
    "procedure_started": (_I, ("version", "format_version", "engine", "clock_speed")),
    "listening": (_I, ("address", "port")),
    "listener_failed": (_E, ()),
    "association_ended": (_I, ("association_id", "aborted", "stored")),
    "association_refused": (_W, ("peer",)),
    "images_refused": (_W, ("peer", "reason")),
    "images_kept_again": (_I, ("peer",)),
    "instance_rejected": (_W, ("reason",)),
    "volume_completed": (_I, ("volume_id", "slices", "rows", "columns", "completed_by", "status")),
    "volume_not_measured": (_I, ("volume_id", "reason")),
    "baseline_set": (_I, ("volume_id",)),
    "registered": (_I, ("volume_id", "status", "quality")),
    "ice_segmented": (_I, ("volume_id", "status", "quality")),
    "forecast": (_I, ("from_volume_id", "status")),
    "forecast_skipped": (_I, ("from_volume_id",)),
    "assessment": (_I, ("volume_id", "status")),
    "phase": (_I, ("phase", "cycle")),
    "alarm_raised": (_W, ("code", "priority")),
    "alarm_acknowledged": (_I, ("code",)),
    "alarm_cleared": (_I, ("code",)),
    "operator": (_I, ("act",)),
    "act_refused": (_W, ("act",)),
    "process_restarted": (_E, ("process", "exit")),
    "timing": (_D, ("event", "took_s", "stages", "since_received_s", "volume_ids", "of")),
    "fault": (_E, ("event",)),
    "procedure_ending": (_I, ("by",)),
    "procedure_ended": (_I, ("by",)),
}


@dataclass(frozen=True)
class LogOptions:
    """``folder`` None: nothing is logged. ``level``: one of ``LEVELS``."""

    folder: Path | None = None
    level: str = "info"


def of_record(record: Path, level: str) -> LogOptions:
    return LogOptions(record / FOLDER, level)


def journal_line(kind: str, fields: Mapping[str, Any]) -> None:
    """A line that went to the journal (or could not), as far as it may be told here."""
    level, names = _TOLD.get(kind, (_D, ()))
    _say(level, kind, {name: fields.get(name) for name in names})


def say(level: int, event: str, **fields: Any) -> None:
    """``fields``: numbers, booleans, and names that the program itself has given."""
    _say(level, event, fields)


def _say(level: int, event: str, fields: dict[str, Any]) -> None:
    _LOG.log(level, event, extra={"fields": fields})


def failed(event: str, error: BaseException) -> None:
    """An exception that ends something, or that was caught where none is expected."""
    _LOG.error(event, exc_info=error)


@contextmanager
def logged(options: LogOptions, process: str) -> Iterator[None]:
    """Within it this process logs, and what nobody catches, on any thread, is logged as well. Raises what
    is raised in it."""
    if options.folder is None:
        yield
        return
    with suppress(OSError):  # each line that is lost is counted
        options.folder.mkdir(parents=True, exist_ok=True)
    root, handler = logging.getLogger(), _opened(options, process)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    undo, crash = _hooked(), _crash_file(options.folder / f"{process}.crash.txt")
    say(_I, "process_begun", pid=os.getpid())
    try:
        yield
    except SystemExit as error:
        say(_I, "process_exits", status=error.code if isinstance(error.code, int) else None)
        raise
    except BaseException as error:
        failed("process_fails", error)
        raise
    finally:
        say(_I, "process_ends", pid=os.getpid())
        undo()
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()
        crash()


def run(options: LogOptions, process: str, target: Callable[..., None], *given: Any) -> None:
    """The target of a spawned process that logs."""
    with logged(options, process):
        target(*given)


def _crash_file(path: Path) -> Callable[[], None]:
    """Where Python writes its threads' stacks when C code ends the process (a segmentation fault, an abort).
    Returns how to close it; an empty one is taken away."""
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        failed("no_crash_file", error)
        return lambda: None
    faulthandler.enable(file)

    def close() -> None:
        faulthandler.disable()
        file.close()
        with suppress(OSError):
            if not path.stat().st_size:
                path.unlink()

    return close


def _hooked() -> Callable[[], None]:
    """What nobody catches: on the main thread (and in Qt's slots), on others, in a destructor. Returns how to
    undo it."""
    main, thread, unraisable = sys.excepthook, threading.excepthook, sys.unraisablehook

    def of_main(
        kind: type[BaseException], error: BaseException, where: TracebackType | None
    ) -> None:
        failed("uncaught", error)
        main(kind, error, where)

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            failed("uncaught_in_thread", args.exc_value)
        thread(args)

    def of_destructor(args: Any) -> None:
        if args.exc_value is not None:
            failed("uncaught_in_destructor", args.exc_value)
        unraisable(args)

    def undo() -> None:
        sys.excepthook, threading.excepthook, sys.unraisablehook = main, thread, unraisable

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_main, of_thread, of_destructor
    return undo


# ------------------------------------------------------------------ the file


def _opened(options: LogOptions, process: str) -> logging.Handler:
    assert options.folder is not None
    handler = _Rotating(
        options.folder / f"{process}.jsonl",
        maxBytes=_FILE_BYTES,
        backupCount=_EARLIER_FILES,
        encoding="utf-8",
        delay=True,
    )
    handler.setFormatter(_Json(process))
    handler.addFilter(_Filter(getattr(logging, options.level.upper())))
    return handler


class _Filter(logging.Filter):
    """Ours from the level that was asked for; of libraries what is a warning or worse."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= (self._level if record.name == _OURS else logging.WARNING)


class _Rotating(RotatingFileHandler):
    """Counts what could not be written. A full or vanished disk is the journal's to alarm."""

    lost = 0
    _written = True

    def emit(self, record: logging.LogRecord) -> None:
        record.lost, self._written = self.lost, True
        super().emit(record)
        if self._written:
            self.lost = 0

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost, self._written = self.lost + 1, False
        with suppress(OSError):
            self.close()  # the next line opens it anew


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        ours = record.name == _OURS
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "thread": record.threadName,
            "event": record.msg if ours else "library",
        }
        if ours:
            line["fields"] = getattr(record, "fields", {})
        else:
            where = f"{record.module}:{record.lineno}"
            line["fields"] = {"library": record.name, "where": where}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _chain(record.exc_info[1])
        if lost := getattr(record, "lost", 0):
            line["lost_before"] = lost
        finite = json.loads(json.dumps(line, default=_number), parse_constant=lambda _: None)
        return json.dumps(finite)


def _number(value: Any) -> Any:
    """NumPy's numbers; of anything else its type."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return type(value).__name__


def _chain(error: BaseException) -> list[dict[str, Any]]:
    """The exception and what caused it: their types, and where in the program; not what they say."""
    found: list[dict[str, Any]] = []
    at: BaseException | None = error
    while at is not None and len(found) < 8:
        frames = traceback.extract_tb(at.__traceback__)[-20:]
        where = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]
        found.append({"type": type(at).__name__, "trace": where})
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return found
