"""A case that is written reads back equal; round trip over cases made at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.case import load_case, needle_names, needle_preset, organ_names, organ_preset
from monitor.config import (
    Config,
    Ellipsoid,
    ListenerConfig,
    NeedleConfig,
    Peer,
    PhaseConfig,
    ProtocolConfig,
    ShapeFile,
    StructureConfig,
)
from monitor.model import PhaseKind, Role
from monitor.planning.case_text import write_case

_MM = st.floats(-300, 300, allow_nan=False)
_POINT = st.tuples(_MM, _MM, _MM)
_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda t: t.strip() != ""
)
_SIZE = st.floats(0.5, 300)


@st.composite
def cases(draw: st.DrawFn, folder: Path) -> Config:
    organ = organ_preset(draw(st.sampled_from(organ_names())))
    kinds = (PhaseKind.FREEZE, PhaseKind.THAW)
    minutes = draw(st.lists(st.floats(0.1, 60.0), min_size=1, max_size=5))
    phases = tuple(PhaseConfig(kinds[i % 2], 60.0 * m) for i, m in enumerate(minutes))

    def shape() -> Ellipsoid | ShapeFile:
        if draw(st.booleans()):
            return Ellipsoid(draw(_POINT), draw(st.tuples(_SIZE, _SIZE, _SIZE)))
        roi = draw(st.one_of(st.none(), _TEXT))
        return ShapeFile(folder / draw(st.sampled_from(["a.nii.gz", "b.dcm"])), roi)

    names = draw(st.lists(_TEXT, max_size=3, unique=True))
    numbers = draw(st.lists(st.integers(1, 99), max_size=4, unique=True))
    start = draw(st.one_of(st.none(), st.floats(0, 7200)))
    tips = [draw(_POINT) for _ in numbers]
    return Config(
        path=folder / "case.toml",
        patient_id=draw(st.one_of(st.just(""), _TEXT)),
        patient_label=draw(_TEXT),
        frame_of_reference_uid=draw(st.one_of(st.none(), st.just("1.2.3"))),
        language=draw(st.sampled_from(("en", "fr"))),
        organ=organ,
        margin_goal_mm=draw(st.floats(0, 30)),
        lesion=StructureConfig("lesion", Role.LESION, shape(), None),
        structures=tuple(
            StructureConfig(n, Role.CRITICAL, shape(), draw(st.floats(0, 100))) for n in names
        ),
        needles=tuple(
            NeedleConfig(
                n,
                needle_preset(draw(st.sampled_from(needle_names()))),
                tip,
                (tip[0], tip[1] - draw(st.floats(11, 390)), tip[2]),
                draw(st.floats(0, 1)),
            )
            for n, tip in zip(numbers, tips, strict=True)
        ),
        protocol=ProtocolConfig(phases, start),
        listener=ListenerConfig("ICEBALL", "127.0.0.1", draw(st.integers(0, 65535)),
                                (Peer("CT", "10.0.0.7"), Peer("*", "*"))),
        stale_after_s=draw(st.floats(10, 3600)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("case")
    for name in ("a.nii.gz", "b.dcm"):
        (made / name).write_bytes(b"")
    return made


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_case_reads_back_equal(folder: Path, data: st.DataObject) -> None:
    config = data.draw(cases(folder))
    write_case(config, config.path)
    assert load_case(config.path) == config


def test_a_file_elsewhere_is_named_in_full(tmp_path: Path) -> None:
    away = tmp_path / "away" / "mask.nii.gz"
    away.parent.mkdir()
    away.write_bytes(b"")
    case = tmp_path / "plan" / "case.toml"
    case.parent.mkdir()
    config = load_case(_plain(tmp_path))
    lesion = replace(config.lesion, shape=ShapeFile(away, None))
    write_case(replace(config, lesion=lesion), case)
    assert load_case(case).lesion.shape == ShapeFile(away, None)


def test_a_failed_write_leaves_the_old_case(tmp_path: Path) -> None:
    config = load_case(_plain(tmp_path))
    (tmp_path / "case.new").mkdir()
    before = config.path.read_text(encoding="utf-8")
    with pytest.raises(OSError, match=r"case\.new"):
        write_case(replace(config, patient_id="other"), config.path)
    assert config.path.read_text(encoding="utf-8") == before


def _plain(folder: Path) -> Path:
    path = folder / "case.toml"
    path.write_text(
        '[patient]\nid = "A"\n[organ]\npreset = "liver"\n[lesion]\n'
        "centre_lps_mm = [0, 0, 0]\nradius_mm = 9\n",
        encoding="utf-8",
    )
    return path
