"""A scenario: everything that happens, as data. LPS mm, seconds from the baseline scan, SI units.

Invariant: the monitor never reads a scenario; it gets a case, an RTSTRUCT and images.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any

Point = tuple[float, float, float]
ORGANS = ("abdominal_wall", "breast", "lung", "liver", "kidney", "adrenal", "bone")


class ScenarioError(ValueError):
    """A scenario or an anatomy cannot be used; the message says which and why."""


@dataclass(frozen=True)
class NeedleType:
    """A cryoprobe. Heat drawn per length is u·(T − cryogen): ``end_weakness`` less at both ends,
    ``skew`` more towards the tip and as much less towards the shaft."""

    radius_mm: float
    wall_mm: float
    active_length_mm: float
    cryogen_degc: float
    u_w_m_k: float
    ramp_s: float
    end_weakness: float
    skew: float


@dataclass(frozen=True)
class Needle:
    """``strength`` scales its u; after ``fails_at_s`` it draws no heat."""

    number: int
    type: str
    tip_lps_mm: Point
    entry_lps_mm: Point
    strength: float = 1.0
    fails_at_s: float = math.inf

    @property
    def made(self) -> NeedleType:
        return needle_types()[self.type]


@dataclass(frozen=True)
class Structure:
    """Something to spare: a body of the scenario or of the atlas, by name."""

    name: str
    limit_mm: float


@dataclass(frozen=True)
class Body:
    """Something drawn over the atlas: a tube along ``points_lps_mm`` or an ellipsoid. ``wall_mm``
    makes it hollow, ``content`` fills it; it is there from ``appears_at_s`` on."""

    name: str
    tissue: str
    points_lps_mm: tuple[Point, ...]
    semi_axes_mm: Point
    wall_mm: float = 0.0
    content: str = "content"
    hu_offset: float = 0.0
    appears_at_s: float = -math.inf


@dataclass(frozen=True)
class Lesion:
    """``hu`` None: that of its tissue. ``roughness_mm``: how far its edge strays from the plan's."""

    centre_lps_mm: Point
    semi_axes_mm: Point
    tissue: str = "lesion"
    hu: float | None = None
    roughness_mm: float = 0.8


@dataclass(frozen=True)
class Phase:
    kind: str
    seconds: float


@dataclass(frozen=True)
class Scan:
    """One press of the button. ``breath`` is 0 at the plan's breath-hold and 1 at full inspiration;
    ``cover_mm`` is how far below and above the lesion a partial scan reaches."""

    at_s: float
    kind: str = "volume"
    breath: float = 0.0
    cover_mm: tuple[float, float] | None = None
    frames: int = 1


@dataclass(frozen=True)
class Motion:
    """``organ_shift_mm`` is the way of the organs from breath 0 to 1; the patient lies shifted and
    turned from ``shifts_at_s`` on, the couch has moved by ``couch_mm`` from then on too."""

    organ_shift_mm: float = 0.0
    restlessness_mm: float = 0.0
    shift_lps_mm: Point = (0.0, 0.0, 0.0)
    turn_deg: float = 0.0
    couch_mm: float = 0.0
    shifts_at_s: float = math.inf


@dataclass(frozen=True)
class Scanner:
    """Technique and geometry of its scans, and the habits of its DICOM; ``series`` None: its
    maker's."""

    vendor: str
    fov_mm: float = 360.0
    matrix: int = 512
    slices: int = 40
    thickness_mm: float = 2.5
    kvp: float = 120.0
    mas: float = 180.0
    fluoro_mas: float = 25.0
    rotation_s: float = 0.5
    duration_s: float = 2.0
    tilt_deg: float = 0.0
    kernels: tuple[str, ...] = ("soft",)
    series: str | None = None
    order: str = "ascending"
    association: str = "series"
    transfer_syntax: str = "explicit"
    scout: bool = False
    dose_page: bool = False


@dataclass(frozen=True)
class Habitus:
    """The patient's build and how he lies: ``size`` scales the trunk, ``fat_mm`` is at the front."""

    size: float = 1.0
    fat_mm: float = 18.0
    breasts: bool = False
    prone: bool = False


@dataclass(frozen=True)
class Ice:
    """What freezing does besides freezing: cracks, and bleeding into thawed lung."""

    cracks: int = 0
    cracks_at_s: float = math.inf
    bleeding_mm: float = 0.0


@dataclass(frozen=True)
class Tissue:
    """True properties; ``drop_hu`` is how far the CT number falls when all of it is frozen."""

    hu: float
    grain_hu: float
    drop_hu: float
    rho: float
    c_unfrozen: float
    c_frozen: float
    k_unfrozen: float
    k_frozen: float
    latent_heat: float
    liquidus_degc: float
    perfusion_per_s: float
    perfusion_spread: float


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    hard: str
    organ: str
    seed: int
    margin_goal_mm: float
    patient_id: str
    patient_label: str
    habitus: Habitus
    lesion: Lesion
    bodies: tuple[Body, ...]
    structures: tuple[Structure, ...]
    needles: tuple[Needle, ...]
    phases: tuple[Phase, ...]
    start_after_baseline_s: float
    stasis_s: float
    scans: tuple[Scan, ...]
    scanner: Scanner
    motion: Motion
    ice: Ice
    tissues: dict[str, Tissue]
    digest: str

    def freezing(self, time_s: float) -> float | None:
        """Seconds since the running freeze began; None when none runs."""
        start = self.start_after_baseline_s
        for phase in self.phases:
            if start <= time_s < start + phase.seconds:
                return time_s - start if phase.kind == "freeze" else None
            start += phase.seconds
        return None

    def thaw_starts_s(self) -> list[float]:
        start, found = self.start_after_baseline_s, []
        for phase in self.phases:
            if phase.kind != "freeze":
                found.append(start)
            start += phase.seconds
        return found


