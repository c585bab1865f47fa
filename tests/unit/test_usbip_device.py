# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated UVC camera without a kernel: descriptors, endpoint 0, frames, and a whole session over a socket."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maglens_driver.mode import MJPG, NV12, YUYV, Mode
from maglens_driver.virtual import mark
from tests.tools.usbip import descriptors, vhci
from tests.tools.usbip.camera import MARK_SOURCE, Camera
from tests.tools.usbip.descriptors import STREAM_ENDPOINT, Identity, Speed, Uvc
from tests.tools.usbip.device import Stall, UvcDevice, VideoError
from tests.tools.usbip.formats import FORMATS
from tests.tools.usbip.payload import FrameClock, payloads
from tests.tools.usbip.picture import Picture
from tests.tools.usbip.protocol import Decoder, Errno, ProtocolError, Setup, Submit, Unlink, submitted, unlinked
from tests.tools.usbip.units import AE_MANUAL, CONTROLS

DEFAULTS = {control.name: control.default for control in CONTROLS}
SPEEDS = [Speed.HIGH, Speed.SUPER]
VERSIONS = [Uvc.V1_1, Uvc.V1_5]


def submit_bytes(seqnum: int, endpoint: int, to_host: bool, length: int, setup: bytes = bytes(8)) -> bytes:
    head = struct.pack(">IIIII", 1, seqnum, 1, int(to_host), endpoint)
    return head + struct.pack(">IiiiI", 0, length, 0, 0, 0) + setup


def walk(raw: bytes) -> Iterator[bytes]:
    """The descriptors in a chain; each must fit."""
    at = 0
    while at < len(raw):
        assert 2 <= raw[at] <= len(raw) - at
        yield raw[at : at + raw[at]]
        at += raw[at]


class Host:
    """What the device reported."""

    def __init__(self, speed: Speed = Speed.HIGH, uvc: Uvc = Uvc.V1_1) -> None:
        self.streams: list[Mode | None] = []
        self.controls: list[dict[str, int]] = []
        self.device = UvcDevice(speed, uvc, self.streams.append, self.controls.append)

    def get(self, request: int, value: int, index: int, length: int = 64, kind: int = 0xA1) -> bytes:
        return self.device.control(Setup(kind, request, value, index, length), b"")

    def set(self, value: int, index: int, data: bytes) -> None:
        self.device.control(Setup(0x21, 0x01, value, index, len(data)), data)


def test_messages_are_cut_from_the_stream_wherever_it_breaks() -> None:
    setup = bytes.fromhex("2101000101000200")
    raw = submit_bytes(7, 0, False, 2, setup) + b"\x05\x00"
    raw += submit_bytes(8, 1, True, 16384)
    raw += struct.pack(">IIIII", 2, 9, 1, 0, 0) + struct.pack(">I", 8) + bytes(24)
    for cut in range(1, len(raw)):
        decoder = Decoder()
        got = [*decoder.feed(raw[:cut]), *decoder.feed(raw[cut:])]
        assert got == [
            Submit(7, 0, False, 2, Setup(0x21, 1, 0x0100, 1, 2), b"\x05\x00"),
            Submit(8, 1, True, 16384, Setup(0, 0, 0, 0, 0), b""),
            Unlink(9, 8),
        ]


def test_answers_have_a_heads_length() -> None:
    assert submitted(5, Errno.PIPE, 0) == struct.pack(">IIIIIiiiii8x", 3, 5, 0, 0, 0, -32, 0, 0, 0, 0)
    assert unlinked(5, Errno.CONNRESET) == struct.pack(">IIIIIi24x", 4, 5, 0, 0, 0, -104)


