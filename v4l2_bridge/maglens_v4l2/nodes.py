# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing the node: the kernel's own where it is there, else v4l2loopback."""

from __future__ import annotations

import enum

from maglens_driver.mode import Mode
from maglens_v4l2.loopback_node import LoopbackNode
from maglens_v4l2.node import Node


class NodeKind(enum.Enum):
    """Kinds of node a config may ask for."""

    AUTO = "auto"
    LOOPBACK = "v4l2loopback"


def open_node(kind: NodeKind, mode: Mode) -> Node:
    """The node that apps will open, in ``mode`` where its format is fixed. Raises ``MissingDependency`` with the
    command that brings what is missing, ``WrongState`` when another program feeds the device."""
    return LoopbackNode.create(mode)
