"""The scanner's console: what leaves it, object by object. LPS mm, seconds from the baseline.

Before the baseline goes a scout, after the last scan a dose page, where the scanner does so.
Invariant: asked twice for a scan, it gives the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from scanner_sim.dicom import profiles
from scanner_sim.dicom.enhanced import enhanced
from scanner_sim.dicom.writer import SeriesPer, Writer
from scanner_sim.images import Geometry, Technique
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.plan import procedure
from scanner_sim.scenario import Scanner, Scenario, ScenarioError
from scanner_sim.simulation import Simulation

_SCOUT_BEFORE_S, _DOSE_AFTER_S = 20.0, 5.0
_SERIES: dict[str, SeriesPer] = {"per_scan": "per_scan", "single": "single"}


def writer_of(scenario: Scenario, epoch_utc_s: float) -> Writer:
    """In the habits of the scenario's scanner: its maker's, where the scenario has none of its own.
    Raises ``ScenarioError``."""
    s, series = scenario.scanner, _SERIES.get(scenario.scanner.series or "")
    if s.series and series is None:
        raise ScenarioError(f"series {s.series!r}: expected {' or '.join(_SERIES)}")
    profile = profiles.load(s.vendor)
    return Writer(
        procedure(scenario), profile, epoch_utc_s, series=series, syntax=s.transfer_syntax
    )


def enhanced_console(simulation: Simulation, epoch_utc_s: float) -> Console:
    """As ``Console`` with ``writer_of``, each volume as one Enhanced CT object."""
    scanner = simulation.scenario.scanner
    plain = replace(scanner, transfer_syntax="explicit")
    writer = writer_of(replace(simulation.scenario, scanner=plain), epoch_utc_s)
    return Console(simulation, writer, scanner.transfer_syntax)


class Console:
    """The objects of one procedure, scan by scan. ``enhanced``: the transfer syntax of Enhanced CT objects
    that the slices, which are then uncompressed, are joined to."""

    def __init__(self, simulation: Simulation, writer: Writer, enhanced: str | None = None) -> None:
        self._simulation, self._writer, self._enhanced = simulation, writer, enhanced

    @property
    def ready_times_s(self) -> list[float]:
        """When each scan has been taken and reconstructed."""
        s = self._simulation.scenario
        return [c.at_s + (s.scanner.duration_s if c.kind == "volume" else 0.6) for c in s.scans]

    def datasets(self, number: int) -> list[Dataset]:
        """Scan ``number``'s objects in the order in which they are made."""
        s = self._simulation.scenario
        found: list[Dataset] = []
        if number == 0 and s.scanner.scout:
            found.append(self._scout())
        found += self._writer.slices(self._simulation.acquisition(number))
        if number == len(s.scans) - 1 and s.scanner.dose_page:
            found.append(self._writer.dose_page(dose_lines(s), s.scans[-1].at_s + _DOSE_AFTER_S))
        return found if self._enhanced is None else list(enhanced(found, self._enhanced))

    def _scout(self) -> Dataset:
        anatomy, s = self._simulation.anatomy, self._simulation.scenario.scanner
        geometry = Geometry(
            (float(anatomy.frame.x[0]), 0.0, float(anatomy.frame.z[-1])),
            (1.0, 0.0, 0.0),
            (0.0, 0.0, -1.0),
            (0.0, 1.0, 0.0),
            (anatomy.frame.spacing_mm[0], anatomy.frame.spacing_mm[2]),
        )
        technique = Technique(s.kvp, 20.0, s.rotation_s)
        return self._writer.scout(scout_hu(anatomy), geometry, technique, -_SCOUT_BEFORE_S)


def scout_hu(anatomy: Anatomy) -> npt.NDArray[np.int16]:
    """The view from the front, head up: attenuation along y, scaled as scouts are."""
    water_mm = np.maximum(1.0 + anatomy.hu / 1000.0, 0.0).sum(axis=1) * anatomy.frame.spacing_mm[1]
    return np.asarray(np.rint(4.0 * water_mm[::-1] - 600.0), np.int16)


def dose_lines(scenario: Scenario) -> list[str]:
    """The text of the dose page; doses from tube load, 0.066 mGy/mAs in a 320 mm phantom."""
    s: Scanner = scenario.scanner
    lines = ["DOSE REPORT  (simulated, not a patient)", "", "scan  type     kV   mAs  CTDIvol mGy"]
    for number, scan in enumerate(scenario.scans):
        mas = s.mas if scan.kind == "volume" else s.fluoro_mas * scan.frames
        lines.append(f"{number:4d}  {scan.kind:7s} {s.kvp:4.0f} {mas:5.0f}  {0.066 * mas:8.2f}")
    return lines
