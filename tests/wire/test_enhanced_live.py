"""The same scans as slices and as Enhanced CT objects: what the monitor makes of them is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_room import rendered, scans_of

from scanner_sim.dicom.enhanced import enhanced
from scanner_sim.wire.push import Target, deliver
from tests.wire.live import LiveProcess

# Two whole procedures; that both make the same volume is in tests/intake.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.long]

# What has a time of the room's clock, or names the objects.
_OF_THE_MOMENT = {"seq", "at", "mono_s", "as_of", "sop_instance_uids", "sha256", "time_to_margin_s"}


def assessed(scans: Path, record: Path, *, as_objects: bool) -> tuple[list[Any], list[Any]]:
    """(volumes, assessments) of a monitor that was sent them."""
    record.mkdir()
    text = (scans / "case.toml").read_text(encoding="utf-8").replace("port = 11112", "port = 0")
    case = record / "case.toml"
    case.write_text(text.replace('file = "', f'file = "{scans}/'), encoding="utf-8")
    with LiveProcess(case, record / "record", "--clock-speed", "60") as live:
        target = Target("ICEBALL", "127.0.0.1", live.port)
        for number, slices in enumerate(scans_of(scans)):
            done = deliver(list(enhanced(slices)) if as_objects else slices, target)
            assert not done.refused
            live.wait(lambda m, n=number: sum(x["kind"] == "assessment" for x in m) > n)
            if number == 0:
                live.wait(lambda m: [x for x in m if x["kind"] == "phase"])
        volumes = [np.load(live.record / x["pixels"]) for x in live.journal("volume_completed")]
        found = [
            {k: v for k, v in x.items() if k not in _OF_THE_MOMENT}
            for x in live.journal("assessment")
        ]
        for x in found:  # by how much the scanner's clock differs is of the moment, too
            x["reasons"] = [r["code"] for r in x["reasons"]]
        received = live.journal("instance_received")
    assert len(received) == (len(volumes) if as_objects else sum(map(len, volumes)))
    return volumes, found


def test_enhanced_ct_is_assessed_as_the_slices_are(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    rendered("abdominal_wall_endometriosis", scans, 20, 1)
    one = assessed(scans, tmp_path / "slices", as_objects=False)
    two = assessed(scans, tmp_path / "objects", as_objects=True)
    assert len(one[0]) == 2
    for a, b in zip(one[0], two[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1][-1]["lesion_covered"] > 0.5  # there is ice in it
    assert one[1] == two[1]
