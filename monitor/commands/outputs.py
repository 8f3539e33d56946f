"""``iceball report`` and ``export``: what a record gives to people and to other programs.

Invariant: what could not be written is said by name, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.record.reading import in_use
from monitor.record.spool import Spool


def report(args: argparse.Namespace) -> int:
    from monitor.report.writing import write_report

    out: Path = args.out or args.record / "report"
    with in_use(args.record):
        for path in write_report(args.record, out, args.language, args.engine):
            print(path)
    return 0


def export(args: argparse.Namespace) -> int:
    """Exit status 1 if something of the record could not be written; it is named."""
    from monitor.config import ConfigError
    from monitor.export import Targets
    from monitor.export import export as written_by

    targets = Targets(args.dicom, args.nifti, args.csv, args.language)
    if not (targets.dicom or targets.nifti or targets.csv):
        raise ConfigError("export: say what to write: --dicom, --nifti or --csv DIR")
    with in_use(args.record):
        written, left_out = written_by(args.record, targets, args.engine)
    for path in written:
        print(path)
    for what in left_out:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 1 if left_out else 0


def send(args: argparse.Namespace) -> int:
    """Exit status 1 while something is pending or was refused."""
    from monitor.config import ConfigError
    from monitor.record.journal import JOURNAL
    from monitor.sending import receiver_of, send_all

    try:
        to = receiver_of(args.to)
    except ValueError as error:
        raise ConfigError(f"--to {error}") from None
    spool, left_out = Spool(args.spool or args.what / "spool"), list[str]()
    if (args.what / JOURNAL).exists():
        with in_use(args.what):
            left_out = _spool_record(args.what, spool)
    else:
        for path in sorted(args.what.glob("*.dcm")):
            spool.add(path)
    done = send_all(spool, to, lambda text: print(text, flush=True), args.give_up_after)
    print(
        f"{len(list((spool.folder / 'sent').glob('*.dcm')))} sent, {len(spool.pending())} waiting"
    )
    for path, reason in spool.refused():
        print(f"iceball: refused by {to.ae_title}: {path}: {reason}", file=sys.stderr)
    for what in left_out:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 0 if done and not spool.refused() and not left_out else 1


def _spool_record(record: Path, spool: Spool) -> list[str]:
    import tempfile

    from monitor.export import Targets
    from monitor.export import export as written_by

    with tempfile.TemporaryDirectory(prefix="iceball-send-") as folder:
        written, left_out = written_by(record, Targets(dicom=Path(folder)))
        for path in written:
            spool.add(path)
    return left_out