@pytest.mark.parametrize("raw", [struct.pack(">I", 9) + bytes(44), submit_bytes(1, 1, True, 1 << 24)])
def test_what_is_no_usbip_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().feed(raw))


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("uvc", VERSIONS)
def test_descriptors_add_up(speed: Speed, uvc: Uvc) -> None:
    raw = descriptors.configuration(speed, uvc, FORMATS)
    assert struct.unpack_from("<H", raw, 2)[0] == len(raw)
    chain = list(walk(raw))
    interfaces = [d for d in chain if d[1] == 4]
    assert [(d[2], d[5], d[6]) for d in interfaces] == [(0, 0x0E, 1), (1, 0x0E, 2)]
    (endpoint,) = [d for d in chain if d[1] == 5]
    assert endpoint[2:4] == bytes((STREAM_ENDPOINT, 2))  # bulk
    control, streaming = (chain.index(d) for d in interfaces)
    units = [d for d in chain[control + 1 : streaming] if d[1] == 0x24]
    assert struct.unpack_from("<HH", units[0], 3) == (uvc, sum(map(len, units)))
    video = [d for d in chain[streaming + 1 :] if d[1] == 0x24]
    assert struct.unpack_from("<H", video[0], 4)[0] == sum(map(len, video))
    assert [d[2] for d in video if d[2] in (4, 6)] == [4, 4, 6]
    # Each format's frame count is what follows it.
    for number, d in enumerate(video):
        if d[2] in (4, 6):
            frames = 0
            while video[number + 1 + frames][2] in (5, 7):
                frames += 1
            assert frames == d[4]
    assert (len([d for d in chain if d[1] == 0x30]) == 1) == (speed is Speed.SUPER)


def test_bos_and_strings() -> None:
    raw = descriptors.bos()
    assert struct.unpack_from("<H", raw, 2)[0] == len(raw)
    assert len(list(walk(raw))) == 1 + raw[4]
    assert descriptors.string(2, Identity(product="Käm"))[2:].decode("utf-16-le") == "Käm"  # type: ignore[index]
    assert descriptors.string(4, Identity()) is None


@pytest.mark.parametrize("kind", [0x0600, 0x0304, 0x0201])
def test_descriptors_that_are_not_there_stall(kind: int) -> None:
    with pytest.raises(Stall):
        Host().get(6, kind, 0, kind=0x80)


def test_only_as_much_as_was_asked_for() -> None:
    assert len(Host().get(6, 0x0200, 0, 9, kind=0x80)) == 9


def test_controls_have_ranges_and_are_told() -> None:
    host = Host()
    brightness = (0x0200, 0x0200)  # selector, unit
    assert struct.unpack("<h", host.get(0x82, *brightness))[0] == -64
    assert struct.unpack("<h", host.get(0x83, *brightness))[0] == 64
    assert host.get(0x86, *brightness) == b"\x03"
    assert host.get(0x85, *brightness) == b"\x02\x00"
    host.set(*brightness, struct.pack("<h", -30))
    assert struct.unpack("<h", host.get(0x81, *brightness))[0] == -30
    assert host.controls[-1]["brightness"] == -30


@pytest.mark.parametrize(
    ("value", "index", "data", "error"),
    [
        (0x0200, 0x0200, struct.pack("<h", 65), VideoError.INVALID_VALUE),
        (0x0200, 0x0200, b"\x01", VideoError.INVALID_VALUE),
        (0x0200, 0x0100, b"\x02", VideoError.INVALID_VALUE),  # shutter priority, which it does not have
        (0x7700, 0x0200, b"\x01\x00", VideoError.INVALID_CONTROL),
        (0x0200, 0x0900, b"\x01\x00", VideoError.INVALID_CONTROL),
    ],
)
def test_what_it_refuses_it_can_explain(value: int, index: int, data: bytes, error: VideoError) -> None:
    host = Host()
    with pytest.raises(Stall):
        host.set(value, index, data)
    assert host.controls == []
    assert host.get(0x81, 0x0200, 0) == bytes((error,))


