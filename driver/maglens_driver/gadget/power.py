# SPDX-License-Identifier: MIT
"""Power: the module's side of the power contract, a sink in USB PD's terms. Pure: messages in, messages out."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import BadModule
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo

DEFAULT_MV: Final = 5000
DEFAULT_MA: Final = 500  # what a USB port gives before anything was agreed
_MESSAGE_IDS: Final = 8
_MAX_WAITING: Final = 8  # messages kept for the host; the oldest goes


class SinkState(enum.Enum):
    """Where the negotiation is.

    DEFAULT -capabilities-> REQUESTED -accept-> ACCEPTED -PS_RDY-> CONTRACT; reject or wait: back to where it was.
    """

    DEFAULT = "default"  # the port's default power, nothing agreed
    REQUESTED = "requested"  # Request sent
    ACCEPTED = "accepted"  # the supply is changing over
    CONTRACT = "contract"


@dataclass(frozen=True, slots=True)
class SinkContract:
    """What the port has promised: mV, and mA to operate with."""

    mv: int
    ma: int

    @property
    def mw(self) -> int:
        """Power, mW."""
        return self.mv * self.ma // 1000


class Sink:
    """Asks for ``want_mw``, can live on ``least_mw``. ``allowed_mw`` is what may be drawn now."""

    def __init__(self, want_mw: int, least_mw: int, default_ma: int = DEFAULT_MA) -> None:
        self.want_mw = want_mw
        self.least_mw = least_mw
        self.state = SinkState.DEFAULT
        self.contract = SinkContract(DEFAULT_MV, min(default_ma, DEFAULT_MA))
        self._agreed: SinkContract | None = None  # in force since a PS_RDY
        self._next: SinkContract | None = None
        self._waiting: deque[PdMessage] = deque(maxlen=_MAX_WAITING)
        self._message_id = 0

    @property
    def allowed_mw(self) -> int:
        """Power that may be drawn now; while the supply changes over, the lesser of before and after."""
        if self.state is SinkState.ACCEPTED and self._next is not None:
            return min(self.contract.mw, self._next.mw)
        return self.contract.mw

    def take(self) -> PdMessage | None:
        """The oldest message for the host, if any."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def has_message(self) -> bool:
        """Whether a message waits for the host."""
        return bool(self._waiting)

    def receive(self, message: PdMessage) -> bool:
        """Take a message of the host. False: it makes no sense in this state and was ignored.

        ``BadModule("pd_object")`` for an offer that is no fixed supply.
        """
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
                self._next = SinkContract(self._agreed.mv, min(self._agreed.ma, _up_to_ten(least)))
                self.state = SinkState.ACCEPTED
            case PdType.SOFT_RESET:
                self._waiting.clear()
                self._message_id = 0
                self._back()
                self._send(PdType.ACCEPT)
            case _:
                return False
        return True

    def _back(self) -> None:
        self._next = None
        self.state = SinkState.CONTRACT if self._agreed is not None else SinkState.DEFAULT

    def _request(self, offers: tuple[FixedPdo, ...]) -> None:
        """Choose the least offer that covers what is wanted, else the most there is, with CapabilityMismatch."""
        if not offers:
            raise BadModule("pd_object", "Source_Capabilities without an offer")
        enough = [o for o in offers if o.mw >= self.want_mw]
        chosen = min(enough, key=lambda o: (o.mv, o.mw)) if enough else max(offers, key=lambda o: (o.mw, -o.mv))
        operating = min(chosen.ma, _up_to_ten(-(-self.want_mw * 1000 // chosen.mv)))
        least = min(operating, _up_to_ten(-(-self.least_mw * 1000 // chosen.mv)))
        rdo = Rdo(offers.index(chosen) + 1, operating, least, give_back=True, capability_mismatch=not enough)
        self._next = SinkContract(chosen.mv, operating)
        self.state = SinkState.REQUESTED
        self._send(PdType.REQUEST, rdo.pack())

    def _send(self, kind: PdType, *objects: int) -> None:
        self._waiting.append(PdMessage(kind, self._message_id, objects))
        self._message_id = (self._message_id + 1) % _MESSAGE_IDS


def _up_to_ten(ma: int) -> int:
    """Rounded up to the 10 mA steps of a request."""
    return -(-ma // 10) * 10
