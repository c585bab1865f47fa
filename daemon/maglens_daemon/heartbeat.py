# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeat: feeds systemd's watchdog for as long as the daemon does its work, and no longer.

The event loop feeds it, so a loop that hangs is noticed. It is withheld, too, when somebody watches and no picture
leaves the pipeline, or when a running stream brings nothing, not even a dropped frame, and its source has not said
that it stalls: then a thread is stuck where Python cannot mend it, and a restart can.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from maglens_daemon.manager import Manager
from maglens_daemon.notify import Notifier
from maglens_daemon.stage import Stage
from maglens_driver.link.limits import FIRST_FRAME_S, STALL_INTERVALS, STALL_MIN_S

log = logging.getLogger(__name__)

_BEATS_PER_LIMIT: Final = 4
# A source reports a stall by itself after this; only silence beyond it is a hang.
_PATIENCE_FACTOR: Final = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """What had been done at one time. ``shown`` pictures of any kind, those that were left to the kernel among them;
    ``arrived`` frames good or dropped; ``generation`` None while no source plays; ``interval_s`` of its mode."""

    watched: bool
    shown: int
    arrived: int
    generation: int | None
    interval_s: float


def measure(stage: Stage) -> Progress:
    """Progress now."""
    pipeline, playing = stage.pipeline, stage.playing
    if pipeline is None:
        return Progress(False, 0, 0, None, 0.0)
    stats = pipeline.stats()
    return Progress(
        pipeline.watched,
        stats.submitted + stats.repeated + stats.cards + stats.left,
        stats.frames_in + sum(stats.dropped.values()),
        playing.generation if playing else None,
        float(playing.mode.interval) if playing else 0.0,
    )


class Pulse:
    """Judges a series of measurements."""

    def __init__(self, now: float) -> None:
        self._last: Progress | None = None
        self._shown_at = now
        self._arrived_at = now

    def is_alive(self, progress: Progress, now: float) -> bool:
        """Whether the work goes on. ``now`` in seconds, never going back."""
        last = self._last
        if last is None or not progress.watched or not last.watched or progress.shown != last.shown:
            self._shown_at = now
        changed = last is None or (progress.generation, progress.arrived) != (last.generation, last.arrived)
        if progress.generation is None or not progress.watched or changed:
            self._arrived_at = now
        self._last = progress
        patience = _PATIENCE_FACTOR * max(STALL_MIN_S, STALL_INTERVALS * progress.interval_s, FIRST_FRAME_S)
        return now - self._shown_at < patience and now - self._arrived_at < patience


async def beat(manager: Manager, notifier: Notifier) -> None:
    """Feed the watchdog until cancelled; at once back where systemd asks for none."""
    if notifier.watchdog_s is None:
        return
    loop = asyncio.get_running_loop()
    pulses, withheld = [(stage, Pulse(loop.time())) for stage in manager.stages], False
    while True:
        measured = [(pulse, measure(stage)) for stage, pulse in pulses]
        stuck = [progress for pulse, progress in measured if not pulse.is_alive(progress, loop.time())]
        if not stuck:
            notifier.watchdog()
        elif not withheld:
            log.error("no progress: %s; the watchdog is not fed any more", stuck[0])
        withheld = bool(stuck)
        await asyncio.sleep(notifier.watchdog_s / _BEATS_PER_LIMIT)
