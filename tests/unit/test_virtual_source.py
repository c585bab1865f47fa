# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual source delivers marked frames at its rate, obeys optics, and can be unplugged."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from maglens_driver.control import Cid
from maglens_driver.errors import Gone, Refused, WrongState
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, NV12, RAW, YUYV, Mode, make_mode
from maglens_driver.source import Source
from maglens_driver.virtual.canvas import Abandoned, GiveUp, never
from maglens_driver.virtual.lens import lens_names, load_lens
from maglens_driver.virtual.mark import Mark, luma_plane, read
from maglens_driver.virtual.optics import Optics
from maglens_driver.virtual.raw_picture import RawRenderer, flat
from maglens_driver.virtual.render import Renderer
from maglens_driver.virtual.source import VirtualSource

pytestmark = pytest.mark.asyncio
WAIT_S = 20.0
Luma = npt.NDArray[np.uint8]


@dataclass
class HeapLease:
    view: memoryview

    def release(self) -> None:
        pass


@dataclass
class Sink:
    """Keeps a copy of the last frames; ``full`` after ``want`` of them."""

    want: int = 1
    frames: list[tuple[Frame, bytes]] = field(default_factory=list)
    controls: list[tuple[int, int, int]] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    why: list[Exception] = field(default_factory=list)
    full: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    refuse: bool = False

    def lease(self, nbytes: int) -> HeapLease | None:
        return None if self.refuse else HeapLease(memoryview(bytearray(nbytes)))

    def deliver(self, frame: Frame) -> None:
        self.frames.append((frame, bytes(frame.lease.view[: frame.nbytes])))
        if len(self.frames) >= self.want:
            self.full.set()

    def control(self, generation: int, control: int, value: int) -> None:
        self.controls.append((generation, control, value))

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None:
        self.drops.append(cause)
        if self.refuse and len(self.drops) >= self.want:
            self.full.set()

    def lost(self, generation: int, why: Exception) -> None:
        self.why.append(why)
        self.ended.set()


def mode(code: int = NV12, width: int = 640, height: int = 480, rate: int = 30) -> Mode:
    return make_mode(code, width, height, Fraction(1, rate))


async def shoot(
    source: VirtualSource, want: Mode, values: Mapping[int, int] | None = None, generation: int = 1
) -> tuple[Frame, Luma]:
    """The luma of one frame taken at ``values``."""
    chosen = await source.configure(want)
    await source.set(values or {})
    assert source.camera.settled(WAIT_S)
    sink = Sink()
    await source.start(sink, generation)
    assert sink.full.wait(WAIT_S)
    await source.stop()
    frame, raw = sink.frames[0]
    if chosen.fourcc == MJPG:
        return frame, np.asarray(Image.open(io.BytesIO(raw)).convert("L"))
    return frame, luma_plane(bytearray(raw), chosen)


@pytest.mark.parametrize("name", lens_names())
@pytest.mark.parametrize("code", [NV12, YUYV, MJPG])
async def test_every_lens_sends_marked_frames(name: str, code: int) -> None:
    source = VirtualSource(name)
    a_source: Source = source
    frame, luma = await shoot(source, mode(code), generation=300)
    assert read(luma) == Mark.wrapped(load_lens(name).mark, 300, frame.seq)
    assert frame.mode in a_source.modes
    assert frame.nbytes <= frame.mode.nbytes
    assert (frame.nbytes == frame.mode.nbytes) == (code != MJPG)
    await source.close()


def sharpness(luma: Luma, x: slice, y: slice) -> float:
    """Mean square of the horizontal gradient of a part of the picture, in shares of its width and height."""
    height, width = luma.shape
    part = luma[round(y.start * height) : round(y.stop * height), round(x.start * width) : round(x.stop * width)]
    return float(np.mean(np.diff(part.astype(float), axis=1) ** 2))


ROBOT = slice(0.20, 0.32), slice(0.33, 0.45)
DAISY = slice(0.66, 0.80), slice(0.52, 0.72)


async def test_focus_makes_near_sharp_and_far_soft() -> None:
    source = VirtualSource("35mm")
    _, near = await shoot(source, mode(), {Cid.FOCUS_ABSOLUTE: 200})
    _, middle = await shoot(source, mode(), {Cid.FOCUS_ABSOLUTE: 50})
    assert sharpness(near, *DAISY) > 3 * sharpness(middle, *DAISY)
    assert sharpness(middle, *ROBOT) > 3 * sharpness(near, *ROBOT)
    await source.close()


