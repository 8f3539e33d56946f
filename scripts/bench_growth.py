"""Whether a lesion grown to its boundary is nearer to the true one than what was drawn. LPS mm.

    python scripts/bench_growth.py DIR [DIR ...]

each DIR of `scanner-sim render SCENARIO --scans 1 --out DIR`. A hand is played: two strokes along the true
lesion's axes in its middle slice, and a third one across in every second drawing, each end off by a normal
error of 1.5 mm a direction. Told for each DIR: the mean distance between the surfaces (both ways), true and
drawn, true and grown; of the drawings how many were grown, how many of these were better or worse by more
than 0.25 mm, and the worst. At the end the same of all.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import CtVolume, Role
from monitor.opening import open_case
from monitor.planning.drawn import (
    DrawnBody,
    Ellipsoid,
    Stroke,
    ellipsoid,
    from_ellipsoid,
    with_depth,
)
from monitor.planning.growth import grow

_OFF_MM, _DRAWINGS = 1.5, 6
_ROOM_MM, _SPACING_MM = 30.0, 1.0
_DIFFERS_MM = 0.25


@dataclass(frozen=True)
class Drawing:
    """Mean distances to the true surface."""

    drawn_mm: float
    grown_mm: float
    grown: bool
    shown: float

    @property
    def gain_mm(self) -> float:
        return self.drawn_mm - self.grown_mm


@dataclass(frozen=True)
class Truth:
    grid: Grid
    sdf_mm: FloatArray

    def off_mm(self, body: DrawnBody) -> float:
        """The mean distance between its surface and a body's, both ways."""
        own = signed_distance_mm(_on(body.grid, body.level_mm, self.grid), self.grid)
        near = 0.6 * _SPACING_MM
        ways = (own[np.abs(self.sdf_mm) < near], self.sdf_mm[np.abs(own) < near])
        return float(np.mean([np.abs(w).mean() for w in ways]))


def _on(grid: Grid, level: FloatArray, other: Grid) -> FloatArray:
    index = np.moveaxis(grid.to_index_zyx(other.points_lps_mm()), -1, 0)
    far = float(np.abs(level).max())
    return np.asarray(ndimage.map_coordinates(np.asarray(level, float), index, order=1, cval=far))


def truth_of(folder: Path) -> tuple[Truth, CtVolume]:
    config, procedure = open_case(folder / "case.toml")
    (lesion,) = [s for s in procedure.structures if s.role is Role.LESION]
    inside = lesion.grid.to_lps_mm(np.argwhere(lesion.sdf_mm < 0))
    grid = Grid.around(inside.min(0) - _ROOM_MM, inside.max(0) + _ROOM_MM, _SPACING_MM)
    truth = Truth(grid, signed_distance_mm(_on(lesion.grid, lesion.sdf_mm, grid), grid))
    return truth, soft_volume(volumes_in(folder / "scan_000", config.patient_id))


def strokes(truth: Truth, rng: np.random.Generator, deep: bool) -> Ellipsoid:
    """What a hand draws of it."""
    points = truth.grid.to_lps_mm(np.argwhere(truth.sdf_mm < 0))
    centre = points.mean(0)
    flat = points[np.abs(points[:, 2] - centre[2]) < 0.6 * _SPACING_MM] - centre
    _, axes = np.linalg.eigh(np.cov(flat[:, :2].T))
    long, short = (_stroke(flat, np.array([*axes[:, i], 0.0]), centre, rng) for i in (1, 0))
    drawn = ellipsoid(long, short)
    if not deep:
        return drawn
    return with_depth(drawn, _stroke(points - centre, np.array([0.0, 0.0, 1.0]), centre, rng))


def _stroke(
    points: FloatArray, along: FloatArray, centre: FloatArray, rng: np.random.Generator
) -> Stroke:
    t = points @ along
    ends = [centre + at * along + rng.normal(0.0, _OFF_MM, 3) for at in (t.min(), t.max())]
    (a, b, c), (d, e, f) = ([float(v) for v in end] for end in ends)
    if along[2] == 0.0:  # in one slice
        c = f = float(centre[2])
    return Stroke((a, b, c), (d, e, f))


def drawings(folder: Path) -> list[Drawing]:
    truth, volume = truth_of(folder)
    rng = np.random.default_rng(sum(folder.name.encode()))
    found = []
    for i in range(_DRAWINGS):
        drawn = strokes(truth, rng, deep=i % 2 == 1)
        g = grow(volume, drawn)
        found.append(
            Drawing(truth.off_mm(from_ellipsoid(drawn)), truth.off_mm(g.body), g.grown, g.shown)
        )
    return found


def row(name: str, made: list[Drawing]) -> str:
    gain = np.array([d.gain_mm for d in made])
    return (
        f"{name:34} {np.mean([d.drawn_mm for d in made]):5.2f} {np.mean([d.grown_mm for d in made]):5.2f} "
        f"{sum(d.grown for d in made):4}/{len(made)} {(gain > _DIFFERS_MM).sum():5} "
        f"{(gain < -_DIFFERS_MM).sum():5} {-gain.min():6.2f} {np.mean([d.shown for d in made]):5.2f}"
    )


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    print(
        f"{'mm':34} {'drawn':>5} {'grown':>5} {'grown':>6} {'better':>5} {'worse':>5} {'worst':>6} shown"
    )
    every: list[Drawing] = []
    for folder in p.parse_args().folders:
        made = drawings(folder)
        every += made
        print(row(folder.name, made), flush=True)
    print(row("all", every))


if __name__ == "__main__":
    main()
