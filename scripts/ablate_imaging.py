"""What each step of the imaging buys: the same scans measured with one step left out at a time.

    .venv/bin/python scripts/ablate_imaging.py DIR...      # folders that scanner-sim render wrote

A Markdown table on standard output: medians over all scans from 2 minutes of freezing on that show ice
(an INVALID one counts with Dice 0), and how far the bounds hold.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from monitor.benchmark.imaging import Row, score
from monitor.benchmark.truth import Scenario, open_scenarios, read_truth
from monitor.imaging import measurement
from monitor.imaging.anchors import NO_ANCHORS
from monitor.imaging.measurement import Measurement, Reference, make_reference, measure
from monitor.imaging.segmentation import Settings
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import CtVolume
from monitor.opening import open_case
from monitor.procedure import Procedure

_FULL = Settings()
_E, _S = _FULL.evidence, _FULL.surface
_HUGE = 1e6
_SINCE_MIN = 2.0


def _evidence(**changes: object) -> Settings:
    return replace(_FULL, evidence=replace(_E, **changes))  # type: ignore[arg-type]


def _surface(**changes: object) -> Settings:
    return replace(_FULL, surface=replace(_S, **changes))  # type: ignore[arg-type]


VARIANTS = {
    "everything": _FULL,
    "streaks told from the slices beside": _evidence(streak_step_hu=_HUGE),
    "streaks by brightness": _evidence(streak_hu=(-_HUGE, _HUGE)),
    "edges of the anatomy count less": _evidence(misplaced_mm=0.0),
    "darker than ice is no ice": _evidence(deepest_hu=_HUGE),
    "fat can darken by its share only": _evidence(fat_contrast=1.0),
    "local radius (narrow windows)": _surface(levels=_S.levels[:2]),
    "local plateau": _surface(plateau_local_sd=1e-3),
    "half-frozen edge": _surface(half_frozen=0.0, most_frozen=0.5),
    "no start beyond a gap": _surface(least_shown=0.0),
    "blood in lung": replace(_FULL, filled_step_hu=_HUGE),
}
NEEDLES = "needles as anchors of the motion"


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: ablate_imaging.py DIR...")
    rows: dict[str, list[Row]] = {name: [] for name in (*VARIANTS, NEEDLES)}
    for scenario in open_scenarios([Path(p) for p in sys.argv[1:]]):
        for name, row in _scenario(scenario):
            if row.frozen_minutes >= _SINCE_MIN and row.ice_seen:
                rows[name].append(row)
        print(scenario.name, file=sys.stderr, flush=True)
    print(
        "| left out | Dice | surface mean, mm | surface 95 %, mm "
        "| \\|margin error\\|, mm | between bounds | INVALID |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, found in rows.items():
        print(_line("nothing" if name == "everything" else name, found))


def _scenario(scenario: Scenario) -> list[tuple[str, Row]]:
    config, procedure = open_case(scenario.case)
    first = soft_volume(volumes_in(scenario.scan_folder(0), config.patient_id, None))
    start = make_reference(first, procedure.analysis_grid, config)
    references = dict.fromkeys((*VARIANTS, NEEDLES), start)
    rows = []
    for entry in scenario.scans[1:]:
        truth = read_truth(scenario, entry)
        folder = scenario.scan_folder(truth.number)
        volume = soft_volume(volumes_in(folder, config.patient_id, None))
        for name, reference in references.items():
            found = _measured(name, volume, reference, procedure)
            references[name] = found.reference
            rows.append((name, score(scenario.name, found, truth, volume, first, procedure, 0.0)))
    return rows


def _measured(
    name: str, volume: CtVolume, reference: Reference, procedure: Procedure
) -> Measurement:
    if name != NEEDLES:
        return measure(volume, reference, procedure.config, s=VARIANTS[name])
    kept = measurement._anchors
    measurement._anchors = lambda found, before: NO_ANCHORS
    try:
        return measure(volume, reference, procedure.config)
    finally:
        measurement._anchors = kept


def _line(name: str, rows: list[Row]) -> str:
    def median(values: list[float | None]) -> str:
        known = [abs(v) for v in values if v is not None]
        return f"{np.median(known):.2f}" if known else "-"

    area = sum(r.true_area_mm2 for r in rows if r.between_share is not None)
    held = sum(r.true_area_mm2 * r.between_share for r in rows if r.between_share is not None)
    dice = np.median([r.dice or 0.0 for r in rows])
    cells = (
        f"{dice:.3f}",
        median([r.surface_mean_mm for r in rows]),
        median([r.surface_p95_mm for r in rows]),
        median([r.margin_error_mm for r in rows]),
        f"{held / area:.2f}" if area else "-",
        str(sum(r.status == "INVALID" for r in rows)),
    )
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
