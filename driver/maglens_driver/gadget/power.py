# SPDX-License-Identifier: MIT
"""Power: the module's side of the power contract, a sink in USB PD's terms. Pure: messages in, messages out.

Three ways to be a bad one are built in, for the tests of the other side: :class:`Manners`.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import BadModule
from maglens_driver.link.pd import MESSAGE_IDS, FixedPdo, PdMessage, PdType, Rdo, is_newer

DEFAULT_MV: Final = 5000
DEFAULT_MA: Final = 500  # what a USB port gives before anything was agreed
_MAX_WAITING: Final = 8  # messages kept for the host; the oldest goes


class SinkState(enum.Enum):
    """Where the negotiation is.

    DEFAULT -capabilities-> REQUESTED -accept-> ACCEPTED -PS_RDY-> CONTRACT; reject or wait: back to where it was.
    """

    DEFAULT = "default"  # the port's default power, nothing agreed
    REQUESTED = "requested"  # Request sent
    ACCEPTED = "accepted"  # the supply is changing over
    CONTRACT = "contract"


@dataclass(slots=True)
class Manners:
    """How a sink behaves. ``greedy_mw``: asks for so much more than it has declared; ``stubborn``: takes GotoMin, and
    goes on drawing as before; ``silent``: has its answers, and does not hand them out."""

    greedy_mw: int = 0
    stubborn: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class SinkContract:
    """What the port has promised: mV, and mA to operate with. ``burst_mw``: the most while motors move."""

    mv: int
    ma: int
    burst_mw: int = 0

    @property
    def mw(self) -> int:
        """Power, mW."""
        return self.mv * self.ma // 1000


class Sink:
    """Asks for ``want_mw``, can live on ``least_mw``, never draws more than ``peak_mw``, motors included.

    ``allowed_mw`` is what may be drawn now, ``burst_mw`` what may be while the host has something moved.
    """

    def __init__(
        self, want_mw: int, least_mw: int, default_ma: int = DEFAULT_MA, *, peak_mw: int | None = None
    ) -> None:
        self.want_mw = want_mw
        self.least_mw = least_mw
        self.peak_mw = want_mw if peak_mw is None else max(peak_mw, want_mw)
        self.manners = Manners()
        self.state = SinkState.DEFAULT
        self.contract = SinkContract(DEFAULT_MV, min(default_ma, DEFAULT_MA))
        self._default = self.contract
        self._agreed: SinkContract | None = None  # in force since a PS_RDY
        self._next: SinkContract | None = None
        self._waiting: deque[PdMessage] = deque(maxlen=_MAX_WAITING)
        self._message_id = 0
        self._heard: int | None = None

    @property
    def allowed_mw(self) -> int:
        """Power that may be drawn now; while the supply changes over, the lesser of before and after."""
        if self.state is SinkState.ACCEPTED and self._next is not None:
            return min(self.contract.mw, self._next.mw)
        return self.contract.mw

    @property
    def burst_mw(self) -> int:
        """Power that may be drawn while motors move: at most ``limits.BURST_S`` after SET_CONTROLS has come."""
        return max(self.allowed_mw, self.contract.burst_mw if self.state is SinkState.CONTRACT else 0)

    def take(self) -> PdMessage | None:
        """The oldest message for the host, if any."""
        return self._waiting.popleft() if self.has_message else None

    @property
    def has_message(self) -> bool:
        """Whether a message waits for the host."""
        return bool(self._waiting) and not self.manners.silent

    def ask(self) -> None:
        """Get_Source_Cap: have the host offer again, because the needs have changed."""
        self._send(PdType.GET_SOURCE_CAP)

    def receive(self, message: PdMessage) -> bool:
        """Take a message of the host. False: it came late, or makes no sense in this state, and was ignored.

        ``BadModule("pd_object")`` for an offer that is no fixed supply.
        """
        if message.type is PdType.SOFT_RESET:
            self._reset(message.message_id)
            return True
        if self._heard is not None and not is_newer(message.message_id, self._heard):
            return False
        self._heard = message.message_id
        match message.type:
            case PdType.SOURCE_CAPABILITIES:
                self._request(tuple(FixedPdo.unpack(raw) for raw in message.objects))
            case PdType.ACCEPT if self.state is SinkState.REQUESTED:
                self.state = SinkState.ACCEPTED
            case PdType.REJECT | PdType.WAIT if self.state is SinkState.REQUESTED:
                self._back()
            case PdType.PS_RDY if self.state is SinkState.ACCEPTED and self._next is not None:
                self.contract = self._agreed = self._next
                self._next = None
                self.state = SinkState.CONTRACT
            case PdType.GOTO_MIN if self.state is SinkState.CONTRACT and self._agreed is not None:
                least = -(-self.least_mw * 1000 // self._agreed.mv)
                ma = self._agreed.ma if self.manners.stubborn else min(self._agreed.ma, _up_to_ten(least))
                self._next = SinkContract(self._agreed.mv, ma)
                self.state = SinkState.ACCEPTED
            case _:
                return False
        return True

    def _reset(self, message_id: int) -> None:
        """Nothing is agreed any more, and no more is drawn than before nor than the default."""
        self._waiting.clear()
        self._heard = message_id
        least = min(self.contract, self._default, key=lambda c: c.mw)
        self.contract = SinkContract(least.mv, least.ma)
        self._agreed = self._next = None
        self.state = SinkState.DEFAULT
        self._send(PdType.ACCEPT)

    def _back(self) -> None:
        self._next = None
        self.state = SinkState.CONTRACT if self._agreed is not None else SinkState.DEFAULT

    def _request(self, offers: tuple[FixedPdo, ...]) -> None:
        """Choose the least offer that covers what is wanted, else the most there is, with CapabilityMismatch."""
        if not offers:
            raise BadModule("pd_object", "Source_Capabilities without an offer")
        # A Request that was not fetched answers offers that no longer stand.
        kept = [m for m in self._waiting if m.type is not PdType.REQUEST]
        self._waiting.clear()
        self._waiting.extend(kept)
        want_mw = self.want_mw
        if self.manners.greedy_mw:
            want_mw = self.peak_mw + self.manners.greedy_mw
        enough = [o for o in offers if o.mw >= want_mw]
        chosen = min(enough, key=lambda o: (o.mv, o.mw)) if enough else max(offers, key=lambda o: (o.mw, -o.mv))
        operating = min(chosen.ma, _up_to_ten(-(-want_mw * 1000 // chosen.mv)))
        least = min(operating, _up_to_ten(-(-self.least_mw * 1000 // chosen.mv)))
        rdo = Rdo(offers.index(chosen) + 1, operating, least, give_back=True, capability_mismatch=not enough)
        self._next = SinkContract(chosen.mv, operating, self.peak_mw if chosen.mw >= self.peak_mw else 0)
        self.state = SinkState.REQUESTED
        self._send(PdType.REQUEST, rdo.pack())

    def _send(self, kind: PdType, *objects: int) -> None:
        self._waiting.append(PdMessage(kind, self._message_id, objects))
        self._message_id = (self._message_id + 1) % MESSAGE_IDS


def _up_to_ten(ma: int) -> int:
    """Rounded up to the 10 mA steps of a request."""
    return -(-ma // 10) * 10
