"""What operators did comes out again: needles set, measurements reviewed, a baseline picked, acts undone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.cli import main
from monitor.opening import open_drawing
from monitor.record.drawings import keep_drawing
from monitor.record.masks import write_nifti
from monitor.record.reading import Finding, read_journal
from monitor.replay import events_of
from monitor.state import OperatorAct
from tests.replay.recorded import PIXELS, SETTLE, SLICES, RememberingCore, Room
from tests.replay.test_replay import replayed, same
from tests.test_review import scan
from tests.wire.live import LiveProcess, sphere_case

pytestmark = pytest.mark.timeout(600)


def correction(room: Room, volume_id: str) -> OperatorAct:
    """As ``Live`` makes it of what a console wrote."""
    mask = np.zeros((SLICES, PIXELS, PIXELS), np.uint8)
    mask[10:18, 20:34, 24:34] = 1
    drawn = room.record.parent / "ice.nii.gz"
    write_nifti(drawn, mask, scan("v001", 0.0, 0.0).geometry)
    path, sha256 = keep_drawing(room.record, drawn)
    params = {"volume_id": volume_id, "path": path, "sha256": sha256}
    shape = open_drawing(room.record / path)
    return OperatorAct("correct_ice", room.clock.now_utc_s(), params=params, drawn=shape)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, RememberingCore]:
    room = Room(tmp_path_factory.mktemp("acts"))
    room.scan(0.0)
    room.wait(20.0)
    room.scan(0.0)
    room.act("pick_baseline", {"volume_id": "v001"})
    room.act("undo")
    room.act("pick_baseline", {"volume_id": "v001"})
    room.act("phase_next")
    room.act("needle", {"number": 9, "duty": 0.0})
    room.wait(120.0)
    room.scan(8.0)
    room.script += [None, SETTLE]
    room.act("reject_ice", {"volume_id": "v003"})
    room.script += [None, SETTLE]
    room.script.append(lambda: correction(room, "v003"))
    room.act("accept_ice", {"volume_id": "v003"})
    room.script += [None, SETTLE]
    room.act("needle", {"number": 1, "duty": 0.0})
    room.wait(30.0)
    room.act("needle", {"number": 1, "duty": 0.5})
    room.act("undo")
    room.script += [None, SETTLE]
    room.act("phase_next")
    room.act("undo")
    room.script += [None, SETTLE]
    return room, room.run()


def test_every_act_comes_out_again(room: tuple[Room, RememberingCore]) -> None:
    made, core = room
    steps, findings, _ = replayed(made.record)
    assert findings == []
    for step, (event, state) in zip(steps, core.states, strict=True):
        assert same(step.state, state), (step.line.number, event)


def test_the_record_holds_them_all(room: tuple[Room, RememberingCore]) -> None:
    lines = read_journal(room[0].record, lambda _: None)

    def of(kind: str, field: str) -> list[Any]:
        return [x.fields[field] for x in lines if x.kind == kind]

    assert of("baseline_set", "volume_id") == ["v001", "v002", "v001", "v002", "v001"]
    assert of("undone", "act") == ["pick_baseline", "needle", "phase_next"]
    assert of("phase", "phase") == ["freeze", "thaw", "freeze"]
    assert of("act_refused", "act") == ["needle", "accept_ice"]
    assert of("ice_reviewed", "verdict") == ["rejected", "corrected"]
    assert of("needle_set", "duty") == [0.0, 0.5]
    assert [s.duty for s in room[1].state.needle_sets] == [0.0]
    codes = [[r["code"] for r in reasons] for reasons in of("assessment", "reasons")]
    assert any("ice_rejected" in c for c in codes)
    assert "ice_corrected" in codes[-1]


def read_again(record: Path, until: int) -> list[tuple[int, str]]:
    """What a replay finds in reading its events, which is before it works on them."""
    findings: list[Finding] = []
    lines = read_journal(record, findings.append)[:until]
    assert len(list(events_of(record, lines, findings.append))) > 50
    return [(f.line, f.code) for f in findings]


def test_a_drawing_that_was_changed_is_found(
    room: tuple[Room, RememberingCore], tmp_path: Path
) -> None:
    record = shutil.copytree(room[0].record, tmp_path / "record")
    (drawing,) = (record / "corrections").iterdir()
    lines = [json.loads(x) for x in (record / "journal.jsonl").read_text().splitlines()]
    at = next(n for n, x in enumerate(lines, 1) if x.get("act") == "correct_ice")
    other = scan("v001", 0.0, 0.0)
    mask = np.zeros((SLICES, PIXELS, PIXELS), np.uint8)
    mask[12:16, 24:30, 26:32] = 1
    write_nifti(drawing, mask, replace(other.geometry))
    assert read_again(record, at) == [(at, "file_changed")]
    drawing.unlink()
    assert (at, "file_missing") in read_again(record, at)


@pytest.mark.long
def test_a_live_procedure_whose_needle_was_stopped_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``iceball live`` itself, by what is typed."""
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0), needles=True)
    with LiveProcess(case, tmp_path / "record") as live:
        for n, typed in enumerate(("needle 1=0", "needle 7=50", "undo", "needle 1=25"), 1):
            live.type(typed)
            live.wait(lambda lines, n=n: sum(x["kind"] == "operator" for x in lines) == n)
        live.type("needle stop")
        live.type("next")
        live.wait(lambda lines: any(x["kind"] == "phase" for x in lines))
    assert [x["duty"] for x in live.journal("needle_set")] == [0.0, 0.25]
    assert [x["act"] for x in live.journal("undone")] == ["needle"]
    (refused,) = live.journal("act_refused")
    assert refused["reason"] == "needle 7 is not one of this case (1)"
    assert "Needle 1: 25 % from now on (was 100 %)" in live.output
    assert "Refused: needle: needle 7 is not one of this case (1)" in live.output
    assert "needle: 'needle stop': expected needle NUMBER=PERCENT" in live.output
    assert main(["replay", str(tmp_path / "record")]) == 0
    capsys.readouterr()
