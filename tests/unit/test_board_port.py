# SPDX-License-Identifier: GPL-2.0-or-later
"""The ports there are, by one conformance; meters on a tree of files; the interlock's haste."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maglens_daemon.board.fake import FakePort
from maglens_daemon.board.hardware import Draw, Pin, PinEvent, PortHardware
from maglens_daemon.board.inputs import Edge, edge_now
from maglens_daemon.board.meter import Meter, MeterError
from maglens_daemon.board.port import MAX_WAITING, BoardPort, UsbPort
from tests.unit.port_conformance import OpenRig, PortConformance, Rig

INA = "/sys/bus/i2c/devices/1-0040"


class PipeInput:
    """An input whose edges a test writes into a pipe."""

    poll_mask = select.POLLIN

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._level = False

    def fileno(self) -> int:
        return self._read

    def level(self) -> bool:
        return self._level

    def read(self) -> Sequence[Edge]:
        return [edge_now(byte == 1) for byte in os.read(self._read, 64)]

    def move(self, active: bool) -> None:
        self._level = active
        os.write(self._write, bytes((active,)))

    def hang_up(self) -> None:
        os.close(self._write)

    def close(self) -> None:
        os.close(self._read)


class Switch:
    """A line that remembers when it went off."""

    def __init__(self) -> None:
        self.on = False
        self.off_s = 0.0

    def get(self) -> bool:
        return self.on

    def set(self, active: bool) -> None:
        self.on = active
        if not active:
            self.off_s = time.monotonic()

    def close(self) -> None: ...


def make_meter(root: Path, mv: int = 5000, ma: int = 0, **files: int) -> Path:
    """An INA on a tree of files, with a number of hwmon that nobody can know before."""
    where = root / INA.lstrip("/") / "hwmon" / "hwmon7"
    where.mkdir(parents=True, exist_ok=True)
    for name, value in {"in1_input": mv, "curr1_input": ma, **files}.items():
        (where / name).write_text(f"{value}\n")
    return where


class PipedMeter(Meter):
    """Files do not wake their readers; the alarm comes by a pipe."""

    def __init__(self, root: Path) -> None:
        super().__init__(INA, root)
        self.alarm = PipeInput()

    def alarms(self) -> list[PipeInput]:  # type: ignore[override]
        return [self.alarm]


class FakeRig:
    def __init__(self) -> None:
        self.fake = FakePort()
        self.port: PortHardware = self.fake

    def move(self, pin: Pin, active: bool) -> None:
        self.fake.move(pin, active)

    def rail(self) -> bool:
        return self.fake.powered

    def draw(self, mv: int, ma: int) -> None:
        self.fake.draw = Draw(mv, ma, mv * ma // 1000)


class UsbRig:
    def __init__(self) -> None:
        self.port: PortHardware = UsbPort()

    def move(self, pin: Pin, active: bool) -> None:
        raise AssertionError("there are no pins")

    def rail(self) -> bool:
        return True

    def draw(self, mv: int, ma: int) -> None:
        raise AssertionError("there is no meter")


class BoardRig:
    def __init__(self, root: Path) -> None:
        make_meter(root)
        self.root, self.switch, self.meter = root, Switch(), PipedMeter(root)
        self.pins = {Pin.DETECT: PipeInput(), Pin.FAULT: PipeInput(), Pin.ALARM: self.meter.alarm}
        self.port: PortHardware = BoardPort(
            "1-2",
            detect=[self.pins[Pin.DETECT]],
            switch=self.switch,
            fault=self.pins[Pin.FAULT],
            meter=self.meter,
        )

    def move(self, pin: Pin, active: bool) -> None:
        self.pins[pin].move(active)

    def rail(self) -> bool:
        return self.switch.on

    def draw(self, mv: int, ma: int) -> None:
        make_meter(self.root, mv, ma)


class TestFakePort(PortConformance):
    @pytest.fixture
    def open_rig(self) -> OpenRig:
        @asynccontextmanager
        async def open_rig() -> AsyncIterator[Rig]:
            yield FakeRig()

        return open_rig


class TestUsbPort(PortConformance):
    @pytest.fixture
    def open_rig(self) -> OpenRig:
        @asynccontextmanager
        async def open_rig() -> AsyncIterator[Rig]:
            yield UsbRig()

        return open_rig


class TestBoardPort(PortConformance):
    @pytest.fixture
    def open_rig(self, tmp_path: Path) -> OpenRig:
        @asynccontextmanager
        async def open_rig() -> AsyncIterator[Rig]:
            rig = BoardRig(tmp_path)
            try:
                yield rig
            finally:
                await rig.port.close()

        return open_rig


def test_a_fault_cuts_while_the_loop_is_busy(tmp_path: Path) -> None:
    """Within 20 ms, though the loop's thread computes for much longer. Of five, since other processes may take the
    processor for longer than that; what does not depend on them is that it never waits for the loop."""

    async def play() -> None:
        rig = BoardRig(tmp_path)
        taken = []
        for _ in range(5):
            await rig.port.power(2500)
            edge_s = time.monotonic()
            rig.move(Pin.FAULT, True)
            while time.monotonic() < edge_s + 0.2:
                pass  # what a card being drawn does to the loop
            assert not rig.switch.on
            taken.append(rig.switch.off_s - edge_s)
            rig.move(Pin.FAULT, False)
        assert min(taken) < 0.02, taken
        await rig.port.close()

    asyncio.run(play())


def test_two_detects_count_only_together() -> None:
    async def play() -> None:
        line, hall = PipeInput(), PipeInput()
        port = BoardPort("1-2", detect=[line, hall])
        events = aiter(port.events())
        seen = []
        for which, active in ((line, True), (hall, True), (line, False), (hall, False)):
            which.move(active)
            seen.append((await anext(events)).active)
        assert seen == [False, True, False, False]
        await port.close()

    asyncio.run(play())


def test_a_device_that_goes_is_an_error_and_not_a_loop() -> None:
    async def play() -> None:
        line = PipeInput()
        port = BoardPort("1-2", detect=[line])
        line.hang_up()
        events: AsyncIterator[PinEvent] = aiter(port.events())
        with pytest.raises(OSError, match="detect: the device has gone"):
            await anext(events)
        await port.close()

    asyncio.run(play())


def test_a_defect_in_the_interlock_is_told_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its port would stay powered with nobody who cuts."""

    def read() -> Sequence[Edge]:
        raise ValueError("no edge that anybody knows")

    async def play() -> None:
        line = PipeInput()
        monkeypatch.setattr(line, "read", read)
        port = BoardPort("1-2", fault=line)
        line.move(True)
        with pytest.raises(OSError, match="interlock has failed: no edge"):
            await asyncio.wait_for(anext(aiter(port.events())), 20)
        await port.close()

    asyncio.run(play())


