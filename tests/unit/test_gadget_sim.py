# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the virtual module's service needs no kernel: its socket, its descriptors, its choice of a controller."""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import MaglensError, MissingDependency
from maglens_driver.gadget import client, configfs, functionfs, sim
from maglens_driver.gadget.assembly import gadget_name
from maglens_driver.gadget.client import SimClient
from maglens_driver.gadget.configfs import ConfigfsGadget, GadgetSpec
from maglens_driver.gadget.sim import Simulator
from maglens_driver.names import USB_INTERFACE_STRING

T = TypeVar("T")
UNIT = Path(sim.__file__).with_name("maglens-sim@.service")


def over_socket(tmp_path: Path, talk: Callable[[SimClient], T]) -> T:
    """Talk to a module that has no kernel under it."""

    async def main() -> T:
        simulator = Simulator("35mm", tmp_path)
        server = await asyncio.start_unix_server(partial(sim.serve, simulator), tmp_path / "35mm.sock")
        try:
            with SimClient("35mm", tmp_path) as one:
                return await asyncio.to_thread(talk, one)
        finally:
            server.close()
            await simulator.source.close()

    return asyncio.run(main())


def test_status_over_the_socket(tmp_path: Path) -> None:
    status = over_socket(tmp_path, SimClient.status)
    assert (status["name"], status["mark"], status["attached"]) == ("35mm", 35, False)
    assert status["identity"]["serial"] == "SIM-35mm"
    assert status["controls"][str(int(Cid.FOCUS_ABSOLUTE))] == 50
    assert client.running(tmp_path) == ["35mm"]


def test_light_can_be_changed_within_reason(tmp_path: Path) -> None:
    assert over_socket(tmp_path, lambda c: c.light(3200, 0.5))["ns"] > 0
    for kelvin, level in ((100, 1.0), (5600, 0.0), (5600, 1e9)):
        with pytest.raises(MaglensError, match="no such light") as caught:
            over_socket(tmp_path, partial(SimClient.light, kelvin=kelvin, level=level))
        assert "maglens sim light" in caught.value.hint


def test_rings_are_clamped_and_missing_ones_told(tmp_path: Path) -> None:
    assert over_socket(tmp_path, lambda c: c.ring("focus", 9999))["value"] == 400
    with pytest.raises(MaglensError, match="no zoom ring") as caught:
        over_socket(tmp_path, lambda c: c.ring("zoom", 1))
    assert caught.value.hint.startswith("use one of focus")
    with pytest.raises(MaglensError) as caught:
        over_socket(tmp_path, lambda c: c.ring("nose", 1))
    assert "focus" in caught.value.hint


def test_progress_has_what_was_turned(tmp_path: Path) -> None:
    def talk(one: SimClient) -> dict[str, object]:
        turned = one.ring("focus", 90)
        progress = one.progress()
        assert progress["controls"][str(turned["control"])] == 90
        return progress

    assert over_socket(tmp_path, talk)["frames_sent"] == 0


def test_faults_are_asked_for_and_cleared(tmp_path: Path) -> None:
    def talk(one: SimClient) -> list[dict[str, int]]:
        asked = one.fault("payload-crc", count=3)["faults"]
        more = one.fault("stall")["faults"]
        left = one.clear("payload-crc")["faults"]
        return [asked, more, left, one.clear()["faults"]]

    assert over_socket(tmp_path, talk) == [{"payload-crc": 3}, {"payload-crc": 3, "stall": -1}, {"stall": -1}, {}]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda c: c.detach(), "not attached"),
        (lambda c: c.button(), "not attached"),
        (lambda c: c.fault("no-such"), "no fault"),
        (lambda c: c.ask("dance"), "no request"),
        (lambda c: c.ask("ring", ring="focus", value="far"), "no request"),
    ],
)
def test_refusals_come_back_as_words(tmp_path: Path, ask: Callable[[SimClient], object], told: str) -> None:
    with pytest.raises(MaglensError, match=told):
        over_socket(tmp_path, ask)


def test_a_module_that_does_not_run_names_its_unit(tmp_path: Path) -> None:
    with pytest.raises(MaglensError) as caught:
        SimClient("73mm", tmp_path).status()
    assert "maglens-sim@73mm.service" in caught.value.hint


def test_names_are_safe_in_paths() -> None:
    assert gadget_name("35mm:spare/../x") == "maglens-35mm_spare____x"


def test_without_gadget_support_there_is_a_hint(tmp_path: Path) -> None:
    gadget = ConfigfsGadget(GadgetSpec("x", "a", "b", "c"), tmp_path / "usb_gadget")
    with pytest.raises(MissingDependency) as caught:
        gadget.create()
    assert "modprobe" in caught.value.hint


def test_the_first_free_controller_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = {"udc.0"}
    taken: list[str] = []

    def write(_path: Path, text: str) -> None:
        if text in busy:
            raise OSError(errno.EBUSY, "busy")
        taken.append(text)

    monkeypatch.setattr(configfs, "_write", write)
    monkeypatch.setattr(configfs, "controllers", lambda: ["udc.0", "udc.1"])
    gadget = ConfigfsGadget(GadgetSpec("x", "a", "b", "c"), tmp_path)
    assert gadget.attach() == "udc.1"
    busy.add("udc.1")
    with pytest.raises(MaglensError, match="free"):
        gadget.attach()
    with pytest.raises(MaglensError, match="free"):
        gadget.attach("udc.0")
    monkeypatch.setattr(configfs, "controllers", list)
    with pytest.raises(MissingDependency):
        gadget.attach()
    assert taken == ["udc.1"]


def usb_descriptors(raw: bytes) -> list[bytes]:
    """The USB descriptors in a run of them, by their length bytes."""
    found = []
    while raw:
        found.append(raw[: raw[0]])
        raw = raw[raw[0] :]
    return found


def test_descriptors_are_those_of_the_specification() -> None:
    raw = functionfs.descriptor_block()
    magic, length, flags, full, high, best = struct.unpack_from("<6I", raw)
    assert (magic, length) == (3, len(raw))
    assert flags & 7 == 7
    found = usb_descriptors(raw[24:])
    assert len(found) == full + high + best
    interfaces = [d for d in found if d[1] == 4]
    assert [d[4:9] for d in interfaces] == [bytes((2, 0xFF, 0x53, 0x01, 1))] * 3
    endpoints = [struct.unpack("<BBBBHB", d) for d in found if d[1] == 5]
    assert [(e[2] & 0x80, e[3]) for e in endpoints] == [(0x80, 2), (0x80, 3)] * 3
    assert [e[4] for e in endpoints] == [64, 64, 512, 64, 1024, 64]
    assert len([d for d in found if d[1] == 48]) == 2


def test_the_interface_has_its_name() -> None:
    raw = functionfs.string_block(USB_INTERFACE_STRING)
    assert struct.unpack_from("<4IH", raw) == (2, len(raw), 1, 1, 0x409)
    assert raw[18:] == b"maglens\0"


def test_the_unit_starts_this_service() -> None:
    text = UNIT.read_text()
    assert "-m maglens_driver.gadget.sim %i" in text
    assert "Type=notify" in text
