# SPDX-License-Identifier: GPL-2.0-or-later
"""Script: every fault of the bench as a function of pins, link and power over time, and what has to come of it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from maglens_daemon.board.hardware import Pin
from maglens_driver.errors import Deadline
from maglens_driver.link.wire import CapabilityLevel
from tests.faults.bench import CONFIG, SICK, Bench
from tests.faults.module import BIG, MIDDLE

Play = Callable[[Bench], Coroutine[Any, Any, None]]


REMOVAL_MS: Final = CONFIG.port[SICK].removal_ms


class End(enum.Enum):
    """What has to come of a fault once it is over."""

    WELL = "well"  # as if nothing had been: it plays, or rests where nobody watches
    REFUSED = "refused"  # quarantined, without power, until it is lifted off
    GONE = "gone"  # the port is empty


@dataclass(frozen=True, slots=True)
class Script:
    """``play`` makes it happen and ends when it is over. ``end``: what has to come of it; ``from_empty`` where it is
    another on an empty port; ``unwatched`` where it is another while nobody watches. ``counter``: one of these of
    the port, by "|", must have risen; ``message``: part of the reason. ``lifts``: the module is off the port for
    longer than the removal debounce, which ends a quarantine. ``sleeps``: the whole system does, whoever streams."""

    name: str
    play: Play
    end: End
    counter: str = ""
    message: str = ""
    from_empty: End | None = None
    unwatched: End | None = None
    lifts: bool = False
    sleeps: bool = False


async def _bounce(bench: Bench, open_ms: int, times: int) -> None:
    if bench.sick.port is None:
        bench.sick.snap_on(bench.ports[SICK])
    await bench.sick.bounce(open_ms / 1000, open_ms / 1000, times)


def bounce(open_ms: int, times: int) -> Play:
    """So many milliseconds open and closed."""
    return lambda bench: _bounce(bench, open_ms, times)


async def never_rests(bench: Bench) -> None:
    """Contacts that chatter for a minute."""
    await _bounce(bench, 40, 800)


def seated(bench: Bench) -> None:
    """On the port, where it is not yet."""
    if bench.sick.port is None:
        bench.sick.snap_on(bench.ports[SICK])


async def half_seated(bench: Bench) -> None:
    """Lifted a little: only the slow pair touches, then it is pressed home."""
    if bench.sick.port is not None:
        bench.sick.lift_off()
    await asyncio.sleep(0.2)
    bench.sick.speed_mbit_s = 480
    bench.sick.snap_on(bench.ports[SICK])
    await asyncio.sleep(8)
    bench.seen(bench.notes(), "480 Mbit/s only")
    bench.sick.lift_off()
    await asyncio.sleep(0.2)
    bench.sick.speed_mbit_s = 5000
    bench.sick.snap_on(bench.ports[SICK])


async def short(bench: Bench) -> None:
    """Metal between the contacts, until it is lifted off."""
    bench.sick.shorted = True
    seated(bench)
    bench.sick.supplied()
    await asyncio.sleep(20)


async def short_passes(bench: Bench) -> None:
    """A crumb that burns away."""
    bench.sick.shorted = True
    seated(bench)
    bench.sick.supplied()
    await asyncio.sleep(0.6)
    bench.sick.shorted = False


async def over_current(bench: Bench) -> None:
    """One moment."""
    seated(bench)
    await bench.power_comes()
    bench.sick.over_current()
    await asyncio.sleep(0.1)


async def alarm(bench: Bench) -> None:
    """The meter's own limit."""
    seated(bench)
    await bench.power_comes()
    bench.ports[SICK].move(Pin.ALARM, True)
    bench.ports[SICK].move(Pin.ALARM, False)
    await asyncio.sleep(0.1)


async def over_draw(bench: Bench) -> None:
    """More than its contract whenever it plays."""
    bench.sick.excess_mw = 1500
    seated(bench)
    bench.sick.measure()
    await asyncio.sleep(60)
    if bench.app is None:
        bench.sick.excess_mw = 0  # it never plays, so nobody ever sees it


