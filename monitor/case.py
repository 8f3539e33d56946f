"""CASE.toml → ``Config``. Schema: docs/example_case.toml. Points LPS mm, times in s or minutes.

Invariant: the file is read once and every error in it is reported at once.
"""

from __future__ import annotations

import ipaddress
import math
import re
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from monitor.config import (
    PACS_OBJECTS,
    PACS_OBJECTS_BY_DEFAULT,
    UNIDENTIFIED,
    ClientTls,
    Config,
    ConfigError,
    Ellipsoid,
    Factor,
    ListenerConfig,
    NeedleConfig,
    NeedleType,
    OrganPreset,
    PacsConfig,
    Peer,
    PhaseConfig,
    ProtocolConfig,
    ShapeFile,
    StructureConfig,
    TissueConfig,
    TlsConfig,
)
from monitor.fields import Table
from monitor.intake.limits import SETTABLE, WHOLE, Limits
from monitor.model import PhaseKind, Role

_DEFAULT_LIMIT_MM = 5.0
_DEFAULT_STALE_S = 210.0
_DEFAULT_GIVE_UP_S = 300.0
# How tomllib begins what it says of text without quotes.
_UNQUOTED = ("Invalid value", "Expected newline or end of document after a statement")
_SHAPE = ("file", "roi", "centre_lps_mm", "radius_mm", "semi_axes_mm")


def load_case(path: Path) -> Config:
    """The case. Raises ``ConfigError`` listing every field that is wrong."""
    return case_of(read_toml(path), path)


def case_of(tables: dict[str, Any], path: Path) -> Config:
    """The case of a file's tables; what it names lies relative to ``path``. Raises ``ConfigError``."""
    errors: list[str] = []
    root = Table(tables, "", errors)
    config = _config(root, path, errors)
    root.done()
    if errors:
        raise ConfigError("\n  ".join([f"{path}: {len(errors)} problem(s)", *errors]))
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ``ConfigError``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        if str(error).startswith(_UNQUOTED):
            raise ConfigError(
                f'{path}: not TOML: {error}; text needs quotes, as in id = "AB12"'
            ) from error
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _config(root: Table, path: Path, errors: list[str]) -> Config:
    organ = _organ(root)
    patient = root.table("patient")
    patient_id = _patient_id(patient, draft=not root.has("lesion"))
    listener = _listener(root.table("listener"), path.parent)
    config = Config(
        path=path,
        patient_id=patient_id,
        patient_label=patient.text("label", patient_id or UNIDENTIFIED),
        frame_of_reference_uid=patient.text("frame_of_reference_uid")
        if patient.has("frame_of_reference_uid")
        else None,
        language=root.text("language", "en", ("en", "fr")),
        organ=organ,
        margin_goal_mm=_optional(root, "margin", "goal_mm", 0.0, 30.0, "mm", organ.margin_goal_mm),
        lesion=_structure(root.table("lesion"), Role.LESION, path) if root.has("lesion") else None,
        structures=tuple(_structure(t, Role.CRITICAL, path) for t in root.tables("structure")),
        needles=tuple(_needle(t) for t in root.tables("needle")),
        protocol=_protocol(root.table("protocol"), organ),
        listener=listener,
        stale_after_s=_optional(
            root, "display", "stale_after_s", 10.0, 3600.0, "s", _DEFAULT_STALE_S
        ),
        pacs=_pacs(root.table("pacs"), path.parent) if root.has("pacs") else None,
    )
    patient.done()
    _unique(errors, "needle", "number", [n.number for n in config.needles])
    _unique(errors, "structure", "name", [s.name for s in config.structures])
    return config


def _patient_id(patient: Table, draft: bool) -> str | None:
    """Images without a PatientID can be followed only by a case that says so: id = "". Before a lesion is
    drawn, whose it will be may not be known."""
    if draft and not patient.has("id"):
        return None
    return "" if patient.has("id") and patient.raw("id") == "" else patient.text("id")


def _optional(
    root: Table, name: str, key: str, low: float, high: float, unit: str, default: float
) -> float:
    table = root.table(name)
    value = table.number(key, low, high, unit, default)
    table.done()
    return value


def _unique(errors: list[str], table: str, key: str, values: list[Any]) -> None:
    for value in sorted({v for v in values if values.count(v) > 1}):
        errors.append(f"{table}.{key}: {value!r} is given to more than one {table}")


