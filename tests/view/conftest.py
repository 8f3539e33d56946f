"""One Qt application for the view's tests, offscreen, and a screen on synthetic arrays.

Pixels at 1920 × 1080 unless said. Windows are closed after each test (pyqtgraph-style collection
crashes come from widgets that outlive their application).
"""

from __future__ import annotations

import gc
import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_FONT_DPI"] = "96"

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import view_samples as samples
from console_desk import ALARMS, KEPT, SIZES, Desk
from PyQt5.QtWidgets import QApplication

from monitor.model import Phase, PhaseKind
from monitor.snapshot import ReceivedVolume, Snapshot
from monitor.view.legibility import Viewing
from monitor.view.style import load_fonts
from monitor.view.window import RoomWindow


@pytest.fixture(scope="session")
def app() -> QApplication:
    application = QApplication.instance() or QApplication([])
    load_fonts()
    return application


@pytest.fixture(scope="session")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A normal moment of a freeze, its arrays on disk."""
    return samples.snapshot(tmp_path_factory.mktemp("arrays"))


@pytest.fixture
def only_our_garbage() -> Iterator[None]:
    """What hundreds of tests before have left is not looked through while the UI thread's turns are timed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Screen:
    """A window whose clock and acts the test holds."""

    def __init__(
        self, language: str, size: tuple[int, int], speed: float, viewing: Viewing | None
    ) -> None:
        self.mono_s = 100.0
        self.acts: list[dict[str, Any]] = []
        self.window = RoomWindow(
            self.acts.append, language, speed, mono=lambda: self.mono_s, viewing=viewing
        )
        self.window.resize(*size)
        self.window.show()


@pytest.fixture
def screen(app: QApplication) -> Iterator[Callable[..., Screen]]:
    """Makes screens: ``screen(snapshot, language="en", size=(1920, 1080), speed=1.0)``."""
    made: list[Screen] = []

    def make(
        snapshot: Snapshot | None,
        language: str = "en",
        size: tuple[int, int] = (1920, 1080),
        speed: float = 1.0,
        viewing: Viewing | None = None,
    ) -> Screen:
        result = Screen(language, size, speed, viewing)
        made.append(result)
        if snapshot is not None:
            result.window.show_snapshot(snapshot)
        return result

    yield make
    for one in made:
        one.window.close_for_good()
        one.window.deleteLater()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def desk(app: QApplication, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(
        snapshot: Snapshot | None,
        language: str = "en",
        size: tuple[int, int] = SIZES[0],
        fetch: Sequence[str] = (),
    ) -> Desk:
        made.append(Desk(tmp_path, language, size, fetch))
        if snapshot is not None:
            made[-1].window.show_snapshot(snapshot)
        return made[-1]

    yield make
    for one in made:
        one.window.close_for_good()
        KEPT.append(one)


@pytest.fixture
def full(normal: Snapshot) -> Snapshot:
    return replace(
        normal,
        received=tuple(
            ReceivedVolume(v, 0.0, 40, "P1", normal.volume, normal.volume_geometry)
            for v in ("v001", "v003")
        ),
        ice_review="measured",
        needle_duties=((1, 1.0), (2, 0.5)),
        undo="needle",
        undo_of="2",
        alarms=ALARMS,
    )


@pytest.fixture
def first(full: Snapshot) -> Snapshot:
    """The baseline is there, a case is not."""
    return replace(
        full, draft=True, ice_sdf=None, ice_review=None, undo=None, needles=(), alarms=(),
        phase=Phase(PhaseKind.WAITING, 0, None, None), assessment=None, lesion_sdf=None,
    )  # fmt: skip
