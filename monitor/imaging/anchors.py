"""What needles tell of the tissue that holds them: a stiff body that goes where they go. LPS mm.

Ice freezes tissue and needles into one piece, and before that a needle drags the tissue along; metal
is found to a few tenths of a millimetre where the image beside it says little. Organs slide along
the wall, so that what surrounds the needles may have moved otherwise.
Invariant: a needle that was pulled or pushed against the tissue is no anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitor.geometry import FloatArray

# Tissue lets a needle slide along its own axis only: so far against the picture, and so much more
# than aside, is a hand's doing and not the breath's.
_SLID_MM, _SLID_RATIO = 5.0, 2.0
# The breath leaves needles and picture apart by up to 2.5 times the unevenness of the surroundings'
# motion (tuning scans); more than that, and than finding and matching explain, is a hand's doing too.
_APART_MM, _APART_RATIO = 2.5, 3.0
# Points along an active zone, as shares of it.
_SHARES = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True)
class Anchors:
    """Active zones of found needles, (m, 2, 3): tip and upper end, in the plan and in the scan."""

    plan_lps_mm: FloatArray
    scan_lps_mm: FloatArray

    def held(
        self, expected_mm: Callable[[FloatArray], FloatArray], uneven_mm: float = 0.0
    ) -> Anchors:
        """Those that have not been moved against the displacement (n, 3) that the picture says of
        points (n, 3); ``uneven_mm`` is how differently it says that the surroundings have moved."""
        middle = self.plan_lps_mm.mean(axis=1)
        off = self.scan_lps_mm.mean(axis=1) - middle - expected_mm(middle)
        axis = _unit(self.scan_lps_mm[:, 1] - self.scan_lps_mm[:, 0])
        along = (off * axis).sum(axis=1)
        aside = np.linalg.norm(off - along[:, None] * axis, axis=1)
        slid = (np.abs(along) > _SLID_MM) & (np.abs(along) > _SLID_RATIO * aside)
        apart = np.linalg.norm(off, axis=1) > max(_APART_MM, _APART_RATIO * uneven_mm)
        kept = ~(slid | apart)
        return Anchors(self.plan_lps_mm[kept], self.scan_lps_mm[kept])

    def pull(self, points_lps_mm: FloatArray, reach_mm: float) -> tuple[FloatArray, FloatArray]:
        """How much plan points (n, 3) are held (n,): one for each third of an active zone that is
        near, in a Gaussian; and how they move (n, 3): with the stiff body, and where its needles
        have moved apart, with the nearer one."""
        weights, moved = np.zeros(len(points_lps_mm)), np.zeros_like(points_lps_mm)
        if not len(self.plan_lps_mm):
            return weights, moved
        for plan, scan in zip(self.plan_lps_mm, self.scan_lps_mm, strict=True):
            for share in _SHARES:
                point, now = (a[0] + share * (a[1] - a[0]) for a in (plan, scan))
                squared = ((points_lps_mm - point) ** 2).sum(axis=1)
                weight = np.exp(-0.5 * squared / reach_mm**2)
                weights += weight
                moved += weight[:, None] * (now - self._carried(point))
        return weights, self._carried(points_lps_mm) - points_lps_mm + (
            moved / np.maximum(weights, 1e-9)[:, None]
        )

    def _carried(self, points: FloatArray) -> FloatArray:
        """Shifted as the zones' middle was, and turned as the needles' mean direction."""
        plan, scan = (a.mean(axis=(0, 1)) for a in (self.plan_lps_mm, self.scan_lps_mm))
        before, after = (
            _unit((a[:, 1] - a[:, 0]).mean(axis=0)) for a in (self.plan_lps_mm, self.scan_lps_mm)
        )
        return np.asarray(scan + (points - plan) @ _turn(before, after).T)


NO_ANCHORS = Anchors(np.zeros((0, 2, 3)), np.zeros((0, 2, 3)))


def _unit(v: FloatArray) -> FloatArray:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _turn(one: FloatArray, other: FloatArray) -> FloatArray:
    """The smallest rotation from one unit vector to the other; they are less than 90° apart."""
    x, y, z = np.cross(one, other)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + skew + skew @ skew / (1.0 + float(one @ other)))
