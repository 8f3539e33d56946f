"""``scanner-sim``: a CT scanner and the patient in it. Times in s, speeds in times life.

Invariant: an error that a user can mend is one message and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from scanner_sim import scenario as scenarios
from scanner_sim.console import Console, enhanced_console, writer_of
from scanner_sim.dicom import pixels, profiles
from scanner_sim.output import EPOCH_UTC_S, write_all, write_truth
from scanner_sim.patient.anatomy import outline
from scanner_sim.plan import write_plan
from scanner_sim.scenario import Scenario
from scanner_sim.simulation import Simulation
from scanner_sim.wire import faults
from scanner_sim.wire.push import Clock, Pace, PushError, Target, Tls, play, verify

_ORDERS = ("ascending", "descending", "shuffled")
_LATEST_UTC_S = 250_000_000_000.0  # the year 9892: a DICOM date has four digits
_LARGEST_SEED = 2**32 - 1
_BAR_CELLS = 24


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (scenarios.ScenarioError, PushError, OSError) as error:
        print(f"scanner-sim: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scanner-sim",
        description="Simulates the CT of a cryoablation: a patient, ice that grows by "
        "physics of its own, and images sent over DICOM. Nothing it sends is a patient.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    p = commands.add_parser("list", help="the scenarios, and why each is hard")
    p.set_defaults(run=lambda args: _list())
    p = _command(
        commands, "plan", _plan, "write case.toml, rtstruct.dcm and seg.dcm, as before a procedure"
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    p.add_argument(
        "--port",
        type=_port,
        default=11112,
        help="the monitor's port, for case.toml; default %(default)s, 0 any",
    )
    p.add_argument(
        "--ae-title",
        type=_ae_title,
        default="ICEBALL",
        help="the monitor's AE title; default %(default)s",
    )
    p = _command(commands, "render", _render, "write every scan as DICOM, the plan and the truth")
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    p.add_argument("--scans", type=int, metavar="N", help="only the first N scans")
    _push_options(_command(commands, "push", _push, "play the procedure live to a DICOM receiver"))
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    p = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("scenario", help="its name (scanner-sim list)")
    p.add_argument(
        "--ct",
        type=Path,
        metavar="DIR",
        help="a real CT series as anatomy; lesion, needles and ice are planted in it",
    )
    p.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="another patient of the same kind, other noise; default the scenario's",
    )
    p.add_argument(
        "--no-cache", action="store_true", help="compute everything; keep and read nothing on disk"
    )
    habits = p.add_argument_group("the scanner's habits (default: the scenario's, or its maker's)")
    habits.add_argument("--vendor", choices=profiles.names())
    habits.add_argument("--series", choices=("per_scan", "single"))
    habits.add_argument("--transfer-syntax", choices=list(pixels.SYNTAXES))
    p.set_defaults(run=run)
    return p


def _push_options(p: Any) -> None:
    p.epilog = "faults:\n" + textwrap.indent(faults.describe(), "  ")
    p.add_argument("--to", type=_target, required=True, metavar="AET@host:port")
    p.add_argument(
        "--speed", type=float, default=1.0, help="times faster than life; default %(default)s"
    )
    p.add_argument(
        "--epoch",
        type=float,
        metavar="UNIX_S",
        help="when the fast clock showed the true time; default now",
    )
    p.add_argument(
        "--calling-ae", type=_ae_title, default="SCANNER", help="own AE title; default %(default)s"
    )
    p.add_argument("--association", choices=("series", "image"), help="one association per what")
    p.add_argument(
        "--enhanced", action="store_true", help="each scan as one Enhanced CT multi-frame object"
    )
    p.add_argument("--order", choices=_ORDERS, help="of the slices within a series")
    p.add_argument(
        "--slices-per-s",
        type=float,
        default=15.0,
        help="reconstruction's pace; default %(default)s",
    )
    p.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:when]",
        help="something goes wrong; when is scan numbers (2,5) or all, default "
        f"{','.join(map(str, faults.DEFAULT_SCANS))}; may be given several times",
    )
    p.add_argument("--tls-ca", type=Path, metavar="PEM", help="use TLS; whom to trust as receiver")
    p.add_argument(
        "--tls-cert", type=Path, metavar="PEM", help="the scanner's own certificate; with --tls-ca"
    )
    p.add_argument("--tls-key", type=Path, metavar="PEM", help="its key; with --tls-cert")
    p.add_argument(
        "--tls",
        type=Path,
        nargs=3,
        metavar=("CERT", "KEY", "CA"),
        help="all three of these at once",
    )
    p.add_argument("--truth", type=Path, metavar="DIR", help="write truth.json there at the end")


def _target(text: str) -> Target:
    title, at, rest = text.partition("@")
    host, colon, port = rest.rpartition(":")
    if not (title and at and host and colon and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected AET@host:port")
    number = _port(port)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: nobody can be called at port 0")
    return Target(_ae_title(title), host, number)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"port {text}: expected a whole number, at most 65535")
    return int(text)


def _ae_title(text: str) -> str:
    """As PS3.5 6.2 has them (AE)."""
    if (
        not (text.strip() and len(text) <= 16 and text.isascii() and text.isprintable())
        or "\\" in text
    ):
        raise argparse.ArgumentTypeError(
            f"AE title {text!r}: expected 1 to 16 plain characters, no backslash"
        )
    return text


def _list() -> None:
    for name in scenarios.names():
        s = scenarios.load(name)
        minutes = sum(p.seconds for p in s.phases) / 60.0
        print(f"{name}\n    {s.title}.")
        print(textwrap.fill(s.hard, 96, initial_indent="    ", subsequent_indent="    "))
        print(
            f"    {len(s.needles)} needle(s), {len(s.scans)} scans in {minutes:.0f} min, "
            f"{s.scanner.vendor}, seed {s.seed}"
        )


def _scenario(args: argparse.Namespace) -> Scenario:
    """The scenario with what the command line says instead."""
    if args.ct is not None and not args.ct.is_dir():
        raise scenarios.ScenarioError(f"--ct {args.ct}: not a folder")
    s = scenarios.load(args.scenario)
    asked = {
        k: getattr(args, k, None)
        for k in ("vendor", "series", "transfer_syntax", "order", "association")
    }
    if args.seed is not None:
        if not 0 <= args.seed <= _LARGEST_SEED:
            raise scenarios.ScenarioError(
                f"--seed {args.seed}: expected a whole number from 0 to {_LARGEST_SEED}"
            )
        if args.seed != s.seed:
            s = _somebody_else(s, args.seed)
    return replace(s, scanner=replace(s.scanner, **{k: v for k, v in asked.items() if v}))


def _somebody_else(s: Scenario, seed: int) -> Scenario:
    """Another patient has another name."""
    return replace(
        s,
        seed=seed,
        patient_id=f"{s.patient_id}-{seed}",
        patient_label=f"{s.patient_label} {seed}",
    )


@contextlib.contextmanager
def _open(args: argparse.Namespace, scenario: Scenario) -> Iterator[Simulation]:
    bar = _Bar() if sys.stderr.isatty() else None
    progress = bar.show if bar else lambda _scan, _slices: None
    simulation = Simulation(scenario, args.ct, not args.no_cache, progress)
    if bar:
        bar.totals = [simulation.slices(n) for n in range(len(simulation.scan_times_s))]
    try:
        yield simulation
    finally:
        if bar:
            bar.end()
        simulation.close()


class _Bar:
    """Slices of the scan in work, on a line of a terminal that ends with its last one. Slices are
    told by several threads."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self._begun = False
        self._scan, self._done = -1, 0
        self._lock = threading.Lock()

    def show(self, scan: int, slices: int) -> None:
        with self._lock:
            self._done = slices if scan != self._scan else self._done + slices
            self._scan = scan
            done, total = self._done, self.totals[scan]
            filled = _BAR_CELLS * done // total
            text = (
                f"\rscan {scan}: {'▮' * filled}{'▯' * (_BAR_CELLS - filled)} {done}/{total} slices"
            )
            print(text, end="", file=sys.stderr, flush=True)
            self._begun = True
            if done >= total:
                self.end()

    def end(self) -> None:
        """Whatever comes next begins on a line of its own."""
        if self._begun:
            print(file=sys.stderr, flush=True)
        self._begun = False