async def over_draw_once(bench: Bench) -> None:
    """For half a second."""
    seated(bench)
    bench.sick.excess_mw = 1500
    bench.sick.measure()
    await asyncio.sleep(0.5)
    bench.sick.excess_mw = 0
    bench.sick.measure()


async def brown_out(bench: Bench) -> None:
    """It resets as its sensor starts, once."""
    bench.sick.browns_out = 1
    seated(bench)
    bench.sick.brown_out()
    await asyncio.sleep(3)
    bench.sick.browns_out = 0


async def brown_out_always(bench: Bench) -> None:
    """It resets and resets, wherever it is."""
    seated(bench)
    for _ in range(40):
        await asyncio.sleep(1)
        bench.sick.brown_out()


async def heat(bench: Bench) -> None:
    """Warm, too hot, cool."""
    seated(bench)
    for level in (CapabilityLevel.REDUCED, CapabilityLevel.DISABLED, CapabilityLevel.FULL):
        bench.sick.say(level)
        await asyncio.sleep(3)
        if level is CapabilityLevel.DISABLED and bench.state() == "ready" and bench.app is not None:
            bench.seen(bench.notes(), "too hot")
    bench.sick.say(CapabilityLevel.FULL)


async def battery_sag(bench: Bench) -> None:
    """Low, then a charger comes."""
    seated(bench)
    bench.battery(10)
    bench.uevent()
    await asyncio.sleep(6)
    bench.battery(80)
    bench.uevent()


async def board_heat(bench: Bench) -> None:
    """The board is warm, then cool."""
    seated(bench)
    bench.zone(90)
    bench.uevent()
    await asyncio.sleep(6)
    bench.zone(60)
    bench.uevent()


async def greedy(bench: Bench) -> None:
    """It asks for more than it has declared."""
    bench.sick.greedy_mw = 1500
    await _again(bench)
    await asyncio.sleep(5)
    bench.within_declaration()
    bench.sick.greedy_mw = 0


async def stubborn(bench: Bench) -> None:
    """It takes GotoMin, and draws on: a sag finds it out."""
    seated(bench)
    bench.sick.stubborn = True
    await battery_sag(bench)
    bench.sick.stubborn = False


async def late(bench: Bench) -> None:
    """Its power messages come after 0.3 s."""
    bench.sick.late_s = 0.3
    await _again(bench)
    await asyncio.sleep(3)
    bench.sick.late_s = 0.0


async def silent(bench: Bench) -> None:
    """It never answers a power message."""
    bench.sick.silent = True
    await _again(bench)
    await asyncio.sleep(20)


async def _again(bench: Bench) -> None:
    """A new contract has to be made."""
    if bench.sick.port is None:
        bench.sick.snap_on(bench.ports[SICK])
    else:
        bench.sick.brown_out()


async def bad_link(bench: Bench) -> None:
    """A third of the frames damaged in all modes but the smallest, then a good link."""
    seated(bench)
    bench.sick.damaged, bench.sick.clean_mbit_s = 3, 100
    await asyncio.sleep(15)
    bench.sick.damaged = 0
    await asyncio.sleep(45)


async def slow(bench: Bench) -> None:
    """Its processor has no time for six frames of ten in its largest mode, then has."""
    seated(bench)
    bench.sick.left_out, bench.sick.kept_width = 6, MIDDLE.width
    await asyncio.sleep(10)
    session = bench.session(SICK)
    if session is not None and bench.state() == "streaming":
        bench.seen(bench.notes(), "the module cannot keep up")
        bench.seen(str(session.mode), str(MIDDLE))
    bench.sick.left_out = 0
    await asyncio.sleep(15)
    if session is not None and bench.state() == "streaming":
        bench.seen(str(session.mode), str(BIG))


