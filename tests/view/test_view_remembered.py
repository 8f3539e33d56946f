"""What a workstation remembers of its windows, and which monitor each belongs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.arguments import parser
from monitor.commands.windows import windows_of
from monitor.view.remembered import Monitors, Remembered, folder, monitors, recall, remember
from monitor.workstation import ScreenOptions


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "iceball"


def test_what_is_remembered_is_recalled(home: Path) -> None:
    assert recall("room") == Remembered()
    kept = Remembered(1, "fr", True, None, (10, 20, 800, 600))
    remember("room", kept)
    assert recall("room") == kept
    assert recall("console") == Remembered()
    assert [p.name for p in home.iterdir()] == ["room.json"]


@pytest.mark.parametrize(
    "written",
    ["", "[]", "{", '{"monitor": -1, "language": "de", "simple": 1, "box": [1, 2, 3], "show": "wall"}',
     '{"monitor": true, "box": [0, 0, 50, 50]}'],
)  # fmt: skip
def test_what_is_broken_is_forgotten(home: Path, written: str) -> None:
    home.mkdir()
    (home / "room.json").write_text(written, encoding="utf-8")
    assert recall("room") == Remembered()


def test_a_home_that_cannot_be_written_to_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember("room", Remembered(1))
    assert recall("room") == Remembered()


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert folder() == Path("/home/somebody/.local/state/iceball")


@pytest.mark.parametrize(
    ("count", "primary", "show", "given", "room", "console", "expected"),
    [
        (1, 0, "both", None, None, None, Monitors(0, 0)),
        (2, 0, "both", None, None, None, Monitors(1, 0)),  # the console where its user sits
        (2, 1, "both", None, None, None, Monitors(0, 1)),
        (2, 0, "both", 0, None, None, Monitors(0, 1)),
        (2, 0, "both", None, 0, 1, Monitors(0, 1)),  # where they were
        (3, 0, "both", 2, None, 1, Monitors(2, 1)),
        (3, 0, "both", 1, 2, 1, Monitors(1, 0)),  # never both on one while there is another
        (2, 0, "both", None, 3, None, Monitors(0, 1, (3,))),  # it was unplugged
        (2, 1, "both", 5, None, None, Monitors(1, 0, (5,))),
        (2, 1, "room", None, None, None, Monitors(1, 1)),
        (2, 0, "room", 1, None, None, Monitors(1, 1)),
        (2, 0, "room", None, 1, None, Monitors(1, 1)),
        (2, 0, "console", None, 1, 0, Monitors(0, 0)),
        (2, 0, "console", 1, None, 0, Monitors(1, 1)),
        (1, 0, "console", 1, None, None, Monitors(0, 0, (1,))),
    ],
)
def test_which_monitor(
    count: int, primary: int, show: str, given: int | None, room: int | None,
    console: int | None, expected: Monitors,
) -> None:  # fmt: skip
    assert monitors(count, primary, show, given, room, console) == expected


def test_what_is_typed_goes_before_the_file_and_the_file_before_what_was_last() -> None:
    def told(*words: str, given: ScreenOptions) -> tuple[str, int | None, float, float]:
        typed = parser().parse_args(["live", *words])
        w = windows_of(typed, given, typed.headless)
        return w.show, w.monitor, w.viewing.diagonal_in, w.viewing.distance_m

    nothing, file = ScreenOptions(), ScreenOptions("both", 1, 800.0, 2000.0)
    assert told(given=nothing) == ("room", None, 55.0, 3.0)
    assert told("--screen", "console", "--headless", given=nothing)[0] == "console"
    assert told(given=nothing)[0] == "room", "a run without windows is not remembered"
    assert told("--screen", "console", given=nothing)[0] == "console"
    assert told(given=nothing)[0] == "console"
    assert told(given=file) == ("both", 1, pytest.approx(31.496, abs=1e-3), 2.0)
    typed = ("--screen", "console", "--monitor", "2", "--diagonal", "43", "--distance", "1.5")
    assert told(*typed, given=file) == ("console", 2, 43.0, 1.5)
    assert told("--screen", "console", given=file)[1] is None, "the file's is the room's monitor"


@pytest.mark.parametrize("number", ["-1", "16", "left"])
def test_a_monitor_has_a_number(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["live", f"--monitor={number}"])
    assert "0 to 15" in capsys.readouterr().err
