"""A maker's habits with the attributes that DICOM leaves open, as data (``profiles.toml``).

Stored pixel values, not HU, where ``padding`` is meant. Invariant: a profile changes how a value is
written, never where a voxel lies or how dense it is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from pydicom.valuerep import format_number_as_ds

from scanner_sim.scenario import ScenarioError


@dataclass(frozen=True)
class PrivateBlock:
    """Private elements (``offset``, ``vr``, ``value``) under one creator of an odd group."""

    group: int
    creator: str
    elements: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Profile:
    """See the head of ``profiles.toml``; ``attributes`` are written as they stand."""

    name: str
    manufacturer: str
    model: str
    character_set: str
    timezone_offset: bool
    decimals: int | Literal["shortest"]
    times: Mapping[str, int]
    acquisition_time: Literal["slice", "series"]
    content_time: Literal["acquired", "reconstructed"]
    acquisition_datetime: bool
    acquisition_number: Literal["slice", "series"]
    instance_order: Literal["ascending", "descending"]
    series: Literal["per_scan", "single"]
    series_number_first: int
    series_number_step: int
    rescale_intercept: int
    bits_stored: int
    signed: bool
    tilt_sign: int
    spacing_between_slices: bool
    images_in_acquisition: bool
    temporal_position: bool
    irradiation_event: bool
    kernels: Mapping[str, list[str]]
    image_types: Mapping[str, list[str]]
    descriptions: Mapping[str, str]
    scan_options: Mapping[str, str]
    attributes: Mapping[str, Any]
    private: tuple[PrivateBlock, ...]
    padding: int | None = None

    def decimal(self, value: float) -> str:
        """A decimal string (DS, 16 characters at most) in the maker's precision."""
        value = float(value) + 0.0  # −0.0 is written by nobody
        if self.decimals == "shortest":
            text = format_number_as_ds(float(f"{value:.10g}"))
            return text.removesuffix(".0")
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"


def names() -> list[str]:
    return list(_read())


def load(name: str) -> Profile:
    """Raises ``ScenarioError`` that lists the profiles there are."""
    table = _read().get(name)
    if table is None:
        raise ScenarioError(f"scanner profile {name!r}: there are {', '.join(names())}")
    blocks = tuple(
        PrivateBlock(b["group"], b["creator"], tuple(b["elements"])) for b in table["private"]
    )
    unknown = set(table) - {f.name for f in fields(Profile)}
    if unknown:
        raise ScenarioError(f"profiles.toml, {name}: unknown {', '.join(sorted(unknown))}")
    return Profile(name=name, **{**table, "private": blocks})


@lru_cache
def _read() -> dict[str, dict[str, Any]]:
    text = resources.files("scanner_sim.dicom").joinpath("profiles.toml").read_text("utf-8")
    return tomllib.loads(text)