# ------------------------------------------------------------------ bodies and needles


def _structure(t: Table, role: Role, case: Path) -> StructureConfig:
    name = "lesion" if role is Role.LESION else t.text("name")
    limit_mm = (
        None if role is Role.LESION else t.number("limit_mm", 0.0, 100.0, "mm", _DEFAULT_LIMIT_MM)
    )
    shape: Ellipsoid | ShapeFile
    given = [key for key in _SHAPE if t.has(key)]
    if "file" in given:
        shape = _shape_file(t, case)
        _not_with(t, given, "file", _SHAPE[2:])
    elif "centre_lps_mm" in given:
        shape = _ellipsoid(t)
        if "roi" in given:
            t.error("roi", "only with file")
        if "radius_mm" in given:
            _not_with(t, given, "radius_mm", ("semi_axes_mm",))
    else:
        t.lacks(
            ("file", "centre_lps_mm"),
            "expected a file (with roi), or centre_lps_mm with radius_mm or semi_axes_mm",
        )
        shape = Ellipsoid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    t.done()
    return StructureConfig(name, role, shape, limit_mm)


def _not_with(t: Table, given: list[str], key: str, others: tuple[str, ...]) -> None:
    for other in others:
        if other in given:
            t.error(other, f"not together with {key}")


def _shape_file(t: Table, case: Path) -> ShapeFile:
    path = case.parent / t.text("file")
    if not path.is_file():
        t.error("file", f"{path} is not a file")
    roi = t.raw("roi", None)
    if roi is not None and (isinstance(roi, bool) or not isinstance(roi, str | int)):
        t.error("roi", f"expected a name or a number, got {roi!r}")
    return ShapeFile(path, None if roi is None else str(roi))


def _ellipsoid(t: Table) -> Ellipsoid:
    centre = t.triple("centre_lps_mm")
    if t.has("radius_mm"):
        radius = t.number("radius_mm", 0.5, 300.0, "mm")
        return Ellipsoid(centre, (radius, radius, radius))
    if t.has("semi_axes_mm"):
        return Ellipsoid(centre, t.triple("semi_axes_mm", 0.5, 300.0))
    t.lacks(("radius_mm", "semi_axes_mm"), "expected radius_mm or semi_axes_mm")
    return Ellipsoid(centre, (1.0, 1.0, 1.0))


def _needle(t: Table) -> NeedleConfig:
    types = _preset("needles")
    name = t.text("type", choices=tuple(types))
    tip, entry = t.triple("tip_lps_mm"), t.triple("entry_lps_mm")
    apart_mm = math.dist(tip, entry)
    if not 10.0 <= apart_mm <= 400.0:
        t.error("entry_lps_mm", f"expected 10 to 400 mm from the tip, got {apart_mm:.1f} mm")
    needle = NeedleConfig(
        t.whole("number", 1, 99),
        _needle_type(name, types),
        tip,
        entry,
        t.number("duty", 0.0, 1.0, default=1.0),
    )
    t.done()
    return needle


def needle_preset(name: str) -> NeedleType:
    """A needle's type by name. Raises ``ConfigError`` when the presets themselves are wrong."""
    return _needle_type(name, _preset("needles"))


def _needle_type(name: str, types: dict[str, Any]) -> NeedleType:
    t = Table(
        types.get(name, next(iter(types.values()))),
        f"presets/needles.toml: {name}",
        errors := list[str](),
    )
    found = NeedleType(
        name,
        t.number("diameter_mm", 0.5, 5.0, "mm"),
        t.number("active_length_mm", 5.0, 80.0, "mm"),
        t.number("freeze_surface_degc", -200.0, -20.0, "°C"),
        t.number("ramp_s", 1.0, 300.0, "s"),
        _factor(t.table("cooling")),
    )
    return _checked(t, found, errors)


# ------------------------------------------------------------------ protocol and listener


def _protocol(t: Table, organ: OrganPreset) -> ProtocolConfig:
    phases = _phases(t) if t.has("phases") else organ.phases
    start = (
        t.number("start_after_baseline_s", 0.0, 7200.0, "s")
        if t.has("start_after_baseline_s")
        else None
    )
    t.done()
    return ProtocolConfig(phases, start)