@lru_cache
def _data(name: str) -> dict[str, Any]:
    text = (resources.files("scanner_sim") / "data" / name).read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache
def needle_types() -> dict[str, NeedleType]:
    return {name: NeedleType(**values) for name, values in _data("needles.toml").items()}


def tissue_names() -> tuple[str, ...]:
    """In the order of the labels of an anatomy."""
    return tuple(_data("tissues.toml"))


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
    return parse(name, text)


def parse(name: str, text: str) -> Scenario:
    """A scenario from its text. Raises ``ScenarioError``."""
    try:
        scenario = _scenario(name, tomllib.loads(text), hashlib.sha256(text.encode()).hexdigest())
    except (KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"scenario {name}: {type(error).__name__}: {error}") from error
    _check(scenario)
    return scenario


def _scenario(name: str, d: dict[str, Any], digest: str) -> Scenario:
    p = d["protocol"]
    return Scenario(
        name=name,
        title=d["title"],
        hard=d["hard"],
        organ=d["organ"],
        seed=d["seed"],
        margin_goal_mm=d["margin_goal_mm"],
        patient_id=d["patient"]["id"],
        patient_label=d["patient"]["label"],
        habitus=Habitus(**d.get("habitus", {})),
        lesion=_lesion(d["lesion"]),
        bodies=tuple(_body(b) for b in d.get("body", [])),
        structures=tuple(Structure(**s) for s in d["structure"]),
        needles=tuple(Needle(**_points(n, "tip_lps_mm", "entry_lps_mm")) for n in d["needle"]),
        phases=tuple(Phase(q["kind"], 60.0 * q["minutes"]) for q in p["phases"]),
        start_after_baseline_s=p["start_after_baseline_s"],
        stasis_s=p["stasis_s"],
        scans=tuple(_scan(s) for s in p["scans"]),
        scanner=Scanner(**_tuples(d["scanner"], "kernels")),
        motion=Motion(**_points(d.get("motion", {}), "shift_lps_mm")),
        ice=Ice(**d.get("ice", {})),
        tissues=tissues(d.get("tissue", {})),
        digest=digest,
    )


def tissues(overrides: dict[str, Any] | None = None) -> dict[str, Tissue]:
    """The table of tissues, with a scenario's own values instead where it has some."""
    overrides = overrides or {}
    table = _data("tissues.toml")
    strange = set(overrides) - set(table)
    if strange:
        raise KeyError(f"[tissue.{strange.pop()}]: expected one of {', '.join(table)}")
    return {name: Tissue(**(values | overrides.get(name, {}))) for name, values in table.items()}


def _check(s: Scenario) -> None:
    """What would only show deep inside, or never. Raises ``ScenarioError``."""
    problems = [
        f"needle {n.number}: type {n.type!r} is none of {', '.join(needle_types())}"
        for n in s.needles
        if n.type not in needle_types()
    ]
    known = tissue_names()
    used = [s.lesion.tissue, *(b.tissue for b in s.bodies), *(b.content for b in s.bodies)]
    problems += [f"tissue {t!r} is none of {', '.join(known)}" for t in used if t not in known]
    times = [scan.at_s for scan in s.scans]
    if times != sorted(set(times)) or not times or times[0] != 0.0:
        problems.append("scans: at_s must rise from 0.0, the baseline")
    if s.organ not in ORGANS:
        problems.append(f"organ {s.organ!r} is none of {', '.join(ORGANS)}")
    problems += [f"scan kind {c.kind!r} is neither volume nor fluoro" for c in s.scans
                 if c.kind not in ("volume", "fluoro")]  # fmt: skip
    for f in fields(Tissue):
        bad = [n for n, t in s.tissues.items() if not math.isfinite(getattr(t, f.name))]
        problems += [f"tissue.{n}.{f.name} is not a finite number" for n in bad]
    if problems:
        raise ScenarioError(f"scenario {s.name}: " + "; ".join(problems))


def _lesion(d: dict[str, Any]) -> Lesion:
    return Lesion(**_points(d, "centre_lps_mm", "semi_axes_mm"))


def _body(d: dict[str, Any]) -> Body:
    d = dict(d)
    if "radius_mm" in d:
        d["semi_axes_mm"] = [d.pop("radius_mm")] * 3
    d["points_lps_mm"] = tuple(_point(p) for p in d["points_lps_mm"])
    return Body(**_points(d, "semi_axes_mm"))


def _scan(d: dict[str, Any]) -> Scan:
    return Scan(**_tuples(d, "cover_mm"))


def _points(d: dict[str, Any], *keys: str) -> dict[str, Any]:
    return d | {k: _point(d[k]) for k in keys if k in d}


def _tuples(d: dict[str, Any], *keys: str) -> dict[str, Any]:
    return d | {k: tuple(d[k]) for k in keys if k in d}


def _point(v: list[float]) -> Point:
    x, y, z = (float(c) for c in v)
    return (x, y, z)
