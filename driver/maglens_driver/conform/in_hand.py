# SPDX-License-Identifier: GPL-2.0-or-later
"""In hand: controls that can be set, with the automatics that drive them ended meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from maglens_driver.automatics import AUTOMATICS, is_driven, switches_to_end
from maglens_driver.conform.check import Skipped, expect
from maglens_driver.conform.specimen import Reply, Specimen
from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.link import wire
from maglens_driver.link.wire import ControlValue, Op, Status

NUMBERS: Final = (ControlType.INTEGER, ControlType.BOOLEAN)
CHOICES: Final = (ControlType.MENU, ControlType.INTEGER_MENU)
_DRIVEN: Final = frozenset(control for automatic in AUTOMATICS for control in automatic.driven)


def put(s: Specimen, *entries: tuple[int, int]) -> tuple[Reply, tuple[ControlValue, ...]]:
    """SET_CONTROLS, which must be OK: the reply and its entries."""
    reply = s.put(Op.SET_CONTROLS, wire.pack_controls(ControlValue(i, 0, v) for i, v in entries))
    expect(reply.status == Status.OK, f"SET_CONTROLS is answered {reply.name}")
    return reply, wire.open_control_values(reply.body)


def put_one(s: Specimen, control: int, value: int) -> ControlValue:
    """SET_CONTROLS of one control: its entry of the answer."""
    _, answers = put(s, (control, value))
    expect(len(answers) == 1, f"one entry was sent, {len(answers)} came back")
    expect(answers[0].id == control, f"the answer is for {answers[0].id:#010x}")
    return answers[0]


def present(s: Specimen) -> dict[int, int]:
    """What CONTROLS tells."""
    reply = s.get(Op.CONTROLS)
    expect(reply.status == Status.OK, f"CONTROLS is answered {reply.name}")
    return {e.id: e.value for e in wire.open_control_values(reply.body)}


def writable(s: Specimen) -> Sequence[ControlInfo]:
    """Those that obey a hand once :func:`in_hand`; none skips the check. What an automatic drives that is on and that
    nobody can end goes its own way."""
    infos = {c.id: c for c in s.descriptor.controls}
    stuck = {a.id for a in AUTOMATICS if a.id in infos and not _takes(infos[a.id], a.off)}
    on = {control: value for control, value in present(s).items() if control in stuck} if stuck else {}
    numeric = [c for c in infos.values() if c.type in (*NUMBERS, *CHOICES) and not _fixed(c)]
    found = [c for c in numeric if not is_driven(c.id, on)]
    if not found:
        raise Skipped("it has no control that can be set")
    return found


def ends(c: ControlInfo) -> tuple[int, ...]:
    """Values to try: least and most, or all of a menu; the default last."""
    default = c.clamp(c.default)
    values = [value for value, _ in c.menu] if c.type in CHOICES else [c.minimum, c.clamp(c.maximum)]
    return (*(value for value in dict.fromkeys(values) if value != default), default)


@contextmanager
def in_hand(s: Specimen, *controls: ControlInfo) -> Iterator[None]:
    """End the automatics that drive ``controls``, and let them go on afterwards, whatever happened."""
    before = present(s) if any(c.id in _DRIVEN for c in controls) else {}
    ended: list[int] = []
    try:
        for c in controls:
            _end(s, switches_to_end(c.id, before), ended)
        yield
    finally:
        for switch in ended:
            put_one(s, switch, before[switch])


def _end(s: Specimen, switches: Mapping[int, int], ended: list[int]) -> None:
    names = {c.id: c.name for c in s.descriptor.controls}
    for switch, off in switches.items():
        if switch not in ended:
            ended.append(switch)
            answer = put_one(s, switch, off)
            expect(answer.value == off, f"{names.get(switch, hex(switch))} is not switched off but {answer.value}")


def _fixed(c: ControlInfo) -> bool:
    return bool(c.flags & (ControlFlag.READ_ONLY | ControlFlag.INACTIVE))


def _takes(c: ControlInfo, value: int) -> bool:
    """Whether it can be set to ``value``."""
    if c.type in CHOICES:
        return not _fixed(c) and value in dict(c.menu)
    return not _fixed(c) and c.type in NUMBERS and c.minimum <= value <= c.maximum
