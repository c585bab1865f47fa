# SPDX-License-Identifier: GPL-2.0-or-later
"""Plan: how frames are cut into transfers, and how many are queued, within the kernel's memory limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import Refused

STRUCTURE_TRANSFER: Final = 1024  # a leader's or trailer's: a multiple of every bulk packet size, above any structure
PART_BYTES: Final = 4 * 1024 * 1024  # a payload beyond this is read by several transfers
FRAMES: Final = 4  # at most so many frames are queued
QUEUE_BYTES: Final = 16 * 1024 * 1024  # and, unless one frame takes more, so many bytes
MACHINE_SHARE: Final = 2  # of the machine's limit at most one part in so many, for other devices want some too


@dataclass(frozen=True, slots=True)
class Plan:
    """``parts``: length of each payload transfer, all but the last filled entirely. ``frames``: how many frames have
    transfers. ``queue_bytes``: bytes to keep queued."""

    parts: tuple[int, ...]
    frames: int
    queue_bytes: int

    @property
    def payload_bytes(self) -> int:
        """Bytes that a frame's buffer must hold: the largest payload and the packet that ends it."""
        return sum(self.parts)


def plan(payload_bytes: int, max_packet: int, memory: int | None, *, fixed: bool) -> Plan:
    """Cut frames of ``payload_bytes`` (``fixed``: always exactly that many; else at most).

    The last transfer reaches to the next multiple of ``max_packet`` strictly above the payload: the short or
    zero-length packet behind it then always ends the transfer, and a longer payload shows as a longer one. A payload
    of varying length ends anywhere, so that must be one transfer. ``memory`` is the machine's limit in bytes or None.
    Raises ``Refused("NO_MEM")`` where not even one transfer fits it.
    """
    last = (payload_bytes // max_packet + 1) * max_packet
    parts = [last]
    if fixed:
        part = PART_BYTES // max_packet * max_packet
        while parts[-1] > part:
            parts[-1:] = [part, parts[-1] - part]
    budget = QUEUE_BYTES if memory is None else min(QUEUE_BYTES, memory // MACHINE_SHARE)
    frame = sum(parts) + 2 * STRUCTURE_TRANSFER
    frames = max(2, min(FRAMES, budget // frame))
    # A transfer that the plan puts beyond its share may still fit the machine's limit; beyond that nothing helps.
    least = max(parts) + STRUCTURE_TRANSFER
    if memory is not None and least > memory:
        need = -(-2 * least // (1024 * 1024))
        raise Refused(
            "NO_MEM",
            f"a transfer of {least} bytes is above the kernel's limit of {memory} for USB transfers",
            hint=f"echo {need} | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb",
        )
    return Plan(tuple(parts), frames, max(budget, least))
