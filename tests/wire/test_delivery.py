"""Results go to a PACS while the procedure runs: a real Orthanc that is away, comes and goes. Loopback."""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from monitor.arguments import parser
from monitor.cli import main
from monitor.config import PACS_OBJECTS, PACS_OBJECTS_BY_DEFAULT, ClientTls, PacsConfig
from monitor.delivery.delivery import Delivery, send_command
from monitor.demo import SCENARIO
from monitor.record.reading import read_journal
from monitor.state import State, initial_state
from monitor.worked_out import WorkedOut, work_out
from tests.replay.recorded import SETTLE, Room
from tests.wire.live import LiveProcess
from tests.wire.test_sending import free_port, held, orthanc

pytestmark = pytest.mark.timeout(900)


def stored(http_port: int) -> dict[str, pydicom.Dataset]:
    """All that Orthanc holds, by UID."""

    def get(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=30) as answer:
            return bytes(answer.read())

    files = (get(f"/instances/{i}/file") for i in json.loads(get("/instances")))
    found = [pydicom.dcmread(io.BytesIO(data)) for data in files]
    return {d.SOPInstanceUID: d for d in found}


def same_as_exported(held_: dict[str, pydicom.Dataset], folder: Path) -> None:
    exported = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, folder.glob("*.dcm"))}
    assert held_.keys() == exported.keys()
    for uid, d in exported.items():
        assert held_[uid] == d, d.SeriesDescription


# ------------------------------------------------------------------ the process by itself


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = Room(tmp_path_factory.mktemp("delivered"))
    room.scan(0.0)
    room.wait(2.0)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(9.0)
    room.script.append(SETTLE)
    room.run()
    return room.record


