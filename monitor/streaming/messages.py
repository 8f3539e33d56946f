"""What a snapshot is over OpenIGTLink: images, surfaces, needles and a sentence. RAS mm, UTC seconds.

OpenIGTLink v2; pyigtl packs. A device's name says what it is, never who the patient is; what is predicted is
called so. Invariant: what a screen would not show (blocked, no measurement, no forecast) is cleared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyigtl

from monitor.geometry import FloatArray, Grid, SliceGeometry
from monitor.snapshot import ArrayRef, Snapshot

Array = npt.NDArray[Any]
Get = Callable[[ArrayRef | None], Array | None]

CT, ICE, ICE_SURFACE = "CT", "IceMeasured", "IceMeasuredSurface"
PREDICTED, PREDICTED_SURFACE = "Predicted0C", "Predicted0CSurface"
NEEDLES, STATE = "Needles", "State"
_PREDICTED_EVERY_S = 10.0
_STATE_EVERY_S = 1.0
_FREEZES_AT_DEGC = 0.0
# Slices that differ from even spacing, or from right angles, by less lie where an image says (of 1 mm).
_EVEN_MM, _SQUARE = 0.01, 1e-4
_AIR_HU = -1024


@dataclass(frozen=True)
class Sending:
    """What a device shows now: two with one ``key`` are the same, and ``pack`` makes the message."""

    device: str
    key: tuple[Any, ...]
    pack: Callable[[], bytes]


def sendings(s: Snapshot, get: Get) -> tuple[Sending, ...]:
    """One for each device, the sentence first. ``get`` reads an array of the snapshot's."""
    return (_state(s), *_ct(s, get), *_measured(s, get), *_predicted(s, get), _needles(s))


# ------------------------------------------------------------------ each device


def _state(s: Snapshot) -> Sending:
    key = (int(s.now_utc_s / _STATE_EVERY_S), s.blocked, s.phase.kind, s.volume_id)
    return Sending(STATE, key, lambda: _packed(
        pyigtl.StringMessage(state_text(s), timestamp=s.now_utc_s, device_name=STATE)
    ))  # fmt: skip


def state_text(s: Snapshot) -> str:
    """ASCII, ``name=value`` separated by semicolons."""
    said = {"time": _utc(s.now_utc_s), "phase": s.phase.kind.value, "research": "not for diagnosis"}
    if s.blocked:
        return _joined({**said, "blocked": "images of another patient or space; nothing is sent"})
    said["ct"] = s.volume_id or "none"
    at = _acquired_utc_s(s)
    if at is not None:
        age_s = s.now_utc_s - at
        said |= {"ct_time": _utc(at), "ct_age_s": f"{age_s:.0f}"}
        said["ct_stale"] = "no" if age_s <= s.stale_after_s else "yes"
    if s.volume_geometry is not None and not _even(s.volume_geometry):
        said["ct_image"] = "not sent: slices tilted or unevenly spaced"
    measured = s.assessment is not None and s.assessment.volume_id == s.volume_id
    said["ice"] = s.assessment.status.value if s.assessment is not None and measured else "unknown"
    said["alarms"] = ",".join(a.code for a in s.alarms) or "none"
    return _joined(said)


def _joined(said: dict[str, str]) -> str:
    text = "; ".join(f"{name}={value}" for name, value in said.items())
    return text.encode("ascii", "replace").decode("ascii")


def _ct(s: Snapshot, get: Get) -> tuple[Sending, ...]:
    hu, geometry = get(s.volume), s.volume_geometry
    if s.blocked or hu is None or geometry is None or not _even(geometry):
        return (_no_image(CT, np.full((1, 1, 1), _AIR_HU, np.int16)),)
    matrix, at = ct_to_ras(geometry), _acquired_utc_s(s)
    return (Sending(CT, (s.volume, geometry), lambda: _image(CT, hu.astype(np.int16), matrix, at)),)


def _measured(s: Snapshot, get: Get) -> tuple[Sending, ...]:
    sdf, grid = get(s.ice_sdf), s.analysis_grid
    if s.blocked or sdf is None or grid is None:
        return _nothing(ICE, ICE_SURFACE)
    return _body((ICE, ICE_SURFACE), (s.ice_sdf, grid), grid, lambda: sdf, _acquired_utc_s(s))


def _predicted(s: Snapshot, get: Get) -> tuple[Sending, ...]:
    degc, grid = get(s.forecast_temperature), s.forecast_grid
    times, now = s.forecast_times_utc_s, s.now_utc_s
    known = bool(times) and times[0] <= now <= times[-1]
    if s.blocked or degc is None or grid is None or not known or len(degc) != len(times):
        return _nothing(PREDICTED, PREDICTED_SURFACE)
    key = (s.forecast_temperature, grid, int(now / _PREDICTED_EVERY_S))
    return _body(
        (PREDICTED, PREDICTED_SURFACE), key, grid,
        lambda: between(degc, times, now) - _FREEZES_AT_DEGC, now,
    )  # fmt: skip


def between(fields: Array, times_utc_s: tuple[float, ...], at_utc_s: float) -> Array:
    """The field of a time between those of a forecast, linear in time."""
    i = min(bisect_right(times_utc_s, at_utc_s) - 1, len(times_utc_s) - 1)
    if i == len(times_utc_s) - 1:
        return np.asarray(fields[i], np.float32)
    part = (at_utc_s - times_utc_s[i]) / (times_utc_s[i + 1] - times_utc_s[i])
    return np.asarray((1.0 - part) * fields[i] + part * fields[i + 1], np.float32)


