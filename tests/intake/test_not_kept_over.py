"""When an image that could not be kept has been said for long enough. Monotonic seconds."""

from __future__ import annotations

import pytest

from monitor.intake.listener import _SAID_S, _Failure


@pytest.mark.parametrize(
    ("association", "after_s", "over"),
    [(6, 0.1, False), (7, 0.1, False), (8, 0.1, True), (7, _SAID_S + 0.1, True), (6, _SAID_S + 0.1, True)],
)  # fmt: skip
def test_a_later_association_or_a_while(association: int, after_s: float, over: bool) -> None:
    assert _Failure("image_too_large", 7, 100.0).over(association, 100.0 + after_s) == over
