# SPDX-License-Identifier: GPL-2.0-or-later
"""CONFIGURE: trying, adjusting, refusing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.specimen import Reply, Specimen, want
from maglens_driver.link import wire
from maglens_driver.link.pd import FixedPdo
from maglens_driver.link.wire import Configure, Configured, ConfigureFlag, ModuleState, Op, Status
from maglens_driver.mode import Mode, fourcc

CONFIGURE: Final = Group("configure")
_ODD_FORMAT: Final = fourcc("ZZZZ")
_U32: Final = 0xFFFFFFFF


def _ask(s: Specimen, request: Configure) -> Reply:
    s.powered()
    s.stop()
    return s.put(Op.CONFIGURE, request.pack())


def _answer(reply: Reply) -> Configured:
    expect(reply.status in (Status.OK, Status.ADJUSTED), f"it is answered {reply.name}")
    expect(len(reply.body) >= Configured.SIZE, f"its result has a body of {len(reply.body)} bytes")
    return Configured.unpack(reply.body)


def _facts(answer: Configured) -> tuple[int, ...]:
    over, under = answer.interval_numerator, max(1, answer.interval_denominator)
    interval = Fraction(over, under)
    return (
        answer.fourcc, answer.width, answer.height, interval.numerator, interval.denominator, answer.stride,
        answer.payload_bytes, answer.mbit_s, answer.mw,
    )  # fmt: skip


def _facts_of(m: Mode) -> tuple[int, ...]:
    return (
        m.fourcc, m.width, m.height, m.interval.numerator, m.interval.denominator, m.stride, m.nbytes, m.mbit_s, m.mw
    )  # fmt: skip


def _small(s: Specimen, *, test_only: bool = False) -> Configure:
    index = s.small()
    return want(s.descriptor.modes[index], index, test_only=test_only)


@CONFIGURE.check("test_only_every_mode", "TEST_ONLY of every mode that port and link carry is OK")
def _every(s: Specimen) -> None:
    s.powered()
    s.stop()
    for index in s.playable():
        reply = s.configure(index, test_only=True)
        expect(reply.status == Status.OK, f"mode {index} is answered {reply.name}")


@CONFIGURE.check("answers_facts", "the answer has the facts of the mode: size, stride, bytes, rate, Mbit/s, mW")
def _all_facts(s: Specimen) -> None:
    s.powered()
    s.stop()
    for index in s.playable():
        answer = _answer(s.configure(index, test_only=True))
        mode = s.descriptor.modes[index]
        expect(answer.mode == index, f"asked for mode {index}, it answers {answer.mode}")
        expect(_facts(answer) == _facts_of(mode), f"mode {index} is {_facts_of(mode)}, it answers {_facts(answer)}")


@CONFIGURE.check("test_only_changes_nothing", "TEST_ONLY leaves state and configuration as they are")
def _nothing(s: Specimen) -> None:
    s.powered()
    s.standing_by()
    s.configure(s.small(), test_only=True)
    expect(s.state() is ModuleState.STANDBY, f"STANDBY has become {s.state().name}")


@CONFIGURE.check("test_only_keeps_mode", "TEST_ONLY of another mode does not change what is sent")
def _keeps(s: Specimen) -> None:
    others = [i for i in s.playable() if i != s.small()]
    if not others:
        raise Skipped("it has one mode only")
    configured = s.configured(s.small())
    _answer(s.configure(others[0], test_only=True))
    s.put(Op.START, wire.Epoch(s.epoch).pack())
    frames = s.receiver.frames(configured, s.epoch, 1, fresh=False)
    s.stop()
    leader = frames[0].opened() if frames else None
    expect(leader is not None, "no frame came")
    assert leader is not None
    sent = (leader.fourcc, leader.width, leader.height)
    expect(sent == (configured.fourcc, configured.width, configured.height), f"it sends {sent}")


@CONFIGURE.check("test_only_flag", "the answer repeats the flags")
def _flag(s: Specimen) -> None:
    answer = _answer(_ask(s, _small(s, test_only=True)))
    expect(answer.flags == ConfigureFlag.TEST_ONLY, f"they are {answer.flags}")


@CONFIGURE.check("every_mode", "every mode that port and link carry can be configured, one after the other")
def _each(s: Specimen) -> None:
    for index in s.playable():
        s.configured(index)
    expect(s.state() is ModuleState.CONFIGURED, f"it is {s.state().name} afterwards")


@CONFIGURE.check("unreduced_interval", "2/60 of a second is 1/30")
def _unreduced(s: Specimen) -> None:
    request = _small(s, test_only=True)
    if max(request.interval_numerator, request.interval_denominator) > _U32 // 2:
        raise Skipped("its interval is of numbers that cannot be doubled")
    doubled = replace(
        request,
        interval_numerator=request.interval_numerator * 2,
        interval_denominator=request.interval_denominator * 2,
    )
    expect((reply := _ask(s, doubled)).status == Status.OK, f"it is answered {reply.name}")


def _adjusted(s: Specimen, request: Configure) -> tuple[Configured, Mode]:
    reply = _ask(s, request)
    expect(reply.status == Status.ADJUSTED, f"it is answered {reply.name}")
    answer = _answer(reply)
    expect(answer.mode < len(s.descriptor.modes), f"it answers mode {answer.mode}, which is not there")
    mode = s.descriptor.modes[answer.mode]
    expect(_facts(answer) == _facts_of(mode), f"the answer is not mode {answer.mode}, as it says")
    return answer, mode


@CONFIGURE.check("adjusts_interval", "another rate is ADJUSTED to the nearest one of that format and size")
def _interval(s: Specimen) -> None:
    request = replace(_small(s, test_only=True), interval_numerator=1, interval_denominator=997)
    _, got = _adjusted(s, request)
    like = [
        m
        for m in (s.descriptor.modes[i] for i in s.playable())
        if (m.fourcc, m.width, m.height) == (request.fourcc, request.width, request.height)
    ]
    best = min(abs(m.interval - Fraction(1, 997)) for m in like)
    expect((got.fourcc, got.width, got.height) == (request.fourcc, request.width, request.height), got.describe())
    expect(abs(got.interval - Fraction(1, 997)) == best, f"it takes {got.describe()}, which is not the nearest")


@CONFIGURE.check("adjusts_size", "another size is ADJUSTED to the nearest one of that format")
def _size(s: Specimen) -> None:
    request = replace(_small(s, test_only=True), width=_small(s).width + 6, height=_small(s).height + 2)
    _, got = _adjusted(s, request)
    expect(got.fourcc == request.fourcc, f"it takes {got.describe()}")
    sizes = [s.descriptor.modes[i] for i in s.playable() if s.descriptor.modes[i].fourcc == request.fourcc]

    def distance(m: Mode) -> int:
        return abs(m.width - request.width) + abs(m.height - request.height)

    expect(distance(got) == min(map(distance, sizes)), f"it takes {got.describe()}, which is not the nearest")


@CONFIGURE.check("adjusts_format", "an unknown format is ADJUSTED to one of its own")
def _format(s: Specimen) -> None:
    _adjusted(s, replace(_small(s, test_only=True), fourcc=_ODD_FORMAT))


@CONFIGURE.check("mode_beyond", "a mode that is not there is INVALID")
def _beyond(s: Specimen) -> None:
    for index in (len(s.descriptor.modes), 0xFFFF):
        reply = _ask(s, replace(_small(s, test_only=True), mode=index))
        expect(reply.status == Status.INVALID, f"mode {index} is answered {reply.name}")


@CONFIGURE.check("interval_zero", "an interval with a 0 in it is INVALID")
def _zero(s: Specimen) -> None:
    for field in ("interval_numerator", "interval_denominator"):
        reply = _ask(s, replace(_small(s, test_only=True), **{field: 0}))
        expect(reply.status == Status.INVALID, f"{field} 0 is answered {reply.name}")


@CONFIGURE.check("huge_values", "the largest numbers there are do no harm")
def _huge(s: Specimen) -> None:
    request = replace(
        _small(s, test_only=True), width=_U32, height=_U32, interval_numerator=_U32, interval_denominator=_U32
    )
    reply = _ask(s, request)
    expect(reply.status in (Status.ADJUSTED, Status.INVALID), f"it is answered {reply.name}")


@CONFIGURE.check("refusal_keeps_mode", "a refused CONFIGURE leaves the configuration as it was")
def _refusal(s: Specimen) -> None:
    s.configured(s.small())
    s.put(Op.CONFIGURE, replace(_small(s), mode=0xFFFF).pack())
    expect(s.state() is ModuleState.CONFIGURED, f"it is {s.state().name} afterwards")
    reply = s.put(Op.START, wire.Epoch(s.epoch).pack())
    s.stop()
    expect(reply.status == Status.OK, f"START behind it is answered {reply.name}")


@CONFIGURE.check("no_contract", "a mode dearer than the contract is NO_CONTRACT")
def _no_contract(s: Specimen) -> None:
    dear = max(range(len(s.descriptor.modes)), key=lambda i: s.descriptor.modes[i].mw, default=None)
    if dear is None or s.descriptor.modes[dear].mw <= 50:
        raise Skipped("no mode is dearer than the least that can be offered")
    s.stop()
    s.contract((FixedPdo(5000, 10),))
    reply = s.configure(dear)
    expect(reply.status == Status.NO_CONTRACT, f"{s.descriptor.modes[dear].mw} mW of 50 are answered {reply.name}")


@CONFIGURE.check("contract_before_values", "NO_CONTRACT comes before INVALID")
def _before(s: Specimen) -> None:
    dear = max(range(len(s.descriptor.modes)), key=lambda i: s.descriptor.modes[i].mw, default=None)
    if dear is None or s.descriptor.modes[dear].mw <= 50:
        raise Skipped("no mode is dearer than the least that can be offered")
    s.stop()
    s.contract((FixedPdo(5000, 10),))
    reply = s.put(Op.CONFIGURE, replace(want(s.descriptor.modes[dear], dear), interval_numerator=0).pack())
    expect(reply.status == Status.NO_CONTRACT, f"it is answered {reply.name}")
