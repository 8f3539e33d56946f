"""The OpenIGTLink stream, from snapshots of the real publisher to a real pyigtl client. RAS mm.

Surfaces, which pyigtl's client does not read, are read here by the protocol's own layout (v2, POLYDATA).
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyigtl
import pytest
from scipy.ndimage import map_coordinates

from monitor.geometry import Grid, SliceGeometry
from monitor.publish import snapshot
from monitor.screen import Screen
from monitor.snapshot import Snapshot
from monitor.streaming import messages
from monitor.streaming.process import StreamOptions
from monitor.streaming.server import STALLED_S, Server, StreamError, check_stream
from tests.replay.recorded import SETTLE, RememberingCore, Room
from tests.wire.test_sending import free_port

Array = npt.NDArray[Any]
_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> RememberingCore:
    """A baseline, a freeze, a scan with ice of 9 mm, and its forecast."""
    room = Room(tmp_path_factory.mktemp("room"))
    room.scan(0.0)
    room.script.append(SETTLE)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(9.0)
    room.script.append(SETTLE)
    return room.run()


@pytest.fixture(scope="module")
def shown(core: RememberingCore) -> Snapshot:
    s = of(core)
    assert s.ice_sdf is not None
    assert s.forecast_temperature is not None
    return s


def of(core: RememberingCore) -> Snapshot:
    assert core.state.forecast is not None
    now = core.state.forecast.times_utc_s[0] + 45.0
    state, plan, shared = core.published
    return snapshot(1, now, now, state, shared, plan, ())


@contextmanager
def streamed(*snapshots: Snapshot) -> Iterator[tuple[Screen, int]]:
    """The stream's own process, as ``iceball live`` starts it."""
    port = free_port()
    screen = Screen(StreamOptions(port), lambda *_: None)
    try:
        for s in snapshots:
            screen.show(s)
        yield screen, port
    finally:
        screen.quit()
    assert screen.exitcode == 0


@contextmanager
def client(port: int) -> Iterator[pyigtl.OpenIGTLinkClient]:
    made = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    try:
        yield made
    finally:
        made.stop()


def got(
    c: pyigtl.OpenIGTLinkClient, device: str, fine: Callable[[Any], bool] = lambda m: True
) -> Any:
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        message = c.wait_for_message(device, timeout=1.0)
        if message is not None and fine(message):
            return message
    raise AssertionError(f"nothing of {device}")


def loaded(ref: Any) -> Array:
    return np.load(ref.path)


def in_ras(points_lps: Array) -> Array:
    return np.asarray(points_lps) * [-1.0, -1.0, 1.0]


def corners(shape_zyx: tuple[int, ...]) -> Array:
    return np.array([[k, j, i] for k in (0, shape_zyx[0] - 1)
                     for j in (0, shape_zyx[1] - 1) for i in (0, shape_zyx[2] - 1)])  # fmt: skip


def placed(message: Any, index_zyx: Array) -> Array:
    assert message.world_coordinate_system == "ras"
    ijk1 = np.column_stack([index_zyx[:, ::-1], np.ones(len(index_zyx))])
    return (message.ijk_to_world_matrix @ ijk1.T).T[:, :3]


# ------------------------------------------------------------------ what arrives


def test_a_client_gets_every_voxel_where_it_lies(shown: Snapshot) -> None:
    with streamed(shown) as (_, port), client(port) as c:
        ct = got(c, "CT")
        ice, cold = got(c, "IceMeasured"), got(c, "Predicted0C")
        needles, state = got(c, "Needles"), got(c, "State")
    hu, geometry = loaded(shown.volume), shown.volume_geometry
    assert geometry is not None
    assert ct.image.dtype == np.int16
    assert np.array_equal(ct.image, hu)
    at = corners(hu.shape)
    assert np.allclose(placed(ct, at), in_ras(geometry.to_lps_mm(at)), atol=1e-3)
    assert ct.timestamp == pytest.approx(shown.received[-1].acquired_utc_s, abs=0.01)

    for message, level, grid in (
        (ice, loaded(shown.ice_sdf), shown.analysis_grid),
        (cold, predicted(shown), shown.forecast_grid),
    ):
        assert grid is not None
        assert message.image.dtype == np.uint8
        assert 0 < message.image.sum() < message.image.size
        assert np.array_equal(message.image, level <= 0)
        at = corners(level.shape)
        assert np.allclose(placed(message, at), in_ras(grid.to_lps_mm(at)), atol=1e-3)
    assert not np.array_equal(ice.image, cold.image)

    assert needles.names == ["1 tip", "1 entry"]
    n = shown.needles[0]
    assert np.allclose(
        needles.positions, in_ras(np.array([n.tip_lps_mm, n.entry_lps_mm])), atol=1e-3
    )
    assert "phase=freeze" in state.string
    assert f"ct={shown.volume_id}" in state.string
    assert "ice=OK" in state.string or "ice=DEGRADED" in state.string


