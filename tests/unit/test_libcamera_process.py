# SPDX-License-Identifier: GPL-2.0-or-later
"""The child process of libcamera: what it may send, and what is left of it."""

from __future__ import annotations

import asyncio
import os

import pytest

from maglens_driver.errors import BadModule, Interrupted, MaglensError
from maglens_driver.libcamera.packet import MAX_ANSWERS, BufferBody, FrameBody, Kind, Packet
from maglens_driver.libcamera.process import Answer, ChildProcess
from tests.unit.test_libcamera_source import PATIENT, environment


class Deaf:
    """Listens to nothing but the end."""

    def __init__(self) -> None:
        self.ends: list[MaglensError] = []

    def frame(self, body: FrameBody) -> None:
        pass

    def spoiled(self) -> None:
        pass

    def ended(self, why: MaglensError) -> None:
        self.ends.append(why)

    def patience_s(self) -> float | None:
        return None


def inode(fd: int) -> int | None:
    """Of what is open there; the number may have been given to something else at once."""
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


def test_an_answer_without_end_leaves_no_descriptors_behind() -> None:
    async def play() -> None:
        child = ChildProcess(Deaf(), environment())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        child._waiting[7] = (Answer([Packet(Kind.TEXT, 7, "x")] * MAX_ANSWERS), future)
        ends = os.pipe()
        pipe = os.fstat(ends[0]).st_ino
        child._answer(Packet(Kind.BUFFER, 7, BufferBody(epoch=1, index=0, planes=2)), ends)
        assert not [end for end in ends if inode(end) == pipe]
        async with asyncio.timeout(PATIENT.open_s):
            await child.ended()
        assert isinstance(future.exception(), BadModule)

    asyncio.run(play())


def test_an_answer_that_comes_as_its_asker_is_called_off_leaves_no_descriptors_behind() -> None:
    async def play() -> None:
        child = ChildProcess(Deaf(), environment())
        asking = asyncio.create_task(child.ask(Kind.LIST, None, PATIENT.open_s))
        await asyncio.sleep(0)
        ends = os.pipe()
        pipe = os.fstat(ends[0]).st_ino
        child._answer(Packet(Kind.BUFFER, 1, BufferBody(epoch=1, index=0, planes=2)), ends)
        child._answer(Packet(Kind.DONE, 1), ())
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not [end for end in ends if inode(end) == pipe]
        child.end(Interrupted("the test is over"))
        async with asyncio.timeout(PATIENT.stop_s):
            await child.ended()

    asyncio.run(play())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_ours_ends_the_child_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for an answer, or for its end, would wait for ever."""
    monkeypatch.setattr(ChildProcess, "_hear", lambda self: 1 // 0)

    async def play() -> None:
        heard = Deaf()
        child = ChildProcess(heard, environment())
        with pytest.raises(Interrupted, match="error in its thread"):
            await child.ask(Kind.LIST, None, PATIENT.open_s)
        async with asyncio.timeout(PATIENT.stop_s):
            await child.ended()
        await asyncio.to_thread(child._thread.join)  # its traceback is this test's
        assert str(child.pid) not in os.listdir("/proc")
        assert [type(why) for why in heard.ends] == [Interrupted]

    asyncio.run(play())
