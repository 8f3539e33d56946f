"""``scanner-sim``: a CT scanner and the patient in it. Times in s, speeds in times life.

Invariant: an error that a user can mend is one message and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from scanner_sim import scenario as scenarios
from scanner_sim.dicom_out import Writer
from scanner_sim.plan import save, write_plan
from scanner_sim.push import Clock, PushError, Target, play
from scanner_sim.render import on_axes
from scanner_sim.simulation import Simulation

# A fixed moment, so that the same scenario renders to the same bytes.
_RENDER_EPOCH_UTC_S = 1_767_225_600.0


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
    p = commands.add_parser("list", help="the scenarios")
    p.set_defaults(run=lambda args: _list())
    p = _command(commands, "plan", _plan, "write case.toml and rtstruct.dcm, as before a procedure")
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    p.add_argument(
        "--port",
        type=int,
        default=11112,
        help="the monitor's port, for case.toml; default %(default)s, 0 any",
    )
    p.add_argument(
        "--ae-title", default="ICEBALL", help="the monitor's AE title; default %(default)s"
    )
    p = _command(commands, "render", _render, "write every scan as DICOM, the plan and the truth")
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    p.add_argument("--scans", type=int, metavar="N", help="only the first N scans")
    p = _command(commands, "push", _push, "play the procedure live to a DICOM receiver")
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
    p.add_argument("--calling-ae", default="SCANNER", help="own AE title; default %(default)s")
    p.add_argument(
        "--association",
        choices=("series", "image"),
        default="series",
        help="one association per what; default %(default)s",
    )
    p.add_argument("--truth", type=Path, metavar="DIR", help="write truth.json there at the end")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    p = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    p.add_argument("scenario", help="its name (scanner-sim list)")
    p.add_argument(
        "--ct",
        type=Path,
        metavar="DIR",
        help="a real CT series as anatomy; lesion, needles and ice are planted in it",
    )
    p.set_defaults(run=run)
    return p


def _target(text: str) -> Target:
    title, at, rest = text.partition("@")
    host, colon, port = rest.rpartition(":")
    if not (title and at and host and colon and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected AET@host:port")
    return Target(title, host, int(port))


def _list() -> None:
    for name in scenarios.names():
        print(f"{name}: {scenarios.load(name).title}")


@contextlib.contextmanager
def _open(args: argparse.Namespace) -> Iterator[Simulation]:
    if args.ct is not None and not args.ct.is_dir():
        raise scenarios.ScenarioError(f"--ct {args.ct}: not a folder")
    simulation = Simulation(scenarios.load(args.scenario), args.ct)
    try:
        yield simulation
    finally:
        simulation.close()


def _plan(args: argparse.Namespace) -> None:
    with _open(args) as simulation:
        writer = Writer(simulation.scenario, simulation.anatomy.frame, _RENDER_EPOCH_UTC_S)
        print(write_plan(simulation, writer, args.out, args.ae_title, args.port))


def _render(args: argparse.Namespace) -> None:
    with _open(args) as simulation:
        simulation.start()
        _write_all(simulation, args)


def _write_all(simulation: Simulation, args: argparse.Namespace) -> None:
    writer = Writer(simulation.scenario, simulation.anatomy.frame, _RENDER_EPOCH_UTC_S)
    write_plan(simulation, writer, args.out, "ICEBALL", 11112)
    count = min(args.scans or len(simulation.scan_times_s), len(simulation.scan_times_s))
    truth = args.out / "truth"
    truth.mkdir(exist_ok=True)
    for number in range(count):
        folder = args.out / f"scan_{number:03d}"
        folder.mkdir(exist_ok=True)
        for k, dataset in enumerate(
            writer.slices(number, simulation.scan_times_s[number], simulation.scan(number))
        ):
            save(dataset, folder / f"{k:04d}.dcm")
        _write_mask(simulation, number, truth / f"ice_{number:03d}.nii.gz")
        print(f"scan {number} of {count} written", flush=True)
    _write_truth(simulation, count, args.out / "truth")


def _write_mask(simulation: Simulation, number: int, path: Path) -> None:
    """The ice in the scan's own geometry."""
    frame = simulation.anatomy.frame
    fraction = simulation.frozen(number).fraction
    shape = (len(frame.z), len(frame.y), len(frame.x))
    mask = np.zeros(shape, np.uint8)
    if fraction is not None:
        mask = (on_axes(fraction, simulation.heat.frame, frame.z, frame.y, frame.x) >= 0.5).astype(
            np.uint8
        )
    image = SimpleITK.GetImageFromArray(mask)
    image.SetOrigin((float(frame.x[0]), float(frame.y[0]), float(frame.z[0])))
    image.SetSpacing(frame.spacing_mm)
    SimpleITK.WriteImage(image, str(path))


def _write_truth(simulation: Simulation, count: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scans = [simulation.truth(n) for n in range(count)]
    text = json.dumps({"scenario": simulation.scenario.name, "scans": scans}, indent=1)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


def _push(args: argparse.Namespace) -> None:
    if not 0 < args.speed <= 1000:
        raise scenarios.ScenarioError(
            f"--speed {args.speed}: expected a number above 0, at most 1000"
        )
    target = Target(
        args.to.ae_title, args.to.host, args.to.port, args.calling_ae, args.association == "image"
    )
    clock = Clock(args.epoch if args.epoch is not None else time.time(), args.speed)
    with _open(args) as simulation:
        simulation.start()
        play(simulation, target, clock, lambda text: print(text, flush=True))
        if args.truth is not None:
            _write_truth(simulation, len(simulation.scan_times_s), args.truth)


if __name__ == "__main__":
    sys.exit(main())
