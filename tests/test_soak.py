"""The soak of a whole monitor: it would tell a leak; and, long, a short one is flat. Seconds, MB."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soak

from tests.intake.intake_helpers import ct_dataset
from tests.replay.recorded import (
    CASE,
    PIXEL_MM,
    PIXELS,
    SLICE_MM,
    SLICES,
    bowel,
    drawn,
)


def samples(core_mb: list[float], restarts: int = 0) -> soak.Samples:
    rows = [(180.0 * i, mb, mb - 50.0) for i, mb in enumerate(core_mb)]
    return soak.Samples({"core": rows}, [(0.0, 1.0), (3600.0, 101.0)], restarts, len(rows))


def test_a_leak_is_told_and_flat_memory_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    jagged = [500.0 + 30.0 * (i % 3) for i in range(80)]
    assert soak.report(samples(jagged), 900.0) == 0
    assert soak.report(samples([mb + 2.0 * i for i, mb in enumerate(jagged)]), 900.0) == 1
    assert "NOT FLAT" in capsys.readouterr().out
    assert soak.report(samples(jagged, restarts=1), 900.0) == 1


def test_what_is_taken_while_it_warms_up_does_not_count() -> None:
    assert soak.report(samples([100.0 * min(i, 5) for i in range(80)]), 900.0) == 0


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
def test_a_monitor_is_flat_over_an_hour(tmp_path: Path) -> None:
    """Small scans, so that it is the program that is seen and not its pictures."""
    scans = tmp_path / "scans"
    for number, ice_mm in enumerate((0.0, 8.0, 11.0)):
        folder = scans / f"scan_{number:03d}"
        folder.mkdir(parents=True)
        for k, hu in enumerate(drawn(ice_mm, seed=number)):
            d = ct_dataset(k, series=f"1.2.3.{number}", rows=PIXELS, columns=PIXELS)
            d.AcquisitionDate = f"{datetime.now(UTC):%Y%m%d}"
            half_mm = 0.5 * PIXEL_MM * (PIXELS - 1)
            d.ImagePositionPatient = [-half_mm, -half_mm, SLICE_MM * (k - SLICES // 2)]
            d.PixelSpacing, d.SliceThickness = [PIXEL_MM, PIXEL_MM], SLICE_MM
            d.PixelData = (hu + 1024).astype("<u2").tobytes()
            d.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
    bowel(scans / "bowel.mhd")
    case = CASE.replace("../plan/", "") + "[listener]\nport = 11112\n"
    (scans / "case.toml").write_text(case, encoding="utf-8")
    found = soak.soak(scans, tmp_path, hours=1.0, speed=60.0)
    assert found.scans >= 5
    assert found.restarts == 0
    for name in ("view", "intake"):
        warm = [mb for at_s, mb, _ in found.of[name] if at_s >= 900.0]
        assert soak.growth_mb(warm) <= soak.LIMIT_MB, name
