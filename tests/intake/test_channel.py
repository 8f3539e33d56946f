"""The way from intake to core: in order, bounded, and outliving a process that is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import pytest

from monitor.intake.channel import Inbox, IntakeGone, Outbox

_SPAWN = multiprocessing.get_context("spawn")


def talk(pipe: Connection, count: int, size: int) -> None:
    """A process that says ``count`` things of ``size`` bytes, then waits to be killed."""
    outbox = Outbox(pipe, count + 1)
    for number in range(count):
        outbox.put((number, bytes(size)))
    time.sleep(60.0)


def taken(inbox: Inbox, until_s: float = 20.0) -> list[Any]:
    """All that comes until nothing has come for half a second."""
    found, end_s = list[Any](), time.monotonic() + until_s
    while time.monotonic() < end_s:
        try:
            found.append(inbox.get(0.5))
        except queue.Empty:
            if found:
                break
    return found


@pytest.mark.requirement("REQ-RESUME")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_of_a_killed_process_what_it_sent_is_read_then_that_it_is_gone(size: int) -> None:
    """Also when it is killed in the middle of a message, which is never waited for."""
    inbox = Inbox()
    reader, writer = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=talk, args=(writer, 20, size), daemon=True)
    process.start()
    writer.close()
    inbox.follow(reader)
    first = inbox.get(30.0)
    assert first[0] == 0
    time.sleep(0.2)  # it is stuck within a message that the pipe does not hold, if they are large
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    again, ours = _SPAWN.Pipe(duplex=False)
    inbox.follow(again, IntakeGone(frozenset({"a.dcm"})))
    ours.send((0, "the next"))
    found = taken(inbox)
    assert found[-2:] == [IntakeGone(frozenset({"a.dcm"})), "the next"]
    numbers = [x[0] for x in found[:-2]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 19 or size > 10


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_full_outbox_says_so_and_goes_on_when_there_is_room() -> None:
    inbox = Inbox()
    reader, writer = _SPAWN.Pipe(duplex=False)
    inbox.follow(reader)
    outbox, sent = Outbox(writer, 2), 0
    with contextlib.suppress(queue.Full):
        while sent < 1000:
            outbox.put((sent, bytes(1000)), timeout=0.05)
            sent += 1
    assert sent < 1000
    with pytest.raises(queue.Full):
        outbox.put_nowait("no")
    assert [x[0] for x in taken(inbox)] == list(range(sent))
    closing = threading.Thread(target=outbox.close)
    closing.start()
    closing.join(5.0)
    assert not closing.is_alive()
    with pytest.raises(queue.Empty):
        inbox.get(0.05)


def test_an_inbox_that_nobody_feeds_is_empty_after_the_time_given() -> None:
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        Inbox().get(0.2)
    assert 0.2 <= time.monotonic() - began < 2.0
