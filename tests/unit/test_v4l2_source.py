# SPDX-License-Identifier: GPL-2.0-or-later
"""The V4L2 source without a device: what is missing is said, modes are chosen, buffers are lent once."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maglens_driver.errors import Deadline, Gone, Interrupted, MissingDependency, Refused, WrongState
from maglens_driver.frame import Frame
from maglens_driver.link.limits import MAX_TEXT_BYTES
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode, nearest_mode
from maglens_driver.v4l2 import binding, controls, identity, memory, modes, source
from maglens_driver.v4l2.buffers import BufferSet
from maglens_driver.v4l2.identity import usb_device
from maglens_driver.v4l2.memory import Choice
from maglens_driver.v4l2.source import V4L2Source
from tests.unit.v4l2_fake import FakeV4L2, installed

ROOT = Path(__file__).parents[2]
RATE = Fraction(1, 30)


def test_without_linuxpy_the_hint_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "linuxpy.video", None)
    binding.linuxpy.cache_clear()
    try:
        with pytest.raises(MissingDependency) as caught:
            asyncio.run(V4L2Source.open("/dev/video0"))
        assert "make install" in caught.value.hint
    finally:
        binding.linuxpy.cache_clear()


def test_linuxpy_is_imported_in_one_place_only() -> None:
    """It is GPL-3.0-or-later: what does without it must not touch it."""
    importing = re.compile(r"^\s*(import|from) linuxpy", re.M)
    found = [
        path.relative_to(ROOT).as_posix()
        for top in ("driver", "v4l2_bridge", "daemon")
        for path in (ROOT / top).rglob("*.py")
        if importing.search(path.read_text())
    ]
    assert found == ["driver/maglens_driver/v4l2/binding.py"]


def test_the_nearest_mode_has_the_format_before_the_size_before_the_rate() -> None:
    offered = [
        make_mode(YUYV, 1280, 720, RATE),
        make_mode(NV12, 640, 480, RATE),
        make_mode(NV12, 1280, 720, Fraction(1, 10)),
        make_mode(NV12, 1280, 720, Fraction(1, 25)),
    ]
    assert nearest_mode(offered, make_mode(NV12, 1280, 720, RATE)) == offered[3]
    assert nearest_mode(offered, make_mode(NV12, 700, 480, RATE)) == offered[1]
    assert nearest_mode(offered, make_mode(MJPG, 1280, 720, RATE)) == offered[0]


def test_a_device_that_is_none_of_usbs_has_no_usb_folder() -> None:
    assert usb_device("/dev/video-none") is None


@pytest.mark.parametrize(
    ("driver", "card", "own"),
    [
        ("maglens", "Front", True),
        ("v4l2 loopback", "maglens", True),
        ("v4l2 loopback", "Front", True),
        ("v4l2 loopback", "Screen", False),
        ("uvcvideo", "Front", False),
    ],
)
def test_a_node_of_ours_is_known_whatever_its_name(
    driver: str, card: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caps = 1 | 1 << 26
    said = SimpleNamespace(
        driver=driver.encode(), card=card.encode(), bus_info=b"here", capabilities=caps | 1 << 31, device_caps=caps
    )
    monkeypatch.setattr(identity, "linuxpy", lambda: SimpleNamespace(read_capabilities=lambda fd: said))
    if own:
        with pytest.raises(Refused, match="own node") as caught:
            identity.identify(3, "/dev/video-none", {"Front"})
        assert "[cameras] device" in caught.value.hint
    else:
        assert identity.identify(3, "/dev/video-none", {"Front"}).model == card


def test_what_a_camera_says_of_itself_does_nothing_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is the device's word: USB's strings, and the card's name that the driver makes of them."""
    said = SimpleNamespace(
        driver=b"uvc\x1b[2J",
        card=b"card",
        bus_info=b"usb-1\xc2\x9b1A",
        capabilities=1 | 4 | 1 << 31,
        device_caps=1 | 1 << 26,
    )
    monkeypatch.setattr(identity, "linuxpy", lambda: SimpleNamespace(read_capabilities=lambda fd: said))
    monkeypatch.setattr(identity, "usb_device", lambda path: tmp_path)
    (tmp_path / "product").write_text("\x1b]0;owned\x07Cam\u202e" + "\N{SNOWMAN}" * 40)
    found = identity.identify(3, "/dev/video9")
    assert (found.maker, found.serial) == ("uvc?[2J", "usb-1?1A")
    assert found.model.startswith("?]0;owned?Cam?\N{SNOWMAN}")
    assert 60 < len(found.model.encode()) <= MAX_TEXT_BYTES


