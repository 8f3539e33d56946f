"""A small sample of what scripts/fuzz_input.py and scripts/fuzz_wire.py do at length."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

from fuzz_input import outcomes, seeds
from fuzz_wire import fuzz


def test_mutated_instances_end_as_slices_or_rejections(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = Counter(outcomes(seeds(None), 7, range(300), tmp_path))
    assert sum(counts.values()) == 300
    assert counts["CtSlice"] > 10  # the sample reaches the decoders
    assert len(counts) > 5


def test_broken_peers_do_not_keep_the_scanner_out() -> None:
    findings, summary = fuzz(80, 7, 2)
    assert not findings, summary