def _phases(t: Table) -> tuple[PhaseConfig, ...]:
    phases = []
    for i, p in enumerate(t.tables("phases")):
        kind = p.text("kind", choices=("freeze", "thaw"))
        if kind != ("freeze", "thaw")[i % 2]:
            p.error("kind", "phases start with a freeze and alternate")
        phases.append(PhaseConfig(PhaseKind(kind), 60.0 * p.number("minutes", 0.1, 60.0, "min")))
        p.done()
    if not phases:
        t.error("phases", "expected at least one freeze")
    return tuple(phases)


def _listener(t: Table, folder: Path) -> ListenerConfig:
    ae_title = t.text("ae_title", "ICEBALL")
    if (
        len(ae_title) > 16
        or not ae_title.isascii()
        or not ae_title.isprintable()
        or "\\" in ae_title
    ):
        t.error(
            "ae_title",
            f"expected at most 16 printable ASCII characters without a backslash, got {ae_title!r}",
        )
    address = t.text("address", "127.0.0.1")
    peers = tuple(p for p in (_peer(t, v) for v in _list(t, "allowed_peers")) if p)
    if _is_address(address) and not ipaddress.ip_address(address).is_loopback and not peers:
        t.error("allowed_peers", f"required when listening on {address}, which others can reach")
    if address and not _is_address(address):
        t.error("address", f"expected an IP address, got {address!r}")
    listener = ListenerConfig(
        ae_title,
        address,
        t.whole("port", 0, 65535, 11112),
        peers,
        _tls(t.table("tls"), folder) if t.has("tls") else None,
        _limits(t.table("limits")),
    )
    t.done()
    return listener


def _tls(t: Table, folder: Path) -> TlsConfig:
    """The files are looked at when it listens: a record is to be opened where they are not."""
    required = t.truth("require_client_certificate", True)
    if required and not t.has("ca"):
        t.error("ca", "missing: whose client certificates are to be accepted")
    tls = TlsConfig(
        folder / t.text("certificate"),
        folder / t.text("key"),
        folder / t.text("ca") if t.has("ca") else None,
        required,
        t.text("host") if t.has("host") else None,
    )
    t.done()
    return tls


def _limits(t: Table) -> Limits:
    usual = Limits()
    given: dict[str, Any] = {}
    for name, (low, high) in SETTABLE.items():
        default = getattr(usual, name)
        whole = name in WHOLE
        given[name] = (
            t.whole(name, int(low), int(high), default)
            if whole
            else t.number(name, low, high, "s", default)
        )
    t.done()
    return replace(usual, **given)


def _pacs(t: Table, folder: Path) -> PacsConfig:
    given = t.text("send_to")
    place = place_of(given)
    if given and place is None:
        t.error("send_to", f'expected "AE@host:port", got {given!r}')
    objects = tuple(map(str, _list(t, "objects"))) if t.has("objects") else PACS_OBJECTS_BY_DEFAULT
    for name in objects:
        if name not in PACS_OBJECTS:
            t.error("objects", f"expected any of {', '.join(PACS_OBJECTS)}; got {name!r}")
    calling = t.text("calling", "ICEBALL")
    if len(calling) > 16 or not calling.isascii():
        t.error("calling", f"expected at most 16 ASCII characters, got {calling!r}")
    made = PacsConfig(
        *(place or ("", "", 0)),
        calling,
        objects,
        t.number("give_up_after_s", 0.0, 86400.0, "s", _DEFAULT_GIVE_UP_S),
        client_tls(t.table("tls"), folder) if t.has("tls") else None,
    )
    t.done()
    return made


def place_of(text: str) -> tuple[str, str, int] | None:
    """Title, host and port of ``AE@host:port``; None where it is nothing of the kind."""
    found = re.fullmatch(r"([^@\s]{1,16})@([^@\s]+):(\d{1,5})", text)
    if found is None or not 0 < int(found[3]) < 65536:
        return None
    return found[1], found[2], int(found[3])


def client_tls(t: Table, folder: Path) -> ClientTls:
    """A table of files for who calls by TLS; they are looked at when it does."""
    both = t.has("certificate"), t.has("key")
    if both[0] != both[1]:
        t.error("key" if both[0] else "certificate", "missing: certificate and key belong together")
    tls = ClientTls(
        folder / t.text("ca"),
        folder / t.text("certificate") if all(both) else None,
        folder / t.text("key") if all(both) else None,
        t.text("host") if t.has("host") else None,
    )
    t.done()
    return tls


