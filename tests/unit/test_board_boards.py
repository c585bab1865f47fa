# SPDX-License-Identifier: GPL-2.0-or-later
"""Boards between USB and the manager: with the real manager, pipeline and an app that reads on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from maglens_daemon import config, status
from maglens_daemon.board import fit
from maglens_daemon.board.attach import Times
from maglens_daemon.board.boards import Boards
from maglens_daemon.board.failures import FAILURES, Code, Rule
from maglens_daemon.board.fake import FakePort
from maglens_daemon.board.hardware import Pin
from maglens_daemon.config import Config, PortConfig, RetryConfig
from maglens_daemon.errors import ConfigError
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_driver.errors import MaglensError
from tests.unit.test_daemon_manager import SMALL, WAIT_S, Theatre, theatre

PINNED = PortConfig(name="back", usb=("2-2",), detect="DET", power="PWR", attach_ms=5, removal_ms=5, settle_ms=1)
CONFIG = replace(SMALL, port={"1-2": PINNED}, retry={"over_current": RetryConfig(pause_ms=10)})


class Scene:
    """A theatre with one board."""

    def __init__(self, t: Theatre) -> None:
        self.t = t
        self.ports: list[FakePort] = []
        self.trouble: Exception | None = None
        self.boards = Boards(t.manager, open_port=self._open)

    def _open(self, path: str, settings: PortConfig) -> FakePort:
        if self.trouble is not None:
            raise self.trouble
        self.ports.append(FakePort())
        return self.ports[-1]

    def move(self, pin: Pin, active: bool) -> None:
        self.ports[-1].move(pin, active)

    @property
    def port(self) -> status.PortStatus:
        (port,) = status.status(self.t.manager)["ports"]
        return port

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        await self.t.until(condition, what)

    async def until_port(self, state: str) -> None:
        await self.until(lambda: self.port["state"] == state, f"port {state}")

    async def snap_on(self, usb: str = "2-2", visitor: FakeVisitor | None = None) -> Session:
        self.move(Pin.DETECT, True)
        await self.until_port("enumerate")
        self.boards.arrive(usb, 5000, visitor or FakeVisitor())
        await self.until_port("present")
        session = self.t.manager.sessions[-1]
        await self.until(lambda: session.is_playable, "ready")
        return session


@asynccontextmanager
async def stage(settings: Config = CONFIG) -> AsyncIterator[Scene]:
    async with theatre(settings) as t:
        scene = Scene(t)
        await scene.boards.apply()
        try:
            yield scene
        finally:
            await t.manager.close()
            await scene.boards.close()


def test_either_usb_side_is_the_same_port() -> None:
    async def play() -> None:
        async with stage() as scene:
            session = await scene.snap_on("2-2")
            assert (session.port.path, session.port.label) == ("1-2", "back (1-2)")
            scene.boards.depart("2-2")
            await scene.until(lambda: session.state is SessionState.ATTACH)
            scene.boards.arrive("1-2", 480, FakeVisitor())  # half seated: USB 2 alone
            await scene.until(lambda: session.state is SessionState.READY)
            assert session.port.speed_mbit_s == 480
            assert scene.port["cause"] == "brown_out"

    asyncio.run(play())


def test_ports_without_pins_go_past() -> None:
    async def play() -> None:
        async with stage() as scene:
            scene.boards.arrive("3-1", 5000, FakeVisitor("other"))
            (session,) = scene.t.manager.sessions
            assert session.visitor.seat is None and session.port.path == "3-1"
            await scene.until(lambda: session.state is SessionState.READY)
            scene.boards.depart("3-1")
            await scene.until(lambda: session.state is SessionState.GONE)

    asyncio.run(play())


def test_a_port_without_pins_that_is_to_be_left_alone_from_now_on() -> None:
    async def play() -> None:
        async with stage() as scene:
            manager = scene.t.manager

            async def apply(enabled: bool) -> None:
                port = {**CONFIG.port, "3-1": PortConfig(enabled=enabled)}
                manager.apply(replace(CONFIG, port=port))
                await scene.boards.apply()

            scene.boards.arrive("3-1", 5000, FakeVisitor("other"))
            (session,) = manager.sessions
            await scene.until(lambda: session.state is SessionState.READY)
            await apply(True)
            assert manager.sessions == [session]
            await apply(False)
            await scene.until(lambda: session.state is SessionState.GONE and not manager.sessions)
            scene.boards.arrive("3-2", 5000, FakeVisitor("another"))
            await apply(True)
            assert [s.port.path for s in manager.sessions] == ["3-2", "3-1"]
            await apply(False)
            scene.boards.depart("3-1")
            await apply(True)
            await scene.until(lambda: [s.port.path for s in manager.sessions] == ["3-2"])

    asyncio.run(play())


def test_an_app_reads_on_through_a_cut() -> None:
    async def play() -> None:
        async with stage() as scene:
            app = scene.t.watch()
            visitor = FakeVisitor()
            session = await scene.snap_on(visitor=visitor)
            await scene.t.until_playing(session)
            assert visitor.source.frame(200)
            scene.move(Pin.FAULT, True)
            scene.boards.depart("2-2")
            await scene.until_port("recover")
            assert not scene.port["powered"] and scene.port["cause"] == "over_current"
            scene.move(Pin.FAULT, False)
            await scene.until_port("enumerate")
            again = FakeVisitor()
            scene.boards.arrive("2-2", 5000, again)
            await scene.t.until_playing(session)
            assert again.source.frame(220)
            while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
                if got[1][0] == 220:
                    break
            assert got is not None, "one reader, from the first module's frame to the second's"

    asyncio.run(play())


def test_a_refusal_names_its_cause_on_status_and_card() -> None:
    rules = {"over_current": RetryConfig(tries=1)}

    async def play() -> None:
        async with stage(replace(CONFIG, retry=rules)) as scene:
            session = await scene.snap_on()
            scene.move(Pin.FAULT, True)
            await scene.until(lambda: session.state is SessionState.QUARANTINED)
            (module,) = status.status(scene.t.manager)["modules"]
            assert module["cause"] == "over_current" and "1 time" in module["reason"] and module["hint"]
            assert "over-current" in status.state_line(scene.t.manager)

    asyncio.run(play())


def test_a_port_of_which_the_pins_cannot_be_had_works_by_usb(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with theatre(CONFIG) as t:
            scene = Scene(t)
            scene.trouble = MaglensError("line DET is in use: led0", hint="gpioinfo")
            await scene.boards.apply()
            assert status.status(t.manager)["ports"] == []
            scene.boards.arrive("1-2", 5000, FakeVisitor())
            (session,) = t.manager.sessions
            await t.until(lambda: session.state is SessionState.READY)
            scene.trouble = None
            t.manager.apply(CONFIG)
            await scene.boards.apply()  # a reload, after the other user of the line has gone
            await t.until(lambda: session.state is SessionState.GONE)
            scene.move(Pin.DETECT, True)
            await scene.until_port("present")
            await t.manager.close()
            await scene.boards.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(play())
    assert "in use: led0" in caplog.text and "gpioinfo" in caplog.text


def test_a_reload_changes_only_what_has_changed() -> None:
    async def play() -> None:
        async with stage() as scene:
            session = await scene.snap_on()
            t, first = scene.t, scene.ports[0]
            t.manager.apply(replace(CONFIG, power=replace(CONFIG.power, usb3_ma=800)))
            await scene.boards.apply()
            assert scene.ports == [first] and session.state is SessionState.READY
            t.manager.apply(replace(CONFIG, port={"1-2": replace(PINNED, attach_ms=7)}))
            await scene.boards.apply()
            assert first.closed and first.powered and len(scene.ports) == 2
            await scene.until(lambda: session.state is SessionState.GONE)
            t.manager.apply(replace(CONFIG, port={}))
            await scene.boards.apply()
            assert scene.ports[1].closed and status.status(t.manager)["ports"] == []

    asyncio.run(play())


@pytest.mark.parametrize(
    ("ports", "path"),
    [
        pytest.param({}, "2-2", id="without the section"),
        pytest.param({"2-2": PortConfig(name="bare")}, "2-2", id="a section without pins"),
        pytest.param({"1-3": replace(PINNED, usb=("2-2",))}, "1-3", id="another section's"),
    ],
)
def test_a_module_stays_when_its_ports_section_goes(ports: dict[str, PortConfig], path: str) -> None:
    async def play() -> None:
        async with stage() as scene:
            session = await scene.snap_on("2-2")
            scene.t.manager.apply(replace(CONFIG, port=ports))
            await scene.boards.apply()
            await scene.until(lambda: session.state is SessionState.GONE)
            if len(scene.ports) > 1:
                scene.move(Pin.DETECT, True)
            await scene.until(lambda: [s.port.path for s in scene.t.manager.sessions if s.is_playable] == [path])
            scene.boards.depart("2-2")
            await scene.until(lambda: not any(s.is_playable for s in scene.t.manager.sessions))

    asyncio.run(play())


def test_the_configuration_of_a_board(tmp_path: Path) -> None:
    text = """\
