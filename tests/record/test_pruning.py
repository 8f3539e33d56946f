"""Records found, and old ones deleted: what must be kept is kept, whatever happens meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.cli import main
from monitor.clock import ProcedureClock
from monitor.record import checkpoints
from monitor.record.cases import keep_case
from monitor.record.inventory import latest_unfinished, look, records
from monitor.record.journal import FORMAT_VERSION, Journal, RecordError
from monitor.record.pruning import delete, why_kept
from monitor.record.reading import in_use
from monitor.record.running import Running
from monitor.record.spool import Spool
from monitor.record.store import Store
from monitor.record.using import alone
from tests.wire.live import LiveProcess, sphere_case

pytestmark = pytest.mark.requirement("REQ-PRUNING")

LONG_AGO_UTC_S = 1_600_000_000.0
DAY_S = 86400.0
OLDER_THAN_S = 90.0 * DAY_S


def begun(folder: Path, patient_id: str | None = "P1", later_s: float = 0.0) -> Journal:
    folder.mkdir(parents=True)
    clock = ProcedureClock(LONG_AGO_UTC_S + later_s - time.monotonic(), 0.0, 1.0)
    journal = Journal(folder, clock)
    Store(folder, folder.parent)
    journal.write("procedure_started", format_version=FORMAT_VERSION, patient_id=patient_id)
    (folder / "blobs" / "ab.dcm").write_bytes(bytes(1000))
    return journal


def aged(folder: Path) -> Path:
    os.utime(folder / "journal.jsonl", (LONG_AGO_UTC_S + 60.0, LONG_AGO_UTC_S + 60.0))
    return folder


def finished(folder: Path, patient_id: str | None = "P1") -> Path:
    """A record that ended in 2020."""
    journal = begun(folder, patient_id)
    journal.write("procedure_ended", by="request")
    journal.close()
    return aged(folder)


def kept(folder: Path) -> str | None:
    return why_kept(look(folder), time.time(), OLDER_THAN_S)


def append(folder: Path, text: str) -> None:
    with (folder / "journal.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


# ------------------------------------------------------------------ what is kept


def unended(folder: Path) -> None:
    journal = begun(folder)
    journal.close()


def gone_on(folder: Path) -> None:
    """Resumed after its end, and cut off."""
    finished(folder)
    append(folder, '{"seq": 3, "at": "2020-09-13T12:26:40Z", "mono_s": 1.0, "kind": "tick"}\n')


def torn(folder: Path) -> None:
    finished(folder)
    append(folder, '{"seq": 3, "at": "20')


def unreadable_end(folder: Path) -> None:
    finished(folder)
    append(folder, "\0\0\0\0\n")


def another_format(folder: Path) -> None:
    finished(folder)
    path = folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 1'))


def no_beginning(folder: Path) -> None:
    finished(folder)
    (folder / "journal.jsonl").write_bytes(b"")


def stranger(folder: Path) -> None:
    finished(folder)
    (folder / "thesis.odt").write_text("mine")


def a_link(folder: Path) -> None:
    finished(folder)
    (folder.parent / "mine").mkdir()
    (folder / "corrections").symlink_to(folder.parent / "mine")


def holds_another(folder: Path) -> None:
    finished(folder)
    unended(folder / "report" / "inner")


def unsent(folder: Path) -> None:
    finished(folder)
    Spool.of(folder / "spool", "PACS", "pacs.example", 104).add(folder / "blobs" / "ab.dcm")


def refused(folder: Path) -> None:
    unsent(folder)
    spool = Spool.of(folder / "spool", "PACS", "pacs.example", 104)
    spool.refuse(spool.pending()[0], "0xA900")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (unended, "not ended"),
        (gone_on, "not ended"),
        (torn, "not ended"),
        (unreadable_end, "not ended"),
        (another_format, "cannot be read"),
        (no_beginning, "cannot be read"),
        (stranger, "thesis.odt"),
        (a_link, "'corrections' in its folder"),
        (holds_another, "inner"),
        (unsent, "1 object"),
        (refused, "1 object"),
    ],
)
def test_what_is_not_a_finished_record_and_nothing_else_is_kept(
    tmp_path: Path, make: Callable[[Path], None], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "out" / "record"
    make(record)
    aged(record)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    assert why in str(kept(record))
    assert why in str(delete(record, time.time(), OLDER_THAN_S))
    assert main(["records", "prune", str(tmp_path), "--older-than", "90d", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "kept" in said
    assert why in said
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_an_age_is_that_of_the_last_line_or_of_the_file_whichever_is_less(tmp_path: Path) -> None:
    record = finished(tmp_path / "record")
    assert kept(record) is None
    ended_utc_s = look(record).last_utc_s
    assert ended_utc_s == pytest.approx(LONG_AGO_UTC_S + 60.0)
    for older_than_s in (ended_utc_s - 1.0, ended_utc_s, ended_utc_s + 1.0):  # from 1970 on
        assert (why_kept(look(record), 2.0 * ended_utc_s, older_than_s) is None) == (
            older_than_s < ended_utc_s
        )
    assert why_kept(look(record), float("nan"), 0.0) == "it is not that old"
    os.utime(record / "journal.jsonl")
    assert kept(record) == "it is not that old"


def test_a_record_that_is_in_use_is_kept(tmp_path: Path) -> None:
    record = finished(tmp_path / "read")
    with in_use(record):
        assert look(record).in_use
        assert "in use" in str(kept(record))
        assert "in use" in str(delete(record, time.time(), OLDER_THAN_S))
    assert not look(record).in_use
    journal = begun(tmp_path / "written")
    journal.write("procedure_ended", by="request")
    aged(tmp_path / "written")
    assert look(tmp_path / "written").ended
    assert "in use" in str(delete(tmp_path / "written", time.time(), OLDER_THAN_S))
    journal.close()
    assert delete(tmp_path / "written", time.time(), OLDER_THAN_S) is None


def test_nobody_reads_a_record_while_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.record import pruning

    record = finished(tmp_path / "record")

    def during(path: Path) -> None:
        with pytest.raises(RecordError, match="deleting"), in_use(path):
            raise AssertionError("read")

    monkeypatch.setattr(pruning, "_remove", during)
    assert delete(record, time.time(), OLDER_THAN_S) is None


@pytest.mark.parametrize(
    "reads", [["replay"], ["report"], ["export", "--csv", "csv"], ["send", "--to", "A@127.0.0.1:1"]]
)
def test_whoever_reads_a_record_keeps_it_from_being_deleted(
    tmp_path: Path,
    reads: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    record = finished(tmp_path / "record")
    with alone(record / "journal.jsonl") as free:
        assert free
        assert main([reads[0], str(record), *reads[1:]]) == 2
    assert f"{record}/journal.jsonl: somebody is deleting this record" in capsys.readouterr().err


def test_what_a_program_that_was_killed_has_left_does_not_keep_a_record(tmp_path: Path) -> None:
    record = finished(tmp_path / "record")
    (record / checkpoints.FOLDER).mkdir()
    (record / "scratch").mkdir()
    running = Running(record)
    running.note([os.getpid()])
    os.close(running._lock)  # as a kill does it
    assert (record / "running.json").exists()
    assert delete(record, time.time(), OLDER_THAN_S) is None
    assert not record.exists()


# ------------------------------------------------------------------ what goes


def test_nothing_goes_without_yes_and_then_only_what_was_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = finished(tmp_path / "demo" / "record")
    (tmp_path / "demo" / "summary.txt").write_text("beside it")
    young = finished(tmp_path / "young")
    os.utime(young / "journal.jsonl")
    elsewhere = finished(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "link").symlink_to(elsewhere)
    prune = ["records", "prune", "--older-than", "90d", str(tmp_path)]
    assert main(prune) == 0
    said = capsys.readouterr().out
    assert f"would delete  {'2020-09-13 12:26Z'}" in said
    assert "To delete: 1 record(s), 0 MB; 1 not older than 90 days. Nothing was deleted" in said
    assert old.exists()
    assert main([*prune, "--yes"]) == 0
    assert "Deleted: 1 record(s)" in capsys.readouterr().out
    assert not old.exists()
    assert (tmp_path / "demo" / "summary.txt").exists()
    assert young.exists()
    assert (elsewhere / "blobs" / "ab.dcm").exists()


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.record import pruning

    first, second = finished(tmp_path / "a"), finished(tmp_path / "b")
    rmtree = pruning.shutil.rmtree

    def read_only(path: Path) -> None:
        if path.parent == first:
            raise PermissionError(1, "Operation not permitted", str(path))
        rmtree(path)

    monkeypatch.setattr(pruning.shutil, "rmtree", read_only)
    assert main(["records", "prune", "--older-than", "1d", str(tmp_path), "--yes"]) == 1
    said = capsys.readouterr()
    assert f"iceball: not deleted: {first}/blobs: Operation not permitted" in said.err
    assert "Deleted: 1 record(s)" in said.out
    assert (first / "journal.jsonl").exists()
    assert not second.exists()


def test_a_deletion_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    """As long as anything is left, so is the journal, by which it is found."""
    fork = multiprocessing.get_context("fork")
    halfway = 0
    for number in range(40):
        record = finished(tmp_path / f"{number:03d}")
        for n in range(200):
            (record / "blobs" / f"{n:03d}.dcm").write_bytes(b"image")
        whole = len(list(record.rglob("*")))
        process = fork.Process(target=delete, args=(record, time.time(), OLDER_THAN_S))
        process.start()
        time.sleep(0.0004 * number)
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        left = list(record.rglob("*")) if record.exists() else []
        halfway += 0 < len(left) < whole
        assert not left or (record / "journal.jsonl").exists()
        if left:
            assert delete(record, time.time(), OLDER_THAN_S) is None
            assert not record.exists()
    assert halfway > 0


# ------------------------------------------------------------------ the list


@pytest.mark.requirement("REQ-PRIVACY")
def test_patients_are_shown_only_to_who_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a", "QUOKKA\x1b[2J")
    another_format(tmp_path / "b")
    assert main(["records", str(tmp_path)]) == 0
    assert main(["records", str(tmp_path), "--json"]) == 0
    assert main(["records", "prune", str(tmp_path), "--older-than", "1d"]) == 0
    said = capsys.readouterr()
    assert "QUOKKA" not in said.out + said.err
    assert main(["records", "--patients", str(tmp_path)]) == 0
    assert "QUOKKA?[2J" in capsys.readouterr().out


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "b")
    another_format(tmp_path / "c")
    journal = begun(tmp_path / "d", later_s=30.0)
    assert main(["records", "--json", str(tmp_path)]) == 0
    found = {Path(f["record"]).name: f for f in json.loads(capsys.readouterr().out)}
    assert [f["ended"] for f in (found["b"], found["c"], found["d"])] == [True, False, False]
    assert found["b"]["ended_at"].startswith("2020-09-13T12:26:40")
    assert found["d"]["ended_at"] is None
    assert [found[n]["in_use"] for n in "bcd"] == [False, False, True]
    assert found["b"]["began"].startswith("2020-09-13T12:26:40")
    assert found["b"]["size_bytes"] == 1000 + (tmp_path / "b" / "journal.jsonl").stat().st_size
    assert "format 1" in found["c"]["unreadable"]
    assert main(["records", str(tmp_path)]) == 0
    head, b, d, c, why, total = capsys.readouterr().out.splitlines()  # the oldest first
    assert head.split() == ["began", "ended", "age", "size", "record"]
    assert b.startswith(
        "2020-09-13 12:26Z  2020-09-13 12:26Z"
    )  # and not when the file was written to
    assert b.endswith(f"{tmp_path}/b")
    assert d.startswith("2020-09-13 12:27Z  not ended")
    assert d.endswith(f"{tmp_path}/d (in use or read-only)")
    assert c.split()[:2] == ["-", "unreadable"]
    assert "format 1" in why
    assert total.startswith("3 record(s), 0 MB; ")
    journal.close()
    assert main(["records", str(tmp_path / "none")]) == 2


@pytest.mark.requirement("REQ-RESUME")
def test_what_can_be_gone_on_with_is_found_also_while_somebody_reads_it(tmp_path: Path) -> None:
    """Passed over, a new procedure would take a scan with ice for its baseline."""
    finished(tmp_path / "ended")
    begun(tmp_path / "other", "P2").close()
    begun(tmp_path / "long_ago").close()
    no_beginning(tmp_path / "damaged")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "journal.jsonl").symlink_to(tmp_path / "nowhere")
    for name in ("ended", "other", "damaged"):
        os.utime(tmp_path / name / "journal.jsonl")
    aged(tmp_path / "long_ago")
    assert latest_unfinished(tmp_path, "P1", time.time()) is None
    torn(tmp_path / "torn")  # its end is not the end
    begun(tmp_path / "left").close()
    for name in ("torn", "left"):
        os.utime(tmp_path / name / "journal.jsonl")
        assert latest_unfinished(tmp_path, "P1", time.time()) == tmp_path / name
    with in_use(tmp_path / "left"):
        assert latest_unfinished(tmp_path, "P1", time.time()) == tmp_path / "left"


def test_the_patient_of_a_draft_is_that_of_its_plan(tmp_path: Path) -> None:
    record = tmp_path / "record"
    journal = begun(record, None)
    assert look(record).patient_id is None
    for name, refused_ in (("P7", False), ("P8", True)):
        case = keep_case(record, sphere_case(tmp_path, name, (0.0, 0.0, 0.0)))
        journal.write("operator", act="reload", kept_case={"path": case.path})
        if refused_:
            journal.write("act_refused", act="reload", reason="another patient")
    journal.close()
    assert look(record).patient_id == "P7"


def test_records_in_records_and_folders_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds_another(tmp_path / "record")
    told: list[str] = []
    assert len(records(tmp_path, told.append)) == 2
    scandir = os.scandir

    def denied(path: str) -> object:  # root is denied nothing
        if Path(path).name == "report":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert len(records(tmp_path, told.append)) == 1
    assert told == [f"{tmp_path}/record/report: Permission denied: not looked into"]


def test_a_procedure_that_runs_and_one_that_has_ended(tmp_path: Path) -> None:
    """All that the program puts into a record is known to ``prune``, and its process holds it."""
    record, later_utc_s = tmp_path / "record", time.time() + 100.0 * DAY_S
    workstation = tmp_path / "workstation.toml"
    workstation.write_text("[listener]\nport = 0\n", encoding="utf-8")
    of = ("--workstation", str(workstation), "--engine", "reference")
    with LiveProcess(None, record, *of) as live:
        found = look(record)
        assert (found.ended, found.in_use) == (False, True)
        assert why_kept(found, later_utc_s, OLDER_THAN_S) == "it has not ended"
        assert "in use" in str(delete(record, later_utc_s, OLDER_THAN_S))
        assert live.process.poll() is None
    assert look(record).ended
    assert delete(record, later_utc_s, OLDER_THAN_S) is None
    assert not record.exists()
