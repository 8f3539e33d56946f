"""A procedure and what leads to it: ``demo``, ``live``, ``check``, ``fetch``, ``replay``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gpu_kernels.engine import CHOICES
from monitor import logs
from monitor.arguments.parts import add_engine, add_screens, command, port, positive
from monitor.commands import ACTS, NOTICE
from monitor.demo import SCENARIO, SPEED
from monitor.supervisor import BY, TAKE_OVER


def add_demo(commands: Any) -> None:
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
        type=positive,
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
    p.set_defaults(run=command("procedure", "demo"))


def add_live(commands: Any) -> None:
    p = commands.add_parser(
        "live",
        help="monitor a procedure",
        epilog=NOTICE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Listens for CT over DICOM and shows measured and predicted ice until stopped (Ctrl-C,\n"
        f"or Q in the window). With --headless, operator's acts and questions can be typed:\n{ACTS}",
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
    add_screens(p)
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
    # Between the program and its supervisor.
    p.add_argument(BY, type=int, help=argparse.SUPPRESS)
    p.add_argument(TAKE_OVER, type=int, help=argparse.SUPPRESS)
    p.add_argument(
        "--screenshots",
        action="store_true",
        help="render the screen to a PNG per scan in DIR/screens",
    )
    add_engine(p)
    p.add_argument(
        "--openigtlink",
        type=port,
        metavar="PORT",
        help="stream images, ice and needles to 3D Slicer on this machine (docs/hospital.md); default what "
        "the workstation's file says, else none",
    )
    p.add_argument(
        "--clock-speed",
        type=positive,
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
        type=port,
        metavar="PORT",
        help="serve figures for Prometheus on 127.0.0.1:PORT; default what the workstation's file says, else "
        "not; 0: a free one, which is printed",
    )
    p.set_defaults(run=command("procedure", "live"))


def add_check(commands: Any) -> None:
    p = commands.add_parser(
        "check",
        help="validate a case and its delineations",
        epilog=NOTICE,
        description="Reads CASE.toml and every file it names as `live` would, and says what it found.",
    )
    p.add_argument("case", type=Path, metavar="CASE.toml")
    p.set_defaults(run=command("monitoring", "check"))


def add_fetch(commands: Any) -> None:
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
    p.set_defaults(run=command("fetching", "run"))


def add_replay(commands: Any) -> None:
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
        type=positive,
        default=1.0,
        help="with --view: times faster than life; default %(default)s",
    )
    p.add_argument(
        "--language", choices=("en", "fr"), help="with --view: of the screen; default the case's"
    )
    add_screens(p)
    p.set_defaults(run=command("replay", "run"))