def _plan(args: argparse.Namespace) -> None:
    scenario = _scenario(args)
    if args.ct is None:
        planned = outline(scenario)
        writer = writer_of(scenario, EPOCH_UTC_S)
        print(write_plan(scenario, planned, writer, args.out, args.ae_title, args.port))
        return
    with _open(args, scenario) as simulation:
        s = simulation.scenario
        writer = writer_of(s, EPOCH_UTC_S)
        print(write_plan(s, simulation.planned, writer, args.out, args.ae_title, args.port))


def _render(args: argparse.Namespace) -> None:
    if args.scans is not None and args.scans < 1:
        raise scenarios.ScenarioError(f"--scans {args.scans}: expected a whole number from 1 on")
    with _open(args, _scenario(args)) as simulation:
        simulation.start()
        whole = len(simulation.scan_times_s)
        count = min(args.scans or whole, whole)
        write_all(simulation, args.out, count, lambda text: print(text, flush=True))


def _push(args: argparse.Namespace) -> None:
    if not 0 < args.speed <= 1000:
        raise scenarios.ScenarioError(
            f"--speed {args.speed}: expected a number above 0, at most 1000"
        )
    if not 0 < args.slices_per_s < math.inf:
        raise scenarios.ScenarioError(
            f"--slices-per-s {args.slices_per_s}: expected a number above 0"
        )
    tls = _tls(args)
    clock = _clock(args)
    scenario = _scenario(args)
    wanted = [faults.parse(text) for text in args.fault]
    faults.check(wanted, len(scenario.scans))
    target = replace(args.to, calling_ae_title=args.calling_ae, tls=tls)
    _say(f"Calling {target} as {args.calling_ae} ...")
    verify(target)
    with _open(args, scenario) as simulation:
        simulation.start()
        s = simulation.scenario
        target = replace(target, per_image=s.scanner.association == "image")
        _say(f"It answers. Rendering the baseline, {simulation.slices(0)} slices ...")
        simulation.acquisition(0)  # the procedure begins when the baseline can be shown
        start_utc_s = clock.now_utc_s()
        console = (
            enhanced_console(simulation, start_utc_s)
            if args.enhanced
            else Console(simulation, writer_of(s, start_utc_s))
        )
        pace = Pace(args.slices_per_s, s.scanner.order, s.seed)  # type: ignore[arg-type]
        play(console, target, clock, start_utc_s, _say, pace, wanted)
        if args.truth is not None:
            write_truth(simulation, len(simulation.scan_times_s), args.truth)


def _tls(args: argparse.Namespace) -> Tls | None:
    """Half of what TLS needs is no reason to send in plain text."""
    if args.tls is not None:
        if args.tls_ca or args.tls_cert or args.tls_key:
            raise scenarios.ScenarioError(
                "--tls: it says all that --tls-ca, --tls-cert and --tls-key do"
            )
        args.tls_cert, args.tls_key, args.tls_ca = args.tls
    if args.tls_ca is None and (args.tls_cert or args.tls_key):
        raise scenarios.ScenarioError("--tls-cert and --tls-key: they need --tls-ca")
    if args.tls_key and not args.tls_cert:
        raise scenarios.ScenarioError("--tls-key: it needs --tls-cert")
    if args.tls_ca is None:
        return None
    tls = Tls(args.tls_ca, args.tls_cert, args.tls_key)
    tls.context()  # told now, not after the baseline has been computed
    return tls


def _clock(args: argparse.Namespace) -> Clock:
    clock = Clock(args.epoch if args.epoch is not None else time.time(), args.speed)
    if not 0 <= clock.now_utc_s() <= _LATEST_UTC_S:
        raise scenarios.ScenarioError(
            f"--epoch {args.epoch}: the clock would not show a time between 1970 and 9892"
        )
    return clock


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
