# SPDX-License-Identifier: GPL-2.0-or-later
"""A camera of other colours in the service: apps get what they are told, and people hear of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from maglens_daemon import status
from maglens_daemon.fake import MODE, FakeVisitor
from maglens_driver.ycbcr import Matrix, YCbCr
from tests.unit.test_daemon_manager import WAIT_S, theatre

FULL = replace(MODE, ycbcr=YCbCr(Matrix.BT601, full=True))


def test_what_is_converted_is_shown_right_and_told() -> None:
    async def run() -> None:
        async with theatre() as t:
            reader = t.watch()
            plain, full = FakeVisitor("1"), FakeVisitor("2", modes=[FULL])
            await t.until_playing(t.arrive(plain, "1-1"))
            await t.until_playing(t.arrive(full, "1-2"))
            told = {module["port"]: module["notes"] for module in status.status(t.manager)["modules"]}
            assert told["1-1"] == []
            (note,) = told["1-2"]
            assert "BT.601, full range" in note
            assert "BT.601, limited range" in note
            assert ": " not in note, "doctor takes what follows for advice"
            luma = 0
            async with asyncio.timeout(WAIT_S):
                while luma != 126:  # of 128 in full range, which is what the other one shows as it is
                    full.source.frame(128)
                    shown = await asyncio.to_thread(reader.copy, WAIT_S)
                    assert shown is not None
                    luma = shown[1][0]

    asyncio.run(run())
