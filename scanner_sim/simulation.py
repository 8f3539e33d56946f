"""A procedure, scan by scan: heat and images are computed ahead in the background.

Seconds from the baseline. Invariant: ``acquisition(n)`` gives the same images whenever it is asked,
computed now or kept on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scanner_sim import truth
from scanner_sim.cache import Cache
from scanner_sim.freezing.heat import Heat, output_frame, resampled
from scanner_sim.freezing.ice import State
from scanner_sim.images import Acquisition
from scanner_sim.patient import anatomy as procedural
from scanner_sim.patient import real_ct
from scanner_sim.patient.anatomy import Anatomy, Outline
from scanner_sim.patient.motion import Displacement
from scanner_sim.render import Renderer
from scanner_sim.scenario import Scenario


class Simulation:
    """One procedure; ``ct`` is a folder with a real series to use as the anatomy. ``progress``
    hears of slices as they are reconstructed: (scan, slices done)."""

    def __init__(
        self,
        scenario: Scenario,
        ct: Path | None = None,
        keep: bool = True,
        progress: Callable[[int, int], None] = lambda _scan, _slices: None,
    ) -> None:
        self.anatomy: Anatomy = real_ct.load(ct, scenario) if ct else procedural.draw(scenario)
        self.scenario = real_ct.adapted(scenario, self.anatomy) if ct else scenario
        self.planned: Outline = self.anatomy if ct else procedural.outline(scenario)
        self._renderer = Renderer(self.scenario, self.anatomy, self.planned.frame)
        self._cache = Cache(scenario, ct, keep)
        self._progress = progress
        self._states: list[State] = []
        self._ready = threading.Condition()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._freeze, name="heat", daemon=True)

    def start(self) -> None:
        """Begins to compute the heat in the background; ``state`` does if nobody has."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Ends the computation: compiled code of two simulations must not run side by side."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def scan_times_s(self) -> tuple[float, ...]:
        return tuple(s.at_s for s in self.scenario.scans)

    def state(self, number: int) -> State:
        """The heat at scan ``number``; waits until it is computed."""
        self.start()
        with self._ready:
            self._ready.wait_for(lambda: self._error is not None or len(self._states) > number)
            if self._error is not None:
                raise RuntimeError(f"the heat computation failed: {self._error}") from self._error
            return self._states[number]

    def displacement(self, number: int) -> Displacement:
        return self._renderer.displacement(number)

    def slices(self, number: int) -> int:
        """How many slices scan ``number`` is reconstructed from, whatever the kernels."""
        return self._renderer.slices(number) * self.scenario.scans[number].frames

    def acquisition(self, number: int) -> Acquisition:
        """The images of scan ``number``."""
        kept = self._cache.load(f"scan_{number:03d}")
        if kept is None:
            state = self._state_if_cold(number)
            made = self._renderer.acquire(number, state, lambda n: self._progress(number, n))
            arrays = {str(i): image.hu for i, image in enumerate(made.images)}
            self._cache.store(f"scan_{number:03d}", arrays)
            return made
        made = self._renderer.described(number)
        images = tuple(replace(m, hu=kept[str(i)]) for i, m in enumerate(made.images))
        for image in images:
            image.hu.setflags(write=False)
        return replace(made, images=images)

    def truth(self, number: int) -> dict[str, Any]:
        """What was really frozen at scan ``number``."""
        time_s = self.scan_times_s[number]
        found = truth.measure(
            self.scenario,
            self.anatomy,
            self._state_if_cold(number),
            self.displacement(number),
            time_s,
        )
        return {"scan": number, **found}

    def _state_if_cold(self, number: int) -> State | None:
        if self.scan_times_s[number] <= self.scenario.start_after_baseline_s:
            return None
        return self.state(number)

    def _freeze(self) -> None:
        try:
            self._freeze_all()
        except Exception as error:
            with self._ready:
                self._error = error
                self._ready.notify_all()

    def _freeze_all(self) -> None:
        frame = output_frame(self.anatomy)
        kept = self._cache.load("heat")
        heat = None if kept is not None else Heat(self.scenario, self.anatomy)
        for number, time_s in enumerate(self.scan_times_s):
            if kept is not None:
                state = State(frame, *(kept[f"{name}_{number}"] for name in ("f", "t", "w")))
            else:
                assert heat is not None
                heat.advance(time_s, self._stop.is_set)
                if self._stop.is_set():
                    return
                fields = (heat.frozen_fraction(), heat.temperature_degc(), heat.wet)
                even = [resampled(np.asarray(f, np.float32), heat.frame, frame) for f in fields]
                state = State(frame, even[0], even[1], even[2])
            with self._ready:
                self._states.append(state)
                self._ready.notify_all()
        if kept is None:
            self._keep_heat()

    def _keep_heat(self) -> None:
        arrays = {}
        for number, s in enumerate(self._states):
            for name, field in (("f", s.fraction), ("t", s.temperature_degc), ("w", s.wet)):
                arrays[f"{name}_{number}"] = field
        self._cache.store("heat", arrays)
