"""A record on the screen: what was known at each time, what the player may do, and that the record stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpu_kernels.select import open_engine
from monitor.decision.alarm_states import RAISED
from monitor.model import PhaseKind, Priority
from monitor.playback import Head, Moment, alarms_over_time, moments, scans_in
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record.reading import Finding, JournalLine, read_journal
from monitor.replay_screens import ReplayOptions, ReplayScreens
from monitor.snapshot import Snapshot
from tests.replay.recorded import EPOCH_UTC_S, SETTLE, Room

pytestmark = pytest.mark.timeout(600)
Made = tuple[Room, list[JournalLine], list[Moment], dict[str, str]]


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder, with what is in it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A baseline, a freeze, two scans and a forecast, recorded; then its moments."""
    room = Room(tmp_path_factory.mktemp("played"))
    room.scan(0.0)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(8.0)
    room.script += [None, SETTLE]
    room.wait(120.0)
    room.scan(11.0)
    room.run()
    before = hashes(room.record)
    lines = read_journal(room.record, lambda _: None)
    told: list[Finding] = []
    engine = open_engine("cpu", MOST_LATENT)
    scratch = tmp_path_factory.mktemp("scratch")
    found = list(moments(room.record, lines, engine, scratch, told.append))
    assert told == []
    return room, lines, found, before


def head_of(made: Made, pace: float = 1.0, upto: int | None = None) -> Head:
    _, lines, found, _ = made
    head = Head(
        lines[0].at_utc_s, lines[-1].at_utc_s, alarms_over_time(lines), scans_in(lines), pace
    )
    for moment in found[:upto]:
        head.add(moment)
    if upto is None:
        head.complete()
    return head


def now(head: Head) -> Snapshot:
    shown = head.shown()
    assert shown is not None
    return shown


def test_what_is_shown_is_what_was_recorded_at_its_time(made: Made) -> None:
    _, lines, _, _ = made
    head = head_of(made)
    for line in lines:
        if line.kind != "assessment":
            continue
        head.at_utc_s = line.at_utc_s
        a = now(head).assessment
        assert a is not None
        assert a.volume_id == line.fields["volume_id"]
        for name in ("lesion_covered", "min_margin_mm", "ice_volume_ml"):
            recorded = line.fields[name]
            assert getattr(a, name) == (
                recorded if recorded is None else pytest.approx(recorded, abs=1e-4)
            )


def test_before_a_scan_was_in_it_is_not_shown(made: Made) -> None:
    _, lines, _, _ = made
    head = head_of(made)
    third = [x for x in lines if x.kind == "volume_completed"][2]
    first_slice = [x for x in lines if x.kind == "instance_received"][-1]
    head.at_utc_s = min(third.at_utc_s, first_slice.at_utc_s) - 0.01
    assert now(head).volume_id == "v002"
    head.at_utc_s = third.at_utc_s + 0.01
    assert now(head).volume_id == "v003"
    assert now(head).phase.kind is PhaseKind.FREEZE


@pytest.mark.requirement("REQ-REPLAY-MARKED")
def test_everything_that_is_shown_says_that_it_is_replayed(made: Made) -> None:
    head = head_of(made, pace=64.0)
    while not head.paused:
        shown = now(head)
        assert shown.replay is not None
        assert shown.replay.began_utc_s == pytest.approx(EPOCH_UTC_S + 1000.0, abs=1.0)
        assert shown.now_utc_s == shown.heartbeat_utc_s
        head.pass_time(0.25)
    assert now(head).replay is not None


def test_the_record_is_not_touched_and_its_own_volumes_are_shown(made: Made) -> None:
    room, _, found, before = made
    assert hashes(room.record) == before
    last = [m.shown for m in found if m.shown is not None][-1]
    assert last.volume is not None
    assert Path(last.volume.path).parent == room.record / "volumes"
    assert last.ice_sdf is not None
    assert room.record not in Path(last.ice_sdf.path).parents


def test_pixels_that_are_not_those_of_the_instances_are_not_shown(
    made: Made, tmp_path: Path
) -> None:
    """A volume file that was changed since is passed over: what is shown comes of the instances."""
    import shutil

    room, _, _, _ = made
    copy = tmp_path / "record"
    shutil.copytree(room.record, copy)
    spoilt = copy / "volumes" / "v002.npy"
    hu = np.load(spoilt)
    np.save(spoilt, hu + 1)
    lines = read_journal(copy, lambda _: None)
    engine, scratch = open_engine("cpu", MOST_LATENT), tmp_path / "scratch"
    for moment in moments(copy, lines, engine, scratch, lambda _: None):
        if moment.scan == "v002":
            assert moment.shown is not None
            assert moment.shown.volume is not None
            assert np.array_equal(np.load(moment.shown.volume.path), hu)
            return
    raise AssertionError("v002 was never shown")


def test_files_of_every_moment_are_still_there_at_the_end(made: Made) -> None:
    """So that the head can go back."""
    for moment in made[2]:
        s = moment.shown
        if s is not None:
            refs = (s.volume, s.ice_sdf, s.lesion_sdf, s.forecast_temperature, s.forecast_band,
                    s.forecast_lowest)  # fmt: skip
            assert all(Path(r.path).is_file() for r in refs if r is not None)


# --------------------------------------------------------------------------- the head


