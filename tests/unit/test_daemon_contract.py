# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of the power contract, against the module's own side and against modules that misbehave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.contract import Contract
from maglens_daemon.conversation import agree as talk_of
from maglens_daemon.conversation import blocking, converse
from maglens_daemon.in_process import SinkLink
from maglens_daemon.port import offers
from maglens_daemon.supply import DEFAULT_MW, MAX_REQUESTS, Limit, Send, Supply, SupplyState
from maglens_driver.errors import BadModule, Deadline, Refused, WrongState
from maglens_driver.gadget.power import Sink, SinkState
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo

FIVE_VOLT = (FixedPdo(5000, 900),)


class FakeTime:
    """A clock that only moves when somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses = 0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses += 1


class Scripted:
    """A module that answers what a function says, message by message. None: nothing waits yet."""

    def __init__(self, answer: Callable[[PdMessage], Sequence[PdMessage | None]]) -> None:
        self.sent: list[PdMessage] = []
        self._answer = answer
        self._waiting: deque[PdMessage | None] = deque()
        self._next_id = 0

    def power_send(self, message: PdMessage) -> None:
        self.sent.append(message)
        for answer in self._answer(message):
            if answer is not None:  # every message of a side has the next number
                answer = PdMessage(answer.type, self._next_id, answer.objects)
                self._next_id = (self._next_id + 1) % 8
            self._waiting.append(answer)

    def power_receive(self) -> PdMessage | None:
        return self._waiting.popleft() if self._waiting else None


def request(position: int = 1, operating: int = 500, maximum: int = 500, **flags: bool) -> PdMessage:
    return PdMessage(PdType.REQUEST, 0, (Rdo(position, operating, maximum, **flags).pack(),))


def on_capabilities(*answers: PdMessage | None) -> Scripted:
    return Scripted(lambda message: answers if message.type is PdType.SOURCE_CAPABILITIES else ())


def negotiate(
    link: Scripted | SinkLink,
    offered: Sequence[FixedPdo],
    supply: Supply | None = None,
    limits_set: list[int] | None = None,
) -> Contract:
    time, noted = FakeTime(), limits_set if limits_set is not None else []
    talk = talk_of(link, supply or Supply(), offered, noted.append, clock=time.clock)
    contract = blocking(talk, time.pause)
    assert contract is not None
    return contract


def agree(module: Scripted, offered: Sequence[FixedPdo] = FIVE_VOLT, ceiling_mw: int | None = None) -> Contract:
    supply = Supply()
    supply.ceiling_mw = ceiling_mw
    return negotiate(module, offered, supply)


def test_a_module_that_wants_less_than_is_offered() -> None:
    sink = Sink(want_mw=2500, least_mw=100)
    contract = negotiate(SinkLink(sink), FIVE_VOLT)
    assert contract == Contract(5000, 500, 500, mismatch=False, least_ma=20)
    assert (contract.mw, contract.operating_mw) == (2500, 2500)
    assert sink.state is SinkState.CONTRACT
    assert sink.allowed_mw == 2500


def test_a_module_that_wants_more_says_so_and_gets_what_there_is() -> None:
    sink = Sink(want_mw=9000, least_mw=100)
    contract = negotiate(SinkLink(sink), FIVE_VOLT)
    assert contract.mismatch
    assert contract.operating_ma == 900
    assert sink.allowed_mw == 4500


def test_the_messages_are_those_of_pd_in_order() -> None:
    module = on_capabilities(request())
    agree(module)
    assert [m.type for m in module.sent] == [PdType.SOURCE_CAPABILITIES, PdType.ACCEPT, PdType.PS_RDY]
    assert [m.message_id for m in module.sent] == [0, 1, 2]
    assert module.sent[0].objects == (FIVE_VOLT[0].pack(),)


def test_a_module_that_takes_its_time_is_asked_again() -> None:
    module = on_capabilities(None, None, None, request())
    assert agree(module).operating_ma == 500


def test_silence_ends_at_the_limit() -> None:
    time, supply = FakeTime(), Supply()
    with pytest.raises(Deadline, match="did not answer"):
        blocking(talk_of(on_capabilities(), supply, FIVE_VOLT, clock=time.clock), time.pause)
    assert limits.REPLY_S <= time.now < limits.REPLY_S + 0.05
    assert supply.state is SupplyState.UNSURE


class Talker(Scripted):
    """A module that always has another message: what ``says`` gives, numbered on or all alike."""

    def __init__(self, says: Callable[[], PdMessage], *, alike: bool = False) -> None:
        super().__init__(lambda message: ())
        self.said = 0
        self._says = says
        self._alike = alike

    def power_receive(self) -> PdMessage | None:
        self.said += 1
        message = self._says()
        return PdMessage(message.type, 0 if self._alike else self.said % 8, message.objects)


def accept() -> PdMessage:
    return PdMessage(PdType.ACCEPT, 0)


def get_source_cap() -> PdMessage:
    return PdMessage(PdType.GET_SOURCE_CAP, 0)


@pytest.mark.parametrize(
    ("module", "unsure"),
    [
        (Talker(get_source_cap), False),
        (Talker(accept, alike=True), True),
        (Talker(get_source_cap, alike=True), False),
        (Talker(cycle((request(1, 9990, 9990), request(1, 9990, 9990), get_source_cap())).__next__), False),
        (Talker(request), True),
    ],
    ids=["asks-for-offers", "stale", "stale-offers", "asks-for-too-much-in-between", "no-accept-of-a-reset"],
)
def test_one_that_never_stops_talking_is_left(module: Talker, unsure: bool) -> None:
    """Else the thread of its requests would talk on, with a core to itself, until it is lifted off."""
    supply = Supply()
    if unsure:
        supply.fail()
    with pytest.raises((BadModule, Refused)) as caught:
        blocking(talk_of(module, supply, FIVE_VOLT, clock=lambda: 0.0), lambda seconds: None)
    assert module.said <= 2 * limits.MAX_PD_MESSAGES
    assert not isinstance(caught.value, BadModule) or caught.value.cause == "pd_flood"
    assert supply.contract is None


def test_no_power_no_words() -> None:
    module = on_capabilities()
    with pytest.raises(Refused, match="no power is left") as caught:
        agree(module, ())
    assert "budget_mw" in caught.value.hint
    assert module.sent == []


BAD_REQUESTS = [
    request(position=2),
    request(operating=910, maximum=910),
    request(operating=500, maximum=910),
    request(operating=910, maximum=910, capability_mismatch=True),
    request(operating=910, maximum=100, give_back=True),
]


@pytest.mark.parametrize("bad", BAD_REQUESTS)
def test_what_was_not_offered_is_rejected_and_then_refused(bad: PdMessage) -> None:
    module = Scripted(lambda message: () if message.type in (PdType.ACCEPT, PdType.PS_RDY) else (bad,))
    with pytest.raises(Refused, match="asked 3 times"):
        agree(module)
    assert [m.type for m in module.sent] == [PdType.SOURCE_CAPABILITIES, PdType.REJECT, PdType.REJECT]


def test_after_reject_a_legal_request_is_accepted() -> None:
    replies = {PdType.SOURCE_CAPABILITIES: request(position=3), PdType.REJECT: request()}
    module = Scripted(lambda message: [replies[message.type]] if message.type in replies else [])
    assert agree(module).operating_ma == 500


def test_wait_while_it_is_not_to_be_had() -> None:
    supply = Supply()
    supply.ceiling_mw = 2000

    def answer(message: PdMessage) -> list[PdMessage]:
        if message.type is PdType.WAIT:
            supply.ceiling_mw = 2500
        return [request()] if message.type in (PdType.SOURCE_CAPABILITIES, PdType.WAIT) else []

    module = Scripted(answer)
    assert negotiate(module, FIVE_VOLT, supply).mw == 2500
    assert [m.type for m in module.sent][1] is PdType.WAIT


def test_after_wait_a_silent_module_keeps_what_it_has() -> None:
    sink, supply = Sink(want_mw=4000, least_mw=500), Supply()
    first = negotiate(SinkLink(sink), offers(2000), supply)
    supply.ceiling_mw = 2000
    assert negotiate(SinkLink(sink), offers(4000), supply) == first
    assert supply.state is SupplyState.CONTRACT
    assert sink.allowed_mw == 2000


def test_after_reject_a_silent_module_has_no_contract() -> None:
    module = on_capabilities(request(position=7))
    with pytest.raises(Refused, match="wants nothing"):
        agree(module)


def told(supply: Supply, message: PdMessage, number: int) -> list[PdType]:
    """What the module hears for its message."""
    steps = supply.receive(PdMessage(message.type, number, message.objects))
    return [step.message.type for step in steps if isinstance(step, Send)]


REJECTED, PUT_OFF = request(position=7), request()  # the latter while there is less than was offered


@pytest.mark.parametrize(
    ("before", "last", "answer", "other"),
    [(PUT_OFF, REJECTED, PdType.REJECT, True), (REJECTED, PUT_OFF, PdType.WAIT, False)],
)
def test_what_was_rejected_is_not_what_was_put_off(
    before: PdMessage, last: PdMessage, answer: PdType, other: bool
) -> None:
    supply = Supply()
    supply.ceiling_mw = 2000
    supply.offer(FIVE_VOLT)
    assert told(supply, before, 0) and told(supply, last, 1) == [answer]
    supply.lapse()
    assert supply.has_answered
    assert supply.wants_other == other, "its last word is what counts"
    supply.offer(FIVE_VOLT)
    assert not supply.wants_other, "it has heard other offers since"


def test_one_with_a_contract_wants_nothing_else_whatever_it_asks_for() -> None:
    supply = Supply()
    negotiate(SinkLink(Sink(want_mw=1000, least_mw=500)), offers(4000), supply)
    supply.offer(offers(2000))
    for number in range(1, MAX_REQUESTS):
        assert told(supply, request(position=7), number) == [PdType.REJECT]
    with pytest.raises(Refused, match="that it was not offered"):
        told(supply, request(position=7), MAX_REQUESTS)
    assert supply.contract is not None and supply.state is SupplyState.CONTRACT
    assert not supply.wants_other


def test_offers_are_repeated_on_request() -> None:
    ask = PdMessage(PdType.GET_SOURCE_CAP, 0)
    answers = iter([[ask], [request()]])
    module = Scripted(lambda message: next(answers) if message.type is PdType.SOURCE_CAPABILITIES else [])
    assert agree(module).mw == 2500
    assert [m.type for m in module.sent].count(PdType.SOURCE_CAPABILITIES) == 2


@pytest.mark.parametrize("kind", [PdType.ACCEPT, PdType.PS_RDY, PdType.SOFT_RESET])
def test_a_message_out_of_place_is_the_modules_fault(kind: PdType) -> None:
    with pytest.raises(BadModule) as caught:
        agree(on_capabilities(PdMessage(kind, 0)))
    assert caught.value.cause == "pd_unexpected"


def test_mismatch_may_name_a_wish_beyond_the_offer() -> None:
    contract = agree(on_capabilities(request(operating=900, maximum=1023, capability_mismatch=True)))
    assert (contract.operating_ma, contract.maximum_ma, contract.mismatch) == (900, 900, True)


def test_more_than_it_has_declared_is_rejected() -> None:
    sink, supply = Sink(want_mw=2000, least_mw=500, peak_mw=2500), Supply(declared_mw=2500)
    sink.manners.greedy_mw = 1000
    with pytest.raises(Refused, match="wants nothing"):
        negotiate(SinkLink(sink), FIVE_VOLT, supply)
    assert sink.allowed_mw == DEFAULT_MW


@pytest.mark.parametrize("declared", [2501, 2549, 2550])
def test_a_declaration_is_rounded_up_to_the_steps_of_a_request(declared: int) -> None:
    sink = Sink(want_mw=declared, least_mw=500)
    assert negotiate(SinkLink(sink), FIVE_VOLT, Supply(declared_mw=declared)).operating_ma == 510


@pytest.mark.parametrize(("offered_ma", "burst_mw"), [(900, 2000), (800, 2000), (790, 0)])
def test_bursts_are_kept_ready_where_the_offer_reaches_the_peak(offered_ma: int, burst_mw: int) -> None:
    sink = Sink(want_mw=2000, least_mw=500, peak_mw=4000)
    contract = negotiate(SinkLink(sink), (FixedPdo(5000, offered_ma),), Supply(declared_mw=4000))
    assert contract.burst_mw == burst_mw
    assert sink.burst_mw == 2000 + burst_mw


def test_the_limit_is_raised_before_and_lowered_after() -> None:
    told: list[object] = []
    sink, supply = Sink(want_mw=4000, least_mw=500), Supply()

    class Link(SinkLink):
        def power_send(self, message: PdMessage) -> None:
            told.append(message.type)
            super().power_send(message)

    blocking(talk_of(Link(sink), supply, offers(4000), told.append))
    assert told == [PdType.SOURCE_CAPABILITIES, 4000, PdType.ACCEPT, PdType.PS_RDY, 4000]
    told.clear()
    blocking(converse(Link(sink), supply, supply.squeeze(), told.append))
    assert told == [PdType.GOTO_MIN, PdType.PS_RDY, 500]
    assert (sink.allowed_mw, supply.contract and supply.contract.mw) == (500, 500)
    told.clear()
    blocking(talk_of(Link(sink), supply, offers(1000), told.append))
    assert told == [PdType.SOURCE_CAPABILITIES, 1000, PdType.ACCEPT, PdType.PS_RDY, 1000]


def test_a_module_that_remembers_another_host_is_reset_first() -> None:
    sink = Sink(want_mw=4000, least_mw=500)
    negotiate(SinkLink(sink), offers(4000))
    again = Supply()
    assert negotiate(SinkLink(sink), offers(3000), again).mw == 3000
    assert again.state is SupplyState.CONTRACT


def test_a_contract_that_has_nothing_to_give_is_not_squeezed() -> None:
    supply = Supply()
    with pytest.raises(WrongState):
        supply.squeeze()
    negotiate(SinkLink(Sink(want_mw=1000, least_mw=1000)), offers(4000), supply)
    with pytest.raises(WrongState):
        supply.squeeze()


def test_a_module_may_ask_again_by_itself() -> None:
    sink, supply = Sink(want_mw=1000, least_mw=500), Supply()
    negotiate(SinkLink(sink), offers(4000), supply)
    sink.want_mw = 3000
    sink.ask()
    message = SinkLink(sink).power_receive()
    assert message is not None
    contract = blocking(converse(SinkLink(sink), supply, supply.receive(message)))
    assert contract is not None
    assert (contract.mw, sink.allowed_mw) == (3000, 3000)


def test_what_is_cut_promises_nothing() -> None:
    supply = Supply()
    negotiate(SinkLink(Sink(1000, 500)), offers(4000), supply)
    supply.cut()
    assert (supply.contract, supply.limit_mw, supply.state) == (None, 0, SupplyState.OFF)
    with pytest.raises(WrongState):
        supply.offer(FIVE_VOLT)


@given(
    raw=st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=6),
    ma=st.integers(10, 5000),
    granted=st.integers(0, 30_000),
)
def test_no_request_gets_more_than_was_offered_and_may_be_granted(raw: list[int], ma: int, granted: int) -> None:
    offered, supply = (FixedPdo(5000, ma),), Supply()
    supply.ceiling_mw = granted
    supply.offer(offered)
    for number, rdo in enumerate(raw):
        try:
            steps = supply.receive(PdMessage(PdType.REQUEST, number, (rdo,)))
        except (BadModule, Refused):
            return
        if supply.state is SupplyState.TRANSITION:
            sent = [step.message for step in steps if isinstance(step, Send)]
            assert [m.type for m in sent] == [PdType.ACCEPT, PdType.PS_RDY]
            for message in sent:
                supply.acknowledged(message)
            contract = supply.contract
            assert contract is not None
            assert contract.mw <= min(offered[0].mw, granted)
            assert contract.operating_ma <= contract.maximum_ma
            assert 0 <= contract.least_ma <= contract.operating_ma
            assert steps[-1] == Limit(contract.mw)
            return


@given(want=st.integers(1, 20_000), least=st.integers(1, 20_000), mw=st.integers(50, 15_000))
def test_both_ends_agree_on_the_same_contract(want: int, least: int, mw: int) -> None:
    sink = Sink(want, min(want, least))
    contract = negotiate(SinkLink(sink), offers(mw))
    assert sink.state is SinkState.CONTRACT
    assert (sink.contract.mv, sink.contract.ma) == (contract.mv, contract.operating_ma)
    assert contract.mw <= mw
    assert contract.mismatch == (want > offers(mw)[0].mw)
