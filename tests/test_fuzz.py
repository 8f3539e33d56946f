"""A small sample of what scripts/fuzz_input.py and scripts/fuzz_wire.py do at length."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import fuzz_input
import pytest
from fuzz_input import mutated, outcomes, seeds
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


@pytest.mark.requirement("REQ-HOSTILE-FILES")
def test_a_damaged_codestream_takes_no_more_memory_than_its_image(ct_data: Path) -> None:
    """Found by fuzz_input.py: after bytes inserted into the pixel data GDCM took what lay behind them for the
    length of an element, 4 GiB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(mutated(seeds(ct_data), 1, 6518)) == 198_579, "the seeds are others by now"
    command = [sys.executable, fuzz_input.__file__, "--data", str(ct_data)]
    command += ["--work", "6518", "6519"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["rss_kib"] * 1024 < fuzz_input.MEMORY_BYTES
