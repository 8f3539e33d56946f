"""A procedure cut off anywhere goes on as if it had not been (``scripts/kill_points.py`` tries many more)."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from monitor.clock import ProcedureClock, boot_id
from monitor.decision.alarm_states import AlarmState
from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import read_journal
from monitor.record.running import Running
from monitor.resuming import open_unfinished, standing_alarms
from tests.record.power_cuts import Played, cut, play, resume

pytestmark = [pytest.mark.timeout(600), pytest.mark.requirement("REQ-RESUME")]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("played"))


@pytest.mark.parametrize("seed", range(9001, 9013))
def test_a_procedure_cut_off_anywhere_goes_on(played: Played, tmp_path: Path, seed: int) -> None:
    at = cut(played, random.Random(seed), tmp_path)
    assert resume(played, tmp_path, at).wrong == []


def test_an_image_that_is_gone_is_found_missing(played: Played, tmp_path: Path) -> None:
    """That the comparison can fail, and that the record's damage is told."""
    for seed in range(9100, 9200):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        at = cut(played, random.Random(seed), tmp_path)
        shutil.rmtree(tmp_path / "checkpoints")
        received = [x for x in _lines(tmp_path) if x["kind"] == "instance_received"]
        if received:
            break
    (tmp_path / str(received[0]["path"])).unlink()
    outcome = resume(played, tmp_path, at)
    assert any("taken up and gone" in text for text in outcome.wrong)
    found = open_unfinished(tmp_path)
    list(found.tail())
    assert [f.code for f in found.damage] == ["file_missing"]


def test_what_was_ended_is_not_gone_on_with(played: Played) -> None:
    with pytest.raises(RecordError, match="was ended"):
        open_unfinished(played.record)


def test_two_programs_never_write_into_one_record(tmp_path: Path) -> None:
    first = Running(tmp_path)
    with pytest.raises(RecordError, match="another program is recording there"):
        Running(tmp_path)
    first.note([os.getpid()])
    first.close()
    assert list(tmp_path.iterdir()) == []
    Running(tmp_path).close()


def test_the_clock_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ProcedureClock.start(5.0)
    told = json.loads(json.dumps(clock.anchors()))
    same = ProcedureClock.resumed(told, 0.0, 0.0)
    assert same == clock
    # The machine was started anew: by its wall clock, and never back.
    told["boot_id"], told["anchor_wall_s"] = "another", told["anchor_wall_s"] - 100.0
    last_utc_s, last_mono_s = clock.now_utc_s() + 50.0, 7000.0
    on = ProcedureClock.resumed(told, last_utc_s, last_mono_s)
    assert on.now_utc_s() == pytest.approx(clock.now_utc_s() + 500.0, abs=1.0)
    assert on.mono_s() == pytest.approx(7000.0 + 450.0 / 5.0, abs=1.0)
    told["anchor_wall_s"] += 10_000.0
    back = ProcedureClock.resumed(told, last_utc_s, last_mono_s)
    assert last_utc_s <= back.now_utc_s() < last_utc_s + 5.0
    assert boot_id()


def test_the_alarms_that_stood_stand(tmp_path: Path) -> None:
    def line(seq: int, kind: str, code: str, about: str = "", latched: bool = False) -> str:
        fields = {
            "code": code,
            "about": about,
            "priority": "high",
            "params": {},
            "latched": latched,
        }
        at = {"seq": seq, "at": f"2026-01-01T00:00:{seq:02d}.000Z", "mono_s": 1.0, "kind": kind}
        return json.dumps({**at, **fields}) + "\n"

    (tmp_path / JOURNAL).write_text(
        json.dumps({"seq": 1, "at": "2026-01-01T00:00:01.000Z", "mono_s": 1.0,
                    "kind": "procedure_started", "format_version": 2}) + "\n"
        + line(2, "alarm_raised", "structure_near", "skin")
        + line(3, "alarm_raised", "structure_near", "bowel")
        + line(4, "alarm_raised", "core_fault", "x")
        + line(5, "alarm_raised", "image_stale")
        + line(6, "alarm_acknowledged", "structure_near", "skin")
        + line(7, "alarm_cleared", "core_fault", "x", latched=True)
        + line(8, "alarm_cleared", "image_stale")
        + line(9, "alarm_raised", "intake_dead")
        + line(10, "alarm_cleared", "intake_dead", latched=True)
        + line(11, "alarm_acknowledged", "intake_dead")
    )  # fmt: skip
    stood = {(s.cause.code, s.cause.about): s.state for s in _alarms(tmp_path)}
    assert stood == {
        ("structure_near", "skin"): AlarmState.ACKNOWLEDGED,
        ("structure_near", "bowel"): AlarmState.UNACKNOWLEDGED,
        ("core_fault", "x"): AlarmState.LATCHED,
    }


def _alarms(record: Path):  # type: ignore[no-untyped-def]
    return standing_alarms(read_journal(record, lambda _: None))


def _lines(record: Path) -> list[dict[str, object]]:
    raw = (record / JOURNAL).read_bytes().rpartition(b"\n")[0].splitlines()
    return [json.loads(x) for x in raw]
