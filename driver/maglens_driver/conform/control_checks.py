# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls: what the descriptor promises of them."""

from __future__ import annotations

from typing import Final

from maglens_driver.automatics import SWITCHES
from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.in_hand import NUMBERS, ends, in_hand, present, put, put_one, writable
from maglens_driver.conform.specimen import Specimen
from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.link import wire
from maglens_driver.link.wire import ControlValue, Op, Status

CONTROLS: Final = Group("controls")
_UNKNOWN: Final = 0x0F00FFFF  # no control of V4L2's has such an id


def _read(s: Specimen, control: ControlInfo) -> int:
    now = present(s)
    expect(control.id in now, f"CONTROLS does not tell of {control.name}")
    return now[control.id]


@CONTROLS.check("listed", "CONTROLS tells of every control of the descriptor, once, and of no other")
def _listed(s: Specimen) -> None:
    ids = [e.id for e in wire.open_control_values(s.get(Op.CONTROLS).body)]
    want = {c.id for c in s.descriptor.controls}
    expect(set(ids) == want, f"it differs in {[hex(i) for i in set(ids) ^ want]}")
    expect(len(ids) == len(set(ids)), "one is there twice")


@CONTROLS.check("count", "the list is as long as its count says")
def _count(s: Specimen) -> None:
    body = s.get(Op.CONTROLS).body
    expect(len(body) >= wire.ControlCount.SIZE, f"the body has {len(body)} bytes")
    count = wire.ControlCount.unpack(body).count
    need = wire.ControlCount.SIZE + count * ControlValue.SIZE
    expect(len(body) == need, f"{count} entries take {need} bytes, {len(body)} came")


@CONTROLS.check("in_range", "every value is in its range")
def _in_range(s: Specimen) -> None:
    now = present(s)
    for c in s.descriptor.controls:
        value = now.get(c.id, c.default)
        expect(c.minimum <= value <= c.maximum, f"{c.name} is {value}, its range {c.minimum} to {c.maximum}")


@CONTROLS.check("set_and_read", "least, most and default of every control can be set, and are read back")
def _set_and_read(s: Specimen) -> None:
    for c in writable(s):
        with in_hand(s, c):
            for value in ends(c):
                answer = put_one(s, c.id, value)
                taken = (answer.status, answer.value) == (Status.OK, value)
                expect(taken, f"{c.name} = {value} is answered {answer.value} with status {answer.status:#x}")
                now = _read(s, c)
                expect(now == value, f"{c.name} was set to {value} and is {now}")


def _clamped(s: Specimen, ask: int, *, above: bool) -> None:
    for c in writable(s):
        if c.type not in NUMBERS:
            continue
        with in_hand(s, c):
            answer = put_one(s, c.id, (c.maximum if above else c.minimum) + ask)
            want = c.clamp(c.maximum) if above else c.minimum
            right = (answer.status, answer.value) == (Status.ADJUSTED, want)
            expect(right, f"{c.name} is {answer.value} with status {answer.status:#x}, not {want} and ADJUSTED")
            put_one(s, c.id, c.default)


@CONTROLS.check("clamps_above", "a value above the range is clamped to the most, and ADJUSTED")
def _above(s: Specimen) -> None:
    _clamped(s, 1000, above=True)


@CONTROLS.check("clamps_below", "a value below the range is clamped to the least, and ADJUSTED")
def _below(s: Specimen) -> None:
    _clamped(s, -1000, above=False)


@CONTROLS.check("clamps_huge", "the largest 64-bit numbers are clamped, too")
def _huge(s: Specimen) -> None:
    for c in writable(s):
        if c.type not in NUMBERS:
            continue
        with in_hand(s, c):
            for value in ((1 << 63) - 1, -(1 << 63)):
                answer = put_one(s, c.id, value)
                expect(c.minimum <= answer.value <= c.maximum, f"{c.name} is {answer.value}")
            put_one(s, c.id, c.default)


