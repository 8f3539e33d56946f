"""What the needles bring to the registration: its error over the lesion's border with them and from the
picture alone, and how unevenly the picture says that the surroundings have moved. mm.

    .venv/bin/python scripts/motion_by_needles.py DIR...      # folders that scanner-sim render wrote
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from monitor.benchmark.imaging import registration_mm
from monitor.benchmark.truth import Scenario, open_scenarios, read_truth
from monitor.imaging import motion
from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.opening import open_case


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: motion_by_needles.py DIR...")
    for scenario in open_scenarios([Path(p) for p in sys.argv[1:]]):
        _compare(scenario)


def _compare(scenario: Scenario) -> None:
    config, procedure = open_case(scenario.case)
    first = soft_volume(volumes_in(scenario.scan_folder(0), config.patient_id, None))
    reference = make_reference(first, procedure.analysis_grid, config)
    for entry in scenario.scans[1:]:
        truth = read_truth(scenario, entry)
        volume = soft_volume(
            volumes_in(scenario.scan_folder(truth.number), config.patient_id, None)
        )
        found = measure(volume, reference, config)
        shift_mm = np.array(found.registration.shift_lps_mm)
        alone = motion.register(volume, reference.template, [shift_mm])
        errors = [
            registration_mm(r, truth, volume.geometry, procedure)
            for r in (found.registration, alone)
        ]
        with_mm, alone_mm = ("-" if e is None else f"{e:.2f}" for e in errors)
        print(
            f"{scenario.name} scan {truth.number}: {with_mm} with needles "
            f"({sum(n.found for n in found.needles)} found), {alone_mm} from the picture alone, "
            f"which says {alone.error_mm:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
