# SPDX-License-Identifier: GPL-2.0-or-later
"""The small parts of the libcamera source: packets, the control table, clocks and pace."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_driver.control import Cid
from maglens_driver.errors import BadModule
from maglens_driver.libcamera import control_map
from maglens_driver.libcamera.camera import RatePacer
from maglens_driver.libcamera.delivery import monotonic_stamp
from maglens_driver.libcamera.limits import Limits, RestartGate
from maglens_driver.libcamera.packet import (
    FROM_CHILD,
    FROM_PARENT,
    MAX_PACKET,
    MAX_TEXT,
    BufferBody,
    ControlBody,
    FrameBody,
    GiveBackBody,
    Kind,
    ModeBody,
    Packet,
    decode,
    encode,
)
from maglens_driver.libcamera.source import mode_of
from maglens_driver.mode import MJPG, NV12

if TYPE_CHECKING:
    from maglens_driver.libcamera.binding import Binding
    from tests.unit.libcamera_fake import libcamera as fake

    _the_fake_has_the_real_ones_shape: Binding = fake

MODE = ModeBody(fourcc=NV12, width=640, height=480, stride=640, nbytes=460800, numerator=1, denominator=30)
FRAME = FrameBody(epoch=1, index=2, nbytes=3, sequence=4, timestamp_ns=5)


@pytest.mark.parametrize(
    "packet",
    [
        Packet(Kind.LIST, 1),
        Packet(Kind.OPEN, 2, "/base/κάμερα"),
        Packet(Kind.CONFIGURE, 3, MODE),
        Packet(Kind.GIVE_BACK, 0, GiveBackBody(epoch=9, index=1)),
        Packet(Kind.FRAME, 0, FRAME),
        Packet(Kind.BUFFER, 3, BufferBody(epoch=1, index=0, planes=2, offset0=0, length0=9, offset1=9, length1=4)),
        Packet(Kind.REFUSED, 7, "no", 4),
        Packet(Kind.DONE, 7),
    ],
)
def test_packets_survive_the_way(packet: Packet) -> None:
    raw = encode(packet)
    assert len(raw) <= MAX_PACKET
    assert decode(raw, FROM_CHILD | FROM_PARENT) == packet


def test_long_text_is_cut_at_a_character() -> None:
    back = decode(encode(Packet(Kind.BROKEN, 0, "ü" * 500)), FROM_CHILD).body
    assert back == "ü" * (MAX_TEXT // 2)


def test_a_texts_control_characters_do_not_reach_the_log() -> None:
    assert decode(encode(Packet(Kind.BROKEN, 0, "a\nb\x1b[31m")), FROM_CHILD).body == "a?b?[31m"


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"", "length"),
        (b"\x63\x6c\x88", "length"),
        (b"XX\x88\0\0\0\0\0", "child_magic"),
        (b"\x63\x6c\x77\0\0\0\0\0", "child_kind"),
        (encode(Packet(Kind.START, 1)), "child_kind"),  # the wrong way round
        (encode(Packet(Kind.FRAME, 0, FRAME)) + b"\0", "child_length"),
        (encode(Packet(Kind.FRAME, 0, FRAME))[:-1], "child_length"),
        (encode(Packet(Kind.DONE, 1)) + b"\0", "child_length"),
        (encode(Packet(Kind.TEXT, 1, "x")) + b"y" * MAX_TEXT, "child_length"),
    ],
)
def test_odd_packets_are_refused(raw: bytes, cause: str) -> None:
    with pytest.raises(BadModule) as caught:
        decode(raw, FROM_CHILD)
    assert caught.value.cause == cause


@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_be_refused(raw: bytes) -> None:
    try:
        packet = decode(raw, FROM_CHILD)
    except BadModule:
        return
    assert packet.kind in FROM_CHILD


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"height": 99999},
        {"denominator": 0},
        {"numerator": 0},
        {"numerator": 61, "denominator": 1},
        {"numerator": 1, "denominator": 5000},
        {"stride": 639},
        {"nbytes": 460801},
        {"fourcc": 1},
        {"fourcc": MJPG, "stride": 0, "nbytes": 1 << 40},
    ],
)
def test_impossible_modes_are_refused(wrong: dict[str, int]) -> None:
    names = ("fourcc", "width", "height", "stride", "nbytes", "numerator", "denominator")
    good = {name: getattr(MODE, name) for name in names}
    assert mode_of(ModeBody(**good)).width == 640
    with pytest.raises(BadModule):
        mode_of(ModeBody(**(good | wrong)))


def test_impossible_controls_are_refused() -> None:
    assert control_map.info_of(ControlBody(id=Cid.GAIN, minimum=1, maximum=9, step=1, default=4)) is not None
    for minimum, maximum, default in ((5, 4, 5), (1, 9, 10), (0, 1 << 40, 0)):
        body = ControlBody(id=Cid.GAIN, minimum=minimum, maximum=maximum, step=1, default=default)
        assert control_map.info_of(body) is None
    assert control_map.info_of(ControlBody(id=77, minimum=0, maximum=1, step=1, default=0)) is None


def test_exposure_switch_of_both_generations() -> None:
    old = control_map.offered({"AeEnable": (False, True, True)})
    row, body = old[Cid.EXPOSURE_AUTO]
    assert body.default == 0  # V4L2: 0 is automatic
    assert control_map.to_native(row, 1, {"AeEnable"}.__contains__) == {"AeEnable": False}
    names = {"AeEnable": (False, True, True), "ExposureTimeMode": (0, 1, 1), "AnalogueGainMode": (0, 1, 0)}
    row, body = control_map.offered(names)[Cid.EXPOSURE_AUTO]
    assert body.default == 1
    assert control_map.to_native(row, 1, names.__contains__) == {"ExposureTimeMode": 1}
    for absent in ("AnalogueGainMode", "AnalogueGain"):  # a UVC camera has no gain mode
        apart = {"AeEnable": (False, True, True), "ExposureTimeMode": (0, 1, 1), "AnalogueGain": (1.0, 2.0, 1.0)}
        apart["AnalogueGainMode"] = (0, 1, 0)
        del apart[absent]
        assert Cid.AUTOGAIN not in control_map.offered(apart)


def test_scales() -> None:
    rows = control_map.offered(
        {
            "LensPosition": (0.0, 15.0, 0.5),
            "ExposureTime": (100, 1_000_000, 20_000),
            "AnalogueGain": (1.0, float("inf"), float("nan")),
            "Contrast": (1.0, 1.0, 1.0),  # no range: not a control
        }
    )
    focus, exposure, gain = rows[Cid.FOCUS_ABSOLUTE], rows[Cid.EXPOSURE_ABSOLUTE], rows[Cid.GAIN]
    assert (focus[1].maximum, focus[1].default) == (1500, 50)
    assert control_map.to_native(focus[0], 325, lambda _: True) == {"LensPosition": 3.25}
    assert control_map.to_native(exposure[0], 33, lambda _: True) == {"ExposureTime": 3300}
    assert (gain[1].minimum, gain[1].maximum, gain[1].default) == (1000, control_map.MAX_VALUE, 1000)
    assert Cid.CONTRAST not in rows


def test_only_automatics_move_controls() -> None:
    body = FrameBody(
        epoch=1, index=0, nbytes=1, sequence=0, timestamp_ns=0, exposure_us=5000, gain_milli=2000, temperature_k=4000
    )
    manual: dict[int, int] = {Cid.EXPOSURE_AUTO: 1, Cid.EXPOSURE_ABSOLUTE: 7, Cid.GAIN: 1000}
    assert control_map.readings(body, manual) == {}
    assert control_map.readings(body, manual | {Cid.EXPOSURE_AUTO: 0, Cid.AUTOGAIN: 1}) == {
        Cid.EXPOSURE_ABSOLUTE: 50,
        Cid.GAIN: 2000,
    }


@pytest.mark.parametrize(("state", "told"), [(None, False), (0, False), (1, True), (2, True), (3, True)])
def test_a_lens_on_its_way_to_where_a_person_sent_it_is_no_news(state: int | None, told: bool) -> None:
    """The last frames before it is there would put an app's slider back. A scan moves it by itself."""
    body = FrameBody(
        epoch=1,
        index=0,
        nbytes=1,
        sequence=0,
        timestamp_ns=0,
        focus_cdpt=1 + 250,
        focus_state=0 if state is None else 1 + state,
    )
    readings = control_map.readings(body, {Cid.FOCUS_ABSOLUTE: 300, Cid.FOCUS_AUTO: 0})
    assert readings == ({Cid.FOCUS_ABSOLUTE: 250} if told else {})


