# SPDX-License-Identifier: GPL-2.0-or-later
"""Conversation: carries the messages of a :class:`~maglens_daemon.supply.Supply` to a module and back, in time.

Endpoint 0 has no way for a module to speak first, and its events flow only once the interface is claimed: until the
module has its answer ready it is asked again, at growing intervals, for ``REPLY_S`` in all.

:func:`converse` yields the seconds to pause, so that one definition serves a thread (:func:`blocking`) and the event
loop (:func:`pausing`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Final, Protocol

from maglens_daemon.contract import Contract
from maglens_daemon.supply import MAX_REQUESTS, Limit, Send, Steps, Supply, SupplyState
from maglens_driver.errors import BadModule, Deadline, Refused, WrongState
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo, PdMessage

_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.02
TRANSFERS: Final = 6 + 2 * MAX_REQUESTS  # control requests that an agreement takes at most, waiting apart

Talk = Generator[float, None, Contract | None]
Clock = Callable[[], float]  # seconds
SetLimit = Callable[[int], None]  # mW


def _no_limit(mw: int) -> None:
    """A port that limits nothing."""


class PowerLink(Protocol):
    """The two control requests that carry power messages (``usb.requests.Requests`` has them). Blocking."""

    def power_send(self, message: PdMessage) -> None: ...

    def power_receive(self) -> PdMessage | None: ...


def converse(
    link: PowerLink,
    supply: Supply,
    steps: Steps,
    limit: SetLimit = _no_limit,
    clock: Clock = time.monotonic,
) -> Talk:
    """Carry out ``steps`` and what follows from them until nothing is under way; returns the contract in force.

    ``limit`` sets the port's limit. Raises ``Deadline`` (no answer: the supply is UNSURE then), ``Refused("POWER")``
    (no contract), ``BadModule`` (``pd_*``; after ``MAX_PD_MESSAGES`` in any case) and what the link raises.
    """
    due, left = deque(steps), limits.MAX_PD_MESSAGES
    try:
        while True:
            while due:
                _step(link, supply, due.popleft(), limit)
            if supply.is_settled:
                return supply.contract
            if left == 0:
                raise BadModule("pd_flood", f"{limits.MAX_PD_MESSAGES} power messages, and no end of them")
            left -= 1
            message = yield from _answer(link, supply, clock)
            if message is None:
                supply.lapse()
                if supply.contract is None:
                    raise Refused("POWER", "the module wants nothing of what it is offered")
                return supply.contract
            due.extend(supply.receive(message))
    except WrongState as refused:
        supply.fail()
        raise BadModule("pd_step", f"the module is out of step: {refused}") from refused
    except Refused:
        if not supply.is_settled:
            supply.fail()
        raise
    except Exception:
        supply.fail()
        raise


def _step(link: PowerLink, supply: Supply, step: Send | Limit, limit: SetLimit) -> None:
    if isinstance(step, Send):
        link.power_send(step.message)
        supply.acknowledged(step.message)
    else:
        supply.limit_mw = step.mw
        limit(step.mw)


def _answer(link: PowerLink, supply: Supply, clock: Clock) -> Generator[float, None, PdMessage | None]:
    """The module's next message; None where it has answered before and says no more."""
    until, wait = clock() + limits.REPLY_S, _FIRST_PAUSE_S
    while (message := link.power_receive()) is None:
        if clock() >= until:
            if supply.state is SupplyState.OFFERED and supply.has_answered:
                return None
            raise Deadline(f"the module did not answer its power messages within {limits.REPLY_S} s")
        yield wait
        wait = min(wait * 2, _LONGEST_PAUSE_S)
    return message


def agree(
    link: PowerLink,
    supply: Supply,
    offered: Sequence[FixedPdo],
    limit: SetLimit = _no_limit,
    clock: Clock = time.monotonic,
) -> Talk:
    """Offer, and agree on a contract. Where something was lost before, or the module remembers another host's
    messages, a Soft_Reset goes first. Raises as :func:`converse`."""
    for last in (False, True):
        if supply.state is SupplyState.UNSURE:
            yield from converse(link, supply, supply.soft_reset(), limit, clock)
        try:
            return (yield from converse(link, supply, supply.offer(offered), limit, clock))
        except BadModule as why:
            if last or why.cause != "pd_step":
                raise
    raise AssertionError("the last try returns or raises")


def hear(link: PowerLink, supply: Supply, limit: SetLimit = _no_limit, clock: Clock = time.monotonic) -> Talk:
    """Fetch what the module has to say by itself, and answer. Raises as :func:`converse`."""
    message = link.power_receive()
    if message is None or supply.state is SupplyState.UNSURE:
        return supply.contract  # an agreement has fetched it already, or will clear it away
    try:
        steps = supply.receive(message)
    except BadModule:
        supply.fail()
        raise
    return (yield from converse(link, supply, steps, limit, clock))


def blocking(talk: Talk, pause: Callable[[float], None] = time.sleep) -> Contract | None:
    """In the thread of the module's control requests."""
    while True:
        try:
            pause(next(talk))
        except StopIteration as end:
            contract: Contract | None = end.value
            return contract


async def pausing(talk: Talk) -> Contract | None:
    """In the event loop, for links that do not block."""
    while True:
        try:
            await asyncio.sleep(next(talk))
        except StopIteration as end:
            contract: Contract | None = end.value
            return contract
