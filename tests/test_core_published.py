"""What the core lets other threads see belongs together, also while it works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.model import CtVolume
from monitor.record.store import Store
from monitor.snapshot import ArrayRef
from tests.replay.recorded import RememberingCore, Room

Seen = list[tuple[str | None, str | None]]


@pytest.mark.requirement("REQ-ALIVE")
def test_no_scan_is_shown_with_the_picture_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at while a volume is being written, which on a busy disk takes longer than the watch's turn."""
    kept, seen = list[str](), Seen()
    cores: list[Any] = []

    class Core(RememberingCore):
        def __init__(self, *args: Any) -> None:
            cores.append(self)
            super().__init__(*args)

    keep_volume = Store.keep_volume

    def looked_at(store: Store, volume: CtVolume) -> ArrayRef:
        state, _, shared = cores[0].published
        shown = None if shared.volume is None else Path(shared.volume.path).stem
        seen.append((state.volume and state.volume.volume_id, shown))
        kept.append(volume.volume_id)
        return keep_volume(store, volume)

    monkeypatch.setattr(Store, "keep_volume", looked_at)
    room = Room(tmp_path)
    room.first_freeze()
    core = room.run(Core)
    assert core.fault is None
    assert kept == ["v001", "v002"]  # each once
    assert seen == [(None, None), ("v001", "v001")]
    state, _, shared = core.published
    assert state.volume is not None
    assert shared.volume is not None
    assert (state.volume.volume_id, Path(shared.volume.path).stem) == ("v002", "v002")
