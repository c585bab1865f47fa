# SPDX-License-Identifier: GPL-2.0-or-later
"""Backstage: the controls of a module that no app sees now, written for a person. The rules are those of
:class:`maglens_v4l2.controls.Controls`: an automatic ends where a hand moves what it drives, and keeps it in a reset.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from maglens_daemon.session import Session
from maglens_driver.automatics import SWITCHES, is_driven, switches_to_end
from maglens_driver.errors import Refused
from maglens_v4l2.controls import factory_values

log = logging.getLogger(__name__)


async def write(session: Session, values: Mapping[int, int]) -> Mapping[int, int]:
    """All at once, after the switches that they end; what was written, as clamped. Raises what the source raises."""
    present = await session.read()
    switches: dict[int, int] = {}
    for control in values:
        switches |= switches_to_end(control, present)
    return await session.write({**switches, **values})


async def reset(session: Session, only: Collection[int]) -> Mapping[int, int]:
    """Factory values of these controls, or all, one after the other; what they are then. A value that the module
    refuses is logged and stays as it is."""
    now = dict(await session.read())
    wanted = factory_values(session.playable().controls, only)
    for control in sorted(wanted, key=lambda control: control not in SWITCHES):
        if is_driven(control, now):
            continue
        try:
            now |= await session.write({control: wanted[control]})
        except Refused as error:
            log.info("%s: %s", session.label, error, extra=session.log_fields())
    return {control: now[control] for control in wanted if control in now}
