"""A procedure, scan by scan: heat is computed ahead in the background while images are sent.

Seconds from the baseline. Invariant: ``scan(n)`` gives the same images whenever it is asked.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner_sim import anatomy as procedural
from scanner_sim import real_ct, truth
from scanner_sim.bodies import FloatArray
from scanner_sim.heat import Heat
from scanner_sim.render import Renderer
from scanner_sim.scenario import Scenario


@dataclass(frozen=True)
class Frozen:
    """The heat grid at one scan: frozen fraction and temperature, (z, y, x)."""

    fraction: FloatArray | None
    temperature_degc: FloatArray


class Simulation:
    """One procedure; ``ct`` is a folder with a real series to use as the anatomy."""

    def __init__(self, scenario: Scenario, ct: Path | None = None) -> None:
        self.scenario = scenario
        self.anatomy = real_ct.load(ct, scenario) if ct else procedural.draw(scenario)
        # A real series brings its own noise.
        noise_sd_hu = 0.0 if ct else scenario.scan.noise_sd_hu
        extra = 5.0 if ct else 0.0
        self._renderer = Renderer(scenario, self.anatomy, noise_sd_hu or extra)
        self.heat = Heat(scenario, self.anatomy)
        self._frozen: list[Frozen] = []
        self._ready = threading.Condition()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._freeze, name="heat", daemon=True)

    def start(self) -> None:
        """Begins to compute the heat in the background; ``frozen`` does if nobody has."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Ends the computation: compiled code of two simulations must not run side by side."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def scan_times_s(self) -> tuple[float, ...]:
        return self.scenario.scan_times_s

    def frozen(self, number: int) -> Frozen:
        """The state at scan ``number``; waits until it is computed."""
        self.start()
        with self._ready:
            self._ready.wait_for(lambda: self._error is not None or len(self._frozen) > number)
            if self._error is not None:
                raise RuntimeError(f"the heat computation failed: {self._error}") from self._error
            return self._frozen[number]

    def scan(self, number: int) -> npt.NDArray[np.int16]:
        """The Hounsfield units of scan ``number``."""
        if self.scan_times_s[number] <= self.scenario.start_after_baseline_s:
            return self._renderer.scan(number, None, None)
        return self._renderer.scan(number, self.frozen(number).fraction, self.heat.frame)

    def truth(self, number: int) -> dict[str, Any]:
        """What was really frozen at scan ``number``."""
        time_s = self.scan_times_s[number]
        found = truth.measure(
            self.scenario, self.anatomy, self.heat.frame, self.frozen(number).fraction, time_s
        )
        return {"scan": number, **found}

    def _freeze(self) -> None:
        try:
            for time_s in self.scan_times_s:
                self.heat.advance(time_s, self._stop.is_set)
                if self._stop.is_set():
                    return
                cold = time_s > self.scenario.start_after_baseline_s
                frozen = Frozen(
                    self.heat.frozen_fraction() if cold else None, self.heat.temperature_degc()
                )
                with self._ready:
                    self._frozen.append(frozen)
                    self._ready.notify_all()
        except Exception as error:
            with self._ready:
                self._error = error
                self._ready.notify_all()
