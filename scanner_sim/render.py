"""What the scanner would reconstruct: anatomy, ice, metal, blur and noise. HU int16, (z, y, x).

The CT number falls with the frozen fraction of the water; metal shines and streaks along the
needle. A projector replaces the painted blur and streaks later. Invariant: same seed, scan number
and state, same pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.anatomy import TISSUES, Anatomy, Frame
from scanner_sim.bodies import FloatArray
from scanner_sim.heat import direction
from scanner_sim.scenario import Needle, Scenario

# Full freezing of water-rich tissue: 50-85 HU are published (Sandison 1998: 85 in a phantom).
FREEZING_DROP_HU = 70.0
_METAL_HU = 3000.0
_STREAK_HU = 35.0


class Renderer:
    """Renders the scans of one procedure."""

    def __init__(self, scenario: Scenario, anatomy: Anatomy, noise_sd_hu: float) -> None:
        self._scenario, self._anatomy = scenario, anatomy
        self._noise_sd_hu = noise_sd_hu
        self._water = np.array([scenario.tissues[t].water for t in TISSUES], np.float32)[
            anatomy.label
        ]
        frame = anatomy.frame
        self._sigma = [0.25] + [scenario.scan.psf_sigma_mm / d for d in frame.spacing_mm[1::-1]]
        hu = anatomy.hu.copy()
        for needle in anatomy.needles:
            hu += _streak_hu(needle, frame)
            hu = np.where(_inside_shaft(needle, frame), _METAL_HU, hu)
        self._clean = ndimage.gaussian_filter(hu.astype(np.float32), self._sigma, truncate=3.0)

    def scan(
        self, number: int, fraction: FloatArray | None, heat_frame: Frame | None
    ) -> npt.NDArray[np.int16]:
        """Scan ``number`` with the frozen fraction of the heat grid (None: no ice yet)."""
        hu = self._clean.copy()
        if fraction is not None and heat_frame is not None:
            window, drop = self._drop_hu(fraction, heat_frame)
            hu[window] -= ndimage.gaussian_filter(drop, self._sigma, truncate=3.0)
        rng = np.random.default_rng((self._scenario.seed, number))
        hu += self._noise(hu.shape, rng)
        return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)

    def _drop_hu(
        self, fraction: FloatArray, heat_frame: Frame
    ) -> tuple[tuple[slice, ...], FloatArray]:
        """The CT number drop on the scan's voxels around the ice."""
        frame = self._anatomy.frame
        window = tuple(
            slice(
                int(np.searchsorted(axis, heat[0])), int(np.searchsorted(axis, heat[-1], "right"))
            )
            for axis, heat in zip(
                (frame.z, frame.y, frame.x), (heat_frame.z, heat_frame.y, heat_frame.x), strict=True
            )
        )
        points = (frame.z[window[0]], frame.y[window[1]], frame.x[window[2]])
        on_scan = on_axes(fraction, heat_frame, *points)
        return window, FREEZING_DROP_HU * on_scan * self._water[window]

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Correlated within a slice, as a soft kernel leaves it."""
        if self._noise_sd_hu <= 0:
            return np.zeros(shape, np.float32)
        noise = rng.standard_normal(shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(noise, (0, 0.75, 0.75), truncate=3.0)
        return noise * np.float32(self._noise_sd_hu / noise[::7].std())


def on_axes(
    field: FloatArray, frame: Frame, z: FloatArray, y: FloatArray, x: FloatArray
) -> FloatArray:
    """A field of the heat grid at the crossings of three axes, trilinear, 0 beyond."""
    result = np.asarray(field, np.float32)
    for axis, (points, own) in enumerate(((z, frame.z), (y, frame.y), (x, frame.x))):
        u = (points - own[0]) / (own[1] - own[0])
        low = np.clip(np.floor(u).astype(int), 0, len(own) - 2)
        shape = [-1 if a == axis else 1 for a in range(3)]
        part = np.clip(u - low, 0, 1).astype(np.float32).reshape(shape)
        inside = ((u >= 0) & (u <= len(own) - 1)).reshape(shape)
        result = np.where(
            inside, result.take(low, axis) * (1 - part) + result.take(low + 1, axis) * part, 0
        )
    return result


def _along_aside(needle: Needle, frame: Frame) -> tuple[FloatArray, FloatArray]:
    x, y, z = frame.grid()
    d = direction(needle)
    px, py, pz = x - needle.tip_lps_mm[0], y - needle.tip_lps_mm[1], z - needle.tip_lps_mm[2]
    along = px * d[0] + py * d[1] + pz * d[2]
    return along, np.sqrt(np.maximum(px**2 + py**2 + pz**2 - along**2, 0.0))


def _inside_shaft(needle: Needle, frame: Frame) -> npt.NDArray[np.bool_]:
    """From the tip out of the patient to the handle; as thick as the voxels let it be."""
    along, aside = _along_aside(needle, frame)
    reach = np.linalg.norm(np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)) + 40.0
    return (along >= 0) & (along <= reach) & (aside < max(0.75, 0.55 * max(frame.spacing_mm)))


def _streak_hu(needle: Needle, frame: Frame) -> FloatArray:
    """Dark bands in line with the shaft, where the beam runs along the metal."""
    along, aside = _along_aside(needle, frame)
    beyond = np.clip(-along / 25.0, 0.0, 1.0) * (along < 0) * (along > -25.0)
    return np.asarray(
        -_STREAK_HU
        * (1.0 - beyond)
        * (along > -25.0)
        * (along < 0)
        * np.exp(-((aside / 2.5) ** 2)),
        np.float32,
    )
