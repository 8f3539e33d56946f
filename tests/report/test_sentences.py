"""What alarms, acts and events are called in a report."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.record.account import ActAccount, AlarmAccount, Event, ScanAccount, account
from monitor.record.reading import JournalLine
from monitor.report.content import reasons_of
from monitor.report.sentences import act_text, alarm_text, event_text, rejection_text
from monitor.view.translations_report import ENGLISH, FRENCH


def line(seq: int, kind: str, **fields: Any) -> JournalLine:
    return JournalLine(seq + 1, seq, 1.8e9 + 60.0 * seq, kind, fields)


def near(distance_mm: str, at_least_mm: str) -> dict[str, str]:
    return {
        "name": "skin", "distance_mm": distance_mm, "at_least_mm": at_least_mm, "limit_mm": "3.0",
    }  # fmt: skip


def raised(lines: list[JournalLine]) -> tuple[AlarmAccount, ...]:
    return account([line(0, "procedure_started"), *lines], pytest.fail).alarms


def test_an_alarm_is_said_as_it_came_and_as_it_was_at_last() -> None:
    def up(seq: int, *mm: str) -> JournalLine:
        return line(seq, "alarm_raised", code="structure_near", priority="high", params=near(*mm))

    (alarm,) = raised([up(1, "5.1", "2.3"), up(2, "3.0", "0.4"), up(3, "1.1", "-1.4")])
    said = alarm_text(alarm, "en")
    assert said.index("5.1") < said.index("08:03:00") < said.index("1.1 mm")
    assert "3.0 mm)" in said
    assert "0.4" not in said  # between the two
    (unchanged,) = raised([up(1, "5.1", "2.3"), up(2, "5.1", "2.3")])
    assert ";" not in alarm_text(unchanged, "fr")


@pytest.mark.parametrize(
    ("act", "english", "french"),
    [
        (ActAccount(0.0, "needle", {"number": 2, "duty": 0.5}),
         "needle set: needle 2 at 50\u00a0%", "sonde réglée\u00a0: sonde 2 à 50\u00a0%"),
        (ActAccount(0.0, "what_if", {"duty": {"1": 0.0}, "remaining_s": 90.0}),
         "question: what if: needle 1 at 0\u00a0%, 01:30 more of this phase",
         "question : et si\u00a0: sonde 1 à 0\u00a0%, encore 01:30 de cette phase"),
        (ActAccount(0.0, "correct_ice", {"volume_id": "v003", "path": "x.nii.gz", "sha256": "5"}),
         "ice drawn in place of the measured: v003", "glace dessinée à la place de la mesure\u00a0: v003"),
        (ActAccount(0.0, "what_if", {"duty": "much", "remaining_s": -1, "why": "so"}),
         "question: what if: needle ? at much, -1 more of this phase, why so",
         "question : et si\u00a0: sonde ? à much, encore -1 de cette phase, why so"),
        (ActAccount(0.0, "dance", {}), "dance", "dance"),
    ],
)  # fmt: skip
def test_an_act_is_said_in_words(act: ActAccount, english: str, french: str) -> None:
    assert act_text(act, "en") == english
    assert act_text(act, "fr") == french


def test_why_an_act_was_refused_is_in_the_readers_language() -> None:
    refused = ActAccount(0.0, "correct_ice", {}, "no scan has been measured yet")
    assert act_text(refused, "en").endswith("no scan has been measured yet")
    assert "no scan" not in act_text(refused, "fr")


def test_what_the_machine_did_is_said_in_words() -> None:
    event = Event(0.0, "images_refused", {"peer": "CT@1", "reason": "image_disk", "port": 1})
    assert event_text(event, "fr").endswith(
        "(appareil\u00a0: CT@1, raison\u00a0: le disque ne peut être écrit)"
    )
    away = {"peer": "CT@1", "reason": "called 'X'", "shut_out": "peer_called_title"}
    assert "called 'X'" not in event_text(Event(0.0, "association_refused", away), "en")
    silent = {
        "peer": "CT@1",
        "reason": "it was silent, and so on",
        "code": "peer_silent",
        "untold": 7,
    }
    said = event_text(Event(0.0, "association_refused", silent), "fr")
    assert said.endswith(
        "(appareil\u00a0: CT@1, raison\u00a0: il se taisait, et a cédé sa place à une association "
        "plus récente, non dites auparavant\u00a0: 7)"
    )
    assert event_text(Event(0.0, "burnt", {}), "en") == "burnt"
    resumed = event_text(Event(0.0, "procedure_resumed", {"down_s": 1.393387}), "fr")
    assert resumed.endswith("(absence, s\u00a0: 1)")


def test_how_long_nobody_watched_is_one_figure() -> None:
    def restarted(seq: int, seconds: str) -> JournalLine:
        params = {"seconds": seconds}
        return line(seq, "alarm_raised", code="restarted", priority="high", params=params)

    told = account(
        [
            line(0, "procedure_started"),
            line(1, "procedure_resumed", down_s=1.4),
            restarted(2, "4"),  # until it had caught up
            line(3, "procedure_resumed", down_s=7.2),
            line(4, "procedure_resumed", down_s=2.0),
            restarted(5, "9"),
        ],
        pytest.fail,
    )
    assert [e.fields["down_s"] for e in told.events] == [4.0, 7.2, 9.0]
    assert event_text(told.events[0], "en").endswith("(seconds away: 4)")


def test_why_an_image_was_rejected_is_in_the_readers_language() -> None:
    scout = {"reason": "localizer", "text": "A localizer (scout) is not part of a volume."}
    event = Event(0.0, "instance_rejected", scout)
    assert rejection_text(event, "fr") == "topogramme (localisateur)"
    unknown = Event(0.0, "instance_rejected", {"reason": "gremlins", "text": "There are gremlins."})
    assert rejection_text(unknown, "fr") == "There are gremlins."


def test_why_a_scan_was_not_measured_is_in_the_readers_language() -> None:
    old = ScanAccount("v002", {}, not_measured="older_than_latest")
    assert reasons_of(old, "en") == ["it is older than the latest scan"]
    assert reasons_of(old, "fr") == ["elle est plus ancienne que la dernière"]


def test_every_word_is_there_in_both_languages() -> None:
    assert ENGLISH.keys() == FRENCH.keys()
