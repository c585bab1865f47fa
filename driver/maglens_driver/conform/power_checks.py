# SPDX-License-Identifier: GPL-2.0-or-later
"""Power: the module as a sink in USB PD's terms, its encodings and its sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.specimen import Specimen
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo
from maglens_driver.link.wire import ModuleState, Op, Status

POWER: Final = Group("power")
_IDS: Final = 8
_LEAST: Final = (FixedPdo(5000, 10),)
_TWO: Final = (FixedPdo(5000, 500), FixedPdo(9000, 3000))
_ID_SHIFT: Final = 9
_STEP_MA: Final = 10  # of a Request
_DEFAULT_MW: Final = 2500  # 5 V and 500 mA, which a port gives unasked
_BATTERY_PDO: Final = 1 << 30


def _said(s: Specimen) -> tuple[int, Rdo]:
    """The Request's raw header and its object."""
    s.silence_power()
    reply = s.say(PdType.SOURCE_CAPABILITIES, *(o.pack() for o in s.offers))
    expect(reply.status == Status.OK, f"Source_Capabilities is answered {reply.name}")
    head, message = s.await_message(PdType.REQUEST)
    expect(len(message.objects) == 1, f"the Request has {len(message.objects)} objects")
    return head, Rdo.unpack(message.objects[0])


def _asked(rdo: Rdo, offers: Sequence[FixedPdo]) -> FixedPdo:
    """The offer that a Request is for."""
    expect(rdo.position <= len(offers), f"it asks for offer {rdo.position} of {len(offers)}")
    return offers[rdo.position - 1]


@POWER.check("none_waits", "POWER_RECEIVE is NONE, without a body, when no message waits")
def _none(s: Specimen) -> None:
    s.silence_power()
    reply = s.get(Op.POWER_RECEIVE)
    expect(reply.status == Status.NONE, f"it is {reply.name}")
    expect(not reply.body, f"it has a body of {len(reply.body)} bytes")


@POWER.check("request_in_time", f"a Request follows Source_Capabilities within {limits.REPLY_S:g} s")
def _request(s: Specimen) -> None:
    _said(s)
    s.grant()


@POWER.check("request_header", "the Request's header: sink, revision 3.x, one object, reserved bit 0")
def _header(s: Specimen) -> None:
    head, _ = _said(s)
    s.grant()
    expect(head >> 8 & 1 == 0, "the power role says source")
    expect(head >> 6 & 3 == 2, f"the revision is {head >> 6 & 3}, not 2 (PD 3.x)")
    expect(head >> 15 == 0, "bit 15 is set")
    expect(head >> 5 & 1 == 0, "bit 5 is set")


@POWER.check("message_ids", "its message ids rise by one, modulo 8")
def _ids(s: Specimen) -> None:
    ids = []
    for _ in range(_IDS + 2):
        ids.append(_said(s)[0] >> 9 & 7)
        s.grant()
    wrong = [(a, b) for a, b in itertools.pairwise(ids) if b != (a + 1) % _IDS]
    expect(not wrong, f"they are {ids}")


@POWER.check("position", "it asks for an offer that was made")
def _position(s: Specimen) -> None:
    for offers in (s.offers, _TWO):
        rdo = s.offer(offers)
        s.say(PdType.REJECT)
        _asked(rdo, offers)


@POWER.check("within_offer", "its operating current is within the offer")
def _within(s: Specimen) -> None:
    for offers in (s.offers, _TWO, _LEAST):
        rdo = s.offer(offers)
        s.say(PdType.REJECT)
        offer = _asked(rdo, offers)
        expect(rdo.operating_ma <= offer.ma, f"it asks for {rdo.operating_ma} mA of {offer.ma}")


@POWER.check("no_more_than_declared", "it asks for no more than the peak that its descriptor declares")
def _declared(s: Specimen) -> None:
    for offers in (s.offers, _TWO):
        rdo = s.offer(offers)
        s.say(PdType.REJECT)
        offer = offers[min(rdo.position, len(offers)) - 1]
        asked, step = offer.mv * rdo.operating_ma // 1000, offer.mv * _STEP_MA // 1000
        peak = s.descriptor.power.peak_mw
        expect(asked < peak + step, f"it asks for {asked} mW, and declares {peak}")


