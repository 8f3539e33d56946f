"""What several commands are made of: types of values, options they share. Times in seconds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from gpu_kernels.engine import CHOICES
from monitor.case import place_of


class Parser(argparse.ArgumentParser):
    """``instead``: first words that have a parser of their own, where usually a file or folder stands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.instead: dict[str, argparse.ArgumentParser] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        other = self.instead.get(args[0]) if args else None
        if other is not None:
            return other.parse_known_args(args[1:], namespace)
        return super().parse_known_args(args, namespace)


def command(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A function of ``monitor.commands``, imported when it runs: a mistyped option is told at once, before
    seconds of imports."""

    def run(args: argparse.Namespace) -> int:
        return int(getattr(import_module(f"monitor.commands.{module}"), name)(args))

    return run


def add_screens(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--screen",
        choices=("room", "console", "both"),
        help="which windows: the in-room screen, the technologist's console, or both; default what the "
        "workstation's file says, else what was shown last, else room",
    )
    p.add_argument(
        "--monitor",
        type=monitor_number,
        metavar="N",
        help="the monitor of the in-room screen (of the console, where only that is shown), counted from the "
        "left, from 0; the console takes another. Default what the workstation's file says, else where the "
        "windows were last",
    )
    p.add_argument(
        "--diagonal",
        type=bounded(1.0, 200.0),
        metavar="INCHES",
        help="of the monitor in the room; default what the workstation's file says, else 55",
    )
    p.add_argument(
        "--distance",
        type=bounded(0.3, 20.0),
        metavar="METRES",
        help="from which it is read: where the full screen would be too small a simple one is shown; "
        "default what the workstation's file says, else 3",
    )


def add_engine(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--engine",
        choices=CHOICES,
        default="auto",
        help="bioheat engine; never changed in silence; default %(default)s",
    )


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0, at most 1000")
    return value


def days(text: str) -> int:
    days = text.removesuffix("d")
    if text == days or not (days.isdecimal() and 1 <= int(days) <= 36500):
        raise argparse.ArgumentTypeError(f"{text}: expected whole days, 1d to 36500d")
    return int(days)


def monitor_number(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 15):
        raise argparse.ArgumentTypeError(f"{text}: expected a monitor's number, 0 to 15")
    return int(text)


def place(text: str) -> str:
    if place_of(text) is None:
        raise argparse.ArgumentTypeError(f"{text}: expected AE@host:port")
    return text


def ae_title(text: str) -> str:
    if not (text.strip() and len(text) <= 16 and text.isascii()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most 16 ASCII characters")
    return text


def port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to 65535")
    return int(text)


def bounded(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}: expected {low:g} to {high:g}")
        return value

    return number
