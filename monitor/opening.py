"""From a case on disk to the procedure that runs: the case, its delineations, its grids. LPS mm.

Invariant: what is opened is of one patient, as far as its files say.
"""

from __future__ import annotations

from pathlib import Path

from monitor.case import load_case
from monitor.config import Config, ShapeFile, StructureConfig
from monitor.intake.structures import StructureError, load_structure
from monitor.model import Role, Structure
from monitor.procedure import Procedure, prepare


def open_case(path: Path) -> tuple[Config, Procedure]:
    """A case with its delineations read. Raises ``ConfigError`` or ``StructureError``."""
    config = load_case(path)
    structures, frames = _structures(config)
    return config, prepare(config, structures, frames)


def open_drawing(path: Path) -> Structure:
    """Ice that an operator drew on a scan, in that scan's space. Raises ``StructureError``."""
    shape = ShapeFile(path, None)
    return load_structure(StructureConfig("ice", Role.LESION, shape, None)).structure


def _structures(config: Config) -> tuple[list[Structure], frozenset[str]]:
    structures, frames = [], set()
    for wanted in config.bodies:
        loaded = load_structure(wanted)
        if loaded.patient_id is not None and loaded.patient_id != config.patient_id:
            raise StructureError(
                f"{config.path}: {wanted.name}: the file is of another patient than patient.id"
            )
        structures.append(loaded.structure)
        if loaded.frame_of_reference_uid is not None:
            frames.add(loaded.frame_of_reference_uid)
    return structures, frozenset(frames)
