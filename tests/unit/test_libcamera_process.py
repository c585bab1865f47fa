# SPDX-License-Identifier: GPL-2.0-or-later
"""The child process of libcamera: what it may send, and what is left of it."""

from __future__ import annotations

import asyncio
import os

import pytest

from maglens_driver.errors import BadModule, MaglensError
from maglens_driver.libcamera.packet import MAX_ANSWERS, BufferBody, FrameBody, Kind, Packet
from maglens_driver.libcamera.process import Answer, ChildProcess
from tests.unit.test_libcamera_source import QUICK, environment


class Deaf:
    """Listens to nothing."""

    def frame(self, body: FrameBody) -> None:
        pass

    def spoiled(self) -> None:
        pass

    def ended(self, why: MaglensError) -> None:
        pass

    def patience_s(self) -> float | None:
        return None


def test_an_answer_without_end_leaves_no_descriptors_behind() -> None:
    async def play() -> None:
        child = ChildProcess(Deaf(), environment())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        child._waiting[7] = (Answer([Packet(Kind.TEXT, 7, "x")] * MAX_ANSWERS), future)
        ends = os.pipe()
        child._answer(Packet(Kind.BUFFER, 7, BufferBody(epoch=1, index=0, planes=2)), ends)
        for end in ends:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(end)
        async with asyncio.timeout(QUICK.open_s):
            await child.ended()
        assert isinstance(future.exception(), BadModule)

    asyncio.run(play())
