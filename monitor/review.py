"""What an operator thinks of the ice that was measured last: as measured, accepted, rejected, or drawn anew.
LPS mm; fields on the analysis grid.

A rejected measurement counts as none, and nothing learns from it; a drawn surface stands in place of the
measured one. Invariant: neither is ever better trusted than what it replaces: INVALID, DEGRADED.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from monitor.imaging.distance import sample, signed_distance_mm, volume_ml
from monitor.imaging.measurement import Measurement, Reference
from monitor.imaging.registration import Registration
from monitor.model import (
    SDS_90,
    IceSegmentation,
    Reason,
    Status,
    Structure,
    StructureDistance,
)
from monitor.prediction.estimate import Estimate

# A line drawn by hand is taken to be as uncertain (one sigma) as a measured edge may be before it is told.
_DRAWN_ERROR_MM = 1.5
# Distances are wanted this far from the surface at least.
_FAR_MM = 30.0

MEASURED, ACCEPTED, REJECTED, CORRECTED = "measured", "accepted", "rejected", "corrected"
_REJECTED = Reason("ice_rejected", "An operator has rejected the measured ice.")
_CORRECTED = Reason("ice_corrected", "An operator has drawn the ice in place of the measurement.")


@dataclass(frozen=True)
class Verdict:
    """What holds of a scan however often it is measured anew: rejected, or corrected by what was drawn."""

    verdict: str
    drawn: Structure | None = None


@dataclass(frozen=True)
class Review:
    """The scan measured last. ``before``: what was known when it came, to learn anew from or to stay with;
    ``reference``: what measuring it has left. ``drawn``: by an operator, in the scan's space."""

    measured: IceSegmentation
    registration: Registration
    reference: Reference
    before: Before
    verdict: str = MEASURED
    drawn: Structure | None = None

    @property
    def volume_id(self) -> str:
        return self.measured.volume_id


@dataclass(frozen=True)
class Before:
    """What was known when a scan came."""

    reference: Reference
    estimate: Estimate | None
    structures: tuple[StructureDistance, ...]


def standing(
    ice: IceSegmentation, registration: Registration, verdict: Verdict | None
) -> IceSegmentation:
    """A measurement made anew, as the operator's verdict of that scan has it. A drawing that no longer fits
    makes no measurement."""
    if verdict is None:
        return ice
    if verdict.verdict == CORRECTED and verdict.drawn is not None:
        try:
            return corrected(ice, verdict.drawn, registration)
        except ValueError:
            return rejected(ice)
    return rejected(ice)


def rejected(ice: IceSegmentation) -> IceSegmentation:
    """No measurement."""
    return replace(
        ice,
        sdf_mm=None,
        inner_sdf_mm=None,
        outer_sdf_mm=None,
        volume_ml=float("nan"),
        edge_error_mm=float("nan"),
        quality=0.0,
        status=Status.INVALID,
        reasons=(*ice.reasons, _REJECTED),
    )


def corrected(
    ice: IceSegmentation, drawn: Structure, registration: Registration
) -> IceSegmentation:
    """The drawn surface where the plan's tissue lies. Raises ``ValueError`` where there is none."""
    if registration.status is Status.INVALID:
        raise ValueError("scan and baseline could not be matched: where the ice lies is not known")
    moved = np.moveaxis(registration.displacement_on(ice.grid), 0, -1)
    at = ice.grid.points_lps_mm() + moved
    level = sample(drawn.sdf_mm, drawn.grid, at, outside=_FAR_MM).astype(np.float32)
    if not (level < 0.0).any():
        raise ValueError("nothing of the drawn ice lies around lesion and needles")
    sdf = signed_distance_mm(level, ice.grid)
    bound_mm = np.float32(SDS_90 * _DRAWN_ERROR_MM)
    return replace(
        ice,
        sdf_mm=sdf,
        inner_sdf_mm=sdf + bound_mm,
        outer_sdf_mm=sdf - bound_mm,
        volume_ml=volume_ml(sdf, ice.grid),
        edge_error_mm=_DRAWN_ERROR_MM,
        quality=0.5,
        status=Status.DEGRADED,
        reasons=(*ice.reasons, _CORRECTED),
    )


def review_of(found: Measurement, before: Before, verdict: Verdict | None) -> Review:
    """Of a scan just measured; ``verdict``: what an operator thought of it when it was measured before."""
    review = Review(found.ice, found.registration, found.reference, before)
    return review if verdict is None else replace(review, **vars(verdict))


def is_rejection(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.verdict == REJECTED
