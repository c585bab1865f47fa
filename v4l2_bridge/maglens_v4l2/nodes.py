# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing the node: the kernel's own where it is there, else v4l2loopback."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from typing import Final

from maglens_driver.errors import MissingDependency, WrongState
from maglens_driver.mode import Mode
from maglens_driver.names import NODE_CARD_NAME
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.loopback_node import LoopbackNode
from maglens_v4l2.node import Node
from maglens_v4l2.node_kind import NodeKind

log = logging.getLogger(__name__)

_NO_ID: Final = re.compile(r"[^A-Za-z0-9._-]")  # what the kernel module takes in no camera_id


def open_node(kind: NodeKind, formats: Sequence[Mode], *, name: str = NODE_CARD_NAME) -> Node:
    """The node that apps will open, and list under ``name``. ``formats``: what they may choose, or the first of these
    alone where a format is fixed.

    Raises ``MissingDependency`` with the command that brings what is missing, ``WrongState`` when another program
    feeds the device.
    """
    if kind is NodeKind.LOOPBACK:
        return LoopbackNode.create(formats[0], name)
    try:
        return KernelNode.create(formats[0], name, camera_id=_NO_ID.sub("-", name), formats=formats)
    except MissingDependency as error:
        if kind is NodeKind.KERNEL:
            raise
        log.info("%s; looking for v4l2loopback", error)
    return LoopbackNode.create(formats[0], name)


def adopt_node(kept_fd: int, kind: NodeKind, formats: Sequence[Mode], *, name: str = NODE_CARD_NAME) -> KernelNode:
    """The kernel node that a process before left behind, as ``kept_fd``, which is ours from now on.

    Raises ``WrongState``, with ``kept_fd`` closed, where it is of no use, or is not what :func:`open_node` would make
    today and no app has it open: an app's picture goes on before anything else.
    """
    if kind is NodeKind.LOOPBACK:
        os.close(kept_fd)
        raise WrongState("a kernel node was kept, but v4l2loopback is configured")
    try:
        node = KernelNode.adopt_fd(kept_fd)
    except WrongState:
        os.close(kept_fd)
        raise
    if node.is_like(formats, name):
        return node
    if node.state().openers:
        log.warning("%s stays as it was made, while an app has it open; close it and restart the service", node.path)
        return node
    path = node.path
    node.close()
    raise WrongState(f"{path} is not what is configured now")
