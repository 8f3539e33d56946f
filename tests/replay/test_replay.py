"""What was recorded comes out again, event by event; what was done to a record is found."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_kernels.select import open_engine
from monitor.cli import main
from monitor.decision.alarm_states import ACKNOWLEDGED, CLEARED, RAISED
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record.comparing import NOT_COMPARED, RESULTS, tolerances_of
from monitor.record.events import INPUT_KINDS
from monitor.record.reading import Finding, check_end, read_journal
from monitor.replay import Comparison, Step, replay
from tests.replay.recorded import CASE, SETTLE, SLICES, RememberingCore, Room
from tests.wire.live import LiveProcess, sphere_case

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, RememberingCore]:
    """All that can happen: strangers, a localizer, a duplicate, forecasts whole and overtaken, a what-if
    answered and one refused, a scan
    that silence completes, a phase that time ends, a case that is edited, slices left at the end."""
    room = Room(tmp_path_factory.mktemp("room"))
    room.slice(PatientID="P2")
    room.act("clear_block")
    room.slice(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    room.scan(0.0, ended=False)
    room.duplicate()
    room.wait(2.0)
    room.script.append(None)  # silence completes it
    room.act("acknowledge")
    room.act("phase_next")
    room.script.append(None)  # a forecast is begun, and overtaken
    room.wait(120.0)
    room.scan(8.0)
    room.wait(60.0)
    room.script += [None, SETTLE]
    room.act("what_if", {"duty": {"9": 0.0}})
    room.act("what_if", {"duty": {"1": 0.0}, "remaining_s": 60.0})
    room.script += [None, SETTLE]
    room.reload(CASE.replace("radius_mm = 7.0", "radius_mm = 6.0"))
    room.wait(190.0)
    room.script.append(None)
    room.scan(11.0, slices=SLICES - 2)
    room.slice(k=3)
    return room, room.run()


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record that is soon replayed: a baseline and two images that were rejected."""
    room = Room(tmp_path_factory.mktemp("brief"))
    room.slice(PatientID="P2")
    room.scan(0.0)
    room.slice(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    room.run()
    return room.record


def replayed(
    record: Path, until: int | None = None
) -> tuple[list[Step], list[Finding], Comparison]:
    """All steps whose input is among the first ``until`` lines."""
    findings: list[Finding] = []
    lines = read_journal(record, findings.append)
    check_end(lines, findings.append)
    comparison = Comparison(record, tolerances_of("cpu", "cpu"), findings.append)
    steps = []
    for step in replay(record, lines[:until], open_engine("cpu", MOST_LATENT), findings.append):
        comparison.take(step)
        steps.append(step)
    return steps, findings, comparison


def same(a: Any, b: Any) -> bool:
    """Equal in every field and every voxel."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.floating))
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return bool(a == b)


# ------------------------------------------------------------------ the same


@pytest.mark.requirement("REQ-REPLAY")
def test_every_prefix_of_the_journal_gives_the_state_of_that_moment(
    room: tuple[Room, RememberingCore],
) -> None:
    made, core = room
    before = {p: p.read_bytes() for p in made.record.rglob("*") if p.is_file()}
    steps, findings, comparison = replayed(made.record)
    assert findings == []
    assert len(steps) == len(core.states)
    for step, (event, state) in zip(steps, core.states, strict=True):
        assert same(step.state, state), (step.line.number, event)
    assert {p: p.read_bytes() for p in made.record.rglob("*") if p.is_file()} == before
    assert {"v001", "v002", "v003"} <= comparison.scans.keys()
    assert comparison.scans["v003"].largest == {}


def test_the_record_holds_all_that_can_happen(room: tuple[Room, RememberingCore]) -> None:
    """Or the test above would have proved little."""
    lines = read_journal(room[0].record, lambda _: None)
    kinds = [x.kind for x in lines]
    wanted = {
        "association_ended", "tick", "operator", "forecast_step", "intake_ended", "forecast",
        "forecast_skipped", "phase", "volume_completed", "ice_segmented",
        "what_if", "what_if_refused", "what_if_over",
    }  # fmt: skip
    assert wanted <= set(kinds)
    codes = {x.fields["reason"] for x in lines if x.kind == "instance_rejected"}
    assert {"patient_mismatch", "localizer", "duplicate_instance", "incomplete_at_end"} <= codes
    completed = {x.fields["completed_by"] for x in lines if x.kind == "volume_completed"}
    assert completed == {"idle", "expected_count", "association_end"}
    assert [x.fields["min_margin_mm"] for x in lines if x.kind == "assessment"][-1] is not None


def test_a_record_that_was_moved_needs_no_plan(
    room: tuple[Room, RememberingCore], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the case nor what it names is where it was; the bowel's voxels were in two files."""
    moved = shutil.copytree(room[0].record, tmp_path / "elsewhere")
    case, plan = room[0].case, room[0].case.parent.parent / "plan"
    case.rename(case.with_suffix(".away"))
    plan.rename(plan.with_name("away"))
    try:
        assert main(["replay", str(moved), "--until", "2.2", "--json"]) == 0
    finally:
        case.with_suffix(".away").rename(case)
        plan.with_name("away").rename(plan)
    result = json.loads(capsys.readouterr().out)
    assert result["same"] is True
    assert (result["state"]["volume_id"], result["state"]["phase"]) == ("v002", "freeze")
    measured = result["state"]["assessment"]
    assert measured["min_margin_mm"] == result["scans"][-1]["recorded"]["min_margin_mm"]


def test_until_takes_a_time_of_the_journal(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = read_journal(brief, lambda _: None)
    at = lines[10].fields["at"]
    assert main(["replay", str(brief), "--until", at]) == 0
    said = capsys.readouterr().out
    assert f"State at {at} (line 11)" in said
    kinds = [x.kind for x in lines[:11]]
    pending = kinds.count("instance_received") - kinds.count("instance_rejected")
    assert pending > 0
    assert f"slices_pending: {pending}" in said
    assert main(["replay", str(brief), "--until", "noon"]) == 2


def test_a_live_procedure_whose_case_was_edited_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``iceball live`` itself: an edit that is wrong is refused, one that is right is kept."""
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0))
    text = case.read_text(encoding="utf-8")
    with LiveProcess(case, tmp_path / "record") as live:
        for n, radius_mm in enumerate(("-1.0", "12.0"), 1):
            edit = text.replace("radius_mm = 10.0", f"radius_mm = {radius_mm}")
            case.write_text(edit, encoding="utf-8")
            live.type("reload")
            live.wait(lambda lines, n=n: sum(x["kind"] == "operator" for x in lines) == n)
        live.type("next")
        live.wait(lambda lines: any(x["kind"] == "phase" for x in lines))
    refused, reloaded, _ = live.journal("operator")
    assert "radius_mm" in refused["refused"]
    assert reloaded["kept_case"]["path"] == "cases/002/case.toml"
    assert main(["replay", str(tmp_path / "record")]) == 0
    assert main(["replay", str(tmp_path / "record"), "--until", "100"]) == 0
    assert "phase: freeze" in capsys.readouterr().out


# ------------------------------------------------------------------ damage


def edited(record: Path, line: Callable[[dict[str, Any]], bool], **fields: Any) -> None:
    """Changes fields of the first line for which that holds."""
    path = record / "journal.jsonl"
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    next(x for x in lines if line(x)).update(fields)
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))


def of_kind(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda x: x["kind"] == kind


@pytest.mark.requirement("REQ-REPLAY")
def test_a_number_that_was_changed_is_named(
    room: tuple[Room, RememberingCore], tmp_path: Path
) -> None:
    record = shutil.copytree(room[0].record, tmp_path / "record")
    lines = read_journal(record, lambda _: None)
    number, margin_mm = next(
        (x.number, x.fields["min_margin_mm"])
        for x in lines
        if x.kind == "assessment" and x.fields["min_margin_mm"] is not None
    )
    edited(record, lambda x: x.get("min_margin_mm") is not None, min_margin_mm=margin_mm + 1e-3)
    _, findings, _ = replayed(record, until=number)
    (found,) = [f for f in findings if f.code != "unfinished"]
    assert (found.line, found.code, found.field) == (number, "differs", "min_margin_mm")
    assert found.recomputed == margin_mm


def drop(record: Path, kind: str) -> None:
    path = record / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines.remove(next(x for x in lines if json.loads(x)["kind"] == kind))
    path.write_text("".join(lines))


def change_blob(record: Path) -> None:
    blob = sorted((record / "blobs").iterdir())[3]
    data = bytearray(blob.read_bytes())
    data[-100] ^= 0x10
    blob.write_bytes(data)


def cut(record: Path, octets: int) -> None:
    path = record / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-octets])


def garble(record: Path) -> None:
    path = record / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5] = b"\xff\x00 not JSON\n"
    path.write_bytes(b"".join(lines))


def change_volume(record: Path) -> None:
    hu = np.load(record / "volumes" / "v001.npy")
    hu[3, 4, 5] += 1
    np.save(record / "volumes" / "v001.npy", hu)


def change_case(record: Path) -> None:
    path = record / "cases" / "001" / "case.toml"
    path.write_text(path.read_text().replace("radius_mm = 7.0", "radius_mm = 9.0"))


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("file_changed", change_blob),
    ("file_missing", lambda r: sorted((r / "blobs").iterdir())[3].unlink()),
    ("file_missing", lambda r: next((r / "quarantine").glob("*.dcm")).unlink()),
    ("volume_differs", change_volume),
    ("volume_unreadable", lambda r: (r / "volumes" / "v001.npy").unlink()),
    ("file_changed", change_case),
    ("file_missing", lambda r: (r / "cases" / "001" / "given.toml").unlink()),
    ("journal_gap", lambda r: drop(r, "association_ended")),
    ("journal_gap", lambda r: drop(r, "baseline_set")),
    ("not_recorded", lambda r: drop(r, "baseline_set")),
    ("not_recomputed", lambda r: drop(r, "association_ended")),
    ("unknown_line", lambda r: edited(r, of_kind("intake_ended"), kind="intake_eaten")),
    ("unreadable_line", garble),
    ("unreadable_line", lambda r: edited(r, of_kind("association_ended"), association_id=None, kind="tick")),
    ("torn_line", lambda r: cut(r, 5)),
    ("unfinished", lambda r: cut(r, 5)),
    ("differs", lambda r: edited(r, of_kind("instance_rejected"), reason="localizer")),
    ("differs", lambda r: edited(r, of_kind("assessment"), status="OK")),
    ("differs", lambda r: edited(r, of_kind("assessment"), lesion_covered="all", volume_id=["v001"])),
    ("unreadable_line", lambda r: edited(r, of_kind("instance_received"), path=3)),
]  # fmt: skip


@pytest.mark.requirement("REQ-REPLAY")
@pytest.mark.parametrize(
    ("code", "damage"), DAMAGE, ids=[f"{i}-{c}" for i, (c, _) in enumerate(DAMAGE)]
)
def test_damage_is_found(
    brief: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    damage: Callable[[Path], object],
) -> None:
    record = shutil.copytree(brief, tmp_path / "record")
    damage(record)
    assert main(["replay", str(record)]) == 1
    said = capsys.readouterr().out
    assert f": {code}: " in said
    assert "NOT THE SAME" in said


def test_the_record_that_is_damaged_above_was_whole(
    brief: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(brief)]) == 0
    assert "The same, within tolerance." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: (r / "journal.jsonl").unlink(), "journal.jsonl: No such file"),
        (lambda r: (r / "journal.jsonl").write_text(""), "not the beginning of a procedure"),
        (
            lambda r: edited(r, of_kind("procedure_started"), format_version=1),
            "journal format 1; this",
        ),
        (lambda r: shutil.rmtree(r / "cases"), "journal.jsonl:1: kept_case"),
    ],
)
def test_a_record_that_cannot_be_replayed_is_an_error(
    brief: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    said: str,
) -> None:
    record = shutil.copytree(brief, tmp_path / "record")
    damage(record)
    assert main(["replay", str(record)]) == 2
    assert said in capsys.readouterr().err


# ------------------------------------------------------------------ kinds of lines

ROOT = Path(__file__).parents[2]
KNOWN = {*INPUT_KINDS, *RESULTS, *NOT_COMPARED}


def test_every_kind_of_line_is_documented() -> None:
    text = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    text = text.partition("| kind | fields |")[2]
    rows = re.findall(r"^\| (\*{0,2}`[^|]+) \|", text, re.MULTILINE)
    kinds = [(name, "**" in row) for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert {name for name, _ in kinds} == KNOWN
    assert {name for name, bold in kinds if bold} == INPUT_KINDS


def test_a_replay_knows_every_kind_that_the_program_writes() -> None:
    """A kind that is new has to be compared, or said not to be."""
    sources = (ROOT / "monitor").rglob("*.py")
    pattern = r"(?:\bLine|\bjournal|_journal_alarm|_result)\(\s*\"(\w+)\""
    written = {k for p in sources for k in re.findall(pattern, p.read_text(encoding="utf-8"))}
    written |= {RAISED, ACKNOWLEDGED, CLEARED}
    assert {"phase", "timing", "alarm_raised", "instance_rejected"} <= written
    assert written <= KNOWN
