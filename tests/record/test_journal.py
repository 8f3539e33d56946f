"""The journal and the store: whole lines, finite numbers, nothing overwritten or lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from monitor.clock import ProcedureClock
from monitor.model import Instance, Reason, Rejected
from monitor.record.journal import Journal, RecordError
from monitor.record.store import Store

CLOCK = ProcedureClock(1_000_000.0, 0.0, 1.0)


def lines(record: Path) -> list[dict]:
    return [json.loads(x) for x in (record / "journal.jsonl").read_text().splitlines()]


# As after a kill the journal is not closed.
_ON_A_FULL_DISK = """
import contextlib, sys
from pathlib import Path
from monitor.clock import ProcedureClock
from monitor.record.journal import Journal
record = Path(sys.argv[1])
journal = Journal(record, ProcedureClock(1e6, 0.0, 1.0))
with (record / "else").open("wb", buffering=0) as other, contextlib.suppress(OSError):
    while True:
        other.write(bytes(4096))
for number in range(5000):
    journal.write("operator", act="phase_next", number=number)
sys.stdout.buffer.write((record / "journal.jsonl").read_bytes())
"""


@pytest.mark.requirement("REQ-RECORD")
def test_a_full_disk_takes_what_operators_do(tmp_path: Path) -> None:
    """A small disk of its own, full to the last byte, which is gone with its process."""
    unshared = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshared, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk of his own")
    mounted = 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$1" -c "$2" "$0"'
    command = [*unshared, "sh", "-c", mounted, str(tmp_path), sys.executable, _ON_A_FULL_DISK]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert [json.loads(x)["number"] for x in done.stdout.splitlines()] == list(range(5000))
    assert list(tmp_path.iterdir()) == []


def test_lines_are_numbered_stamped_and_finite(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK)
    journal.write("a", value=np.float32(0.5), nothing=float("inf"), many=np.array([1.0, np.nan]))
    journal.write("b", nested={"x": (1, 2)})
    first, second = lines(tmp_path)
    assert (first["seq"], second["seq"]) == (1, 2)
    assert first["at"].endswith("Z")
    assert first["value"] == 0.5
    assert first["nothing"] is None
    assert first["many"] == [1.0, None]
    assert second["nested"] == {"x": [1, 2]}


@pytest.mark.requirement("REQ-RECORD")
def test_many_threads_leave_no_gap(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLOCK)
    threads = [
        threading.Thread(
            target=lambda: [journal.write("instance_received", n=n) for n in range(50)]
        )
        for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [x["seq"] for x in lines(tmp_path)] == list(range(1, 201))


@pytest.mark.requirement("REQ-RECORD")
def test_a_record_is_never_written_over(tmp_path: Path) -> None:
    Journal(tmp_path, CLOCK).write("a")
    with pytest.raises(RecordError, match="recorded there already"):
        Journal(tmp_path, CLOCK)
    assert len(lines(tmp_path)) == 1


def rejected(path: str, code: str) -> Rejected:
    instance = Instance("ab", path, "1", "2", "3", 1, "S", 0.0, 0.0)
    return Rejected(instance, Reason(code, "why"))


@pytest.mark.requirement("REQ-RECORD")
def test_quarantine_keeps_bytes_and_reason(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    (tmp_path / "blobs" / "ab.dcm").write_bytes(b"image")
    where = store.quarantine(rejected("blobs/ab.dcm", "localizer"))
    assert (tmp_path / where).read_bytes() == b"image"
    assert json.loads((tmp_path / where).with_suffix(".json").read_text()) == {
        "code": "localizer",
        "text": "why",
    }
    assert not list((tmp_path / "blobs").iterdir())


def test_a_duplicate_leaves_the_accepted_bytes_in_place(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    (tmp_path / "blobs" / "ab.dcm").write_bytes(b"image")
    assert store.quarantine(rejected("blobs/ab.dcm", "duplicate_instance")) == "blobs/ab.dcm"
    assert (tmp_path / "blobs" / "ab.dcm").exists()


def test_scratch_keeps_the_last_generations_only(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = Store(tmp_path / "record", scratch)
    refs = [store.keep_field("ice", np.full(3, i)) for i in range(7)]
    assert len(list(scratch.iterdir())) == 4
    assert np.load(refs[-1].path).tolist() == [6, 6, 6]
