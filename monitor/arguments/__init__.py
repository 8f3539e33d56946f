"""What ``iceball`` understands: its commands and their options. Times in seconds.

Invariant: nothing here does anything but say which function a command line means.
"""

from __future__ import annotations

import argparse
from importlib import metadata

from monitor.arguments import procedure, records, tools
from monitor.arguments.parts import Parser
from monitor.commands import NOTICE

_VERSION = metadata.version("iceball-monitor")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="iceball",
        epilog=NOTICE,
        description="Monitors the iceball of a CT-guided cryoablation: measured in each scan, "
        "predicted between scans, against the lesion, its margin and critical structures.",
    )
    top.add_argument("--version", action="version", version=f"iceball {_VERSION}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    procedure.add_demo(commands)
    procedure.add_live(commands)
    procedure.add_check(commands)
    procedure.add_fetch(commands)
    procedure.add_replay(commands)
    records.add_report(commands)
    records.add_export(commands)
    records.add_send(commands)
    records.add_records(commands)
    records.add_timings(commands)
    tools.add_segment(commands)
    tools.add_benchmark(commands)
    tools.add_simulate(commands)
    tools.add_bench(commands)
    tools.add_selftest(commands)
    tools.add_certificates(commands)
    tools.add_doctor(commands)
    return top
