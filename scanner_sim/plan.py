"""What a planning system hands over before the procedure: case.toml, rtstruct.dcm, seg.dcm. LPS mm.

The delineations refer to a planning CT, a series in the procedure's study and frame of reference
that is never sent. Invariant: nothing in the plan comes from the simulated ice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from scanner_sim.bodies import Level
from scanner_sim.dicom.structures import rtstruct, segmentation
from scanner_sim.dicom.study import Procedure
from scanner_sim.dicom.writer import Writer
from scanner_sim.frame import Frame
from scanner_sim.images import Geometry, Image, Technique
from scanner_sim.patient.anatomy import Outline
from scanner_sim.scenario import Scenario

_PLANNED_BEFORE_S = 600.0


def write_plan(
    scenario: Scenario, planned: Outline, writer: Writer, out: Path, ae_title: str, port: int
) -> Path:
    """Writes the files into ``out`` and returns the case's path."""
    out.mkdir(parents=True, exist_ok=True)
    bodies: dict[str, Level] = {"Lesion": planned.lesion}
    bodies |= {name.capitalize(): level for name, level in planned.structures.items()}
    frame = planned.frame
    geometry = Geometry(
        frame.origin_lps_mm,
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, frame.spacing_mm[2]),
        frame.spacing_mm[:2],
    )
    images = planning_images(writer, frame)
    save(rtstruct(writer.study, bodies, geometry, frame.shape, images), out / "rtstruct.dcm")
    save(segmentation(writer.study, bodies, images), out / "seg.dcm")
    case = out / "case.toml"
    case.write_text(_case(scenario, planned, ae_title, port), encoding="utf-8")
    return case


def procedure(scenario: Scenario) -> Procedure:
    s = scenario
    return Procedure(
        s.name,
        s.seed,
        s.patient_id,
        s.patient_label,
        s.organ,
        anatomy=s.digest,
        laterality="L" if s.lesion.centre_lps_mm[0] > 0 else "R",
        position="HFP" if s.habitus.prone else "HFS",
    )


def planning_images(writer: Writer, frame: Frame) -> list[Dataset]:
    """The planning CT, for its UIDs and geometry: voxel centres as in ``frame``, no pixels to see. A
    patient who lies prone is seen as he lies: rows run from left to right."""
    way = -1.0 if writer.study.procedure.position == "HFP" else 1.0
    (x, y), z = ((a[0], a[-1])[way < 0] for a in (frame.x, frame.y)), frame.z[0]
    dx, dy, dz = frame.spacing_mm
    geometry = Geometry(
        (float(x), float(y), float(z)), (way, 0.0, 0.0), (0.0, way, 0.0), (0.0, 0.0, dz), (dx, dy)
    )
    nothing = np.zeros(frame.shape, np.int16)
    technique = Technique(120.0, 1.0, 1.0)
    return writer.planning(Image(nothing, geometry, dz, "soft", technique, -_PLANNED_BEFORE_S, 1.0))


def save(dataset: Dataset, path: Path) -> None:
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _case(s: Scenario, planned: Outline, ae_title: str, port: int) -> str:
    lines = [
        f"# {s.title}. Written by scanner-sim; nothing here is a patient.",
        "",
        "[patient]",
        f'id = "{s.patient_id}"',
        f'label = "{s.patient_label}"',
        "",
        "[organ]",
        f'preset = "{s.organ}"',
        "",
        "[margin]",
        f"goal_mm = {s.margin_goal_mm}",
        "",
        "[lesion]",
        'file = "rtstruct.dcm"',
        'roi = "Lesion"',
        "",
    ]
    for structure in s.structures:
        if structure.name in planned.structures:
            lines += [
                "[[structure]]",
                f'name = "{structure.name}"',
                f"limit_mm = {structure.limit_mm}",
                'file = "rtstruct.dcm"',
                f'roi = "{structure.name.capitalize()}"',
                "",
            ]
    for n in planned.needles:
        lines += [
            "[[needle]]",
            f"number = {n.number}",
            f'type = "{n.type}"',
            f"tip_lps_mm = {list(n.tip_lps_mm)}",
            f"entry_lps_mm = {list(n.entry_lps_mm)}",
            "",
        ]
    phases = ", ".join(f'{{ kind = "{p.kind}", minutes = {p.seconds / 60:g} }}' for p in s.phases)
    lines += [
        "[protocol]",
        f"start_after_baseline_s = {s.start_after_baseline_s}",
        f"phases = [{phases}]",
        "",
        "[listener]",
        f'ae_title = "{ae_title}"',
        'address = "127.0.0.1"',
        f"port = {port}",
        "",
    ]
    return "\n".join(lines)
