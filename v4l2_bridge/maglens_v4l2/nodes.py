# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing the node: the kernel's own where it is there, else v4l2loopback."""

from __future__ import annotations

import logging

from maglens_driver.errors import MissingDependency
from maglens_driver.mode import Mode
from maglens_driver.names import NODE_CARD_NAME
from maglens_v4l2 import canonical
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.loopback_node import LoopbackNode
from maglens_v4l2.node import Node
from maglens_v4l2.node_kind import NodeKind

log = logging.getLogger(__name__)


def open_node(
    kind: NodeKind, mode: Mode, kept_fd: int | None = None, *, name: str = NODE_CARD_NAME, mjpeg: bool = False
) -> Node:
    """The node that apps will open, and list under ``name``. ``mode`` is its format where that is fixed, else apps'
    first choice.

    ``kept_fd`` is the descriptor of a kernel node that a process before left behind; it is adopted and belongs to
    the node from then on. ``mjpeg``: it also offers that, where its formats are not fixed. Raises
    ``MissingDependency`` with the command that brings what is missing, ``WrongState`` when another program feeds the
    device.
    """
    if kept_fd is not None and kind is not NodeKind.LOOPBACK:
        return KernelNode.adopt_fd(kept_fd)
    formats = canonical.formats(mode, mjpeg)
    if kind is NodeKind.KERNEL:
        return KernelNode.create(mode, name, camera_id=name, formats=formats)
    if kind is NodeKind.LOOPBACK:
        return LoopbackNode.create(mode, name)
    try:
        return KernelNode.create(mode, name, camera_id=name, formats=formats)
    except MissingDependency as error:
        log.info("%s; looking for v4l2loopback", error)
    return LoopbackNode.create(mode, name)
