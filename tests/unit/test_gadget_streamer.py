# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames leave as leader, payload and trailer, at the link's pace, can be cut short, and go wrong as asked.

A sequenced-packet socket stands for the endpoint: each write is a message, and writes block when nobody reads.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from crc32c import crc32c

from maglens_driver.errors import BadModule
from maglens_driver.frame import Frame, Meta
from maglens_driver.gadget import writer
from maglens_driver.gadget.clock import ModuleClock
from maglens_driver.gadget.events import MAX_WAITING, Events
from maglens_driver.gadget.faults import FOREVER, Fault, Faults
from maglens_driver.gadget.mutation import mutate
from maglens_driver.gadget.pace import Pace
from maglens_driver.gadget.stay import Stay
from maglens_driver.gadget.streamer import BUFFERS, CHUNK_BYTES, Streamer
from maglens_driver.gadget.writer import Interrupted, Writer
from maglens_driver.link import wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.wire import EventKind, Leader, Trailer
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_driver.virtual.lens import load_lens

MODE = make_mode(NV12, 640, 480, Fraction(1, 30))
FAST = 1_000_000  # Mbit/s: no pacing to speak of
WAIT_S = 10.0


@dataclass
class Rig:
    """A streamer with its thread, and the host's end of its endpoint."""

    link_mbit_s: int = FAST
    faults: Faults = field(default_factory=Faults)
    stay: Stay = field(default_factory=lambda: Stay(1))
    halted: int = 0  # how often it was tried
    full: int = 0  # so often the controller has bytes that the host has not taken

    def __post_init__(self) -> None:
        self.host, self._module = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._module.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK_BYTES)
        self.host.settimeout(WAIT_S)
        self.clock = ModuleClock()
        self.writer = Writer(self._module.fileno())
        self.it = Streamer(self.writer, self.clock, self.faults, self.stay, self._halt)
        self.it.link_mbit_s = self.link_mbit_s
        self._thread = threading.Thread(target=self.it.run)
        self._thread.start()

    def _halt(self) -> bool:
        self.halted += 1
        if self.halted <= self.full:
            return False
        self.host.shutdown(socket.SHUT_RD)
        return True

    def deliver(self, seq: int, mode: Mode = MODE, byte: int = 7) -> None:
        lease = self.it.lease(mode.nbytes)
        assert lease is not None
        lease.view[: mode.nbytes] = bytes([byte]) * mode.nbytes
        meta = Meta(10_000, 1000, 1400, 50, 35_000, 5600, 501_500)
        self.it.deliver(Frame(lease, mode.nbytes, mode, seq, time.monotonic_ns(), 1, meta))

    def message(self) -> bytes:
        return self.host.recv(2 * CHUNK_BYTES)

    def frame(self, nbytes: int = MODE.nbytes) -> tuple[Leader, bytes, Trailer]:
        leader = wire.open_leader(self.message())
        payload = b""
        while len(payload) < nbytes:
            payload += self.message()
        if nbytes % 1024 == 0:
            assert self.message() == b""
        return leader, payload, wire.open_trailer(self.message())

    def close(self) -> None:
        self.it.end()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self.host.close()
        self._module.close()


@pytest.fixture(autouse=True)
def harmless_signal() -> None:
    writer.install()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_a_frame_is_leader_payload_trailer(rig: Rig) -> None:
    rig.it.start(epoch=5)
    rig.deliver(seq=100)
    leader, payload, trailer = rig.frame()
    assert (leader.epoch, leader.frame_id, leader.payload_bytes) == (5, 0, MODE.nbytes)
    assert (leader.width, leader.height, leader.stride, leader.fourcc) == (640, 480, 640, NV12)
    assert (leader.exposure_us, leader.fnumber_milli, leader.focus_cdpt) == (10_000, 1400, 50)
    assert leader.focus_udpt == 501_500
    assert payload == b"\7" * MODE.nbytes
    assert (trailer.frame_id, trailer.payload_crc32c) == (0, crc32c(payload))
    rig.deliver(seq=103)
    assert rig.frame()[0].frame_id == 3


def test_no_empty_packet_behind_a_short_one(rig: Rig) -> None:
    mode = make_mode(NV12, 642, 480, Fraction(1, 30))
    assert mode.nbytes % 1024
    rig.it.start(1)
    rig.deliver(0, mode)
    assert len(rig.frame(mode.nbytes)[1]) == mode.nbytes


