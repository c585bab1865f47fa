# SPDX-License-Identifier: GPL-2.0-or-later
"""Two webcams of one model, to which their maker gave one serial number."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import cast

import pytest

from maglens_daemon.fake import FakeSource, Steps
from maglens_daemon.session_state import SessionState
from maglens_daemon.visitors import CameraVisitor
from maglens_driver.v4l2.source import V4L2Source
from tests.unit.test_daemon_manager import theatre


class Webcam(FakeSource):
    """With the real rule."""

    def tell_apart(self, place: str) -> None:
        source = cast(V4L2Source, SimpleNamespace(_identity=self.identity))
        V4L2Source.tell_apart(source, place)
        self.identity = source._identity


def test_webcams_that_are_named_alike_are_told_apart_by_their_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_webcam(path: str, *, ours: Collection[str]) -> Webcam:
        return Webcam(Steps(), "0001")

    async def play() -> None:
        async with theatre() as t:
            for port in ("1-4", "/dev/v4l/by-path/pci-usb-0:3:1.0"):
                session = t.manager.arrive(port, 0, CameraVisitor("/dev/video2"))
                assert session is not None
                await t.until(lambda session=session: session.state is SessionState.READY, "ready")  # type: ignore[misc]
            keys = [session.identity.key for session in t.manager.sessions if session.identity]
            assert keys == ["fake/camera/0001", "fake/camera/0001@pci-usb-0:3:1.0"]

    monkeypatch.setattr(V4L2Source, "open", open_webcam)
    asyncio.run(play())
