"""``iceball replay RECORD --view`` as a program, in a real window. Skips where Xvfb or xdotool is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_view_real_window import display as display  # the fixture
from test_view_real_window import type_keys

from tests.replay.recorded import Room
from tests.replay.test_playback import hashes

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs Xvfb and xdotool"
    ),
    pytest.mark.timeout(300),
]


def test_it_opens_plays_and_ends_and_leaves_the_record_as_it_was(
    display: str, tmp_path: Path
) -> None:
    room = Room(tmp_path)
    room.scan(0.0)
    room.run()
    before = hashes(room.record)
    command = [sys.executable, "-m", "monitor.cli", "replay", str(room.record), "--view"]
    program = subprocess.Popen(
        [*command, "--speed", "8"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        type_keys("n", "f", "space", "q", "q")
        said, _ = program.communicate(timeout=120)
    finally:
        program.kill()
    assert program.returncode == 0, said
    assert "not live" in said
    assert "Traceback" not in said
    assert hashes(room.record) == before
