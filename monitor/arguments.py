"""What ``iceball`` understands: its commands and their options. Times in seconds.

Invariant: nothing here does anything but say which function a command line means.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from gpu_kernels.engine import CHOICES
from monitor import logs
from monitor.case import place_of
from monitor.commands import NOTICE
from monitor.demo import SCENARIO, SPEED

_VERSION = metadata.version("iceball-monitor")


class _Parser(argparse.ArgumentParser):
    """``instead``: first words that have a parser of their own, where usually a file or folder stands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.instead: dict[str, argparse.ArgumentParser] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        other = self.instead.get(args[0]) if args else None
        if other is not None:
            return other.parse_known_args(args[1:], namespace)
        return super().parse_known_args(args, namespace)


def _command(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A function of ``monitor.commands``, imported when it runs: a mistyped option is told at once, before
    seconds of imports."""

    def run(args: argparse.Namespace) -> int:
        return int(getattr(import_module(f"monitor.commands.{module}"), name)(args))

    return run


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="iceball",
        epilog=NOTICE,
        description="Monitors the iceball of a CT-guided cryoablation: measured in each scan, "
        "predicted between scans, against the lesion, its margin and critical structures.",
    )
    top.add_argument("--version", action="version", version=f"iceball {_VERSION}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_demo(commands)
    _add_live(commands)
    _add_check(commands)
    _add_fetch(commands)
    _add_replay(commands)
    _add_report(commands)
    _add_export(commands)
    _add_send(commands)
    _add_records(commands)
    _add_timings(commands)
    _add_segment(commands)
    _add_benchmark(commands)
    _add_simulate(commands)
    _add_bench(commands)
    _add_selftest(commands)
    _add_certificates(commands)
    _add_doctor(commands)
    return top


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
        default=SCENARIO,
        help="what to play (scanner-sim list); default %(default)s",
    )
    p.add_argument(
        "--speed",
        type=_positive,
        default=SPEED,
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
    p.set_defaults(run=_command("procedure", "demo"))


def _add_live(commands: Any) -> None:
    p = commands.add_parser(
        "live",
        help="monitor a procedure",
        epilog=NOTICE,
        description="Listens for CT over DICOM and shows measured and predicted ice until stopped "
        "(Ctrl-C, or Q in the window). With --headless, operator acts can be typed: next "
        "(start or next phase), acknowledge (all alarms), clear (a wrong-patient block), reload (the case), "
        "open FILE (another case), "
        "baseline v002 (which scan is the baseline), accept or reject (the ice measured last), "
        "needle 2=0 (it was stopped), undo, quit, and questions: "
        "what if 2=0 (needle 2 stops now), what if all=50 for 5 (half duty, five minutes more).",
    )
    p.add_argument(
        "case",
        type=Path,
        nargs="?",
        metavar="CASE.toml",
        help="the procedure; see docs/example_case.toml. Without it: a draft, DIR/draft/case.toml, in which "
        "nothing is measured until patient and lesion are known",
    )
    p.add_argument(
        "--workstation",
        type=Path,
        metavar="FILE",
        help="what a draft begins with; see docs/example_workstation.toml; "
        "default ~/.config/iceball/workstation.toml",
    )
    _add_screens(p)
    p.add_argument("--headless", action="store_true", help="no window; assessments are printed")
    p.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        help="where journal, images and screens are kept; "
        "default out/record-<date>; must not hold a record already",
    )
    p.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the record in DIR, whose procedure did not end (a power cut, a machine that was "
        "started anew); its own case is used",
    )
    p.add_argument(
        "--new",
        action="store_true",
        help="begin anew although a procedure of this patient was not ended within the last hours",
    )
    p.add_argument(
        "--unsupervised",
        action="store_true",
        help="do not start the program again when it dies",
    )
    p.add_argument(
        "--screenshots",
        action="store_true",
        help="render the screen to a PNG per scan in DIR/screens",
    )
    _add_engine(p)
    p.add_argument(
        "--openigtlink",
        type=_port,
        metavar="PORT",
        help="stream images, ice and needles to 3D Slicer on this machine (docs/hospital.md); default what "
        "the workstation's file says, else none",
    )
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
    p.add_argument(
        "--log-level",
        choices=logs.LEVELS,
        default="info",
        help="of RECORD/logs (docs/operations.md); default %(default)s",
    )
    p.add_argument(
        "--metrics",
        type=_port,
        metavar="PORT",
        help="serve figures for Prometheus on 127.0.0.1:PORT; default what the workstation's file says, else "
        "not; 0: a free one, which is printed",
    )
    p.set_defaults(run=_command("procedure", "live"))


def _add_check(commands: Any) -> None:
    p = commands.add_parser(
        "check",
        help="validate a case and its delineations",
        epilog=NOTICE,
        description="Reads CASE.toml and every file it names as `live` would, and says what it found.",
    )
    p.add_argument("case", type=Path, metavar="CASE.toml")
    p.set_defaults(run=_command("procedure", "check"))


def _add_fetch(commands: Any) -> None:
    p = commands.add_parser(
        "fetch",
        help="planning CT, RTSTRUCT and SEG from a PACS",
        epilog="Exit status 0: listed, or all of it fetched; 1: not, and why is said, and nothing was kept; "
        f"2: an error in what was given. {NOTICE}",
        description="Asks the PACS of the workstation's [fetch] what it has of a patient (C-FIND), and with "
        "--to brings it into a folder (C-MOVE, or C-GET): a folder for each CT, a file for each structure "
        "set, as a case may name them (docs/hospital.md). Data of another patient are refused.",
    )
    whose = p.add_mutually_exclusive_group(required=True)
    whose.add_argument(
        "--patient",
        metavar="ID",
        help="PatientID, as it is in the images; -: the first line of standard input",
    )
    whose.add_argument("--case", type=Path, metavar="CASE.toml", help="the patient of this case")
    p.add_argument("--study", metavar="UID", help="only of this study")
    p.add_argument(
        "--series",
        metavar="UID",
        action="append",
        help="only this one; may be repeated. Default: all CT, RTSTRUCT and SEG of the study",
    )
    p.add_argument("--to", type=Path, metavar="DIR", help="bring them here; without it, list them")
    p.add_argument("--json", action="store_true", help="print JSON, one object a line")
    p.add_argument("--workstation", type=Path, metavar="FILE", help="as of live")
    p.set_defaults(run=_command("fetching", "run"))


def _add_replay(commands: Any) -> None:
    p = commands.add_parser(
        "replay",
        help="work a recorded procedure out again",
        epilog="Exit status 0: the record is whole and every result within its tolerance; 1: not, and "
        f"every difference is named; 2: the record cannot be replayed. {NOTICE}",
        description="Feeds what a record's journal and images hold to the program once more, in the same "
        "order, and compares each result with the recorded one (docs/journal.md says what is compared "
        "and within what). Writes nothing. With --view the same is played on the room's screen instead.",
    )
    p.add_argument("record", type=Path, metavar="RECORD", help="the folder of a procedure")
    p.add_argument(
        "--until",
        metavar="T",
        help="stop there and say what was known: minutes of the procedure clock since the first line, or "
        "a time as the journal has it (2026-01-31T10:20:30Z)",
    )
    p.add_argument("--json", action="store_true", help="print the comparison as JSON")
    p.add_argument(
        "--engine", choices=CHOICES, help="bioheat engine; default: the one that was recorded with"
    )
    p.add_argument(
        "--view",
        action="store_true",
        help="play it on the screen, to review or to teach, instead of comparing; H there lists the keys",
    )
    p.add_argument(
        "--speed",
        type=_positive,
        default=1.0,
        help="with --view: times faster than life; default %(default)s",
    )
    p.add_argument(
        "--language", choices=("en", "fr"), help="with --view: of the screen; default the case's"
    )
    _add_screens(p)
    p.set_defaults(run=_command("replay", "run"))


def _add_report(commands: Any) -> None:
    p = commands.add_parser(
        "report",
        help="a record as a report for people, HTML and PDF",
        epilog=NOTICE,
        description="Writes report.html and report.pdf of a procedure's record, finished or not: what was "
        "measured in each scan, over time, against the forecast, alarms, acts, rejected images, pictures. "
        "What is missing or damaged is said in it (docs/outputs.md). The record is only read.",
    )
    p.add_argument("record", type=Path, metavar="RECORD", help="the folder of a procedure")
    p.add_argument("--out", type=Path, metavar="DIR", help="default RECORD/report")
    p.add_argument("--language", choices=("en", "fr"), help="default the case's")
    p.add_argument(
        "--engine", choices=CHOICES, help="bioheat engine; default: the one that was recorded with"
    )
    p.set_defaults(run=_command("outputs", "report"))


def _add_export(commands: Any) -> None:
    p = commands.add_parser(
        "export",
        help="a record as DICOM, NIfTI or CSV",
        epilog="Exit status 0: all of it; 1: something could not be written, and is named; 2: an error in "
        f"what was given. {NOTICE}",
        description="Works the record out again and writes, of every scan that came out as it was recorded, "
        "the measured ice and its bounds (SEG), the predicted 0, -20 and -40 degC isotherms (SEG), the "
        "measurements (SR, TID 1500) and the screen (secondary capture). The same record gives the same "
        "bytes (docs/outputs.md). The record is only read.",
    )
    p.add_argument("record", type=Path, metavar="RECORD", help="the folder of a procedure")
    p.add_argument("--dicom", type=Path, metavar="DIR", help="SEG, SR and secondary captures")
    p.add_argument("--nifti", type=Path, metavar="DIR", help="scans, ice, distances, forecast")
    p.add_argument("--csv", type=Path, metavar="DIR", help="scans.csv and alarms.csv")
    p.add_argument(
        "--deidentified",
        type=Path,
        metavar="OUT",
        help="a new folder: the record and what comes of it, without its patient (research)",
    )
    p.add_argument(
        "--language",
        choices=("en", "fr"),
        default="en",
        help="of the captured screen; default %(default)s",
    )
    p.add_argument(
        "--engine", choices=CHOICES, help="bioheat engine; default: the one that was recorded with"
    )
    p.set_defaults(run=_command("outputs", "export"))


def _add_send(commands: Any) -> None:
    p = commands.add_parser(
        "send",
        help="a record's DICOM, or a folder of it, to a PACS",
        epilog="Exit status 0: all of it is with the receiver; 1: something waits or was refused, and is "
        f"named; 2: an error in what was given. {NOTICE}",
        description="Copies what is to be sent into a spool on disk, then sends it by C-STORE, again and "
        "again until the receiver has answered for each object (docs/outputs.md). What the same receiver "
        "was sent before from the same spool is not sent again. A record is worked out once more first, "
        "which may take a minute or more.",
    )
    p.add_argument("what", type=Path, metavar="RECORD|DIR", help="a record, or a folder of *.dcm")
    p.add_argument("--to", type=_place, required=True, metavar="AE@HOST:PORT", help="the receiver")
    p.add_argument("--spool", type=Path, metavar="DIR", help="default RECORD/spool")
    p.add_argument(
        "--tls-ca",
        type=Path,
        metavar="PEM",
        help="send by TLS: who may have signed the receiver's certificate",
    )
    p.add_argument("--tls-certificate", type=Path, metavar="PEM", help="this side's own")
    p.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    p.add_argument(
        "--tls-host",
        metavar="NAME",
        help="what the receiver's certificate has to be for; default: the HOST of --to",
    )
    p.add_argument(
        "--give-up-after",
        type=float,
        metavar="SECONDS",
        help="end then, and leave what waits in the spool; default: go on until stopped",
    )
    p.set_defaults(run=_command("outputs", "send"))


def _add_records(commands: Any) -> None:
    p: _Parser = commands.add_parser(
        "records",
        help="which records there are; old ones deleted",
        usage="%(prog)s [options] [DIR]\n       %(prog)s prune --older-than DAYSd [--yes] [DIR]",
        epilog=NOTICE,
        description="Lists the records below a folder, the oldest first: when they began and ended, how old "
        "and how big they are. `prune` deletes old ones; nothing else ever does.",
    )
    _add_record_list(p)
    p.add_argument("--json", action="store_true", help="print the list as JSON")
    p.set_defaults(run=_command("records", "run"))
    pruning = p.instead["prune"] = argparse.ArgumentParser(
        prog=f"{p.prog} prune",
        epilog="Exit status 0: done, or only shown; 1: something could not be deleted, and is named; 2: an "
        f"error in what was given. {NOTICE}",
        description="Shows which records it would delete, and with --yes deletes them for good. One that has "
        "not ended, is in use, waits to be sent, or has other things in its folder is kept; why is said.",
    )
    _add_record_list(pruning)
    pruning.add_argument(
        "--older-than",
        type=_days,
        required=True,
        metavar="DAYSd",
        help="only records that ended longer ago, as in 90d",
    )
    pruning.add_argument("--yes", action="store_true", help="delete them")
    pruning.set_defaults(run=_command("records", "prune"))


def _add_record_list(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("out"),
        metavar="DIR",
        help="where the records are; default %(default)s",
    )
    p.add_argument("--patients", action="store_true", help="show patient ids; default hidden")


def _add_timings(commands: Any) -> None:
    p = commands.add_parser(
        "timings",
        help="how long each stage of a record's scans and forecasts took",
        epilog=f"Exit status 1: the record holds no timings. {NOTICE}",
        description="Number, median, 95th percentile and worst of every stage, in seconds, from the "
        "`timing` lines of the journal (docs/journal.md).",
    )
    p.add_argument("record", type=Path, metavar="RECORD", help="the folder of a procedure")
    p.add_argument("--json", action="store_true", help="print the table as JSON")
    p.set_defaults(run=_command("timings", "run"))


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
    p.set_defaults(run=_command("measuring", "segment"))


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
    p.set_defaults(run=_command("measuring", "benchmark_imaging"))
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
    _add_engine(p)
    p.set_defaults(run=_command("measuring", "benchmark_forecast"))


def _add_simulate(commands: Any) -> None:
    p = commands.add_parser(
        "simulate",
        help="solve a bioheat problem",
        epilog=NOTICE,
        description="Solves the cryoablation problem that a TOML file describes and prints the result "
        "as JSON; docs/example_problem.toml explains every key.",
    )
    p.add_argument("problem", type=Path, metavar="PROBLEM.toml")
    _add_engine(p)
    p.add_argument(
        "--out", type=Path, metavar="FIELD.npz", help="also write the temperature fields there"
    )
    p.set_defaults(run=_command("engines", "simulate"))


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
    p.set_defaults(run=_command("engines", "bench"))


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
    p.set_defaults(run=_command("engines", "selftest"))


def _add_certificates(commands: Any) -> None:
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
        type=_bounded(0.01, 3650.0),
        default=30.0,
        help="until they expire; default %(default)g",
    )
    p.set_defaults(run=_command("certificates", "run"))


def _add_doctor(commands: Any) -> None:
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
    p.set_defaults(run=_command("doctor", "run"))


def _add_screens(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--screen",
        choices=("room", "console", "both"),
        help="which windows: the in-room screen, the technologist's console, or both; default what the "
        "workstation's file says, else what was shown last, else room",
    )
    p.add_argument(
        "--monitor",
        type=_monitor,
        metavar="N",
        help="the monitor of the in-room screen (of the console, where only that is shown), counted from the "
        "left, from 0; the console takes another. Default what the workstation's file says, else where the "
        "windows were last",
    )
    p.add_argument(
        "--diagonal",
        type=_bounded(1.0, 200.0),
        metavar="INCHES",
        help="of the monitor in the room; default what the workstation's file says, else 55",
    )
    p.add_argument(
        "--distance",
        type=_bounded(0.3, 20.0),
        metavar="METRES",
        help="from which it is read: where the full screen would be too small a simple one is shown; "
        "default what the workstation's file says, else 3",
    )


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


def _days(text: str) -> int:
    days = text.removesuffix("d")
    if text == days or not (days.isdecimal() and 1 <= int(days) <= 36500):
        raise argparse.ArgumentTypeError(f"{text}: expected whole days, 1d to 36500d")
    return int(days)


def _monitor(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 15):
        raise argparse.ArgumentTypeError(f"{text}: expected a monitor's number, 0 to 15")
    return int(text)


def _place(text: str) -> str:
    if place_of(text) is None:
        raise argparse.ArgumentTypeError(f"{text}: expected AE@host:port")
    return text


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to 65535")
    return int(text)


def _bounded(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}: expected {low:g} to {high:g}")
        return value

    return number
