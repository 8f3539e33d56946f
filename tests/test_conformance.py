"""docs/conformance.md says what the code does, both ways. Bytes, seconds."""

from __future__ import annotations

import math
import re
from pathlib import Path

from pydicom.uid import UID

from monitor.fetching import asking, fetching, keeping, receiving
from monitor.intake import association, enhanced, parsing, pixels, wire
from monitor.intake.limits import SETTABLE, Limits
from monitor.intake.listener import OFFERED, SOP_CLASSES, VERIFICATION
from monitor.intake.syntaxes import TRANSFER_SYNTAXES
from monitor.intake.tls import CIPHERS
from monitor.record.dicom_out import SOP_CLASSES as SOP_CLASSES_SENT

TEXT = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    lines = [x for x in section(title).splitlines() if x.startswith("|")][2:]
    return [[c.strip().strip("`") for c in line.strip("|").split("|")] for line in lines]


def test_sop_classes() -> None:
    said = {row[1]: row[0] for row in rows("SOP classes")}
    assert list(said) == [VERIFICATION, *map(str, SOP_CLASSES)]
    for uid, name in said.items():
        assert name == UID(uid).name
    assert set(OFFERED) == set(said)


def test_sop_classes_that_are_sent() -> None:
    said = {row[1]: row[0] for row in rows("What is sent")}
    assert list(said) == list(SOP_CLASSES_SENT)
    assert all(name == UID(uid).name for uid, name in said.items())


def test_transfer_syntaxes_in_their_order() -> None:
    said = [row[1] for row in rows("Transfer syntaxes")]
    assert said == list(map(str, TRANSFER_SYNTAXES))
    assert all(row[0] == UID(row[1]).name for row in rows("Transfer syntaxes"))
    for uid, offered in OFFERED.items():
        assert list(offered) == (said[:3] if uid == VERIFICATION else said)


def test_limits() -> None:
    usual = Limits()
    said = {row[0]: row[1] for row in rows("Limits")}
    assert set(said) == set(vars(usual)) - {"durable"}
    assert {k: float(v) for k, v in said.items()} == {k: getattr(usual, k) for k in said}
    ranges = {row[0]: row[2] for row in rows("Limits")}
    for name, text in ranges.items():
        low_high = SETTABLE.get(name)
        assert text == ("–" if low_high is None else f"{low_high[0]:.12g} to {low_high[1]:.14g}"), (
            name
        )


def test_sizes_of_an_instance() -> None:
    assert (
        f"At most {enhanced.MOST_FRAMES} frames and 2^{math.log2(enhanced.MOST_PIXELS):g} pixels an "
        f"instance, {pixels.MAX_EDGE_PIXELS} rows and columns; "
        f"at most {parsing.MOST_READS} reads to take an instance apart "
        f"({parsing.MOST_READS_OF_FRAMES} of Enhanced CT; an element takes one to three), and "
        f"{parsing.LONGEST_VALUE_BYTES} bytes of a value that may be many."
    ) in " ".join(TEXT.split())


def test_status_codes() -> None:
    said = {int(row[0], 16) for row in rows("Status codes")}
    names = ("SUCCESS", "OUT_OF_RESOURCES", "CANNOT_UNDERSTAND", "CLASS_NOT_SUPPORTED")
    assert said == {getattr(association, n) for n in (*names, "UNRECOGNIZED_OPERATION")}


def test_what_else_is_named() -> None:
    assert CIPHERS in section("Security")
    assert wire.IMPLEMENTATION_CLASS_UID in TEXT
    assert f"`{wire.IMPLEMENTATION_VERSION}`" in TEXT
    assert str(wire.PDU_BYTES) in TEXT


def test_what_is_fetched() -> None:
    found = [(row[1], row[2], row[0]) for row in rows("What is fetched")]
    asked = [(str(uid), "SCU") for uid in (asking.FIND, asking.MOVE, asking.GET)]
    taken = [(str(uid), "SCP") for uid in receiving.SOP_CLASSES]
    assert [(uid, role) for uid, role, _ in found] == [*asked, *taken]
    for uid, _, name in found:
        assert name == UID(uid).name
    assert {uid: OFFERED[uid] for uid, _ in taken} == receiving.OFFERED
    text = section("What is fetched")
    assert f"{receiving.CONNECTIONS} connections" in text
    assert f"At most\n{asking.MOST_ANSWERS} answers" in text
    for code in (fetching.UNKNOWN_DESTINATION, fetching.CANCELLED, fetching.SUB_OPERATIONS_FAILED):
        assert f"`{code:04X}`" in text
    assert f"`{keeping.NOT_AUTHORIZED:04X}`" in text
    assert "ICEBALL" in text
