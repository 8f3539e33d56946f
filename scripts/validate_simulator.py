"""The simulator's ice against published measurements, with the needles and tissues as its data files
have them: nothing is fitted here. Prints the second table of docs/validation.md. mm, °C, s.

    .venv/bin/python scripts/validate_simulator.py

Sources: physics notes §5 (Littrup 2009 PMC2762356; swine doi:10.1007/s00270-018-1950-z; human lung
Cryoablation-Dosimetry). What the sources do not give is assumed, and said in ASSUMED.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scanner_sim import scenario as scenarios
from scanner_sim.bodies import ellipsoid
from scanner_sim.frame import Frame, even, on_axes
from scanner_sim.freezing.heat import Heat
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.scenario import Ice, Needle, Phase, Scenario, tissue_names

ASSUMED = """
agar: tissue "fluid", 39 °C; needle pcs_24 (2.4 mm, active 40 mm)
swine: two pcs_24, 15 mm apart, in uniform tissue with patchy perfusion; ice where half is frozen
human lung: one icesphere_1_5 in aerated lung; freezes of 3, 7 and 10 min with thaws of 3 min; after a
thaw the lung within 5 mm of the ice has filled with blood
"""
_AROUND = {
    1: ((0.0, 0.0),),
    2: ((-10.0, 0.0), (10.0, 0.0)),
    3: ((-10.0, -5.8), (10.0, -5.8), (0.0, 11.5)),
    4: ((-10.0, -10.0), (10.0, -10.0), (-10.0, 10.0), (10.0, 10.0)),
}
_TWO = ((-7.5, 0.0), (7.5, 0.0))
_FIFTEEN = (("freeze", 15.0),)
_TEN_EIGHT_TEN = (("freeze", 10.0), ("thaw", 8.0), ("freeze", 10.0))
_LUNG = (("freeze", 3.0), ("thaw", 3.0), ("freeze", 7.0), ("thaw", 3.0), ("freeze", 10.0))


@dataclass(frozen=True)
class Trial:
    """Parallel needles along x at (y, z) ``places_mm`` in one tissue."""

    tissue: str
    needle: str
    places_mm: tuple[tuple[float, float], ...]
    phases: tuple[tuple[str, float], ...]
    start_degc: float = 37.0
    bleeding_mm: float = 0.0


def frozen(trial: Trial) -> tuple[Heat, Frame]:
    """The heat at the end, and an even frame of 0.5 mm around the ice."""
    base = scenarios.load("liver_near_vessel")
    active = scenarios.needle_types()[trial.needle].active_length_mm
    needles = tuple(
        Needle(n, trial.needle, (-0.5 * active, y, z), (100.0, y, z))
        for n, (y, z) in enumerate(trial.places_mm, 1)
    )
    scenario = replace(
        base,
        bodies=(),
        needles=needles,
        phases=tuple(Phase(kind, 60.0 * minutes) for kind, minutes in trial.phases),
        start_after_baseline_s=0.0,
        ice=Ice(bleeding_mm=trial.bleeding_mm),
        tissues=scenarios.tissues(),
    )
    heat = Heat(scenario, _block(scenario, trial.tissue), start_degc=trial.start_degc)
    heat.advance(sum(p.seconds for p in scenario.phases))
    return heat, even((-55.0, -45.0, -45.0), (55.0, 45.0, 45.0), 0.5)


def _block(scenario: Scenario, tissue: str) -> Anatomy:
    axis = np.arange(-130.0, 131.0, 10.0)
    frame = Frame(axis, axis, axis)
    label = np.full(frame.shape, tissue_names().index(tissue), np.uint8)
    hu = np.zeros(frame.shape, np.float32)
    lesion = ellipsoid((0.0, 0.0, 0.0), (5.0, 5.0, 5.0))
    return Anatomy(frame, lesion, (0.0, 0.0, 0.0), {}, scenario.needles, hu, label)


def sizes(inside: np.ndarray) -> tuple[float, float, float]:
    """(length along x, extent along y, diameter of the circle of the middle's area)."""
    length = 0.5 * inside.any((0, 1)).sum()
    width = 0.5 * inside.any((0, 2)).sum()
    area = inside[:, :, inside.shape[2] // 2].sum() * 0.25
    return float(length), float(width), float(2.0 * np.sqrt(area / np.pi))


def measured(trial: Trial) -> dict[str, tuple[float, float, float]]:
    heat, fine = frozen(trial)
    at = (fine.z, fine.y, fine.x)
    fraction = on_axes(heat.frozen_fraction(), heat.frame, *at)
    degc = on_axes(heat.temperature_degc(), heat.frame, *at)
    return {"ice": sizes(fraction >= 0.5), "-30": sizes(degc <= -30.0)}


def main() -> None:
    print("assumed:", ASSUMED)
    print(f"{'experiment':36} {'quantity':16} {'measured':>14} {'simulator':>10} {'error':>7}")
    for probes, mm in ((1, 12.0), (2, 33.0), (3, 41.0), (4, 49.0)):
        found = measured(Trial("fluid", "pcs_24", _AROUND[probes], _FIFTEEN, 39.0))
        tell(f"agar 39 °C, {probes} probe(s), 15 min", "-30 °C diameter", mm, None, found["-30"][2])
    for organ, tissue, numbers in (
        ("kidney", "kidney", ((49.6, 3.2, 40.0, 4.4), (50.0, 7.5, 39.5, 1.7))),
        ("liver", "liver", ((68.5, 4.9, 43.0, 2.8), (65.5, 5.5, 45.0, 3.0))),
    ):
        for (length, dl, width, dw), phases, how in zip(
            numbers, (_FIFTEEN, _TEN_EIGHT_TEN), ("15 min", "10-8-10 min"), strict=True
        ):
            found = measured(Trial(tissue, "pcs_24", _TWO, phases))
            what = f"swine {organ}, 2 probes, {how}"
            tell(what, "width", width, dw, found["ice"][1])
            tell(what, "length", length, dl, found["ice"][0])
    found = measured(Trial("lung", "icesphere_1_5", _AROUND[1], _LUNG, bleeding_mm=5.0))
    tell("human lung, 3-7-10 min", "width", 16.0, 2.9, found["ice"][2])
    tell("human lung, 3-7-10 min", "length", 25.4, 3.2, found["ice"][0])


def tell(what: str, name: str, mm: float, sd: float | None, simulated: float) -> None:
    spread = f" ± {sd:.1f}" if sd else ""
    error = simulated - mm
    verdict = "" if sd is None else "within 1 SD" if abs(error) <= sd else "within 2 SD" if (
        abs(error) <= 2 * sd) else "MISS"  # fmt: skip
    print(
        f"{what:36} {name:16} {f'{mm:.1f}{spread}':>14} {simulated:10.1f} {error:+7.1f}  {verdict}"
    )


if __name__ == "__main__":
    main()