async def test_a_small_aperture_is_darker_and_deeper() -> None:
    source = VirtualSource("35mm")
    _, wide = await shoot(source, mode(), {Cid.FOCUS_ABSOLUTE: 50, Cid.IRIS_ABSOLUTE: 595, Cid.EXPOSURE_ABSOLUTE: 20})
    _, same = await shoot(source, mode(), {Cid.IRIS_ABSOLUTE: 195, Cid.EXPOSURE_ABSOLUTE: 320})
    _, dark = await shoot(source, mode(), {Cid.IRIS_ABSOLUTE: 195, Cid.EXPOSURE_ABSOLUTE: 20})
    assert sharpness(same, *DAISY) > 3 * sharpness(wide, *DAISY)
    assert abs(float(same.mean()) - float(wide.mean())) < 4
    assert float(dark.mean()) < 0.6 * float(wide.mean())
    await source.close()


async def test_gain_and_white_balance_show() -> None:
    source = VirtualSource("73mm")
    _, plain = await shoot(source, mode())
    _, loud = await shoot(source, mode(), {Cid.GAIN: 4000})
    assert float(loud.mean()) > float(plain.mean()) + 20
    chosen = await source.configure(mode())
    reds = []
    for kelvin in (3000, 8000):
        await source.set({Cid.GAIN: 1000, Cid.WHITE_BALANCE_TEMPERATURE: kelvin})
        assert source.camera.settled(WAIT_S)
        raw = bytearray(chosen.nbytes)
        source.camera.compose(memoryview(raw), Mark(73, 1, 1))
        chroma = np.frombuffer(raw, np.uint8)[640 * 480 :].reshape(240, 320, 2)
        reds.append(float(chroma[20:-20, :, 1].mean()))
    assert reds[1] > reds[0] + 10
    await source.close()


async def test_zoom_changes_the_field_of_view() -> None:
    source = VirtualSource("24-70mm")
    _, wide = await shoot(source, mode(), {Cid.ZOOM_ABSOLUTE: 240, Cid.FOCUS_ABSOLUTE: 5})
    frame, tele = await shoot(source, mode(), {Cid.ZOOM_ABSOLUTE: 700})
    assert frame.meta.focal_um == 70_000
    middle = np.asarray(Image.fromarray(wide).crop((210, 158, 430, 322)).resize((640, 480))).astype(float)
    same = np.corrcoef(middle[80:330].ravel(), tele[80:330].astype(float).ravel())[0, 1]
    other = np.corrcoef(wide[80:330].astype(float).ravel(), tele[80:330].astype(float).ravel())[0, 1]
    assert same > 0.8 > other + 0.3
    await source.close()


