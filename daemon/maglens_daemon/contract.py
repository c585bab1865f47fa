# SPDX-License-Identifier: GPL-2.0-or-later
"""Contract: the power a port has promised a module, and the host's part in agreeing on it.

The messages are USB PD's (``maglens_driver.link.pd``), the time limits our own (``limits.py`` quotes PD's beside)::

    host                      module
      Source_Capabilities ->
                          <-  Request (with CapabilityMismatch where it wants more)
      Accept ->                           else Reject: not what was offered; Wait: not just now
      PS_RDY ->

:class:`Negotiation` decides and knows neither USB nor time; :func:`negotiate` carries its messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from maglens_driver.errors import BadModule, Deadline, Refused
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo, source_capabilities

MAX_REQUESTS: Final = 3  # a module that keeps asking for what was not offered gets no contract
_MESSAGE_IDS: Final = 8  # USB PD 6.2.1.1.3: a rolling counter of three bits
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.02
TRANSFERS: Final = 2 + 2 * MAX_REQUESTS  # control requests that an agreement takes at most, waiting apart


@dataclass(frozen=True, slots=True)
class Contract:
    """What is promised: mV, operating and maximum mA. ``mismatch``: the module said that it wants more.

    ``least_ma`` is what a module with GiveBack can live on when it is squeezed (its RDO's second current); without
    GiveBack it is the operating current.
    """

    mv: int
    operating_ma: int
    maximum_ma: int
    mismatch: bool = False
    least_ma: int = 0

    @property
    def mw(self) -> int:
        """Power that the port must keep ready, mW."""
        return self.mv * self.maximum_ma // 1000

    @property
    def operating_mw(self) -> int:
        """Power that modes may draw, mW."""
        return self.mv * self.operating_ma // 1000


class PowerLink(Protocol):
    """The two control requests that carry power messages (``usb.requests.Requests`` has them). Blocking."""

    def power_send(self, message: PdMessage) -> None: ...

    def power_receive(self) -> PdMessage | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, in order; ``contract`` once it stands."""

    messages: tuple[PdMessage, ...]
    contract: Contract | None = None


class Negotiation:
    """The host's decisions for one set of offers. ``may_grant(mw)`` says whether so much is to be had just now."""

    def __init__(self, offered: Sequence[FixedPdo], may_grant: Callable[[int], bool] = lambda mw: True) -> None:
        self._offered = tuple(offered)
        self._may_grant = may_grant
        self._next_id = 0
        self._requests = 0

    def _number(self) -> int:
        number, self._next_id = self._next_id, (self._next_id + 1) % _MESSAGE_IDS
        return number

    def _say(self, kind: PdType) -> PdMessage:
        return PdMessage(kind, self._number())

    def capabilities(self) -> PdMessage:
        """The opening message; also the answer to Get_Source_Cap."""
        return source_capabilities(self._offered, self._number())

    def receive(self, message: PdMessage) -> Answer:
        """Answer one message of the module.

        Raises ``BadModule("pd_unexpected")`` for what has no place here, ``Refused("POWER")`` after too many
        requests.
        """
        if message.type is PdType.GET_SOURCE_CAP:
            return Answer((self.capabilities(),))
        if message.type is not PdType.REQUEST:
            raise BadModule("pd_unexpected", f"the module sent {message.type.name} where a Request belongs")
        self._requests += 1
        contract = self._judge(Rdo.unpack(message.objects[0]))
        if contract is not None and self._may_grant(contract.mw):
            return Answer((self._say(PdType.ACCEPT), self._say(PdType.PS_RDY)), contract)
        if self._requests >= MAX_REQUESTS:
            raise Refused("POWER", f"the module asked {self._requests} times for power that it was not offered")
        return Answer((self._say(PdType.REJECT if contract is None else PdType.WAIT),))

    def _judge(self, rdo: Rdo) -> Contract | None:
        """The contract that a request means, or None where it is not covered by the offers."""
        if rdo.position > len(self._offered):
            return None
        offer = self._offered[rdo.position - 1]
        maximum = rdo.operating_ma if rdo.give_back else max(rdo.operating_ma, rdo.maximum_ma)
        if rdo.operating_ma > offer.ma:
            return None
        if maximum > offer.ma:
            # USB PD 6.4.2.2: with CapabilityMismatch the maximum may say what the sink would like beyond the offer.
            if not rdo.capability_mismatch:
                return None
            maximum = offer.ma
        least = min(rdo.maximum_ma, rdo.operating_ma) if rdo.give_back else rdo.operating_ma
        return Contract(offer.mv, rdo.operating_ma, maximum, rdo.capability_mismatch, least)


def negotiate(
    link: PowerLink,
    offered: Sequence[FixedPdo],
    may_grant: Callable[[int], bool] = lambda mw: True,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Contract:
    """Agree on a contract over ``link``; blocks, so it belongs into the thread of the module's control requests.

    Endpoint 0 has no way for a module to speak first, and its events flow only once the interface is claimed: until
    the module has its Request ready it is asked again, at growing intervals (``pause``), for ``REPLY_S`` in all.
    Raises ``Deadline``, ``Refused("POWER")``, ``BadModule`` (``pd_*``) and what the link raises.
    """
    if not offered:
        raise Refused(
            "POWER", "no power is left for this module", hint="unplug another module, or raise power.budget_mw"
        )
    negotiation = Negotiation(offered, may_grant)
    link.power_send(negotiation.capabilities())
    until, wait = clock() + limits.REPLY_S, _FIRST_PAUSE_S
    while True:
        message = link.power_receive()
        if message is None:
            if clock() >= until:
                raise Deadline(f"the module did not answer Source_Capabilities within {limits.REPLY_S} s")
            pause(wait)
            wait = min(wait * 2, _LONGEST_PAUSE_S)
            continue
        answer = negotiation.receive(message)
        for reply in answer.messages:
            link.power_send(reply)
        if answer.contract is not None:
            return answer.contract
        until, wait = clock() + limits.REPLY_S, _FIRST_PAUSE_S