async def stall(bench: Bench) -> None:
    """Frames stop; the source says so after a while."""
    seated(bench)
    bench.sick.stalled = True
    await asyncio.sleep(1)
    bench.sick.stalled = False
    visitor = bench.sick.visitor
    if visitor is not None:
        visitor.source.lose(Deadline("no good frame for 1.0 s"))


async def broken(bench: Bench) -> None:
    """Its descriptor is damaged from now on."""
    bench.sick.broken = True
    await _again(bench)


async def board_error(bench: Bench) -> None:
    """The board's switch and meter cannot be reached for a while."""
    seated(bench)
    bench.ports[SICK].broken = OSError(121, "Remote I/O error")
    await asyncio.sleep(0.5)
    bench.ports[SICK].broken = None


async def pulled(bench: Bench) -> None:
    """Lifted off."""
    seated(bench)
    bench.sick.lift_off()
    await asyncio.sleep(0.1)


async def swapped(bench: Bench) -> None:
    """Lifted off and snapped on again at once."""
    seated(bench)
    bench.sick.lift_off()
    await asyncio.sleep(0.2)
    bench.sick.snap_on(bench.ports[SICK])


async def sleep(bench: Bench) -> None:
    """The system sleeps for a while."""
    seated(bench)
    await bench.manager.park()
    await asyncio.sleep(3)
    await bench.manager.unpark()


async def reset_asleep(bench: Bench) -> None:
    """It is reset as the system wakes."""
    seated(bench)
    await bench.manager.park()
    await asyncio.sleep(3)
    bench.sick.brown_out()
    await bench.manager.unpark()


async def lifted_asleep(bench: Bench) -> None:
    """Lifted off while the system sleeps."""
    seated(bench)
    await bench.manager.park()
    await asyncio.sleep(1)
    bench.sick.lift_off()
    await asyncio.sleep(1)
    await bench.manager.unpark()


SCRIPTS: Final = (
    *(
        Script(f"bounce-{ms}ms", bounce(ms, 5), End.WELL, counter="edges", lifts=ms > REMOVAL_MS)
        for ms in (1, 5, 20, 45, 60, 120, 250, 500)
    ),
    Script("never-rests", never_rests, End.WELL, counter="edges", message="come to rest", from_empty=End.REFUSED),
    Script("half-seated", half_seated, End.WELL, lifts=True),
    Script("short", short, End.REFUSED, counter="short", message="shorted"),
    Script("short-passes", short_passes, End.WELL),
    Script("over-current", over_current, End.WELL, counter="over_current|power_fault|short"),
    Script("current-alarm", alarm, End.WELL, counter="current_alarm|power_fault|short"),
    Script(
        "over-draw", over_draw, End.REFUSED, counter="over_draw", message="more than its contract", unwatched=End.WELL
    ),
    Script("over-draw-once", over_draw_once, End.WELL),
    Script("brown-out", brown_out, End.WELL),
    Script("brown-out-always", brown_out_always, End.REFUSED, counter="brown_out", message="its supply sags"),
    Script("heat", heat, End.WELL),
    Script("battery-sag", battery_sag, End.WELL),
    Script("board-heat", board_heat, End.WELL),
    Script("greedy", greedy, End.WELL),
    Script("stubborn", stubborn, End.WELL),
    Script("late", late, End.WELL),
    Script("silent", silent, End.REFUSED, counter="no_answer", message="does not answer"),
    Script("bad-link", bad_link, End.WELL),
    Script("slow", slow, End.WELL),
    Script("stall", stall, End.WELL),
    Script("broken-descriptor", broken, End.REFUSED, message="fails the CRC"),
    Script("board-error", board_error, End.WELL),
    Script("pulled", pulled, End.GONE, lifts=True),
    Script("swapped", swapped, End.WELL, lifts=True),
    Script("sleep", sleep, End.WELL, sleeps=True),
    Script("reset-asleep", reset_asleep, End.WELL, sleeps=True),
    Script("lifted-asleep", lifted_asleep, End.GONE, lifts=True, sleeps=True),
)
