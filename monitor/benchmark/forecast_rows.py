"""What is scored of forecasts, a row each. mm, s, fractions 0..1.

Invariant: rows hold numbers and names only; what could not be scored is None.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("forecast", "persistence", "ellipsoid", "uncalibrated")


@dataclass(frozen=True)
class Agreement:
    """Of one predicted surface with the true one; None: one of them is not there."""

    mean_mm: float | None
    largest_mm: float | None
    dice: float


@dataclass(frozen=True)
class ForecastRow:
    """A forecast of ``scan`` from the scan before it, ``ahead_s`` earlier and the ``seen``-th with a
    surface. ``within_band``: the share of the true surface between the 10 and 90 % surfaces; ``wall_s``:
    from that scan's volume to its measurement, what it taught, and the forecast."""

    scenario: str
    organ: str
    scan: int
    minutes: float
    ahead_s: float
    seen: int
    true_ml: float
    methods: dict[str, Agreement]
    within_band: float | None
    wall_s: float


@dataclass(frozen=True)
class WallRow:
    """From a ``scan``'s volume to its measurement, what it taught, and the forecast: seconds; every scan's,
    the last one's too."""

    scenario: str
    scan: int
    wall_s: float


@dataclass(frozen=True)
class EventRow:
    """When lesion or margin is covered in the running freeze, or the ice reaches a structure ("contact NAME")
    or its limit ("limit NAME"), as forecast from ``scan`` (``seen`` scans in) and as it came to be; s from
    the scan. ``low_s``, ``median_s`` and ``high_s``: of the members, inf
    where they say never."""

    scenario: str
    scan: int
    what: str
    seen: int
    true_s: float
    low_s: float
    median_s: float
    high_s: float

    @property
    def of_structure(self) -> bool:
        return self.what.startswith(("contact ", "limit "))


@dataclass(frozen=True)
class NeverRow:
    """At a scan of a freeze with lesion and margin not yet covered: whether the forecast ``said`` that
    they will not be, and whether they came to be ``covered`` in that freeze, of which ``share`` was over."""

    scenario: str
    scan: int
    share: float
    said: bool
    covered: bool


@dataclass(frozen=True)
class Scored:
    """All that was scored of some scenarios."""

    rows: tuple[ForecastRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    never: tuple[NeverRow, ...] = ()
    walls: tuple[WallRow, ...] = ()

    def __add__(self, other: Scored) -> Scored:
        return Scored(
            self.rows + other.rows,
            self.events + other.events,
            self.never + other.never,
            self.walls + other.walls,
        )
