"""What a scanner sends, and what goes wrong on its way: scans of a phantom, and faults of the network.

A silence or an absence of the simulator is shortened SPEED times.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fuzz_input import _plain
from fuzz_wire import good_talk, mutated
from live_room import Room, anew
from pydicom.dataset import Dataset

from scanner_sim.wire.faults import Fault
from scanner_sim.wire.link import Link, LinkError
from scanner_sim.wire.push import Clock, Pace, Target, play

SPEED = 10.0
# The patient of the talk that is mutated, too: what is still valid of it is no stranger's.
_SLICES, _EDGE, PATIENT = 20, 64, "P"


# ------------------------------------------------------------------ scans


def scan(number: int, slices: int = _SLICES, edge: int = _EDGE) -> list[Dataset]:
    """A phantom, seen now; noise, so that no two images are the same bytes."""
    chance = np.random.default_rng(number)
    made = []
    for k in range(slices):
        d = _plain(edge)
        d.PatientID, d.PatientName, d.StudyInstanceUID = PATIENT, "FAULTS^OF", "1.2.826.7"
        d.InstanceNumber, d.ImagePositionPatient = k + 1, [-32.0, -32.0, 2.5 * k]
        d.SliceThickness = "2.5"
        for what in ("Series", "Acquisition", "Content"):
            setattr(d, f"{what}Date", "20260101")
            setattr(d, f"{what}Time", "000000")
        noise = chance.normal(1074.0, 8.0, (edge, edge))
        d.PixelData = noise.astype("<u2").tobytes()
        made.append(d)
    return anew(made, time.time())


@dataclass(frozen=True)
class One:
    """A source with one scan."""

    slices: list[Dataset]
    ready_times_s: tuple[float, ...] = (0.0,)

    def datasets(self, number: int) -> list[Dataset]:
        return list(self.slices)


def push(slices: list[Dataset], target: Target, faults: tuple[Fault, ...] = (), seed: int = 0,
         order: Any = "ascending", per_s: float = 500.0) -> None:  # fmt: skip
    clock = Clock(time.time(), SPEED)
    pace = Pace(per_s / SPEED, order, seed)
    play(One(slices), target, clock, clock.now_utc_s(), lambda _: None, pace, faults)


# ------------------------------------------------------------------ faults of the network

Network = Callable[[Room, Target, list[Dataset], random.Random], None]


def _cut(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    """The connection ends anywhere within an association that was going well; the scanner sends again."""
    talk = b"".join(good_talk())
    with suppress(OSError), socket.create_connection((target.host, target.port)) as peer:
        peer.sendall(talk[: chance.randrange(1, len(talk))])
    push(slices, target)


def _slow(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    """A byte now and then: it is cut off by ``pdu_s``, meanwhile the scanner is served."""
    talk = b"".join(good_talk())
    with suppress(OSError), socket.create_connection((target.host, target.port)) as peer:
        at = chance.randrange(300, len(talk) - 10)
        peer.sendall(talk[:at])
        push(slices, target)
        for byte in talk[at : at + 8]:
            peer.sendall(bytes([byte]))
            time.sleep(0.3)


def _crowd(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    crowd = [socket.create_connection((target.host, target.port)) for _ in range(30)]
    push(slices, target)
    for peer in crowd:
        peer.close()


def _nonsense(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    for _ in range(5):
        with suppress(OSError), socket.create_connection((target.host, target.port)) as peer:
            for pdu in mutated(good_talk(), chance):
                peer.sendall(pdu)
    push(slices, target)


def _shuffled(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    push(slices, target, seed=chance.randrange(2**31), order="shuffled")


def _each_alone(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    push(slices, replace(target, per_image=True))


def _wrong_title(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    contexts = [(str(slices[0].SOPClassUID), str(slices[0].file_meta.TransferSyntaxUID))]
    with suppress(LinkError):
        Link((target.host, target.port), ("SCANNER", "ICEBOX"), contexts)
    _said(room, "peer_called_title")
    push(slices, target)


def _no_tls(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    """In plain text to a listener that wants TLS; then as it should be."""
    with suppress(OSError), socket.create_connection((target.host, target.port)) as peer:
        peer.sendall(good_talk()[0])
        peer.recv(1)
    _said(room, "peer_tls_plain")
    push(slices, target)


def _no_certificate(
    room: Room, target: Target, slices: list[Dataset], chance: random.Random
) -> None:
    assert target.tls is not None
    context = ssl.create_default_context(cafile=str(target.tls.ca_file))
    with (
        suppress(OSError),
        socket.create_connection((target.host, target.port)) as sock,
        context.wrap_socket(sock, server_hostname=target.host) as peer,
    ):
        peer.recv(1)
    _said(room, "peer_tls_no_certificate")
    push(slices, target)


def _said(room: Room, reason: str) -> None:
    """That the scanner was turned away stands on every screen."""

    def standing(lines: list[dict[str, Any]]) -> bool:
        ours = [x for x in lines if x.get("code") == "scanner_refused"]
        return (
            bool(ours)
            and ours[-1]["kind"] == "alarm_raised"
            and ours[-1]["params"]["reason"] == reason
        )

    room.wait(standing, 30.0)


NETWORK: dict[str, tuple[str, Network]] = {
    "out_of_order": ("the slices come in any order", _shuffled),
    "association_each": ("an association for each image", _each_alone),
    "connection_cut": ("an association is cut anywhere, the scan comes in another", _cut),
    "slow_peer": ("a peer of the scanner's address stops inside a PDU while the scan comes", _slow),
    "silent_crowd": ("30 connections of its address say nothing while the scan comes", _crowd),
    "nonsense": ("five mutated associations before the scan", _nonsense),
    "wrong_title": (
        "it calls by a wrong AE title first: said on screen until it gets in",
        _wrong_title,
    ),
}
TLS: dict[str, tuple[str, Network]] = {
    "no_tls": ("plain text to a listener with TLS first: said on screen until it gets in", _no_tls),
    "no_certificate": ("a handshake without its certificate first: said likewise", _no_certificate),
}
