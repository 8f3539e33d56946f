"""Drives a real ``iceball live --headless`` process, as a site would run it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monitor.intake.channel import Inbox

START_S, ANSWER_S, END_S = 60.0, 60.0, 60.0


def sphere_case(
    folder: Path, patient_id: str, centre: tuple[float, ...], needles: bool = False
) -> Path:
    """A minimal case: a 10 mm sphere as the lesion, a free port."""
    lines = [
        f'[patient]\nid = "{patient_id}"\n[organ]\npreset = "liver"\n[lesion]',
        f"centre_lps_mm = {list(centre)}\nradius_mm = 10.0\n[listener]\nport = 0",
    ]
    if needles:
        entry = [centre[0], centre[1] - 80.0, centre[2]]
        lines.append(
            f'[[needle]]\nnumber = 1\ntype = "icesphere_1_5"\ntip_lps_mm = {list(centre)}\n'
            f"entry_lps_mm = {entry}"
        )
    path = folder / "case.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class FedInbox(Inbox):
    """Takes messages of a test, before those of the listener."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: Any) -> None:
        self.fed.put(message)

    def get(self, timeout: float) -> Any:
        try:
            return self.fed.get_nowait()
        except queue.Empty:
            return super().get(timeout)


class LiveProcess:
    """One monitor. Use as a context manager; leaving it ends the procedure cleanly."""

    def __init__(self, case: Path | None, record: Path, *options: str) -> None:
        self.record = record
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "monitor.cli",
                "live",
                *([] if case is None else [str(case)]),
                "--headless",
                "--record",
                str(record),
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self.port = 0

    def __enter__(self) -> LiveProcess:
        try:
            self.port = self.wait(
                lambda lines: next((x for x in lines if x["kind"] == "listening"), None), START_S
            )["port"]
        except AssertionError:
            self.end()  # nobody else would
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.output += self.process.communicate(timeout=END_S)[0] or ""
        except subprocess.TimeoutExpired:
            for pid in (*children(self.process.pid), self.process.pid):
                os.kill(pid, signal.SIGKILL)
            raise
        return self.process.returncode

    @property
    def core(self) -> int:
        """The process that works: the supervisor's only child."""
        (core,) = children(self.process.pid)
        return core

    @property
    def intake(self) -> int:
        """The core's first process."""
        return next(
            p for p in children(self.core)
            if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()
        )  # fmt: skip

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def journal(self, kind: str | None = None) -> list[dict[str, Any]]:
        path = self.record / "journal.jsonl"
        if not path.exists():
            return []
        whole = [
            x
            for x in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if x.endswith("\n")
        ]
        lines = [json.loads(x) for x in whole]
        return [x for x in lines if kind is None or x["kind"] == kind]

    def wait(self, found: Callable[[list[dict[str, Any]]], Any], limit_s: float = ANSWER_S) -> Any:
        """What ``found`` makes of the journal, as soon as it makes something of it."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            answer = found(self.journal())
            if answer:
                return answer
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        if self.process.poll() is not None:
            raise AssertionError(f"iceball live ended:\n{self.process.communicate()[0]}")
        kinds = [(x["kind"], x.get("reason", x.get("code"))) for x in self.journal()][-20:]
        raise AssertionError(
            f"nothing of the kind in the journal after {limit_s:.0f} s; last: {kinds}"
        )

    def wait_accounted(self, count: int) -> None:
        """Until ``count`` instances have been received and each has ended somewhere."""
        self.wait(
            lambda lines: len([x for x in lines if x["kind"] == "instance_received"]) >= count
        )
        self.wait(lambda lines: unaccounted(lines) == 0)


def children(pid: int) -> list[int]:
    """Of all its threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(p) for task in tasks for p in task.read_text().split()]


def unaccounted(lines: list[dict[str, Any]]) -> int:
    """Instances received that are neither in a volume nor rejected."""
    received = [x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received"]
    in_volumes = {
        u for x in lines if x["kind"] == "volume_completed" for u in x["sop_instance_uids"]
    }
    rejected = [x["sop_instance_uid"] for x in lines if x["kind"] == "instance_rejected"]
    return len(received) - len(in_volumes) - len(rejected)
