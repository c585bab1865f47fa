# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates of a V4L2 device: what it says, what it makes of what it is asked, and when its pictures began."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from linuxpy.video import raw  # type: ignore[import-untyped]

from maglens_daemon.cli import module
from maglens_driver.errors import Gone, MaglensError, Refused
from maglens_driver.mode import YUYV, Mode, make_mode
from maglens_driver.v4l2 import colours, modes, source
from maglens_driver.v4l2.source import V4L2Source

MS = 1_000_000
WIDTHS = (320, 640, 1280)


def listed(width: int, rate: int) -> Mode:
    return make_mode(YUYV, width, width * 3 // 4, Fraction(1, rate))


@dataclass
class Driver:
    """linuxpy with a driver behind it that takes YUYV of any size. ``makes``: its own idea of a rate that is set;
    ``refuses``: the error at a picture so wide. Without ``settable`` it has one rate, which it tells."""

    makes: Mapping[int, int] = field(default_factory=dict)
    refuses: Mapping[int, int] = field(default_factory=dict)
    settable: bool = True
    rate: int = 25
    asked: list[tuple[int, Fraction]] = field(default_factory=list)
    width: int = 0
    raw: Any = raw
    BufferType = SimpleNamespace(VIDEO_CAPTURE=1)
    Field = SimpleNamespace(ANY=0)
    IOC = SimpleNamespace(ENUM_FMT=2)

    def iter_read(self, *_: object) -> tuple[()]:
        return ()

    def try_raw_format(self, fd: int, wanted: Any) -> None:
        pix = wanted.fmt.pix
        pix.colorspace = colours.COLORSPACE_SRGB
        pix.bytesperline, pix.sizeimage = pix.width * 2, pix.width * 2 * pix.height

    def set_raw_format(self, fd: int, wanted: Any) -> None:
        self.width = wanted.fmt.pix.width
        if error := self.refuses.get(self.width):
            raise OSError(error, "no")
        self.try_raw_format(fd, wanted)

    def set_fps(self, fd: int, kind: int, fps: Fraction) -> None:
        if not self.settable:
            raise OSError(errno.ENOTTY, "it has no rate to set")
        self.asked.append((self.width, fps))
        self.rate = self.makes.get(int(fps), int(fps))

    def get_fps(self, fd: int, kind: int) -> Fraction:
        return Fraction(self.rate)


def opened(driver: Driver, offered: list[Mode], monkeypatch: pytest.MonkeyPatch, folder: Path) -> V4L2Source:
    """A source on an ordinary file, with ``driver`` behind it."""
    for part in (colours, modes):
        monkeypatch.setattr(part, "linuxpy", lambda: driver)
    monkeypatch.setattr(source, "identify", lambda *_: None)
    monkeypatch.setattr(source, "read_modes", lambda fd: tuple(offered))
    monkeypatch.setattr(source, "read_controls", lambda fd: [])
    (folder / "video").touch()
    return V4L2Source(str(folder / "video"), ThreadPoolExecutor(1))


def test_a_device_without_a_rate_to_set_is_asked_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grabber of PAL sends 25 a second, whatever is assumed of devices that list no rate."""
    for part in (colours, modes):
        monkeypatch.setattr(part, "linuxpy", lambda: Driver(settable=False))
    assert modes.set_mode(3, listed(640, 30)).interval == Fraction(1, 25)


@pytest.mark.parametrize("call", ["set_fps", "get_fps"])
def test_a_device_that_leaves_amid_that_is_gone(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Fraction:
        raise OSError(errno.ENODEV, "unplugged")

    driver = Driver()
    monkeypatch.setattr(driver, call, gone)
    for part in (colours, modes):
        monkeypatch.setattr(part, "linuxpy", lambda: driver)
    with pytest.raises(OSError, match="unplugged"):
        modes.set_mode(3, listed(640, 30))


def test_modes_are_offered_at_the_rates_that_the_device_makes_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And each is asked for by the rate that leads to it, though another one listed is nearer."""
    driver = Driver(makes={30: 25, 24: 20}, refuses={1280: errno.EINVAL})
    offered = [listed(640, 30), listed(640, 24), listed(640, 20), listed(320, 15), listed(1280, 15)]

    async def play() -> None:
        camera = opened(driver, offered, monkeypatch, tmp_path)
        await camera.settle_rates()
        assert camera.modes == (listed(640, 25), listed(640, 20), listed(320, 15))
        for mode, ask in ((listed(640, 25), 30), (listed(640, 20), 24), (listed(320, 15), 15)):
            assert await camera.configure(mode) == mode
            assert driver.asked[-1] == (mode.width, Fraction(ask))
        await camera.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("refusals", "error"),
    [
        (dict.fromkeys(WIDTHS, errno.EINVAL), Refused),
        ({640: errno.EBUSY}, OSError),
        ({640: errno.ENODEV}, Gone),
    ],
    ids=["none", "in-use", "gone"],
)
def test_a_device_that_takes_nothing_says_why(
    refusals: dict[int, int], error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def play() -> None:
        camera = opened(Driver(refuses=refusals), [listed(w, 30) for w in WIDTHS], monkeypatch, tmp_path)
        with pytest.raises(error):
            await camera.settle_rates()
        await camera.close()

    asyncio.run(play())


def test_a_board_offers_what_its_camera_makes_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver, closed = Driver(makes={30: 25}), []

    async def opener(path: str) -> V4L2Source:
        camera = opened(driver, [listed(640, 30)], monkeypatch, tmp_path)
        close = camera.close

        async def noted() -> None:
            closed.append(path)
            await close()

        monkeypatch.setattr(camera, "close", noted)
        return camera

    async def play() -> None:
        monkeypatch.setattr(V4L2Source, "open", opener)
        camera = await module.open_source("v4l2:/dev/video7")
        assert camera.modes == (listed(640, 25),)
        await camera.close()
        assert closed == ["/dev/video7"]
        driver.refuses = {640: errno.EBUSY}
        with pytest.raises(MaglensError, match="/dev/video7"):
            await module.open_source("v4l2:/dev/video7")
        assert len(closed) == 2

    asyncio.run(play())


def test_the_beginning_of_a_picture_is_as_regular_as_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """vivid stamps a frame's end nine tenths of an interval ahead, and this thread takes each when it gets to it."""
    stream: Any = source._Stream.__new__(source._Stream)
    stream._mode, stream._last_exposure = listed(640, 100), 0
    found = []
    for number, lag_ms in enumerate((0, 4, 1, 7, 0)):
        made = 1000 + 10 * number
        monkeypatch.setattr(source, "time", SimpleNamespace(monotonic_ns=lambda at=made + lag_ms: at * MS))
        told = SimpleNamespace(secs=1, usecs=(made - 1000 + 9) * 1000)
        found.append(stream._exposure_ns(SimpleNamespace(flags=source.MONOTONIC, timestamp=told)) // MS)
    assert found == [999, 1009, 1019, 1029, 1039]