def test_it_plays_at_its_pace_and_stands_when_paused(made: Made) -> None:
    head = head_of(made, pace=2.0)
    began = head.at_utc_s
    head.pass_time(3.0)
    assert head.at_utc_s == pytest.approx(began + 6.0)
    assert head.act("replay_pause")
    head.pass_time(3.0)
    assert head.at_utc_s == pytest.approx(began + 6.0)
    assert now(head).replay == replace(now(head).replay, paused=True)
    assert head.act("replay_pause")
    assert head.act("replay_faster")
    head.pass_time(1.0)
    assert head.at_utc_s == pytest.approx(began + 10.0)
    assert head.act("replay_slower")
    assert head.act("replay_slower")
    assert head.pace == 1.0


def test_it_jumps_to_scans_and_back(made: Made) -> None:
    head = head_of(made)
    for number, volume_id in ((3, "v003"), (1, "v001"), (2, "v002")):
        assert head.act("replay_scan", number)
        assert now(head).volume_id == volume_id
        assert now(head).replay == replace(now(head).replay, scan=number, scans=3)
    assert head.act("replay_next")
    assert now(head).volume_id == "v003"
    assert head.act("replay_next")
    assert now(head).volume_id == "v003"  # there is no other
    assert head.act("replay_previous")
    assert now(head).volume_id == "v002"


def test_a_scan_that_is_not_worked_out_yet_is_jumped_to_when_it_is(made: Made) -> None:
    found = made[2]
    third = next(i for i, m in enumerate(found) if m.scan == "v003")
    head = head_of(made, upto=third)
    assert head.act("replay_scan", 3)
    assert head.working
    assert now(head).volume_id != "v003"
    head.add(found[third])
    assert now(head).volume_id == "v003"


def test_it_never_runs_ahead_of_what_is_worked_out(made: Made) -> None:
    found = made[2]
    head = head_of(made, pace=64.0, upto=len(found) // 2)
    head.pass_time(1000.0)
    assert head.at_utc_s == max(m.at_utc_s for m in found[: len(found) // 2])
    assert head.working
    assert not head.paused


def test_steps_stop_at_each_change_and_hold(made: Made) -> None:
    head = head_of(made)
    seen = []
    for _ in range(200):
        assert head.act("replay_step")
        seen.append(head.at_utc_s)
        head.pass_time(5.0)
        assert head.at_utc_s == seen[-1]
    changes = sorted({m.at_utc_s for m in made[2] if m.shown is not None})
    assert sorted(set(seen)) == changes[1:]
    assert head.act("replay_back")
    assert head.at_utc_s == changes[-2]


@pytest.mark.parametrize(
    "act", ["phase_next", "acknowledge", "clear_block", "needle", "undo", "replay_scan", "reload"]
)
def test_no_other_act_does_anything(made: Made, act: str) -> None:
    head = head_of(made)
    head.pass_time(30.0)
    before = head.__dict__.copy()
    assert not head.act(act)
    assert head.__dict__ == before


def test_where_it_cannot_be_worked_out_it_says_so_and_stops(made: Made) -> None:
    head = head_of(made, pace=64.0, upto=5)
    head.complete(broken=True)
    head.pass_time(1000.0)
    replayed = now(head).replay
    assert replayed is not None
    assert replayed.broken
    assert not replayed.working


# --------------------------------------------------------------------------- alarms


def line(number: int, kind: str, code: str, name: str = "", latched: bool = False) -> JournalLine:
    params = {"name": name} if name else {}
    fields = {"code": code, "priority": "medium", "params": params, "latched": latched}
    return JournalLine(number, number, 100.0 + number, kind, fields)


def test_alarms_stand_as_the_journal_says() -> None:
    timeline = alarms_over_time(
        [
            line(1, RAISED, "structure_near", "bowel"),
            line(2, RAISED, "structure_near", "skin"),
            line(3, "alarm_acknowledged", "structure_near", "bowel"),
            line(4, "alarm_cleared", "structure_near", "bowel"),
            line(5, "alarm_cleared", "structure_near", "skin", latched=True),
            line(6, "alarm_cleared", "structure_near", "skin"),
        ]
    )
    stood = [
        [(a.about, a.acknowledged, a.latched, a.priority) for a in alarms] for _, alarms in timeline
    ]
    bowel, skin, m = "bowel", "skin", Priority.MEDIUM
    assert stood == [
        [(bowel, False, False, m)],
        [(bowel, False, False, m), (skin, False, False, m)],
        [(skin, False, False, m), (bowel, True, False, m)],
        [(skin, False, False, m)],
        [(skin, False, True, m)],
        [],
    ]


# --------------------------------------------------------------------------- threads


def test_the_player_refuses_what_would_change_the_record(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads without a window: an act of a screen comes to nothing, and the screen is told."""
    room, _, _, before = made
    shown: list[Snapshot] = []
    monkeypatch.setattr("monitor.replay_screens.Screen", _kept_screen(shown))
    played = ReplayScreens(ReplayOptions(room.record, pace=64.0), lambda _: None)
    played.start()
    try:
        assert _soon(lambda: any(s.volume_id == "v003" for s in shown))
        played.act("phase_next")
        assert _soon(lambda: (shown[-1].refused or "").startswith("replay:"))
        played.act("replay_scan", params={"number": 1})
        assert _soon(lambda: shown[-1].volume_id == "v001")
        played.act("quit")
        assert played.stopping.is_set()
    finally:
        played.finish()
    assert hashes(room.record) == before
    assert all(s.replay is not None for s in shown)


def _kept_screen(shown: list[Snapshot]) -> type:
    """The other end of the pipe: what would be sent to a window."""

    class Kept:
        exitcode = None

        def __init__(self, options: object, on_act: object) -> None:
            pass

        def show(self, snapshot: Snapshot) -> None:
            shown.append(snapshot)

        def quit(self) -> None:
            pass

    return Kept


def _soon(ready: Callable[[], bool]) -> bool:
    import time

    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.05)
    return False
