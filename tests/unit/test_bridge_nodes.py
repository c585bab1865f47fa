# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing a node: what becomes of the camera that the service before has left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest

from maglens_driver.errors import WrongState
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_v4l2 import canonical, kernel_abi, kernel_node, nodes
from maglens_v4l2.node_kind import NodeKind

MODE = make_mode(NV12, 1280, 720, Fraction(1, 30))


@dataclass
class Usage:
    openers: int


class Kept:
    """Stands in for ``KernelNode``, which needs the kernel's module: made for one list of formats and one name."""

    path = "/dev/video7"
    formats: Sequence[Mode] = canonical.formats(MODE, False)
    openers = 0
    broken = False

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def adopt_fd(cls, fd: int) -> Kept:
        if cls.broken:
            raise WrongState("of no use")
        return cls(fd)

    def is_like(self, formats: Sequence[Mode], name: str) -> bool:
        return formats == self.formats and name == "maglens"

    def state(self) -> Usage:
        return Usage(self.openers)

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> type[Kept]:
    class Fresh(Kept):
        """Of this test's own."""

    monkeypatch.setattr(nodes, "KernelNode", Fresh)
    return Fresh


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    if is_open(fd):
        os.close(fd)


def test_a_kept_camera_is_adopted(kept: type[Kept], fd: int) -> None:
    assert nodes.adopt_node(fd, NodeKind.AUTO, MODE).path == kept.path
    assert is_open(fd)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("mode", "name"), [(make_mode(NV12, 640, 480, Fraction(1, 30)), "maglens"), (MODE, "other")])
def test_one_that_is_configured_otherwise_now_goes(fd: int, mode: Mode, name: str) -> None:
    with pytest.raises(WrongState, match="/dev/video7 is not what is configured now"):
        nodes.adopt_node(fd, NodeKind.KERNEL, mode, name=name)
    assert not is_open(fd)


def test_but_not_while_an_app_has_it_open(kept: type[Kept], fd: int, caplog: pytest.LogCaptureFixture) -> None:
    kept.openers = 1
    nodes.adopt_node(fd, NodeKind.AUTO, MODE, name="other")
    assert is_open(fd)
    assert "stays as it was made" in caplog.text


def test_one_of_no_use_is_closed(kept: type[Kept], fd: int) -> None:
    kept.broken = True
    with pytest.raises(WrongState, match="of no use"):
        nodes.adopt_node(fd, NodeKind.AUTO, MODE)
    assert not is_open(fd)


@pytest.mark.usefixtures("kept")
def test_v4l2loopback_takes_no_camera_of_the_kernels(fd: int) -> None:
    with pytest.raises(WrongState, match="v4l2loopback is configured"):
        nodes.adopt_node(fd, NodeKind.LOOPBACK, MODE)
    assert not is_open(fd)


def test_the_kernel_gets_an_id_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name: a second node's has a space (maglens_id_ok in maglens-main.c)."""
    asked: list[kernel_abi.Create] = []

    def ioctl(fd: int, request: int, create: kernel_abi.Create) -> None:
        asked.append(create)
        raise OSError("enough")

    monkeypatch.setattr(kernel_node, "_open_device", lambda: os.open(os.devnull, os.O_RDWR))
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="enough"):
        nodes.open_node(NodeKind.KERNEL, MODE, name="maglens für vorn")
    (create,) = asked
    assert create.camera_id == b"maglens-f-r-vorn"
    assert create.card.decode() == "maglens für vorn"
