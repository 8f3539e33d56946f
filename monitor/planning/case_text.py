"""A case as text: ``Config`` → CASE.toml that ``monitor.case`` reads back equal. LPS mm, minutes, seconds.

Invariant: ``load_case(write_case(config))`` is the same ``Config``, but for where it lies.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from monitor.config import (
    Config,
    Ellipsoid,
    ListenerConfig,
    NeedleConfig,
    PhaseConfig,
    StructureConfig,
)
from monitor.intake.limits import SETTABLE, Limits
from monitor.model import Role
from monitor.toml_text import toml_text


def write_case(config: Config, path: Path) -> None:
    """Written whole or not at all. Raises ``OSError``."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(case_text(config, path.parent))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def case_text(config: Config, folder: Path) -> str:
    """The case as it reads in ``folder``: files in it are named relative to it."""
    patient: dict[str, Any] = {"label": config.patient_label}
    if config.patient_id is not None:
        patient["id"] = config.patient_id
    if config.frame_of_reference_uid is not None:
        patient["frame_of_reference_uid"] = config.frame_of_reference_uid
    protocol: dict[str, Any] = {"phases": [_phase(p) for p in config.protocol.phases]}
    if config.protocol.start_after_baseline_s is not None:
        protocol["start_after_baseline_s"] = config.protocol.start_after_baseline_s
    root: dict[str, Any] = {
        "language": config.language,
        "patient": patient,
        "organ": {"preset": config.organ.name},
        "margin": {"goal_mm": config.margin_goal_mm},
        "lesion": None if config.lesion is None else _structure(config.lesion, folder),
        "structure": [_structure(s, folder) for s in config.structures],
        "needle": [_needle(n) for n in config.needles],
        "protocol": protocol,
        "listener": _listener(config.listener),
        "display": {"stale_after_s": config.stale_after_s},
    }
    return toml_text({key: value for key, value in root.items() if value not in ([], None)})


def _listener(listener: ListenerConfig) -> dict[str, Any]:
    table: dict[str, Any] = {
        "ae_title": listener.ae_title,
        "address": listener.address,
        "port": listener.port,
        "allowed_peers": [f"{p.ae_title}@{p.address}" for p in listener.allowed_peers],
    }
    if listener.tls is not None:
        tls = {k: v for k, v in vars(listener.tls).items() if v is not None}
        table["tls"] = {k: str(v) if isinstance(v, Path) else v for k, v in tls.items()}
    usual, given = Limits(), listener.limits
    other = {k: getattr(given, k) for k in SETTABLE if getattr(given, k) != getattr(usual, k)}
    return table | ({"limits": other} if other else {})


def _structure(s: StructureConfig, folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if s.role is Role.CRITICAL:
        table |= {"name": s.name, "limit_mm": s.limit_mm}
    if isinstance(s.shape, Ellipsoid):
        return table | {
            "centre_lps_mm": list(s.shape.centre_lps_mm),
            "semi_axes_mm": list(s.shape.semi_axes_mm),
        }
    inside = s.shape.path.is_relative_to(folder)
    table["file"] = str(s.shape.path.relative_to(folder) if inside else s.shape.path)
    if s.shape.roi is not None:
        table["roi"] = s.shape.roi
    return table


def _needle(n: NeedleConfig) -> dict[str, Any]:
    return {
        "number": n.number,
        "type": n.type.name,
        "tip_lps_mm": list(n.tip_lps_mm),
        "entry_lps_mm": list(n.entry_lps_mm),
        "duty": n.duty,
    }


def _phase(p: PhaseConfig) -> dict[str, Any]:
    return {"kind": p.kind.value, "minutes": _minutes(p.duration_s)}


def _minutes(seconds: float) -> float:
    """The minutes that the reader makes exactly these seconds of, where there are such."""
    guess = seconds / 60.0
    near = (guess, math.nextafter(guess, 0.0), math.nextafter(guess, math.inf))
    return next((m for m in near if 60.0 * m == seconds), guess)
