"""The alarms of a record raised once more: the same, or what differs is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.cli import main
from monitor.record.comparing import ALARM_S
from monitor.record.reading import read_journal
from monitor.replay_alarms import Change, _paired
from tests.replay.recorded import Room

pytestmark = pytest.mark.timeout(600)

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freeze whose forecast is not finished, and an image that grows old; acknowledged and over."""
    room = Room(tmp_path_factory.mktemp("alarms"))
    room.wait(5.0)
    room.slice(PatientID="P2")
    room.wait(5.0)
    room.act("clear_block")
    room.scan(0.0)
    room.wait(5.0)
    room.act("phase_next")
    room.wait(260.0)
    room.run()
    return room.record


def spoilt(record: Path, folder: Path, spoil: Callable[[Lines], Any]) -> Path:
    """What a replay says of a copy whose journal was spoilt, and numbered anew so that no gap tells."""
    copy = folder / "record"
    shutil.copytree(record, copy)
    path = copy / "journal.jsonl"
    lines = [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()]
    lines = spoil(lines) or lines
    for n, line in enumerate(lines, 1):
        line["seq"] = n
    path.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    return copy


def said(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    status = main(["replay", str(path), "--json", *more])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (1 if result["findings"] else 0)
    return result


def first(lines: Lines, kind: str, code: str) -> dict[str, Any]:
    return next(x for x in lines if x["kind"] == kind and x.get("code") == code)


def later(line: dict[str, Any], seconds: float) -> None:
    line["at"] = (datetime.fromisoformat(line["at"]) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.requirement("REQ-REPLAY")
def test_the_alarms_come_out_again(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = {x.fields["code"] for x in read_journal(record, lambda _: None) if "code" in x.fields}
    assert {"no_baseline", "patient_mismatch", "image_stale", "forecast_missing"} <= codes
    result = said(record, capsys)
    assert (result["findings"], result["same"]) == ([], True)
    assert result["alarms"] >= 6


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (
            lambda lines: [x for x in lines if x.get("code") != "image_stale"],
            "alarm_not_recorded", "alarm_raised: image_stale, medium",
        ),
        (
            lambda lines: [x for x in lines if not x["kind"].startswith("alarm_")],
            "alarm_not_recorded", "alarm_raised: no_baseline, low",
        ),
        (
            lambda lines: first(lines, "alarm_raised", "image_stale").update(priority="low"),
            "alarm_not_recomputed", "alarm_raised: image_stale, low",
        ),
        (
            lambda lines: first(lines, "alarm_raised", "image_stale").update(code="margin_reached"),
            "alarm_not_recomputed", "alarm_raised: margin_reached, medium",
        ),
        (
            lambda lines: first(lines, "alarm_cleared", "no_baseline").update(kind="alarm_raised"),
            "alarm_not_recomputed", "alarm_raised: no_baseline, low",
        ),
        (
            lambda lines: later(first(lines, "alarm_raised", "forecast_missing"), 3 * ALARM_S),
            "alarm_not_recomputed", "alarm_raised: forecast_missing, medium",
        ),
        (
            lambda lines: first(lines, "alarm_raised", "patient_mismatch")["params"].update(
                received="P3"
            ),
            "alarm_not_recomputed", "alarm_raised: patient_mismatch (P1, P3), high",
        ),
    ],
)  # fmt: skip
def test_what_was_done_to_an_alarm_is_found(
    record: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Lines], Any],
    code: str,
    words: str,
) -> None:
    result = said(spoilt(record, tmp_path, spoil), capsys)
    found = [f["text"] for f in result["findings"] if f["code"] == code]
    assert any(text.startswith(words) for text in found), result["findings"]
    assert result["same"] is False


def test_a_little_later_is_the_same(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(
        record, tmp_path, lambda lines: later(first(lines, "alarm_raised", "image_stale"), 1.0)
    )
    assert said(path, capsys)["findings"] == []


def test_what_the_machine_did_is_taken_from_the_record(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No replay can know that a worker was silent."""

    def silent(lines: Lines) -> Lines:
        at = next(i for i, x in enumerate(lines) if x.get("code") == "forecast_missing")
        made = {**lines[at], "code": "core_silent", "priority": "high", "latched": False}
        return [*lines[: at + 1], made, {**made, "kind": "alarm_cleared"}, *lines[at + 1 :]]

    assert said(spoilt(record, tmp_path, silent), capsys)["findings"] == []


def test_that_nothing_was_compared_is_said(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = read_journal(record, lambda _: None)
    early = said(record, capsys, "--until", "-1")
    assert (early["results"], early["alarms"], early["same"]) == (0, 0, None)
    assert main(["replay", str(record), "--until", "-1"]) == 0
    out = capsys.readouterr().out
    assert "0 results and 0 alarms compared" in out
    assert "NOTHING COMPARED" in out
    assert "The same" not in out
    assert lines[0].number == 1


@pytest.mark.parametrize(
    ("raised_s", "same"), [(0.0, True), (9.0, True), (-2.0, False), (11.5, False)]
)
def test_the_watch_may_see_a_step_before_its_results_are_on_disk(
    raised_s: float, same: bool
) -> None:
    """A step whose results took ten seconds to be kept."""
    key = ("alarm_raised", "structure_near", "skin", "high")
    recorded, found = Change(key, raised_s, raised_s, 1), Change(key, 0.0, 10.0, 1)
    assert _paired([recorded], [found], 1.0)[0] == same
