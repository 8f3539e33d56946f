"""Checkpoints: read back equal, passed over when damaged, unable to call anything."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.record import checkpoints
from monitor.record.checkpoints import Checkpoint, Checkpoints
from monitor.state import Line, OperatorAct

STATE = (OperatorAct("next", 1.5, params={"a": 1}), np.arange(6.0).reshape(2, 3), Path("x"))


def written(record: Path, *seqs: int) -> None:
    for seq in seqs:
        checkpoints.write(record, Checkpoint(seq, seq, "cases/001/case.toml", (seq, *STATE)))


def found(record: Path) -> tuple[list[int], list[str]]:
    told: list[str] = []
    return [c.seq for c in checkpoints.read(record, told.append)], told


@pytest.mark.requirement("REQ-RESUME")
def test_what_was_known_is_read_back_and_only_the_two_newest_stay(tmp_path: Path) -> None:
    written(tmp_path, 3, 20, 100)
    assert found(tmp_path) == ([100, 20], [])
    newest = next(checkpoints.read(tmp_path, lambda _: None))
    seq, act, array, path = newest.known
    assert (seq, act, path, newest.case) == (100, STATE[0], STATE[2], "cases/001/case.toml")
    np.testing.assert_array_equal(array, STATE[1])
    checkpoints.remove(tmp_path)
    assert found(tmp_path) == ([], [])
    assert not (tmp_path / checkpoints.FOLDER).exists()


@pytest.mark.requirement("REQ-RESUME")
def test_a_damaged_one_is_passed_over_wherever_the_damage_is(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    path = tmp_path / checkpoints.FOLDER / "00000002.state"
    whole = path.read_bytes()
    for at in (0, 10, whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        path.write_bytes(spoilt)
        seqs, told = found(tmp_path)
        assert seqs == [1], at
        assert told[0].startswith("checkpoints/00000002.state: ")
        path.write_bytes(whole[:at])
        assert found(tmp_path)[0] == [1], at
    path.write_bytes(whole)
    assert found(tmp_path)[0] == [2, 1]


@pytest.mark.requirement("REQ-RESUME")
def test_one_of_another_version_of_the_program_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 1)
    monkeypatch.setattr(checkpoints, "code_hash", lambda: "another")
    seqs, told = found(tmp_path)
    assert seqs == []
    assert "another version" in told[0]


def test_a_volume_is_named_and_not_copied(tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()
    path = tmp_path / "volumes" / "v001.npy"
    np.save(path, np.arange(100_000, dtype=np.int16))
    volume = np.load(path, mmap_mode="r")
    elsewhere = tmp_path / "v002.npy"
    np.save(elsewhere, np.arange(5, dtype=np.int16))
    known = (volume, np.load(elsewhere, mmap_mode="r"))
    checkpoints.write(tmp_path, Checkpoint(1, 1, "", known))
    (state,) = (tmp_path / checkpoints.FOLDER).iterdir()
    assert state.stat().st_size < 10_000
    elsewhere.unlink()
    again = next(checkpoints.read(tmp_path, lambda _: None)).known
    np.testing.assert_array_equal(again[0], volume)
    assert again[0].filename == path
    np.testing.assert_array_equal(again[1], np.arange(5))


class Calls:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("true",)


@dataclass
class Foreign:
    """A dataclass, but none of the program's."""

    x: int = 1


@pytest.mark.requirement("REQ-HOSTILE-FILES")
@pytest.mark.parametrize("what", [Calls(), Foreign(), print, Line, pickle.Unpickler])
def test_what_is_no_data_of_the_program_is_not_read(tmp_path: Path, what: Any) -> None:
    checkpoints.write(tmp_path, Checkpoint(1, 1, "", what))
    seqs, told = found(tmp_path)
    if what is Line:  # the name of one of the program's dataclasses is harmless
        assert seqs == [1]
    else:
        assert seqs == []
        assert "does not belong into a checkpoint" in told[0]


def test_the_writer_keeps_the_newest_and_tells_what_fails(tmp_path: Path) -> None:
    failed: list[Exception] = []
    writer = Checkpoints(tmp_path, failed.append)
    for seq in range(1, 30):
        writer.take(Checkpoint(seq, seq, "", STATE))
    writer.close()
    assert found(tmp_path)[0][0] == 29
    assert not failed
    broken = Checkpoints(tmp_path / "nowhere", failed.append)
    broken.take(Checkpoint(1, 1, "", STATE))
    broken.close()
    assert isinstance(failed[0], OSError)
