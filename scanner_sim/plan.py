"""What a planning system hands over before the procedure: case.toml and rtstruct.dcm. LPS mm.

Invariant: nothing in it comes from the simulated ice.
"""

from __future__ import annotations

from pathlib import Path

import pydicom

from scanner_sim.dicom_out import Writer
from scanner_sim.simulation import Simulation


def write_plan(simulation: Simulation, writer: Writer, out: Path, ae_title: str, port: int) -> Path:
    """Writes both files into ``out`` and returns the case's path."""
    out.mkdir(parents=True, exist_ok=True)
    bodies = {"Lesion": simulation.anatomy.lesion}
    bodies |= {name.capitalize(): level for name, level in simulation.anatomy.structures.items()}
    save(writer.rtstruct(bodies), out / "rtstruct.dcm")
    case = out / "case.toml"
    case.write_text(_case(simulation, ae_title, port), encoding="utf-8")
    return case


def save(dataset: pydicom.Dataset, path: Path) -> None:
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _case(simulation: Simulation, ae_title: str, port: int) -> str:
    s, anatomy = simulation.scenario, simulation.anatomy
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
        if structure.name in anatomy.structures:
            lines += [
                "[[structure]]",
                f'name = "{structure.name}"',
                f"limit_mm = {structure.limit_mm}",
                'file = "rtstruct.dcm"',
                f'roi = "{structure.name.capitalize()}"',
                "",
            ]
    for n in anatomy.needles:
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
