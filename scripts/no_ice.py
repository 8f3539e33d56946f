"""What the imaging finds where nothing has been frozen: a baseline held against two more of them, with
other noise and another breath. ml, mm.

    .venv/bin/python scripts/no_ice.py [SCENARIO...]

Wanted: less than 0.3 ml, and no alarm of ice. Seeds are 901 and so on, which nothing was tuned on.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.opening import open_case
from scanner_sim import output
from scanner_sim import scenario as scenarios
from scanner_sim.scenario import Scan
from scanner_sim.simulation import Simulation

_SEED = 901
_SCANS = (Scan(0.0), Scan(100.0, breath=0.3), Scan(200.0, breath=0.05))
_NEVER_S = 7000.0


def main() -> None:
    found = [_measured(name, n) for n, name in enumerate(sys.argv[1:] or scenarios.names())]
    worst = max(max(volumes) for volumes in found)
    print(f"largest: {worst:.2f} ml in {2 * len(found)} scans (wanted: less than 0.3)")


def _measured(name: str, number: int) -> list[float]:
    scenario = replace(
        scenarios.load(name), seed=_SEED + number, scans=_SCANS, start_after_baseline_s=_NEVER_S
    )
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(scenario, keep=False)
        try:
            output.write_all(simulation, Path(folder), len(_SCANS), lambda _: None)
        finally:
            simulation.close()
        return _against_baseline(name, Path(folder))


def _against_baseline(name: str, folder: Path) -> list[float]:
    config, procedure = open_case(folder / "case.toml")
    first, *others = (
        soft_volume(volumes_in(folder / f"scan_{n:03d}", config.patient_id, None))
        for n in range(len(_SCANS))
    )
    reference = make_reference(first, procedure.analysis_grid, config)
    volumes = []
    for scan in others:
        m = measure(scan, reference, config)
        volumes.append(m.ice.volume_ml if m.ice.sdf_mm is not None else 0.0)
        told = ", ".join(r.code for r in m.ice.reasons)
        print(
            f"{name}: {volumes[-1]:.2f} ml, {m.ice.status.value} {told}, "
            f"shift {m.registration.shift_mm:.1f} mm",
            flush=True,
        )
    return volumes


if __name__ == "__main__":
    main()
