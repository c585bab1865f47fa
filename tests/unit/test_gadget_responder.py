# SPDX-License-Identifier: GPL-2.0-or-later
"""The module's side of the control requests: every request in every state, every precondition in its order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from crc32c import crc32c

from maglens_driver.control import Cid
from maglens_driver.errors import BadModule
from maglens_driver.gadget import responder as responder_module
from maglens_driver.gadget.power import Sink, SinkState
from maglens_driver.gadget.responder import LEGAL, Responder
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo, source_capabilities
from maglens_driver.link.wire import ModuleState, Op, Status
from maglens_driver.mode import MJPG, NV12, YUYV, Mode
from maglens_driver.virtual.lens import load_lens

MODULE = load_lens("35mm").with_serial("1").descriptor
S = ModuleState
TAG = 77


@dataclass
class Works:
    """Writes down what it is told."""

    done: list[tuple[str, object]] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=lambda: {Cid.FOCUS_ABSOLUTE: 50, Cid.GAIN: 1000})
    breaks: bool = False

    def module_time(self) -> int:
        return 123_456_789

    def configure(self, mode: Mode) -> None:
        if self.breaks:
            raise RuntimeError("the motor is stuck")
        self.done.append(("configure", mode))

    def start(self, epoch: int) -> None:
        self.done.append(("start", epoch))

    def stop(self) -> None:
        if self.breaks:
            raise RuntimeError("the motor is stuck")
        self.done.append(("stop", None))

    def flush(self, epoch: int) -> None:
        self.done.append(("flush", epoch))

    def controls(self) -> Mapping[int, int]:
        if self.breaks:
            raise RuntimeError("the motor is stuck")
        return dict(self.values)

    def set_controls(self, values: Mapping[int, int]) -> Mapping[int, int]:
        clamped = {i: min(v, 400) for i, v in values.items()}
        self.values.update(clamped)
        return clamped


class Bench:
    """A responder in a state."""

    def __init__(self, state: ModuleState = S.IDLE, mw: int = 5000, link: int = 4000, wish: int = 3000) -> None:
        self.works = Works()
        self.sink = Sink(wish, 1000)
        self.numbers = itertools.count()
        if mw > 2500:
            self.agree(FixedPdo(5000, mw // 5))
        self.it = Responder(MODULE.pack(), MODULE.modes, self.sink, self.works, link_mbit_s=link)
        match state:
            case S.CONFIGURED:
                self.ask(Op.CONFIGURE, configure(0))
            case S.STREAMING:
                self.ask(Op.CONFIGURE, configure(0))
                self.ask(Op.START, wire.Epoch(1).pack())
            case S.STANDBY:
                self.ask(Op.STANDBY)
            case S.FAULT:
                self.works.breaks = True
                self.ask(Op.CONFIGURE, configure(0))
            case S.IDLE:
                pass
        assert self.it.state is state
        self.works.done.clear()

    def number(self) -> int:
        """Of the host's next power message."""
        return next(self.numbers) % 8

    def agree(self, *offers: FixedPdo) -> PdMessage:
        self.sink.receive(source_capabilities(offers, self.number()))
        request = self.sink.take()
        assert request is not None
        assert self.sink.receive(PdMessage(PdType.ACCEPT, self.number()))
        assert self.sink.receive(PdMessage(PdType.PS_RDY, self.number()))
        return request

    def raw(self, request: int, payload: bytes, tag: int = TAG) -> tuple[Status, bytes]:
        self.it.write(request, payload)
        head, body = wire.open_payload(self.it.read(Op.RESULT, tag))
        assert head.tag == tag
        return Status(head.code), body

    def ask(self, op: Op, body: bytes = b"", tag: int = TAG) -> tuple[Status, bytes]:
        return self.raw(op, wire.pack_request(op, tag, body), tag)

    def get(self, op: int, value: int = 0) -> tuple[Status, bytes]:
        head, body = wire.open_payload(self.it.read(op, value))
        return Status(head.code), body


def configure(index: int, flags: int = 0, mode: Mode | None = None) -> bytes:
    m = mode or MODULE.modes[index]
    return wire.Configure(
        index, flags, m.fourcc, m.width, m.height, m.interval.numerator, m.interval.denominator
    ).pack()


