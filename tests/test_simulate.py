"""``iceball simulate``: the schema, its errors, its result. SI units, mm, °C."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.reference import ReferenceEngine
from monitor.cli import main
from monitor.config import ConfigError
from monitor.simulate import isotherm, load_simulation, run_simulation

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_problem.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "problem.toml"
    path.write_text(text, encoding="utf-8")
    return path


def small() -> str:
    return """
[domain]
size_mm = [32, 28, 36]
spacing_mm = [2.0, 2.0, 3.0]
initial_degc = 30.0
boundary = "insulated"
[[tissue]]
name = "organ"
preset = "liver"
perfusion_per_s = 0.0
[[tissue]]
name = "lesion"
sphere = {centre_mm = [4, 0, 0], radius_mm = 5}
k_frozen = 1.9
k_unfrozen = 0.4
c_frozen = 1900
c_unfrozen = 3400
rho = 1040
latent_heat = 230e3
solidus_degc = -8
liquidus_degc = -1
perfusion_per_s = 0.0
metabolic_w_m3 = 0.0
[[tissue]]
preset = "fat"
half-space = {point_mm = [0, 9, 0], normal = [0, 1, 0]}
[[probe]]
tip_mm = [0, 0, -8]
direction = [0, 0, 3]
diameter_mm = 1.5
active_length_mm = 15
surface_degc = [[0, 30], [30, -140]]
[run]
duration_s = 120
output_times_s = [60, 120]
[report]
points_mm = [[3, 0, 0], [15, 0, 0]]
isotherms_degc = [0, -20]
"""


def test_result_has_the_promised_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fields" / "field.npz"
    path = written(tmp_path, small())
    assert main(["simulate", str(path), "--engine", "cpu", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["engine"] == "cpu"
    assert result["steps"] > 5
    assert result["wall_s"] > 0.0
    assert result["times_s"] == [60.0, 120.0]
    assert np.shape(result["points_degc"]) == (2, 2)
    near, far = np.array(result["points_degc"]).T
    assert near[1] < near[0] < 0.0 < far[1] < far[0]
    for degc in ("0", "-20"):
        assert np.shape(result["isotherms"][degc]["volume_ml"]) == (2,)
        assert np.shape(result["isotherms"][degc]["extent_mm"]) == (2, 3)
    assert result["isotherms"]["0"]["volume_ml"][1] > result["isotherms"]["-20"]["volume_ml"][1] > 0
    with np.load(out) as fields:
        assert fields["temperature_degc"].shape == (2, 12, 14, 16)
        assert fields["min_degc"].min() < -40.0
        assert fields["cycles"].max() == 1


def test_engines_agree_on_the_whole_file(tmp_path: Path) -> None:
    simulation = load_simulation(written(tmp_path, small()))
    mine, _ = run_simulation(simulation, CpuEngine())
    exact, _ = run_simulation(simulation, ReferenceEngine())
    # 3 mm from the needle 1 °C is a twentieth of a millimetre.
    np.testing.assert_allclose(mine["points_degc"], exact["points_degc"], atol=1.0)
    for degc in ("0", "-20"):
        a, b = mine["isotherms"][degc], exact["isotherms"][degc]
        # The reference's own Euler steps are too long for the first minute.
        np.testing.assert_allclose(a["extent_mm"][1], b["extent_mm"][1], atol=0.15)
        np.testing.assert_allclose(a["volume_ml"][1], b["volume_ml"][1], rtol=0.02)


def test_shapes_lie_where_the_file_puts_them(tmp_path: Path) -> None:
    problem = load_simulation(written(tmp_path, small())).problem
    assert [t.name for t in problem.tissues] == ["organ", "lesion", "tissue"]
    z, y, x = np.indices(problem.label_zyx.shape)
    x_mm, y_mm, z_mm = ((i - 0.5 * (n - 1)) * d for i, n, d in ((x, 16, 2), (y, 14, 2), (z, 12, 3)))
    expected = np.where((x_mm - 4) ** 2 + y_mm**2 + z_mm**2 <= 25, 1, 0)
    expected[y_mm >= 9] = 2
    np.testing.assert_array_equal(problem.label_zyx, expected)
    assert problem.needles[0].direction == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("radius_mm = 5", "raduis_mm = 5", "tissue[2].sphere.raduis_mm: unknown"),
        ("k_frozen = 1.9", 'k_frozen = "1.9"', "tissue[2].k_frozen"),
        ("rho = 1040", "rho = 0", "tissue[2].rho"),
        ("solidus_degc = -8", "solidus_degc = 5", "solidus_degc"),
        ('preset = "liver"', 'preset = "livre"', "did you mean liver"),
        ("direction = [0, 0, 3]", "direction = [0, 0, 0]", "probe[1].direction"),
        ("[30, -140]]", "[30, -300]]", "probe[1].surface_degc"),
        ("[[0, 30], [30, -140]]", "[[40, 30], [30, -140]]", "ascending"),
        ("diameter_mm = 1.5", "diameter_mm = 1.5\ncooling_w_per_m = 300", "expected one of"),
        ("diameter_mm = 1.5", "diameter_mm = 1.5\nh_w_m2k = 300", "h_w_m2k"),
        ("output_times_s = [60, 120]", "output_times_s = [60, 121]", "run.output_times_s"),
        ("[15, 0, 0]]", "[17, 0, 0]]", "report.points_mm"),
        ("size_mm = [32, 28, 36]", "size_mm = [32, 28, 3]", "domain.size_mm"),
        ('boundary = "insulated"', 'boundary = "open"', "domain.boundary"),
        ("duration_s = 120", "duration_s = nan", "run.duration_s"),
        ("[run]", "[runs]", "runs: unknown"),
        (
            "tip_mm = [0, 0, -8]",
            "tip_mm = [0, 80, -8]",
            "probe[1].tip_mm: the active zone lies outside",
        ),
        ("diameter_mm = 1.5", "diameter_mm = 12", "probe[1].diameter_mm"),
        ("sphere = {centre_mm = [4, 0, 0], radius_mm = 5}", "", "expected a shape"),
        ("[domain]", "[domain", "problem.toml"),
    ],
)
def test_a_wrong_file_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    assert old in small()
    path = written(tmp_path, small().replace(old, new))
    assert main(["simulate", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_simulation(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "drive",
    [
        "cooling_w_per_m = [[0, 0], [20, 500]]",
        "cryogen_degc = -150\nh_w_m2k = [[0, 2000], [15, 4000]]\nduty = [[0, 1], [60, 0.5]]",
        "surface_degc = [[0, -140], [60, nan]]",
    ],
)
def test_needles_of_every_kind_freeze(tmp_path: Path, drive: str) -> None:
    text = small().replace("surface_degc = [[0, 30], [30, -140]]", drive)
    result, _ = run_simulation(load_simulation(written(tmp_path, text)), CpuEngine())
    assert result["isotherms"]["0"]["volume_ml"][0] > 0.1
    assert result["points_degc"][0][0] < 20.0


def test_isotherm_of_a_ball_has_its_volume_and_extent(tmp_path: Path) -> None:
    shape, spacing_mm = (24, 32, 32), (1.0, 1.0, 1.5)
    problem = load_simulation(written(tmp_path, small())).problem
    problem = replace(problem, label_zyx=np.zeros(shape, np.uint8), spacing_mm=spacing_mm)
    z, y, x = np.indices(shape).astype(float)
    r_mm = np.sqrt((x - 15.5) ** 2 + (y - 15.5) ** 2 + ((z - 11.5) * 1.5) ** 2)
    volume_ml, extent_mm = isotherm(problem, (r_mm - 10.0).astype(np.float32), 0.0)
    assert volume_ml == pytest.approx(4 / 3 * np.pi * 10**3 / 1e3, rel=0.01)
    # Linear between centres: a line beside the axis falls short of the pole.
    assert extent_mm == pytest.approx([20.0, 20.0, 20.0], abs=0.12)
    assert isotherm(problem, np.full(z.shape, 5.0, np.float32), 0.0) == (0.0, [0.0, 0.0, 0.0])


def test_isotherm_through_the_box_reaches_its_faces(tmp_path: Path) -> None:
    problem = load_simulation(written(tmp_path, small())).problem
    degc = np.full(problem.label_zyx.shape, -30.0, np.float32)
    volume_ml, extent_mm = isotherm(problem, degc, -20.0)
    assert volume_ml == pytest.approx(32 * 28 * 36 / 1e3)
    assert extent_mm == pytest.approx([32.0, 28.0, 36.0])


def test_the_documented_example_is_valid_and_runs() -> None:
    simulation = load_simulation(EXAMPLE)
    documented: dict[str, Any] = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert len(simulation.problem.tissues) == len(documented["tissue"])
    result, _ = run_simulation(simulation, CpuEngine())
    assert result["isotherms"]["0"]["volume_ml"][-1] > 1.0