class Rates:
    """A driver whose fractions have nothing to divide by, as linuxpy makes of them."""

    BufferType = SimpleNamespace(VIDEO_CAPTURE=1)
    Field = SimpleNamespace(ANY=0)
    FrameSizeType = SimpleNamespace(DISCRETE=1)
    IOC = SimpleNamespace(ENUM_FMT=2)
    raw = SimpleNamespace(
        v4l2_format=lambda: SimpleNamespace(fmt=SimpleNamespace(pix=Rates.pix())), v4l2_fmtdesc=SimpleNamespace
    )

    def __init__(self, *told: Fraction) -> None:
        self._told = told

    @staticmethod
    def pix() -> Any:
        return SimpleNamespace(colorspace=0, ycbcr_enc=0, quantization=0)

    def iter_read(self, fd: int, ioc: int, wanted: Any) -> Iterator[Any]:
        yield from ()

    def set_raw_format(self, fd: int, wanted: Any) -> None:
        wanted.fmt.pix.bytesperline, wanted.fmt.pix.sizeimage = 1280, 1280 * 480

    def set_fps(self, fd: int, kind: int, fps: Fraction) -> None:
        pass

    def get_fps(self, fd: int, kind: int) -> Fraction:
        return Fraction(1, 0)

    def iter_read_formats(self, fd: int, kind: int) -> Iterator[Any]:
        yield SimpleNamespace(pixel_format=YUYV)

    def iter_read_frame_sizes(self, fd: int, code: int) -> Iterator[Any]:
        yield SimpleNamespace(type=1, info=SimpleNamespace(width=640, height=480))

    def iter_read_frame_intervals(self, fd: int, code: int, width: int, height: int) -> Iterator[Any]:
        for rate in self._told:
            yield SimpleNamespace(min_fps=rate, max_fps=rate)
        yield Fraction(30, 0)


def test_a_driver_that_tells_a_rate_of_nothing_sends_at_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make_mode(YUYV, 640, 480, RATE)
    monkeypatch.setattr(modes, "linuxpy", Rates)
    assert modes.set_mode(3, wanted) == wanted
    assert modes.read_modes(3) == (wanted,)
    monkeypatch.setattr(modes, "linuxpy", lambda: Rates(Fraction(15)))
    assert modes.read_modes(3) == (make_mode(YUYV, 640, 480, Fraction(1, 15)),)


def test_what_a_driver_pads_a_pictures_end_with_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some round the size of a buffer up, and of these some say that they have filled all of it."""

    def rounded(fd: int, wanted: Any) -> None:
        wanted.fmt.pix.bytesperline, wanted.fmt.pix.sizeimage = 1280, 1280 * 480 + 4096

    wanted, rates = make_mode(YUYV, 640, 480, RATE), Rates()
    monkeypatch.setattr(rates, "set_raw_format", rounded)
    monkeypatch.setattr(modes, "linuxpy", lambda: rates)
    mode = modes.set_mode(3, wanted)
    assert mode == wanted
    stream: Any = source._Stream.__new__(source._Stream)
    stream._mode, stream._sink, stream._generation = mode, Sink(), 1
    stream._last_exposure, stream._last_sequence = 0, None
    for number, filled in enumerate((mode.nbytes, mode.nbytes + 4096)):
        info = SimpleNamespace(flags=0, sequence=number, bytesused=filled)
        stream._buffers = SimpleNamespace(take=lambda info=info: (info, None))
        assert stream._deliver()
    assert [frame.nbytes for frame in stream._sink.kept] == [mode.nbytes] * 2


def test_one_timestamp_of_the_future_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would count for every later frame, since they rise."""
    stream: Any = source._Stream.__new__(source._Stream)
    stream._mode, stream._last_exposure = make_mode(YUYV, 640, 480, RATE), 0
    flags = source.MONOTONIC | source.START_OF_EXPOSURE
    for now_s, told_s, means_s in ((10, 3600, 10), (11, 11, 11)):
        monkeypatch.setattr(source, "time", SimpleNamespace(monotonic_ns=lambda now_s=now_s: now_s * 10**9))
        info = SimpleNamespace(flags=flags, timestamp=SimpleNamespace(secs=told_s, usecs=0))
        assert stream._exposure_ns(info) == means_s * 10**9


