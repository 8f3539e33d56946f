"""``iceball``: the command line. Times in seconds, points in LPS mm where a case gives them.

Invariant: an error that a user can mend is one message naming what and where, and exit status 2.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gpu_kernels.engine import EngineUnavailable
from gpu_kernels.select import CHOICES, open_engine, warm_up
from monitor import demo
from monitor.benchmark.truth import BenchmarkError
from monitor.config import ConfigError
from monitor.intake.folder import FolderError
from monitor.intake.structures import StructureError
from monitor.model import Status
from monitor.record.journal import RecordError
from monitor.record.masks import MaskError
from monitor.segment import SegmentError, SegmentJob, run_segment
from monitor.simulate import load_simulation, run_simulation
from monitor.view.process import has_display

NOTICE = "Research software: it informs, it never decides. Not a medical device."

# Exit status of a measurement that came out INVALID: neither success nor a user's error.
_INVALID = 3
_MENDABLE = (
    ConfigError,
    StructureError,
    FolderError,
    RecordError,
    MaskError,
    SegmentError,
    BenchmarkError,
    EngineUnavailable,
    demo.DemoError,
)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except _MENDABLE as error:
        print(f"iceball: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iceball",
        epilog=NOTICE,
        description="Monitors the iceball of a CT-guided cryoablation: measured in each scan, "
        "predicted between scans, against the lesion, its margin and critical structures.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_live(commands)
    _add_check(commands)
    _add_segment(commands)
    _add_benchmark(commands)
    _add_simulate(commands)
    _add_bench(commands)
    _add_selftest(commands)
    return parser


def _add_demo(commands: Any) -> None:
    p = commands.add_parser(
        "demo",
        help="play a simulated procedure, faster than life",
        epilog=NOTICE,
        description="Starts the monitor and a scanner simulator as separate processes that meet only "
        "over DICOM on loopback, and plays a freeze-thaw-freeze procedure. Without a "
        "display the same screen is rendered to one PNG per scan.",
    )
    p.add_argument(
        "--scenario",
        default=demo.SCENARIO,
        help="what to play (scanner-sim list); default %(default)s",
    )
    p.add_argument(
        "--speed",
        type=_positive,
        default=demo.SPEED,
        help="times faster than life; default %(default)s",
    )
    p.add_argument(
        "--ct",
        type=Path,
        metavar="DIR",
        help="a real CT series as anatomy; lesion, needles and ice are planted in it",
    )
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="where everything goes; default out/demo-<date>"
    )
    p.add_argument(
        "--headless", action="store_true", help="no window even where there is a display"
    )
    p.add_argument(
        "--language", choices=("en", "fr"), help="language of the screen; default the case's"
    )
    p.set_defaults(run=_demo)


def _add_live(commands: Any) -> None:
    p = commands.add_parser(
        "live",
        help="monitor a procedure",
        epilog=NOTICE,
        description="Listens for CT over DICOM and shows measured and predicted ice until stopped "
        "(Ctrl-C, or Q in the window). With --headless, operator acts can be typed: next "
        "(start or next phase), clear (a wrong-patient block), reload (the case), quit.",
    )
    p.add_argument(
        "case", type=Path, metavar="CASE.toml", help="the procedure; see docs/example_case.toml"
    )
    p.add_argument("--headless", action="store_true", help="no window; assessments are printed")
    p.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        help="where journal, images and screens are kept; "
        "default out/record-<date>; must not hold a record already",
    )
    p.add_argument(
        "--screenshots",
        action="store_true",
        help="render the screen to a PNG per scan in DIR/screens",
    )
    _add_engine(p)
    p.add_argument(
        "--clock-speed",
        type=_positive,
        default=1.0,
        help="rehearsal: the procedure clock runs this much faster",
    )
    p.add_argument(
        "--clock-epoch",
        type=float,
        metavar="UNIX_S",
        help="rehearsal: when the fast clock agreed with the wall clock",
    )
    p.set_defaults(run=_live)


def _add_check(commands: Any) -> None:
    p = commands.add_parser(
        "check",
        help="validate a case and its delineations",
        epilog=NOTICE,
        description="Reads CASE.toml and every file it names as `live` would, and says what it found.",
    )
    p.add_argument("case", type=Path, metavar="CASE.toml")
    p.set_defaults(run=_check)


def _add_segment(commands: Any) -> None:
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
        "--out", type=Path, required=True, metavar="ICE.nii.gz", help="the mask: 1 is ice"
    )
    p.add_argument("--seg", type=Path, metavar="ICE.dcm", help="the mask as DICOM SEG, too")
    p.set_defaults(run=_segment)


def _add_benchmark(commands: Any) -> None:
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
    p.set_defaults(run=_benchmark_imaging)


def _add_simulate(commands: Any) -> None:
    p = commands.add_parser(
        "simulate",
        help="solve a bioheat problem",
        epilog=NOTICE,
        description="Solves the cryoablation problem that a TOML file describes and prints the result "
        "as JSON; see docs/simulate.md.",
    )
    p.add_argument("problem", type=Path, metavar="PROBLEM.toml")
    _add_engine(p)
    p.add_argument(
        "--out", type=Path, metavar="FIELD.npz", help="also write the temperature fields there"
    )
    p.set_defaults(run=_simulate)


def _add_bench(commands: Any) -> None:
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
    p.set_defaults(run=_bench)


def _add_selftest(commands: Any) -> None:
    p = commands.add_parser(
        "selftest",
        help="prove a bioheat engine on this machine",
        epilog=NOTICE,
        description="Compares an engine with fields of the reference engine that come with the "
        "program, then runs the benchmark. Exit status 1 when they differ, 2 when the engine cannot "
        "run here.",
    )
    _add_engine(p)
    p.set_defaults(run=_selftest)


def _add_engine(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--engine",
        choices=CHOICES,
        default="auto",
        help="bioheat engine; never changed in silence; default %(default)s",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0, at most 1000")
    return value


def _stamped(name: str) -> Path:
    return Path("out") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _demo(args: argparse.Namespace) -> int:
    window = has_display() and not args.headless
    if not window:
        print("No window: the screen is rendered to a PNG per scan.", flush=True)
    options = demo.DemoOptions(
        args.scenario, args.out or _stamped("demo"), args.speed, args.ct, window, args.language
    )
    return demo.run_demo(options, _print)


def _check(args: argparse.Namespace) -> int:
    from monitor.runtime import open_case

    config, procedure = open_case(args.case)
    print(
        f"{args.case}: fine. Organ {config.organ.name}, margin {config.margin_goal_mm:g} mm, "
        f"{len(config.needles)} needle(s), listener {config.listener.ae_title}@"
        f"{config.listener.address}:{config.listener.port}"
    )
    for s in procedure.structures:
        print(f"  {s.role.value} {s.name}: {float((s.sdf_mm <= 0).sum()) * s.grid.voxel_ml:.1f} ml")
    return 0


def _segment(args: argparse.Namespace) -> int:
    result = run_segment(SegmentJob(args.case, args.baseline, args.scan, args.out, args.seg))
    print(json.dumps(result, allow_nan=False))
    return _INVALID if result["status"] == Status.INVALID.value else 0


def _benchmark_imaging(args: argparse.Namespace) -> int:
    from monitor.benchmark.command import benchmark_imaging

    if args.plots and args.out is None:
        raise BenchmarkError("--plots needs --out DIR to write them to")
    print(benchmark_imaging(args.folders, args.out, args.plots, _tell), end="")
    return 0


def _tell(text: str) -> None:
    """Progress, out of the way of what other programs read."""
    print(text, file=sys.stderr, flush=True)


def _simulate(args: argparse.Namespace) -> int:
    simulation = load_simulation(args.problem)
    engine = open_engine(args.engine)
    warm_up(engine)
    result, fields = run_simulation(simulation, engine)
    if args.out is not None:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **fields)
        except OSError as error:
            raise ConfigError(f"--out {args.out}: {error}") from None
    print(json.dumps(result))
    return 0


def _bench(args: argparse.Namespace) -> int:
    from gpu_kernels import bench

    engines = [open_engine(name) for name in args.engine or _runnable()]
    result = bench.run_bench(engines, _print, max(args.runs, 1))
    print(bench.table(result))
    if args.scaling:
        result["scaling"] = bench.scaling(engines[-1])
        print(json.dumps(result["scaling"]))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _runnable() -> list[str]:
    """The engines that run here; what does not is said."""
    try:
        open_engine("gpu")
    except EngineUnavailable as error:
        print(error, flush=True)
        return ["reference", "cpu"]
    return ["reference", "cpu", "gpu"]


def _selftest(args: argparse.Namespace) -> int:
    from gpu_kernels import bench, selftest

    engine = open_engine(args.engine)
    print(f"engine {engine.name} ({engine.why})", flush=True)
    checks = selftest.check_engine(engine)
    for c in checks:
        print(
            f"t = {c.time_s:g} s: {c.rms_degc:.3f} °C rms from the golden field (at most "
            f"{selftest.MOST_RMS_DEGC:g}), ice volume off by {100 * c.ice_off:.2f} % (at most "
            f"{100 * selftest.MOST_ICE_OFF:g} %): {'fine' if c.fine else 'WRONG'}",
            flush=True,
        )
    if not all(c.fine for c in checks):
        return 1
    print(bench.table(bench.run_bench([engine], _print)))
    return 0


def _print(text: str) -> None:
    print(text, flush=True)


def _live(args: argparse.Namespace) -> int:
    from monitor.runtime import Live, LiveOptions

    record = args.record or _stamped("record")
    record.mkdir(parents=True, exist_ok=True)
    live = Live(
        LiveOptions(
            args.case,
            record,
            screen=not args.headless,
            screenshots=args.screenshots,
            engine=args.engine,
            clock_speed=args.clock_speed,
            clock_epoch_utc_s=args.clock_epoch,
        ),
        _say,
    )
    print(f"Record: {record}. {NOTICE}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: live.request_stop("signal"))
    live.start()
    if args.headless:
        threading.Thread(target=_read_acts, args=(live,), daemon=True).start()
    while not live.stopping.wait(0.2):
        pass
    live.finish()
    return 2 if live.ended_by == "listener failed" else 0


_TYPED = {"next": "phase_next", "clear": "clear_block", "reload": "reload", "quit": "quit"}


def _read_acts(live: Any) -> None:
    """Operator acts typed at a terminal; the end of the input ends nothing."""
    for line in sys.stdin:
        word = line.strip().lower()
        if word in _TYPED:
            live.act(_TYPED[word])
        elif word:
            print(f"unknown: {word!r}; known: {', '.join(_TYPED)}", flush=True)


def _say(kind: str, fields: dict[str, Any]) -> None:
    """One line on the terminal for what an operator wants to know; no patient data."""
    if kind == "listening":
        print(f"Listening: {fields['ae_title']}@{fields['address']}:{fields['port']}", flush=True)
    elif kind == "listener_failed":
        print(f"iceball: {fields['error']}", file=sys.stderr, flush=True)
    elif kind == "volume_completed":
        print(f"{fields['volume_id']}: {fields['slices']} slices, {fields['status']}", flush=True)
    elif kind == "instance_rejected":
        print(f"rejected: {fields['reason']}: {fields['path']}", flush=True)
    elif kind in (
        "alarm_raised",
        "alarm_cleared",
        "phase",
        "fault",
        "record_failing",
        "process_restarted",
    ):
        shown = {
            k: v
            for k, v in fields.items()
            if k in ("code", "priority", "phase", "cycle", "error", "process")
        }
        print(f"{kind}: {shown}", flush=True)
    elif kind == "assessment" and fields["lesion_covered"] is not None:
        margin = fields["min_margin_mm"]
        print(
            f"{fields['volume_id']}: lesion {100 * fields['lesion_covered']:.1f} %, margin "
            f"{'—' if margin is None else f'{margin:+.1f} mm'}, {fields['status']}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