def test_pieces_are_whole_packets(rig: Rig) -> None:
    mode = make_mode(NV12, 1280, 720, Fraction(1, 30))
    rig.it.start(1)
    rig.deliver(0, mode)
    rig.message()
    sizes: list[int] = []
    while sum(sizes) < mode.nbytes:
        sizes.append(len(rig.message()))
    assert max(sizes) <= CHUNK_BYTES
    assert all(size % 1024 == 0 for size in sizes[:-1])


def test_what_waits_while_off_is_not_sent(rig: Rig) -> None:
    rig.deliver(seq=1, byte=1)
    rig.it.start(1)
    rig.deliver(seq=2, byte=2)
    assert rig.frame()[1][:1] == b"\2"


def test_all_buffers_come_back(rig: Rig) -> None:
    rig.it.start(1)
    for seq in range(3 * BUFFERS):
        rig.deliver(seq)
        rig.frame()
        # The trailer is out before the buffer is back: its return is what the next lease waits for.
        assert wait_until(lambda: rig.stay.frames_sent == seq + 1)  # noqa: B023
    rig.it.stop()
    leases = [rig.it.lease(MODE.nbytes) for _ in range(BUFFERS + 1)]
    assert [lease is not None for lease in leases] == [True] * BUFFERS + [False]
    for lease in leases:
        if lease is not None:
            lease.release()
            lease.release()
    assert rig.it.lease(MODE.nbytes) is not None


def wait_until(true: object) -> bool:
    end = time.monotonic() + WAIT_S
    tick = threading.Event()
    assert callable(true)
    while not true():
        if time.monotonic() > end:
            return False
        tick.wait(0.002)
    return True


def test_flush_cuts_a_frame_and_goes_on_under_the_new_epoch(rig: Rig) -> None:
    mode = make_mode(NV12, 1920, 1080, Fraction(1, 30))
    rig.it.start(1)
    rig.deliver(0, mode)
    assert wire.open_leader(rig.message()).epoch == 1
    rig.message()  # the rest fills the socket: the thread hangs in a write
    before = time.monotonic()
    rig.it.flush(2)
    assert time.monotonic() - before < WAIT_S / 2
    rig.deliver(1, mode)
    while (message := rig.message())[:4] != b"MLLD":
        pass
    leader = wire.open_leader(message)
    assert (leader.epoch, leader.frame_id) == (2, 1)
    assert rig.stay.frames_cut == 1


def test_stop_ends_a_write_that_nobody_reads(rig: Rig) -> None:
    rig.it.start(1)
    mode = make_mode(NV12, 1920, 1080, Fraction(1, 30))
    rig.deliver(0, mode)
    rig.message()
    rig.it.stop()
    assert rig.stay.frames_sent == 0
    rig.it.start(3)
    rig.deliver(9)
    while (message := rig.message())[:4] != b"MLLD":
        pass
    assert wire.open_leader(message).frame_id == 0


def test_a_frame_whose_rest_is_kept_back_can_be_cut_there(rig: Rig) -> None:
    rig.it.start(1)
    rig.deliver(0)
    rig.frame()
    with ThreadPoolExecutor() as pool:
        kept = pool.submit(rig.it.keep_rest, WAIT_S)
        assert wait_until(lambda: rig.it._keep is not None)
        rig.deliver(1)
        wire.open_leader(rig.message())
        assert len(rig.message()) == CHUNK_BYTES < MODE.nbytes
        assert kept.result(WAIT_S) == 1
    rig.it.stop()
    assert (rig.stay.frames_sent, rig.stay.frames_cut, rig.stay.last_number) == (1, 1, 0)
    rig.it.start(2)
    rig.deliver(2)
    assert rig.frame()[0].frame_id == 0
    assert wait_until(lambda: rig.stay.frames_sent == 2)


def test_without_a_frame_there_is_no_rest_to_keep_back(rig: Rig) -> None:
    rig.it.start(1)
    with pytest.raises(TimeoutError):
        rig.it.keep_rest(0.01)
    rig.deliver(0)
    rig.frame()
    assert wait_until(lambda: rig.stay.frames_sent == 1)


