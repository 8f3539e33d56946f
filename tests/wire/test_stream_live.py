"""``iceball live --openigtlink``: images by DICOM in, the same images by OpenIGTLink out. RAS mm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pyigtl
import pytest

from tests.intake.intake_helpers import ct_dataset
from tests.streaming.test_stream import client, corners, got, in_ras, placed
from tests.wire.live import LiveProcess, sphere_case
from tests.wire.test_sending import free_port


@pytest.mark.requirement("REQ-STREAM")
def test_what_the_scanner_sends_is_what_slicer_gets(dcmtk: dict[str, str], tmp_path: Path) -> None:
    folder, port = tmp_path / "images", free_port()
    folder.mkdir()
    rng = np.random.default_rng(5)
    for k in range(28):
        d = ct_dataset(k, rows=56, columns=56)
        d.ImagePositionPatient, d.PixelSpacing = [-55.0, -55.0, 3.0 * (k - 14)], [2.0, 2.0]
        d.SliceThickness = 3.0
        stored = rng.integers(0, 2000, (d.Rows, d.Columns)).astype("<u2")
        d.PixelData = stored.tobytes()
        d.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    sent = sorted((pydicom.dcmread(p) for p in folder.iterdir()),
                  key=lambda d: float(d.ImagePositionPatient[2]))  # fmt: skip
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in sent])
    case = sphere_case(tmp_path, str(sent[0].PatientID), (4.0, -6.0, 3.0))
    with LiveProcess(case, tmp_path / "record", "--openigtlink", str(port)) as live:
        with client(port) as c:
            assert "ct=none" in got(c, "State").string
            subprocess.run(
                [dcmtk["storescu"], "-aec", "ICEBALL", "127.0.0.1", str(live.port),
                 *map(str, sorted(folder.iterdir()))], check=True,
            )  # fmt: skip
            live.wait(lambda lines: [x for x in lines if x["kind"] == "volume_completed"], 150.0)
            ct = got(c, "CT", lambda m: m.image.size > 1)
            state = got(c, "State", lambda m: "ct=v001" in m.string)
        stranger = pyigtl.OpenIGTLinkClient("127.0.0.1", port)  # one after the other is served
        assert got(stranger, "CT").image.shape == hu.shape
        stranger.stop()
    assert np.array_equal(ct.image, hu)
    at = corners(hu.shape)
    first, spacing = sent[0], sent[0].PixelSpacing
    step = np.subtract(sent[1].ImagePositionPatient, first.ImagePositionPatient)
    row, column = np.split(np.array(first.ImageOrientationPatient, float), 2)
    lps = (np.array(first.ImagePositionPatient, float) + at[:, :1] * step
           + at[:, 1:2] * float(spacing[0]) * column + at[:, 2:] * float(spacing[1]) * row)  # fmt: skip
    assert np.allclose(placed(ct, at), in_ras(lps), atol=1e-3)
    assert str(sent[0].PatientID) not in state.string
    assert live.process.returncode == 0