def _needles(s: Snapshot) -> Sending:
    needles = () if s.blocked else s.needles
    ends = [(f"{n.number} {end}", at) for n in needles
            for end, at in (("tip", n.tip_lps_mm), ("entry", n.entry_lps_mm))]  # fmt: skip

    def pack() -> bytes:
        if not ends:
            return _no_points()
        points, names = to_ras(np.array([at for _, at in ends], float)), [name for name, _ in ends]
        message = pyigtl.PointMessage(points, names, timestamp=s.now_utc_s, device_name=NEEDLES)
        return _packed(message)

    return Sending(NEEDLES, (tuple(ends),), pack)


def _no_points() -> bytes:
    """A list of no points, which the library's own class refuses to make."""
    message = pyigtl.messages.MessageBase(timestamp=0.0, device_name=NEEDLES)
    message._message_type = "POINT"
    return _packed(message)


# ------------------------------------------------------------------ bodies


def _body(
    devices: tuple[str, str],
    key: tuple[Any, ...],
    grid: Grid,
    level: Callable[[], Array],
    at_utc_s: float | None,
) -> tuple[Sending, ...]:
    """Where a level is not above 0: as a label map of 0 and 1, and as a closed surface."""
    image, surface = devices

    def mask() -> bytes:
        return _image(image, (level() <= 0).astype(np.uint8), grid_to_ras(grid), at_utc_s)

    def mesh() -> bytes:
        return _surface(surface, *isosurface(np.asarray(level(), np.float32), grid), at_utc_s)

    return Sending(image, key, mask), Sending(surface, key, mesh)


def _nothing(image: str, surface: str) -> tuple[Sending, ...]:
    none = np.empty((0, 3)), np.empty((0, 3), int)
    return (
        _no_image(image, np.zeros((1, 1, 1), np.uint8)),
        Sending(surface, (None,), lambda: _surface(surface, *none, None)),
    )


def _no_image(device: str, voxel: Array) -> Sending:
    """One empty voxel, in the place of what was shown."""
    return Sending(device, (None,), lambda: _image(device, voxel, np.eye(4), None))


def isosurface(level: Array, grid: Grid) -> tuple[FloatArray, npt.NDArray[np.int_]]:
    """Points (n, 3) in RAS mm and triangles (m, 3) around where a level is below 0, facing outwards. What
    reaches the grid's edge is closed there."""
    from pyqtgraph.functions import isosurface as marching_cubes

    padded = np.pad(np.abs(level), 1, mode="edge")  # it ends half a voxel beyond, as a mask does
    padded[1:-1, 1:-1, 1:-1] = level
    if not (level < 0).any():
        return np.empty((0, 3)), np.empty((0, 3), int)
    vertices, faces = marching_cubes(np.ascontiguousarray(padded), 0.0)
    points = to_ras(grid.to_lps_mm(vertices - 1.0))
    a, b, c = (points[faces[:, i]] for i in range(3))
    if float(np.einsum("ij,ij->", a, np.cross(b, c))) < 0:
        faces = faces[:, ::-1]
    return points, np.asarray(faces, int)


# ------------------------------------------------------------------ places


def to_ras(points_lps_mm: FloatArray) -> FloatArray:
    return np.asarray(points_lps_mm, float) * (-1.0, -1.0, 1.0)


def grid_to_ras(grid: Grid) -> FloatArray:
    """(i, j, k, 1), column, row and slice, to RAS mm, 4×4."""
    matrix = np.diag([*grid.spacing_mm, 1.0])
    matrix[:3, 3] = grid.origin_lps_mm
    return _from_lps(matrix)


def ct_to_ras(g: SliceGeometry) -> FloatArray:
    """As ``grid_to_ras``, of slices that are even and upright."""
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(g.row_direction) * g.column_spacing_mm
    matrix[:3, 1] = np.array(g.column_direction) * g.row_spacing_mm
    matrix[:3, 2] = np.array(g.slice_axis) * g.slice_spacing_mm
    matrix[:3, 3] = g.origin_lps_mm
    return _from_lps(matrix)


def _from_lps(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


def _even(g: SliceGeometry) -> bool:
    """Whether a matrix and right angles say where every voxel lies."""
    steps = np.diff(g.slice_offsets_mm)
    drift = np.abs(np.cumsum(steps - g.slice_spacing_mm)).max() if len(steps) else 0.0
    axis = np.array(g.slice_axis)
    lean = max(abs(float(axis @ np.array(d))) for d in (g.row_direction, g.column_direction))
    return bool(drift <= _EVEN_MM and lean <= _SQUARE)


# ------------------------------------------------------------------ bytes


def _image(device: str, voxels: Array, to_ras_mm: FloatArray, at_utc_s: float | None) -> bytes:
    return _packed(pyigtl.ImageMessage(
        np.ascontiguousarray(voxels), to_ras_mm, "ras", timestamp=at_utc_s or 0.0, device_name=device
    ))  # fmt: skip


def _surface(
    device: str, points: FloatArray, faces: npt.NDArray[np.int_], at_utc_s: float | None
) -> bytes:
    cells = np.column_stack([np.full(len(faces), 3), faces]).astype(np.uint32).ravel()
    return _packed(pyigtl.PolyDataMessage(
        points=np.asarray(points, np.float32), polygons=cells, timestamp=at_utc_s or 0.0,
        device_name=device,
    ))  # fmt: skip


def _packed(message: Any) -> bytes:
    return bytes(message.pack())


def _acquired_utc_s(s: Snapshot) -> float | None:
    return next((r.acquired_utc_s for r in s.received if r.volume_id == s.volume_id), None)


def _utc(at_utc_s: float) -> str:
    return f"{datetime.fromtimestamp(at_utc_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
