# SPDX-License-Identifier: GPL-2.0-or-later
"""FunctionFS: what a read of endpoint 0 may answer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from maglens_driver.gadget import functionfs
from maglens_driver.gadget.functionfs import Ep0EventType, FunctionFs

EVENT = bytes(8) + bytes((Ep0EventType.DISABLE, 0, 0, 0))


@pytest.fixture
def files(tmp_path: Path) -> FunctionFs:
    """A function whose files are plain ones."""
    for name in ("ep0", "ep1", "ep2"):
        (tmp_path / name).touch()
    return FunctionFs(tmp_path, functionfs.OUR_INTERFACE)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EIDRM, errno.EL2HLT, errno.ESRCH, errno.ESHUTDOWN])
def test_a_host_that_left_in_the_middle_of_a_request_ends_nothing(
    files: FunctionFs, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[OSError | bytes] = [OSError(number, os.strerror(number)), EVENT]

    def read(_fd: int, _length: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(files, "_poll", Ready(files.ep0))
    assert files.events() == []
    assert [event.type for event in files.events()] == [Ep0EventType.DISABLE]


def test_another_error_is_one(files: FunctionFs, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_fd: int, _length: int) -> bytes:
        raise OSError(errno.EBADFD, "bad state")

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(files, "_poll", Ready(files.ep0))
    with pytest.raises(OSError, match="bad state"):
        files.events()


class Ready:
    """A poll that finds one file ready at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def poll(self) -> list[tuple[int, int]]:
        return [(self._fd, 1)]
