"""``iceball segment`` and ``iceball benchmark``: scans from files. Results on standard output, for
other programs; progress on standard error."""

from __future__ import annotations

import argparse
import json
import sys

from monitor.benchmark.truth import BenchmarkError
from monitor.model import Status
from monitor.segment import SegmentJob, run_segment

# Exit status of a measurement that came out INVALID: neither success nor a user's error.
_INVALID = 3


def segment(args: argparse.Namespace) -> int:
    earlier = tuple(args.earlier)
    job = SegmentJob(args.case, args.baseline, earlier, args.scan, args.out, args.seg)
    result = run_segment(job)
    print(json.dumps(result, allow_nan=False))
    return _INVALID if result["status"] == Status.INVALID.value else 0


def benchmark_imaging(args: argparse.Namespace) -> int:
    from monitor.benchmark.command import benchmark_imaging as run

    _needs_out(args)
    print(run(args.folders, args.out, args.plots, _tell), end="")
    return 0


def benchmark_forecast(args: argparse.Namespace) -> int:
    from monitor.benchmark.command import benchmark_forecast as run

    _needs_out(args)
    print(run(args.folders, args.out, args.plots, args.engine, _tell), end="")
    return 0


def _needs_out(args: argparse.Namespace) -> None:
    if args.plots and args.out is None:
        raise BenchmarkError("--plots needs --out DIR to write them to")


def _tell(text: str) -> None:
    """Progress, out of the way of what other programs read."""
    print(text, file=sys.stderr, flush=True)
