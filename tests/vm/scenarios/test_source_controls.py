# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls of every kind of source: seen and moved by an app at the node, and what is said where there are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maglens_daemon.reach import NO_CONTROLS
from maglens_daemon.webcams import UVC, video_devices
from maglens_driver.control import Cid
from maglens_driver.libcamera.source import LibcameraSource, camera_ids
from maglens_driver.mode import NV12
from tests.tools.usbip.plugged import Plugged
from tests.unit.v4l2_app import V4l2App
from tests.vm.conftest import WatchUdev
from tests.vm.guest import app_calls
from tests.vm.guest.camera import camera
from tests.vm.guest.devices import daemon_kept_away, succeed
from tests.vm.guest.limits import EVENT_S, TIME_FACTOR, emulated
from tests.vm.guest.troupe import BUILT_IN, MODULE, WEBCAM, Troupe
from tests.vm.scenarios.test_libcamera_source import SLOW, firmware_node

CONFIG = '[node]\nwidth = 640\nheight = 480\nrate = 15\nkind = "{kind}"\n'
BRIGHTER = 15.0  # of 220 steps of luma
LOOKS = 40 * (TIME_FACTOR if emulated() else 1)  # within which a picture has changed

StartTroupe = Callable[[str], Troupe]


@pytest.fixture
def perform() -> Iterator[StartTroupe]:
    """perform(kind of node): a daemon of this test's own; the service, where there is one, rests meanwhile."""
    troupes: list[Troupe] = []
    with daemon_kept_away():

        def start(kind: str) -> Troupe:
            troupe = Troupe(CONFIG.format(kind=kind))
            troupe.__enter__()
            troupes.append(troupe)
            return troupe

        yield start
        for troupe in troupes:
            troupe.__exit__(None, None, None)


def light(app: V4l2App) -> float:
    """Mean luma of the middle of a picture (NV12, 640x480) that has not waited to be read."""
    for _ in range(app.buffers + 1):
        picture = app.next(EVENT_S)
    assert picture is not None, "no picture came"
    luma = np.frombuffer(picture.data, np.uint8, 640 * 480).reshape(480, 640)
    return float(luma[160:320].mean())


def becomes(app: V4l2App, wanted: Callable[[float], bool]) -> bool:
    """Whether the light does, before long."""
    return any(wanted(light(app)) for _ in range(LOOKS))


def active(fd: int) -> set[int]:
    """Ids of the controls that can be moved now."""
    return {entry.id for entry in app_calls.controls(fd) if not entry.flags & app_calls.CTRL_FLAG_INACTIVE}


def wait_active(fd: int, control: int) -> None:
    """Until it is: an app that listens is told."""
    app_calls.subscribe(fd, app_calls.EVENT_CTRL, control)
    while control not in active(fd):
        assert app_calls.next_event(fd, EVENT_S) is not None, f"{control:#010x} stays inactive"


def set_control(node: str, control: str, value: int) -> None:
    """As a person does it in another program."""
    succeed("v4l2-ctl", "-d", node, "--set-ctrl", f"{control}={value}")


@pytest.mark.long
def test_module_and_webcam_at_the_node(perform: StartTroupe) -> None:
    troupe = perform("maglens")
    node = troupe.status()["node"]["path"]
    with closing(V4l2App(node)) as app:
        app.start()
        troupe.plays(BUILT_IN)
        assert active(app.fd) == set(), "libcamera's virtual camera has none"

        troupe.sim.attach()
        troupe.plays(MODULE)
        wait_active(app.fd, Cid.EXPOSURE_ABSOLUTE)
        told = {int(control): value for control, value in troupe.sim.status()["controls"].items()}
        missing = {c["id"] for c in _module(troupe, MODULE)["unavailable_controls"]}
        assert active(app.fd) == set(told) - missing
        assert missing == {Cid.FOCUS_FINE}
        assert app_calls.value(app.fd, Cid.EXPOSURE_ABSOLUTE) == told[Cid.EXPOSURE_ABSOLUTE]
        before = light(app)
        set_control(node, "exposure_time_absolute", 4 * told[Cid.EXPOSURE_ABSOLUTE])
        assert becomes(app, lambda now: now > before + BRIGHTER)
        assert troupe.sim.status()["controls"][str(int(Cid.EXPOSURE_ABSOLUTE))] == 4 * told[Cid.EXPOSURE_ABSOLUTE]

        seen = troupe.maglens("preview", "--terminal", "--seconds", "2")
        assert seen.count("\u2580") > 1000 and "source  maglens Virtual 35mm" in seen, seen[-500:]

        troupe.plug()
        troupe.plays(WEBCAM)
        wait_active(app.fd, Cid.BRIGHTNESS)
        webcam = next(device.path for device in video_devices() if device.driver == UVC)
        ranges = app_calls.control(app.fd, Cid.BRIGHTNESS)
        assert (ranges.minimum, ranges.maximum) == (-64, 64), "the camera's own"
        assert _module(troupe, WEBCAM)["unavailable_controls"] == []
        before = light(app)
        set_control(node, "brightness", 50)
        assert becomes(app, lambda now: now > before + BRIGHTER)
        assert succeed("v4l2-ctl", "-d", webcam, "--get-ctrl", "brightness").split() == ["brightness:", "50"]
        wait_active(app.fd, Cid.EXPOSURE_ABSOLUTE)  # though the driver has it inactive: its automatic is on
        before = light(app)
        set_control(node, "exposure_time_absolute", 50)
        assert becomes(app, lambda now: now < before - BRIGHTER)
        got = succeed("v4l2-ctl", "-d", webcam, "--get-ctrl", "auto_exposure,exposure_time_absolute").split()
        assert (got[1], got[-1]) == ("1", "50"), "the write has ended the automatic"


