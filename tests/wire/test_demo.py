"""The whole loop: scanner simulator and monitor as separate processes over loopback DICOM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.demo import SCENARIO
from monitor.model import scan_of
from tests.wire.live import children, unaccounted

pytestmark = pytest.mark.timeout(900)


# The images into the simulator's cache, without the files and the truth that the demo itself writes.
MADE = """
import sys
from scanner_sim import scenario
from scanner_sim.simulation import Simulation
made = Simulation(scenario.load(sys.argv[1]))
for number in range(len(made.scan_times_s)):
    made.acquisition(number)
made.close()
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo procedure at high speed, without a display. Its images are made first (they are kept):
    at this speed the scanner would be late, and its work would compete with the monitor's."""
    out = tmp_path_factory.mktemp("demo") / "out"
    subprocess.run([sys.executable, "-c", MADE, SCENARIO], check=True, timeout=600)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "monitor.cli",
            "demo",
            "--headless",
            "--speed",
            "10",
            "--out",
            str(out),
        ],
        check=True,
        capture_output=True,
        timeout=280,
    )
    return out


def journal(demo: Path) -> list[dict]:
    return [json.loads(x) for x in (demo / "record" / "journal.jsonl").read_text().splitlines()]


def of_kind(demo: Path, kind: str) -> list[dict]:
    return [x for x in journal(demo) if x["kind"] == kind]


def truth(demo: Path) -> list[dict]:
    return json.loads((demo / "truth" / "truth.json").read_text())["scans"]


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_every_slice_is_accounted_for(demo: Path) -> None:
    lines = journal(demo)
    assert [x["seq"] for x in lines] == list(range(1, len(lines) + 1))
    assert len(of_kind(demo, "instance_received")) == 40 * len(truth(demo))
    assert not of_kind(demo, "instance_rejected")
    assert unaccounted(lines) == 0
    assert not of_kind(demo, "fault")
    assert lines[-1]["kind"] == "procedure_ended"


def test_the_final_scan_agrees_with_the_truth(demo: Path) -> None:
    final, true = of_kind(demo, "assessment")[-1], truth(demo)[-1]
    assert final["volume_id"] == f"v{len(truth(demo)):03d}"
    assert final["lesion_covered"] == pytest.approx(true["lesion_covered"], abs=0.03)
    assert final["min_margin_mm"] == pytest.approx(true["min_margin_mm"], abs=2.0)


@pytest.mark.requirement("REQ-ICE-ACCURACY")
def test_every_scan_agrees_with_the_truth(demo: Path) -> None:
    measured = {  # of a scan whose slices came late, the last revision
        scan_of(x["volume_id"]): x
        for x in of_kind(demo, "assessment")
        if x["lesion_covered"] is not None
    }
    assert len(measured) == len(truth(demo)) - 1
    for a, true in zip(measured.values(), truth(demo)[1:], strict=True):
        assert a["lesion_covered"] == pytest.approx(true["lesion_covered"], abs=0.03)
        assert a["min_margin_mm"] == pytest.approx(true["min_margin_mm"], abs=2.0)
        assert a["margin_covered"] <= a["lesion_covered"]
        assert (a["lesion_covered"] < 1) == (a["min_margin_mm"] < 0)
        # A structure may be said nearer than it is; a monitor that says farther is dangerous.
        for s in a["structures"]:
            assert s["distance_mm"] < true["structures"][s["name"]] + 1.5


def test_the_protocol_ran_and_forecasts_followed_the_scans(demo: Path) -> None:
    phases = [(x["phase"], x["cycle"]) for x in of_kind(demo, "phase")]
    assert phases == [("freeze", 1), ("thaw", 1), ("freeze", 2), ("ended", 2)]
    forecasts = of_kind(demo, "forecast")
    assert len({x["from_volume_id"] for x in forecasts} - {None}) >= 5
    first = next(x for x in of_kind(demo, "assessment") if x["time_to_margin_s"])
    low, high = first["time_to_margin_s"]
    assert 0 <= low <= high <= 900


def test_the_record_replays_to_the_same_results(demo: Path) -> None:
    command = [sys.executable, "-m", "monitor.cli", "replay", str(demo / "record"), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    result = json.loads(done.stdout)
    assert result["findings"] == []
    assert done.returncode == 0
    assert {x["volume_id"] for x in of_kind(demo, "assessment")} <= {
        x["volume_id"] for x in result["scans"]
    }


def test_one_picture_per_scan_and_a_summary(demo: Path) -> None:
    """Of its last volume: one that came with a pause in it, on a machine that stood still, is put right by a
    revision, and that is what is seen."""
    screens = {p.name for p in (demo / "record" / "screens").glob("*.png")}
    last = {scan_of(x["volume_id"]): x["volume_id"] for x in of_kind(demo, "assessment")}
    assert list(last) == [f"v{n:03d}" for n in range(1, len(truth(demo)) + 1)]
    assert {f"screen_{volume_id}.png" for volume_id in last.values()} <= screens
    assert "screen_final.png" in screens
    assert "lesion covered" in (demo / "summary.txt").read_text()
    assert (demo / "summary.png").stat().st_size > 10_000


def test_a_demo_that_is_told_to_end_ends_what_it_has_started(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "monitor.cli", "demo", "--headless", "--out", str(out)]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = out / "record" / "journal.jsonl"
    until(lambda: journal.exists() and '"listening"' in journal.read_text())
    started = children(demo.pid)
    assert started
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(90) == 143
    until(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])
    assert '"procedure_ended"' in journal.read_text()


def until(found: Callable[[], bool], limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)