def index_of(code: int, width: int, rate: int) -> int:
    return next(
        i for i, m in enumerate(MODULE.modes) if (m.fourcc, m.width, m.interval.denominator) == (code, width, rate)
    )


BODIES = {
    Op.CONFIGURE: configure(0),
    Op.START: wire.Epoch(9).pack(),
    Op.FLUSH: wire.Epoch(9).pack(),
    Op.SET_CONTROLS: wire.pack_controls([wire.ControlValue(Cid.GAIN, 0, 300)]),
    Op.POWER_SEND: source_capabilities([FixedPdo(5000, 900)], 3).pack(source=True),
}
AFTER = {Op.CONFIGURE: S.CONFIGURED, Op.START: S.STREAMING, Op.STANDBY: S.STANDBY}
OUT_OPS = [op for op in LEGAL if op not in wire.IN_OPS]


@pytest.mark.parametrize(("op", "state"), list(itertools.product(OUT_OPS, ModuleState)))
def test_every_request_in_every_state(op: Op, state: ModuleState) -> None:
    bench = Bench(state)
    status, _ = bench.ask(op, BODIES.get(op, b""))
    if state in LEGAL[op]:
        assert status is Status.OK
        after = S.CONFIGURED if op is Op.STOP and state is S.STREAMING else AFTER.get(op, state)
        assert bench.it.state is after
    else:
        assert status is (Status.FAULT if state is S.FAULT else Status.WRONG_STATE)
        assert bench.it.state is state
        assert bench.works.done == []


@pytest.mark.parametrize(("op", "state"), list(itertools.product(sorted(wire.IN_OPS), ModuleState)))
def test_every_read_in_every_state(op: Op, state: ModuleState) -> None:
    bench = Bench(state)
    status, body = bench.get(op, TAG if op is Op.RESULT else 0)
    if state not in LEGAL[op]:
        assert (status, body) == (Status.FAULT, b"")
    elif op is Op.POWER_RECEIVE:
        assert status is Status.NONE
    elif op is not Op.RESULT:
        assert status is Status.OK
        assert body


def test_the_states_are_those_of_the_diagram() -> None:
    text = responder_module.__doc__ or ""
    diagram = text[text.index("::") : text.index("Preconditions")]
    assert {s.name for s in ModuleState} <= set(diagram.replace(",", " ").split())


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"", Status.BAD_LENGTH),
        (b"LM\x01", Status.BAD_LENGTH),
        (wire.Header(0x1111, 1, Op.START, 12, TAG).pack() + bytes(4), Status.BAD_MAGIC),
        (wire.Header(0x1111, 2, Op.STOP, 99, TAG).pack(), Status.BAD_MAGIC),
        (wire.Header(wire.CONTROL_MAGIC, 2, Op.START, 12, TAG).pack() + bytes(4), Status.BAD_VERSION),
        (wire.Header(wire.CONTROL_MAGIC, 1, Op.START, 13, TAG).pack() + bytes(4), Status.BAD_LENGTH),
        (wire.Header(wire.CONTROL_MAGIC, 1, Op.STOP, 12, TAG).pack() + bytes(4), Status.UNSUPPORTED),
        (wire.pack_request(Op.START, TAG, bytes(3)), Status.BAD_LENGTH),
        (wire.pack_request(Op.START, TAG, bytes(4)), Status.WRONG_STATE),
    ],
)
def test_preconditions_in_order(payload: bytes, status: Status) -> None:
    bench = Bench(S.STREAMING)
    bench.it.write(Op.START, payload)
    tag = TAG if len(payload) >= 8 else 0
    assert bench.get(Op.RESULT, tag)[0] is status
    assert bench.it.state is S.STREAMING


def test_contract_comes_before_values() -> None:
    dear = index_of(NV12, 1920, 30)
    bench = Bench(mw=2000, link=4000)
    bench.agree(FixedPdo(5000, 300))
    assert bench.ask(Op.CONFIGURE, configure(dear, flags=0x80))[0] is Status.NO_CONTRACT
    bench.agree(FixedPdo(5000, 900))
    assert bench.ask(Op.CONFIGURE, configure(dear, flags=0x80))[0] is Status.INVALID


