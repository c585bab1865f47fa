# SPDX-License-Identifier: GPL-2.0-or-later
"""An app chooses another format: nothing made for the one before is shown as the new one, and nobody goes deaf."""

from __future__ import annotations

import asyncio
import ctypes
from dataclasses import replace

import pytest

from maglens_driver.mode import MJPG, Mode
from maglens_v4l2 import feed as feeds
from maglens_v4l2 import kernel_abi as abi
from maglens_v4l2.card import render
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.node import FormatChosen, NodeEvent
from tests.unit.test_bridge_pipeline import CARD, NODE, WAIT_S, WIDE, Stage, flat, frame, is_card, play
from tests.unit.test_bridge_submitting import Gate

JPEG = replace(NODE, fourcc=MJPG, stride=0, nbytes=65536)


def choose_at_once(stage: Stage, *modes: Mode) -> None:
    """The app stops, chooses and starts before anybody has heard of it."""
    stage.reader.stop()
    for mode in modes:
        stage.reader.choose_format(mode)
    stage.reader.start()


def test_a_frame_that_waits_is_not_shown_in_a_format_that_it_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        gate = Gate(stage, monkeypatch)
        feed = stage.pipeline.begin(1, NODE)
        feed.deliver(frame(feed, luma=60))
        await stage.until(gate.entered.is_set)
        waits = frame(feed, luma=70)
        feed.deliver(waits)
        choose_at_once(stage, JPEG)
        await stage.until(lambda: stage.pipeline.format == JPEG)
        assert len(waits.lease.view) == 0, "it was not given back"
        gate.open.set()
        seen: list[bytes] = []
        while not seen or seen[-1] != render(CARD, JPEG):
            got = await asyncio.to_thread(stage.reader.copy, WAIT_S)
            assert got is not None
            seen.append(got[1])
        assert not [picture for picture in seen if flat(NODE, 70)(picture)]
        assert stage.pipeline.stats().dropped == {"format": 1, "refused": 1}

    play(act, formats=(NODE, JPEG))


def test_an_app_that_tries_formats_and_takes_the_first_again_finds_the_card() -> None:
    """The pipeline hears of the last choice only, which is what it has; the node has forgotten its card meanwhile."""

    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        await stage.until(lambda: stage.node.placeholder_image == render(CARD, NODE))
        stage.node.placeholder_image = b""  # as the kernel does with each change
        choose_at_once(stage, WIDE, NODE)
        await stage.until(lambda: FormatChosen(1, NODE) in stage.events)
        await stage.until(lambda: stage.node.placeholder_image == render(CARD, NODE))
        got = await asyncio.to_thread(stage.reader.copy, WAIT_S)
        assert got is not None
        assert got[1] == render(CARD, NODE)

    play(act, formats=(NODE, WIDE))


def test_the_kernels_card_is_one_of_the_format_that_it_was_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node hears of an app's choice before the pipeline does: an older card would pass as one of the new format,
    where that is compressed and its pictures have no length of their own."""
    node = KernelNode.__new__(KernelNode)  # which needs the kernel module to be made
    given: list[tuple[int, bytes]] = []

    def take(request: int, argument: abi.Placeholder, *refusals: int) -> bool:
        given.append((argument.format_serial, ctypes.string_at(argument.address, argument.bytesused)))
        return True

    monkeypatch.setattr(node, "_tolerant", take)
    node._generation, node._choice = 1, (JPEG, 8)
    node.placeholder(b"drawn as NV12", NODE)
    assert not given
    node.placeholder(b"drawn as JPEG", JPEG)
    assert given == [(8, b"drawn as JPEG")]


def test_too_little_memory_for_a_way_to_the_format_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise MemoryError

    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        monkeypatch.setattr(feeds, "through", none)
        stage.reader.choose_format(WIDE)
        await stage.until(lambda: stage.pipeline.format == WIDE)
        monkeypatch.undo()
        stage.reader.start()
        await stage.see(is_card(CARD, WIDE))
        feed.deliver(frame(feed))
        assert stage.pipeline.stats().dropped == {"format": 1}
        assert not stage.failed

    play(act, formats=(NODE, WIDE), watch=False)


def test_whoever_hears_no_more_what_apps_do_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node is put away then, and made anew."""
    broken = MemoryError("no room")

    def act_on(event: NodeEvent) -> None:
        raise broken

    async def act(stage: Stage) -> None:
        monkeypatch.setattr(stage.pipeline, "_on_event", act_on)
        stage.reader.stop()
        await stage.until(lambda: bool(stage.failed))
        assert stage.failed == [broken]
        (record,) = [one for one in caplog.records if "are not heard any more" in one.getMessage()]
        assert record.exc_info is not None
        assert record.exc_info[1] is broken

    play(act)
