# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects: what stands behind each D-Bus object. Values are in the shapes that org.maglens1.xml declares."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from maglens_daemon import status
from maglens_daemon.manager import Manager
from maglens_daemon.object_path import module_path
from maglens_daemon.session import Session
from maglens_daemon.version import VERSION
from maglens_driver import names

Handler = Callable[..., Awaitable[list[Any]]]


class ManagerObject:
    """org.maglens1.Manager"""

    interface: Final = names.BUS_INTERFACE
    changing: Final = frozenset(("Use", "UseOn", "Reload"))

    def __init__(self, manager: Manager, reload: Callable[[], None]) -> None:
        self._manager = manager
        self._reload = reload

    def properties(self) -> dict[str, Any]:
        """Values by name."""
        manager = self._manager
        playing = manager.stage.playing.session.identity if manager.stage.playing else None
        return {
            "Version": VERSION,
            "State": status.state_line(manager),
            "Modules": [module_path(s.port.path) for s in manager.sessions if not s.unplugged],
            "Playing": playing.key if playing else "",
            "Choice": manager.pinned,
            "Granted": manager.allotment.granted_mw,
            "PowerLevel": manager.conditions.now.level.name.lower(),
            "PowerReason": manager.conditions.now.reason,
        }

    def methods(self) -> Mapping[str, Handler]:
        """Coroutine functions by name."""
        return {"Status": self._status, "Use": self._use, "UseOn": self._use_on, "Reload": self._do_reload}

    async def _status(self) -> list[Any]:
        return [json.dumps(status.status(self._manager))]

    async def _use(self, source: str) -> list[Any]:
        return [self._manager.use(source)]

    async def _use_on(self, node: str, source: str) -> list[Any]:
        return [self._manager.use(source, node)]

    async def _do_reload(self) -> list[Any]:
        self._reload()
        return []


class ModuleObject:
    """org.maglens1.Module"""

    interface: Final = names.BUS_INTERFACE_MODULE
    changing: Final = frozenset(("SetControls", "ResetControls"))

    def __init__(self, manager: Manager, session: Session) -> None:
        self._manager = manager
        self.session = session

    def properties(self) -> dict[str, Any]:
        """Values by name."""
        s = status.module_status(self._manager, self.session)
        contract = s["contract"]
        terms = [0, 0, 0, False]
        if contract is not None:
            terms = [
                contract["mv"],
                contract["operating_ma"],
                contract["maximum_ma"],
                contract["capability_mismatch"],
            ]
        return {
            "Port": s["port"],
            "State": s["state"],
            "Reason": s["reason"],
            "Cause": s["cause"],
            "Maker": s["maker"],
            "Model": s["model"],
            "Serial": s["serial"],
            "Firmware": s["firmware"],
            "Lens": s["lens"],
            "Modes": [mode["text"] for mode in s["modes"]],
            "Mode": s["mode"]["text"] if s["mode"] else "",
            "Speed": s["speed_mbit_s"],
            "Contract": terms,
            "SourceCapabilities": [
                [int(name.partition(":")[0]), offer["voltage"], offer["maximum_current"]]
                for name, offer in (s["supply"]["source_capabilities"] if s["supply"] else {}).items()
            ],
            "SupplyState": s["supply"]["state"] if s["supply"] else "",
            "PowerLimit": s["supply"]["limit_mw"] if s["supply"] else 0,
            "Notes": s["notes"],
            "Playing": s["playing"],
        }

    def methods(self) -> Mapping[str, Handler]:
        """Coroutine functions by name."""
        return {
            "ListControls": self._list,
            "GetControls": self._get,
            "SetControls": self._set,
            "ResetControls": self._reset,
        }

    async def _list(self) -> list[Any]:
        return [
            [
                [c.id, c.name, int(c.type), c.minimum, c.maximum, c.step, c.default, int(c.flags)]
                for c in self._manager.list_controls(self.session)
            ]
        ]

    async def _get(self) -> list[Any]:
        return [dict(await self._manager.get_controls(self.session))]

    async def _set(self, values: dict[int, int]) -> list[Any]:
        return [dict(await self._manager.set_controls(self.session, values))]

    async def _reset(self, controls: list[int]) -> list[Any]:
        return [dict(await self._manager.reset_controls(self.session, controls))]


class NodeObject:
    """org.maglens1.Node"""

    interface: Final = names.BUS_INTERFACE_NODE
    changing: Final[frozenset[str]] = frozenset()

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def properties(self) -> dict[str, Any]:
        """Values by name."""
        s = status.node_status(self._manager, self._manager.stage)
        problem = f"{s['problem']}\ntry: {s['hint']}" if s["hint"] else s["problem"]
        return {
            "Path": s["path"],
            "Name": s["name"],
            "Format": s["format"]["text"] if s["format"] else "",
            "Streamers": s["streamers"],
            "Problem": problem,
        }

    def methods(self) -> Mapping[str, Handler]:
        """Coroutine functions by name."""
        return {"Counters": self._counters}

    async def _counters(self) -> list[Any]:
        return [status.node_status(self._manager, self._manager.stage)["counters"]]
