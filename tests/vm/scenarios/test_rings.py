# SPDX-License-Identifier: GPL-2.0-or-later
"""A hand on a lens's ring: over USB and through the kernel's node to an app that listens, and how long that takes."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_driver.control import Cid
from maglens_driver.gadget.client import SimClient
from tests.vm.guest import app_calls
from tests.vm.guest.camera import camera
from tests.vm.guest.devices import succeed
from tests.vm.guest.limits import EVENT_S, emulated
from tests.vm.scenarios.test_module_source import SMALL, alone, sim, virtual
from tests.vm.scenarios.test_no_copies import app, opened, shown

__all__ = ["alone", "sim", "virtual"]  # fixtures

RING_MS = 50.0
EMULATED = 10.0  # times as long does Python take on an emulated processor
TURNS = 20
RINGS = {"focus": Cid.FOCUS_ABSOLUTE, "iris": Cid.IRIS_ABSOLUTE}


@pytest.fixture
def listener() -> Iterator[list[int]]:
    """Descriptors that are closed at the end."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.long
def test_rings_reach_a_subscribed_reader(sim: SimClient, listener: list[int], out: Path, tmp_path: Path) -> None:
    """Times from the hand to the event's own timestamp, both of CLOCK_MONOTONIC."""
    succeed("modprobe", "maglens")
    figures: dict[str, dict[str, float]] = {}

    async def turns(fd: int, ring: str, control: Cid) -> list[float]:
        about = app_calls.control(fd, control)
        step = (about.maximum - about.minimum) // (TURNS + 1)
        late = []
        for turn in range(1, TURNS + 1):
            turned = await asyncio.to_thread(sim.ring, ring, about.minimum + turn * step)
            while True:
                event = await asyncio.to_thread(app_calls.next_event, fd, EVENT_S)
                assert event is not None, f"the {ring} ring was not heard of"
                if event.id == control and app_calls.value(fd, control) == turned["value"]:
                    break
            late.append((event.timestamp.tv_sec * 10**9 + event.timestamp.tv_nsec - turned["ns"]) / 1e6)
        return late

    async def body() -> None:
        async with camera(SMALL, tmp_path) as made:
            with app(made.node.path):
                async with opened(sim) as source:
                    await made.play(source)
                    await shown(made.pipeline, 1)
                    await made.offer(source)
                    fd = os.open(made.node.path, os.O_RDWR | os.O_NONBLOCK)
                    listener.append(fd)
                    for ring, control in RINGS.items():
                        app_calls.subscribe(fd, app_calls.EVENT_CTRL, control)
                        late = await turns(fd, ring, control)
                        figures[ring] = {"median_ms": statistics.median(late), "worst_ms": max(late)}
                    await source.stop()

    asyncio.run(body())
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    print(figures)
    assert all(one["median_ms"] < RING_MS * (EMULATED if emulated() else 1) for one in figures.values()), figures
