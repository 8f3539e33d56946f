"""``iceball demo`` and ``live``: what plays or looks after a procedure at a terminal. Seconds.

Invariant: the monitor's own program (``monitoring``) is imported by none but itself: who looks after it
starts at once, and stays small.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

from monitor.case import load_case
from monitor.commands.lasting import may_go
from monitor.demo import DemoOptions, run_demo
from monitor.record.inventory import latest_unfinished, look
from monitor.record.journal import RecordError
from monitor.supervisor import Supervised, supervise
from monitor.view.process import has_display


def demo(args: argparse.Namespace) -> int:
    window = has_display() and not args.headless
    if not window:
        print("No window: the screen is rendered to a PNG per scan.", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end what was started
    options = DemoOptions(
        args.scenario, args.out or _stamped("demo"), args.speed, args.ct, window, args.language
    )
    return run_demo(options, _print)


def live(args: argparse.Namespace) -> int:
    may_go()
    record = args.resume or args.record or _stamped("record")
    if args.unsupervised:
        return _monitored(args, record, None)
    if args.supervised_by is not None:
        return _supervised(args, record)
    if not args.resume and args.take_over is None:
        _none_unfinished(args, record)
    return supervise(args.typed, record, _say_error, args.take_over)


def _supervised(args: argparse.Namespace, record: Path) -> int:
    supervised = Supervised(args.supervised_by, args.typed)
    status = _monitored(args, record, supervised)
    supervised.ended(status)
    return status


def _monitored(args: argparse.Namespace, record: Path, supervised: Supervised | None) -> int:
    from monitor.commands.monitoring import monitored

    return monitored(args, record, supervised)


def _none_unfinished(args: argparse.Namespace, record: Path) -> None:
    """A record of the same patient that was not ended is not passed over in silence: a scan with ice in it
    would become the new one's baseline. Raises ``RecordError`` naming both ways on."""
    if args.new or args.case is None:
        return
    patient_id = load_case(args.case).patient_id
    found = latest_unfinished(record.parent, patient_id, time.time())
    if found is not None and look(found).in_use:
        raise RecordError(
            f"{found}: another program is recording a procedure of this patient there; beside it: --new"
        )
    if found is not None:
        raise RecordError(
            f"{found}: a procedure of this patient was not ended. To go on with it: iceball live --resume "
            f"{found}; to begin anew: --new"
        )


def _stamped(name: str) -> Path:
    return Path("out") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _print(text: str) -> None:
    print(text, flush=True)


def _say_error(text: str) -> None:
    print(f"iceball: {text}", file=sys.stderr, flush=True)
