"""CASE.toml: every field is checked once, every error names its field, all are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.case import load_case, needle_names, organ_names, organ_preset
from monitor.config import ConfigError, Ellipsoid, ShapeFile
from monitor.model import PhaseKind

GOOD = """
language = "fr"
[patient]
id = "P1"
[organ]
preset = "liver"
[margin]
goal_mm = 7.5
[lesion]
centre_lps_mm = [1.0, 2.0, 3.0]
semi_axes_mm = [10.0, 8.0, 9.0]
[[structure]]
name = "bowel"
file = "bowel.nii"
roi = 2
[[needle]]
number = 1
type = "icerod_1_5"
tip_lps_mm = [0.0, 0.0, 0.0]
entry_lps_mm = [0.0, -80.0, 0.0]
duty = 0.5
[protocol]
phases = [{ kind = "freeze", minutes = 3 }, { kind = "thaw", minutes = 2 }]
start_after_baseline_s = 30
[listener]
port = 0
allowed_peers = ["CT1@10.0.0.7", "*@127.0.0.1"]
[display]
stale_after_s = 120
"""


def write(folder: Path, text: str) -> Path:
    (folder / "bowel.nii").write_bytes(b"")
    path = folder / "case.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_arrives(tmp_path: Path) -> None:
    c = load_case(write(tmp_path, GOOD))
    assert (c.patient_id, c.language, c.organ.name, c.margin_goal_mm) == ("P1", "fr", "liver", 7.5)
    assert c.lesion.shape == Ellipsoid((1.0, 2.0, 3.0), (10.0, 8.0, 9.0))
    assert c.structures[0].shape == ShapeFile(tmp_path / "bowel.nii", "2")
    assert c.structures[0].limit_mm == 5.0
    assert (c.needles[0].type.name, c.needles[0].duty) == ("icerod_1_5", 0.5)
    assert [(p.kind, p.duration_s) for p in c.protocol.phases] == [
        (PhaseKind.FREEZE, 180.0),
        (PhaseKind.THAW, 120.0),
    ]
    assert c.protocol.start_after_baseline_s == 30.0
    assert [(p.ae_title, p.address) for p in c.listener.allowed_peers] == [
        ("CT1", "10.0.0.7"),
        ("*", "127.0.0.1"),
    ]
    assert c.stale_after_s == 120.0


def test_defaults_come_from_the_organ(tmp_path: Path) -> None:
    lesion = "[lesion]\ncentre_lps_mm = [0, 0, 0]\nradius_mm = 5\n"
    text = '[patient]\nid = "P"\n[organ]\npreset = "kidney"\n' + lesion
    c = load_case(write(tmp_path, text))
    assert c.margin_goal_mm == organ_preset("kidney").margin_goal_mm
    assert c.protocol.phases == organ_preset("kidney").phases
    assert c.protocol.start_after_baseline_s is None
    assert (c.needles, c.structures) == ((), ())
    assert (c.listener.ae_title, c.listener.address, c.listener.port) == (
        "ICEBALL",
        "127.0.0.1",
        11112,
    )


@pytest.mark.requirement("REQ-UNITS")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "P1"', "", "patient.id: missing"),
        ('id = "P1"', "id = 7", "patient.id: expected text"),
        ('"liver"', '"livr"', "organ.preset: .*did you mean liver"),
        ("goal_mm = 7.5", "goal_mm = 31", "margin.goal_mm: expected a number from 0 to 30 mm"),
        ("goal_mm = 7.5", "goal_mm = nan", "margin.goal_mm"),
        ("goal_mm = 7.5", "gaol_mm = 7.5", "margin.gaol_mm: unknown .*goal_mm"),
        ("[1.0, 2.0, 3.0]", "[1.0, 2.0]", "lesion.centre_lps_mm: expected 3 numbers"),
        ("semi_axes_mm = [10.0", "semi_axes_mm = [-1.0", "lesion.semi_axes_mm"),
        (
            'file = "bowel.nii"',
            'file = "none.nii"',
            r"structure\[1\].file: .*none.nii is not a file",
        ),
        ("roi = 2", "roi = 2.5", r"structure\[1\].roi"),
        ("number = 1", "number = 0", r"needle\[1\].number"),
        ("icerod_1_5", "icerod", r"needle\[1\].type: .*did you mean icerod_1_5"),
        (
            "[0.0, -80.0, 0.0]",
            "[0.0, 0.0, 0.0]",
            r"needle\[1\].entry_lps_mm: expected 10 to 400 mm",
        ),
        ("duty = 0.5", "duty = 1.5", r"needle\[1\].duty"),
        (
            'kind = "freeze"',
            'kind = "thaw"',
            r"protocol.phases\[1\].kind: phases start with a freeze",
        ),
        ("minutes = 2", "minutes = 0", r"protocol.phases\[2\].minutes"),
        ("port = 0", "port = 65536", "listener.port"),
        ("port = 0", 'port = 0\naddress = "localhost"', "listener.address: expected an IP address"),
        ("port = 0", 'port = 0\nae_title = "A TITLE OF TOO MANY LETTERS"', "listener.ae_title"),
        ("CT1@10.0.0.7", "CT1", 'listener.allowed_peers: expected "AET@address"'),
        ("stale_after_s = 120", "stale_after_s = 1", "display.stale_after_s"),
        ('language = "fr"', 'language = "de"', "language: expected one of en, fr"),
        ("[display]", "[dispaly]", "dispaly: unknown .*display"),
        (GOOD, "[patient", r"not TOML: (?!.*quotes)"),
        ('id = "P1"', "id = P1", 'not TOML: .*; text needs quotes, as in id = "AB12"'),
        ('id = "P1"', "id = 12-34", 'not TOML: .*; text needs quotes, as in id = "AB12"'),
        (
            'file = "bowel.nii"',
            'file = "bowel.nii"\nradius_mm = 5',
            "radius_mm: not together with file",
        ),
        (
            "semi_axes_mm = [",
            "radius_mm = 5\nsemi_axes_mm = [",
            "semi_axes_mm: not together with radius_mm",
        ),
        ("semi_axes_mm = [", "roi = 2\nsemi_axes_mm = [", "lesion.roi: only with file"),
        (
            "[[needle]]",
            "[needle]",
            r"needle: write \[\[needle\]\] for each, with two brackets$",
        ),
    ],
)
def test_each_error_names_its_field(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=says) as error:
        load_case(write(tmp_path, GOOD.replace(old, new)))
    assert "case.toml" in str(error.value)


@pytest.mark.requirement("REQ-UNITS")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("centre_lps_mm = [0, 0, 0]\nraduis_mm = 5", ["lesion.raduis_mm: unknown (did you mean radius_mm?)"]),
        (
            "centre_lps_mm = [0, 0, 0]\nsemi_axis_mm = [5, 5, 5]",
            ["lesion.semi_axis_mm: unknown (did you mean semi_axes_mm?)"],
        ),
        (
            "center_lps_mm = [0, 0, 0]\nradius_mm = 5",
            ["lesion.center_lps_mm: unknown (did you mean centre_lps_mm?)"],
        ),
        ("centre_lps_mm = [0, 0, 0]", ["lesion: expected radius_mm or semi_axes_mm"]),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_not_missing_too(tmp_path: Path, lines: str, said: list[str]) -> None:
    text = f'[patient]\nid = "P"\n[organ]\npreset = "kidney"\n[lesion]\n{lines}\n'
    with pytest.raises(ConfigError) as error:
        load_case(write(tmp_path, text))
    assert str(error.value).split("\n  ")[1:] == said


@pytest.mark.requirement("REQ-UNITS")
def test_a_missing_id_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_case(write(tmp_path, GOOD.replace('id = "P1"', "")))
    assert str(error.value).split("\n  ")[1:] == ["patient.id: missing"]


@pytest.mark.requirement("REQ-UNITS")
def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("port = 0", "port = -1").replace("duty = 0.5", 'duty = "half"')
    with pytest.raises(ConfigError) as error:
        load_case(write(tmp_path, bad))
    assert "2 problem(s)" in str(error.value)
    assert "listener.port" in str(error.value)
    assert "needle[1].duty" in str(error.value)


@pytest.mark.requirement("REQ-NEEDLES")
def test_the_same_number_twice(tmp_path: Path) -> None:
    needle = GOOD[GOOD.index("[[needle]]") : GOOD.index("[protocol]")]
    with pytest.raises(ConfigError, match=r"needle.number: 1 is given to more than one needle"):
        load_case(write(tmp_path, GOOD.replace("[protocol]", needle + "[protocol]")))


@pytest.mark.requirement("REQ-PEERS")
def test_listening_to_the_network_needs_peers(tmp_path: Path) -> None:
    peers = 'allowed_peers = ["CT1@10.0.0.7", "*@127.0.0.1"]'
    with pytest.raises(ConfigError, match=r"allowed_peers: required when listening on 0\.0\.0\.0"):
        load_case(write(tmp_path, GOOD.replace(peers, 'address = "0.0.0.0"')))


def test_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_case(path)


@pytest.mark.parametrize("name", organ_names())
def test_every_organ_preset_is_sound(name: str) -> None:
    organ = organ_preset(name)
    assert organ.tissue.solidus_degc < organ.tissue.liquidus_degc
    assert organ.phases[0].kind is PhaseKind.FREEZE


@pytest.mark.parametrize("name", needle_names())
def test_every_needle_preset_is_sound(tmp_path: Path, name: str) -> None:
    c = load_case(write(tmp_path, GOOD.replace("icerod_1_5", name)))
    assert c.needles[0].type.freeze_surface_degc < -100.0
