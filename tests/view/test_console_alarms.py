"""What the console says of alarms and of whom, beside the room's screen: the same. No units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from console_desk import Desk

from monitor.model import Alarm, Priority
from monitor.snapshot import Snapshot
from monitor.view.translations import text
from monitor.view.viewmodel import Inputs, screen_model


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_alarm_that_is_over_is_not_told_as_if_it_stood(
    language: str, full: Snapshot, desk: Callable[..., Desk]
) -> None:
    standing = Alarm("core_silent", Priority.HIGH, 0.0)
    over = replace(standing, latched=True)
    said = []
    for alarm in (standing, over):
        d = desk(replace(full, alarms=(alarm,)), language)
        ((_, label, _),) = d.window.alarms._rows.values()
        said.append(label.text())
    before = text(language, "alarm_over", sentence="")
    assert before not in said[0]
    assert before in said[1]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_of_nobody_the_room_says_so_in_its_language(language: str, normal: Snapshot) -> None:
    nobody = replace(normal, patient_label="")
    model = screen_model(Inputs(nobody, normal.now_utc_s, 0.0, language))
    assert model.patient == text(language, "no_patient")
