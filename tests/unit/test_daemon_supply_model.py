# SPDX-License-Identifier: GPL-2.0-or-later
"""Both ends of the power contract over a link that loses, delays and reorders, several ports on one budget.

A state machine plays host, modules and link. At all times: no limit is raised beyond the budget, no module draws
more than its port lets through, and nobody has a contract that the other end did not make. Left alone, every stay
ends with one contract that both ends know, or with none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from maglens_daemon.budget import Ledger
from maglens_daemon.conversation import Talk, agree, converse
from maglens_daemon.port import offers
from maglens_daemon.power_feed import TRIES
from maglens_daemon.supply import DEFAULT_MW, Supply, SupplyState
from maglens_driver.errors import BadModule, Deadline, Refused, WrongState
from maglens_driver.gadget.power import Sink, SinkState
from maglens_driver.link import limits
from maglens_driver.link.pd import PdMessage

PORTS = ("a", "b", "c")
LEAST_MW = 500
FATES = ("whole", "whole", "whole", "whole", "lost", "unacknowledged", "late")


@dataclass
class Wire:
    """Endpoint 0 of one module: whatever goes over it meets the next fate. Times are seconds of its own."""

    sink: Sink
    fates: Iterator[str]
    heard: Callable[[], None]  # the module has taken a message just now
    late: list[PdMessage] = field(default_factory=list)
    now: float = 0.0

    def power_send(self, message: PdMessage) -> None:
        fate = next(self.fates)
        if fate == "late":
            self.late.append(message)
        if fate in ("late", "lost"):
            raise Deadline("no answer")
        taken = self.sink.receive(message)
        self.heard()
        if fate == "unacknowledged":
            raise Deadline("no answer")
        if not taken:
            raise WrongState("WRONG_STATE")

    def power_receive(self) -> PdMessage | None:
        fate = next(self.fates)
        if fate == "late":
            return None  # it takes its time
        message = self.sink.take()
        if fate in ("lost", "unacknowledged"):
            raise Deadline("no answer")
        return message


class Stay:
    """One module on one port."""

    def __init__(self, port: str, ledger: Ledger, sink: Sink, fates: Iterator[str]) -> None:
        self.port = port
        self.ledger = ledger
        self.sink = sink
        self.supply = Supply(sink.peak_mw)
        self.wire = Wire(sink, fates, self.check_draw)
        self.talk: Talk | None = None

    def check_draw(self) -> None:
        """Between any two messages: the module may draw no more than its port lets through."""
        assert self.sink.allowed_mw <= self.supply.limit_mw, self.port

    def begin(self, talk: Talk) -> None:
        self.talk = talk
        self.advance(0.0)

    def advance(self, seconds: float = limits.REPLY_S / 4) -> None:
        """Go on with what is under way."""
        if self.talk is None:
            return
        self.wire.now += seconds
        try:
            self.wire.now += next(self.talk)
        except StopIteration:
            self.end()
        except (Deadline, Refused, BadModule, WrongState) as why:
            self.why = why
            self.end()

    def end(self) -> None:
        """The exchange is over: what is not needed goes back to the budget, once it is sure."""
        self.talk = None
        if self.supply.is_settled:
            self.ledger.settle(self.port, self.supply.limit_mw)

    def offer(self, most_mw: int) -> None:
        share = self.ledger.reserve(self.port, LEAST_MW, most_mw)
        if not share:
            return
        self.supply.ceiling_mw = self.ledger.ceiling(self.port, self.supply.limit_mw)
        self.begin(agree(self.wire, self.supply, offers(share), clock=lambda: self.wire.now))


class Contracts(RuleBasedStateMachine):
    """See the module's text."""

    @initialize(
        total=st.integers(8_000, 16_000),
        wants=st.lists(st.tuples(st.integers(500, 6000), st.integers(0, 3000)), min_size=3, max_size=3),
        seed=st.integers(0, 2**32),
    )
    def set_up(self, total: int, wants: list[tuple[int, int]], seed: int) -> None:
        self.calm = False
        self.ledger = Ledger(total)
        fate = Random(seed)

        def drawn() -> Iterator[str]:
            while True:
                yield "whole" if self.calm else fate.choice(FATES)

        self.stays = []
        for port, (want, more) in zip(PORTS, wants, strict=True):
            assert self.ledger.reserve(port, DEFAULT_MW, DEFAULT_MW)  # it is powered: so much it may draw anyway
            self.stays.append(Stay(port, self.ledger, Sink(want, want // 3, peak_mw=want + more), drawn()))
        self.limits_mw = self.total_limits()

    def total_limits(self) -> int:
        return sum(stay.supply.limit_mw for stay in self.stays)

    def idle(self, index: int) -> Stay | None:
        stay = self.stays[index % len(self.stays)]
        return stay if stay.talk is None else None

    @rule(index=st.integers(0, 2), most=st.integers(LEAST_MW, 9000))
    def offer(self, index: int, most: int) -> None:
        if (stay := self.idle(index)) is not None:
            stay.offer(most)

    @rule(index=st.integers(0, 2))
    def squeeze(self, index: int) -> None:
        if (stay := self.idle(index)) is not None and stay.supply.state is SupplyState.CONTRACT:
            try:
                steps = stay.supply.squeeze()
            except WrongState:
                return
            stay.begin(converse(stay.wire, stay.supply, steps, clock=lambda: stay.wire.now))

    @rule(index=st.integers(0, 2), want=st.integers(500, 8000))
    def needs_other_power(self, index: int, want: int) -> None:
        sink = self.stays[index].sink
        sink.want_mw = min(want, sink.peak_mw)
        sink.ask()

    @rule(index=st.integers(0, 2))
    def hear(self, index: int) -> None:
        """A POWER event came: fetch what waits."""
        stay = self.idle(index)
        if stay is None or stay.supply.state is SupplyState.UNSURE:
            return
        try:
            message = stay.wire.power_receive()
        except Deadline:
            return
        if message is None:
            return
        try:
            steps = stay.supply.receive(message)
        except (BadModule, Refused):
            stay.supply.fail()
            return
        stay.begin(converse(stay.wire, stay.supply, steps, clock=lambda: stay.wire.now))

    @rule(index=st.integers(0, 2))
    def time_passes(self, index: int) -> None:
        self.stays[index].advance()

    @rule(index=st.integers(0, 2), which=st.integers(0, 9))
    def a_late_message_comes(self, index: int, which: int) -> None:
        wire = self.stays[index].wire
        if wire.late:
            wire.sink.receive(wire.late.pop(which % len(wire.late)))
            wire.heard()

    @rule(total=st.integers(2_000, 16_000))
    def the_supply_changes(self, total: int) -> None:
        self.ledger.total_mw = total
        for stay in self.stays:
            stay.supply.ceiling_mw = self.ledger.ceiling(stay.port, stay.supply.limit_mw)

    @invariant()
    def nothing_is_granted_over_the_budget(self) -> None:
        now = self.total_limits()
        assert self.ledger.total_mw is not None
        assert now <= max(self.ledger.total_mw, self.limits_mw), "a limit was raised beyond the budget"
        assert now <= self.ledger.promised_mw
        self.limits_mw = now

    @invariant()
    def no_module_may_draw_more_than_its_port_lets_through(self) -> None:
        for stay in self.stays:
            stay.check_draw()

    @invariant()
    def there_is_one_contract(self) -> None:
        for stay in self.stays:
            ours = stay.supply.contract
            if stay.talk is None and stay.supply.state is SupplyState.CONTRACT and not stay.wire.late:
                assert ours is not None
                if stay.sink.state is SinkState.CONTRACT:
                    assert (stay.sink.contract.mv, stay.sink.contract.ma) == (ours.mv, ours.operating_ma)

    def finish(self, stay: Stay) -> None:
        """Let what is under way come to its end."""
        for _ in range(200):
            if stay.talk is None:
                return
            stay.advance()
        raise AssertionError("an exchange that never ends")

    def teardown(self) -> None:
        """The link is well again: every stay comes to an end state that both ends agree on."""
        if not hasattr(self, "stays"):
            return
        self.calm = True
        for stay in self.stays:
            stay.wire.late.clear()
            self.finish(stay)
            for _ in range(TRIES):
                stay.offer(4000)
                self.finish(stay)
                if stay.supply.state is SupplyState.CONTRACT:
                    break
            if stay.supply.state is SupplyState.UNSURE:
                assert not self.ledger.reserve(stay.port, LEAST_MW, 4000), "power, a good link, and no contract"
                stay.supply.cut()  # hard reset: the power goes
                stay.sink = Sink(0, 0, default_ma=0)
                self.ledger.settle(stay.port, 0)
            assert stay.supply.is_settled
            if stay.supply.contract is not None:
                assert stay.sink.state is SinkState.CONTRACT
                assert stay.sink.contract.ma == stay.supply.contract.operating_ma
        self.nothing_is_granted_over_the_budget()
        self.no_module_may_draw_more_than_its_port_lets_through()


TestContracts = Contracts.TestCase
TestContracts.settings = settings(max_examples=60, stateful_step_count=40)
