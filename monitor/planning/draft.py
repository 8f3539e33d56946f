"""A case while it is being made: what is there, what is missing. LPS mm, seconds.

Invariant: a draft that misses nothing makes a ``Config``; every edit makes a new draft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.case import needle_preset, organ_names, organ_preset
from monitor.config import (
    UNIDENTIFIED,
    Config,
    ListenerConfig,
    NeedleConfig,
    PhaseConfig,
    ProtocolConfig,
    ShapeFile,
    StructureConfig,
)
from monitor.config import Ellipsoid as Plain
from monitor.model import Role
from monitor.planning.drawn import DrawnBody, Ellipsoid, from_ellipsoid

Point = tuple[float, float, float]
Shape = DrawnBody | ShapeFile

DEFAULT_LIMIT_MM = 5.0
DEFAULT_NEEDLE = "icesphere_1_5"
# As CASE.toml has it (``monitor.case``).
_SHORTEST_NEEDLE_MM, _LONGEST_NEEDLE_MM = 10.0, 400.0


@dataclass(frozen=True)
class DraftStructure:
    name: str
    shape: Shape
    limit_mm: float = DEFAULT_LIMIT_MM


@dataclass(frozen=True)
class DraftNeedle:
    number: int
    type: str
    tip_lps_mm: Point
    entry_lps_mm: Point
    on_metal: bool = False
    duty: float = 1.0


@dataclass(frozen=True)
class Draft:
    """``organ`` "" is not chosen yet; ``margin_goal_mm`` and ``phases`` None are the organ's. ``marked``: the
    lesion as the strokes have it, from which it grows."""

    patient_id: str | None = None
    organ: str = ""
    margin_goal_mm: float | None = None
    lesion: Shape | None = None
    structures: tuple[DraftStructure, ...] = ()
    no_structures: bool = False
    needles: tuple[DraftNeedle, ...] = ()
    phases: tuple[PhaseConfig, ...] | None = None
    start_after_baseline_s: float | None = None
    marked: Ellipsoid | None = None

    def free_number(self) -> int:
        taken = {n.number for n in self.needles}
        return next(i for i in range(1, 100) if i not in taken)


def draft_of(config: Config) -> Draft:
    """The draft that a case would have come of, to be gone on with. What a draft cannot hold (an organ that
    is no preset) is missing in it."""
    lesion = config.lesion.shape if config.lesion is not None else None
    marked = _marked(lesion) if isinstance(lesion, Plain) else None
    return Draft(
        patient_id=config.patient_id,
        organ=config.organ.name if config.organ.name in organ_names() else "",
        margin_goal_mm=config.margin_goal_mm,
        lesion=None if lesion is None else _drawn(lesion),
        marked=marked,
        structures=tuple(
            DraftStructure(s.name, _drawn(s.shape), s.limit_mm or DEFAULT_LIMIT_MM)
            for s in config.structures
        ),
        no_structures=lesion is not None and not config.structures,
        needles=tuple(
            DraftNeedle(n.number, n.type.name, n.tip_lps_mm, n.entry_lps_mm, duty=n.duty)
            for n in config.needles
        ),
        phases=config.protocol.phases,
        start_after_baseline_s=config.protocol.start_after_baseline_s,
    )


def _marked(e: Plain) -> Ellipsoid:
    return Ellipsoid(np.array(e.centre_lps_mm), np.eye(3), np.array(e.semi_axes_mm))


def _drawn(shape: Plain | ShapeFile) -> Shape:
    return shape if isinstance(shape, ShapeFile) else from_ellipsoid(_marked(shape))


def missing(draft: Draft) -> tuple[str, ...]:
    """What keeps the draft from being used, in the order of the work: "baseline", "lesion",
    "structures" (neither drawn nor said to be none), "needles", "organ"."""
    found = {
        "baseline": draft.patient_id is None,
        "lesion": draft.lesion is None,
        "structures": not draft.structures and not draft.no_structures,
        "needles": not draft.needles,
        "organ": not draft.organ,
    }
    return tuple(name for name, is_missing in found.items() if is_missing)


def plausible(tip: Point, entry: Point) -> bool:
    """Whether a needle is as long as one can be."""
    apart = sum((a - b) ** 2 for a, b in zip(tip, entry, strict=True)) ** 0.5
    return _SHORTEST_NEEDLE_MM <= apart <= _LONGEST_NEEDLE_MM


def drawn_bodies(draft: Draft) -> dict[str, DrawnBody]:
    """What has to be written beside the case, by the name of its file."""
    bodies: dict[str, DrawnBody] = {}
    if isinstance(draft.lesion, DrawnBody):
        bodies["lesion.nii.gz"] = draft.lesion
    for i, s in enumerate(draft.structures):
        if isinstance(s.shape, DrawnBody):
            bodies[f"structure_{i + 1}.nii.gz"] = s.shape
    return bodies


def config_of(
    draft: Draft, path: Path, listener: ListenerConfig, language: str, stale_after_s: float
) -> Config:
    """The case at ``path``, its drawn bodies in files beside it. Of a draft that misses nothing."""
    if missing(draft) or draft.patient_id is None or draft.lesion is None:
        raise ValueError(f"incomplete: {', '.join(missing(draft))}")
    files: Mapping[int, str] = {id(b): name for name, b in drawn_bodies(draft).items()}

    def shape(s: Shape) -> ShapeFile:
        return s if isinstance(s, ShapeFile) else ShapeFile(path.parent / files[id(s)], None)

    organ = organ_preset(draft.organ)
    margin = organ.margin_goal_mm if draft.margin_goal_mm is None else draft.margin_goal_mm
    return Config(
        path=path,
        patient_id=draft.patient_id,
        patient_label=draft.patient_id or UNIDENTIFIED,
        frame_of_reference_uid=None,
        language=language,
        organ=organ,
        margin_goal_mm=margin,
        lesion=StructureConfig("lesion", Role.LESION, shape(draft.lesion), None),
        structures=tuple(
            StructureConfig(s.name, Role.CRITICAL, shape(s.shape), s.limit_mm)
            for s in draft.structures
        ),
        needles=tuple(
            NeedleConfig(n.number, needle_preset(n.type), n.tip_lps_mm, n.entry_lps_mm, n.duty)
            for n in draft.needles
        ),
        protocol=ProtocolConfig(
            organ.phases if draft.phases is None else draft.phases, draft.start_after_baseline_s
        ),
        listener=listener,
        stale_after_s=stale_after_s,
    )
