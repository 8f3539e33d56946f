"""Two patients' images in one room: whatever the order, neither gets a slice of the other. HU, mm, seconds.

Every slice says by its pixels whose it is (the first patient's are positive, the other's negative), so that
a mix is seen whatever the identifiers say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_kernels.select import open_engine
from monitor.model import AssociationEnded, CtFrames, CtSlice, CtVolume, Rejected
from monitor.opening import open_case
from monitor.pipeline import step
from monitor.procedure import Procedure
from monitor.state import Ending, Event, KeepVolume, OperatorAct, State, Tick, initial_state
from tests.intake.intake_helpers import ct_slice

A, B = "PATIENT-A", "PATIENT-B"


@dataclass(frozen=True)
class Alike:
    """What the two studies wrongly have in common."""

    series: bool
    frame: bool
    names: bool


@dataclass(frozen=True)
class Sent:
    """``kind`` "slice", "frames" (all of a small Enhanced CT), "ended", "tick" or "clear"."""

    kind: str
    patient: str = A
    scan: int = 0
    place: int = 0
    wait_s: float = 0.01


_WHOSE = st.sampled_from([A, B])
_EVENTS = st.lists(
    st.one_of(
        st.builds(Sent, st.just("slice"), _WHOSE, st.integers(0, 1), st.integers(0, 6)),
        st.builds(Sent, st.just("slice"), _WHOSE, st.integers(0, 1), st.integers(0, 6)),
        st.builds(Sent, st.just("frames"), _WHOSE, st.integers(0, 1)),
        st.builds(Sent, st.just("ended"), _WHOSE),
        st.builds(Sent, st.just("tick"), wait_s=st.sampled_from([0.05, 1.0, 20.0])),
        st.builds(Sent, st.just("clear")),
    ),
    min_size=4,
    max_size=60,
)
_ALIKE = st.builds(Alike, st.booleans(), st.booleans(), st.booleans())


@cache
def procedure_of(patient: str | None) -> Procedure:
    """None: a draft, in which nobody has said yet whom it is about."""
    text = '[organ]\npreset = "liver"\n'
    if patient is not None:
        text += f'[patient]\nid = "{patient}"\n'
        text += "[lesion]\ncentre_lps_mm = [0.0, 0.0, 0.0]\nradius_mm = 8.0\n"
    with TemporaryDirectory() as folder:
        case = Path(folder) / "case.toml"
        case.write_text(text, encoding="utf-8")
        return open_case(case)[1]


def slice_of(sent: Sent, number: int, now_s: float, alike: Alike) -> CtSlice:
    whose = "" if alike.names else sent.patient
    made = ct_slice(
        f"{whose}-{sent.scan}-{sent.place}-{number}",
        2.5 * sent.place,
        patient=sent.patient,
        series=f"S{sent.scan}" if alike.series else f"S{sent.patient}{sent.scan}",
        frame="F" if alike.frame else f"F{sent.patient}",
        mono_s=now_s,
        association=1 if sent.patient == A else 2,
        acquired_utc_s=now_s,
        value=(1 if sent.patient == A else -1) * (100 + sent.place),
    )
    return replace(made, study_uid=f"ST{sent.patient}")


def event_of(sent: Sent, number: int, now_s: float, alike: Alike) -> Event:
    if sent.kind == "slice":
        return slice_of(sent, number, now_s, alike)
    if sent.kind == "frames":
        one = slice_of(sent, number, now_s, alike)
        made = [slice_of(replace(sent, place=k), number, now_s, alike) for k in range(4)]
        return CtFrames(
            one.instance,
            tuple(replace(s, instance=one.instance, frame=k + 1) for k, s in enumerate(made)),
        )
    if sent.kind == "ended":
        return AssociationEnded(1 if sent.patient == A else 2, False, 1, now_s)
    if sent.kind == "clear":
        return OperatorAct("clear_block", now_s)
    return Tick(now_s, now_s)


@dataclass
class Played:
    """``given``: whose each instance is, by its hash. ``blocked``: after each event, whether it was of
    another patient than the room's and whether the screen was blocked then."""

    state: State
    given: dict[str, str]
    volumes: list[CtVolume]
    rejected: list[Rejected]
    blocked: list[tuple[bool, bool]]