[port."1-2"]
usb = ["2-2"]
detect = "pinctrl-rp1:17"
detect_active = "high"
hall = "/dev/input/by-path/platform-hall-event"
hall_switch = "SW_DOCK"
power = "MAG_EN"
fault = "gpiochip0:5"
meter = "/sys/bus/i2c/devices/1-0040"
attach_ms = 80
removal_ms = 30

[retry.short]
tries = 3

[retry.no_usb]
window_s = 60
pause_ms = 1500
"""
    path = tmp_path / "maglens.toml"
    path.write_text(text)
    read = config.load([path])
    settings = read.port_config("2-2")
    assert settings is read.port["1-2"] and read.port_of("2-2") == "1-2" and read.port_of("4-1") == "4-1"
    assert fit.is_fitted(settings) and not fit.is_fitted(PortConfig(name="bare"))
    assert fit.times(settings) == Times(attach_s=0.08, removal_s=0.03)
    rules = fit.retry_rules(read)
    assert rules[Code.SHORT] == replace(FAILURES[Code.SHORT].rule, tries=3)
    assert rules[Code.NO_USB] == Rule(FAILURES[Code.NO_USB].rule.tries, 60.0, 1.5)
    assert rules[Code.BOUNCE] is FAILURES[Code.BOUNCE].rule


def test_the_times_that_are_not_configured_are_those_of_the_machine() -> None:
    assert fit.times(PortConfig()) == Times()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[retry.shrot]\ntries = 1\n", "unknown key retry.shrot"),
        ("[retry.short]\ntries = 0\n", "retry.short.tries = 0 is not a whole number"),
        ('[port."1-2"]\nmeter = "hwmon3"\n', "an absolute path"),
        ('[port."1-2"]\nmeter = "/sys/../etc"\n', "an absolute path"),
        ('[port."1-2"]\nusb = "2-1"\n', "a list of USB paths"),
        ('[port."1-2"]\nusb = ["usb1"]\n', "a list of USB paths"),
        ('[port."1-2"]\ndetect_active = "up"\n', "one of high, low"),
        ('[port."1-2"]\nhall_switch = "SW_LIDD"\n', "did you mean 'SW_LID'"),
    ],
)
def test_what_the_configuration_refuses(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "maglens.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        config.load([path])
    assert complaint in str(error.value)