def predicted(s: Snapshot) -> Array:
    """At the snapshot's moment, by hand."""
    fields, times = loaded(s.forecast_temperature), np.array(s.forecast_times_utc_s)
    after = int(np.searchsorted(times, s.now_utc_s, side="right"))
    part = (s.now_utc_s - times[after - 1]) / (times[after] - times[after - 1])
    assert 0.0 <= part < 1.0
    return np.asarray((1.0 - part) * fields[after - 1] + part * fields[after], np.float32)


def test_the_measured_ice_is_the_journals(core: RememberingCore, shown: Snapshot) -> None:
    ice = core.state.ice
    assert ice is not None
    assert ice.sdf_mm is not None
    with streamed(shown) as (_, port), client(port) as c:
        message = got(c, "IceMeasured")
    assert np.array_equal(message.image, ice.sdf_mm <= 0)
    reported = next(x for x in reversed(journal(core)) if x["kind"] == "assessment")
    streamed_ml = float(message.image.sum()) * ice.grid.voxel_ml
    assert streamed_ml == pytest.approx(reported["ice_volume_ml"], rel=0.05)


def journal(core: RememberingCore) -> list[dict[str, Any]]:
    path = core._store.record / "journal.jsonl"
    return [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.requirement("REQ-STREAM")
def test_no_device_and_no_sentence_names_the_patient(shown: Snapshot) -> None:
    named = replace(shown, patient_label="TELLTALE", received=tuple(
        replace(r, patient_id="TELLTALE", patient_name="TELLTALE", series="TELLTALE") for r in shown.received
    ))  # fmt: skip
    for sending in messages.sendings(named, lambda ref: None if ref is None else loaded(ref)):
        assert b"TELLTALE" not in sending.pack()
        assert b"P1" not in sending.pack()[:78]


# ------------------------------------------------------------------ surfaces


def read_exactly(s: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        assert more, "the server left"
        data += more
    return data


def connected(port: int, until_s: float) -> socket.socket:
    """The process takes a while to listen."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 10.0)
        except ConnectionRefusedError:
            assert time.monotonic() < until_s
            time.sleep(0.1)


def raw(port: int, device: str) -> tuple[str, bytes]:
    """Type and body of the next message of a device, its CRC checked."""
    end = time.monotonic() + _LIMIT_S
    with connected(port, end) as s:
        while time.monotonic() < end:
            head = read_exactly(s, 58)
            _, kind, name, _, _, size, crc = struct.unpack(">H12s20sIIQQ", head)
            body = read_exactly(s, size)
            assert pyigtl.messages.CRC64(body) == crc
            if name.rstrip(b"\0").decode() == device:
                return kind.rstrip(b"\0").decode(), body
    raise AssertionError(device)


def mesh(body: bytes) -> tuple[Array, Array]:
    """Points and triangles: ten counts, then points, then cells, all big-endian."""
    counts = struct.unpack(">10I", body[:40])
    points = np.frombuffer(body, ">f4", counts[0] * 3, 40).reshape(-1, 3).astype(float)
    assert counts[1:5] == (0, 0, 0, 0)
    assert counts[7:] == (0, 0, 0)
    assert counts[6] == 16 * counts[5]
    cells = np.frombuffer(body, ">u4", 4 * counts[5], 40 + counts[0] * 12).reshape(-1, 4)
    assert (cells[:, 0] == 3).all()
    assert len(body) == 40 + counts[0] * 12 + counts[6]
    return points, cells[:, 1:].astype(int)


def enclosed_ml(points: Array, faces: Array) -> float:
    """By the divergence theorem; positive where the triangles face outwards."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6000.0


def ball(spacing_mm: float) -> tuple[Array, Grid]:
    grid = Grid((-20.0, 10.0, 30.0), (spacing_mm,) * 3, (41, 41, 41))
    centre = grid.to_lps_mm(np.array([20.0, 20.0, 20.0]))
    return np.linalg.norm(grid.points_lps_mm() - centre, axis=-1) - 14.0 * spacing_mm, grid


def test_a_balls_surface_has_a_balls_volume_and_place_and_is_closed() -> None:
    level, grid = ball(1.0)
    points, faces = messages.isosurface(level, grid)
    assert enclosed_ml(points, faces) == pytest.approx(4 / 3 * np.pi * 14.0**3 / 1000, rel=0.01)
    assert np.allclose(points.mean(0), in_ras(np.array([0.0, 30.0, 50.0])), atol=0.05)
    assert np.abs(np.linalg.norm(points - points.mean(0), axis=1) - 14.0).max() < 0.1
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    cut, cut_faces = messages.isosurface(level[:20], grid)  # what reaches the edge is closed there
    below_ml = (
        np.pi * ((2 / 3 - 0.5 / 14.0) * 14.0**3 + 0.5**3 / 3) / 1000
    )  # 0.5 mm short of the centre
    assert enclosed_ml(cut, cut_faces) == pytest.approx(below_ml, rel=0.02)


def test_the_streamed_surface_is_the_measured_one(shown: Snapshot) -> None:
    with streamed(shown) as (_, port):
        kind, body = raw(port, "IceMeasuredSurface")
        _, cold = raw(port, "Predicted0CSurface")
    assert kind == "POLYDATA"
    points, faces = mesh(body)
    sdf, grid = loaded(shown.ice_sdf).astype(float), shown.analysis_grid
    assert grid is not None
    index = grid.to_index_zyx(in_ras(points))
    off_mm = map_coordinates(sdf, index.T, order=1, mode="nearest")
    assert np.abs(off_mm).max() < 0.01
    assert enclosed_ml(points, faces) == pytest.approx((sdf <= 0).sum() * grid.voxel_ml, rel=0.1)
    assert enclosed_ml(*mesh(cold)) > 0


# ------------------------------------------------------------------ what is not shown


@pytest.mark.requirement("REQ-STREAM")
def test_what_the_screen_blanks_is_cleared_at_the_client(shown: Snapshot) -> None:
    with streamed(shown) as (screen, port), client(port) as c:
        assert got(c, "IceMeasured").image.any()
        assert got(c, "CT").image.size > 1
        screen.show(replace(shown, seq=2, blocked=True))
        assert got(c, "CT", lambda m: m.image.size == 1).image.item() == -1024
        for device in ("IceMeasured", "Predicted0C"):
            assert not got(c, device, lambda m: m.image.size == 1).image.any()
        assert got(c, "Needles", lambda m: not m.names).positions == []
        assert "blocked" in got(c, "State", lambda m: "blocked" in m.string).string
        assert mesh(raw(port, "IceMeasuredSurface")[1])[1].size == 0
        screen.show(replace(shown, seq=3))
        assert np.array_equal(got(c, "CT", lambda m: m.image.size > 1).image, loaded(shown.volume))


@pytest.mark.requirement("REQ-STREAM")
def test_a_forecast_that_is_over_is_not_shown_as_now(shown: Snapshot) -> None:
    past = replace(shown, now_utc_s=shown.forecast_times_utc_s[-1] + 1.0)
    made = {
        x.device: x
        for x in messages.sendings(past, lambda ref: None if ref is None else loaded(ref))
    }
    assert made["Predicted0C"].key == (None,)
    assert made["IceMeasured"].key != (None,)


def test_slices_that_no_matrix_describes_are_said_and_not_sent(shown: Snapshot) -> None:
    g = shown.volume_geometry
    assert g is not None
    offsets = list(g.slice_offsets_mm)
    uneven = replace(g, slice_offsets_mm=(*offsets[:-1], offsets[-1] + 1.0))
    tilted = replace(g, slice_axis=(0.0, float(np.sin(0.2)), float(np.cos(0.2))))
    for geometry in (uneven, tilted):
        s = replace(shown, volume_geometry=geometry)
        assert "ct_image=not sent" in messages.state_text(s)
        made = {
            x.device: x
            for x in messages.sendings(s, lambda ref: None if ref is None else loaded(ref))
        }
        assert made["CT"].key == (None,)
    assert "not sent" not in messages.state_text(shown)


def test_oblique_slices_lie_where_they_lie() -> None:
    turn = np.radians(25.0)
    row = (float(np.cos(turn)), float(np.sin(turn)), 0.0)
    column = (-float(np.sin(turn)), float(np.cos(turn)), 0.0)
    g = SliceGeometry((5.0, -7.0, 30.0), row, column, (0.0, 0.0, 1.0), 0.7, 0.9,
                      (0.0, 2.5, 5.0, 7.5), 2.5, 20, 30)  # fmt: skip
    message = pyigtl.ImageMessage(np.zeros((4, 20, 30), np.int16), messages.ct_to_ras(g), "ras")
    back = pyigtl.ImageMessage()
    back.unpack(pyigtl.messages.MessageBase.parse_header(message.pack()[:58]), message.pack()[58:])
    at = corners((4, 20, 30))
    assert np.allclose(placed(back, at), in_ras(g.to_lps_mm(at)), atol=1e-4)


# ------------------------------------------------------------------ clients that misbehave


@pytest.mark.requirement("REQ-STREAM")
def test_a_client_that_takes_nothing_holds_up_nobody_and_is_cut() -> None:
    server = Server("127.0.0.1", 0, stalled_s=1.0)
    stuck = socket.create_connection(("127.0.0.1", server.port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        big = messages._image("CT", np.zeros((64, 512, 512), np.int16), np.eye(4), 1.0)
        longest_s = 0.0
        with client(server.port) as c:
            for n in range(20):
                began = time.monotonic()
                server.post("CT", big)
                server.post("State", pyigtl.StringMessage(f"n={n}", device_name="State").pack())
                longest_s = max(longest_s, time.monotonic() - began)
                time.sleep(0.1)
            assert got(c, "State", lambda m: m.string == "n=19")
        assert longest_s < 0.5
        end = time.monotonic() + 15.0
        while server._clients and time.monotonic() < end:
            time.sleep(0.1)
        assert server._clients == 0
    finally:
        stuck.close()
        server.close()
    assert STALLED_S > 1.0


@pytest.mark.requirement("REQ-STREAM")
def test_who_comes_late_gets_the_latest_and_what_clients_say_is_not_looked_at() -> None:
    server = Server("127.0.0.1", 0)
    try:
        for n in range(500):
            server.post("State", pyigtl.StringMessage(f"n={n}", device_name="State").pack())
        with socket.create_connection(("127.0.0.1", server.port), 5.0) as s:
            s.sendall(
                struct.pack(">H12s20sIIQQ", 1, b"IMAGE", b"x", 0, 0, 2**62, 0) + b"\xff" * 5000
            )
            first = read_exactly(s, 58)
            (size,) = struct.unpack(">Q", first[42:50])
            assert read_exactly(s, size)[4:] == b"n=499"
            s.settimeout(0.5)
            with pytest.raises(TimeoutError):
                s.recv(1)
    finally:
        server.close()


@pytest.mark.requirement("REQ-STREAM")
def test_only_who_is_named_may_connect_and_no_more_than_four() -> None:
    server = Server("127.0.0.1", 0, ("127.0.0.9",))
    try:
        server.post("State", pyigtl.StringMessage("x", device_name="State").pack())
        with socket.create_connection(("127.0.0.1", server.port), 5.0) as stranger:
            assert stranger.recv(1) == b""
        with socket.create_connection(("127.0.0.1", server.port), 5.0, ("127.0.0.9", 0)) as friend:
            assert read_exactly(friend, 58)
            friends = [socket.create_connection(("127.0.0.1", server.port), 5.0, ("127.0.0.9", 0))
                       for _ in range(3)]  # fmt: skip
            for f in friends:
                assert read_exactly(f, 58)
            with socket.create_connection(
                ("127.0.0.1", server.port), 5.0, ("127.0.0.9", 0)
            ) as fifth:
                assert fifth.recv(1) == b""
            for f in friends:
                f.close()
    finally:
        server.close()


def test_a_port_that_is_taken_is_said_before_anything_begins(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StreamError, match=f"cannot listen on 127.0.0.1:{port}"):
            check_stream("127.0.0.1", port)