def test_a_meter_is_found_by_its_device(tmp_path: Path) -> None:
    make_meter(tmp_path, 5010, 842, power1_input=4218000, curr1_crit_alarm=0)
    meter = Meter(INA, tmp_path)
    assert meter.read() == Draw(5010, 842, 4218, alarm=False)
    make_meter(tmp_path, 4210, -3, power1_input=0, curr1_crit_alarm=1)
    assert meter.read() == Draw(4210, -3, 0, alarm=True)
    (alarm,) = meter.alarms()
    assert alarm.level() is True
    assert alarm.read() == ()
    make_meter(tmp_path, curr1_crit_alarm=0)
    assert [edge.active for edge in alarm.read()] == [False]
    alarm.close()


def test_a_meter_without_power_multiplies(tmp_path: Path) -> None:
    make_meter(tmp_path, 5000, 610)
    assert Meter(INA, tmp_path).read().mw == 3050


def test_what_is_no_meter(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no current meter") as error:
        Meter(INA, tmp_path)
    assert error.value.hint
    where = make_meter(tmp_path)
    meter = Meter(INA, tmp_path)
    (where / "curr1_input").write_text("nonsense\n")
    with pytest.raises(OSError, match="curr1_input"):
        meter.read()


class DeadInput(PipeInput):
    """Its device does not answer."""

    def level(self) -> bool:
        raise OSError("no answer")


@pytest.mark.parametrize("dead", ["alarm", "line"])
def test_a_port_that_does_not_answer_leaves_nothing_open(tmp_path: Path, dead: str) -> None:
    """It is tried again every two seconds, for as long as the board does not answer."""
    where = make_meter(tmp_path, curr1_crit_alarm=0)
    if dead == "alarm":
        (where / "curr1_max_alarm").mkdir()  # it can be opened, and not be read

    async def play() -> None:
        line = DeadInput() if dead == "line" else PipeInput()
        with pytest.raises(OSError, match=r"no answer|Is a directory"):
            BoardPort("1-2", detect=[line], meter=Meter(INA, tmp_path))
        line.close()

    asyncio.run(play())
    open_files = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert not [name for name in open_files if name.startswith(str(tmp_path))]


def test_edges_that_come_faster_than_they_are_taken_are_told_by_their_newest(tmp_path: Path) -> None:
    """However long the loop was busy: a bounded number of them, the end as it is, and no fault left out."""

    async def play() -> None:
        rig = BoardRig(tmp_path)
        assert isinstance(rig.port, BoardPort)
        tell, last = rig.port._tell, threading.Event()
        newest: list[float] = []

        def watch(event: PinEvent | OSError) -> None:
            tell(event)
            assert isinstance(event, PinEvent)
            newest.append(event.at_s)
            if len(newest) == 2003:
                last.set()

        rig.port._interlock._tell = watch
        for number in range(2000):  # while the loop does not get to anything else
            rig.move(Pin.DETECT, number % 2 == 0)
        rig.move(Pin.FAULT, True)
        rig.move(Pin.FAULT, False)
        rig.move(Pin.DETECT, True)
        assert last.wait(20)
        seen: list[PinEvent] = []
        async with asyncio.timeout(20):
            async for event in rig.port.events():
                seen.append(event)
                if event.at_s == newest[-1]:
                    break
        assert len(seen) <= MAX_WAITING + 4
        # A pin at a time is read: which of the two is told last is not said.
        assert [event.active for event in seen if event.pin is Pin.DETECT][-1]
        assert (Pin.FAULT, True) in [(event.pin, event.active) for event in seen]
        assert [event.at_s for event in seen] == sorted(event.at_s for event in seen)
        rig.move(Pin.DETECT, False)
        async with asyncio.timeout(20):
            async for event in rig.port.events():
                assert not event.active, "there is room again"
                break
        await rig.port.close()

    asyncio.run(play())
