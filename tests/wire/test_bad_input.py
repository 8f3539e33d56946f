"""What goes wrong in a room: each gets a clear message, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pydicom
import pytest

from monitor.cli import main
from tests.wire.live import LiveProcess, sphere_case


def run_live(case: Path, record: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "monitor.cli",
        "live",
        str(case),
        "--headless",
        "--record",
        str(record),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )


def test_missing_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["live", str(tmp_path / "none.toml"), "--headless", "--record", str(tmp_path / "r")])
        == 2
    )
    assert "none.toml: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_demo_that_cannot_begin_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--scenario", "none", "--headless", "--out", str(tmp_path / "out")]) == 2
    assert "iceball: no scenario 'none'; there are: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_record_that_cannot_be_made_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run_live(sphere_case(tmp_path, "A", (0.0, 0.0, 0.0)), tmp_path / "file" / "record")
    assert done.returncode == 2
    assert "file/record: Not a directory" in done.stderr


def test_a_reader_that_has_had_enough_gets_no_traceback(tmp_path: Path) -> None:
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0))
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "monitor.cli", "check", str(case)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")


def test_a_terminal_that_is_gone_does_not_end_a_procedure(tmp_path: Path) -> None:
    with LiveProcess(sphere_case(tmp_path, "A", (0.0, 0.0, 0.0)), tmp_path / "record") as live:
        assert live.process.stdout is not None
        live.process.stdout.close()
        live.type("next")
        live.type("next")
        live.wait(lambda lines: len([x for x in lines if x["kind"] == "phase"]) == 2)
        live.process.stdout = None
    assert not live.journal("fault")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"iceball {metadata.version('iceball-monitor')}\n"


@pytest.mark.parametrize(
    "command",
    [
        *(
            "",
            "demo",
            "live",
            "check",
            "replay",
            "segment",
            "benchmark imaging",
            "simulate",
            "bench",
        ),
        "selftest",
    ],
)
def test_help_names_only_documents_that_are_there(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    root = Path(__file__).parents[2]
    words = "".join(capsys.readouterr().out.split())  # argparse breaks lines anywhere
    for document in re.findall(r"docs/\w+\.(?:md|toml)", words):
        assert (root / document).is_file(), document


def test_malformed_case_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = tmp_path / "case.toml"
    case.write_text('[patient]\nid = "A\n', encoding="utf-8")
    assert main(["check", str(case)]) == 2
    error = capsys.readouterr().err
    assert "not TOML" in error
    assert "line 2" in error


def test_unreadable_rtstruct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.dcm").write_bytes(b"\x00" * 200)
    case = tmp_path / "case.toml"
    case.write_text(
        '[patient]\nid = "A"\n[organ]\npreset = "liver"\n[lesion]\nfile = "plan.dcm"\nroi = "GTV"\n',
        encoding="utf-8",
    )
    assert main(["check", str(case)]) == 2
    assert "plan.dcm" in capsys.readouterr().err


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0))
        case.write_text(case.read_text().replace("port = 0", f"port = {port}"), encoding="utf-8")
        done = run_live(case, tmp_path / "record")
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr + done.stdout
    assert not (tmp_path / "record").exists()


def test_a_record_is_not_written_over(tmp_path: Path) -> None:
    case = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0))
    with LiveProcess(case, tmp_path / "record"):
        pass
    before = (tmp_path / "record" / "journal.jsonl").read_bytes()
    done = run_live(case, tmp_path / "record")
    assert done.returncode == 2
    assert "recorded there already" in done.stderr
    assert (tmp_path / "record" / "journal.jsonl").read_bytes() == before


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two scans of the demo's procedure, as DICOM files."""
    out = tmp_path_factory.mktemp("rendered")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "scanner_sim.cli",
            "render",
            "abdominal_wall_endometriosis",
            "--out",
            str(out),
            "--scans",
            "2",
        ],
        check=True,
        capture_output=True,
    )
    return out


def without_needles(text: str) -> str:
    kept, skipping = [], False
    for line in text.splitlines():
        skipping = line.startswith("[[needle]]") or (skipping and not line.startswith("["))
        if not skipping:
            kept.append(line)
    return "\n".join(kept).replace("port = 11112", "port = 0") + "\n"