def played(procedure: Procedure, events: list[Sent], alike: Alike) -> Played:
    engine = open_engine("reference")
    p = Played(initial_state(procedure), {}, [], [], [])
    now_s = 1000.0
    for number, sent in enumerate(events):
        now_s += sent.wait_s
        event = event_of(sent, number, now_s, alike)
        if isinstance(event, CtSlice | CtFrames):
            p.given[event.instance.sha256] = sent.patient
        p.state, outputs = step(p.state, event, procedure, engine)
        _collect(p, outputs)
        stranger = isinstance(event, CtSlice | CtFrames) and sent.patient == B
        p.blocked.append((stranger, p.state.block is not None))
        _nothing_mixed(p)
    p.state, outputs = step(p.state, Ending(now_s + 1.0), procedure, engine)
    _collect(p, outputs)
    _nothing_mixed(p)
    return p


def _collect(p: Played, outputs: list) -> None:
    p.volumes += [o.volume for o in outputs if isinstance(o, KeepVolume)]
    p.rejected += [o for o in outputs if isinstance(o, Rejected)]


def _nothing_mixed(p: Played) -> None:
    """Of what became volumes, and of what waits to become one."""
    for v in [*p.volumes, *p.state.kept]:
        sign = 1 if v.patient_id == A else -1
        assert (np.sign(v.hu) == sign).all(), v.volume_id
        assert {p.given[i.sha256] for i in v.instances} == {v.patient_id}
    for sweep in p.state.assembly.passes:
        assert len({s.patient_id for s in sweep.slices}) == 1
        for s in sweep.slices:
            assert p.given[s.instance.sha256] == s.patient_id


def _accounted(p: Played) -> None:
    ends = Counter({i.sha256: 1 for v in p.volumes for i in v.instances})
    ends.update({r.instance.sha256: 1 for r in p.rejected})
    assert set(ends) == set(p.given)


@pytest.mark.requirement("REQ-PATIENT")
@settings(max_examples=200, deadline=None)
@given(_EVENTS, _ALIKE)
def test_of_two_patients_slices_only_the_rooms_get_into_volumes(events, alike: Alike) -> None:
    p = played(procedure_of(A), events, alike)
    _accounted(p)
    assert {v.patient_id for v in p.volumes} <= {A}
    assert all(s.patient_id == A for sweep in p.state.assembly.passes for s in sweep.slices)
    strangers = [r for r in p.rejected if p.given[r.instance.sha256] == B]
    assert {r.reason.code for r in strangers} <= {"patient_mismatch"}
    assert {r.mismatch for r in strangers} <= {(A, B)}
    assert len(strangers) == sum(whose == B for whose in p.given.values())
    # Whoever's image it was, the block stands as soon as it was looked at.
    assert all(blocked for stranger, blocked in p.blocked if stranger)
    assert all(r.reason.code != "patient_mismatch" for r in p.rejected if r not in strangers)


@pytest.mark.requirement("REQ-PATIENT")
@settings(max_examples=100, deadline=None)
@given(_EVENTS, _ALIKE)
def test_while_nobody_knows_whose_room_it_is_each_has_volumes_of_its_own(
    events, alike: Alike
) -> None:
    nobodys = procedure_of(None)
    assert nobodys.draft
    _accounted(played(nobodys, events, alike))


@pytest.mark.requirement("REQ-PATIENT")
@settings(max_examples=100, deadline=None)
@given(_EVENTS, _EVENTS, _ALIKE)
def test_what_the_next_procedure_begins_with_is_nothing_of_the_last(
    first, second, alike: Alike
) -> None:
    """The same images, in the next patient's procedure: the roles are changed, and nothing is left over."""
    _accounted(played(procedure_of(A), first, alike))
    p = played(procedure_of(B), second, alike)
    assert {v.patient_id for v in p.volumes} <= {B}
    strangers = [r for r in p.rejected if p.given[r.instance.sha256] == A]
    assert {r.reason.code for r in strangers} <= {"patient_mismatch"}
    assert len(strangers) == sum(whose == A for whose in p.given.values())
