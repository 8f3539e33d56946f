"""A scenario: everything that happens, as data. LPS mm, seconds from the baseline scan, SI units.

Invariant: the monitor never reads a scenario; it gets a case, an RTSTRUCT and images.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

Point = tuple[float, float, float]


class ScenarioError(ValueError):
    """A scenario or an anatomy cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Needle:
    number: int
    type: str
    tip_lps_mm: Point
    entry_lps_mm: Point


@dataclass(frozen=True)
class Structure:
    name: str
    limit_mm: float


@dataclass(frozen=True)
class Phase:
    kind: str
    seconds: float


@dataclass(frozen=True)
class Scan:
    """How images are made; ``duration_s`` is one sweep."""

    fov_mm: float
    matrix: int
    slices: int
    spacing_mm: float
    noise_sd_hu: float
    psf_sigma_mm: float
    duration_s: float


@dataclass(frozen=True)
class Cooling:
    """Convective: heat drawn per length of needle is u·(T − cryogen), less at the ends."""

    active_length_mm: float
    cryogen_degc: float
    u_w_m_k: float
    ramp_s: float
    end_weakness: float


@dataclass(frozen=True)
class Tissue:
    """True properties; ``water`` scales the CT number drop of freezing, 0..1."""

    rho: float
    c_unfrozen: float
    c_frozen: float
    k_unfrozen: float
    k_frozen: float
    latent_heat: float
    liquidus_degc: float
    perfusion_per_s: float
    perfusion_spread: float
    water: float


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    organ: str
    seed: int
    margin_goal_mm: float
    patient_id: str
    patient_label: str
    lesion_centre_lps_mm: Point
    lesion_semi_axes_mm: Point
    structures: tuple[Structure, ...]
    needles: tuple[Needle, ...]
    phases: tuple[Phase, ...]
    start_after_baseline_s: float
    scan_times_s: tuple[float, ...]
    stasis_s: float
    scan: Scan
    cooling: Cooling
    tissues: dict[str, Tissue]

    def freezing(self, time_s: float) -> float | None:
        """Seconds since the running freeze began; None when none runs."""
        start = self.start_after_baseline_s
        for phase in self.phases:
            if start <= time_s < start + phase.seconds:
                return time_s - start if phase.kind == "freeze" else None
            start += phase.seconds
        return None


def names() -> list[str]:
    """The scenarios that come with the simulator."""
    folder = resources.files("scanner_sim") / "scenarios"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load(name: str) -> Scenario:
    """A scenario by name. Raises ``ScenarioError``."""
    if name not in names():
        raise ScenarioError(f"no scenario {name!r}; there are: {', '.join(names())}")
    text = (resources.files("scanner_sim") / "scenarios" / f"{name}.toml").read_text(
        encoding="utf-8"
    )
    try:
        return _scenario(name, tomllib.loads(text))
    except (KeyError, TypeError) as error:
        raise ScenarioError(f"scenario {name}: {error}") from error


def _scenario(name: str, d: dict[str, Any]) -> Scenario:
    p = d["protocol"]
    return Scenario(
        name=name,
        title=d["title"],
        organ=d["organ"],
        seed=d["seed"],
        margin_goal_mm=d["margin_goal_mm"],
        patient_id=d["patient"]["id"],
        patient_label=d["patient"]["label"],
        lesion_centre_lps_mm=_point(d["lesion"]["centre_lps_mm"]),
        lesion_semi_axes_mm=_point(d["lesion"]["semi_axes_mm"]),
        structures=tuple(Structure(**s) for s in d["structure"]),
        needles=tuple(
            Needle(n["number"], n["type"], _point(n["tip_lps_mm"]), _point(n["entry_lps_mm"]))
            for n in d["needle"]
        ),
        phases=tuple(Phase(q["kind"], 60.0 * q["minutes"]) for q in p["phases"]),
        start_after_baseline_s=p["start_after_baseline_s"],
        scan_times_s=tuple(p["scan_times_s"]),
        stasis_s=p["stasis_s"],
        scan=Scan(**d["scan"]),
        cooling=Cooling(**d["cooling"]),
        tissues={k: Tissue(**v) for k, v in d["tissue"].items()},
    )


def _point(v: list[float]) -> Point:
    x, y, z = (float(c) for c in v)
    return (x, y, z)
