"""Passes into volumes: when they end, what is turned away, and that every slice ends somewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.intake import assembly
from monitor.intake.assembly import AssemblyState, Expectation, Outcome
from monitor.model import AssociationEnded, CtSlice, CtVolume, Rejected, Status
from tests.intake.intake_helpers import ct_slice

START = assembly.initial(Expectation("P1", None))


def series(
    count: int, *, name: str = "a", spacing_mm: float = 2.5, gap_s: float = 0.02, **how
) -> list[CtSlice]:
    start_s = how.pop("mono_s", 0.0)
    return [
        ct_slice(f"{name}{k}", k * spacing_mm, mono_s=start_s + k * gap_s, value=k, **how)
        for k in range(count)
    ]


def feed(state: AssemblyState, slices: list[CtSlice]) -> tuple[AssemblyState, list[Outcome]]:
    outcomes: list[Outcome] = []
    for s in slices:
        state, more = assembly.add_slice(state, s)
        outcomes += more
    return state, outcomes


def ended(association: int = 1, aborted: bool = False) -> AssociationEnded:
    return AssociationEnded(association, aborted, 1, 0.0)


def volumes(outcomes: list[Outcome]) -> list[CtVolume]:
    return [o for o in outcomes if isinstance(o, CtVolume)]


def codes(outcomes: list[Outcome]) -> list[str]:
    return [o.reason.code for o in outcomes if isinstance(o, Rejected)]


# ------------------------------------------------------------------ completion


def test_an_association_of_a_whole_series_completes_at_its_release() -> None:
    state, outcomes = feed(START, series(10)[::-1])
    assert (outcomes, state.pending) == ([], 10)
    state, (volume,) = assembly.association_ended(state, ended())
    assert isinstance(volume, CtVolume)
    assert (volume.completed_by, volume.volume_id, state.pending) == ("association_end", "v001", 0)
    assert volume.hu[:, 0, 0].tolist() == list(range(10))
    assert not volume.hu.flags.writeable


def test_an_aborted_association_completes_only_by_silence() -> None:
    state, _ = feed(START, series(10))
    state, outcomes = assembly.association_ended(state, ended(aborted=True))
    assert outcomes == []
    state, outcomes = assembly.tick(state, 0.18 + 0.4)
    assert outcomes == []
    _, (volume,) = assembly.tick(state, 0.18 + 0.6)
    assert volume.completed_by == "idle"


def test_an_association_per_image_does_not_complete_after_each() -> None:
    state, outcomes = START, []
    for k, s in enumerate(series(10)):
        s = replace(s, instance=replace(s.instance, association_id=k))
        state, more = assembly.add_slice(state, s)
        state, end = assembly.association_ended(state, ended(k))
        outcomes += more + end
    assert outcomes == []
    _, (volume,) = assembly.tick(state, 2.0)
    assert len(volume.instances) == 10


@pytest.mark.requirement("REQ-HOLES")
def test_holes_wait_for_silence() -> None:
    slices = series(10)
    del slices[4]
    state, _ = feed(START, slices)
    state, outcomes = assembly.association_ended(state, ended())
    assert outcomes == []
    _, (volume,) = assembly.tick(state, 5.0)
    (reason,) = [r for r in volume.reasons if r.code != "acquisition_time_missing"]
    assert reason.code == "missing_slices"
    assert "1 slice(s) missing, after slice 4" in reason.text
    assert volume.status is Status.DEGRADED


@pytest.mark.requirement("REQ-HOLES")
def test_every_second_slice_lost_is_told() -> None:
    """What is left is even: only the thickness says that tissue between was not imaged."""
    state, _ = feed(START, series(20)[::2])
    _, (volume,) = assembly.tick(state, 5.0)
    (reason,) = [r for r in volume.reasons if r.code != "acquisition_time_missing"]
    assert reason.code == "slices_apart"
    assert "5.0 mm apart and 2.5 mm thick" in reason.text
    assert volume.status is Status.DEGRADED


def test_silence_adapts_to_the_sender() -> None:
    state, _ = feed(START, series(10, gap_s=1.0))
    assert assembly.tick(state, 9.0 + 2.5)[1] == []
    assert len(assembly.tick(state, 9.0 + 3.5)[1]) == 1


def test_the_announced_count_completes_at_once() -> None:
    _, outcomes = feed(START, series(6, expected=6))
    assert [v.completed_by for v in volumes(outcomes)] == ["expected_count"]
    _, outcomes = feed(START, series(6, expected=1))  # some count the images of a rotation
    assert outcomes == []


def test_the_next_scan_like_the_last_completes_at_its_last_slice() -> None:
    state, _ = feed(START, series(8))
    state, _ = assembly.tick(state, 9.0)
    state, outcomes = feed(state, series(8, name="b", series="S2", mono_s=60.0))
    assert [v.completed_by for v in volumes(outcomes)] == ["expected_count"]


def test_a_part_that_was_revised_is_no_pattern_for_the_next() -> None:
    state, _ = feed(START, series(8)[:5])
    state, _ = assembly.tick(state, 3.0)
    state, _ = feed(state, series(8)[5:])
    state, (whole,) = assembly.tick(state, 9.0)
    assert whole.volume_id == "v001r2"
    state, outcomes = feed(state, series(8, name="b", series="S2", mono_s=60.0))
    assert [len(v.instances) for v in volumes(outcomes)] == [8]


def test_a_shorter_scan_is_no_pattern_for_a_longer_one() -> None:
    state = START
    for scan, count in enumerate([5, 8]):
        slices = series(count, name=f"{scan}-", series=f"S{scan}", mono_s=60.0 * scan)
        state, _ = assembly.tick(feed(state, slices)[0], 60.0 * scan + 9.0)
    state, outcomes = feed(state, series(8, name="b", series="S9", mono_s=200.0))
    assert [len(v.instances) for v in volumes(outcomes)] == [8]


@pytest.mark.requirement("REQ-HOLES")
def test_a_recurring_position_begins_the_next_pass() -> None:
    state, _ = feed(START, series(5))
    state, outcomes = feed(state, series(5, name="b", mono_s=1.0))
    assert [(v.volume_id, v.completed_by) for v in volumes(outcomes)] == [
        ("v001", "next_pass"),
        ("v002", "expected_count"),
    ]
    assert [i.sop_instance_uid[0] for v in volumes(outcomes) for i in v.instances] == [
        *"aaaaabbbbb"
    ]


def test_fluoroscopy_makes_volumes_of_few_slices() -> None:
    state, outcomes = START, []
    for shot in range(5):
        state, more = feed(state, series(3, name=f"{shot}-", mono_s=shot * 0.5, gap_s=0.12))
        outcomes += more
    state, more = assembly.tick(state, 10.0)
    assert [len(v.instances) for v in volumes(outcomes + more)] == [3] * 5


def test_minutes_later_is_another_pass_even_elsewhere() -> None:
    state, _ = feed(START, series(4, acquired_utc_s=1000.0))
    state, outcomes = feed(
        state, series(4, name="b", spacing_mm=2.4, acquired_utc_s=1300.0, mono_s=1.0)[1:]
    )
    assert [len(v.instances) for v in volumes(outcomes)] == [4]
    assert state.pending == 3


def test_acquisition_number_does_not_split() -> None:
    slices = [replace(s, acquisition_number=k) for k, s in enumerate(series(6))]
    _, (volume,) = assembly.association_ended(feed(START, slices)[0], ended())
    assert len(volume.instances) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"series_uid": "S2"},
        {"kernel": "B60"},
        {"image_type": ("DERIVED", "PRIMARY", "AXIAL")},
        {"pixel_spacing_mm": (0.9, 0.9)},
        {"frame_of_reference_uid": "F2"},
        {"row_direction": np.array([0, 1.0, 0]), "column_direction": np.array([0, 0, -1.0])},
        {"hu": np.zeros((3, 3), np.int16)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_what_splits(change: dict[str, object]) -> None:
    other = [replace(s, **change) for s in series(4, name="b", mono_s=0.01)]
    mixed = [s for pair in zip(series(4), other, strict=True) for s in pair]
    _, outcomes = assembly.finish(feed(START, mixed)[0])
    groups = [{i.sop_instance_uid[0] for i in v.instances} for v in volumes(outcomes)]
    in_volumes = sum(len(v.instances) for v in volumes(outcomes))
    assert {"a"} in groups
    assert all(len(g) == 1 for g in groups)
    assert in_volumes + len(codes(outcomes)) == 8


# ------------------------------------------------------------------ late and lonely


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_late_slice_makes_a_revision() -> None:
    slices = series(6)
    state, _ = feed(START, slices[:5])
    state, (first,) = assembly.tick(state, 3.0)
    state, _ = feed(state, slices[5:])
    assert state.pending == 1
    _, (second,) = assembly.tick(state, 9.0)
    assert (first.volume_id, second.volume_id) == ("v001", "v001r2")
    assert len(second.instances) == 6


def test_a_late_slice_goes_to_the_pass_of_its_time() -> None:
    """The last slice of a scan, sent after the next scan of the series has begun."""
    first = series(6, acquired_utc_s=1000.0)
    second = series(6, name="b", acquired_utc_s=1300.0, mono_s=100.0)
    state, outcomes = feed(START, [*first[:5], *second[:3], first[5], *second[3:]])
    outcomes += assembly.tick(state, 200.0)[1]
    latest = {v.volume_id[:4]: v for v in volumes(outcomes)}
    assert [len(latest[n].instances) for n in ("v001", "v002")] == [6, 6]
    assert {i.sop_instance_uid[0] for i in latest["v001"].instances} == {"a"}


def test_a_late_slice_that_does_not_fit_leaves_the_volume_alone() -> None:
    state, _ = feed(START, series(5))
    state, (volume,) = assembly.tick(state, 3.0)
    state, _ = assembly.add_slice(state, ct_slice("x", 30.0, at_mm=(5.0, 0.0), mono_s=4.0))
    state, (rejected,) = assembly.tick(state, 20.0)
    assert isinstance(rejected, Rejected)
    assert (rejected.instance.sop_instance_uid, rejected.reason.code) == (
        "x",
        "slice_astray",
    )
    assert state.pending == 0
    assert len(volume.instances) == 5


def test_a_single_slice_waits_then_is_rejected_and_may_come_again() -> None:
    slices = series(5)
    state, _ = feed(START, slices[:1])
    assert assembly.tick(state, 4.0)[1] == []
    state, outcomes = assembly.tick(state, 6.0)
    assert codes(outcomes) == ["single_slice"]
    _, (volume,) = assembly.association_ended(feed(state, slices)[0], ended())
    assert len(volume.instances) == 5


def test_the_end_leaves_nothing_pending() -> None:
    state, _ = feed(START, [*series(3), ct_slice("x", 0.0, series="S2")])
    state, outcomes = assembly.finish(state)
    assert [v.completed_by for v in volumes(outcomes)] == ["end"]
    assert codes(outcomes) == ["incomplete_at_end"]
    assert state.pending == 0


# ------------------------------------------------------------------ admission


@pytest.mark.requirement("REQ-PATIENT")
def test_another_patient_is_turned_away_with_both_ids() -> None:
    _, (rejected,) = assembly.add_slice(START, ct_slice("x", 0.0, patient="P2"))
    assert rejected.reason.code == "patient_mismatch"
    assert rejected.mismatch == ("P1", "P2")
    assert "'P1'" in rejected.reason.text
    assert "'P2'" in rejected.reason.text


@pytest.mark.requirement("REQ-FRAME")
def test_the_baseline_fixes_the_frame_of_reference_of_what_is_pending_too() -> None:
    state, _ = feed(START, series(4, name="b", series="S2", frame="G"))
    state = assembly.expecting(state, replace(state.expectation, frame_of_reference_uid="F"))
    _, (rejected,) = assembly.add_slice(state, ct_slice("x", 0.0, frame="G"))
    assert rejected.mismatch == ("F", "G")
    _, outcomes = assembly.tick(state, 9.0)
    assert codes(outcomes) == ["frame_of_reference_mismatch"] * 4


def test_duplicates_and_reused_identifiers() -> None:
    state, _ = feed(START, series(2))
    _, outcomes = feed(state, [*series(1), ct_slice("a0", 0.0, sha="other")])
    assert codes(outcomes) == ["duplicate_instance", "uid_reused"]


# ------------------------------------------------------------------ geometry and time


def test_the_acquisition_time_is_its_middle() -> None:
    slices = [replace(s, acquired_utc_s=100.0 + k) for k, s in enumerate(series(5))]
    _, (volume,) = assembly.finish(feed(START, slices)[0])
    assert (volume.acquired_utc_s, volume.status, volume.reasons) == (102.0, Status.OK, ())


def test_without_acquisition_time_the_first_arrival_counts() -> None:
    _, (volume,) = assembly.finish(feed(START, series(5, mono_s=7.0))[0])
    assert volume.acquired_utc_s == 7.0
    assert [r.code for r in volume.reasons] == ["acquisition_time_missing"]
    assert volume.status is Status.DEGRADED


def test_tilted_slices_keep_their_places() -> None:
    slices = [ct_slice(f"a{k}", 2.0 * k, at_mm=(0.0, 0.7 * k), value=k) for k in range(6)]
    _, (volume,) = assembly.finish(feed(START, slices[::-1])[0])
    expected = [s.position_lps_mm for s in slices]
    np.testing.assert_allclose(volume.geometry.slice_positions_lps_mm(), expected, atol=1e-9)
    assert volume.geometry.tilt_deg == pytest.approx(np.degrees(np.arctan2(0.7, 2.0)))


def test_slices_off_their_line_are_rejected() -> None:
    slices = [ct_slice(f"a{k}", 2.0 * k, at_mm=(0.2 * (k in (1, 2)), 0.0)) for k in range(5)]
    _, outcomes = assembly.finish(feed(START, slices)[0])
    assert codes(outcomes) == ["slices_not_collinear"] * 5


@pytest.mark.requirement("REQ-SCAN-UNUSABLE")
@pytest.mark.parametrize("where", [0, 7, 19])
@pytest.mark.parametrize("at_mm", [(0.2, 0.0), (0.0, -9000.0)])
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_one_slice_elsewhere_does_not_cost_the_scan(
    where: int, at_mm: tuple[float, float], tilt: float
) -> None:
    x, y = at_mm
    slices = [
        ct_slice(f"a{k}", 2.0 * k, at_mm=(x * (k == where), y * (k == where) + tilt * k))
        for k in range(20)
    ]
    state, outcomes = assembly.finish(feed(START, slices)[0])
    volume, rejected = outcomes
    assert isinstance(volume, CtVolume)
    assert isinstance(rejected, Rejected)
    assert (rejected.instance.sop_instance_uid, rejected.reason.code) == (
        f"a{where}",
        "slice_astray",
    )
    assert len(volume.instances) == 19
    assert volume.status is Status.DEGRADED
    assert "slice_astray" in [r.code for r in volume.reasons]
    assert state.pending == 0
    # What was left out may come again, in its place.
    right = ct_slice(f"a{where}", 2.0 * where, at_mm=(0.0, tilt * where), mono_s=1.0)
    _, (whole,) = assembly.finish(assembly.add_slice(state, right)[0])
    assert len(whole.instances) == 20
    assert [r.code for r in whole.reasons] == ["acquisition_time_missing"]


@pytest.mark.requirement("REQ-HOLES")
def test_uneven_gaps_are_said() -> None:
    slices = [ct_slice(f"a{k}", z) for k, z in enumerate([0.0, 2.5, 5.0, 6.1, 11.0])]
    _, (volume,) = assembly.finish(feed(START, slices)[0])
    assert "variable_slice_gap" in [r.code for r in volume.reasons]


# ------------------------------------------------------------------ the invariant

_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("slice"), st.integers(0, 2), st.integers(0, 7), st.integers(0, 1)),
        st.tuples(st.just("again"), st.integers(0, 60)),
        st.tuples(st.just("other patient"), st.integers(0, 7)),
        st.tuples(st.just("odd"), st.integers(0, 2), st.integers(0, 7)),
        st.tuples(st.just("end"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 2.0, 6.0, 90.0])),
        st.tuples(st.just("frame"), st.sampled_from(["F", "G"])),
    ),
    max_size=80,
)


@pytest.mark.requirement("REQ-EVERY-SLICE")
@settings(max_examples=150, deadline=None)
@given(_EVENTS, st.booleans())
def test_every_slice_ends_in_one_volume_or_one_rejection(events, stamped: bool) -> None:
    state, outcomes, given_slices, now_s = START, [], [], 0.0
    for number, event in enumerate(events):
        more: list[Outcome] = []
        now_s += 0.01
        if event[0] == "wait":
            now_s += event[1]
            state, more = assembly.tick(state, now_s)
        elif event[0] == "end":
            state, more = assembly.association_ended(state, ended(event[1], event[2]))
        elif event[0] == "frame":
            if state.expectation.frame_of_reference_uid is None and number > 40:
                state = assembly.expecting(
                    state, replace(state.expectation, frame_of_reference_uid=event[1])
                )
        else:
            new = _event_slice(event, number, now_s, stamped, given_slices)
            given_slices.append(new)
            state, more = assembly.add_slice(state, new)
        outcomes += more
        _check(state, given_slices, outcomes)
    state, more = assembly.finish(state)
    outcomes += more
    assert state.pending == 0
    _check(state, given_slices, outcomes)


def _event_slice(event, number: int, now_s: float, stamped: bool, before: list[CtSlice]) -> CtSlice:
    """Unique by ``received_utc_s``, so that a duplicate counts as a reception of its own."""
    if event[0] == "again" and before:
        old = before[event[1] % len(before)]
        return replace(
            old, instance=replace(old.instance, received_mono_s=now_s, received_utc_s=now_s)
        )
    kind = event[1] if event[0] in ("slice", "odd") else 0
    return ct_slice(
        f"u{number}",
        2.5 * event[-2 if event[0] == "slice" else -1],
        series=f"S{kind}",
        frame="G" if kind == 2 else "F",
        mono_s=now_s,
        association=number % 4,
        patient="P2" if event[0] == "other patient" else "P1",
        acquired_utc_s=now_s if stamped else None,
        expected=4 if event[-1] == 1 else None,
        at_mm=(3.0, 0.0) if event[0] == "odd" else (0.0, 0.0),
    )


def _check(state: AssemblyState, given_slices: list[CtSlice], outcomes: list[Outcome]) -> None:
    """In a latest volume, rejected, or pending; never two of these."""
    latest: dict[str, CtVolume] = {}
    for v in volumes(outcomes):
        number = v.volume_id.split("r")[0]
        if number in latest:  # a revision never loses a slice
            assert set(latest[number].instances) < set(v.instances)
        latest[number] = v
    ends = Counter(i for v in latest.values() for i in v.instances)
    ends += Counter(o.instance for o in outcomes if isinstance(o, Rejected))
    assert set(ends.values()) <= {1}
    assert len(ends) + state.pending == len(given_slices)
