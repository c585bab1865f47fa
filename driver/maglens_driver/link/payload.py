# SPDX-License-Identifier: MIT
"""Payload: what a USB link carries of its signalling rate."""

from __future__ import annotations

from typing import Final

EFFICIENCY: Final = 0.8  # of the signalling rate; 8b/10b coding alone takes a fifth


def usable_mbit(signalling_mbit: int) -> int:
    """Mbit/s of payload on a link of that signalling rate."""
    return int(signalling_mbit * EFFICIENCY)
