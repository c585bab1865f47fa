# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing a node: what becomes of the camera that the service before has left."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest

from maglens_driver.errors import MissingDependency, WrongState
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_v4l2 import canonical, kernel_abi, kernel_node, nodes
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.node_kind import NodeKind

MODE = make_mode(NV12, 1280, 720, Fraction(1, 30))
FORMATS = canonical.formats(MODE, mjpeg=True)


class Kernel:
    """Stands in for maglens.ko: remembers the camera that is made, and tells of it."""

    def __init__(self) -> None:
        self.camera: kernel_abi.Create | None = None
        self.formats = self.controls = b""
        self.openers = 0
        self.most_slots = kernel_node.SLOTS  # that there is memory for

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> None:
        if isinstance(argument, kernel_abi.Create):
            if argument.n_slots > self.most_slots:
                raise OSError(errno.ENOMEM, "no memory")
            self.camera = kernel_abi.Create.from_buffer_copy(argument)
            size_f, size_c = ctypes.sizeof(kernel_abi.Format), ctypes.sizeof(kernel_abi.Control)
            self.formats = ctypes.string_at(argument.formats, argument.n_formats * size_f)
            self.controls = ctypes.string_at(argument.controls, argument.n_controls * size_c)
            return
        assert isinstance(argument, kernel_abi.State)
        if self.camera is None:
            raise OSError(errno.ENODEV, "no camera was made")
        ctypes.memmove(argument.formats, self.formats, len(self.formats))
        ctypes.memmove(argument.controls, self.controls, len(self.controls))
        for field in ("abi_version", "card", "camera_id", "n_slots", "n_formats", "n_controls"):
            setattr(argument, field, getattr(self.camera, field))
        argument.video_nr, argument.openers = 7, self.openers
        argument.slot_size, argument.ring_size = 4096, argument.n_slots * 4096
        argument.held_slot = argument.n_slots
        argument.interval = kernel_abi.Format.from_buffer_copy(self.formats).intervals[0]


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(kernel_node, "_open_device", lambda: os.open(os.devnull, os.O_RDWR))
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    return made


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.fixture
def fd(kernel: Kernel) -> Iterator[int]:
    """The descriptor of a camera that the service before has made."""
    node = nodes.open_node(NodeKind.KERNEL, FORMATS)
    assert isinstance(node, KernelNode)
    fd = os.dup(node.fileno())
    node.close()
    yield fd
    if is_open(fd):
        os.close(fd)


def test_a_kept_camera_is_adopted(fd: int) -> None:
    assert nodes.adopt_node(fd, NodeKind.AUTO, FORMATS).path == "/dev/video7"
    assert is_open(fd)


@pytest.mark.parametrize(
    ("formats", "name"),
    [
        (canonical.formats(make_mode(NV12, 640, 480, Fraction(1, 30)), True), "maglens"),
        (canonical.formats(make_mode(NV12, 1280, 720, Fraction(1, 12)), True), "maglens"),
        (FORMATS, "other"),
        (canonical.formats(MODE, False), "maglens"),
        (canonical.formats(MODE, True, 3840 * 2160), "maglens"),
    ],
)
def test_one_that_is_configured_otherwise_now_goes(fd: int, formats: Sequence[Mode], name: str) -> None:
    with pytest.raises(WrongState, match="/dev/video7 is not what is configured now"):
        nodes.adopt_node(fd, NodeKind.KERNEL, formats, name=name)
    assert not is_open(fd)


def test_so_does_one_with_the_controls_of_another_version(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "CONTROLS", canonical.CONTROLS[1:])
    with pytest.raises(WrongState, match="is not what is configured now"):
        nodes.adopt_node(fd, NodeKind.KERNEL, FORMATS)
    assert not is_open(fd)


def test_but_not_while_an_app_has_it_open(kernel: Kernel, fd: int, caplog: pytest.LogCaptureFixture) -> None:
    kernel.openers = 1
    nodes.adopt_node(fd, NodeKind.AUTO, FORMATS, name="other")
    assert is_open(fd)
    assert "stays as it was made" in caplog.text


def test_one_of_no_use_is_closed(kernel: Kernel, fd: int) -> None:
    kernel.camera = None
    with pytest.raises(WrongState, match="of no use"):
        nodes.adopt_node(fd, NodeKind.AUTO, FORMATS)
    assert not is_open(fd)


def test_v4l2loopback_takes_no_camera_of_the_kernels(fd: int) -> None:
    with pytest.raises(WrongState, match="v4l2loopback is configured"):
        nodes.adopt_node(fd, NodeKind.LOOPBACK, FORMATS)
    assert not is_open(fd)


def test_the_kernel_gets_an_id_that_it_takes(kernel: Kernel) -> None:
    """Whatever its name: a second node's has a space (maglens_id_ok in maglens-main.c)."""
    nodes.open_node(NodeKind.KERNEL, FORMATS, name="maglens für vorn").close()
    assert kernel.camera is not None
    assert kernel.camera.camera_id == b"maglens-f-r-vorn"
    assert kernel.camera.card.decode() == "maglens für vorn"


def test_the_kernel_is_asked_for_as_many_slots_as_it_can_give(kernel: Kernel) -> None:
    nodes.open_node(NodeKind.KERNEL, canonical.formats(make_mode(NV12, 11648, 8736, Fraction(1, 30)))).close()
    assert kernel.camera is not None
    assert kernel.camera.n_slots == 5


def test_where_memory_is_short_the_ring_is(kernel: Kernel) -> None:
    kernel.most_slots = kernel_node.SLOTS_LEAST
    nodes.open_node(NodeKind.KERNEL, FORMATS).close()
    assert kernel.camera is not None
    assert kernel.camera.n_slots == kernel_node.SLOTS_LEAST


def test_without_memory_smaller_pictures_are_proposed(kernel: Kernel) -> None:
    kernel.most_slots = 0
    with pytest.raises(MissingDependency, match="no memory for pictures of 1920x1080") as caught:
        nodes.open_node(NodeKind.KERNEL, FORMATS)
    assert "width and height" in caught.value.hint
