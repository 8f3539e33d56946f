"""What stands side by side in a report belongs together: a figure and its range, a scan and its forecast."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.cli import main
from monitor.record.reading import read_journal
from monitor.report.compared import compared
from monitor.view.formats import NBSP, percent, percent_tenths
from monitor.view.translations import text
from monitor.worked_out import work_out
from tests.replay.recorded import SETTLE, Room


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freeze with two scans of its ice; the procedure ends before the second one's forecast is there."""
    room = Room(tmp_path_factory.mktemp("cut_short"))
    room.first_freeze()
    room.script.append(SETTLE)
    room.wait(60.0)
    room.scan(9.0)
    room.run()
    return room.record


@pytest.fixture
def in_paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_picture_has_its_own_forecast_or_none_and_says_so(record: Path, tmp_path: Path) -> None:
    worked = work_out(record, read_journal(record, pytest.fail), tmp_path).scans
    assert list(worked) == ["v001", "v002", "v003"]
    own, last = worked["v002"], worked["v003"]
    assert own.pictured is own.shown
    assert own.shown.forecast_times_utc_s
    # The room saw the forecast of v002 on.
    assert last.shown.forecast_times_utc_s[0] == own.shown.forecast_times_utc_s[0]
    assert last.pictured.forecast_temperature is None
    assert not last.pictured.forecast_times_utc_s
    assert last.pictured.ice_sdf == last.shown.ice_sdf
    assert not worked["v001"].overtaken  # there was none yet


@pytest.mark.usefixtures("in_paris")
def test_the_page_says_local_times_needle_types_and_what_each_picture_is(
    record: Path, tmp_path: Path
) -> None:
    assert main(["report", str(record), "--out", str(tmp_path), "--language", "fr"]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2027-01-15 08:16:40 UTC ; ici 2027-01-15 09:16:40 (UTC+01:00)" in page
    assert text("fr", "report.times.note.local", offset="UTC+01:00") in page
    assert f"1{NBSP}: icerod_1_5" in page
    captions = re.findall(r"<h3[^>]*>(.*?)</h3>", page)
    no_forecast = text("fr", "report.picture.overtaken")
    assert [no_forecast in c for c in captions] == [False, False, True]
    alts = re.findall(r'<img src="[^"]*" width="\d+" alt="([^"]+)">', page)
    assert len(alts) == page.count("<img") == 5
    assert [a.split("v00")[1][0] for a in alts[2:]] == ["1", "2", "3"]
    assert alts[0].startswith("Graphique")


@pytest.mark.parametrize(
    ("value", "ends", "shown", "inside"),
    [
        (0.9949, (0.9951, 1.0), ("99.5 – 100.0", "99.4"), False),
        (0.99511, (0.99512, 1.0), ("99 – 100", "99"), True),  # as far as the figures tell
        (0.85, (0.9951, 1.0), ("99 – 100", "85"), False),
        (0.991, (0.99, 1.0), ("99 – 100", "99"), True),
        (0.9999, (0.97, 0.9998), ("97 – 99", "99"), True),
        (1.0, (0.97, 0.9998), ("97 – 99", "100"), False),
        (None, (0.97, 0.99), ("97 – 99", "—"), None),
    ],
)
def test_outside_is_only_said_where_the_figures_show_it(
    value: float | None, ends: tuple[float, float], shown: tuple[str, str], inside: bool | None
) -> None:
    c = compared(value, ends, (percent, percent_tenths))
    assert (c.range.replace(f"{NBSP}%", ""), c.value.replace(f"{NBSP}%", "")) == shown
    assert c.inside is inside
