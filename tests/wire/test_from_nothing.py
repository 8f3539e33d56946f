"""``iceball live`` without a case, as a technologist would begin: images first, the plan later."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitor.cli import main
from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess

pytestmark = pytest.mark.timeout(600)

WORKSTATION = 'language = "fr"\n[organ]\npreset = "kidney"\n[listener]\nport = 0\n'
LESION = "[lesion]\ncentre_lps_mm = [12.0, 5.0, 14.0]\nradius_mm = 6.0\n"


def pushed(dcmtk: dict[str, str], port: int, folder: Path, patient: str, series: str) -> None:
    folder.mkdir()
    for k in range(12):
        d = ct_dataset(k, series=series, rows=64, columns=64)
        d.PatientID, d.PatientName, d.SeriesDescription = patient, f"{patient}^X", "planning"
        d.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    command = [dcmtk["storescu"], "-aec", "ICEBALL", "127.0.0.1", str(port)]
    command += map(str, sorted(folder.iterdir()))
    subprocess.run(command, check=True, capture_output=True)


def of(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [x for x in lines if x["kind"] == kind]


def test_from_nothing_to_a_plan(dcmtk: dict[str, str], tmp_path: Path) -> None:
    workstation = tmp_path / "workstation.toml"
    workstation.write_text(WORKSTATION, encoding="utf-8")
    record = tmp_path / "record"
    with LiveProcess(None, record, "--workstation", str(workstation)) as live:
        live.wait(lambda lines: {"no_baseline", "no_plan"} <= {x.get("code") for x in lines})
        for n, patient in enumerate(("A", "B"), 1):
            pushed(dcmtk, live.port, tmp_path / patient, patient, f"1.2.3.{n}")
            live.wait(lambda lines, n=n: len(of(lines, "assessment")) == n)
        assert [x["status"] for x in of(live.journal(), "assessment")] == ["INVALID"] * 2
        assert not of(live.journal(), "baseline_set")
        live.type("baseline v001")
        live.wait(lambda lines: of(lines, "baseline_set"))
        draft = record / "draft" / "case.toml"
        begun = draft.read_text(encoding="utf-8")
        assert 'preset = "kidney"' in begun
        draft.write_text(begun + '[patient]\nid = "A"\n[lesion]\nradius_mm = 6.0\n', "utf-8")
        live.type("reload")
        (bad,) = live.wait(lambda lines: [x for x in lines if "refused" in x])
        assert "lesion: expected a file" in bad["refused"]
        draft.write_text(begun + '[patient]\nid = "B"\n' + LESION, encoding="utf-8")
        live.type("reload")
        live.wait(lambda lines: of(lines, "act_refused"))
        draft.write_text(begun + '[patient]\nid = "A"\n' + LESION, encoding="utf-8")
        live.type("reload")
        live.wait(lambda lines: of(lines, "baseline_set")[1:])
        assert of(live.journal(), "baseline_set")[-1]["seen_fraction"] > 0.0
        live.wait(lambda lines: {"no_plan"} <= {x["code"] for x in of(lines, "alarm_cleared")})
        live.type("undo")
        live.wait(lambda lines: of(lines, "undone"))
    assert "Refused: reload: the baseline v001 stands against it" in live.output
    assert main(["replay", str(record)]) == 0


def test_a_workstation_file_that_is_wrong_names_the_field_and_leaves_no_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workstation = tmp_path / "workstation.toml"
    workstation.write_text('[screen]\nshow = "wall"\n[listener]\nport = 70000\n', "utf-8")
    command = ["live", "--headless", "--record", str(tmp_path / "record")]
    assert main([*command, "--workstation", str(workstation)]) == 2
    assert "screen.show: expected one of room, console, both" in capfd.readouterr().err
    workstation.write_text("[listener]\nport = 70000\n", encoding="utf-8")
    assert main([*command, "--workstation", str(workstation)]) == 2
    assert "listener.port" in capfd.readouterr().err
    assert main([*command, "--workstation", str(tmp_path / "none.toml")]) == 2
    assert not (tmp_path / "record").exists()
