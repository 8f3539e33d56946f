"""What Qt needs of its surroundings, set before its application is made, in whichever process. No units.

Invariant: nothing of Qt is imported here.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def prepare(window: bool) -> None:
    """Fonts of one size on every screen, without a window no display; and a folder for Qt's own sockets,
    which a login session has and root at a console has not: Qt would say so on every start."""
    os.environ.setdefault("QT_FONT_DPI", "96")
    if not window:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    if not os.environ.get("XDG_RUNTIME_DIR"):
        folder = _private(Path(tempfile.gettempdir()) / f"iceball-runtime-{os.getuid()}")
        if folder is not None:
            os.environ["XDG_RUNTIME_DIR"] = str(folder)


def _private(folder: Path) -> Path | None:
    """The folder, which nobody else can have made or can read; None where that cannot be."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if own and not found.st_mode & 0o077 else None
