"""Whether a rehearsal's machine kept up, from journals as a monitor writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.keeping_up import not_kept_up

BEGAN_UTC_S = 1_800_000_000.0
Line = dict[str, Any]


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(BEGAN_UTC_S + at_s, UTC).isoformat()


def scan(number: int, acquired_s: float, taken_s: float, assessed_s: float) -> list[Line]:
    """Two slices that come at once when they are there, and are taken in and assessed when they are."""
    name, uids = f"v{number:03}", [f"{number}.1", f"{number}.2"]
    slices = [
        {
            "kind": "instance_received",
            "at": iso(taken_s),
            "sop_instance_uid": uid,
            "received_utc_s": BEGAN_UTC_S + acquired_s + 10.0 + k,
        }
        for k, uid in enumerate(uids)
    ]
    completed = {
        "kind": "volume_completed",
        "at": iso(taken_s),
        "volume_id": name,
        "acquired_at": iso(acquired_s),
        "sop_instance_uids": uids,
    }
    return [*slices, completed, {"kind": "assessment", "at": iso(assessed_s), "volume_id": name}]


def freeze(began_s: float, noticed_s: float) -> Line:
    began = BEGAN_UTC_S + began_s
    return {"kind": "phase", "at": iso(noticed_s), "phase": "freeze", "started_utc_s": began}


def alarm(code: str, **params: str) -> Line:
    return {"kind": "alarm_raised", "at": iso(0.0), "code": code, "params": params}


FORECAST = {"kind": "forecast", "at": iso(0.0)}
KEPT_UP = [
    *scan(1, 0.0, 12.0, 15.0),
    freeze(60.0, 61.0),
    FORECAST,
    *scan(2, 180.0, 192.0, 199.0),
    # the forecast lends its times later, when the next scan may have come
    {"kind": "assessment", "at": iso(400.0), "volume_id": "v002"},
    *scan(3, 360.0, 372.0, 380.0),
]


def test_nothing_is_said_where_it_did() -> None:
    assert not_kept_up(KEPT_UP) == []
    assert not_kept_up([]) == []


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        (
            [FORECAST, *scan(2, 180.0, 500.0, 501.0), *scan(3, 360.0, 505.0, 510.0)],
            ["assessed only after the next scan had come: v002"],
        ),
        (
            [*scan(1, 0.0, 12.0, 15.0), *scan(2, 180.0, 192.0, 195.0), freeze(60.0, 300.0), FORECAST],
            ["measured before the monitor began its freeze: v002"],
        ),
        (scan(1, 0.0, 12.0, 15.0), ["no forecast was made"]),
        ([*KEPT_UP, alarm("core_silent")], ["the monitor did not respond in time, 1 time(s)"]),
        (
            [*KEPT_UP, alarm("clock_offset", seconds="41")],
            ["the scanner's clock seemed to differ by 41 s"],
        ),
    ],
)  # fmt: skip
def test_each_sign_is_said(journal: list[Line], said: list[str]) -> None:
    assert not_kept_up(journal) == said


def test_a_demo_at_16_that_looked_like_success() -> None:
    """As it was: all scans had come before the first was taken in; the phases were noticed after the last."""
    journal = [
        alarm("core_silent"),
        alarm("clock_offset", seconds="41"),
        *scan(1, 1700.0, 4197.0, 4197.2),
        *scan(2, 1880.0, 4277.8, 4278.0),
        *scan(3, 2060.0, 4370.4, 4371.0),
        freeze(1768.5, 5906.4),
    ]
    assert not_kept_up(journal) == [
        "assessed only after the next scan had come: v001, v002",
        "measured before the monitor began its freeze: v002, v003",
        "no forecast was made",
        "the monitor did not respond in time, 1 time(s)",
        "the scanner's clock seemed to differ by 41 s",
    ]
