# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of the power contract, against the module's own side and against modules that misbehave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.contract import Contract, Negotiation, negotiate
from maglens_daemon.in_process import SinkLink
from maglens_daemon.port import offers
from maglens_driver.errors import BadModule, Deadline, Refused
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

    def power_send(self, message: PdMessage) -> None:
        self.sent.append(message)
        self._waiting.extend(self._answer(message))

    def power_receive(self) -> PdMessage | None:
        return self._waiting.popleft() if self._waiting else None


def request(position: int = 1, operating: int = 500, maximum: int = 500, **flags: bool) -> PdMessage:
    return PdMessage(PdType.REQUEST, 0, (Rdo(position, operating, maximum, **flags).pack(),))


def on_capabilities(*answers: PdMessage | None) -> Scripted:
    return Scripted(lambda message: answers if message.type is PdType.SOURCE_CAPABILITIES else ())


def agree(
    module: Scripted, offered: Sequence[FixedPdo] = FIVE_VOLT, may_grant: Callable[[int], bool] | None = None
) -> Contract:
    time = FakeTime()
    return negotiate(module, offered, may_grant or (lambda mw: True), clock=time.clock, pause=time.pause)


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
    time = FakeTime()
    with pytest.raises(Deadline, match="Source_Capabilities"):
        negotiate(on_capabilities(), FIVE_VOLT, clock=time.clock, pause=time.pause)
    assert limits.REPLY_S <= time.now < limits.REPLY_S + 0.05


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
    answers = iter([False, True])
    replies = {PdType.SOURCE_CAPABILITIES: request(), PdType.WAIT: request()}
    module = Scripted(lambda message: [replies[message.type]] if message.type in replies else [])
    assert agree(module, may_grant=lambda mw: next(answers)).mw == 2500
    assert [m.type for m in module.sent][1] is PdType.WAIT


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


@given(
    raw=st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=6),
    ma=st.integers(10, 5000),
    granted=st.integers(0, 30_000),
)
def test_no_request_gets_more_than_was_offered_and_may_be_granted(raw: list[int], ma: int, granted: int) -> None:
    offered = (FixedPdo(5000, ma),)
    negotiation = Negotiation(offered, lambda mw: mw <= granted)
    for number in raw:
        try:
            answer = negotiation.receive(PdMessage(PdType.REQUEST, 0, (number,)))
        except (BadModule, Refused):
            return
        if answer.contract is not None:
            assert answer.contract.mw <= min(offered[0].mw, granted)
            assert answer.contract.operating_ma <= answer.contract.maximum_ma
            assert 0 <= answer.contract.least_ma <= answer.contract.operating_ma
            assert [m.type for m in answer.messages] == [PdType.ACCEPT, PdType.PS_RDY]
            return


@given(want=st.integers(1, 20_000), least=st.integers(1, 20_000), mw=st.integers(50, 15_000))
def test_both_ends_agree_on_the_same_contract(want: int, least: int, mw: int) -> None:
    sink = Sink(want, min(want, least))
    contract = negotiate(SinkLink(sink), offers(mw))
    assert sink.state is SinkState.CONTRACT
    assert (sink.contract.mv, sink.contract.ma) == (contract.mv, contract.operating_ma)
    assert contract.mw <= mw
    assert contract.mismatch == (want > offers(mw)[0].mw)
