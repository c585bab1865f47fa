# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of what people chose: broken, shared, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from maglens_v4l2.store import FILE_NAME, MAX_IDENTITIES, Store


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        '{"version": 2}',
        '{"version": 1, "modules": 3}',
        '{"version": 1, "modules": {"a": {"x": 1}}}',
    ],
)
def test_a_broken_file_is_put_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    store = Store(tmp_path)
    assert store.get("a") == {}
    assert [path.suffix for path in tmp_path.iterdir()] == [".broken"]
    store.put("a", 1, 2)
    store.save()
    assert Store(tmp_path).get("a") == {1: 2}


def test_two_that_save_at_a_time_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two nodes' controls, or one's and a person's choice for a module that does not play, share one file."""
    both_write = threading.Barrier(2)

    def meet(fd: int) -> None:
        del fd
        with contextlib.suppress(threading.BrokenBarrierError):  # nobody else writes
            both_write.wait(0.1)

    monkeypatch.setattr(os, "fsync", meet)
    store = Store(tmp_path)
    store.put("a", 1, 2)

    async def save() -> None:
        await asyncio.gather(store.keep(), store.keep())

    asyncio.run(save())
    assert not caplog.text
    assert Store(tmp_path).get("a") == {1: 2}


def test_the_store_is_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(MAX_IDENTITIES + 10):
        store.put(f"m{number}", 1, 1)
        store.put("kept", 1, number)
    assert store.get("m0") == {}
    assert store.get("kept") == {1: MAX_IDENTITIES + 9}
