"""Ctrl-C while several cores work on one member."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpu_kernels.cpu import _gang
from gpu_kernels.engine import FloatArray


class Told(BaseException):
    pass


def _tell(*_: object) -> None:
    raise Told


def test_no_worker_waits_for_one_that_was_interrupted() -> None:
    meet, arrived = threading.Barrier(2), list[int]()

    def work(worker: int) -> FloatArray:
        time.sleep(0.3)
        meet.wait(10.0)
        arrived.append(worker)
        return np.zeros(1)

    before = signal.signal(signal.SIGALRM, _tell)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Told):
            _gang(ThreadPoolExecutor(2), 2, work)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sorted(arrived) == [0, 1]