def test_how_long_a_device_is_waited_for_can_be_waited() -> None:
    """Whatever it says of its rate: poll takes 24 days at most."""
    assert source.stall_s(make_mode(YUYV, 640, 480, RATE)) == 3.0
    assert source.stall_s(make_mode(YUYV, 640, 480, Fraction(2))) == 20.0
    assert source.stall_s(make_mode(YUYV, 640, 480, Fraction(2**32))) == source.STALL_MOST_S


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeV4L2:
    return installed(monkeypatch)


class SlowStart:
    """What a source makes of a start: it is made once ``go`` is set, or raises ``error``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.error: Exception | None = None
        self.made = self.stopped = 0

    def __call__(self, *_: object) -> SlowStart:
        self.go.wait()
        if self.error is not None:
            raise self.error
        self.made += 1
        return self

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[V4L2Source, SlowStart]:
    """A source on an ordinary file, whose streams are :class:`SlowStart`'s."""
    mode, start = make_mode(YUYV, 640, 480, RATE), SlowStart()
    monkeypatch.setattr(source, "identify", lambda *_: None)
    monkeypatch.setattr(source, "read_modes", lambda fd: [mode])
    monkeypatch.setattr(source, "read_controls", lambda fd: [])
    monkeypatch.setattr(source, "set_mode", lambda fd, wanted: wanted)
    monkeypatch.setattr(source, "_Stream", start)
    (tmp_path / "video").touch()
    return V4L2Source(str(tmp_path / "video"), ThreadPoolExecutor(1)), start


