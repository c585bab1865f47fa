# SPDX-License-Identifier: GPL-2.0-or-later
"""LibcameraSource after what went half way: the next try begins with a child that is whole, and rest is rest."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import Gone, Refused
from maglens_driver.libcamera.source import LibcameraSource
from tests.unit.test_libcamera_source import PATIENT, Sink, scenario, wanted


async def plays(source: LibcameraSource, brightness: int) -> None:
    """Its pictures come, and are as bright as was asked for."""
    await source.configure(wanted(source))
    sink = Sink()
    await source.start(sink, 1)
    await sink.until(lambda: len(sink.seen) >= 3)
    await source.stop()
    assert sink.seen[0][1] == 128 + brightness


async def dies(source: LibcameraSource) -> None:
    """Its child is killed while it is asked for something."""
    assert source.child_pid is not None
    os.kill(source.child_pid, signal.SIGSTOP)  # its death must not be noticed before it is asked
    asked = asyncio.create_task(source.set({Cid.BRIGHTNESS: -50}))
    await asyncio.sleep(0)
    os.kill(source.child_pid, signal.SIGKILL)
    with pytest.raises(Gone):
        await asked


def is_mapped() -> bool:
    return "fake-frame" in Path("/proc/self/maps").read_text()


def test_a_child_that_cannot_describe_its_camera_is_not_asked_again(tmp_path: Path) -> None:
    """It runs, and has no camera."""
    trouble = tmp_path / "sick"

    async def body(source: LibcameraSource) -> None:
        await dies(source)
        trouble.touch()
        for _ in range(2):
            with pytest.raises(Refused, match="Input/output error"):
                await source.configure(wanted(source))
        trouble.unlink()
        await plays(source, 0)

    scenario(body, sick=str(trouble))


def test_controls_are_written_again_to_a_new_child() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.set({Cid.BRIGHTNESS: -50})
        await dies(source)
        await plays(source, -50)

    scenario(body)


def test_controls_reach_a_child_whose_start_was_called_off() -> None:
    """As when an app is closed again before a camera that rested has come."""

    async def body(source: LibcameraSource) -> None:
        await source.set({Cid.BRIGHTNESS: -50})
        await source.rest()
        configuring = asyncio.create_task(source.configure(wanted(source)))
        while source.child_pid is None:  # noqa: ASYNC110 a thread starts it, and tells nobody
            await asyncio.sleep(0.001)
        configuring.cancel()
        await asyncio.gather(configuring, return_exceptions=True)
        await plays(source, -50)

    scenario(body)


def test_a_start_that_was_refused_half_way_leaves_nothing_streaming(tmp_path: Path) -> None:
    trouble = tmp_path / "starved"

    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        trouble.touch()
        with pytest.raises(Refused, match="Cannot allocate"):
            await source.start(Sink(), 1)
        trouble.unlink()
        await plays(source, 0)
        assert source.counters["children"] == 1

    scenario(body, starved=str(trouble))


def test_a_camera_that_another_program_uses_is_told_as_v4l2_does(tmp_path: Path) -> None:
    """So that it is waited for, and not given up."""
    trouble = tmp_path / "busy"
    trouble.touch()

    async def body(source: LibcameraSource) -> None:
        for _ in range(2 * PATIENT.restarts):
            with pytest.raises(OSError, match="busy") as caught:
                await source.configure(wanted(source))
            assert caught.value.errno == errno.EBUSY
        trouble.unlink()
        await plays(source, 0)
        assert source.counters["children"] == 1

    scenario(body, busy=str(trouble))


def test_a_camera_that_rests_holds_no_memory() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        assert is_mapped()
        await source.rest()
        assert not is_mapped()

    scenario(body)


def test_a_camera_that_rests_does_so_again_after_a_control_was_set() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.rest()
        for value in range(2 * PATIENT.restarts):
            assert await source.set({Cid.BRIGHTNESS: value}) == {Cid.BRIGHTNESS: value}
            assert source.child_pid is None
        await plays(source, value)

    scenario(body)


def test_a_camera_that_rests_has_no_process_until_it_is_configured_again() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.set({Cid.BRIGHTNESS: 30})
        pids = [source.child_pid]
        await source.rest()
        pids.append(source.child_pid)
        await source.configure(source.modes[0])
        pids.append(source.child_pid)
        assert pids[1] is None
        assert None not in (pids[0], pids[2])
        assert (await source.get())[Cid.BRIGHTNESS] == 30
        for _ in range(2 * PATIENT.restarts):  # its own wish is not counted against it
            await source.rest()
            await source.configure(source.modes[0])

    scenario(body)


def test_restarts_are_bounded() -> None:
    limits = replace(PATIENT, restarts=2, restart_window_s=600)

    async def body(source: LibcameraSource) -> None:
        await dies(source)
        await source.set({Cid.BRIGHTNESS: 0})
        await dies(source)
        with pytest.raises(Gone, match="may be started again in"):
            await source.configure(wanted(source))
        assert source.counters["children"] == 2

    scenario(body, limits)


def test_a_start_that_is_called_off_leaves_nothing_streaming() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        for _ in range(2 * PATIENT.restarts):
            start = asyncio.create_task(source.start(Sink(), 1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            await source.stop()
            await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 2)
        await sink.until(lambda: len(sink.seen) >= 3)

    scenario(body)