def test_the_link_sets_the_pace() -> None:
    rig = Rig(link_mbit_s=40)  # 460,800 bytes take 92 ms
    rig.it.start(1)
    before = time.monotonic()
    rig.deliver(0)
    rig.frame()
    took = time.monotonic() - before
    rig.close()
    assert took >= MODE.nbytes * 8 / 40e6


def test_pace_spreads_bytes_and_forgets_idle_time() -> None:
    pace = Pace(8)  # a byte per microsecond
    assert pace.send(1000, 0) == 1_000_000
    assert pace.send(1000, 0) == 2_000_000
    assert pace.send(1000, 10_000_000) == 11_000_000


def test_clock_starts_anywhere_and_drifts() -> None:
    clock, other = ModuleClock(), ModuleClock()
    base = time.monotonic_ns() + 1_000_000_000
    assert clock.at(base) != other.at(base)
    assert clock.at(base + 1_000_000_000) - clock.at(base) == 1_000_050_000
    assert clock.now() <= clock.now()


# fault -> the cause under which a check of the message finds it
BROKEN_LEADERS = {
    Fault.LEADER_MAGIC: "leader_magic",
    Fault.LEADER_CRC: "leader_crc",
    Fault.LEADER_SHORT: "leader_length",
}


@pytest.mark.parametrize("fault", BROKEN_LEADERS)
def test_broken_leaders(rig: Rig, fault: Fault) -> None:
    rig.faults.ask(fault)
    rig.it.start(1)
    rig.deliver(0)
    with pytest.raises(BadModule) as caught:
        wire.open_leader(rig.message())
    assert caught.value.cause == BROKEN_LEADERS[fault]


def test_lying_leaders(rig: Rig) -> None:
    rig.it.start(1)
    lies = []
    faults = (Fault.LEADER_EPOCH, Fault.LEADER_GEOMETRY, Fault.LEADER_LENGTH, Fault.ID_BACK)
    for seq, fault in enumerate(faults, start=10):
        rig.faults.ask(fault)
        rig.deliver(seq)
        lies.append(rig.frame()[0])
        assert wait_until(lambda: rig.stay.frames_damaged == len(lies))
    assert lies[0].epoch == 8
    assert lies[1].width == 642
    assert lies[2].payload_bytes == MODE.nbytes + 4096
    assert lies[3].frame_id == 0
    rig.deliver(14)
    assert rig.frame()[0].frame_id == 4
    assert wait_until(lambda: rig.stay.runs == [[14, 14]])


def test_wrong_lengths(rig: Rig) -> None:
    rig.it.start(1)
    for fault, nbytes in ((Fault.PAYLOAD_SHORT, MODE.nbytes - 10_000), (Fault.PAYLOAD_LONG, MODE.nbytes + 10_000)):
        rig.faults.ask(fault)
        rig.deliver(0)
        leader, payload, _ = rig.frame(nbytes)
        assert (leader.payload_bytes, len(payload)) == (MODE.nbytes, nbytes)


def test_wrong_payload_and_trailers(rig: Rig) -> None:
    rig.it.start(1)
    rig.faults.ask(Fault.PAYLOAD_CRC)
    rig.deliver(0)
    _, payload, trailer = rig.frame()
    assert crc32c(payload) != trailer.payload_crc32c
    rig.faults.ask(Fault.TRAILER_INCOMPLETE)
    rig.deliver(1)
    assert rig.frame()[2].flags == wire.TrailerFlag.INCOMPLETE
    rig.faults.ask(Fault.TRAILER_CRC)
    rig.deliver(2)
    with pytest.raises(BadModule, match="CRC"):
        rig.frame()
    rig.faults.ask(Fault.TRAILER_MISSING)
    rig.deliver(3)
    rig.message()
    while rig.message():
        pass
    rig.deliver(4)
    assert wire.open_leader(rig.message()).frame_id == 4


