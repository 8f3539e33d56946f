"""``iceball report`` and ``export``: what a record gives to people and to other programs.

Invariant: what could not be written is said by name, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def report(args: argparse.Namespace) -> int:
    from monitor.report.writing import write_report

    out: Path = args.out or args.record / "report"
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
    written, left_out = written_by(args.record, targets, args.engine)
    for path in written:
        print(path)
    for what in left_out:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 1 if left_out else 0
