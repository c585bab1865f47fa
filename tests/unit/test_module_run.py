# SPDX-License-Identifier: GPL-2.0-or-later
"""A board is a module: descriptors made of a camera and a lens file, and the camera behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_daemon.cli import main, module
from maglens_daemon.exits import Exit
from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import Deadline, Gone, MaglensError, MissingDependency, Refused, WrongState
from maglens_driver.frame import Frame, Meta
from maglens_driver.gadget import minimal, template
from maglens_driver.gadget.adapted import AdaptedSource
from maglens_driver.gadget.configfs import ConfigfsGadget, GadgetSpec
from maglens_driver.gadget.describe import describe
from maglens_driver.link import limits
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode
from maglens_driver.source import FrameSink, Identity, Source
from maglens_driver.virtual.source import VirtualSource
from maglens_driver.ycbcr import Matrix, YCbCr
from tests.unit.source_conformance import RecordingSink, SourceConformance

GAIN = ControlInfo(Cid.GAIN, "Gain", ControlType.INTEGER, 0, 1 << 40, 1, 0)
FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 100, 0, 10)
FIXED = ControlInfo(Cid.BRIGHTNESS, "Fixed", ControlType.INTEGER, 0, 9, 1, 5, ControlFlag.READ_ONLY)
BUTTON = ControlInfo(Cid.AUTO_FOCUS_START, "Focus now", ControlType.BUTTON, 0, 0, 1, 0)


class Camera:
    """A camera that pads its rows, and takes its own view of what it is asked."""

    identity = Identity("usb", "Webcam", "7")

    def __init__(self, modes: Sequence[Mode], controls: Sequence[ControlInfo] = ()) -> None:
        self.modes = modes
        self.controls = controls
        self.values = {FOCUS.id: 10}
        self.asked: list[Mode] = []
        self.sink: FrameSink | None = None
        self.refusal: Exception | None = None
        self.refused: dict[int, Exception] = {}  # modes, by their width

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        self.asked.append(want)
        if want.width in self.refused:
            raise self.refused[want.width]
        if want.fourcc == MJPG:
            return want
        stride = -(-want.stride // 64) * 64
        return replace(want, stride=stride, nbytes=want.nbytes * stride // want.stride)

    async def start(self, sink: FrameSink, generation: int) -> None:
        self.sink = sink

    async def stop(self) -> None: ...

    async def get(self) -> Mapping[int, int]:
        if isinstance(self.refusal, Deadline):
            raise self.refusal
        return self.values

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        if self.refusal is not None:
            raise self.refusal
        self.values.update(values)
        return values

    async def close(self) -> None: ...


WEBCAM = module.lens_data("webcam")


def modes() -> list[Mode]:
    odd = replace(make_mode(YUYV, 320, 240, Fraction(1, 30)), height=241)
    jpeg = Mode(MJPG, 1920, 1080, 0, 1920 * 1080 * 2, Fraction(1, 30))
    huge = replace(jpeg, width=8000, height=6000)
    plain = make_mode(NV12, 330, 240, Fraction(1, 30))
    return [plain, plain, odd, huge, jpeg, make_mode(YUYV, 640, 480, Fraction(1, 15))]


@pytest.mark.asyncio
async def test_modes_are_tried_priced_and_sifted() -> None:
    made = await describe(WEBCAM, Camera(modes()), "S1")
    assert [(m.fourcc, m.width, m.height) for m in made.modes] == [
        (NV12, 330, 240), (MJPG, 1920, 1080), (YUYV, 640, 480)
    ]  # fmt: skip
    padded, jpeg, yuyv = made.modes
    assert (padded.stride, padded.nbytes) == (384, 384 * 240 * 3 // 2)
    assert jpeg.mbit_s < 480 < jpeg.nbytes * 8 * 30 / 1e6
    assert (yuyv.mbit_s, yuyv.mw) == (74, WEBCAM.price.of(74))
    assert made.identity.serial == "S1"
    assert made.sensor is None
    assert not made.is_optics_only
    assert made.power.peak_mw >= max(m.mw for m in made.modes)
    assert Descriptor.unpack(made.pack()) == made


@pytest.mark.asyncio
async def test_a_mode_that_cannot_be_had_is_left_out() -> None:
    """One that the driver lists and does not take, or whose layout makes no sense, takes no other with it."""
    lies = replace(make_mode(YUYV, 320, 240, Fraction(1, 30)), nbytes=1000)
    camera = Camera([*modes(), lies])
    camera.refused = {640: OSError(22, "Invalid argument"), 1920: Refused("mode", "not now")}
    made = await describe(WEBCAM, camera, "S1")
    assert [(m.fourcc, m.width) for m in made.modes] == [(NV12, 330)]


@pytest.mark.asyncio
async def test_colours_that_modules_do_not_send_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    other = [replace(mode, ycbcr=YCbCr(Matrix.BT709, full=False)) for mode in modes() if mode.fourcc != MJPG]
    made = await describe(WEBCAM, Camera(other), "S1")
    assert len(made.modes) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "sends BT.709, limited range, modules BT.601, limited range" in line


@pytest.mark.asyncio
async def test_controls_that_do_not_fit_are_left_out() -> None:
    named = replace(FIXED, name="x" * 200)
    made = await describe(WEBCAM, Camera(modes(), [GAIN, FOCUS, named, BUTTON, FOCUS]), "S1")
    assert [c.id for c in made.controls] == [FOCUS.id, FIXED.id, BUTTON.id]
    assert made.controls[0].step == 1
    assert len(made.controls[1].name) == limits.MAX_TEXT_BYTES
    assert made.controls[2].step == 0


@pytest.mark.asyncio
async def test_defaults_are_values_that_a_control_can_have() -> None:
    """Some webcams have one between two steps; a host that sets it would be told another."""
    between = replace(FOCUS, minimum=1, step=5, default=9)
    menu = replace(FIXED, id=Cid.CONTRAST, type=ControlType.MENU, menu=((0, "off"), (2, "on")), default=1)
    made = await describe(WEBCAM, Camera(modes(), [between, menu]), "S1")
    assert [(c.id, c.default) for c in made.controls] == [(FOCUS.id, 11)]


@pytest.mark.asyncio
async def test_a_camera_without_a_mode_is_told() -> None:
    with pytest.raises(MaglensError, match="no mode"):
        await describe(WEBCAM, Camera([]), "S1")


async def adapted(*controls: ControlInfo) -> tuple[Camera, AdaptedSource]:
    camera = Camera(modes(), controls)
    return camera, AdaptedSource(camera, await describe(WEBCAM, camera, "S1"))


@pytest.mark.asyncio
async def test_a_refused_control_keeps_its_value() -> None:
    """The protocol clamps and never refuses; and a module must not go to FAULT for it."""
    camera, source = await adapted(FOCUS, FIXED, BUTTON)
    assert await source.get() == {FOCUS.id: 10, FIXED.id: 5, BUTTON.id: 0}
    assert await source.set({FOCUS.id: 999, FIXED.id: 1}) == {FOCUS.id: 100, FIXED.id: 5}
    camera.refusal = Refused("control", "busy")
    assert await source.set({FOCUS.id: 3}) == {FOCUS.id: 100}
    camera.refusal = None
    assert await source.set({FOCUS.id: 7}) == {FOCUS.id: 7}
    camera.refusal = Deadline("too slow")
    assert await source.get() == {FOCUS.id: 7, FIXED.id: 5, BUTTON.id: 0}, "as it was last"
    camera.refusal = Gone("unplugged")
    with pytest.raises(Gone):
        await source.set({FOCUS.id: 3})


@pytest.mark.asyncio
async def test_frames_keep_their_buffer_and_learn_of_the_lens() -> None:
    camera, source = await adapted()
    assert await source.configure(source.modes[0]) == source.modes[0]
    sink = RecordingSink()
    await source.start(sink, 3)
    assert camera.sink is not None
    lease = sink.lease(16)
    assert lease is not None
    camera.sink.deliver(Frame(lease, 16, source.modes[0], 1, 2, 3, Meta(exposure_us=5)))
    (frame,) = sink.frames
    assert frame.lease is lease
    assert frame.meta == Meta(exposure_us=5, focal_um=4000, fnumber_milli=2000)


@pytest.mark.asyncio
async def test_a_camera_that_sends_another_picture_is_told() -> None:
    camera, source = await adapted()
    made = source.descriptor
    other = replace(made, modes=(replace(made.modes[0], stride=400, nbytes=400 * 240 * 3 // 2),))
    with pytest.raises(WrongState, match="sends"):
        await AdaptedSource(camera, other).configure(other.modes[0])


@pytest.mark.asyncio
async def test_a_camera_that_sends_at_another_rate_than_was_told_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, source = await adapted()
    mode = source.modes[0]
    for rate, lines in ((30, 0), (Fraction(30000, 1001), 0), (25, 1)):

        async def configure(_want: Mode, test_only: bool = False, rate: int | Fraction = rate) -> Mode:
            return replace(mode, interval=1 / Fraction(rate))

        monkeypatch.setattr(camera, "configure", configure)
        assert await source.configure(mode, test_only=True) == mode
        assert await source.configure(mode) == mode
        assert len(caplog.records) == lines, caplog.messages
    assert caplog.messages[0].endswith("was asked for 330x240 NV12 30 fps and sends 330x240 NV12 25 fps")


class BoardRig:
    """Opens a virtual camera as a board would."""

    def __init__(self) -> None:
        self._inner: VirtualSource | None = None

    async def open(self) -> Source:
        self._inner = VirtualSource("35mm")
        self._inner.camera.prepare(budget_s=0)
        return AdaptedSource(self._inner, await describe(module.lens_data("35mm"), self._inner, "S1"))

    def unplug(self) -> bool:
        assert self._inner is not None
        self._inner.unplug()
        return True


class TestAVirtualCameraOnABoard(SourceConformance):
    """The adapted source is a source like any other."""

    @pytest.fixture
    def rig(self) -> BoardRig:
        return BoardRig()


@pytest.mark.parametrize("example", [minimal.DESCRIPTOR, template.DESCRIPTOR], ids=["minimal", "template"])
def test_the_examples_have_sound_descriptors(example: Descriptor) -> None:
    assert Descriptor.unpack(example.pack()) == example


def test_the_minimal_module_fits_on_a_screen() -> None:
    with open(minimal.__file__) as file:
        assert len(file.readlines()) <= 40


def test_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["module", "run", "--lens", "m-mount-50mm", "--serial", "7", "--dry-run", "--source"]
    assert main.main([*command, "none"]) == Exit.OK
    assert "optics only" in capsys.readouterr().out
    assert main.main([*command, "none", "--json"]) == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert Descriptor.unpack(bytes.fromhex(said["descriptor"])).is_optics_only
    assert said["identity"] == "maglens/M-Mount 50mm F2/7"
    assert main.main([*command, "camera"]) == Exit.USAGE
    assert "v4l2:/dev/video0" in capsys.readouterr().err
    assert main.main(["module", "list"]) == Exit.OK
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("webcam", "35mm", "m-mount-50mm"))


def test_a_lens_that_is_for_a_camera_is_no_optics(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["module", "run", "--serial", "7", "--dry-run", "--source", "none", "--lens"]
    for lens in ("webcam", "35mm"):
        assert main.main([*command, lens]) == Exit.USAGE
        assert f"{lens} is for a lens with a camera" in capsys.readouterr().err


def test_a_lens_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["module", "run", "--serial", "7", "--dry-run", "--source", "none", "--lens"]
    assert main.main([*command, "nix"]) == Exit.NOT_FOUND
    assert "try: maglens module list" in capsys.readouterr().err
    assert main.main([*command, "nix.toml"]) == Exit.NOT_FOUND
    said = capsys.readouterr().err
    assert "there is no file nix.toml" in said and "try: maglens module list" in said


def test_a_gadget_that_was_never_made_is_off_already(tmp_path: Path) -> None:
    """Without libcomposite nothing is made; what says so must not be hidden by an error of taking it down."""
    gadget = ConfigfsGadget(GadgetSpec("x", "maker", "model", "1"), tmp_path / "usb_gadget")
    with pytest.raises(MissingDependency) as caught:
        gadget.create()
    assert "modprobe libcomposite" in caught.value.hint
    gadget.detach()
    gadget.remove()


@pytest.mark.parametrize("current", ["501", "-1"])
def test_current_that_every_host_refuses_is_told_before_the_gadget_is_made(
    current: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["module", "run", "--source", "none", "--lens", "m-mount-50mm", "--max-power", current, "--dry-run"]
    assert main.main(words) == Exit.USAGE
    assert "0 to 500 are allowed" in capsys.readouterr().err
