"""``iceball fetch``: planning data from the PACS of the workstation's file.

Invariant: no line holds a patient's name or identifier; on standard output with ``--json`` are JSON objects
alone, one a line, for other programs (the console) to read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from monitor.case import load_case
from monitor.commands.stopping import when_told_to_stop
from monitor.config import ConfigError
from monitor.fetching.asking import FetchError, Series, series_of
from monitor.fetching.fetching import fetch
from monitor.fetching.keeping import Placed
from monitor.intake.folder import FolderError, volumes_in
from monitor.intake.structures import StructureError, parts
from monitor.workstation import FetchConfig, load_workstation


def run(args: argparse.Namespace) -> int:
    stop = threading.Event()
    when_told_to_stop(stop.set)
    found = load_workstation(args.workstation)
    if found.fetch is None:
        raise ConfigError(f"{found.path}: no [fetch]: which PACS to ask is not known")
    say = _json if args.json else _line
    try:
        return _asked(args, found.fetch, _patient(args), say, stop)
    except FetchError as error:
        if args.json:
            say({"kind": "error", "code": error.code, "about": error.about, "text": str(error)})
        else:
            print(f"iceball: {error}", file=sys.stderr)
        return 1


def _patient(args: argparse.Namespace) -> str:
    if args.case is not None:
        known = load_case(args.case).patient_id
        if not known:
            raise ConfigError(f"{args.case}: patient.id: missing: whose data to ask for")
        return known
    # Not on a command line, which every account of the machine can read.
    return sys.stdin.readline().strip() if args.patient == "-" else str(args.patient)


def _asked(
    args: argparse.Namespace, config: FetchConfig, patient_id: str, say: Any, stop: threading.Event
) -> int:
    listed = series_of(config, patient_id, args.study, stop)
    if args.to is None:
        for series in listed:
            say(_series(series))
        return 0
    chosen = _chosen(listed, args.series, args.study)

    def came(received: int, of: int | None) -> None:
        say({"kind": "progress", "received": received, "of": of})

    for placed in fetch(config, patient_id, chosen, args.to, came, stop):
        for path in placed.paths:
            say(_placed(placed, path, patient_id, args.case))
    return 0


def _chosen(
    listed: tuple[Series, ...], uids: list[str] | None, study: str | None
) -> tuple[Series, ...]:
    """Of these series, or of the only study."""
    if uids:
        known = {s.series_uid: s for s in listed}
        for uid in uids:
            if uid not in known:
                raise FetchError("no_series", f"no planning series of this patient: {uid}")
        return tuple(known[uid] for uid in dict.fromkeys(uids))
    if study is None and len({s.study_uid for s in listed}) > 1:
        raise FetchError("which_study", "several studies: say which by --study or --series")
    return listed


def _series(s: Series) -> dict[str, Any]:
    return {"kind": "series", **vars(s)}


def _placed(placed: Placed, path: Path, patient_id: str, case: Path | None) -> dict[str, Any]:
    """What lies there now, read as a case would, and what that case would call it."""
    there = path.resolve()
    from_case = there if case is None else Path(os.path.relpath(there, case.resolve().parent))
    line: dict[str, Any] = {
        "kind": "fetched",
        "modality": placed.series.modality,
        "series_uid": placed.series.series_uid,
        "path": str(path),
        "file": str(from_case),
        "before": path in placed.before,
        "frames": sorted(placed.frames),
    }
    try:
        if placed.series.modality == "CT":
            line["slices"] = [len(v.hu) for v in volumes_in(path, patient_id)]
        else:
            line["bodies"] = [{"roi": p.roi, "name": p.name} for p in parts(path)]
    except (FolderError, StructureError) as error:
        line["trouble"] = str(error)
    return line


def _json(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _line(line: dict[str, Any]) -> None:
    """The same for a person."""
    kind = line["kind"]
    if kind == "series":
        count = "?" if line["instances"] is None else line["instances"]
        print(f"{line['date'] or '-':8}  {line['modality']:8} {count:>5}  {line['description']}")
        print(f"          --study {line['study_uid']} --series {line['series_uid']}")
    elif kind == "fetched":
        _fetched(line)


def _fetched(line: dict[str, Any]) -> None:
    before = ", which was there already" if line["before"] else ""
    print(f"{line['path']}: {line['modality']}{before}", flush=True)
    if "trouble" in line:
        print(f"  cannot be used: {line['trouble']}")
    for count in line.get("slices", ()):
        print(f"  a volume of {count} slices, frame of reference {', '.join(line['frames'])}")
    for body in line.get("bodies", ()):
        roi = "" if body["roi"] is None else f", roi = {json.dumps(body['roi'])}"
        print(f"  file = {json.dumps(line['file'])}{roi}")
    if "bodies" in line:
        print(f"  frame of reference {', '.join(line['frames']) or 'not said'}", flush=True)
