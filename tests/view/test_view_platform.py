"""What a Qt process finds when it begins, without a login session."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

QT = """
from monitor.view.platform import prepare
prepare(window=False)
from PyQt5.QtCore import QStandardPaths
from PyQt5.QtWidgets import QApplication
app = QApplication(["x"])
print(QStandardPaths.writableLocation(QStandardPaths.RuntimeLocation))
"""


def started(tmp: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
    environment.update(TMPDIR=str(tmp), **more)
    return subprocess.run(
        [sys.executable, "-c", QT], capture_output=True, text=True, check=True, env=environment
    )


def test_qt_says_nothing_about_its_runtime_folder_which_is_private(tmp_path: Path) -> None:
    for _ in range(2):  # the second one finds the first one's
        done = started(tmp_path)
        folder = tmp_path / f"iceball-runtime-{os.getuid()}"
        assert (done.stderr, done.stdout.strip()) == ("", str(folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("how", ["open", "link"])
def test_a_folder_that_others_may_have_made_is_not_used(tmp_path: Path, how: str) -> None:
    folder = tmp_path / f"iceball-runtime-{os.getuid()}"
    if how == "open":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    assert started(tmp_path).stdout.strip() != str(folder)


def test_a_sessions_own_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "session").mkdir(mode=0o700)
    done = started(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "session"))
    assert done.stdout.strip() == str(tmp_path / "session")
