# SPDX-License-Identifier: GPL-2.0-or-later
"""Pulled off while it streams, and put back: somebody has to do that."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from maglens_driver.conform.check import Group, Skipped, expect, fail
from maglens_driver.conform.specimen import Before, Specimen
from maglens_driver.errors import Gone
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import ModuleState, Op, Status
from maglens_driver.usb.plan import SMALL_TRANSFER
from maglens_driver.usb.transport import Outcome

REPLUG: Final = Group("replug")
_DEFAULT_MW: Final = 2500  # 5 V and 500 mA
_LAST_TRANSFERS: Final = 16  # that may still hold what was under way
_FIRST: Final = 3
_NOBODY: Final = "nobody is asked to pull the module off (--replug does)"


def _before(s: Specimen) -> Before:
    """What it was before it was pulled off; it must be back."""
    if s.hand is None or s.before is None or s.before.bounces is None:
        raise Skipped(_NOBODY if s.hand is None else "it was not pulled off and put back")
    return s.before


@REPLUG.check("gone", "pulled off while it streams it is gone: transfers end, requests fail")
def _gone(s: Specimen) -> None:
    if s.hand is None:
        raise Skipped(_NOBODY)
    before = Before(s.raw_descriptor(), s.info().boot_id)
    s.started(s.small())
    s.hand.pull()
    s.before = before
    room = memoryview(bytearray(SMALL_TRANSFER))
    try:
        for _ in range(_LAST_TRANSFERS):
            outcome, _ = s.receiver.read(room, limits.STALL_MIN_S)
            expect(outcome is not Outcome.CANCELLED, "a transfer still waits")
            if outcome is not Outcome.COMPLETED:
                break
        s.read(Op.INFO)
    except Gone:
        return
    fail("INFO is still answered")


@REPLUG.check("comes_back", "put back it is recognised")
def _back(s: Specimen) -> None:
    if s.hand is None or s.before is None:
        raise Skipped(_NOBODY if s.hand is None else "it was not pulled off")
    s.close()
    s.facts, device, transport, bounces = s.hand.plug()
    s.bind(device, transport)
    s.before = replace(s.before, bounces=bounces)


@REPLUG.check("steady", "put back it stays: its contacts do not bounce the device off and on again")
def _steady(s: Specimen) -> None:
    bounces = _before(s).bounces
    expect(bounces == 0, f"it went and came back {bounces} more times")


@REPLUG.check("idle", "put back it is IDLE")
def _idle(s: Specimen) -> None:
    _before(s)
    expect((state := s.state()) is ModuleState.IDLE, f"it is {state.name}")


@REPLUG.check("boot_id", "put back it has another boot id")
def _boot_id(s: Specimen) -> None:
    expect(s.info().boot_id != _before(s).boot_id, "it has the same")


@REPLUG.check("same_descriptor", "put back it has the same descriptor")
def _same(s: Specimen) -> None:
    expect(s.raw_descriptor() == _before(s).descriptor, "it has another")


@REPLUG.check("no_contract", "put back it has no contract: a mode above bMaxPower and 2.5 W is NO_CONTRACT")
def _contract(s: Specimen) -> None:
    _before(s)
    dear = [i for i, m in enumerate(s.descriptor.modes) if m.mw > _DEFAULT_MW]
    if not dear:
        raise Skipped("no mode draws more than a port gives unasked")
    reply = s.configure(dear[0], test_only=True)
    expect(reply.status == Status.NO_CONTRACT, f"it is {reply.name}")


@REPLUG.check("streams", "put back it streams: ids from 0")
def _streams(s: Specimen) -> None:
    _before(s)
    r = s.record(s.small(), 2)
    expect(len(r.frames) == 2 and not any(f.trouble for f in r.frames), "no good frames came")
    expect(wire.open_leader(r.frames[0].leader).frame_id < _FIRST, "the ids go on where they were")
