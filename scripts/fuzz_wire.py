"""Broken talk against a live listener while a scanner pushes volumes that all have to arrive.

    python scripts/fuzz_wire.py [--count 2000] [--seed 1] [--volumes 20]

Loopback only. The listener is the monitor's own process; broken peers say mutated A-ASSOCIATE, P-DATA and
other PDUs, from addresses of their own (127.0.0.2 on) and from the scanner's. Exit status 1 when an image of
the scanner is missing, the listener died, grew over MEMORY_BYTES or does not answer at the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz_input import _bytes, _plain
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import build_context

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig, Peer
from monitor.intake.channel import STOP, Inbox
from monitor.intake.limits import Limits
from monitor.intake.listener import run_listener
from monitor.intake.messages import Listening, Refused
from monitor.model import Instance
from scanner_sim.wire import link
from scanner_sim.wire.link import Link, LinkError

MEMORY_BYTES = 512 * 2**20
_SPAWN = multiprocessing.get_context("spawn")
_SLICES = 20
_LIMITS = Limits(handshake_s=1.0, hello_s=1.0, pdu_s=1.0, idle_s=5.0, durable=False)
_CONTEXTS = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]


def good_talk() -> list[bytes]:
    """PDUs of a whole association: hello, a C-STORE in pieces, a release."""
    contexts = [build_context(*pair) for pair in _CONTEXTS]
    contexts[0].context_id = 1
    caller = Link.__new__(Link)  # without a connection: what it would say is what is wanted
    caller._messages, caller._limit = 0, 4096
    caller._accepted = {1: (CTImageStorage, ExplicitVRLittleEndian)}
    dataset = dcmread(DicomBytesIO(_bytes(_plain(64))))
    said = [link._request(("BROKEN", "ICEBALL"), contexts)]
    said += caller._store_pdus(dataset, ExplicitVRLittleEndian, 4096)
    return [*said, b"\x05\0\0\0\0\x04\0\0\0\0"]


def mutated(talk: list[bytes], chance: random.Random) -> list[bytes]:
    said = [bytearray(p) for p in talk]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice((0, 0, chance.randrange(len(said))))
        pdu, kind = said[at], chance.randrange(7)
        place = chance.randrange(min(len(pdu), chance.choice((8, 80, len(pdu))))) if pdu else 0
        if kind == 0 and pdu:
            pdu[place] = chance.randrange(256)
        elif kind == 1:
            del pdu[place:]
        elif kind == 2:
            pdu[2:6] = struct.pack(">L", chance.choice((0, 1, 70, 2**16, 2**20, 2**32 - 1)))
        elif kind == 3:
            said.insert(at, bytearray(chance.choice(said)))
        elif kind == 4:
            chance.shuffle(said)
        elif kind == 5:
            pdu[place:place] = chance.randbytes(chance.randrange(1, 300))
        else:
            del said[at:]
        if not said:
            said = [bytearray(b"")]
    return [bytes(p) for p in said]


def broken_peer(port: int, address: str, talk: list[bytes], pause_s: float) -> str:
    with socket.socket() as peer:
        peer.settimeout(8.0)
        try:
            peer.bind((address, 0))
            peer.connect(("127.0.0.1", port))
            for pdu in talk:
                peer.sendall(pdu)
                time.sleep(pause_s)
            peer.shutdown(socket.SHUT_WR)
            answer = peer.recv(6)
            return f"answered with a PDU of type {answer[0]}" if answer else "closed"
        except TimeoutError:
            return "HANGS"
        except OSError:
            return "cut"


def push(port: int, volumes: int, sent: list[str], failed: list[str]) -> None:
    """A scanner at work: an association for each volume, every image answered with success."""
    for volume in range(volumes):
        try:
            caller = Link(("127.0.0.1", port), ("SCANNER", "ICEBALL"), _CONTEXTS)
            for number in range(_SLICES):
                d = _plain(64)
                d.SOPInstanceUID = f"1.2.826.{volume}.{number}"
                status = caller.store(d, ExplicitVRLittleEndian)
                if status:
                    failed.append(f"volume {volume}: status 0x{status:04X}")
                sent.append(str(d.SOPInstanceUID))
            caller.release()
        except LinkError as error:
            failed.append(f"volume {volume}: {error}")
        time.sleep(0.05)


def attack(port: int, seed: int, numbers: range, talk: list[bytes], seen: Counter[str]) -> None:
    for number in numbers:
        chance = random.Random(f"{seed} {number}")
        address = f"127.0.0.{chance.choice((1, 2, 3, 9))}"
        said = mutated(talk, chance)
        seen[broken_peer(port, address, said, chance.choice((0.0, 0.0, 0.01)))] += 1


def rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def drain(inbox: Any, told: list[Any], over: threading.Event) -> None:
    while True:
        try:
            told.append(inbox.get(timeout=0.2))
        except queue.Empty:
            if over.is_set():
                return


def fuzz(count: int, seed: int, volumes: int) -> tuple[list[str], str]:
    """Findings, and a summary."""
    peers = (Peer("SCANNER", "127.0.0.1"), Peer("*", "*"))
    config = ListenerConfig("ICEBALL", "127.0.0.1", 0, peers, None, _LIMITS)
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        blobs = Path(folder) / "blobs"
        blobs.mkdir()
        inbox, over, (ours, theirs) = Inbox(), threading.Event(), _SPAWN.Pipe()
        inbox.follow(ours)
        process = _SPAWN.Process(
            target=run_listener, args=(config, blobs, ProcedureClock.start(), theirs)
        )
        process.start()
        theirs.close()
        first = inbox.get(timeout=120)
        assert isinstance(first, Listening), first
        began_bytes = rss_bytes(int(process.pid or 0))
        told: list[Any] = []
        sent: list[str] = []
        seen: Counter[str] = Counter()
        talk = good_talk()
        scanner = threading.Thread(target=push, args=(first.port, volumes, sent, findings))
        step = (count + 7) // 8
        crowd = [
            threading.Thread(
                target=attack, args=(first.port, seed, range(n, min(n + step, count)), talk, seen)
            )
            for n in range(0, count, step)
        ]
        drainer = threading.Thread(target=drain, args=(inbox, told, over))
        for thread in (drainer, scanner, *crowd):
            thread.start()
        most_bytes = 0
        while any(t.is_alive() for t in (scanner, *crowd)) and process.is_alive():
            most_bytes = max(most_bytes, rss_bytes(int(process.pid or 0)))
            time.sleep(0.2)
        for thread in (scanner, *crowd):
            thread.join()
        if not process.is_alive():
            findings.append(f"the listener died: exit {process.exitcode}")
        push(first.port, 1, sent, findings)
        ours.send(STOP)
        process.join(20)
        over.set()
        drainer.join()
        received = {m.sop_instance_uid for m in told if isinstance(m, Instance)}
        findings += [
            f"{uid} was acknowledged and is not on the queue" for uid in set(sent) - received
        ]
        kept = {m.sha256 for m in told if isinstance(m, Instance)}
        lost = [h for h in kept if not (blobs / f"{h}.dcm").is_file()]
        findings += [f"{h} is on the queue and not on disk" for h in lost]
        parts = list(blobs.glob("*.part"))
        findings += [f"{p.name} was left behind" for p in parts]
    if most_bytes > MEMORY_BYTES:
        findings.append(f"the listener took {most_bytes >> 20} MiB")
    if seen["HANGS"]:
        findings.append(f"{seen['HANGS']} broken peers were neither answered nor cut")
    refused = sum(isinstance(m, Refused) for m in told)
    lines = [f"{n:6d}  {what}" for what, n in seen.most_common()]
    lines.append(
        f"{len(sent)} images of the scanner; {refused} refusals told; memory {began_bytes >> 20} to "
        f"{most_bytes >> 20} MiB; {len(findings)} finding(s)"
    )
    return findings, "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--volumes", type=int, default=20)
    args = parser.parse_args()
    findings, summary = fuzz(args.count, args.seed, args.volumes)
    print(summary)
    for finding in findings[:50]:
        print("FINDING", finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
