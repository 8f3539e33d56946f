"""What is built and installed elsewhere: the program from its wheel, without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "example_case.toml"
# What a build may leave in a checkout, and what is no part of it.
_LEFT = shutil.ignore_patterns(
    ".*", "build", "*.egg-info", "out", "__pycache__", "tests", "images", "references"
)
# setuptools changes sys.argv.
_BUILD = """import sys, setuptools.build_meta as b; out = sys.argv[1]
print(b.build_sdist(out), b.build_wheel(out))"""


def called(command: list[str], cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Its output; without what would lead to the checkout, or to a display."""
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DISPLAY", "WAYLAND"))
    }
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode in codes, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """sdist and wheel, built by the locked setuptools from a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("copy") / "it", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, copy, ignore=_LEFT)
    sdist, wheel = called([sys.executable, "-c", _BUILD, str(out)], copy).split()[-2:]
    return out / sdist, out / wheel


def data_files() -> set[str]:
    """Everything in the packages that is no Python and is kept in git."""
    listed = subprocess.run(
        ["git", "ls-files", "monitor", "gpu_kernels", "scanner_sim"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    found = {p for p in listed if not p.endswith((".py", ".md"))}
    if not found:
        pytest.skip("no git here to say what belongs to the program")
    return found


def test_all_data_is_in_the_wheel_and_the_sdist(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as tar:
        in_sdist = {name.partition("/")[2] for name in tar.getnames()}
    assert data_files() - in_wheel == set()
    assert data_files() - in_sdist == set()
    assert not [n for n in in_wheel if n.startswith(("tests", "scripts", "docs"))]


def seen_from(folder: Path, elsewhere: Path) -> None:
    """The programs of an environment, started from ``elsewhere``, do their work with their own files."""
    python, iceball = folder / "bin" / "python", folder / "bin" / "iceball"
    where = "import monitor as m, gpu_kernels as g, scanner_sim as s; print(*(x.__file__ for x in (m, g, s)))"
    for path in called([str(python), "-c", where], elsewhere).split():
        assert Path(path).is_relative_to(folder), path
    assert "timings" in called([str(iceball), "--help"], elsewhere)
    assert "liver_near_vessel" in called([str(folder / "bin" / "scanner-sim"), "list"], elsewhere)
    case = elsewhere / "case.toml"
    case.write_text(
        '[patient]\nid = "A"\n[organ]\npreset = "liver"\n[lesion]\ncentre_lps_mm = [0.0, 0.0, 0.0]\n'
        'radius_mm = 9.0\n[[needle]]\nnumber = 1\ntype = "icerod_1_5"\ntip_lps_mm = [0.0, 0.0, 0.0]\n'
        "entry_lps_mm = [0.0, -80.0, 0.0]\n",
        encoding="utf-8",
    )
    assert "Organ liver" in called([str(iceball), "check", str(case)], elsewhere)
    assert list(folder.glob("lib/python*/site-packages/gpu_kernels/cuda/*.cu"))


def pip(python: Path, *given: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *given]
    subprocess.run(command, check=True, capture_output=True, timeout=500)


def test_the_wheel_does_its_work_outside_the_checkout(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """With the packages that are installed here already; ``site`` reads no .pth of theirs, so nothing leads
    back to the checkout."""
    folder, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "theirs.pth").write_text("\n".join(site.getsitepackages()) + "\n", "utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    command += ["--quiet", "--no-deps", "--ignore-installed", str(built[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    seen_from(folder, elsewhere)


@pytest.mark.long
def test_the_wheel_and_the_lock_make_an_empty_environment_whole(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """As a site installs it: nothing but the wheel, and what requirements/run.txt pins by hash. The doctor
    has the engine compiled anew."""
    folder, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    lock = str(ROOT / "requirements" / "run.txt")
    pip(python, "--require-hashes", "--only-binary", ":all:", "-r", lock)
    pip(python, str(built[1]))
    seen_from(folder, elsewhere)
    iceball = folder / "bin" / "iceball"
    said = called([str(iceball), "doctor", "--record", str(elsewhere), "--json"], elsewhere, (0, 1))
    found = {f["check"]: f for f in json.loads(said)}
    assert found["engine"]["level"] == found["fonts"]["level"] == "fine"
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True)
    # crcmod-plus stands for pyigtl's crcmod, and pip does not know (requirements/).
    assert [
        x for x in checked.stdout.splitlines() if "crcmod" not in x and "No broken" not in x
    ] == []