def test_stamps_of_either_clock() -> None:
    now, asleep = 1_000_000_000_000, 500_000_000_000
    assert monotonic_stamp(now - 5, now, asleep) == now - 5
    assert monotonic_stamp(now + asleep - 5, now, asleep) == now - 5
    assert monotonic_stamp(0, now, asleep) == now
    assert monotonic_stamp(1 << 63, now, asleep) == now


def test_pace() -> None:
    ms = 1_000_000
    pacer = RatePacer(100 * ms, depth=3, now_ns=0)
    for _ in range(3):
        assert pacer.wait_ns(0) == 0
        pacer.took(0)
    assert 0 < pacer.wait_ns(0) < 100 * ms
    # A camera that keeps time never waits, however long it runs.
    keeper = RatePacer(100 * ms, depth=3, now_ns=0)
    for _ in range(3):
        keeper.took(0)
    for number in range(1, 500):
        assert keeper.wait_ns(number * 100 * ms) == 0
        keeper.took(number * 100 * ms)
    # One that paused does not make up for it.
    at = 100_000 * ms
    granted = 0
    while keeper.wait_ns(at) == 0:
        keeper.took(at)
        granted += 1
    assert granted <= 4


def test_restart_gate() -> None:
    gate = RestartGate(Limits(restarts=2, restart_window_s=10))
    for at in (0.0, 1.0):
        assert gate.wait_s(at) == 0
        gate.started(at)
    assert gate.wait_s(4.0) == 6.0
    assert gate.wait_s(10.0) == 0
    gate.started(10.0)
    assert gate.wait_s(10.5) == 0.5


def test_the_library_is_imported_by_the_child_alone() -> None:
    folder = Path(control_map.__file__).parent
    spec = importlib.util.find_spec("maglens_driver.libcamera.source")
    assert spec is not None
    for name in ("source", "delivery", "process", "buffers"):
        text = (folder / f"{name}.py").read_text()
        assert "binding" not in text.split("class ", 1)[0]
