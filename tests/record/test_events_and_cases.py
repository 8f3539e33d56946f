"""What comes in is read back equal; a case in the record stands on its own. Seconds, LPS mm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import AssociationEnded, Instance
from monitor.record.cases import keep_case
from monitor.record.events import Message, input_line, is_input, message_of
from monitor.record.journal import FORMAT_VERSION, Journal, RecordError, plain
from monitor.record.reading import read_journal
from monitor.record.store import Store
from monitor.state import Ending, ForecastDue, OperatorAct, Tick
from tests.replay.recorded import ScriptedClock, bowel

# Clocks are read to the microsecond, as the journal keeps them.
SECONDS = st.floats(0.0, 4e9).map(lambda s: round(s, 6))
TEXT = st.text(max_size=20)
MESSAGES = st.one_of(
    st.builds(Instance, TEXT, TEXT, TEXT, TEXT, TEXT, st.integers(0, 99), TEXT, SECONDS, SECONDS),
    st.builds(AssociationEnded, st.integers(0, 99), st.booleans(), st.integers(0, 999), SECONDS),
    st.builds(Tick, SECONDS, SECONDS),
    st.builds(OperatorAct, TEXT, SECONDS, st.none(), st.none() | st.just({"path": "cases/001"})),
    st.builds(ForecastDue, SECONDS),
    st.builds(Ending, SECONDS),
)


@given(MESSAGES)
def test_what_came_in_is_read_back_equal(message: Message) -> None:
    kind, fields = input_line(message)
    read = json.loads(json.dumps(plain({"kind": kind, **fields}), allow_nan=False))
    assert is_input(kind, read)
    assert message_of(kind, read) == message


def test_an_act_that_was_refused_is_no_input() -> None:
    assert not is_input("operator", {"act": "reload", "refused": "case.toml: 1 problem(s)"})


def test_a_line_that_lacks_a_field_names_it() -> None:
    with pytest.raises(TypeError, match="now_mono_s"):
        message_of("tick", {"now_utc_s": 1.0})


@pytest.mark.requirement("REQ-RECORD")
def test_a_line_that_the_disk_does_not_take_is_written_when_it_does(tmp_path: Path) -> None:
    """On a full disk (``/dev/full``), then with room again."""
    journal = Journal(tmp_path, ScriptedClock())  # type: ignore[arg-type]
    journal.write("a")
    whole, journal._file = journal._file, os.open("/dev/full", os.O_RDWR)
    for kind in "bc":
        with pytest.raises(RecordError, match="No space left"):
            journal.write(kind)
    os.close(journal._file)
    journal._file = whole
    journal.write("d")
    lines = [json.loads(x) for x in journal.path.read_text().splitlines()]
    assert [(x["seq"], x["kind"]) for x in lines] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


@pytest.mark.requirement("REQ-RECORD")
def test_what_the_disk_does_not_take_to_the_end_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    journal = Journal(tmp_path, ScriptedClock())  # type: ignore[arg-type]
    journal.write("a")
    os.close(journal._file)
    journal._file = os.open("/dev/full", os.O_RDWR)
    for kind in "bc":
        with pytest.raises(RecordError):
            journal.write(kind)
    rest = journal.close()
    assert rest is not None
    assert rest.parent == elsewhere
    assert rest.stat().st_mode & 0o077 == 0
    with journal.path.open("ab") as whole:  # as the operator is told to
        whole.write(rest.read_bytes())
    lines = [json.loads(x) for x in journal.path.read_text().splitlines()]
    assert [(x["seq"], x["kind"]) for x in lines] == [(1, "a"), (2, "b"), (3, "c")]
    again = Journal(tmp_path, ScriptedClock(), resume=True)  # type: ignore[arg-type]
    assert again.close() is None
    broken = Journal(tmp_path, ScriptedClock(), resume=True)  # type: ignore[arg-type]
    os.close(broken._file)
    broken._file = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(RecordError):
        broken.write("d")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(RecordError, match="1 line"):
        broken.close()


@pytest.mark.requirement("REQ-RECORD")
def test_what_a_disk_that_became_read_only_had_not_synced_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/dev/full`` cannot be synced either. Of what is appended later the journal may have some already."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    journal = Journal(tmp_path, ScriptedClock())  # type: ignore[arg-type]
    journal.write("procedure_started", format_version=FORMAT_VERSION)
    for kind in ("instance_received", "tick"):
        journal.write(kind)
    os.close(journal._file)
    journal._file = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(RecordError):
        journal.write("operator")
    rest = journal.close()
    assert rest is not None
    kinds = ["instance_received", "tick", "operator"]
    assert [json.loads(x)["kind"] for x in rest.read_text().split("\n") if x] == kinds
    with journal.path.open("r+b") as disk:  # what an unsynced line may come to
        disk.truncate(journal.path.read_bytes().rindex(b'{"seq": 3'))
        disk.seek(0, os.SEEK_END)
        disk.write(bytes(126) + rest.read_bytes())
    lines = read_journal(tmp_path, lambda finding: pytest.fail(str(finding)))
    assert [x.kind for x in lines] == ["procedure_started", *kinds]


def test_fields_go_on_where_nothing_can_be_deleted(tmp_path: Path) -> None:
    """A file's folder that has become a file stands for a disk that is read-only."""
    scratch, spare = tmp_path / "scratch", tmp_path / "spare"
    store = Store(tmp_path, scratch, 2, spare)
    store.keep_field("ice", np.zeros(3))
    (scratch / "00001_ice.npy").rename(tmp_path / "away.npy")
    scratch.rmdir()
    scratch.touch()
    for number in range(5):
        assert np.load(store.keep_field("ice", np.full(3, number)).path)[0] == number
    assert len(list(spare.iterdir())) == 2  # and no more memory is taken for them


