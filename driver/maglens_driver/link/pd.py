# SPDX-License-Identifier: MIT
"""Power messages in USB Power Delivery's encodings (USB PD 3.1 chapter 6; linux include/linux/usb/pd.h).

Only fixed supplies; no role swaps, no VCONN, no PPS.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import BadModule
from maglens_driver.link.limits import MAX_PD_OBJECTS
from maglens_driver.link.message import Buffer


class PdType(enum.Enum):
    """Message types in use: (number, carries data objects). USB PD tables 6-5 and 6-6."""

    GOTO_MIN = (2, False)
    ACCEPT = (3, False)
    REJECT = (4, False)
    PS_RDY = (6, False)
    GET_SOURCE_CAP = (7, False)
    WAIT = (12, False)
    SOFT_RESET = (13, False)
    SOURCE_CAPABILITIES = (1, True)
    REQUEST = (2, True)


MESSAGE_IDS: Final = 8  # USB PD 6.2.1.1.3: a rolling counter of three bits
_NEWEST_AHEAD: Final = 4  # a message so far ahead is new, with others lost before it; anything else is late

_BY_NUMBER = {t.value: t for t in PdType}
_SPEC_REVISION_3 = 2 << 6
_POWER_ROLE_SOURCE = 1 << 8
_EXTENDED = 1 << 15


@dataclass(frozen=True, slots=True)
class FixedPdo:
    """Fixed supply offer. mV in steps of 50, mA in steps of 10; encoding truncates to them."""

    mv: int
    ma: int

    def pack(self) -> int:
        """Type [31:30] 0, mV/50 [19:10], mA/10 [9:0]."""
        mv, ma = self.mv // 50, self.ma // 10
        if not (0 < mv < 1024 and 0 <= ma < 1024):
            raise ValueError(f"{self} does not fit a fixed PDO")
        return mv << 10 | ma

    @classmethod
    def unpack(cls, raw: int) -> FixedPdo:
        """Other supply types raise ``BadModule("pd_object")``."""
        if raw >> 30 != 0:
            raise BadModule("pd_object", f"power data object {raw:#010x} is not a fixed supply")
        return cls((raw >> 10 & 0x3FF) * 50, (raw & 0x3FF) * 10)

    @property
    def mw(self) -> int:
        """Power on offer, mW."""
        return self.mv * self.ma // 1000


@dataclass(frozen=True, slots=True)
class Rdo:
    """Request for one offer: its position counted from 1, operating and maximum current in mA.

    With ``give_back`` the second current is the least that the module can live on (USB PD 6.4.2.3), which is what
    GotoMin asks for.
    """

    position: int
    operating_ma: int
    maximum_ma: int
    give_back: bool = False
    capability_mismatch: bool = False

    def pack(self) -> int:
        """Position [30:28], GiveBack 27, CapabilityMismatch 26, operating mA/10 [19:10], maximum [9:0]."""
        op, top = self.operating_ma // 10, self.maximum_ma // 10
        if not (0 < self.position < 8 and 0 <= op < 1024 and 0 <= top < 1024):
            raise ValueError(f"{self} does not fit a request data object")
        return self.position << 28 | self.give_back << 27 | self.capability_mismatch << 26 | op << 10 | top

    @classmethod
    def unpack(cls, raw: int) -> Rdo:
        """Position 0 raises ``BadModule("pd_object")``."""
        position = raw >> 28 & 7
        if position == 0:
            raise BadModule("pd_object", f"request {raw:#010x} names no offer")
        return cls(position, (raw >> 10 & 0x3FF) * 10, (raw & 0x3FF) * 10, bool(raw >> 27 & 1), bool(raw >> 26 & 1))


@dataclass(frozen=True, slots=True)
class PdMessage:
    """One power message: 16-bit header and up to seven 32-bit data objects, little-endian."""

    type: PdType
    message_id: int
    objects: tuple[int, ...] = ()

    def pack(self, *, source: bool) -> bytes:
        """Header [14:12] object count, [11:9] message id, [8] power role, [7:6] revision, [4:0] type."""
        number, data = self.type.value
        if bool(self.objects) != data or len(self.objects) > MAX_PD_OBJECTS:
            raise ValueError(f"{self.type.name} with {len(self.objects)} objects")
        head = len(self.objects) << 12 | (self.message_id & 7) << 9 | _SPEC_REVISION_3 | number
        head |= _POWER_ROLE_SOURCE if source else 0
        return head.to_bytes(2, "little") + b"".join(o.to_bytes(4, "little") for o in self.objects)

    @classmethod
    def unpack(cls, raw: Buffer) -> PdMessage:
        """Causes ``pd_length``, ``pd_type``."""
        if len(raw) < 2:
            raise BadModule("pd_length", f"power message of {len(raw)} bytes")
        head = int.from_bytes(raw[:2], "little")
        if head & _EXTENDED:
            raise BadModule("pd_type", "extended power message; version 1 has none")
        count = head >> 12 & 7
        if len(raw) != 2 + 4 * count:
            raise BadModule("pd_length", f"power message of {len(raw)} bytes says it has {count} objects")
        kind = _BY_NUMBER.get((head & 0x1F, count > 0))
        if kind is None:
            raise BadModule("pd_type", f"power message of unknown type {head & 0x1F} with {count} objects")
        objects = tuple(int.from_bytes(raw[2 + 4 * i : 6 + 4 * i], "little") for i in range(count))
        return cls(kind, head >> 9 & 7, objects)


def source_capabilities(offers: Sequence[FixedPdo], message_id: int) -> PdMessage:
    """Source_Capabilities for these offers, 5 V first as PD wants it."""
    return PdMessage(PdType.SOURCE_CAPABILITIES, message_id, tuple(o.pack() for o in offers))


def is_newer(message_id: int, heard: int) -> bool:
    """Whether a message follows the one heard last; False: it is that one again, or came late (USB PD 6.8.1)."""
    return 0 < (message_id - heard) % MESSAGE_IDS <= _NEWEST_AHEAD