def anchored(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tables with the files of [listener.tls] and [pacs.tls] named absolutely: they are copied nowhere,
    since a key is to stay where it is, and a copy of the case has to find them. Raises nothing; what is wrong
    stays so."""
    for name in ("listener", "pacs"):
        table = tables.get(name)
        tls = table.get("tls") if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(tls, dict):
            named = {
                k: str((folder / v).resolve())
                for k, v in tls.items()
                if k in ("certificate", "key", "ca") and isinstance(v, str)
            }
            tables = {**tables, name: {**table, "tls": {**tls, **named}}}
    return tables


def _list(t: Table, key: str) -> list[Any]:
    value = t.raw(key, [])
    if isinstance(value, list):
        return value
    t.error(key, f"expected a list, got {value!r}")
    return []


def _peer(t: Table, value: Any) -> Peer | None:
    title, _, address = str(value).partition("@")
    if not isinstance(value, str) or not title or not (address == "*" or _is_address(address)):
        t.error("allowed_peers", f'expected "AET@address" ("*" for any), got {value!r}')
        return None
    return Peer(title, address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------ presets


def preset_names(kind: str) -> tuple[str, ...]:
    """The names in presets/<kind>.toml."""
    return tuple(_preset(kind))


def organ_names() -> tuple[str, ...]:
    return preset_names("organs")


def needle_names() -> tuple[str, ...]:
    return preset_names("needles")


def _preset(name: str) -> dict[str, Any]:
    text = (resources.files("monitor") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _organ(root: Table) -> OrganPreset:
    table = root.table("organ")
    name = table.text("preset", choices=organ_names())
    table.done()
    return organ_preset(name or organ_names()[0])


def organ_preset(name: str) -> OrganPreset:
    """An organ by name. Raises ``ConfigError`` when the presets themselves are wrong."""
    t = Table(_preset("organs")[name], f"presets/organs.toml: {name}", errors := list[str]())
    organ = OrganPreset(
        name=name,
        tissue=tissue_preset(t.text("tissue")),
        fat=tissue_preset("fat"),
        gas=tissue_preset(t.text("gas")),
        phases=_phases(t),
        margin_goal_mm=t.number("margin_goal_mm", 0.0, 30.0, "mm"),
        expected_ice_drop_hu=t.number("expected_ice_drop_hu", 20.0, 120.0, "HU"),
        window_level_hu=t.number("window_level_hu", -1000.0, 2000.0, "HU"),
        window_width_hu=t.number("window_width_hu", 10.0, 4000.0, "HU"),
        perfusion=_factor(t.table("perfusion")),
        latent_heat=_factor(t.table("latent_heat")),
        k_frozen=_factor(t.table("k_frozen")),
    )
    return _checked(t, organ, errors)


def _factor(table: Table) -> Factor:
    factor = Factor(table.number("median", 0.05, 20.0), table.number("spread", 1.01, 10.0))
    table.done()
    return factor


def tissue_preset(name: str) -> TissueConfig:
    """A tissue by name, from presets/tissues.toml."""
    t = Table(
        _preset("tissues").get(name, {}), f"presets/tissues.toml: {name}", errors := list[str]()
    )
    tissue = TissueConfig(
        name=name,
        rho_kg_m3=t.number("rho_kg_m3", 100.0, 3000.0),
        c_unfrozen_j_kg_k=t.number("c_unfrozen_j_kg_k", 500.0, 5000.0),
        c_frozen_j_kg_k=t.number("c_frozen_j_kg_k", 500.0, 5000.0),
        k_unfrozen_w_m_k=t.number("k_unfrozen_w_m_k", 0.01, 3.0),
        k_frozen_w_m_k=t.number("k_frozen_w_m_k", 0.01, 4.0),
        latent_heat_j_kg=t.number("latent_heat_j_kg", 0.0, 334e3),
        solidus_degc=t.number("solidus_degc", -40.0, -0.1),
        liquidus_degc=t.number("liquidus_degc", -10.0, 0.0),
        perfusion_per_s=t.number("perfusion_per_s", 0.0, 0.1),
        metabolic_w_m3=t.number("metabolic_w_m3", 0.0, 1e5),
    )
    return _checked(t, tissue, errors)


def _checked(table: Table, value: Any, errors: list[str]) -> Any:
    table.done()
    if errors:
        raise ConfigError("; ".join(errors))
    return value