@POWER.check(
    "give_back", "with GiveBack its least current is not above the operating one; without, the maximum not below"
)
def _give_back(s: Specimen) -> None:
    rdo = s.offer(s.offers)
    s.say(PdType.REJECT)
    right = rdo.maximum_ma <= rdo.operating_ma if rdo.give_back else rdo.maximum_ma >= rdo.operating_ma
    expect(right, f"operating {rdo.operating_ma} mA, the other {rdo.maximum_ma} mA")


@POWER.check("covers_modes", "where an offer covers its dearest mode it asks for enough, without CapabilityMismatch")
def _covers(s: Specimen) -> None:
    dearest = max((m.mw for m in s.descriptor.modes), default=0)
    offers = (FixedPdo(5000, 900), FixedPdo(9000, 3000))
    if not 0 < dearest <= offers[1].mw:
        raise Skipped(f"its dearest mode draws {dearest} mW")
    rdo = s.offer(offers)
    s.say(PdType.REJECT)
    got = _asked(rdo, offers).mv * rdo.operating_ma // 1000
    expect(got >= dearest, f"it asks for {got} mW, and a mode draws {dearest}")
    expect(not rdo.capability_mismatch, "it says CapabilityMismatch")


@POWER.check("mismatch", "where no offer covers its dearest mode it says CapabilityMismatch")
def _mismatch(s: Specimen) -> None:
    if max((m.mw for m in s.descriptor.modes), default=0) <= _LEAST[0].mw:
        raise Skipped("it needs next to nothing")
    rdo = s.offer(_LEAST)
    s.say(PdType.REJECT)
    expect(rdo.capability_mismatch, "it does not")


@POWER.check("contract", "Accept and PS_RDY make a contract that covers what was asked for")
def _contract(s: Specimen) -> None:
    s.stop()
    s.contract()
    for index in s.playable():
        reply = s.configure(index, test_only=True)
        expect(reply.status != Status.NO_CONTRACT, f"mode {index} is NO_CONTRACT all the same")


def _keeps(answer: PdType) -> Callable[[Specimen], None]:
    def body(s: Specimen) -> None:
        s.powered()
        s.stop()
        s.offer(_LEAST)
        expect((reply := s.say(answer)).status == Status.OK, f"{answer.name} is answered {reply.name}")
        reply = s.configure(s.small(), test_only=True)
        expect(reply.status == Status.OK, f"a mode of the contract before is answered {reply.name}")

    return body


for _kind, _word in ((PdType.REJECT, "Reject"), (PdType.WAIT, "Wait")):
    POWER.add(f"{_word.lower()}_keeps", f"{_word} leaves what held before", _keeps(_kind))


@POWER.check("offers_again", "Source_Capabilities while a Request is unanswered brings a new Request")
def _offers_again(s: Specimen) -> None:
    s.offer(_LEAST)
    s.contract()


def _senseless(kind: PdType) -> Callable[[Specimen], None]:
    def body(s: Specimen) -> None:
        s.contract()
        reply = s.say(kind)
        expect(reply.status == Status.WRONG_STATE, f"it is {reply.name}")
        s.contract()

    return body


for _kind in (PdType.ACCEPT, PdType.REJECT, PdType.WAIT, PdType.PS_RDY):
    POWER.add(f"{_kind.name.lower()}_unasked", f"{_kind.name} without a Request is WRONG_STATE", _senseless(_kind))


