"""Rendered scans and heat states on disk, named by what they were made of.

A key covers the scenario, the anatomy's source and the simulator's own code and data: nothing stale
can be read back. Invariant: a file is whole or absent; losing the folder costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path

import numpy as np

from scanner_sim.scenario import Scenario

_LARGEST_BYTES = 3 * 1024**3
# These only command, write and measure: no pixel depends on them.
_OTHERS = ("cache.py", "cli.py", "console.py", "output.py", "plan.py", "truth.py")


def folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "iceball-scanner-sim"


@lru_cache
def code_digest() -> str:
    """Of everything that decides about pixels, and the libraries that compute them."""
    digest = hashlib.sha256()
    root = resources.files("scanner_sim")
    for folder_name in (".", "data", "patient", "freezing", "tomograph"):
        for file in sorted((root / folder_name).iterdir(), key=lambda f: f.name):
            if file.name.endswith((".py", ".toml")) and file.name not in _OTHERS:
                digest.update(file.name.encode() + file.read_bytes())
    for library in ("numpy", "scipy", "numba", "finufft"):
        digest.update(metadata.version(library).encode())
    return digest.hexdigest()


def folder_digest(path: Path) -> str:
    """Of the files of a real series."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Cache:
    """Arrays of one procedure. ``keep`` False reads and writes nothing."""

    def __init__(self, scenario: Scenario, ct: Path | None, keep: bool = True) -> None:
        source = folder_digest(ct) if ct else ""
        what = f"{scenario.digest} {scenario.name} {scenario.seed} {code_digest()} {source}"
        self._folder = folder() / hashlib.sha256(what.encode()).hexdigest()[:24]
        self._keep = keep

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays stored under a name; None when there are none, or none that can be read."""
        path = self._folder / f"{name}.npz"
        if not self._keep or not path.exists():
            return None
        try:
            with np.load(path) as stored:
                arrays = {k: stored[k] for k in stored.files}
            path.touch()
            return arrays
        except Exception:  # a damaged file is as good as none
            return None

    def store(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps arrays; a full or read-only disk is no reason to fail."""
        if not self._keep:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                os.replace(temporary, self._folder / f"{name}.npz")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _forget_oldest()


def _forget_oldest() -> None:
    """Keeps the whole cache within its size; what was used last stays."""
    found = [(p.stat().st_mtime, p.stat().st_size, p) for p in folder().glob("*/*.npz")]
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= _LARGEST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
