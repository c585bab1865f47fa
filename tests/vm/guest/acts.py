# SPDX-License-Identifier: GPL-2.0-or-later
"""Acts: what happens to the camera while apps record, and how their recordings are judged by the marks in them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from maglens_driver.gadget.client import SimClient
from maglens_driver.names import SERVICE_UNIT
from tests.demo import judge
from tests.demo.recording import Shot
from tests.vm.guest.devices import succeed
from tests.vm.guest.journal import Journal

ATTACH_S = 90.0
START_S = 120.0
MARK_WRAP = 1 << 24

Hold = Callable[[int], None]
"""Let the apps record so many frames more."""

Dies = Callable[[], AbstractContextManager[int]]
"""SIGKILL for the service at CLOCK_MONOTONIC ns; at the end of the block its successor plays."""


@dataclass(slots=True)
class Acts:
    """What happened: marks of the modules in the order of their stays, and the frames sent before the kill."""

    sources: list[int] = field(default_factory=list)
    killed_ns: int = 0
    sent_at_kill: int = 0
    sent_at_end: int = 0


def sent(sim: SimClient) -> int:
    """Frames that the module has sent in this stay."""
    return int(sim.progress()["frames_sent"])


def hold_until_sent(sim: SimClient, count: int, hold: Hold) -> None:
    """Let the apps record until the module has sent so many frames of this stay."""
    end = time.monotonic() + ATTACH_S
    while sent(sim) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{sim.name} sent {sent(sim)} of {count} frames within {ATTACH_S:.0f} s")
        hold(1)


def kill_service() -> int:
    """SIGKILL for the running service: CLOCK_MONOTONIC ns. systemd starts it again."""
    os.kill(int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT)), signal.SIGKILL)
    return time.monotonic_ns()


@contextmanager
def service_dies() -> Iterator[int]:
    """See :data:`Dies`: systemd's service."""
    with Journal(SERVICE_UNIT) as log:
        yield kill_service()
        log.wait_for("the camera is /dev/video", START_S)
        log.wait_for("plays", ATTACH_S)


def play(
    wide: SimClient, portrait: SimClient, dies: Dies, hold: Hold, frames: int, note: Callable[[str], None]
) -> Acts:
    """Card, attach, swap, detach, attach, kill -9 of the daemon while it plays, detach; ``frames`` frames of each."""
    acts = Acts(sources=[int(sim.status()["mark"]) for sim in (wide, portrait, wide)])
    hold(frames)
    note("card")
    wide.attach()
    hold_until_sent(wide, frames, hold)
    note("attached")
    wide.swap(portrait)
    hold_until_sent(portrait, frames, hold)
    note("swapped")
    portrait.detach()
    hold(2 * frames)
    note("detached")
    wide.attach()
    hold_until_sent(wide, frames, hold)
    acts.sent_at_kill = sent(wide)
    with dies() as acts.killed_ns:
        hold(frames)
        note("killed")
    hold_until_sent(wide, acts.sent_at_kill + 2 * frames, hold)
    note("restarted")
    acts.sent_at_end = sent(wide)
    wide.detach()
    hold(2 * frames)
    return acts


def check(shots: Sequence[Shot], acts: Acts) -> dict[str, object]:
    """What a recording has to show; the figures of it."""
    stays = judge.stays(shots)
    figures: dict[str, object] = {
        "frames": len(shots),
        "mixed": sum(shot.mixed for shot in shots),
        "cards": sum(shot.mark is None for shot in shots),
        "stays": [
            {"source": stay.source, "generation": stay.generation, "seen": len(stay.numbers), "span": stay.span}
            for stay in stays
        ],
        "interleaved": judge.interleaved(shots),
    }
    assert figures["mixed"] == 0, figures
    assert [stay.source for stay in stays] == acts.sources, figures
    assert figures["interleaved"] == 0, f"a late frame of a stay that was over: {figures}"
    assert all(stay.rising for stay in stays), figures
    first, last = stays[0], stays[-1]
    assert shots[0].mark is None, "it begins with a card"
    assert any(shot.mark is None for shot in shots[stays[1].last.index : last.first.index]), "a card between"
    assert last.span > acts.sent_at_kill, f"nothing of the module was seen after the kill: {figures}"
    assert any(shot.mark is None for shot in shots[last.last.index :]), "a card at the end"
    assert first.first.index > 0
    return figures