def test_scans_before_the_needles_are_known_are_measured_once_they_are(
    rendered: Path, dcmtk: dict[str, str], tmp_path: Path
) -> None:
    whole = (rendered / "case.toml").read_text(encoding="utf-8").replace("port = 11112", "port = 0")
    case = tmp_path / "case.toml"
    case.write_text(without_needles(whole), encoding="utf-8")
    (tmp_path / "rtstruct.dcm").write_bytes((rendered / "rtstruct.dcm").read_bytes())
    with LiveProcess(case, tmp_path / "record", "--clock-speed", "100") as live:
        live.wait(
            lambda lines: {"no_baseline", "needles_unknown"} <= {x.get("code") for x in lines}
        )
        for number in range(2):
            files = sorted((rendered / f"scan_{number:03d}").iterdir())
            subprocess.run(
                [
                    dcmtk["storescu"],
                    "-aec",
                    "ICEBALL",
                    "127.0.0.1",
                    str(live.port),
                    *map(str, files),
                ],
                check=True,
                capture_output=True,
            )
            live.wait(
                lambda lines, n=number: (
                    len([x for x in lines if x["kind"] == "volume_completed"]) > n
                )
            )
            if number == 0:
                live.wait(lambda lines: [x for x in lines if x["kind"] == "phase"])
        refused = live.wait(lambda lines: [x for x in lines if x["kind"] == "ice_segmented"])[-1]
        assert (refused["status"], refused["volume_ml"]) == ("INVALID", None)
        assert "needles_unknown" in [r["code"] for r in refused["reasons"]]
        case.write_text("nonsense", encoding="utf-8")
        live.type("reload")
        live.wait(lambda lines: [x for x in lines if x["kind"] == "operator" and "refused" in x])
        case.write_text(whole, encoding="utf-8")
        live.type("reload")
        measured = live.wait(
            lambda lines: [x for x in lines if x["kind"] == "assessment" and x["lesion_covered"]]
        )[-1]
        truth = json.loads((rendered / "truth" / "truth.json").read_text())["scans"][1]
        assert measured["lesion_covered"] == pytest.approx(truth["lesion_covered"], abs=0.05)


@pytest.mark.requirement("REQ-FRAME")
def test_a_plan_from_another_frame_of_reference_is_said(
    rendered: Path, dcmtk: dict[str, str], tmp_path: Path
) -> None:
    text = (rendered / "case.toml").read_text(encoding="utf-8").replace("port = 11112", "port = 0")
    (tmp_path / "case.toml").write_text(text, encoding="utf-8")
    plan = pydicom.dcmread(rendered / "rtstruct.dcm")
    plan.FrameOfReferenceUID = plan.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = (
        "1.2.3"
    )
    plan.save_as(tmp_path / "rtstruct.dcm")
    files = [str(p) for p in sorted((rendered / "scan_000").iterdir())]
    with LiveProcess(tmp_path / "case.toml", tmp_path / "record") as live:
        command = [dcmtk["storescu"], "-aec", "ICEBALL", "127.0.0.1", str(live.port), *files]
        subprocess.run(command, check=True, capture_output=True)
        live.wait_accounted(len(files))
        *_, line = live.journal("volume_completed")  # a slow transfer makes a revision
    assert line["status"] == "DEGRADED"
    assert "plan_in_other_frame" in [r["code"] for r in line["reasons"]]


def test_a_question_before_anything_is_known_is_refused_with_the_reason(tmp_path: Path) -> None:
    case = sphere_case(tmp_path, "P", (0.0, 0.0, 0.0), needles=True)
    with LiveProcess(case, tmp_path / "record") as live:
        live.type("what if 1")
        live.type("what if 1=0 for 5")
        live.wait(lambda lines: [x for x in lines if x["kind"] == "what_if_refused"])
        (asked,), (refused,) = live.journal("operator"), live.journal("what_if_refused")
    assert asked["params"] == {"duty": {"1": 0.0}, "remaining_s": 300.0}
    assert refused["reason"] == "there is no baseline scan yet"
    assert "what if: '1': expected what if NEEDLE=PERCENT" in live.output
    assert "Refused: what if: there is no baseline scan yet" in live.output


def test_no_display_is_said_and_nothing_is_recorded(tmp_path: Path) -> None:
    """Rather than a monitor that runs and that nobody sees."""
    case, record = sphere_case(tmp_path, "A", (0.0, 0.0, 0.0)), tmp_path / "record"
    screenless = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "monitor.cli", "live", str(case), "--record", str(record)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env=screenless
    )
    assert done.returncode == 2
    assert "no display" in done.stderr
    assert "--headless" in done.stderr
    assert not record.exists()
