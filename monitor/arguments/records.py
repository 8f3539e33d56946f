"""What is made of records: ``report``, ``export``, ``send``, ``records``, ``timings``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from gpu_kernels.engine import CHOICES
from monitor.arguments.parts import Parser, ae_title, bounded, command, days, place
from monitor.commands import NOTICE
from monitor.config import PACS_OBJECTS, PACS_OBJECTS_BY_DEFAULT


def add_report(commands: Any) -> None:
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
    p.set_defaults(run=command("outputs", "report"))


def add_export(commands: Any) -> None:
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
    p.set_defaults(run=command("outputs", "export"))


def add_send(commands: Any) -> None:
    p = commands.add_parser(
        "send",
        help="a record's DICOM, or a folder of it, to a PACS",
        epilog="Exit status 0: all of it is with the receiver; 1: something waits or was refused, and is "
        f"named; 2: an error in what was given. {NOTICE}",
        description="Copies what is to be sent into a spool on disk, then sends it by C-STORE, again and "
        "again until the receiver has answered for each object (docs/outputs.md). What the same receiver "
        "was sent before from the same spool is not sent again. A receiver that there is not (its name, or "
        "an AE title that it does not know) is an error. A record is worked out once more first, "
        "which may take a minute or more.",
    )
    p.add_argument("what", type=Path, metavar="RECORD|DIR", help="a record, or a folder of *.dcm")
    p.add_argument("--to", type=place, required=True, metavar="AE@HOST:PORT", help="the receiver")
    p.add_argument(
        "--objects",
        nargs="+",
        choices=PACS_OBJECTS,
        metavar="WHAT",
        default=PACS_OBJECTS_BY_DEFAULT,
        help=f"of a record, which of {', '.join(PACS_OBJECTS)}; default: all but the screens, into which "
        "the patient's label is burned",
    )
    p.add_argument(
        "--calling",
        type=ae_title,
        default="ICEBALL",
        metavar="AE",
        help="this side's AE title; default %(default)s",
    )
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
        type=bounded(0.0, math.inf),
        default=600.0,
        metavar="SECONDS",
        help="end then, and leave what waits in the spool for the next time; default %(default)g; inf: go on "
        "until stopped",
    )
    p.set_defaults(run=command("outputs", "send"))


def add_records(commands: Any) -> None:
    p: Parser = commands.add_parser(
        "records",
        help="which records there are; old ones deleted",
        usage="%(prog)s [options] [DIR]\n       %(prog)s prune --older-than DAYSd [--yes] [DIR]",
        epilog=NOTICE,
        description="Lists the records below a folder, the oldest first: when they began and ended, how old "
        "and how big they are. `prune` deletes old ones; nothing else ever does.",
    )
    _add_record_list(p)
    p.add_argument("--json", action="store_true", help="print the list as JSON")
    p.set_defaults(run=command("records", "run"))
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
        type=days,
        required=True,
        metavar="DAYSd",
        help="only records that ended longer ago, as in 90d",
    )
    pruning.add_argument("--yes", action="store_true", help="delete them")
    pruning.set_defaults(run=command("records", "prune"))


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


def add_timings(commands: Any) -> None:
    p = commands.add_parser(
        "timings",
        help="how long each stage of a record's scans and forecasts took",
        epilog=f"Exit status 1: the record holds no timings. {NOTICE}",
        description="Number, median, 95th percentile and worst of every stage, in seconds, from the "
        "`timing` lines of the journal (docs/journal.md).",
    )
    p.add_argument("record", type=Path, metavar="RECORD", help="the folder of a procedure")
    p.add_argument("--json", action="store_true", help="print the table as JSON")
    p.set_defaults(run=command("timings", "run"))