@pytest.mark.requirement("REQ-RECORD")
def test_what_the_disk_took_of_a_line_before_it_was_full_is_cut_off(tmp_path: Path) -> None:
    """A file that may not grow beyond the middle of the next line stands for the disk."""
    code = """
import resource, signal, sys
from pathlib import Path
from monitor.record.journal import Journal, RecordError
from tests.replay.recorded import ScriptedClock
record = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(record, ScriptedClock())
journal.write("a")
size = journal.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))
try:
    journal.write("b", text="x" * 100)
except RecordError:
    assert journal.path.stat().st_size == size
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    journal.write("c")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    lines = [json.loads(x) for x in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(x["seq"], x["kind"]) for x in lines] == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.requirement("REQ-RESUME")
@pytest.mark.parametrize("torn", [b"", b'{"seq": 3, "at": "2026-1', b"\xff\xfe"])
def test_a_journal_is_gone_on_with_after_its_last_whole_line(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path, ScriptedClock())  # type: ignore[arg-type]
    for kind in "ab":
        journal.write(kind)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(torn)
    again = Journal(tmp_path, ScriptedClock(), resume=True)  # type: ignore[arg-type]
    assert again.torn == len(torn)
    assert again.write("c") == 3
    again.close()
    lines = [json.loads(x) for x in journal.path.read_text().splitlines()]
    assert [(x["seq"], x["kind"]) for x in lines] == [(1, "a"), (2, "b"), (3, "c")]


# ------------------------------------------------------------------ cases


def given_case(folder: Path, text: str) -> Path:
    for name in ("plan", "other", "case", "record"):
        (folder / name).mkdir()
    (folder / "plan" / "rt.dcm").write_bytes(b"one")
    (folder / "other" / "rt.dcm").write_bytes(b"another")
    bowel(folder / "plan" / "mask.mhd")
    case = folder / "case" / "my case.toml"
    case.write_text(text, encoding="utf-8")
    return case


def test_a_kept_case_says_the_same_and_names_copies_beside_it(tmp_path: Path) -> None:
    text = """# as an operator writes it
language = "fr"
patient = { id = 'a"\\b', label = "Ünïcode\\u007f" }
lesion = { file = "../plan/rt.dcm", roi = 3 }
structure = [
  { name = "bowel", file = "../plan/rt.dcm", limit_mm = 5.0 },
  { name = "skin", file = "../other/rt.dcm" },
  { name = "nerve", file = "../plan/mask.mhd" },
  { name = "ball", centre_lps_mm = [1e-7, -2.5, 1e22], radius_mm = 3 },
]
[protocol]
phases = [{ kind = "freeze", minutes = 10 }]
[listener]
port = 0
allowed_peers = []
"""
    case = given_case(tmp_path, text)
    record = tmp_path / "record"
    kept = keep_case(record, case)
    assert kept.path == "cases/001/case.toml"
    folder = record / "cases" / "001"
    assert (folder / "given.toml").read_text(encoding="utf-8") == text
    expected = tomllib.loads(text)
    expected["lesion"]["file"] = expected["structure"][0]["file"] = "1_rt.dcm"
    expected["structure"][1]["file"] = "2_rt.dcm"
    expected["structure"][2]["file"] = "3_mask.nrrd"
    assert tomllib.loads((folder / "case.toml").read_text(encoding="utf-8")) == expected
    assert (folder / "1_rt.dcm").read_bytes() == b"one"
    assert (folder / "2_rt.dcm").read_bytes() == b"another"
    assert set(kept.sha256) == {str(p.relative_to(record)) for p in folder.iterdir()}


@pytest.mark.requirement("REQ-RECORD")
def test_each_version_is_kept(tmp_path: Path) -> None:
    case = given_case(tmp_path, 'lesion = { file = "../plan/rt.dcm" }\n')
    first = keep_case(tmp_path / "record", case)
    (tmp_path / "plan" / "rt.dcm").write_bytes(b"edited")
    second = keep_case(tmp_path / "record", case)
    assert (first.path, second.path) == ("cases/001/case.toml", "cases/002/case.toml")
    assert (tmp_path / "record" / "cases" / "001" / "1_rt.dcm").read_bytes() == b"one"
    assert (tmp_path / "record" / "cases" / "002" / "1_rt.dcm").read_bytes() == b"edited"


def test_a_case_that_cannot_be_kept_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    case = given_case(tmp_path, 'lesion = { file = "../plan/rt.dcm" }\n')
    os.unlink(tmp_path / "plan" / "rt.dcm")
    with pytest.raises(RecordError, match=r"plan/rt\.dcm: No such file"):
        keep_case(tmp_path / "record", case)
