"""Fixtures shared by all tests. What needs real CT or DCMTK skips visibly, with the reason."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.memory import give_back

ROOT = Path(__file__).parents[1]
_GIVES_WAY = 8


@pytest.fixture(autouse=True, scope="session")
def _no_memory_of_windows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What this machine's user chose for the real windows is not to decide how a test's open."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True, scope="module")
def _the_demo_goes_first(request: pytest.FixtureRequest) -> None:
    """It plays a procedure several times faster than life: a machine that is busy beside it does not keep up.
    What else is tested meanwhile gives way."""
    if not str(request.node.name).endswith("test_demo.py"):
        os.nice(max(_GIVES_WAY - os.nice(0), 0))


@pytest.fixture(autouse=True, scope="module")
def _memory_given_back() -> Iterator[None]:
    """What a file's tests have freed, for the processes that the next file's start."""
    yield
    give_back()


@pytest.fixture(scope="session")
def ct_data() -> Path:
    """The folder of public CT series, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("ICEBALL_CT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no public CT in {folder}; set ICEBALL_CT_DATA to a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def dcmtk() -> dict[str, str]:
    """Paths of DCMTK's tools, and an environment in which they do not wait for Nagle."""
    os.environ["TCP_NODELAY"] = "1"
    # pynetdicom installs programs of the same names beside Python.
    beside = Path(sys.executable).parent
    folders = [f for f in os.get_exec_path() if Path(f) != beside]
    path = os.pathsep.join(folders)
    found = {
        name: shutil.which(name, path=path)
        for name in ("storescu", "dcmsend", "echoscu", "storescp")
    }
    missing = [name for name, path in found.items() if path is None]
    if missing:
        pytest.skip(f"DCMTK is not installed ({', '.join(missing)}): apt-get install dcmtk")
    return {name: str(path) for name, path in found.items()}


# What lasts longest (seconds of one core, or of waiting), the longest first: as the last it would run alone.
_FIRST = (
    *(
        "wire/test_demo",
        "wire/test_alarms_live",
        "scanner_sim/test_render",
        "wire/test_resume_live",
    ),
    *("wire/test_slept", "replay/test_replay_acts", "wire/test_sending", "replay/test_replay."),
    *("wire/test_bad_input", "cuda/test_bioheat", "scanner_sim/test_patient", "decision/test_gate"),
    *("replay/test_replay_draft", "tests/test_draft", "tests/test_segment_command", "wire/test_"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of ``_FIRST``, then the others as they come."""

    def rank(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(_FIRST) if name in item.nodeid), len(_FIRST))

    items.sort(key=rank)
