# SPDX-License-Identifier: GPL-2.0-or-later
"""Supply: the host's end of the power contract of one stay. Pure: messages in, steps out; no USB, no time.

The messages are USB PD's (``maglens_driver.link.pd``), the time limits our own (``limits.py`` quotes PD's beside)::

    host                      module
      Source_Capabilities ->                        offered
                          <-  Request               (with CapabilityMismatch where it wants more)
      [limit up] Accept ->                          transition     else Reject: not what was offered; Wait: not now
      PS_RDY -> [limit down]                        contract
      GotoMin -> PS_RDY -> [limit down]             contract, at the least current of the Request
                          <-  Get_Source_Cap        a module that needs other power asks for the offers again
      Soft_Reset ->       <-  Accept                when a message or its answer was lost: begin anew from default

States::

    default -> offered -> transition -> contract
    contract -> offered
    contract -> transition
    offered -> default
    offered -> contract
    * -> unsure
    unsure -> resetting -> default
    * -> off

``*`` is every state but ``off``. The limit of the port is raised before a module hears that it may draw more, and
lowered once it has acknowledged that it may draw less; so :attr:`Supply.limit_mw` is at no time below what a module
that keeps to the protocol draws, nor above what its port was granted.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from maglens_daemon.contract import Contract
from maglens_driver.errors import BadModule, Refused, WrongState
from maglens_driver.link.pd import MESSAGE_IDS, FixedPdo, PdMessage, PdType, Rdo, is_newer, source_capabilities

MAX_REQUESTS: Final = 3  # a module that keeps asking for what was not offered gets no contract
DEFAULT_MW: Final = 2500  # 5 V, 500 mA: before a contract


class SupplyState(enum.Enum):
    """Where the agreement is."""

    DEFAULT = "default"  # 5 V at the unconfigured limit; nothing agreed
    OFFERED = "offered"  # a Request is awaited; a contract made before still holds
    TRANSITION = "transition"  # the limit allows for old and new; PS_RDY is not acknowledged yet
    CONTRACT = "contract"
    UNSURE = "unsure"  # a message or its acknowledgement was lost: the module may be on either side of it
    RESETTING = "resetting"  # Soft_Reset sent
    OFF = "off"  # no power, or nothing there


_S = SupplyState
TRANSITIONS: Final[Mapping[SupplyState, frozenset[SupplyState]]] = {
    _S.DEFAULT: frozenset((_S.OFFERED, _S.UNSURE, _S.OFF)),
    _S.OFFERED: frozenset((_S.TRANSITION, _S.DEFAULT, _S.CONTRACT, _S.UNSURE, _S.OFF)),
    _S.TRANSITION: frozenset((_S.CONTRACT, _S.UNSURE, _S.OFF)),
    _S.CONTRACT: frozenset((_S.OFFERED, _S.TRANSITION, _S.UNSURE, _S.OFF)),
    _S.UNSURE: frozenset((_S.RESETTING, _S.OFF)),
    _S.RESETTING: frozenset((_S.DEFAULT, _S.UNSURE, _S.OFF)),
    _S.OFF: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Send:
    """Hand this message to the module; tell :meth:`Supply.acknowledged` or :meth:`Supply.fail`."""

    message: PdMessage


@dataclass(frozen=True, slots=True)
class Limit:
    """From now on the port lets so much through, mW."""

    mw: int


Steps = tuple[Send | Limit, ...]


class Supply:
    """One stay's. One thread at a time, but for :attr:`ceiling_mw`, which the budget may change at any time.

    ``declared_mw`` is the most that the module's descriptor says it ever draws, None where it says nothing.
    """

    def __init__(self, declared_mw: int | None = None) -> None:
        self.declared_mw = declared_mw
        self.state = SupplyState.DEFAULT
        self.contract: Contract | None = None
        self.offered: tuple[FixedPdo, ...] = ()
        self.limit_mw = DEFAULT_MW
        self.ceiling_mw: int | None = None  # a Request for more has to wait
        self.stale = 0  # messages that came too late to mean anything
        self._next_id = 0
        self._heard: int | None = None
        self._granting: Contract | None = None
        self._requests = 0
        self._rejected = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way."""
        return self.state in (SupplyState.DEFAULT, SupplyState.CONTRACT, SupplyState.OFF)

    @property
    def has_answered(self) -> bool:
        """Whether a Request has come for the present offers, and was rejected or put off."""
        return self._requests > 0

    @property
    def wants_other(self) -> bool:
        """Whether there is no contract, since the module's last Request was for what the present offers do not have:
        not for what was only put off."""
        return self.contract is None and self._rejected

    # What the host does.

    def offer(self, offered: Sequence[FixedPdo]) -> Steps:
        """Source_Capabilities. Raises ``Refused("POWER")`` for no offer at all."""
        if not offered:
            raise Refused(
                "POWER", "no power is left for this module", hint="unplug another module, or raise power.budget_mw"
            )
        self._enter(SupplyState.OFFERED)
        self.offered = tuple(offered)
        self._requests, self._rejected = 0, False
        return (Send(source_capabilities(self.offered, self._number())),)

    def squeeze(self) -> Steps:
        """GotoMin: down to the least current of the Request. Legal with a contract that leaves room for it."""
        old = self.contract
        if self.state is not SupplyState.CONTRACT or old is None or old.least_ma >= old.operating_ma:
            raise WrongState("the contract leaves nothing to squeeze")
        self._enter(SupplyState.TRANSITION)
        self._granting = replace(old, operating_ma=old.least_ma, maximum_ma=old.least_ma, burst_mw=0)
        return (Send(self._say(PdType.GOTO_MIN)), Send(self._say(PdType.PS_RDY)), Limit(self._granting.mw))

    def soft_reset(self) -> Steps:
        """Begin anew after something was lost. Until the module accepts, the limit stays as it is."""
        self._enter(SupplyState.RESETTING)
        self._heard = None  # many of its messages may have been lost; those that still wait it forgets
        return (Send(self._say(PdType.SOFT_RESET)),)

    def lapse(self) -> None:
        """The module wants nothing of the offers any more: what held before holds."""
        self._enter(SupplyState.CONTRACT if self.contract is not None else SupplyState.DEFAULT)

    def acknowledged(self, message: PdMessage) -> None:
        """The module has taken ``message``."""
        if message.type is PdType.PS_RDY:
            self.contract, self._granting = self._granting, None
            self._enter(SupplyState.CONTRACT)

    def fail(self) -> None:
        """A message, its acknowledgement or an answer was lost."""
        if self.state is not SupplyState.OFF:
            self._enter(SupplyState.UNSURE)

    def cut(self) -> None:
        """The power is off, or the module is: nothing is promised any more."""
        self._enter(SupplyState.OFF)
        self.contract = self._granting = None
        self.limit_mw = 0

    # What the module says.

    def receive(self, message: PdMessage) -> Steps:
        """Answer one message of the module.

        Raises ``BadModule("pd_unexpected")`` for what has no place here, ``Refused("POWER")`` after too many
        requests.
        """
        if self._heard is not None and not is_newer(message.message_id, self._heard):
            self.stale += 1
            return ()
        self._heard = message.message_id
        legal = self.state in (SupplyState.OFFERED, SupplyState.CONTRACT)
        if message.type is PdType.ACCEPT and self.state is SupplyState.RESETTING:
            return self._reset_done()
        if message.type is PdType.GET_SOURCE_CAP and (legal or self.state is SupplyState.DEFAULT):
            return self.offer(self.offered)
        if self.state is SupplyState.RESETTING:
            return ()  # it was under way before Soft_Reset came; the Accept follows
        if message.type is not PdType.REQUEST or not legal:
            raise BadModule(
                "pd_unexpected", f"the module sent {message.type.name} while the contract is {self.state.value}"
            )
        return self._request(Rdo.unpack(message.objects[0]))

    def _request(self, rdo: Rdo) -> Steps:
        if self.state is SupplyState.CONTRACT:  # another Request for offers that still stand
            self._enter(SupplyState.OFFERED)
            self._requests = 0
        self._requests += 1
        wanted = self._judge(rdo)
        self._rejected = wanted is None
        if wanted is not None and (self.ceiling_mw is None or wanted.mw <= self.ceiling_mw):
            self._granting = wanted
            self._enter(SupplyState.TRANSITION)
            return (
                Limit(max(self.limit_mw, wanted.mw)),
                Send(self._say(PdType.ACCEPT)),
                Send(self._say(PdType.PS_RDY)),
                Limit(wanted.mw),
            )
        if self._requests >= MAX_REQUESTS:
            self.lapse()
            raise Refused("POWER", f"the module asked {self._requests} times for power that it was not offered")
        return (Send(self._say(PdType.REJECT if wanted is None else PdType.WAIT)),)

    def _judge(self, rdo: Rdo) -> Contract | None:
        """The contract that a request means, or None where offers or the module's own declaration do not cover it."""
        if rdo.position > len(self.offered):
            return None
        offer = self.offered[rdo.position - 1]
        maximum = rdo.operating_ma if rdo.give_back else max(rdo.operating_ma, rdo.maximum_ma)
        if rdo.operating_ma > offer.ma:
            return None
        if maximum > offer.ma:
            # USB PD 6.4.2.2: with CapabilityMismatch the maximum may say what the sink would like beyond the offer.
            if not rdo.capability_mismatch:
                return None
            maximum = offer.ma
        declared = self.declared_mw
        if declared is not None and offer.mv * rdo.operating_ma // 1000 >= declared + _step_mw(offer.mv):
            return None
        least = min(rdo.maximum_ma, rdo.operating_ma) if rdo.give_back else rdo.operating_ma
        contract = Contract(offer.mv, rdo.operating_ma, maximum, rdo.capability_mismatch, least)
        burst = max(0, (declared or 0) - contract.mw) if declared is not None and declared <= offer.mw else 0
        return replace(contract, burst_mw=burst)

    def _reset_done(self) -> Steps:
        """The module has forgotten its contract, and draws no more than before nor than the default."""
        self.contract = self._granting = None
        self._enter(SupplyState.DEFAULT)
        return (Limit(min(self.limit_mw, DEFAULT_MW)),)

    def _number(self) -> int:
        number, self._next_id = self._next_id, (self._next_id + 1) % MESSAGE_IDS
        return number

    def _say(self, kind: PdType) -> PdMessage:
        return PdMessage(kind, self._number())

    def _enter(self, state: SupplyState) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise WrongState(f"no way from a contract that is {self.state.value} to {state.value}")
        self.state = state


def _step_mw(mv: int) -> int:
    """What one step of a request's current, 10 mA, is worth."""
    return mv // 100
