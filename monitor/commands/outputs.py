"""``iceball report`` and ``export``: what a record gives to people and to other programs.

Invariant: what could not be written is said by name, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.stopping import taken_back
from monitor.record.journal import JOURNAL
from monitor.record.reading import in_use
from monitor.record.spool import Spool

if TYPE_CHECKING:
    from monitor.config import ClientTls
    from monitor.sending import Receiver

# For each answer of a receiver that is asked whether it is the one meant.
_ASK_S = 10.0


@taken_back()
def report(args: argparse.Namespace) -> int:
    from monitor.report.writing import write_report

    out: Path = args.out or args.record / "report"
    with in_use(args.record):
        _patience(args.record)
        for path in write_report(args.record, out, args.language, args.engine):
            print(path)
    return 0


@taken_back()
def export(args: argparse.Namespace) -> int:
    """Exit status 1 if something of the record could not be written; it is named."""
    from monitor.config import ConfigError
    from monitor.export import Targets
    from monitor.export import export as written_by

    if args.deidentified is not None:
        return _deidentified(args)
    targets = Targets(args.dicom, args.nifti, args.csv, args.language)
    if not (targets.dicom or targets.nifti or targets.csv):
        raise ConfigError(
            "export: say what to write: --dicom, --nifti or --csv DIR, or --deidentified OUT"
        )
    with in_use(args.record):
        _patience(args.record)
        written, left_out = written_by(args.record, targets, args.engine)
    for path in written:
        print(path)
    for what in left_out:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 1 if left_out else 0


def _patience(record: Path) -> None:
    if not (record / JOURNAL).exists():
        return
    print(
        f"{record}: each scan is worked out once more; a minute or so", file=sys.stderr, flush=True
    )


def _deidentified(args: argparse.Namespace) -> int:
    from monitor.config import ConfigError
    from monitor.deidentified.writing import deidentified

    if args.dicom or args.nifti or args.csv:
        raise ConfigError(
            "export: --deidentified has folders of its own for --dicom, --nifti and --csv"
        )
    with in_use(args.record):
        _patience(args.record)
        written, missing = deidentified(args.record, args.deidentified, args.engine)
    print(f"{args.deidentified}: {len(written)} files; manifest.json says what is not there")
    for what in missing:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 1 if missing else 0


@taken_back()
def send(args: argparse.Namespace) -> int:
    """Exit status 1 while something is pending or was refused. Raises ``ConfigError`` where there is nothing
    that could be sent, or nobody that it could be sent to: then there is no spool either."""
    from monitor.config import ConfigError
    from monitor.intake.tls import TlsError, client_context
    from monitor.sending import Trouble, receiver_of, send_all

    try:
        to = receiver_of(args.to, _tls(args), args.calling)
        if to.tls is not None:
            client_context(to.tls, "--tls")
    except TlsError as error:
        raise ConfigError(str(error)) from None

    def told(trouble: Trouble, waiting: int, again_s: float) -> None:
        print(
            f"{waiting} waiting for {to.ae_title}: {trouble.text}; again in {again_s:g} s",
            flush=True,
        )

    spool = Spool.of(args.spool or args.what / "spool", to.ae_title, to.host, to.port)
    left_out, of_record = list[str](), (args.what / JOURNAL).exists()
    paths = [] if of_record else _objects_in(args.what, spool)
    with in_use(args.what) if of_record else contextlib.nullcontext():
        _check_there(to)
    if of_record:
        print(
            f"Working the record out once more: {args.what} (as long as a replay) ...", flush=True
        )
        with in_use(args.what):
            left_out = _spool_record(args.what, spool, args.objects)
    for path in paths:
        spool.add(path)
    before = spool.count("sent")
    done = send_all(spool, to, told, args.give_up_after)
    print(
        f"{to.ae_title}@{to.host}:{to.port}: {spool.count('sent') - before} sent, {before} sent before, "
        f"{spool.count('pending')} waiting"
    )
    if spool.pending():
        print(
            f"iceball: what waits is in {spool.folder}, and goes with the same command; until then it keeps "
            "the record from being pruned",
            file=sys.stderr,
        )
    for path, reason in spool.refused():
        print(f"iceball: refused by {to.ae_title}: {path}: {reason}", file=sys.stderr)
    for what in left_out:
        print(f"iceball: not exported: {what}", file=sys.stderr)
    return 0 if done and not spool.refused() and not left_out else 1


def _tls(args: argparse.Namespace) -> ClientTls | None:
    from monitor.config import ClientTls, ConfigError

    if args.tls_ca is None:
        if args.tls_certificate or args.tls_key or args.tls_host:
            raise ConfigError("--tls-ca: missing: who may have signed the receiver's certificate")
        return None
    if (args.tls_certificate is None) != (args.tls_key is None):
        raise ConfigError("--tls-certificate and --tls-key belong together")
    return ClientTls(args.tls_ca, args.tls_certificate, args.tls_key, args.tls_host)


def _check_there(to: Receiver) -> None:
    """Not whether it is up: what waits for that is what a spool is for. Raises ``ConfigError``."""
    from monitor.config import ConfigError
    from monitor.sending import asked

    trouble = asked(to, _ASK_S)
    if trouble is not None and trouble.lasting:
        raise ConfigError(
            f"--to {to.ae_title}@{to.host}:{to.port}: {trouble.text}; nothing was sent or put into a spool"
        )


def _objects_in(folder: Path, spool: Spool) -> list[Path]:
    from monitor.config import ConfigError

    if not folder.is_dir():
        raise ConfigError(f"{folder}: {'not a folder' if folder.exists() else 'does not exist'}")
    paths = sorted(folder.glob("*.dcm"))
    if not paths and not spool.pending():
        raise ConfigError(f"{folder}: neither a record (no journal.jsonl) nor any *.dcm in it")
    return paths


def _spool_record(record: Path, spool: Spool, objects: list[str]) -> list[str]:
    import tempfile

    from monitor.export import Targets, objects_named
    from monitor.export import export as written_by

    with tempfile.TemporaryDirectory(prefix="iceball-send-") as folder:
        written, left_out = written_by(
            record, Targets(dicom=Path(folder), objects=objects_named(objects))
        )
        for path in written:
            spool.add(path)
    return left_out
