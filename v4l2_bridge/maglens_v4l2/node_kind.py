# SPDX-License-Identifier: GPL-2.0-or-later
"""Node kind: which kind of node a configuration may ask for."""

from __future__ import annotations

import enum


class NodeKind(enum.Enum):
    """``AUTO`` takes the best there is."""

    AUTO = "auto"
    KERNEL = "maglens"
    LOOPBACK = "v4l2loopback"
