"""What a planning system hands over before the procedure: case.toml, rtstruct.dcm, seg.dcm. LPS mm.

Invariant: nothing in it comes from the simulated ice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from scanner_sim.bodies import Level
from scanner_sim.dicom.structures import rtstruct, segmentation
from scanner_sim.dicom.study import Procedure
from scanner_sim.dicom.writer import Writer
from scanner_sim.images import Acquisition, Geometry, Image, Technique
from scanner_sim.patient.anatomy import Outline
from scanner_sim.scenario import Scenario


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
    images = _plan_images(writer, geometry, frame.shape)
    save(rtstruct(writer.study, bodies, geometry, frame.shape, images), out / "rtstruct.dcm")
    save(segmentation(writer.study, bodies, images), out / "seg.dcm")
    case = out / "case.toml"
    case.write_text(_case(scenario, planned, ae_title, port), encoding="utf-8")
    return case


def procedure(scenario: Scenario) -> Procedure:
    s = scenario
    return Procedure(s.name, s.seed, s.patient_id, s.patient_label, s.organ)


def save(dataset: pydicom.Dataset, path: Path) -> None:
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _plan_images(
    writer: Writer, geometry: Geometry, shape: tuple[int, int, int]
) -> list[pydicom.Dataset]:
    """The planning scan's slices, for their UIDs and geometry: a SEG must name its source."""
    nothing = np.zeros(shape, np.int16)
    image = Image(
        nothing, geometry, geometry.step_lps_mm[2], "soft", Technique(120, 1, 1), 0.0, 1.0
    )
    return list(writer.slices(Acquisition(0, "volume", 0.0, (image,))))


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
