"""Measuring, computing and looking after a machine: all commands without a procedure or its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_kernels.engine import CHOICES
from monitor.arguments.parts import add_engine, bounded, command
from monitor.commands import NOTICE


def add_segment(commands: Any) -> None:
    p = commands.add_parser(
        "segment",
        help="measure the ice in one scan",
        epilog="Exit status 0: measured (status OK or DEGRADED; see reasons); 3: INVALID, the JSON says "
        f"why and no mask is written; 2: an error in what was given. {NOTICE}",
        description="Measures the ice in a CT against the CT before the first freeze, prints the "
        "result as JSON and writes the ice as a mask in the scan's coordinates. A folder may hold "
        "several volumes: the one with most slices is taken, of several kernels the softest. NIfTI "
        "holds neither tilted nor unevenly spaced slices: for such a scan the mask lies on upright "
        "slices of the same pixels that cover it (mask_on says so); the SEG lies on the scan's own.",
    )
    p.add_argument("--baseline", type=Path, required=True, metavar="DIR", help="CT before the ice")
    p.add_argument("--scan", type=Path, required=True, metavar="DIR", help="CT to measure")
    p.add_argument("--case", type=Path, required=True, metavar="CASE.toml", help="the procedure")
    p.add_argument(
        "--earlier",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a CT between the two, oldest first, may be repeated: in lung, ice shows only against the "
        "blood that an earlier thaw has left",
    )
    p.add_argument(
        "--out", type=Path, required=True, metavar="ICE.nii.gz", help="the mask: 1 is ice"
    )
    p.add_argument("--seg", type=Path, metavar="ICE.dcm", help="the mask as DICOM SEG, too")
    p.set_defaults(run=command("measuring", "segment"))


def add_benchmark(commands: Any) -> None:
    p = commands.add_parser(
        "benchmark",
        help="compare measurements with a simulator's truth",
        epilog=NOTICE,
        description="Measures simulated scans whose truth is known and says how well.",
    )
    kinds = p.add_subparsers(required=True, metavar="WHAT")
    p = kinds.add_parser(
        "imaging",
        help="ice, motion and needles in each scan",
        epilog=NOTICE,
        description="Measures every scan after the baseline of scenario folders that `scanner-sim "
        "render` wrote, and prints agreement with their truth as Markdown. Scans from 2 minutes of "
        "freezing on count. Exit status 0 whether or not the requirements are met.",
    )
    p.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="a rendered scenario")
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="also write imaging.md and imaging.json there"
    )
    p.add_argument(
        "--plots", action="store_true", help="and a picture of each scenario over time; with --out"
    )
    p.set_defaults(run=command("measuring", "benchmark_imaging"))
    p = kinds.add_parser(
        "forecast",
        help="the ice at the next scan, and when lesion and margin are covered",
        epilog=NOTICE,
        description="From every scan of scenario folders that `scanner-sim render` wrote, forecasts the "
        "next one and prints agreement with its truth as Markdown, beside the last scan, the makers' "
        "ellipsoids and physics without calibration. Exit status 0 whether or not the requirements "
        "are met.",
    )
    p.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="a rendered scenario")
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="also write forecast.md and forecast.json there"
    )
    p.add_argument(
        "--plots", action="store_true", help="and a picture of each scenario over time; with --out"
    )
    add_engine(p)
    p.set_defaults(run=command("measuring", "benchmark_forecast"))


def add_simulate(commands: Any) -> None:
    p = commands.add_parser(
        "simulate",
        help="solve a bioheat problem",
        epilog=NOTICE,
        description="Solves the cryoablation problem that a TOML file describes and prints the result "
        "as JSON; docs/example_problem.toml explains every key.",
    )
    p.add_argument("problem", type=Path, metavar="PROBLEM.toml")
    add_engine(p)
    p.add_argument(
        "--out", type=Path, metavar="FIELD.npz", help="also write the temperature fields there"
    )
    p.set_defaults(run=command("engines", "simulate"))


def add_bench(commands: Any) -> None:
    p = commands.add_parser(
        "bench",
        help="time the bioheat engines",
        epilog=NOTICE,
        description="Benchmark problem P1 (96³ voxels, 10 minutes of freezing) on this machine: every "
        "engine that runs here, and Devito where it is installed, in the same run.",
    )
    p.add_argument("--engine", choices=CHOICES, action="append", help="only this one (repeatable)")
    p.add_argument("--runs", type=int, default=5, help="median of so many; default %(default)s")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    p.add_argument("--scaling", action="store_true", help="also over grid and ensemble sizes")
    p.set_defaults(run=command("engines", "bench"))


def add_selftest(commands: Any) -> None:
    p = commands.add_parser(
        "selftest",
        help="prove a bioheat engine on this machine",
        epilog=NOTICE,
        description="Compares an engine with fields of the reference engine that come with the "
        "program, then runs the benchmark. Exit status 1 when they differ, 2 when the engine cannot "
        "run here.",
    )
    add_engine(p)
    p.set_defaults(run=command("engines", "selftest"))


def add_certificates(commands: Any) -> None:
    p = commands.add_parser(
        "certificates",
        help="make certificates to try TLS with",
        epilog=NOTICE,
        description="Writes ca.pem, listener.pem, listener.key, scanner.pem and scanner.key, and prints what "
        "to put into a case and how to send with them. For tests: a hospital has its own authority.",
    )
    p.add_argument("folder", type=Path, metavar="DIR")
    p.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="NAME",
        help="name or address that the listener is called by; may be repeated",
    )
    p.add_argument(
        "--days",
        type=bounded(0.01, 3650.0),
        default=90.0,
        help="until they expire; default %(default)g",
    )
    p.set_defaults(run=command("certificates", "run"))


def add_doctor(commands: Any) -> None:
    p = commands.add_parser(
        "doctor",
        help="whether this machine can carry a procedure",
        epilog=f"Exit status 0: fine; 1: warnings; 2: it cannot run. {NOTICE}",
        description="Looks at packages, engine, GPU, display, fonts, disk, clock, locale, the workstation's "
        "file, its port and its certificates, and says of each what it found and how to mend it.",
    )
    p.add_argument(
        "--case", type=Path, metavar="CASE.toml", help="look at this case's port and certificates"
    )
    p.add_argument("--workstation", type=Path, metavar="FILE", help="as of live")
    p.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        default=Path("out"),
        help="where records are kept; default %(default)s",
    )
    p.add_argument("--json", action="store_true", help="print the findings as JSON")
    p.set_defaults(run=command("doctor", "run"))