async def start_late(camera: V4L2Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver takes longer than anybody waits."""
    sink: Any = None
    await camera.configure(camera.modes[0])
    monkeypatch.setattr(source, "CALL_S", 0.05)
    with pytest.raises(Deadline):
        await camera.start(sink, 1)


def test_what_a_late_start_makes_is_stopped_before_the_next(
    slow: tuple[V4L2Source, SlowStart], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, start = slow
    sink: Any = None

    async def play() -> None:
        await start_late(camera, monkeypatch)
        with pytest.raises(WrongState):
            await camera.start(sink, 2)
        monkeypatch.setattr(source, "CALL_S", 20.0)
        start.go.set()
        await camera.configure(camera.modes[0])
        assert (start.made, start.stopped) == (1, 1)
        await camera.start(sink, 3)
        assert (start.made, start.stopped) == (2, 1)
        await camera.close()
        assert start.stopped == 2

    asyncio.run(play())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 an executor's last task tells nobody
            await asyncio.sleep(0.001)


def is_open(path: str) -> bool:
    return path in {str(link.resolve()) for link in Path("/proc/self/fd").iterdir()}


def test_what_a_late_start_makes_is_ended_even_if_nobody_waits_for_the_close(
    slow: tuple[V4L2Source, SlowStart], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, start = slow

    async def play() -> None:
        await start_late(camera, monkeypatch)
        for step in (camera.stop, camera.close):  # as a session takes leave
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(step(), 0.05)
        assert is_open(camera.path)
        await camera.stop()  # by whoever has not heard of that
        with pytest.raises(WrongState):
            await camera.configure(camera.modes[0])
        start.go.set()
        await until(lambda: not is_open(camera.path))
        assert (start.made, start.stopped) == (1, 1)

    try:
        asyncio.run(play())
    finally:
        start.go.set()


def test_a_device_that_opens_too_late_is_closed(
    slow: tuple[V4L2Source, SlowStart], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, go = slow[0].path, threading.Event()

    async def play() -> None:
        await slow[0].close()
        await until(lambda: not is_open(path))
        monkeypatch.setattr(source, "linuxpy", lambda: None)
        monkeypatch.setattr(source, "identify", lambda *_: go.wait())
        monkeypatch.setattr(source, "OPEN_S", 0.05)
        with pytest.raises(Deadline):
            await V4L2Source.open(path)
        await until(lambda: is_open(path))
        go.set()
        await until(lambda: not is_open(path))

    asyncio.run(play())


def test_whoever_is_called_off_as_the_device_opens_is_called_off() -> None:
    """What has come is given back, and the task does not go on as if nobody had said anything."""
    late: list[int] = []

    async def play() -> None:
        with ThreadPoolExecutor(1) as executor:
            opening = asyncio.create_task(source._within(executor, 20.0, "/dev/video0", lambda: 7, late.append))
            await asyncio.sleep(0)
            executor.submit(int).result()  # what it has asked for before that is done, and the loop is to hear of it
            await asyncio.sleep(0)  # it has heard of it, and the task has not
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    asyncio.run(play())
    assert late == [7]


def test_names_of_controls_are_fit_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a camera's own names are: whoever adds a control to uvcvideo, any user of the camera, chooses its name."""
    told = {"id": 0x98F900, "type": 3, "flags": 0, "minimum": 0, "maximum": 0, "step": 1, "default_value": 0}
    driver = SimpleNamespace(
        iter_read_controls=lambda fd: [SimpleNamespace(name=b"Lamp\x1b[31m\xe2\x80\xae\xff", **told)],
        iter_read_menu=lambda fd, control: [SimpleNamespace(index=0, name=b"Off\x07")],
    )
    monkeypatch.setattr(controls, "linuxpy", lambda: driver)
    (found,) = controls.read_controls(0)
    assert (found.name, found.menu) == ("Lamp?[31m?\ufffd", ((0, "Off?"),))


def test_a_start_that_fails_leaves_nothing_pending(slow: tuple[V4L2Source, SlowStart]) -> None:
    camera, start = slow
    sink: Any = None

    async def play() -> None:
        await camera.configure(camera.modes[0])
        start.error = OSError(16, "busy")
        start.go.set()
        with pytest.raises(OSError, match="busy"):
            await camera.start(sink, 1)
        start.error = None
        await camera.start(sink, 2)
        await camera.close()
        assert (start.made, start.stopped) == (1, 1)

    asyncio.run(play())


class Sink:
    """Hears what a source tells, and keeps every frame until it is asked to give them back."""

    def __init__(self) -> None:
        self.kept: list[Frame] = []
        self.lost_why: list[tuple[int, Exception]] = []
        self.turn = threading.Condition()

    def lease(self, nbytes: int) -> None:
        return None

    def deliver(self, frame: Frame) -> None:
        with self.turn:
            self.kept.append(frame)
            self.turn.notify_all()

    def control(self, generation: int, control: int, value: int) -> None:
        raise AssertionError("it has none")

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None:
        raise AssertionError(cause)

    def lost(self, generation: int, why: Exception) -> None:
        with self.turn:
            self.lost_why.append((generation, why))
            self.turn.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        def wait() -> bool:
            with self.turn:
                return self.turn.wait_for(condition, 10)

        assert await asyncio.to_thread(wait)


@pytest.fixture
def silent(fake: FakeV4L2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> V4L2Source:
    """A source on a pipe: a device that can be configured and started, and is readable once something is written."""
    mode = Mode(MJPG, 640, 480, 0, 64, RATE)
    for name, answer in (("identify", None), ("read_modes", [mode]), ("read_controls", [])):
        monkeypatch.setattr(source, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(source, "set_mode", lambda fd, wanted: wanted)
    monkeypatch.setattr(source, "watch_controls", lambda fd, controls: None)
    monkeypatch.setattr(source, "FIRST_FRAME_S", 0.1)
    monkeypatch.setattr(source, "STALL_S", 0.1)
    monkeypatch.setattr(source, "STALL_INTERVALS", 1)
    os.mkfifo(tmp_path / "video")
    return V4L2Source(str(tmp_path / "video"), ThreadPoolExecutor(1), Choice.MMAP)


async def ends(silent: V4L2Source, generation: int, kind: type[Exception]) -> None:
    """A stream is started, is lost for this reason, and is stopped."""
    sink = Sink()
    await silent.configure(silent.modes[0])
    await silent.start(sink, generation)
    await sink.until(lambda: bool(sink.lost_why))
    ((lost, why),) = sink.lost_why
    assert (lost, type(why)) == (generation, kind)
    await silent.stop()


def test_a_device_that_goes_silent_without_an_error_is_given_up_and_can_be_started_again(silent: V4L2Source) -> None:
    """Else the service would wait for ever, and with it its watchdog. The device is not gone."""

    async def play() -> None:
        for generation in (1, 2):
            await ends(silent, generation, Interrupted)
        await silent.close()

    asyncio.run(play())


def test_a_device_whose_stream_ends_by_an_error_can_be_started_again(
    silent: V4L2Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a webcam's does after EIO or EPROTO. Only what says that there is no such device is gone."""

    async def play() -> None:
        for generation, (number, kind) in enumerate(((errno.EPROTO, Interrupted), (errno.ENODEV, Gone))):
            error = OSError(number, os.strerror(number))
            monkeypatch.setattr(source._Stream, "_deliver_all", lambda self, error=error: broken(error))
            await ends(silent, generation, kind)
        await silent.close()

    def broken(error: OSError) -> None:
        raise error

    asyncio.run(play())


def test_a_stream_without_a_descriptor_to_be_woken_by_leaves_no_buffers(
    silent: V4L2Source, fake: FakeV4L2, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        sink: Any = None
        await silent.configure(silent.modes[0])
        with monkeypatch.context() as without, pytest.raises(OSError, match="Too many"):
            without.setattr(os, "eventfd", refused)
            await silent.start(sink, 1)
        assert not fake.queued or fake.freed
        await silent.close()

    def refused(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    asyncio.run(play())


def test_a_device_is_not_silent_while_it_has_no_buffer_to_fill(
    silent: V4L2Source, fake: FakeV4L2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are with a sink that is late: that is not the device's fault."""
    looked = threading.Semaphore(0)
    left = iter([0] * memory.COUNT)

    def dequeue(fd: int, kind: int, memory: int) -> Any:
        if next(left, None) is None:
            raise BlockingIOError
        stamp = SimpleNamespace(secs=0, usecs=0)
        return SimpleNamespace(index=fake.queued.pop(0), sequence=0, flags=0, bytesused=9, timestamp=stamp)

    class Watched(BufferSet):
        @property
        def fed_at(self) -> float | None:
            looked.release()
            return super().fed_at

    monkeypatch.setattr(fake, "dequeue_buffer", dequeue)
    monkeypatch.setattr(source, "BufferSet", Watched)

    async def play() -> None:
        sink = Sink()
        await silent.configure(silent.modes[0])
        device = os.open(silent.path, os.O_RDWR)
        os.write(device, b"frame")
        await silent.start(sink, 1)
        await sink.until(lambda: len(sink.kept) == memory.COUNT)
        os.read(device, 5)
        assert await asyncio.to_thread(lambda: looked.acquire(timeout=10) and looked.acquire(timeout=10))
        assert not sink.lost_why
        sink.kept.pop().lease.release()
        await sink.until(lambda: bool(sink.lost_why))
        os.close(device)
        await silent.close()

    asyncio.run(play())