async def test_something_moves_in_every_lens() -> None:
    for name in lens_names():
        source = VirtualSource(name)
        await source.configure(mode())
        raw = [bytearray(640 * 480 * 3 // 2) for _ in range(2)]
        source.camera.begin()
        for at, buffer in zip((0.0, 0.5), raw, strict=True):
            composer = source.camera._composer
            assert composer is not None
            composer.compose(memoryview(buffer), at, Mark(1, 1, 1))
        assert raw[0] != raw[1], name
        await source.close()


async def test_a_host_that_configures_waits_for_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes are gone through without drawing; a halt ends the drawing of a first picture."""
    drawing = threading.Event()

    def draw(_self: Renderer, _optics: object, give_up: GiveUp) -> None:
        drawing.set()
        while not give_up():
            time.sleep(0.001)
        raise Abandoned

    monkeypatch.setattr(Renderer, "render", draw)
    monkeypatch.setattr(RawRenderer, "render", draw)
    source = VirtualSource("35mm")
    for each in source.modes:
        assert await source.configure(each) == each
    assert not drawing.is_set()
    await source.configure(mode())
    sink = Sink()
    await source.start(sink, 1)
    assert drawing.wait(WAIT_S)
    await source.stop()
    assert not sink.frames
    await source.close()


async def test_a_first_raw_picture_that_takes_too_long_is_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    source = VirtualSource("35mm")
    raw = next(source.descriptor.with_facts(m) for m in source.modes if m.fourcc in RAW and m.width == 640)
    grey = flat(raw, source.camera._optics()).takes[0]
    assert (source.camera._coarse(raw, never).takes[0] != grey).any()
    monkeypatch.setattr("maglens_driver.virtual.camera.COARSE_S", 0.0)
    assert (source.camera._coarse(raw, never).takes[0] == grey).all()
    await source.close()


async def test_paces_itself_and_counts_on() -> None:
    source = VirtualSource("35mm")
    await source.configure(mode())
    sink = Sink(want=10)
    before = time.monotonic()
    await source.start(sink, 1)
    assert sink.full.wait(WAIT_S)
    took = time.monotonic() - before
    await source.stop()
    assert took > 8.5 / 30
    seqs = [f.seq for f, _ in sink.frames]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] - seqs[0] == len(seqs) - 1 + sink.drops.count("source_late")
    again = Sink()
    await source.start(again, 2)
    assert again.full.wait(WAIT_S)
    await source.stop()
    assert again.frames[0][0].seq > seqs[-1]
    assert again.frames[0][0].generation == 2
    await source.close()


async def test_without_a_lease_the_frame_is_dropped_and_counted() -> None:
    source = VirtualSource("35mm")
    await source.configure(mode())
    sink = Sink(want=3, refuse=True)
    await source.start(sink, 1)
    assert sink.full.wait(WAIT_S)
    await source.close()
    assert sink.drops.count("no_buffer") >= 3
    assert not sink.frames


async def test_states_and_refusals() -> None:
    source = VirtualSource("35mm")
    with pytest.raises(WrongState):
        await source.start(Sink(), 1)
    tested = await source.configure(mode(), test_only=True)
    assert (tested.width, tested.height) == (640, 480)
    with pytest.raises(WrongState):
        await source.start(Sink(), 1)
    with pytest.raises(Refused):
        await source.set({Cid.TEST_PATTERN: 1})
    assert await source.set({Cid.FOCUS_ABSOLUTE: 99999}) == {Cid.FOCUS_ABSOLUTE: 400}
    source.camera.reset()
    assert (await source.get())[Cid.FOCUS_ABSOLUTE] == 50
    await source.configure(mode())
    await source.start(Sink(), 1)
    with pytest.raises(WrongState):
        await source.start(Sink(), 2)
    with pytest.raises(WrongState):
        await source.configure(mode())
    await source.close()
    await source.close()


async def test_focus_has_one_motor_and_two_controls() -> None:
    source = VirtualSource("234mm")
    assert await source.set({Cid.FOCUS_FINE: 123_456}) == {Cid.FOCUS_FINE: 123_450}  # the motor's own steps of 50
    assert (await source.get())[Cid.FOCUS_ABSOLUTE] == 12
    await source.set({Cid.FOCUS_ABSOLUTE: 30})
    assert (await source.get())[Cid.FOCUS_FINE] == 300_000
    await source.set({Cid.FOCUS_ABSOLUTE: 30, Cid.FOCUS_FINE: 301_000})
    optics = Optics.of(source.descriptor, source.camera.values())
    assert (optics.focus_dpt, optics.meta().focus_udpt, optics.meta().focus_cdpt) == (0.301, 301_000, 30)
    await source.close()


async def test_a_hand_on_the_ring_is_told() -> None:
    source = VirtualSource("35mm")
    await source.configure(mode())
    sink = Sink()
    await source.start(sink, 7)
    assert source.turn(Cid.FOCUS_ABSOLUTE, 123) == 123
    assert sink.controls == [(7, Cid.FOCUS_ABSOLUTE, 123)]
    await source.close()


async def test_unplugged_while_streaming() -> None:
    source = VirtualSource("35mm")
    await source.configure(mode())
    sink = Sink()
    await source.start(sink, 1)
    assert sink.full.wait(WAIT_S)
    source.unplug()
    assert sink.ended.wait(WAIT_S)
    assert [type(w) for w in sink.why] == [Gone]
    with pytest.raises(Gone):
        await source.configure(mode())
    await source.stop()
    await source.close()


async def test_a_size_not_yet_rendered_is_scaled_meanwhile() -> None:
    source = VirtualSource("35mm")
    source.camera.prepare(budget_s=0)
    want = await source.configure(mode(NV12, 1920, 1080))
    raw = bytearray(want.nbytes)
    source.camera.compose(memoryview(raw), Mark(35, 1, 1))
    coarse = bytes(raw)
    assert read(luma_plane(raw, want)) == Mark(35, 1, 1)
    assert source.camera.settled(WAIT_S)
    source.camera.compose(memoryview(raw), Mark(35, 1, 1))
    assert raw[1920 * 100 :] != coarse[1920 * 100 :]
    assert read(luma_plane(raw, want)) == Mark(35, 1, 1)
    await source.close()