def test_faults_come_as_often_as_asked_and_when(rig: Rig) -> None:
    rig.faults.ask(Fault.PAYLOAD_CRC, count=2, skip=1)
    rig.it.start(1)
    good = []
    for seq in range(5):
        rig.deliver(seq)
        _, payload, trailer = rig.frame()
        good.append(crc32c(payload) == trailer.payload_crc32c)
    assert good == [True, False, False, True, True]
    assert rig.faults.committed == {"payload-crc": 2}
    assert rig.faults.active() == {}


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.HANG])
def test_a_stall_lasts_until_cleared_and_can_be_stopped(rig: Rig, fault: Fault) -> None:
    rig.faults.ask(fault)
    assert rig.faults.active()[fault.value] == FOREVER
    rig.it.start(1)
    rig.deliver(0)
    rig.it.stop()
    assert rig.stay.frames_sent == 0
    rig.faults.clear()
    rig.it.start(2)
    rig.deliver(1)
    assert rig.frame()[0].epoch == 2


@pytest.mark.parametrize("full", [0, 3])
def test_a_halt_is_the_endpoints(rig: Rig, full: int) -> None:
    """As soon as the controller is empty."""
    rig.full = full
    rig.faults.ask(Fault.HALT)
    rig.it.start(1)
    rig.deliver(0)
    assert wait_until(lambda: rig.halted == full + 1)
    assert rig.host.recv(1) == b""


def test_a_halt_that_cannot_be_ends_with_the_stream(rig: Rig) -> None:
    rig.full = 1_000_000
    rig.faults.ask(Fault.HALT)
    rig.it.start(1)
    rig.deliver(0)
    assert wait_until(lambda: rig.halted > 2)
    rig.it.stop()
    rig.faults.clear()
    rig.it.start(2)
    rig.deliver(1)
    assert rig.frame()[0].epoch == 2


def test_the_writer_is_cut_however_often(rig: Rig) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cut = Writer(left.fileno())
    ended: list[type[BaseException]] = []

    def fill() -> None:
        try:
            while True:
                cut.write(memoryview(bytearray(4096)))
        except Interrupted:
            ended.append(Interrupted)

    for _ in range(30):
        cut.resume()
        thread = threading.Thread(target=fill)
        thread.start()
        cut.interrupt()
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert ended == [Interrupted] * 30
    left.close()
    right.close()


def test_events_are_numbered_and_the_oldest_go() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    right.settimeout(WAIT_S)
    events = Events(Writer(left.fileno()), ModuleClock(), Faults())
    thread = threading.Thread(target=events.run)
    thread.start()
    for value in range(MAX_WAITING + 6):
        events.push(EventKind.CONTROL, 0x9A090A, value)
    events.enable()
    seen = [wire.open_event(right.recv(64)) for _ in range(MAX_WAITING)]
    assert [e.seq for e in seen] == list(range(7, MAX_WAITING + 7))
    assert seen[-1].value == MAX_WAITING + 5
    events.push(EventKind.FAULT, 1, -1 << 40)
    assert wire.open_event(right.recv(64)).value == -(1 << 31)
    events.end()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    left.close()
    right.close()


MUTATIONS = {
    Fault.DESCRIPTOR_LONG: "descriptor_length",
    Fault.DESCRIPTOR_TRUNCATED: "descriptor_truncated",
    Fault.DESCRIPTOR_ORDER: "descriptor_deterministic",
    Fault.DESCRIPTOR_DUPLICATE: "descriptor_deterministic",
    Fault.DESCRIPTOR_DEPTH: "descriptor_depth",
    Fault.DESCRIPTOR_COUNT: "descriptor_items",
    Fault.DESCRIPTOR_ZERO: "descriptor_field",
    Fault.DESCRIPTOR_HUGE: "descriptor_field",
    Fault.DESCRIPTOR_VERSION: "descriptor_version",
}


@pytest.mark.parametrize("fault", MUTATIONS)
def test_mutated_descriptors_are_wrong_in_the_way_they_say(fault: Fault) -> None:
    raw = load_lens("35mm").descriptor.pack()
    with pytest.raises(BadModule) as caught:
        Descriptor.unpack(mutate(raw, fault))
    assert caught.value.cause == MUTATIONS[fault]


def test_other_faults_do_not_mutate() -> None:
    with pytest.raises(ValueError, match="stall"):
        mutate(load_lens("35mm").descriptor.pack(), Fault.STALL)


def test_a_stay_tells_its_runs() -> None:
    stay = Stay(3)
    assert stay.last_number == -1
    for number in (4, 5, 6, 9):
        stay.sent(number, 1)
    assert stay.as_dict()["runs"] == [[4, 6], [9, 9]]
    assert stay.last_number == 9
