"""Who uses a record: an advisory lock (flock) on its journal, gone with the process that holds it.

Whoever writes or reads a record shares the lock; who deletes one holds it alone. Invariant: no procedure
waits long for it or fails for want of it, but what cannot be locked is not deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

# A look at who uses the record holds the lock for an instant; a deletion for longer.
_PATIENCE_S = 1.0


def share(journal: int) -> None:
    """The record is in use until the file with this descriptor is closed. Raises ``BlockingIOError`` when
    it is being deleted."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise BlockingIOError(None, "somebody is deleting this record") from None
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


@contextlib.contextmanager
def alone(journal: Path) -> Iterator[bool]:
    """Whether nobody else uses the record, nor can until this is over; False where that cannot be known."""
    with contextlib.ExitStack() as opened:
        try:
            # To write: by NFS, only then can it be held alone.
            file = opened.enter_context(journal.open("rb+"))
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