@pytest.mark.parametrize("uvc", VERSIONS)
def test_probe_and_commit(uvc: Uvc) -> None:
    host = Host(uvc=uvc)
    size = struct.unpack("<H", host.get(0x85, 0x0100, 1))[0]
    want = struct.pack("<HBBI", 1, 2, 2, 700_000).ljust(size, b"\0")
    host.set(0x0100, 1, want)
    answer = host.get(0x81, 0x0100, 1)
    assert len(answer) == size
    _, number, frame, interval = struct.unpack_from("<HBBI", answer)
    assert (number, frame, interval) == (2, 2, 666_666)
    frame_bytes, payload = struct.unpack_from("<II", answer, 18)
    assert (frame_bytes, payload) == (320 * 240 * 3 // 2, 512 * 32)
    assert host.streams == []
    host.set(0x0200, 1, answer)
    assert host.streams[-1] is not None
    assert (host.streams[-1].fourcc, host.streams[-1].width, host.streams[-1].nbytes) == (NV12, 320, 115200)
    # The end of a bulk stream.
    host.device.control(Setup(0x02, 1, 0, STREAM_ENDPOINT, 0), b"")
    assert host.streams[-1] is None


def test_wild_probes_are_brought_into_range() -> None:
    host = Host()
    host.set(0x0100, 1, struct.pack("<HBBI", 1, 200, 0, 1).ljust(34, b"\0"))
    _, number, frame, interval = struct.unpack_from("<HBBI", host.get(0x81, 0x0100, 1))
    assert (number, frame, interval) == (len(FORMATS), 1, 333_333)


def luma_of(mode: Mode, raw: bytes | bytearray) -> mark.Luma:
    if mode.fourcc == MJPG:
        return np.asarray(Image.open(io.BytesIO(raw)).convert("L"))
    return mark.luma_plane(memoryview(raw), mode)


@pytest.mark.parametrize("chosen", FORMATS, ids=["YUYV", "NV12", "MJPG"])
@pytest.mark.parametrize("number", [0, 1])
def test_pictures_carry_their_mark_in_every_format(chosen: object, number: int) -> None:
    each = next(f for f in FORMATS if f == chosen)
    mode = each.mode(each.sizes[number], 333_333)
    wanted = mark.Mark(MARK_SOURCE, 3, 70_000)
    raw = Picture(mode, DEFAULTS).frame(wanted)
    assert len(raw) == mode.nbytes if mode.stride else len(raw) < mode.nbytes
    assert mark.read(luma_of(mode, raw)) == wanted


def test_controls_show_in_the_picture() -> None:
    mode = FORMATS[0].mode(FORMATS[0].sizes[1], 333_333)
    assert mode.fourcc == YUYV

    def middle(**changed: int) -> mark.Luma:
        raw = Picture(mode, DEFAULTS | changed).frame(mark.Mark(0, 0, 0))
        return luma_of(mode, raw)[80:160].astype(np.int32)

    plain = middle()
    assert middle(brightness=20).mean() == pytest.approx(plain.mean() + 20, abs=1)
    assert middle(gain=20).mean() == pytest.approx(plain.mean() * 1.25, rel=0.02)
    assert middle(exposure=100).mean() == plain.mean()  # automatic
    assert middle(auto_exposure=AE_MANUAL, exposure=100).mean() == pytest.approx(plain.mean() / 2, rel=0.02)
    assert middle(auto_focus=0, focus=200).std() < plain.std() * 0.7
    assert middle(focus=200).std() == plain.std()  # automatic
    assert middle(contrast=16).std() < plain.std() * 0.6


def test_payloads_make_up_the_frame() -> None:
    frame = bytes(range(256)) * 5
    pieces = list(payloads(frame, 3, 514))
    assert b"".join(bytes(data) for _, data in pieces) == frame
    assert [len(data) for _, data in pieces] == [512, 512, 256]
    assert [header for header, _ in pieces] == [b"\x02\x81", b"\x02\x81", b"\x02\x83"]
    assert next(payloads(frame, 4, 514))[0] == b"\x02\x80"


def test_a_late_camera_leaves_frames_out() -> None:
    clock = FrameClock(100, 1000)
    assert (clock.due_ns(), clock.take(1000)) == (1000, 0)
    assert (clock.due_ns(), clock.take(1100)) == (1100, 1)
    assert clock.take(1550) == 5
    assert clock.due_ns() == 1600


STATUS = """hub port sta spd dev      sockfd local_busid
hs  0000 006 003 4d4c0001 000003 9-1
hs  0001 004 000 00000000 000000 0-0
hs  0002 006 003 00020005 000004 9-3
ss  0008 004 000 00000000 000000 0-0
"""


def test_ports(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    assert [port.number for port in vhci.ports(tmp_path) if port.ours] == [0]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert vhci.attach(theirs, Speed.SUPER, tmp_path) == 8
        assert (tmp_path / "attach").read_text() == f"8 {theirs.fileno()} {0x4D4C0001} 5"
        assert vhci.attach(theirs, Speed.HIGH, tmp_path) == 1
    vhci.detach(8, tmp_path)
    assert (tmp_path / "detach").read_text() == "8\n"


def test_without_the_controller_the_hint_says_what_to_load(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no virtual") as caught:
        vhci.ports(tmp_path)
    assert getattr(caught.value, "hint", "") == "modprobe vhci-hcd"


class Kernel:
    """The host's end of a session."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._link.settimeout(10)

    def send(self, raw: bytes) -> None:
        self._link.sendall(raw)

    def answer(self) -> tuple[int, int, int, bytes]:
        """Command, seqnum, status, data."""
        head = self._exactly(48)
        command, seqnum = struct.unpack_from(">II", head)
        status, actual = struct.unpack_from(">ii", head, 20)
        return command, seqnum, status, self._exactly(actual) if command == 3 and seqnum not in WRITES else b""

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            got += self._link.recv(count - len(got))
        return got


WRITES = frozenset((2, 90))
"""Sequence numbers of OUT requests, whose answers have no data."""


def test_a_session_over_the_socket() -> None:
    ours, theirs = socket.socketpair()
    camera = Camera(ours, Speed.HIGH, Uvc.V1_1)
    server = threading.Thread(target=camera.serve)
    server.start()
    with theirs:
        kernel = Kernel(theirs)
        kernel.send(submit_bytes(1, 0, True, 18, bytes.fromhex("8006000100001200")))
        assert kernel.answer()[3] == descriptors.device(Speed.HIGH)
        # URBs that come before the stream wait for it.
        for seqnum in range(10, 20):
            kernel.send(submit_bytes(seqnum, 1, True, 16384))
        commit = struct.pack("<HBBI", 1, 2, 2, 333_333).ljust(34, b"\0")
        kernel.send(submit_bytes(2, 0, False, 34, bytes.fromhex("2101000201002200")) + commit)
        assert kernel.answer()[:3] == (3, 2, 0)
        frame = b""
        for seqnum in range(10, 18):  # 115200 bytes in payloads of 16382
            command, number, status, data = kernel.answer()
            assert (command, number, status) == (3, seqnum, 0)
            assert data[0] == 2 and bool(data[1] & 2) == (seqnum == 17)
            frame += data[2:]
        mode = FORMATS[1].mode(FORMATS[1].sizes[1], 333_333)
        assert mark.read(luma_of(mode, frame)) == mark.Mark(MARK_SOURCE, 1, 0)
        # The end of the stream; then what is still waiting is taken back.
        kernel.send(submit_bytes(90, 0, False, 0, bytes.fromhex("0201000081000000")))
        seen = [kernel.answer()]
        while seen[-1][1] != 90:
            seen.append(kernel.answer())
        kernel.send(submit_bytes(30, 1, True, 16384))
        kernel.send(struct.pack(">IIIIII24x", 2, 31, 1, 0, 0, 30))
        assert kernel.answer()[:3] == (4, 31, -104)
        kernel.send(struct.pack(">IIIIII24x", 2, 32, 1, 0, 0, 10))
        assert kernel.answer()[:3] == (4, 32, 0)
    server.join(10)
    ours.close()
    assert not server.is_alive()


def test_for_measuring_frames_come_at_once_and_say_when_they_were_taken() -> None:
    ours, theirs = socket.socketpair()
    camera = Camera(ours, Speed.HIGH, Uvc.V1_1, paced=False, stamped=True)
    server = threading.Thread(target=camera.serve)
    server.start()
    with theirs:
        kernel = Kernel(theirs)
        commit = struct.pack("<HBBI", 1, 2, 2, 10_000_000).ljust(34, b"\0")  # paced, one would take 66 ms
        kernel.send(submit_bytes(2, 0, False, 34, bytes.fromhex("2101000201002200")) + commit)
        assert kernel.answer()[:3] == (3, 2, 0)
        began = time.monotonic_ns()
        taken = []
        for first in range(100, 100 + 8 * 20, 8):  # eight URBs a frame
            for seqnum in range(first, first + 8):
                kernel.send(submit_bytes(seqnum, 1, True, 16384))
            data, *_ = [kernel.answer()[3] for _ in range(8)]
            assert data[2:10] == b"mlstamp\n"
            taken.append(int.from_bytes(data[10:18], "little"))
    server.join(10)
    ours.close()
    assert taken == sorted(taken) and began <= taken[0]
    assert taken[-1] - taken[0] < 19 * 30_000_000


def test_a_clock_without_an_interval_leaves_nothing_out() -> None:
    clock = FrameClock(0, 1000)
    assert [clock.take(now) for now in (1000, 1000, 999_999_999)] == [0, 1, 2]
    assert clock.due_ns() == 1000