@pytest.fixture(scope="module")
def worked(record: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkedOut:
    return work_out(record, read_journal(record, pytest.fail), tmp_path_factory.mktemp("scratch"))


def measured(worked: WorkedOut) -> State:
    """The core's state when the second scan had been measured."""
    scan, first = worked.scans["v002"], worked.scans["v001"]
    return replace(initial_state(scan.procedure), ice=scan.ice, volume=scan.volume,
                   registration=scan.registration, baseline_volume=first.volume)  # fmt: skip


def until(found: Callable[[], Any], limit_s: float = 120.0) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {limit_s:.0f} s")


class Watch:
    """What the watch does of it, a few times a second, and how long it is held up by that."""

    def __init__(self, delivery: Delivery, state: State) -> None:
        self.delivery, self.state = delivery, state
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.slowest_s = 0.0

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        began = time.monotonic()
        self.lines += self.delivery.look(self.state)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        return self.lines

    def told(self, code: str) -> dict[str, Any]:
        return until(lambda: next((f for k, f in self.look() if f.get("code") == code), None))


def test_the_command_that_goes_on_asks_for_what_the_case_asks_for(tmp_path: Path) -> None:
    plain = PacsConfig("PACS", "h", 104, "ICEBALL", PACS_OBJECTS_BY_DEFAULT, 1.0)
    assert send_command(tmp_path, plain) == ["iceball", "send", str(tmp_path), "--to", "PACS@h:104"]
    pem = ClientTls(tmp_path / "ca.pem", tmp_path / "i.pem", tmp_path / "i.key", "pacs.example")
    full = PacsConfig("PACS", "h", 104, "ROOM 2", ("ice", "screens"), 1.0, pem)
    asked = parser().parse_args(send_command(tmp_path, full)[1:])
    assert (asked.objects, asked.to, asked.calling) == (["ice", "screens"], "PACS@h:104", "ROOM 2")
    given = ClientTls(asked.tls_ca, asked.tls_certificate, asked.tls_key, asked.tls_host)
    assert given == pem


@pytest.mark.requirement("REQ-DELIVERY")
def test_a_surface_survives_an_outage_and_a_kill_and_is_what_is_exported_later(
    record: Path, worked: WorkedOut, tmp_path: Path
) -> None:
    dicom_port, http_port = free_port(), free_port()
    config = PacsConfig("PACS", "127.0.0.1", dicom_port, "ICEBALL", PACS_OBJECTS, 60.0)
    watch = Watch(Delivery(record, config), measured(worked))
    watch.delivery.start()
    away = watch.told("no_connection")
    assert (away["sent"], away["waiting"], away["ae_title"]) == (0, 1, "PACS")
    process = watch.delivery._process
    os.kill(process.pid, signal.SIGKILL)
    again = until(lambda: next((f for k, f in watch.look() if k == "process_restarted"), None))
    assert again == {"process": "pacs", "exit": -signal.SIGKILL}
    with orthanc(tmp_path, dicom_port, http_port):
        assert watch.told("sent")["sent"] == 1
        assert held(http_port) == 1
        said: list[str] = []
        watch.delivery.end(said.append, threading.Event())
        # In a process of its own, as the delivery is: what a process has painted before moves glyphs by
        # fractions of a pixel.
        command = [sys.executable, "-m", "monitor.cli", "export", str(record)]
        subprocess.run([*command, "--dicom", str(tmp_path / "out")], check=True)
        same_as_exported(stored(http_port), tmp_path / "out")
    assert "waiting" not in said[-1] or "0 waiting" in said[-1]
    assert not any(s.startswith("Not sent") for s in said)
    assert [k for k, _ in watch.lines].count("process_restarted") == 1


def test_looking_never_waits_for_a_process_that_hangs(record: Path, worked: WorkedOut) -> None:
    config = PacsConfig("PACS", "127.0.0.1", free_port(), "ICEBALL", ("measurements",), 60.0)
    watch = Watch(Delivery(record, config), measured(worked))
    watch.delivery.start()
    process = watch.delivery._process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for _ in range(40):
            watch.state = replace(watch.state, ice=replace(watch.state.ice))  # type: ignore[type-var]
            watch.look()
        assert isinstance(watch.delivery._feed, queue.SimpleQueue)
        assert watch.delivery._feed.qsize() <= 5
        assert watch.slowest_s < 0.5
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join(10.0)


# ------------------------------------------------------------------ a live procedure


def below(pid: int) -> list[int]:
    """All processes that it started, and those that these did."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [p for c in map(int, children) for p in (c, *below(c))]


def nicest_child(pid: int) -> int:
    """The process that gives way to all others."""
    nice = {c: os.getpriority(os.PRIO_PROCESS, c) for c in below(pid)}
    found = max(nice, key=nice.__getitem__)
    assert sorted(nice.values())[-1] > sorted(nice.values())[-2], nice
    return found


@pytest.mark.long
@pytest.mark.requirement("REQ-DELIVERY")
def test_orthanc_has_all_after_outages_a_kill_and_the_end(tmp_path: Path) -> None:
    """The simulated scanner at 16 times life; Orthanc is away at first, comes, goes, comes back."""
    plan, record, speed = tmp_path / "plan", tmp_path / "record", 16.0
    simulator = [sys.executable, "-m", "scanner_sim.cli"]
    render = [
        *simulator,
        "render",
        SCENARIO,
        "--out",
        str(tmp_path / "rendered"),
    ]  # kept, and quick then
    subprocess.run(render, check=True, capture_output=True, timeout=600)
    subprocess.run([*simulator, "plan", SCENARIO, "--out", str(plan), "--port", "0"], check=True)
    dicom_port, http_port, epoch = free_port(), free_port(), repr(time.time())
    case = plan / "case.toml"
    text = case.read_text(encoding="utf-8")
    objects = json.dumps(PACS_OBJECTS)
    pacs = f'\n[pacs]\nsend_to = "PACS@127.0.0.1:{dicom_port}"\nobjects = {objects}\n'
    case.write_text(f"{text}{pacs}give_up_after_s = 400\n", encoding="utf-8")
    live = LiveProcess(case, record, "--clock-speed", repr(speed), "--clock-epoch", epoch)

    def told(code: str, after: int = 0) -> dict[str, Any]:
        def found(lines: list[dict[str, Any]]) -> dict[str, Any] | None:
            of = (x for x in lines if x["kind"] == "delivery" and x["code"] == code)
            return next((x for x in of if x["seq"] > after), None)

        return live.wait(found, 400.0)

    with live:
        to = f"ICEBALL@127.0.0.1:{live.port}"
        push = subprocess.Popen(
            [*simulator, "push", SCENARIO, "--to", to, "--speed", repr(speed), "--epoch", epoch]
        )
        away = told("no_connection")
        assert away["waiting"] >= 1
        os.kill(nicest_child(live.process.pid), signal.SIGKILL)
        live.wait(lambda lines: [x for x in lines if x["kind"] == "process_restarted"], 120.0)
        with orthanc(tmp_path, dicom_port, http_port):
            there = told("sent", away["seq"])
            assert held(http_port) >= there["sent"] >= 1
        gone = told("no_connection", there["seq"])
        assert push.wait(600.0) == 0
        assert gone["waiting"] >= 1
        live.wait(_settled, 120.0)
        live.process.send_signal(signal.SIGINT)
        until(lambda: any(x["kind"] == "procedure_ended" for x in live.journal()))
        with orthanc(tmp_path, dicom_port, http_port):
            live.output = live.process.communicate(timeout=500.0)[0]
            assert live.process.returncode == 0, live.output
            assert main(["export", str(record), "--dicom", str(tmp_path / "out")]) == 0
            same_as_exported(stored(http_port), tmp_path / "out")
    assert "Not sent" not in live.output
    codes = {x["code"] for x in live.journal("alarm_raised")}
    # core_silent: at this speed, 0.4 s on a machine that others use.
    assert not codes & {"core_fault", "intake_dead", "record_failing"}
    assert not live.journal("fault")
    assert live.journal()[-1]["kind"] == "procedure_ended"


def _settled(lines: list[dict[str, Any]]) -> bool:
    volumes = [x["volume_id"] for x in lines if x["kind"] == "volume_completed"]
    return volumes[-1] in {x["volume_id"] for x in lines if x["kind"] == "assessment"}