@pytest.mark.parametrize("op", [*wire.RESERVED_OPS, 0x7F, Op.INFO])
def test_unknown_and_reserved_requests_are_unsupported(op: int) -> None:
    bench = Bench()
    head = wire.Header(wire.CONTROL_MAGIC, 1, op, 8, TAG).pack()
    assert bench.raw(op, head)[0] is Status.UNSUPPORTED
    if op != Op.INFO:
        assert bench.get(op)[0] is Status.UNSUPPORTED


def test_info_and_descriptor_in_blocks() -> None:
    bench = Bench()
    long = MODULE.pack() + bytes(2 * limits.DESCRIPTOR_BLOCK_BYTES)
    bench.it.announce(long)
    info = wire.Info.unpack(bench.get(Op.INFO)[1])
    assert (info.descriptor_bytes, info.descriptor_crc32c, info.state) == (len(long), crc32c(long), S.IDLE)
    blocks = [bench.get(Op.DESCRIPTOR, i)[1] for i in range(3)]
    assert b"".join(blocks) == long
    assert all(len(bench.it.read(Op.DESCRIPTOR, i)) <= limits.MAX_CONTROL_BYTES for i in range(3))
    assert bench.get(Op.DESCRIPTOR, 3)[0] is Status.INVALID
    bench.it.announce(MODULE.pack())
    assert Descriptor.unpack(bench.get(Op.DESCRIPTOR)[1]) == MODULE


def test_boot_ids_differ() -> None:
    assert Bench().it.boot_id != Bench().it.boot_id


def test_results_belong_to_their_tag() -> None:
    bench = Bench()
    bench.ask(Op.STOP, tag=5)
    assert bench.get(Op.RESULT, 5)[0] is Status.OK
    assert bench.get(Op.RESULT, 5)[0] is Status.OK
    assert bench.get(Op.RESULT, 6)[0] is Status.INVALID
    assert wire.open_payload(bench.it.read(Op.RESULT, 6))[0].tag == 6


def test_configure_answers_what_will_be_sent() -> None:
    bench = Bench(link=10_000, wish=5000)  # enough for the dearest
    for index, mode in enumerate(MODULE.modes):
        status, body = bench.ask(Op.CONFIGURE, configure(index))
        answer = wire.Configured.unpack(body)
        assert status is Status.OK
        assert bench.works.done[-1] == ("configure", mode)
        assert (answer.payload_bytes, answer.stride, answer.mw) == (mode.nbytes, mode.stride, mode.mw)


def test_configure_test_only_changes_nothing() -> None:
    bench = Bench()
    assert bench.ask(Op.CONFIGURE, configure(0, wire.ConfigureFlag.TEST_ONLY))[0] is Status.OK
    assert bench.it.state is S.IDLE
    assert bench.works.done == []


def test_configure_takes_the_nearest_and_says_so() -> None:
    bench = Bench()
    mode = MODULE.modes[index_of(NV12, 640, 30)]
    odd = Mode(YUYV, 800, 600, 0, 0, mode.interval)
    status, body = bench.ask(Op.CONFIGURE, configure(0, mode=odd))
    assert status is Status.ADJUSTED
    answer = wire.Configured.unpack(body)
    assert (answer.fourcc, answer.width, answer.interval_denominator) == (YUYV, 640, 30)


def test_configure_stays_within_the_link() -> None:
    bench = Bench(link=384)
    dear = index_of(YUYV, 1280, 30)
    assert MODULE.modes[dear].mbit_s > 384
    status, body = bench.ask(Op.CONFIGURE, configure(dear))
    assert status is Status.ADJUSTED
    assert wire.Configured.unpack(body).mbit_s <= 384
    assert bench.ask(Op.CONFIGURE, configure(index_of(MJPG, 1920, 30)))[0] is Status.OK
    assert Bench(link=1).ask(Op.CONFIGURE, configure(0))[0] is Status.INVALID


