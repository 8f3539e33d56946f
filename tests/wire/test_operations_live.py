"""What a running monitor tells who keeps it running: logs, metrics, timings; and nothing of the patient."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.cli import main
from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess, sphere_case, unaccounted

pytestmark = pytest.mark.timeout(300)

SLICES = 12
TELLTALES = ("ROSALIND", "ID4711", "STRANGER", "ID8822", "SPOILT", "Telltale")
CENTRE = (12.0, 5.0, 14.0)


def images(folder: Path, patient_id: str, name: str, series: str) -> list[Path]:
    folder.mkdir()
    for k in range(SLICES):
        d = ct_dataset(k, series=series, rows=64, columns=64)
        d.PatientID, d.PatientName, d.InstitutionName = patient_id, name, "Telltale Hospital"
        d.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


def spoilt(folder: Path) -> list[Path]:
    """A value that no library can read without quoting it."""
    folder.mkdir()
    d = ct_dataset(0, series="1.2.3.9", rows=64, columns=64)
    d.PatientID, d.PatientName = "ID4711", "ROSALIND^X"
    d.add_new(0x00200032, "LO", "SPOILT\\ROSALIND\\ID4711")
    path = folder / "spoilt.dcm"
    d.save_as(path, enforce_file_format=True)
    return [path]


@dataclass(frozen=True)
class Run:
    record: Path
    journal: list[dict[str, Any]]
    metrics: str
    url: str
    other_address_refused: bool
    output: str


def asked(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def run(dcmtk: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A baseline, another patient's images and a broken one, at debug level, with a (hidden) screen."""
    folder = tmp_path_factory.mktemp("operations")
    case = sphere_case(folder, "ID4711", CENTRE, needles=True)
    options = ("--log-level", "debug", "--metrics", "0", "--screenshots", "--engine", "reference")
    record = folder / "record"
    with LiveProcess(case, record, *options) as live:
        assert live.process.stdout is not None
        while "Metrics: " not in (line := live.process.stdout.readline()):
            live.output += line
        url = line.split()[1]
        sent = 0
        for files in (
            images(folder / "own", "ID4711", "ROSALIND^X", "1.2.3.1"),
            images(folder / "other", "ID8822", "STRANGER^X", "1.2.3.2"),
            spoilt(folder / "spoilt"),
        ):
            command = [dcmtk["storescu"], "-aec", "ICEBALL", "127.0.0.1", str(live.port)]
            subprocess.run([*command, *map(str, files)], check=True, capture_output=True)
            sent += len(files)
            live.wait_accounted(sent)
        live.wait(lambda lines: "patient_mismatch" in {x.get("code") for x in lines})
        live.wait(lambda lines: (record / "logs" / "view.jsonl").exists())
        metrics = asked(url)
        while "missing_attribute" not in metrics:  # a line is in the journal before it is counted
            metrics = asked(url)
        port = int(url.split(":")[2].split("/")[0])
        with socket.socket() as other:
            refused = other.connect_ex(("127.0.0.2", port)) != 0
    return Run(record, live.journal(), metrics, url, refused, live.output)


def logs(record: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((record / "logs").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


@pytest.mark.requirement("REQ-PRIVACY")
def test_nothing_of_a_patient_is_in_logs_metrics_or_terminal(run: Run) -> None:
    told = {p.name: p.read_bytes().decode() for p in (run.record / "logs").iterdir()}
    told |= {"metrics": run.metrics, "terminal": run.output}
    assert {"core.jsonl", "intake.jsonl", "view.jsonl"} <= told.keys()
    found = [(name, t) for name, text in told.items() for t in TELLTALES if t in text]
    assert found == []
    kept = "".join(map(str, run.journal))  # where they are meant to be: so they did come by
    assert "ID4711" in kept
    assert "ID8822" in kept


@pytest.mark.requirement("REQ-LOGS")
def test_every_process_says_that_it_began_and_how_it_ended(run: Run) -> None:
    lines = list(logs(run.record))
    for process in ("core", "intake", "view"):
        events = [x["event"] for x in lines if x["process"] == process]
        assert (events[0], events[-1]) == ("process_begun", "process_ends"), process
    assert {"at", "level", "process", "thread", "event", "fields"} <= set.intersection(
        *map(set, lines)
    )
    assert not [x for x in lines if x["level"] == "error"]
    core = [x for x in lines if x["process"] == "core"]
    raised = {x["fields"]["code"] for x in core if x["event"] == "alarm_raised"}
    assert raised == {x["code"] for x in run.journal if x["kind"] == "alarm_raised"}
    assert {"debug", "info", "warning"} <= {x["level"] for x in core}
    assert not list((run.record / "logs").glob("*.crash.txt"))


def test_metrics_say_what_the_journal_says(run: Run) -> None:
    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(run.metrics)
        for s in family.samples
    }
    rejected = {k[1][1]: v for k, v in samples.items() if k[0].startswith("iceball_instances_rej")
                and k[0].endswith("_total")}  # fmt: skip
    reasons = [x["reason"] for x in run.journal if x["kind"] == "instance_rejected"]
    assert rejected == {r: reasons.count(r) for r in set(reasons)}
    assert samples["iceball_instances_received_total",] == 2 * SLICES + 1
    assert samples["iceball_volumes_completed_total",] == 1
    assert samples["iceball_queue_depth",] == 0
    assert samples["iceball_stage_seconds_count", ("stage", "baseline")] == 1
    assert samples["iceball_stage_seconds_sum", ("stage", "decode")] > 0
    active = {k[1][1]: v for k, v in samples.items() if k[0] == "iceball_alarms_active"}
    assert active["patient_mismatch"] == 1
    alive = {k[1][1]: v for k, v in samples.items() if k[0] == "iceball_process_alive"}
    assert alive == dict.fromkeys(("core", "watch", "intake", "view"), 1.0)
    assert samples["iceball_scan_age_seconds",] > 0
    assert run.other_address_refused


def test_timings_are_told_and_a_replay_does_not_mind(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unaccounted(run.journal) == 0
    assert main(["timings", str(run.record), "--json"]) == 0
    rows = {r["stage"]: r for r in json.loads(capsys.readouterr().out)}
    for stage in ("decode", "keep", "baseline", "needles", "publish", "last slice to shown"):
        assert rows[stage]["count"] == 1, stage
        assert 0 < rows[stage]["median_s"] <= rows[stage]["p95_s"] <= rows[stage]["worst_s"] < 60
        assert rows[stage]["worst_of"] == "v001"
    assert main(["timings", str(run.record)]) == 0
    assert "median" in capsys.readouterr().out
    assert main(["replay", str(run.record), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_a_port_that_is_taken_is_told_before_a_record_is_begun(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = sphere_case(tmp_path, "A", CENTRE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        record = tmp_path / "record"
        given = ["live", str(case), "--headless", "--record", str(record), "--metrics", port]
        assert main(given) == 2
    assert f"metrics: 127.0.0.1:{port}: " in capfd.readouterr().err
    assert not record.exists()


@pytest.mark.requirement("REQ-PRIVACY")
def test_nothing_of_a_record_is_for_everybody_on_the_machine(run: Run) -> None:
    made = [run.record, *run.record.rglob("*")]
    assert {p.name for p in made} >= {"journal.jsonl", "v001.npy", "core.jsonl", "001"}
    assert [p for p in made if p.stat().st_mode & 0o007] == []