@CONTROLS.check("steps", "a value between two steps is moved to one of them, and ADJUSTED")
def _steps(s: Specimen) -> None:
    stepped = [c for c in writable(s) if c.type is ControlType.INTEGER and c.step > 1 and c.maximum > c.minimum]
    if not stepped:
        raise Skipped("every control has steps of 1")
    for c in stepped:
        with in_hand(s, c):
            answer = put_one(s, c.id, c.minimum + 1)
            on_step = (answer.value - c.minimum) % c.step == 0 and answer.value - c.minimum <= c.step
            expect(on_step and answer.status == Status.ADJUSTED, f"{c.name} is {answer.value}, its step {c.step}")
            put_one(s, c.id, c.default)


@CONTROLS.check("unknown", "an unknown control is INVALID")
def _unknown(s: Specimen) -> None:
    answer = put_one(s, _UNKNOWN, 1)
    expect(answer.status == Status.INVALID, f"it has status {answer.status:#x}")


@CONTROLS.check("refused_beside_good", "a refused entry does not stop the others, and the order is kept")
def _beside(s: Specimen) -> None:
    c = writable(s)[0]
    with in_hand(s, c):
        _, answers = put(s, (_UNKNOWN, 1), (c.id, c.default), (_UNKNOWN + 1, 1))
    expect([a.id for a in answers] == [_UNKNOWN, c.id, _UNKNOWN + 1], "the order is another")
    statuses = [a.status for a in answers]
    expect(statuses == [Status.INVALID, Status.OK, Status.INVALID], f"the statuses are {statuses}")


@CONTROLS.check("empty_list", "an empty list is OK")
def _empty(s: Specimen) -> None:
    reply, answers = put(s)
    expect(not answers, f"{len(answers)} entries came back")
    expect(reply.status == Status.OK, f"it is {reply.name}")


@CONTROLS.check("all_at_once", "all controls can be set in one request")
def _all(s: Specimen) -> None:
    controls = writable(s)
    with in_hand(s, *controls):
        now = present(s)  # of a switch: one that was ended stays so meanwhile
        wanted = [(c.id, now.get(c.id, c.default) if c.id in SWITCHES else c.clamp(c.default)) for c in controls]
        _, answers = put(s, *wanted)
        expect([(a.id, a.value) for a in answers] == wanted, "the answers are others")


@CONTROLS.check("too_many", "a list that says it has 65 entries is refused, INVALID or BAD_LENGTH")
def _too_many(s: Specimen) -> None:
    reply = s.put(Op.SET_CONTROLS, wire.ControlCount(65, 0).pack() + bytes(65 * ControlValue.SIZE))
    expect(reply.status in (Status.INVALID, Status.BAD_LENGTH), f"it is {reply.name}")


@CONTROLS.check("list_cut", "a list shorter than it says is BAD_LENGTH")
def _cut(s: Specimen) -> None:
    reply = s.put(Op.SET_CONTROLS, wire.ControlCount(2, 0).pack() + bytes(ControlValue.SIZE))
    expect(reply.status == Status.BAD_LENGTH, f"it is {reply.name}")


@CONTROLS.check("while_streaming", "controls can be set while it streams, and frames go on")
def _streaming(s: Specimen) -> None:
    c = writable(s)[0]
    answer = s.started(s.small())
    put_one(s, c.id, c.default)
    frames = s.receiver.frames(answer, s.epoch, 2, fresh=False)
    s.stop()
    expect(len(frames) == 2 and not frames[-1].trouble, "they do not")


@CONTROLS.check("read_only", "a read-only control is not changed by SET_CONTROLS")
def _read_only(s: Specimen) -> None:
    fixed = [c for c in s.descriptor.controls if c.flags & ControlFlag.READ_ONLY and c.minimum < c.maximum]
    if not fixed:
        raise Skipped("it has none")
    for c in fixed:
        before = _read(s, c)
        asked = c.minimum if before != c.minimum else c.maximum
        put_one(s, c.id, asked)
        expect(_read(s, c) != asked, f"{c.name} has become {asked}, as it was told")  # it may move by itself
