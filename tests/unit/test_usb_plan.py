# SPDX-License-Identifier: GPL-2.0-or-later
"""How frames are cut into transfers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_driver.errors import Refused
from maglens_driver.usb.plan import FRAMES, PART_BYTES, QUEUE_BYTES, SMALL_TRANSFER, plan

MIB = 1024 * 1024
PACKETS = st.sampled_from([64, 512, 1024])


@given(st.integers(1, 256 * MIB), PACKETS)
def test_a_fixed_payload_fits_a_buffer_of_just_its_length(nbytes: int, packet: int) -> None:
    made = plan(nbytes, packet, None, fixed=True)
    assert made.payload_bytes == nbytes
    assert 0 <= nbytes - sum(made.parts) < packet <= SMALL_TRANSFER, "the rest goes into the tail"
    assert all(p % packet == 0 and 0 < p <= PART_BYTES for p in made.parts)
    assert 2 <= made.frames <= FRAMES


@given(st.integers(1, 64 * MIB), PACKETS)
def test_a_varying_payload_is_one_transfer_with_room_for_the_packet_that_ends_it(nbytes: int, packet: int) -> None:
    [part] = plan(nbytes, packet, None, fixed=False).parts
    assert nbytes < part <= nbytes + packet and part % packet == 0


@given(st.integers(1, 256 * MIB), st.integers(5 * MIB, 1024 * MIB))
def test_the_queue_keeps_to_its_share_of_the_machine(nbytes: int, memory: int) -> None:
    made = plan(nbytes, 1024, memory, fixed=True)
    assert made.queue_bytes <= max(min(QUEUE_BYTES, memory // 2), max(made.parts, default=0) + SMALL_TRANSFER)
    assert made.queue_bytes <= memory


def test_full_hd_on_a_stock_kernel() -> None:
    nbytes = 1920 * 1080 * 2
    made = plan(nbytes, 1024, 16 * MIB, fixed=True)
    assert (made.parts, made.frames, made.queue_bytes) == ((nbytes,), 2, 8 * MIB)


def test_what_can_never_fit_is_refused_with_the_command() -> None:
    with pytest.raises(Refused) as error:
        plan(20 * MIB, 1024, 16 * MIB, fixed=False)
    assert error.value.status == "NO_MEM"
    assert "echo 41" in error.value.hint and "usbfs_memory_mb" in error.value.hint
    assert plan(20 * MIB, 1024, 16 * MIB, fixed=True).parts[0] == PART_BYTES
