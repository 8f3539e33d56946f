"""Fewer examples where the tests run once for every mutant (scripts/mutate_decision.py)."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

settings.register_profile("decision", deadline=None)
settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    phases=(
        Phase.explicit,
        Phase.generate,
    ),  # that it fails is enough: no search for the simplest way
)
settings.load_profile("mutants" if os.environ.get("ICEBALL_MUTANTS") else "decision")
