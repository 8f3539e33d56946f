"""What the screen says before the first ice is measured: what has come, and what comes next. No units.

Invariant: it never says that something is missing which has come, nor that all is ready while a plan is not.
"""

from __future__ import annotations

from monitor.model import PhaseKind
from monitor.snapshot import Snapshot
from monitor.view.translations import text


def without_baseline(s: Snapshot | None, language: str) -> tuple[str, str]:
    """A title, and what is next."""
    if s is None or not s.received:
        return text(language, "state.waiting"), text(language, "state.waiting.hint")
    latest = s.received[-1].volume_id
    hint = "choose" if s.draft else "unfit"
    title = text(language, "state.waiting.received", id=latest)
    return title, text(language, f"state.waiting.{hint}")


def with_baseline(s: Snapshot | None, language: str) -> tuple[str, str]:
    """Until a scan has been measured against it."""
    if s is None or s.baseline_id is None:
        return without_baseline(s, language)
    title = text(language, "state.baseline", id=s.baseline_id)
    return title, text(language, f"state.baseline.{_next(s)}")


def _next(s: Snapshot) -> str:
    if s.draft:
        return "no_plan"
    if not s.needles:
        return "no_needles"
    return "start" if s.phase.kind is PhaseKind.WAITING else "hint"
