# SPDX-License-Identifier: GPL-2.0-or-later
"""Authority: who may change something over D-Bus. The one place where that is decided.

Root and the members of the group ``maglens`` may; others may when polkit says so for :data:`ACTION` (an active local
session by default, see org.maglens1.policy). Without polkit, nobody else.
"""

from __future__ import annotations

import grp
import logging
import pwd
from typing import Final

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from maglens_daemon.errors import Denied
from maglens_driver import names

log = logging.getLogger(__name__)

ACTION: Final = "org.maglens1.control"
_ALLOW_INTERACTION: Final = 1


def is_member(uid: int) -> bool:
    """Whether this user is root or in the group."""
    if uid == 0:
        return True
    try:
        user = pwd.getpwuid(uid)
        group = grp.getgrnam(names.SYSTEM_GROUP)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem


async def check(bus: MessageBus, sender: str) -> None:
    """Raises :class:`Denied` unless the owner of the bus name ``sender`` may change something."""
    uid = await _uid(bus, sender)
    if is_member(uid) or await _polkit(bus, sender):
        return
    raise Denied(
        f"user {uid} may not control the cameras",
        hint=f"sudo usermod -aG {names.SYSTEM_GROUP} $USER, then log in again",
    )


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


async def _polkit(bus: MessageBus, sender: str) -> bool:
    """CheckAuthorization of org.freedesktop.PolicyKit1.Authority."""
    reply = await bus.call(
        Message(
            destination="org.freedesktop.PolicyKit1",
            path="/org/freedesktop/PolicyKit1/Authority",
            interface="org.freedesktop.PolicyKit1.Authority",
            member="CheckAuthorization",
            signature="(sa{sv})sa{ss}us",
            body=[["system-bus-name", {"name": Variant("s", sender)}], ACTION, {}, _ALLOW_INTERACTION, ""],
        )
    )
    if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
        log.debug("polkit does not answer: %s", reply.error_name if reply else "disconnected")
        return False
    return bool(reply.body[0][0])
