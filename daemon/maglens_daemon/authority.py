# SPDX-License-Identifier: GPL-2.0-or-later
"""Authority: who may change something over D-Bus. The one place where that is decided.

Root and the members of the group ``maglens`` may; others may when polkit says so for :data:`ACTION` (an active local
session by default, see org.maglens1.policy). Without polkit, nobody else.
"""

from __future__ import annotations

import asyncio
import grp
import itertools
import logging
import pwd
from collections import Counter
from dataclasses import dataclass
from typing import Final

from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from maglens_daemon.errors import Denied
from maglens_driver import names

log = logging.getLogger(__name__)

ACTION: Final = "org.maglens1.control"
MEMBER_S: Final = 5.0  # what was found out of a user holds so long
ASK_S: Final = 60.0  # for polkit, and the person whom it asks
ASKS_OF_ONE: Final = 2  # calls of a user that wait for a person at a time: they take up room that all callers share
_ALLOW_INTERACTION: Final = 1


def is_member(uid: int) -> bool:
    """Whether this user is root or in the group. Blocks: users and groups may come from the network."""
    if uid == 0:
        return True
    try:
        user = pwd.getpwuid(uid)
        group = grp.getgrnam(names.SYSTEM_GROUP)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem


@dataclass(frozen=True, slots=True)
class _Lookup:
    answer: asyncio.Task[bool]
    until_s: float  # loop time


class Authority:
    """One per bus, in the event loop's thread."""

    def __init__(self) -> None:
        self._lookups: dict[int, _Lookup] = {}  # by uid
        self._asks: Counter[int] = Counter()  # calls that may wait for a person, by uid
        self._numbers = itertools.count(1)

    async def check(self, bus: MessageBus, call: Message) -> None:
        """Raises :class:`Denied` unless the sender of ``call`` may change something. A person is asked for a password
        only where the caller allows that, and for no more than :data:`ASKS_OF_ONE` of a user's calls at a time: what
        is beyond that gets the answer that polkit has without."""
        sender = call.sender or ""
        uid = await _uid(bus, sender)
        if await self._is_member(uid) or await self._polkit(bus, sender, uid, call.flags):
            return
        raise Denied(
            f"user {uid} may not control the cameras",
            hint=f"sudo usermod -aG {names.SYSTEM_GROUP} $USER, then log in again",
        )

    async def _is_member(self, uid: int) -> bool:
        """:func:`is_member` in a thread, one at a time for a user, however often that one calls."""
        now = asyncio.get_running_loop().time()
        self._lookups = {u: it for u, it in self._lookups.items() if now < it.until_s or not it.answer.done()}
        if uid not in self._lookups:
            answer = asyncio.create_task(asyncio.to_thread(is_member, uid), name=f"member-{uid}")
            self._lookups[uid] = _Lookup(answer, now + MEMBER_S)
        return await asyncio.shield(self._lookups[uid].answer)

    async def _polkit(self, bus: MessageBus, sender: str, uid: int, flags: MessageFlag) -> bool:
        """Within :data:`ASK_S`; whoever is being asked then is asked no more."""
        ask = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION in flags and self._asks[uid] < ASKS_OF_ONE
        number = f"maglens-{next(self._numbers)}"
        self._asks[uid] += ask
        try:
            async with asyncio.timeout(ASK_S):
                return await _check(bus, sender, ask, number)
        except TimeoutError:
            log.info("user %d: polkit has not answered within %g s", uid, ASK_S)
            await bus.send(_to_polkit("CancelCheckAuthorization", "s", [number], MessageFlag.NO_REPLY_EXPECTED))
            return False
        finally:
            self._asks[uid] -= ask
            if not self._asks[uid]:
                del self._asks[uid]


async def _uid(bus: MessageBus, sender: str) -> int:
    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="GetConnectionUnixUser",
            signature="s",
            body=[sender],
        )
    )
    if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
        raise Denied(f"{sender} is gone from the bus")
    return int(reply.body[0])


def _to_polkit(member: str, signature: str, body: list[object], flags: MessageFlag = MessageFlag.NONE) -> Message:
    return Message(
        destination="org.freedesktop.PolicyKit1",
        path="/org/freedesktop/PolicyKit1/Authority",
        interface="org.freedesktop.PolicyKit1.Authority",
        member=member,
        signature=signature,
        body=body,
        flags=flags,
    )


async def _check(bus: MessageBus, sender: str, ask: bool, number: str) -> bool:
    """CheckAuthorization of org.freedesktop.PolicyKit1.Authority. ``ask``: a person, if need be; ``number``: by which
    it can be cancelled."""
    subject = ["system-bus-name", {"name": Variant("s", sender)}]
    body: list[object] = [subject, ACTION, {}, _ALLOW_INTERACTION if ask else 0, number]
    reply = await bus.call(_to_polkit("CheckAuthorization", "(sa{sv})sa{ss}us", body))
    if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
        log.debug("polkit does not answer: %s", reply.error_name if reply else "disconnected")
        return False
    return bool(reply.body[0][0])
