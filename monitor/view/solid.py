"""Bodies in three dimensions, seen from outside: rays through signed distances. Pure numpy; LPS mm, degrees.

A ray goes towards the body by as much as the signed distance says is free, until it is there (sphere
tracing, Hart 1996): no mesh, no OpenGL, and a body is as exact as its field. Rays are parallel and begin on a
ball around the middle; what lies outside it is not seen.
Invariant: a ray that ends nowhere is NaN, never a depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import Grid
from monitor.view.planes import Point

Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[np.floating]
# A field finer than this shows nothing more at the size of the pane, and costs.
_FINEST, _STEPS, _THERE_MM, _LEAST_MM, _BOLD = 56, 26, 0.30, 0.25, 0.95


@dataclass(frozen=True)
class Camera:
    """Looks at ``centre`` from ``azimuth_deg`` (0: from in front, 90: from the patient's left) and
    ``elevation_deg`` above; shows a ball of ``radius_mm``."""

    centre: Point
    radius_mm: float
    azimuth_deg: float = 30.0
    elevation_deg: float = 20.0

    def axes(self) -> Array:
        """(right, up, towards the eye), as rows."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        towards = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
        right = np.array([math.cos(a), math.sin(a), 0.0])
        return np.stack([right, np.cross(towards, right), towards])

    def seen(self, points: Array) -> Array:
        """Points (..., 3) as (right, up, towards) mm from the centre."""
        return (np.asarray(points, float) - np.array(self.centre)) @ self.axes().T


@dataclass(frozen=True)
class Body:
    """A field around the camera's ball, coarse enough; ``level_mm`` is what it is on the surface."""

    field: Float32
    origin_lps_mm: Array
    spacing_mm: Array
    level_mm: float = 0.0

    def at(self, points: Array) -> Float32:
        index = (points - self.origin_lps_mm) / self.spacing_mm
        found = ndimage.map_coordinates(
            self.field, index[:, ::-1].T, order=1, mode="nearest", output=np.float32
        )
        return np.asarray(found - self.level_mm, np.float32)


@dataclass(frozen=True)
class Seen:
    """(row, column) each: how near to the eye (mm from the centre), NaN where there is nothing; and how
    squarely the surface faces it, 0..1."""

    near_mm: Float32
    facing: Float32


def body_of(
    field: Array, grid: Grid, centre: Point, radius_mm: float, level_mm: float
) -> Body | None:
    """What of a field the ball needs; None where the two do not meet."""
    spacing, origin = np.array(grid.spacing_mm), np.array(grid.origin_lps_mm)
    low = np.floor((np.array(centre) - radius_mm - 2.0 - origin) / spacing).astype(int)
    high = np.ceil((np.array(centre) + radius_mm + 2.0 - origin) / spacing).astype(int) + 1
    shape = np.array(field.shape)[::-1]
    low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    stride = np.maximum(1, np.ceil((high - low) / _FINEST).astype(int))
    part = field[
        tuple(slice(a, b, s) for a, b, s in zip(low[::-1], high[::-1], stride[::-1], strict=True))
    ]
    if min(part.shape) < 2:
        return None
    return Body(np.asarray(part, np.float32), origin + low * spacing, stride * spacing, level_mm)


def seen_of(body: Body, camera: Camera, size: int) -> Seen:
    """The body on a square of ``size`` pixels that holds the ball."""
    axes, r = camera.axes(), camera.radius_mm
    across = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * r
    x, y = np.meshgrid(across, -across)
    deep = np.sqrt(np.maximum(r * r - x * x - y * y, 0.0))
    rays = np.flatnonzero(deep > 0)
    flat = (
        np.array(camera.centre) + x.ravel()[rays, None] * axes[0] + y.ravel()[rays, None] * axes[1]
    )
    near = _traced(body, flat, axes[2], deep.ravel()[rays])
    there = np.isfinite(near)
    near_mm, facing = (np.full(size * size, v, np.float32) for v in (np.nan, 0.0))
    near_mm[rays] = near
    facing[rays[there]] = _facing(body, flat[there] + near[there, None] * axes[2], axes[2])
    return Seen(near_mm.reshape(size, size), facing.reshape(size, size))


def _traced(body: Body, flat: Array, towards: Array, deep: Array) -> Array:
    """How near to the eye each ray ends, counted from the plane through the centre; NaN: nowhere."""
    near, live = deep.astype(float), np.arange(len(flat))
    ended = np.full(len(flat), np.nan)
    for _ in range(_STEPS):
        free = body.at(flat[live] + near[live, None] * towards)
        there = free <= _THERE_MM
        ended[live[there]] = near[live[there]]
        live, free = live[~there], free[~there]
        near[live] -= np.maximum(_BOLD * free, _LEAST_MM)
        live = live[near[live] > -deep[live]]
        if not len(live):
            break
    return ended


def _facing(body: Body, points: Array, towards: Array) -> Float32:
    """The cosine between the surface's normal and the way to the eye."""
    h = float(body.spacing_mm.min())
    slope = np.stack([body.at(points + h * e) - body.at(points - h * e) for e in np.eye(3)], -1)
    length = np.maximum(np.linalg.norm(slope, axis=-1), 1e-6)
    return np.asarray(np.clip(slope @ towards / length, 0.0, 1.0), np.float32)


def picture(
    layers: Sequence[tuple[Seen, tuple[int, int, int], float, float]],
) -> npt.NDArray[np.uint8]:
    """(row, column, RGB): surfaces over each other, the nearest first, on black. Each layer with its colour,
    how opaque it is seen squarely, and how opaque at its rim."""
    if not layers:
        return np.zeros((2, 2, 3), np.uint8)
    near = np.stack([np.nan_to_num(s.near_mm, nan=-np.inf) for s, *_ in layers])
    rim = np.stack([(1.0 - s.facing) ** 2 for s, *_ in layers])
    alpha = np.stack([a + (b - a) * e for (_, _, a, b), e in zip(layers, rim, strict=True)])
    alpha[np.isneginf(near)] = 0.0
    # What is seen through is lit all over: its rim, which shows it, must not be the dark part of it.
    light = np.stack(
        [0.35 + 0.65 * s.facing if a > 0.5 else np.ones_like(s.facing) for s, _, a, _ in layers]
    )
    colours = np.array([c for _, c, _, _ in layers], np.float32)
    order = np.argsort(-near, axis=0)
    out, left = np.zeros((*near.shape[1:], 3), np.float32), np.ones(near.shape[1:], np.float32)
    for which in order:
        a = left * np.take_along_axis(alpha, which[None], 0)[0]
        lit = np.take_along_axis(light, which[None], 0)[0]
        out += (a * lit)[..., None] * colours[which]
        left = left - a
    return np.clip(out, 0, 255).astype(np.uint8)
