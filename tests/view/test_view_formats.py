"""How numbers are written: floored, never flattering, in both languages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.view import formats

N = formats.NBSP


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0.996, f"99{N}%"),
        (1.0, f"100{N}%"),
        (math.nextafter(1.0, 0.0), f"99{N}%"),
        (0.29, f"29{N}%"),
        (0.0, f"0{N}%"),
        (None, "—"),
        (math.nan, "—"),
        (1.2, "—"),
        (-0.1, "—"),
    ],
)
def test_percent_is_floored_and_unknown_is_a_dash(fraction: float | None, shown: str) -> None:
    assert formats.percent(fraction) == shown


@pytest.mark.requirement("REQ-COVERAGE")
@given(st.floats(0.0, 1.0, exclude_max=True))
def test_less_than_all_is_never_100_percent(fraction: float) -> None:
    shown = formats.percent_floor(fraction)
    assert shown is not None
    assert shown <= 99
    assert shown <= 100 * fraction + 1e-6


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_tenths_of_a_percent_are_floored_too(fraction: float) -> None:
    assert float(formats.percent_tenths(fraction)) <= min(99.9, 100 * fraction + 1e-6)
    assert formats.percent_tenths(1.0) == "100.0"


@pytest.mark.requirement("REQ-LANGUAGE")
@pytest.mark.parametrize(
    ("value", "language", "shown"),
    [
        (-1.2, "en", "−1.2"),
        (-1.2, "fr", "−1,2"),
        (1.89, "fr", "+1,8"),
        (-0.01, "en", "−0.1"),
        (0.0, "en", "+0.0"),
        (0.05, "en", "+0.0"),
        (math.nan, "en", "—"),
        (None, "fr", "—"),
        (-math.inf, "fr", "—"),
    ],
)
def test_signed_margin(value: float | None, language: str, shown: str) -> None:
    assert formats.signed_mm(value, language) == shown


@pytest.mark.requirement("REQ-COVERAGE")
@given(st.floats(-50, 50))
def test_an_uncovered_margin_never_reads_as_covered(margin_mm: float) -> None:
    assert formats.signed_mm(margin_mm, "en").startswith("−" if margin_mm < 0 else "+")


@pytest.mark.parametrize(
    ("low_s", "high_s", "shown"),
    [
        (200, 290, f"≈{N}3–5{N}min"),
        (0, 30, f"<{N}1{N}min"),
        (-20, 90, f"≈{N}0–2{N}min"),
        (800, 900, f">{N}12{N}min"),
        (300, math.inf, f">{N}5{N}min"),
        (math.inf, math.inf, f">{N}12{N}min"),
        (20, math.inf, "—"),
        (math.nan, 100, "—"),
        (300, 200, "—"),
    ],
)
def test_time_left_is_a_range(low_s: float, high_s: float, shown: str) -> None:
    assert formats.remaining(low_s, high_s) == shown


@given(st.floats(0, 700), st.floats(0, 700))
def test_the_range_holds_both_ends(a: float, b: float) -> None:
    low_s, high_s = sorted((a, b))
    shown = formats.remaining(low_s, high_s)
    if "–" in shown:
        low, high = shown.strip(f"≈{N}min").split("–")
        assert 60 * int(low) <= low_s
        assert high_s <= 60 * int(high)


def test_clock_and_others() -> None:
    assert formats.clock(373.9) == "06:13"
    assert formats.clock(3725) == "1:02:05"
    assert formats.clock(-1) == formats.clock(None) == formats.clock(math.nan) == "—"
    assert formats.distance_mm(9.27, "fr") == f"9,2{N}mm"
    assert formats.distance_mm(-0.04, "en") == f"−0.1{N}mm"
    assert formats.error_mm(None, "en") == f"±{N}?"
    assert formats.error_mm(0.81, "fr") == f"±{N}0,9"
    assert formats.decimal(-0.01, 1, "en") == "0.0"
