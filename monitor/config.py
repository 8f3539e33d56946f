"""What a procedure is set up with: the frozen ``Config`` and its parts.

``monitor.case`` makes it from CASE.toml. Units are in the names; points are LPS mm. Invariant: a
``Config`` that exists is plausible, and complete unless it is a ``draft``; every error names the field and
the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from monitor.intake.limits import Limits
from monitor.model import PhaseKind, Role


class ConfigError(ValueError):
    """CASE.toml (or a preset) is missing, malformed or implausible; the message names the field."""


@dataclass(frozen=True)
class Ellipsoid:
    """A plain body; a sphere has three equal semi-axes. Axes along L, P, S."""

    centre_lps_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]


@dataclass(frozen=True)
class ShapeFile:
    """A delineation on disk (RTSTRUCT, DICOM SEG, NIfTI, NRRD). ``roi`` picks the ROI or segment
    by name or number, or the label value of a mask; None when the file holds only one."""

    path: Path
    roi: str | None


@dataclass(frozen=True)
class StructureConfig:
    name: str
    role: Role
    shape: Ellipsoid | ShapeFile
    limit_mm: float | None


@dataclass(frozen=True)
class Factor:
    """What multiplies a value, before it is known: lognormal, its ``median`` and the factor ``spread`` > 1
    that one standard deviation is."""

    median: float
    spread: float


@dataclass(frozen=True)
class NeedleType:
    """A cryoprobe as the engine needs it. ``active_length_mm`` starts at the tip; ``cooling``: what share of
    the modelled cooling it delivers."""

    name: str
    diameter_mm: float
    active_length_mm: float
    freeze_surface_degc: float
    ramp_s: float
    cooling: Factor


@dataclass(frozen=True)
class NeedleConfig:
    """``duty`` is the fraction of full cooling, 0..1."""

    number: int
    type: NeedleType
    tip_lps_mm: tuple[float, float, float]
    entry_lps_mm: tuple[float, float, float]
    duty: float


@dataclass(frozen=True)
class ProtocolConfig:
    """Freezes and thaws in order. They start ``start_after_baseline_s`` after the baseline was
    acquired, or when the operator says so (None)."""

    phases: tuple[PhaseConfig, ...]
    start_after_baseline_s: float | None


@dataclass(frozen=True)
class PhaseConfig:
    kind: PhaseKind
    duration_s: float


@dataclass(frozen=True)
class TissueConfig:
    """SI units; ``latent_heat_j_kg`` per kilogram of tissue; perfusion in 1/s."""

    name: str
    rho_kg_m3: float
    c_unfrozen_j_kg_k: float
    c_frozen_j_kg_k: float
    k_unfrozen_w_m_k: float
    k_frozen_w_m_k: float
    latent_heat_j_kg: float
    solidus_degc: float
    liquidus_degc: float
    perfusion_per_s: float
    metabolic_w_m3: float


@dataclass(frozen=True)
class OrganPreset:
    """What an organ brings: the tissue around the lesion, what fat and gas-filled voxels are made
    of, the ice contrast to expect, the usual protocol, the display window, and how unsure the tissue's
    values are."""

    name: str
    tissue: TissueConfig
    fat: TissueConfig
    gas: TissueConfig
    phases: tuple[PhaseConfig, ...]
    margin_goal_mm: float
    expected_ice_drop_hu: float
    window_level_hu: float
    window_width_hu: float
    perfusion: Factor
    latent_heat: Factor
    k_frozen: Factor


@dataclass(frozen=True)
class Peer:
    """A sender that may associate; ``ae_title`` or ``address`` may be "*"."""

    ae_title: str
    address: str


@dataclass(frozen=True)
class TlsConfig:
    """PEM files. ``ca``: whose client certificates are taken, required unless none are asked for. ``host``:
    a name or address that the certificate has to be for; None: not looked at."""

    certificate: Path
    key: Path
    ca: Path | None
    require_client_certificate: bool = True
    host: str | None = None


@dataclass(frozen=True)
class ListenerConfig:
    """Where CT comes in. ``port`` 0 takes a free one. No peers: anyone, on loopback only. ``tls`` None:
    plain TCP."""

    ae_title: str
    address: str
    port: int
    allowed_peers: tuple[Peer, ...]
    tls: TlsConfig | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class ClientTls:
    """PEM files. ``ca``: who may have signed the receiver's certificate. ``certificate`` and ``key``: this
    side's own, for a receiver that asks. ``host``: what the receiver's has to be for; None: where it is."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    host: str | None = None


# What may be sent: the measured ice of each scan while the procedure runs, all others when it has ended.
PACS_OBJECTS = ("ice", "isotherms", "measurements", "screens")
# Into the pixels of the screens the patient's label is burned: they are sent when that is asked for.
PACS_OBJECTS_BY_DEFAULT = PACS_OBJECTS[:3]


@dataclass(frozen=True)
class PacsConfig:
    """Where results are sent, and which of ``PACS_OBJECTS``. ``give_up_after_s``: how long it is tried on
    after the procedure has ended."""

    ae_title: str
    host: str
    port: int
    calling: str
    objects: tuple[str, ...]
    give_up_after_s: float
    tls: ClientTls | None = None


# The label of a case that says of nobody whom it is about; a screen says so in its own language.
UNIDENTIFIED = "unidentified"


@dataclass(frozen=True)
class Config:
    """``lesion`` is None in a draft: what is to be frozen is not known yet, and nothing can be measured.
    ``patient_id``: "" for images that name none; None (in a draft) when nobody knows yet whose."""

    path: Path
    patient_id: str | None
    patient_label: str
    frame_of_reference_uid: str | None
    language: str
    organ: OrganPreset
    margin_goal_mm: float
    lesion: StructureConfig | None
    structures: tuple[StructureConfig, ...]
    needles: tuple[NeedleConfig, ...]
    protocol: ProtocolConfig
    listener: ListenerConfig
    stale_after_s: float
    pacs: PacsConfig | None = None

    @property
    def draft(self) -> bool:
        return self.lesion is None

    @property
    def bodies(self) -> tuple[StructureConfig, ...]:
        """All that is delineated, the lesion first."""
        return self.structures if self.lesion is None else (self.lesion, *self.structures)
