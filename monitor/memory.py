"""Memory that was freed, given back to the system.

glibc keeps what is freed for the next time, a heap for each thread; arrays of a few MB, made on several
threads, scan after scan, leave them full of holes. To have all arrays of over 1 MB mapped and unmapped
instead (M_MMAP_THRESHOLD) keeps a process small, too, and makes measuring a scan a fifth slower.
Invariant: nothing that is in use is touched.
"""

from __future__ import annotations

import ctypes


def give_back() -> bool:
    """What is free in any heap; some ms. False where the C library cannot (not glibc): memory may then
    grow over hours."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    trim(0)
    return True
