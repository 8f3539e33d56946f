"""The program of ``iceball live`` itself, at a terminal, and ``check`` of what it would be given. mm.

Invariant: what the operator has to know is a line on the terminal; no line holds patient data.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import logs
from monitor.begun import LiveOptions
from monitor.commands import NOTICE
from monitor.commands.stopping import when_told_to_stop
from monitor.commands.telling import Teller
from monitor.commands.typed import read_acts
from monitor.commands.windows import console_fetch, windows_of
from monitor.config import Config, ConfigError
from monitor.intake.ports import check_tls
from monitor.metrics import Metrics
from monitor.opening import open_case
from monitor.record.journal import JOURNAL
from monitor.runtime import LISTENER_FAILED, Live
from monitor.streaming.process import StreamOptions
from monitor.supervisor import NOT_ALL_KEPT, Supervised
from monitor.view.process import has_display
from monitor.workstation import Workstation, load_workstation

if TYPE_CHECKING:  # where there is no PACS, half a second sooner
    from monitor.delivery.delivery import Delivery


def monitored(args: argparse.Namespace, record: Path, supervised: Supervised | None) -> int:
    """Until the procedure is ended. The exit status."""
    if not args.headless and not has_display():
        raise ConfigError("live: there is no display here to show it on: --headless runs without")
    workstation = load_workstation(args.workstation)
    windows = windows_of(args, workstation.screen, args.headless)
    port = workstation.metrics_port if args.metrics is None else args.metrics
    metrics, teller = None if port is None else Metrics(port), Teller()
    deliveries: list[Delivery] = []

    def deliver(config: Config, to_record: Path) -> Delivery | None:
        pacs = config.pacs or workstation.config.pacs
        if pacs is not None:
            from monitor.delivery.delivery import Delivery

            to_log = logs.of_record(to_record, args.log_level)
            deliveries.append(Delivery(to_record, pacs, to_log))
        return deliveries[0] if deliveries else None

    procedure = Live(
        LiveOptions(
            args.case,
            record,
            screen=not args.headless and windows.room,
            screenshots=args.screenshots,
            console=not args.headless and windows.console,
            engine=args.engine,
            clock_speed=args.clock_speed,
            clock_epoch_utc_s=args.clock_epoch,
            workstation=args.workstation,
            viewing=windows.viewing,
            monitor=windows.monitor,
            pedal=windows.pedal,
            stream=_stream(args, workstation),
            fetch=() if workstation.fetch is None else console_fetch(args.workstation),
            resume=args.resume is not None,
            log_level=args.log_level,
        ),
        teller if metrics is None else metrics.counting(teller),
        deliver,
        supervised,
    )
    print(f"Record: {record}. {NOTICE}", flush=True)
    when_told_to_stop(lambda: procedure.request_stop("signal"))
    with logs.logged(procedure.logs, "core"):
        procedure.start()
        if metrics is not None:
            metrics.observe(procedure.observed)
            print(f"Metrics: {metrics.url}", flush=True)
        if args.headless:
            threading.Thread(target=read_acts, args=(procedure,), daemon=True).start()
        while not procedure.stopping.wait(0.2):
            pass
        procedure.finish()
        teller.close()
    if metrics is not None:
        metrics.close()
    if deliveries:
        enough = threading.Event()
        when_told_to_stop(enough.set)
        deliveries[0].end(lambda said: print(said, flush=True), enough)
    if procedure.ended_by == LISTENER_FAILED:
        return 2
    if procedure.unwritten is not None:
        print(
            f"iceball: {record}: the disk did not take the journal's last lines; they are in "
            f"{procedure.unwritten}: append them to {record / JOURNAL} once it can be written",
            file=sys.stderr,
        )
        return NOT_ALL_KEPT
    print(
        f"Ended. Record: {record}. Next: iceball report {record}, iceball replay {record}",
        flush=True,
    )
    return 0


def _stream(args: argparse.Namespace, workstation: Workstation) -> StreamOptions | None:
    return workstation.stream if args.openigtlink is None else StreamOptions(args.openigtlink)


def check(args: argparse.Namespace) -> int:
    config, procedure = open_case(args.case)
    check_tls(config.listener)
    if config.pacs is not None:
        from monitor.delivery.delivery import check_pacs

        check_pacs(config.pacs)
    state = "fine" if not procedure.draft else "a draft, without a lesion: nothing is measured"
    print(
        f"{args.case}: {state}. Organ {config.organ.name}, margin {config.margin_goal_mm:g} mm, "
        f"{len(config.needles)} needle(s), listener {config.listener.ae_title}@"
        f"{config.listener.address}:{config.listener.port}{' with TLS' if config.listener.tls else ''}"
    )
    for s in procedure.structures:
        name = s.name if s.name == s.role.value else f"{s.role.value} {s.name}"
        print(f"  {name}: {float((s.sdf_mm <= 0).sum()) * s.grid.voxel_ml:.1f} ml")
    return 0
