# SPDX-License-Identifier: GPL-2.0-or-later
"""Plan: how frames are cut into transfers, and how many are queued, within the kernel's memory limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import Refused

SMALL_TRANSFER: Final = 1024  # for leader, trailer and tail: a multiple of every packet size, above any structure
PART_BYTES: Final = 4 * 1024 * 1024  # a payload beyond this is read by several transfers
FRAMES: Final = 4  # at most so many frames are queued
QUEUE_BYTES: Final = 16 * 1024 * 1024  # and, unless one transfer takes more, so many bytes
MACHINE_SHARE: Final = 2  # of the machine's limit at most one part in so many, for other devices want some too


@dataclass(frozen=True, slots=True)
class Plan:
    """``fixed``: every payload has exactly ``payload_bytes``, else at most so many.

    ``parts``: lengths of the transfers that fill a payload's buffer. ``frames``: how many frames have transfers.
    ``queue_bytes``: bytes to keep queued.
    """

    payload_bytes: int
    fixed: bool
    parts: tuple[int, ...]
    frames: int
    queue_bytes: int


def plan(payload_bytes: int, max_packet: int, memory: int | None, *, fixed: bool) -> Plan:
    """Cut frames into transfers.

    A transfer has to be a multiple of ``max_packet``, and has to have room for the short or zero-length packet that
    ends a payload, or neither a short nor a long payload would show. A sink's buffer is just as long as the payload,
    so the whole packets of a fixed payload go there (``parts``), and what is left goes into a small *tail* transfer
    and is copied: less than one packet. A payload of varying length ends anywhere, so that is one transfer into a
    buffer of our own, and is copied whole: it is compressed, and small.

    ``memory`` is the machine's limit in bytes, or None. Raises ``Refused("NO_MEM")`` where one transfer is above it.
    """
    if fixed:
        part = PART_BYTES // max_packet * max_packet
        left = payload_bytes // max_packet * max_packet
        parts = [part] * (left // part) + [left % part] * (left % part > 0)
    else:
        parts = [(payload_bytes // max_packet + 1) * max_packet]
    budget = QUEUE_BYTES if memory is None else min(QUEUE_BYTES, memory // MACHINE_SHARE)
    frame = sum(parts) + 3 * SMALL_TRANSFER
    frames = max(2, min(FRAMES, budget // frame))
    least = max(parts, default=0) + SMALL_TRANSFER
    if memory is not None and least > memory:
        need = -(-2 * least // (1024 * 1024))
        raise Refused(
            "NO_MEM",
            f"a transfer of {least} bytes is above the kernel's limit of {memory} for USB transfers",
            hint=f"echo {need} | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb",
        )
    return Plan(payload_bytes, fixed, tuple(parts), frames, max(budget, least))