@pytest.mark.parametrize(
    "body",
    [
        wire.Configure(99, 0, NV12, 640, 480, 1, 30).pack(),
        wire.Configure(0, 0, NV12, 640, 480, 0, 30).pack(),
        wire.Configure(0, 0, NV12, 640, 480, 1, 0).pack(),
        wire.Configure(0, 2, NV12, 640, 480, 1, 30).pack(),
    ],
)
def test_configure_refuses_nonsense(body: bytes) -> None:
    assert Bench().ask(Op.CONFIGURE, body)[0] is Status.INVALID


def test_controls_are_clamped_and_unknown_ones_named() -> None:
    bench = Bench()
    body = wire.pack_controls(
        [
            wire.ControlValue(Cid.FOCUS_ABSOLUTE, 0, 9999),
            wire.ControlValue(Cid.TEST_PATTERN, 0, 1),
            wire.ControlValue(Cid.GAIN, 0, 300),
        ]
    )
    status, answer = bench.ask(Op.SET_CONTROLS, body)
    assert status is Status.OK
    assert [(e.id, e.status, e.value) for e in wire.open_controls(answer)] == [
        (Cid.FOCUS_ABSOLUTE, Status.ADJUSTED, 400),
        (Cid.TEST_PATTERN, Status.INVALID, 1),
        (Cid.GAIN, Status.OK, 300),
    ]
    assert {e.id: e.value for e in wire.open_controls(bench.get(Op.CONTROLS)[1])} == bench.works.values


def test_a_list_that_is_too_long_or_cut_off() -> None:
    bench = Bench()
    assert bench.ask(Op.SET_CONTROLS, wire.ControlCount(65, 0).pack() + bytes(65 * 16))[0] is Status.INVALID
    assert bench.ask(Op.SET_CONTROLS, wire.ControlCount(2, 0).pack() + bytes(16))[0] is Status.BAD_LENGTH


def test_what_breaks_inside_is_a_fault_that_stays() -> None:
    bench = Bench(S.FAULT)
    assert str(bench.it.fault) == "the motor is stuck"
    bench.it.reset()
    assert bench.it.state is S.FAULT
    assert wire.Info.unpack(bench.get(Op.INFO)[1]).state == S.FAULT


def test_what_breaks_while_it_is_read_is_one_too() -> None:
    bench = Bench()
    bench.works.breaks = True
    assert bench.get(Op.CONTROLS) == (Status.FAULT, b"")
    assert str(bench.it.fault) == "the motor is stuck"
    assert bench.it.state is S.FAULT


def test_a_bus_reset_stops_the_stream_and_keeps_the_contract() -> None:
    bench = Bench(S.STREAMING)
    bench.it.reset()
    assert bench.works.done == [("stop", None)]
    assert bench.it.state is S.IDLE
    assert bench.sink.allowed_mw == 3000


def test_a_stream_that_a_bus_reset_cannot_end_is_a_fault() -> None:
    bench = Bench(S.STREAMING)
    bench.works.breaks = True
    bench.it.reset()
    assert bench.it.state is S.FAULT
    assert str(bench.it.fault) == "the motor is stuck"


def test_a_shrinking_contract_stops_a_dear_stream() -> None:
    bench = Bench(S.CONFIGURED)
    bench.ask(Op.CONFIGURE, configure(index_of(NV12, 1920, 30)))
    bench.ask(Op.START, wire.Epoch(1).pack())
    assert ("start", 1) in bench.works.done
    assert bench.ask(Op.POWER_SEND, PdMessage(PdType.GOTO_MIN, 3).pack(source=True))[0] is Status.OK
    assert bench.it.state is S.IDLE
    assert bench.works.done[-1] == ("stop", None)
    assert bench.ask(Op.CONFIGURE, configure(index_of(NV12, 1920, 30)))[0] is Status.NO_CONTRACT


def test_power_goes_through_the_requests() -> None:
    bench = Bench(mw=2000)
    offers = source_capabilities([FixedPdo(5000, 900), FixedPdo(9000, 2000)], 0)
    assert bench.ask(Op.POWER_SEND, offers.pack(source=True))[0] is Status.OK
    status, body = bench.get(Op.POWER_RECEIVE)
    assert status is Status.OK
    request = PdMessage.unpack(body)
    assert request.type is PdType.REQUEST
    assert Rdo.unpack(request.objects[0]) == Rdo(1, 600, 200, give_back=True)
    assert bench.get(Op.POWER_RECEIVE)[0] is Status.NONE
    assert bench.ask(Op.POWER_SEND, b"\x01")[0] is Status.INVALID
    ready = PdMessage(PdType.PS_RDY, 1).pack(source=True)
    assert bench.ask(Op.POWER_SEND, ready)[0] is Status.WRONG_STATE