@pytest.mark.long
def test_v4l2loopback_has_none_and_that_is_said(perform: StartTroupe) -> None:
    succeed("modprobe", "v4l2loopback")
    troupe = perform("v4l2loopback")
    node = troupe.status()["node"]["path"]
    with closing(V4l2App(node)) as app:
        app.start()
        troupe.plays(BUILT_IN)
        troupe.sim.attach()
        troupe.plays(MODULE)
        module = _module(troupe, MODULE)
        assert {c["reason"] for c in module["unavailable_controls"]} == {NO_CONTROLS}
        listed = json.loads(troupe.maglens("control", "list", "--json", "-m", module["serial"]))
        assert {c["id"] for c in module["unavailable_controls"]} == {c["id"] for c in listed}
        assert all(c["unavailable"] == NO_CONTROLS for c in listed)
        assert f"(not for apps: {NO_CONTROLS})" in troupe.maglens("control", "list", "-m", module["serial"])
        assert not active(app.fd) & {c["id"] for c in listed}
        before = light(app)
        troupe.maglens("control", "set", "exposure_absolute=320", "-m", module["serial"])
        assert becomes(app, lambda now: now > before + BRIGHTER), "the command reaches it all the same"


def _module(troupe: Troupe, who: str) -> Any:
    return next(module for module in troupe.status()["modules"] if who in module["identity"])


@pytest.mark.long
def test_libcamera_at_the_node(wait_for_udev: WatchUdev, tmp_path: Path) -> None:
    """Its UVC pipeline on the emulated camera, the one that has controls without a sensor."""
    succeed("modprobe", "-a", "vhci-hcd", "uvcvideo", "overlay", "maglens")
    watch = wait_for_udev("video4linux")
    with Plugged():
        watch.next("add", lambda device: ":capture:" in device.properties.get("ID_V4L_CAPABILITIES", ""))
        succeed("udevadm", "settle")
        layer = tmp_path / "layer"
        layer.mkdir()
        with firmware_node(layer):
            asyncio.run(_through_libcamera(tmp_path))


async def _through_libcamera(folder: Path) -> None:
    environment = {"SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    (found,) = [each for each in await camera_ids(limits=SLOW, environment=environment) if "1209:0002" in each]
    source = await LibcameraSource.open(found, limits=SLOW, environment=environment)
    mode = next(m for m in source.modes if (m.fourcc, m.width) == (NV12, 640))
    async with camera(mode, folder) as made:
        node = made.node.path
        with closing(V4l2App(node)) as app:
            try:
                app.start()
                await made.play(source)
                assert active(app.fd) == set()
                await made.offer(source)
                offered = {control.id for control in source.controls}
                assert Cid.BRIGHTNESS in offered and active(app.fd) == offered
                brightness = next(control for control in source.controls if control.id == Cid.BRIGHTNESS)
                while await asyncio.to_thread(light, app) < 1:  # the card before it
                    continue
                before = await asyncio.to_thread(light, app)
                await asyncio.to_thread(set_control, node, "brightness", brightness.maximum // 2)
                assert await asyncio.to_thread(becomes, app, lambda now: now > before + BRIGHTER)
                assert (await source.get())[Cid.BRIGHTNESS] == brightness.maximum // 2
            finally:
                await source.close()
