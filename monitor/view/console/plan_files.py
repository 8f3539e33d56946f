"""The console's files: plans with all they name and corrections, written; delineations, read. LPS mm.

Invariant: nothing that was written before is written over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from monitor.config import ListenerConfig, ShapeFile, StructureConfig
from monitor.model import Role
from monitor.planning.case_text import write_case
from monitor.planning.draft import Draft, config_of, drawn_bodies
from monitor.planning.drawn import DrawnBody, write_mask

if TYPE_CHECKING:
    from monitor.intake.structures import Part


def parts_of(path: Path) -> tuple[Part, ...]:
    """The bodies in a file. Raises ``StructureError``. What reads DICOM is loaded with the first file: the
    window opens a second sooner."""
    from monitor.intake.structures import parts

    return parts(path)


def readable(shape: ShapeFile) -> None:
    """Raises ``StructureError`` where it cannot be."""
    from monitor.intake.structures import load_structure

    load_structure(StructureConfig("lesion", Role.LESION, shape, None))


def write_plan(
    draft: Draft, folder: Path, listener: ListenerConfig, language: str, stale_after_s: float
) -> Path:
    """The draft as a case of its own in the folder; its file. Raises ``OSError``."""
    own = _free(folder)
    own.mkdir(parents=True)
    for name, body in drawn_bodies(draft).items():
        write_mask(body, own / name)
    config = config_of(draft, own / "case.toml", listener, language, stale_after_s)
    write_case(config, config.path)
    return config.path.resolve()


def write_correction(body: DrawnBody, folder: Path) -> Path:
    """A mask in the folder. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _free(folder).with_suffix(".nii.gz")
    write_mask(body, path)
    return path.resolve()


def _free(folder: Path) -> Path:
    """A name in the folder that nothing has yet."""
    number = 1
    while any(folder.glob(f"{number:03d}*")):
        number += 1
    return folder / f"{number:03d}"
