"""A procedure that began with nothing comes out again: a draft, a pick, a plan, all learned from anew."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.record.reading import read_journal
from tests.replay.recorded import CASE, SETTLE, RememberingCore, Room
from tests.replay.test_replay import replayed, same

pytestmark = pytest.mark.timeout(600)

DRAFT = '[organ]\npreset = "liver"\n'


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, RememberingCore]:
    room = Room(tmp_path_factory.mktemp("draft"))
    room.case.write_text(DRAFT, encoding="utf-8")
    room.scan(0.0)
    room.slice(PatientID="P2", StudyInstanceUID="1.2.9")
    room.wait(8.0)
    room.script.append(None)  # silence ends the lonely slice
    room.act("pick_baseline", {"volume_id": "v009"})
    room.act("pick_baseline", {"volume_id": "v001"})
    room.act("undo")
    room.act("pick_baseline", {"volume_id": "v001"})
    room.reload(CASE.replace('id = "P1"', 'id = "P2"'))
    room.reload(CASE)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(8.0)
    room.script += [None, SETTLE]
    room.wait(120.0)
    room.scan(10.0)
    room.script += [None, SETTLE]
    room.reload(CASE.replace("radius_mm = 7.0", "radius_mm = 6.0"))
    room.script += [None, SETTLE]
    return room, room.run()


@pytest.mark.long  # test_replay.py and test_replay_acts.py have the same of other procedures
def test_every_state_comes_out_again(room: tuple[Room, RememberingCore]) -> None:
    made, core = room
    steps, findings, _ = replayed(made.record)
    assert findings == []
    for step, (event, state) in zip(steps, core.states, strict=True):
        assert same(step.state, state), (step.line.number, event)


def test_the_record_tells_it(room: tuple[Room, RememberingCore]) -> None:
    lines = read_journal(room[0].record, lambda _: None)

    def of(kind: str, field: str) -> list[Any]:
        return [x.fields[field] for x in lines if x.kind == kind]

    assert of("act_refused", "act") == ["pick_baseline", "reload"]
    assert of("baseline_set", "seen_fraction")[:2] == [None, None]
    measured = ["v002", "v003", "v003", "v002", "v003"]
    assert [v for v in of("ice_segmented", "volume_id") if v != "v001"] == measured
    state = room[1].state
    assert state.estimate is not None
    assert len(state.estimate.seen) == 2
    assert [k.volume_id for k in state.kept] == ["v001", "v002", "v003"]
