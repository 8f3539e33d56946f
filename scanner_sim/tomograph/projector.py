"""Parallel-beam projections of a slice and filtered back-projection. mm, (view, channel).

By the Fourier slice theorem: the transform of a projection is the image's two-dimensional transform
along a line, taken with a non-uniform fast Fourier transform (FINUFFT, Barnett et al. 2019,
doi:10.1137/18M120885X); back-projection is its adjoint. A real scanner's fan is rebinned to the
same parallel rays before it is reconstructed.
Invariant: projecting and reconstructing an image gives it back, blurred by ``response`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import finufft
import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.floating[Any]]
ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]

VIEWS = 800
CHANNELS = 1024
# Spatial frequency at which a kernel passes half, per mm: a B30-like and a B60-like kernel.
KERNELS_F50_PER_MM = {"soft": 0.38, "sharp": 0.65}
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Rays:
    """Where the rays of a scan of ``size``² pixels of ``pixel_mm`` run."""

    size: int
    pixel_mm: float

    @cached_property
    def pitch_mm(self) -> float:
        """Between channels; the detector covers the image's diagonal with room to spare."""
        return 1.5 * self.size * self.pixel_mm / CHANNELS

    @cached_property
    def angles(self) -> FloatArray:
        return np.arange(VIEWS) * (np.pi / VIEWS)

    @cached_property
    def offsets_mm(self) -> FloatArray:
        """A ray of view ``a`` at offset ``t`` holds the points with x·cos a + y·sin a = t."""
        return (np.arange(CHANNELS) - CHANNELS // 2) * self.pitch_mm


def response(f_per_mm: FloatArray, kernel: str) -> FloatArray:
    """What the reconstruction kernel passes of each frequency; the ramp is not part of it."""
    return np.exp(-np.log(2.0) * (f_per_mm / KERNELS_F50_PER_MM[kernel]) ** 2)


class Projector:
    """Projects and reconstructs. Not for two threads at once: each has its own."""

    def __init__(self, rays: Rays) -> None:
        self.rays = rays
        f = fft.fftfreq(CHANNELS, rays.pitch_mm)
        self._kept = np.abs(f) * rays.pixel_mm < 0.5
        w = 2.0 * np.pi * f[self._kept]
        cos, sin = np.cos(rays.angles)[:, None], np.sin(rays.angles)[:, None]
        phase = 0.5 * rays.pixel_mm * w * (cos + sin)  # pixel centres lie half a pixel off
        self._phase = np.exp(-1j * phase).astype(np.complex64)
        self._aperture = np.sinc(w * rays.pitch_mm / (2.0 * np.pi)).astype(np.float32)
        gx, gy = ((w * c * rays.pixel_mm).ravel().astype(np.float32) for c in (cos, sin))
        shape = (rays.size, rays.size)
        self._to_rays, self._to_image = (
            finufft.Plan(
                kind, shape, eps=_TOLERANCE, isign=sign, dtype="complex64", nthreads=1, modeord=0
            )
            for kind, sign in ((2, -1), (1, 1))
        )
        self._to_rays.setpts(gy, gx)
        self._to_image.setpts(gy, gx)

    def project(self, image: ComplexArray) -> ComplexArray:
        """Line integrals (value·mm). Two real images ride in one complex one."""
        r = self.rays
        spectrum = np.zeros((VIEWS, CHANNELS), np.complex64)
        values = self._to_rays.execute(np.ascontiguousarray(image, np.complex64))
        spectrum[:, self._kept] = values.reshape(VIEWS, -1) * self._phase * self._aperture
        lines = fft.ifft(spectrum, axis=1, overwrite_x=True)
        return fft.fftshift(lines, axes=1) * np.float32(r.pixel_mm**2 / r.pitch_mm)

    def reconstruct(self, lines: ComplexArray, kernel: str) -> ComplexArray:
        """The image (value) whose line integrals these are, seen through a kernel."""
        r = self.rays
        n = 2 * CHANNELS  # padded: the ramp reaches beyond the detector
        filtered = fft.ifft(fft.fft(lines, n, axis=1) * _ramp(r.pitch_mm, kernel), axis=1)
        filtered = fft.ifftshift(filtered[:, :CHANNELS], axes=1)
        spectrum = fft.fft(filtered, axis=1, overwrite_x=True)[:, self._kept]
        strengths = spectrum * np.conj(self._phase) * np.float32(np.pi / VIEWS / CHANNELS)
        return np.asarray(self._to_image.execute(strengths.astype(np.complex64).ravel()))


def _ramp(pitch_mm: float, kernel: str) -> FloatArray:
    """Kak & Slaney's band-limited ramp, exact at zero frequency, times the kernel."""
    n = 2 * CHANNELS
    k = fft.fftfreq(n, 1.0 / n)
    h = np.where(k % 2 == 0, 0.0, -1.0 / (np.pi * np.where(k == 0, 1, k) * pitch_mm) ** 2)
    h[0] = 0.25 / pitch_mm**2
    ramp = np.real(fft.fft(h)) * pitch_mm
    return (ramp * response(fft.fftfreq(n, pitch_mm), kernel)).astype(np.float32)


def noise_gain_per_mm(rays: Rays, kernel: str) -> float:
    """SD of the reconstruction in the middle of the image for a line integral's SD of 1."""
    f = fft.fftfreq(2 * CHANNELS, rays.pitch_mm)
    ramp = _ramp(rays.pitch_mm, kernel).astype(float)
    # Back-projection passes nothing beyond the image's own Nyquist frequency.
    power = np.sum(np.where(np.abs(f) * rays.pixel_mm < 0.5, ramp, 0.0) ** 2) * (f[1] - f[0])
    return float(np.sqrt(np.pi**2 / VIEWS * rays.pitch_mm * power))