class TestSink:
    """The contract alone."""

    def test_before_a_contract_it_lives_on_what_a_port_gives(self) -> None:
        assert Sink(3000, 1000).allowed_mw == 2500

    def test_too_little_is_a_mismatch_and_taken(self) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 400)], 0))
        message = sink.take()
        assert message is not None
        assert Rdo.unpack(message.objects[0]) == Rdo(1, 400, 200, give_back=True, capability_mismatch=True)

    @pytest.mark.parametrize("answer", [PdType.REJECT, PdType.WAIT])
    def test_refused_means_as_before(self, answer: PdType) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        assert sink.receive(PdMessage(answer, 1))
        assert sink.allowed_mw == 2500
        assert not sink.receive(PdMessage(PdType.PS_RDY, 2))

    def test_between_accept_and_ready_the_lesser_counts(self) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        sink.receive(PdMessage(PdType.ACCEPT, 1))
        assert sink.allowed_mw == 2500
        sink.receive(PdMessage(PdType.PS_RDY, 2))
        assert sink.allowed_mw == 3000
        sink.receive(PdMessage(PdType.GOTO_MIN, 3))
        assert sink.allowed_mw == 1000
        sink.receive(PdMessage(PdType.PS_RDY, 4))
        assert sink.allowed_mw == 1000

    def test_soft_reset_ends_the_contract_and_raises_nothing(self) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        assert sink.receive(PdMessage(PdType.SOFT_RESET, 1))
        message = sink.take()
        assert message is not None
        assert (message.type, message.message_id) == (PdType.ACCEPT, 1)
        assert sink.take() is None
        assert sink.allowed_mw == 2500
        sink.receive(source_capabilities([FixedPdo(5000, 300)], 2))
        sink.receive(PdMessage(PdType.ACCEPT, 3))
        sink.receive(PdMessage(PdType.PS_RDY, 4))
        sink.receive(PdMessage(PdType.SOFT_RESET, 5))
        assert (sink.allowed_mw, sink.state) == (1500, SinkState.DEFAULT)

    def test_what_comes_late_is_refused(self) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 3))
        assert not sink.receive(source_capabilities([FixedPdo(5000, 300)], 2))
        assert not sink.receive(PdMessage(PdType.ACCEPT, 3))
        assert sink.receive(PdMessage(PdType.ACCEPT, 5))

    def test_new_offers_replace_a_request_that_was_not_fetched(self) -> None:
        sink = Sink(3000, 1000)
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        sink.receive(source_capabilities([FixedPdo(5000, 300)], 1))
        message = sink.take()
        assert message is not None
        assert Rdo.unpack(message.objects[0]).operating_ma == 300
        assert sink.take() is None

    def test_a_stubborn_sink_draws_on(self) -> None:
        sink = Sink(3000, 1000)
        sink.manners.stubborn = True
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        sink.receive(PdMessage(PdType.ACCEPT, 1))
        sink.receive(PdMessage(PdType.PS_RDY, 2))
        assert sink.receive(PdMessage(PdType.GOTO_MIN, 3))
        sink.receive(PdMessage(PdType.PS_RDY, 4))
        assert sink.allowed_mw == 3000

    def test_a_silent_sink_has_its_answer_and_keeps_it(self) -> None:
        sink = Sink(3000, 1000)
        sink.manners.silent = True
        sink.receive(source_capabilities([FixedPdo(5000, 900)], 0))
        assert not sink.has_message
        assert sink.take() is None
        sink.manners.silent = False
        assert sink.has_message

    def test_other_supplies_are_refused(self) -> None:
        with pytest.raises(BadModule):
            Sink(3000, 1000).receive(PdMessage(PdType.SOURCE_CAPABILITIES, 0, (0xC0000000,)))
