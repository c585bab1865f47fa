# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls: one per node, and the only writer of controls. Between apps, the hand on the ring, automatics and memory.

Whoever writes, the module has the last word: its clamped value is pushed to apps. A person's value (from an app or
the ring) ends the automatic that drives it, is stored for that very module, and is written again when it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from maglens_driver.automatics import SWITCHES, is_driven, switches_to_end
from maglens_driver.control import ControlFlag, ControlInfo, ControlType, Origin
from maglens_driver.errors import Deadline, MaglensError, Refused
from maglens_driver.link.wire import Status
from maglens_v4l2.canonical import CONTROLS
from maglens_v4l2.node import ControlChange, ControlSet, Node, NodeEvent, UsageChanged
from maglens_v4l2.replays import BURST_S, Replays, Verdict
from maglens_v4l2.store import Store
from maglens_v4l2.wishes import Wishes

SAVE_EVERY_S = 1.0  # at most: a slider that is dragged
MENU_BITS = 64

SetSource = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]
ReadSource = Callable[[], Awaitable[Mapping[int, int]]]

log = logging.getLogger(__name__)


class Controls:
    """All calls in the event loop's thread. Values are the module's own; menus of numbers are translated for the
    node, whose items are fixed."""

    def __init__(self, node: Node, store: Store, before: str = "") -> None:
        """``before``: whose controls apps saw when the process before this one ended, where the node outlived it."""
        self._node = node
        self._store = store
        self._identity = ""
        self._infos: dict[int, ControlInfo] = {}
        self._values: dict[int, int] = {}
        self._set_source: SetSource | None = None
        self._read_source: ReadSource | None = None
        self._before = before
        self._left = _CANONICAL.keys() | set()  # may be active still for one who has gone meanwhile
        self._early: dict[int, ControlSet] = {}  # written while no process was there, for ``before``: latest wins
        self._replays = Replays()
        self._turn = asyncio.Lock()  # one exchange with the module at a time
        self._wishes = Wishes()
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="maglens-controls")
        self._unsaved = False
        self._save_again: asyncio.TimerHandle | None = None  # until then nothing is saved
        self._saving: asyncio.Task[None] | None = None
        self._waiting: dict[ControlSet, asyncio.TimerHandle] = {}

    @property
    def identity(self) -> str:
        """Whose controls they are now; empty where nobody's."""
        return self._identity

    @property
    def infos(self) -> tuple[ControlInfo, ...]:
        """What can be set now: the module's, and the switches of what is done for it here."""
        return tuple(self._infos.values())

    @property
    def values(self) -> Mapping[int, int]:
        """Present values of the present module."""
        return dict(self._values)

    async def attach(
        self,
        identity: str,
        infos: Sequence[ControlInfo],
        values: Mapping[int, int],
        set_source: SetSource,
        read_source: ReadSource | None = None,
    ) -> None:
        """A module plays from now on. ``values`` are its present ones, ``set_source`` and ``read_source`` write to it
        and ask it as :class:`maglens_driver.source.Source` does. What is stored for it is written again."""
        async with self._turn:
            gone = (self._infos.keys() | self._left) - {info.id for info in infos}
            early = self._early.values() if identity == self._before else ()
            self._before, self._left, self._early = "", set(), {}
            if identity != self._identity:
                self._forget_wishes()
            self._identity = identity
            self._infos = {info.id: info for info in infos}
            self._values = dict(values)
            self._set_source, self._read_source = set_source, read_source
            self._grey_out(gone)
            await self._restore()
            if self._set_source is not set_source:
                return  # it left meanwhile
            for info in self.infos:
                self._push_all(info)
            for event in early:
                self._app_set(event)

    def detach(self) -> None:
        """No module plays: its controls are greyed out, and what apps wanted of it is forgotten."""
        self._grey_out(self._infos.keys() | self._left)
        self._before, self._left, self._early = "", set(), {}
        self._identity, self._infos, self._values = "", {}, {}
        self._set_source = self._read_source = None
        self._forget_wishes()

    async def write(self, control: int, value: int, origin: Origin) -> int:
        """Write a control; the answer is the value as clamped. Raises ``Refused`` when the present module does not
        have it or does not take it now, and what the module's ``set`` raises."""
        if origin in (Origin.APP, Origin.MODULE):
            self._wishes.drop(control)  # older ones
        async with self._turn:
            try:
                return await self._write(control, value, origin)
            except BaseException:
                self._put_back(control)
                raise

    def changed(self, control: int, value: int) -> None:
        """The module moved a control by itself: a hand where it has a ring and no automatic drives it, else its
        automatics. (A module whose ring ends its automatic reports that switch as well.)"""
        info = self._infos.get(control)
        if info is None:
            return
        by_hand = bool(info.flags & ControlFlag.RING) and not is_driven(control, self._values)
        self._values[control] = value
        if by_hand:
            self._wishes.drop(control)
        if by_hand or control in SWITCHES:
            self._remember(control, value)
        self._push_value(control)

    def activated(self, control: int, active: bool) -> None:
        """The device says that a control can be set from now on, or cannot."""
        info = self._infos.get(control)
        if info is not None:
            rest = info.flags & ~ControlFlag.INACTIVE
            info = self._infos[control] = replace(info, flags=rest if active else rest | ControlFlag.INACTIVE)
            self._push(control, ControlChange(active=self._is_active(info)))

    def handle(self, event: NodeEvent) -> None:
        """Something an app did with the node."""
        if isinstance(event, ControlSet):
            self._app_set(event)
        elif isinstance(event, UsageChanged) and event.openers == 0:
            for info in self._infos.values():  # so that a reset at the next app's start changes nothing
                self._push(info.id, ControlChange(range=self._range(info)))

    async def reset(self, only: Collection[int] = ()) -> Mapping[int, int]:
        """Forget what is stored for the present module and write its factory values: of these controls, or all. What
        they are then; what an automatic drives is left to it."""
        async with self._turn:
            self._store.forget(self._identity, only)
            self._save_soon()
            wanted = factory_values(self._infos.values(), only)
            for control in wanted:
                self._wishes.drop(control)
            await self._replay(wanted)
            for control in wanted:
                self._push_all(self._infos[control])
            return {control: self._values[control] for control in wanted}

    async def close(self) -> None:
        """End; what is not saved yet is saved now."""
        self._worker.cancel()
        self._forget_wishes()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        if self._save_again is not None:
            self._save_again.cancel()
        if self._saving is not None:
            await self._saving
        if self._unsaved:
            await self._save()

    # What apps do.

    def _app_set(self, event: ControlSet) -> None:
        if self._before and event.id in _CANONICAL:
            self._early.pop(event.id, None)
            self._early[event.id] = event
            return
        value = self._to_module(event.id, event.value)
        info = self._infos.get(event.id)
        if info is None or value is None:
            return
        now = asyncio.get_running_loop().time()
        who = (event.program, event.process, event.id, event.value)
        if (
            info.type is not ControlType.BUTTON
            and value == self._values.get(event.id)
            and event.id not in self._wishes
        ):
            self._replays.unchanged(*who, now)
            return
        button = info.type is ControlType.BUTTON
        verdict = Verdict.ACCEPT if button else self._replays.judge(*who, now, self._driving(event.id))
        if verdict is Verdict.WAIT:
            if event in self._waiting:
                return
            loop = asyncio.get_running_loop()
            self._waiting[event] = loop.call_later(BURST_S, self._decided, event, value)
        else:
            self._settle(event.id, value, verdict)

    def _decided(self, event: ControlSet, value: int) -> None:
        del self._waiting[event]
        switches = self._driving(event.id)
        verdict = self._replays.decide(event.program, event.process, event.id, event.value, switches)
        self._settle(event.id, value, verdict)

    def _driving(self, control: int) -> Collection[int]:
        """Switches of the automatics that will drive it once all that apps want is written."""
        return switches_to_end(control, {**self._values, **self._wishes.values}).keys()

    def _settle(self, control: int, value: int, verdict: Verdict) -> None:
        if verdict is not Verdict.IGNORE:
            self._wishes.ask(control, value)
        else:
            self._put_back(control)

    def _forget_wishes(self) -> None:
        """They were for a module that has left."""
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        self._wishes.clear()

    async def _work(self) -> None:
        """Write what apps ask for, one after the other, as fast as the module takes it."""
        while True:
            await self._wishes.wait()
            async with self._turn:
                wish = self._wishes.take()
                if wish is None:
                    continue
                control, value = wish
                try:
                    await self._grant(control, value)
                except Exception:  # one module's bad answer: the next one is written to all the same
                    log.exception("control 0x%08x was not set to %d", control, value)
                    self._put_back(control)

    async def _grant(self, control: int, value: int) -> None:
        info = self._infos.get(control)
        try:
            await self._write(control, value, Origin.APP)
            return
        except (MaglensError, OSError) as error:
            button = info is not None and info.type is ControlType.BUTTON  # it may have been pressed
            if _had_no_time(error) and not button and self._wishes.again():
                log.info("control 0x%08x is not set to %d yet: %s", control, value, error)
                return
            why = error
        finally:
            self._wishes.done()
        if not (_had_no_time(why) and await self._has_taken(control, value)):
            log.info("control 0x%08x was not set to %d: %s", control, value, why)
            self._replays.undone(control, value)
            self._put_back(control)

    def _put_back(self, control: int) -> None:
        """An app's write stands in the node: back to the true value, unless another is on its way."""
        if control not in self._wishes:
            self._push_value(control)

    async def _has_taken(self, control: int, value: int) -> bool:
        """Ask a module whose answers came too late what it has, and tell apps; whether it has ``value``."""
        read, info = self._read_source, self._infos.get(control)
        if read is None or info is None:
            return False
        try:
            present = await read()
        except (MaglensError, OSError) as error:
            log.info("%s does not say what it has: %s", self._identity, error)
            return False
        if self._read_source is not read:
            return False  # it left meanwhile
        taken = present.get(control) == info.clamp(value)
        for changed, now in present.items():
            if changed not in self._infos or changed in self._wishes or self._values.get(changed) == now:
                continue
            self._values[changed] = now
            if taken and (changed == control or changed in SWITCHES):
                self._remember(changed, now)
            self._push_value(changed)
        return taken

    # Writing.

    async def _write(self, control: int, value: int, origin: Origin) -> int:
        info = self._infos.get(control)
        if info is None or self._set_source is None:
            raise Refused(
                "control", f"the present module has no control 0x{control:08x}", hint="maglens control list"
            )
        if info.flags & ControlFlag.READ_ONLY and origin is not Origin.AUTO:
            raise Refused("control", f"{info.name} cannot be set")
        value = info.clamp(value)
        set_source = self._set_source
        if origin is Origin.AUTO:
            written = {control: value}
        elif origin is Origin.RESTORE:
            if is_driven(control, self._values):
                return self._values.get(control, value)
            written = dict(await set_source({control: value}))
        else:
            switches = switches_to_end(control, self._values)
            wanted = switches if origin is Origin.MODULE else switches | {control: value}
            written = {control: value} | (dict(await set_source(wanted)) if wanted else {})
        if info.type is ControlType.BUTTON or self._set_source is not set_source:
            return written[control]
        for changed, now in written.items():
            self._values[changed] = now
            if origin in (Origin.APP, Origin.MODULE):
                self._remember(changed, now)
            self._push_value(changed)
        return written[control]

    async def _restore(self) -> None:
        """What is stored for this module, as far as it still has it."""
        stored = self._store.get(self._identity)
        await self._replay({control: value for control, value in stored.items() if control in self._infos})

    async def _replay(self, wanted: Mapping[int, int]) -> None:
        """Switches first, then what no automatic drives."""
        for control in sorted(wanted, key=lambda control: control not in SWITCHES):
            try:
                await self._write(control, wanted[control], Origin.RESTORE)
            except Refused as error:
                log.info("%s: %s", self._identity, error)

    def _remember(self, control: int, value: int) -> None:
        self._store.put(self._identity, control, value)
        self._save_soon()

    def _save_soon(self) -> None:
        """At once: the service may be killed in the next moment. What follows is saved once a second."""
        self._unsaved = True
        if self._save_again is None:
            self._begin_save()

    def _begin_save(self) -> None:
        self._save_again = None
        if not self._unsaved:
            return
        loop = asyncio.get_running_loop()
        self._save_again = loop.call_later(SAVE_EVERY_S, self._begin_save)
        if self._saving is None or self._saving.done():
            self._saving = loop.create_task(self._save())

    async def _save(self) -> None:
        self._unsaved = False
        await self._store.keep()

    # Telling apps.

    def _grey_out(self, controls: Iterable[int]) -> None:
        """Nobody has these now. A status that says that something is under way says so no more: apps wait for it."""
        for control in controls:
            info = _CANONICAL.get(control)
            idle = info.default if info is not None and info.flags & ControlFlag.READ_ONLY else None
            self._push(control, ControlChange(value=idle, active=False))

    def _push(self, control: int, change: ControlChange) -> None:
        if self._node.caps.controls:
            self._node.push(self._node.generation, control, change)

    def _push_value(self, control: int) -> None:
        value = self._to_node(control, self._values[control]) if control in self._values else None
        if value is not None:
            self._push(control, ControlChange(value=value))
        if control in SWITCHES:  # and where one was switched off, the device tells what is active then
            for info in self._infos.values():
                if info.flags & ControlFlag.INACTIVE and self._is_active(info):
                    self._push(info.id, ControlChange(active=True))

    def _push_all(self, info: ControlInfo) -> None:
        told = info.id in self._values and info.id not in self._wishes
        value = self._to_node(info.id, self._values[info.id]) if told else None
        self._push(info.id, ControlChange(value=value, range=self._range(info), active=self._is_active(info)))

    def _is_active(self, info: ControlInfo) -> bool:
        """Whether a write does something: one ends the automatic for which a driver has made the control inactive."""
        return not info.flags & ControlFlag.INACTIVE or is_driven(info.id, self._values)

    def _range(self, info: ControlInfo) -> tuple[int, int, int, int]:
        """For the node; the default is what is stored."""
        stored = self._store.get(self._identity).get(info.id, info.default)
        default = self._to_node(info.id, info.clamp(stored))
        if info.type not in (ControlType.MENU, ControlType.INTEGER_MENU):
            return info.minimum, info.maximum, info.step, info.default if default is None else default
        offered = {self._to_node(info.id, index) for index, _ in info.menu} - {None}
        items = sorted(index for index in offered if index is not None and index < MENU_BITS) or [0]
        left_out = sum(1 << index for index in range(items[-1] + 1) if index not in items)
        return items[0], items[-1], left_out, items[0] if default is None else default

    # Menus of numbers: the node's items are fixed, the module's are its own; both name the same numbers.

    def _to_node(self, control: int, value: int) -> int | None:
        return _translated(_menu(self._infos.get(control)), _menu(_CANONICAL.get(control)), value)

    def _to_module(self, control: int, value: int) -> int | None:
        return _translated(_menu(_CANONICAL.get(control)), _menu(self._infos.get(control)), value)


def factory_values(infos: Iterable[ControlInfo], only: Collection[int] = ()) -> dict[int, int]:
    """Of all controls that can be written, or of those among ``only``; switches of automatics first."""
    writable = [
        info
        for info in infos
        if not info.flags & ControlFlag.READ_ONLY
        and info.type is not ControlType.BUTTON
        and (not only or info.id in only)
    ]
    return {info.id: info.default for info in sorted(writable, key=lambda info: info.id not in SWITCHES)}


def _had_no_time(error: Exception) -> bool:
    """Whether the same write may succeed a moment later."""
    return isinstance(error, Deadline) or (isinstance(error, Refused) and error.status == Status.BUSY.name)


_CANONICAL = {info.id: info for info in CONTROLS}


def _menu(info: ControlInfo | None) -> Mapping[int, str]:
    return dict(info.menu) if info is not None and info.type is ControlType.INTEGER_MENU else {}


def _translated(source: Mapping[int, str], target: Mapping[int, str], value: int) -> int | None:
    """The index in ``target`` of the number that ``value`` means in ``source``; None where it is not offered."""
    if not source or not target:
        return value
    number = source.get(value)
    return next((index for index, text in target.items() if text == number), None)
