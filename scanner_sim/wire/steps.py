"""What the scanner does on the wire, one step after another. Seconds of the procedure's clock.

Invariant: a step says all there is to do; the sender adds nothing but associations and patience.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Store:
    """C-STORE of one instance."""

    dataset: Dataset


@dataclass(frozen=True)
class AbortIn:
    """Half of the instance's data goes out, then an A-ABORT and the end of the association."""

    dataset: Dataset


@dataclass(frozen=True)
class Silence:
    """Nothing is sent; the association stays open."""

    seconds: float


@dataclass(frozen=True)
class Absence:
    """The connection is reset and nobody calls for a while; the first call after that proposes
    nothing that a storage provider takes."""

    seconds: float


@dataclass(frozen=True)
class Release:
    """The association ends as it should; the next series comes in one of its own."""


Step = Store | AbortIn | Silence | Absence | Release