@POWER.check("goto_min", "GotoMin and PS_RDY bring it down to the least current of its Request")
def _goto_min(s: Specimen) -> None:
    s.stop()
    rdo = s.contract()
    if not rdo.give_back:
        raise Skipped("its Request has no GiveBack")
    reply = s.say(PdType.GOTO_MIN)
    expect(reply.status == Status.OK, f"GotoMin is answered {reply.name}")
    expect((reply := s.say(PdType.PS_RDY)).status == Status.OK, f"PS_RDY is answered {reply.name}")
    least = _asked(rdo, s.offers).mv * rdo.maximum_ma // 1000
    for index in s.playable():
        if s.descriptor.modes[index].mw > least:
            reply = s.configure(index, test_only=True)
            expect(reply.status == Status.NO_CONTRACT, f"a mode above {least} mW is answered {reply.name}")
            break
    s.contract()


@POWER.check("shrink_stops_stream", "a stream whose contract shrinks below its mode stops by itself and goes to IDLE")
def _shrink(s: Specimen) -> None:
    index = s.small()
    if s.descriptor.modes[index].mw <= _LEAST[0].mw:
        raise Skipped("no mode draws more than the least that can be offered")
    answer = s.started(index)
    s.contract(_LEAST)
    expect((now := s.state()) is ModuleState.IDLE, f"it is {now.name}")
    late = s.receiver.leftover(answer)
    expect(late <= answer.payload_bytes // 2, f"{late} bytes came afterwards")
    s.contract()


@POWER.check("soft_reset", "Soft_Reset is answered Accept, and ends the contract")
def _soft_reset(s: Specimen) -> None:
    s.stop()
    s.contract()
    reply = s.say(PdType.SOFT_RESET)
    expect(reply.status == Status.OK, f"it is {reply.name}")
    s.await_message(PdType.ACCEPT)
    dear = [i for i in s.playable() if s.descriptor.modes[i].mw > _DEFAULT_MW]
    refused = s.configure(dear[0], test_only=True) if dear else None
    s.contract()
    if refused is not None:
        expect(refused.status == Status.NO_CONTRACT, f"a mode of the contract is {refused.name} afterwards")


@POWER.check("late", "a message with an id that was used before is WRONG_STATE, and changes nothing")
def _late(s: Specimen) -> None:
    s.contract()
    message = PdMessage(PdType.GOTO_MIN, (s.next_pd_id() - 1) % _IDS)
    reply = s.put(Op.POWER_SEND, message.pack(source=True))
    expect(reply.status == Status.WRONG_STATE, f"it is {reply.name}")
    s.contract()


def _unreadable(raw: bytes) -> Callable[[Specimen], None]:
    def body(s: Specimen) -> None:
        s.powered()
        s.lose_step()
        whole = int.from_bytes(raw[:2], "little") | s.next_pd_id() << _ID_SHIFT
        reply = s.put(Op.POWER_SEND, raw if len(raw) < 2 else whole.to_bytes(2, "little") + raw[2:])
        expect(reply.status == Status.INVALID, f"it is {reply.name}")
        s.stop()
        kept = s.configure(s.small(), test_only=True)
        expect(kept.status == Status.OK, f"and a mode of the contract is {kept.name} afterwards")
        s.contract()

    return body


_HEAD: Final = 1 << 8 | 2 << 6
for _name, _text, _raw in (
    ("cut", "a power message of one byte", b"\x01"),
    (
        "short",
        "a power message with fewer objects than it says",
        (2 << 12 | _HEAD | 1).to_bytes(2, "little") + bytes(4),
    ),
    (
        "long",
        "a power message with more objects than it says",
        (1 << 12 | _HEAD | 1).to_bytes(2, "little") + bytes(8),
    ),
    ("unknown", "a power message of an unknown number", (_HEAD | 0x1E).to_bytes(2, "little")),
    ("extended", "an extended power message", (1 << 15 | _HEAD | 1).to_bytes(2, "little")),
    (
        "not_fixed",
        "Source_Capabilities with a supply that is not fixed",
        PdMessage(PdType.SOURCE_CAPABILITIES, 0, (_BATTERY_PDO,)).pack(source=True),
    ),
    ("empty", "an empty power message", b""),
):
    POWER.add(f"{_name}_is_invalid", f"{_text} is INVALID and changes nothing", _unreadable(_raw))
