# SPDX-License-Identifier: GPL-2.0-or-later
"""Autopilot: exposure, white balance and focus of one raw module for one stay, done here because it does none itself.

It stands between the controls and the source: the switches that it adds look to apps like those of a camera with
automatics of its own. A person's write goes through :meth:`Autopilot.set`, a hand on the ring through
:meth:`Autopilot.hand`; both end what they contradict before anything else happens. All in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from maglens_driver.automatics import switches_to_end
from maglens_driver.control import Cid, ControlInfo
from maglens_driver.errors import MaglensError, Refused
from maglens_driver.mode import Mode
from maglens_v4l2.auto_exposure import AutoExposure, ExposureState
from maglens_v4l2.auto_focus import AutoFocus, FocusState
from maglens_v4l2.auto_white_balance import LIMITS_K, AutoWhiteBalance
from maglens_v4l2.exposure_program import (
    GAIN_UNIT,
    TIME_UNIT_S,
    Exposure,
    ExposureProgram,
    Free,
    above_zero,
    opening,
)
from maglens_v4l2.focus_search import CONFUSION_PER_DIAGONAL
from maglens_v4l2.measurement import UDPT_PER_CDPT, Measurement, Window
from maglens_v4l2.recipe import Recipe, recipe_for
from maglens_v4l2.switches import DAYLIGHT_K, FREE_IRIS, FREE_TIME, MANUAL_EXPOSURE, switches_for

FOCUS: Final = frozenset((Cid.FOCUS_FINE, Cid.FOCUS_ABSOLUTE))
EXPOSURE: Final = frozenset((Cid.EXPOSURE_ABSOLUTE, Cid.GAIN, Cid.IRIS_ABSOLUTE))
STEERING: Final = frozenset((Cid.EXPOSURE_AUTO, Cid.AUTOGAIN, Cid.POWER_LINE_FREQUENCY))
UNSETTLED: Final = 60  # frames
BALANCE: Final = frozenset((Cid.AUTO_WHITE_BALANCE, Cid.WHITE_BALANCE_TEMPERATURE))

Write = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]

log = logging.getLogger(__name__)


class Autopilot:
    """``mode`` of the stay, which has raw facts; ``controls`` and ``values`` of the module; ``write`` as its source's
    ``set``. ``tune`` takes a recipe for the frames to come; ``tell(control, value)`` hears of every value that was
    moved here. ``ValueError`` where the module's facts make no sense."""

    def __init__(
        self,
        mode: Mode,
        controls: Sequence[ControlInfo],
        values: Mapping[int, int],
        write: Write,
        *,
        tune: Callable[[Recipe], None],
        tell: Callable[[int, int], None],
        window: Window = Window(),  # noqa: B008 frozen
    ) -> None:
        if mode.raw is None:
            raise ValueError("nothing is known of its samples")
        self.window = window
        self._facts = mode.raw
        self._interval_s = float(mode.interval)
        self._module = {info.id: info for info in controls}
        self._own = {info.id: info for info in switches_for(self._module, mode.raw.pixel_nm > 0)}
        self._values = {info.id: info.default for info in self._own.values()} | dict(values)
        self._write, self._tune, self._tell = write, tune, tell
        self._trim = 1.0
        self._unsettled = 0  # frames since exposure was right
        self._developed: tuple[float, float] | None = None  # for which light and trim
        self._pending: dict[int, int] = {}  # what the automatics want and nobody has written yet
        self._flying: Mapping[int, int] = {}  # what is being written for them now
        self._theirs: dict[int, int] = {}  # what a hand has moved meanwhile
        self._taken: set[int] = set()  # what a person has moved since the last was taken up to be written
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()  # one exchange with the module at a time
        temperature = self._module.get(Cid.WHITE_BALANCE_TEMPERATURE)
        limits = LIMITS_K if temperature is None else (temperature.minimum, temperature.maximum)
        self._balance = AutoWhiteBalance(self._facts, self._kelvin(), limits)
        self._exposure: AutoExposure | None = None  # once a frame has told how it was taken
        self._focus = self._make_focus(mode)
        self._steer_balance()
        if self._focus is not None and self._values[Cid.FOCUS_AUTO]:
            self._focus.start(continuous=True)
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="maglens-autopilot")

    @property
    def controls(self) -> tuple[ControlInfo, ...]:
        """The module's, and what is added to them."""
        return (*self._module.values(), *self._own.values())

    @property
    def values(self) -> Mapping[int, int]:
        """Present values of all of them."""
        return dict(self._values)

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """A person's write, as :meth:`maglens_driver.source.Source.set`. What it ends has ended before anything is
        written."""
        written = {control: self._own[control].clamp(v) for control, v in values.items() if control in self._own}
        theirs = {control: v for control, v in values.items() if control not in self._own}
        self._values |= written
        for control, value in written.items():
            self._switched(control, value)
        self._taken_over(theirs)
        if not theirs:
            return written
        try:
            async with self._turn:
                clamped = await self._write(theirs)
            self._values |= clamped
        except BaseException:
            for control, value in written.items():  # these are so all the same
                self._tell(control, value)
            raise
        finally:
            self._moved_by_hand(theirs)
        return {**written, **clamped}

    def hand(self, control: int, value: int) -> Mapping[int, int]:
        """A hand on the module has moved a control. The answer is the switches that this has ended."""
        self._values[control] = value
        ended = {s: off for s, off in switches_to_end(control, self._values).items() if s in self._own}
        self._values |= ended
        for switch, off in ended.items():
            self._switched(switch, off)
        self._taken_over({control: value})
        self._moved_by_hand({control: value})
        same = FOCUS if control in FOCUS else {control}
        if self._flying.keys() & same and self._flying.get(control) != value:
            self._theirs[control] = value
        return ended

    def observe(self, seen: Measurement) -> None:
        """A frame came. Raises what has ended the writing meanwhile."""
        if self._worker.done():
            self._worker.result()
        if self._exposure is None:
            self._exposure = self._make_exposure(seen)
            self._steer_exposure()
        self._learn_aperture(self._exposure, seen)
        searching = self._focus is not None and self._focus.state in (FocusState.SEARCH, FocusState.SETTLE)
        exposure = self._exposure.observe(seen, hold=searching)
        if exposure is not None:
            self._want_exposure(exposure)
        kelvin = self._balance.observe(seen)
        if kelvin is not None:
            self._show_kelvin(round(kelvin))
        self._develop()
        if self._focus is not None and self._is_lit(self._focus):
            udpt = self._focus.observe(seen)
            if udpt is not None:
                self._want(self._focus_value(udpt))
            self._show_status()

    async def close(self) -> None:
        """End; nothing is written or told any more."""
        self._worker.cancel()
        await asyncio.wait((self._worker,))
        if not self._worker.cancelled():
            self._worker.result()

    # Switches.

    def _switched(self, control: int, value: int) -> None:
        """One of its own controls has been given ``value``."""
        if control in STEERING:
            self._steer_exposure()
            if self._drop(c for c in EXPOSURE if not self._drives(c)) and self._exposure is not None:
                self._exposure.set_by_hand(self._exposure_now(self._exposure.program))
        elif control in BALANCE:
            self._steer_balance()
        elif self._focus is None:
            return
        elif control == Cid.FOCUS_AUTO:
            if not value:
                self._end_focus()
            elif not self._focus.continuous:
                self._focus.start(continuous=True)
        elif control == Cid.AUTO_FOCUS_START and not self._focus.continuous:
            self._focus.start(continuous=False)
        elif control == Cid.AUTO_FOCUS_STOP and not self._focus.continuous:
            self._end_focus()
        self._show_status()

    def _drop(self, controls: Iterable[int]) -> bool:
        """What the automatics want of these is not written any more. Whether there was anything."""
        dropped = self._pending.keys() & set(controls)
        for control in dropped:
            del self._pending[control]
        return bool(dropped)

    def _end_focus(self) -> None:
        """Focus stays where it is, or where it is going just now."""
        self._drop(FOCUS)
        if self._focus is not None:
            self._focus.stop()

    def _taken_over(self, values: Mapping[int, int]) -> None:
        """A person moves these: what is under way with them is dropped."""
        self._drop(values)
        self._taken |= values.keys()
        if values.keys() & FOCUS:
            self._taken |= FOCUS
            self._end_focus()
            self._show_status()

    def _moved_by_hand(self, values: Mapping[int, int]) -> None:
        """These were moved; what is left to the automatics makes up for it."""
        if self._exposure is not None and values.keys() & EXPOSURE:
            self._exposure.set_by_hand(self._exposure_now(self._exposure.program))
        if Cid.WHITE_BALANCE_TEMPERATURE in values:
            self._steer_balance()

    def _show_status(self) -> None:
        if self._focus is not None and self._values[Cid.AUTO_FOCUS_STATUS] != self._focus.status:
            self._moved(Cid.AUTO_FOCUS_STATUS, int(self._focus.status))

    def _moved(self, control: int, value: int) -> None:
        self._values[control] = value
        self._tell(control, value)

    # Exposure.

    def _make_exposure(self, seen: Measurement) -> AutoExposure:
        meta = seen.meta
        iris = self._values.get(Cid.IRIS_ABSOLUTE, 0)
        fnumber = meta.fnumber_milli / 1000 or 1.0
        program = ExposureProgram(
            above_zero(self._module.get(Cid.EXPOSURE_ABSOLUTE)),
            above_zero(self._module.get(Cid.GAIN)),
            self._module.get(Cid.IRIS_ABSOLUTE) if meta.fnumber_milli else None,
            self._interval_s,
            fnumber * opening(iris),
        )
        return AutoExposure(program, self._exposure_now(program))

    def _learn_aperture(self, exposure: AutoExposure, seen: Measurement) -> None:
        """What a value of IRIS_ABSOLUTE stands for, as long as a person has it. A frame that was on its way when the
        iris was moved is wrong about that, the next ones are right."""
        program, aperture = exposure.program, seen.meta.fnumber_milli / 1000
        if program.iris is not None and aperture and not self._free().iris:
            most = aperture * opening(self._values.get(Cid.IRIS_ABSOLUTE, 0))
            exposure.program = replace(program, fnumber_most=most)

    def _exposure_now(self, program: ExposureProgram) -> Exposure:
        return Exposure(
            max(self._values.get(Cid.EXPOSURE_ABSOLUTE, 100), 1) * TIME_UNIT_S,
            max(self._values.get(Cid.GAIN, GAIN_UNIT), 1) / GAIN_UNIT,
            program.fnumber(self._values.get(Cid.IRIS_ABSOLUTE, 0)),
            self._trim,
        )

    def _free(self) -> Free:
        """What is left to the automatics, and can be moved; nothing that the module has switches of its own for."""
        if self._exposure is None:
            return Free(False, False, False)
        program = self._exposure.program
        mode = self._values.get(Cid.EXPOSURE_AUTO, MANUAL_EXPOSURE) if Cid.EXPOSURE_AUTO in self._own else -1
        gain = Cid.AUTOGAIN in self._own and bool(self._values[Cid.AUTOGAIN])
        return Free(
            mode in FREE_TIME and program.time is not None,
            gain and program.gain is not None,
            mode in FREE_IRIS and program.iris is not None,
        )

    def _steer_exposure(self) -> None:
        if self._exposure is None:
            return
        free = self._free()
        self._exposure.steer(free, self._values.get(Cid.POWER_LINE_FREQUENCY, 0))
        if not (free.time or free.gain or free.iris):
            self._trim = 1.0
            self._develop()

    def _want_exposure(self, wanted: Exposure) -> None:
        assert self._exposure is not None
        self._trim = wanted.trim
        free = self._free()
        values: dict[int, int] = {}
        if free.time:
            values[Cid.EXPOSURE_ABSOLUTE] = round(wanted.time_s / TIME_UNIT_S)
        if free.gain:
            values[Cid.GAIN] = round(wanted.gain * GAIN_UNIT)
        if free.iris:
            values[Cid.IRIS_ABSOLUTE] = self._exposure.program.iris_value(wanted.fnumber)
        values = {control: value for control, value in values.items() if value != self._values.get(control)}
        if values:
            self._want(values)
        else:
            self._exposure.wrote(wanted)

    # White balance.

    def _kelvin(self) -> int:
        return self._values.get(Cid.WHITE_BALANCE_TEMPERATURE, DAYLIGHT_K)

    def _show_kelvin(self, kelvin: int) -> None:
        """As a value that apps may write: a node that keeps to the control's steps shows another one else."""
        info = self._own.get(Cid.WHITE_BALANCE_TEMPERATURE) or self._module[Cid.WHITE_BALANCE_TEMPERATURE]
        shown = info.clamp(kelvin)
        if shown != self._values.get(Cid.WHITE_BALANCE_TEMPERATURE):
            self._moved(Cid.WHITE_BALANCE_TEMPERATURE, shown)

    def _steer_balance(self) -> None:
        if Cid.AUTO_WHITE_BALANCE in self._own and self._values[Cid.AUTO_WHITE_BALANCE]:
            self._balance.start()
        else:
            self._balance.stop(self._kelvin())
        self._develop()

    def _develop(self) -> None:
        """Have the frames to come developed for the present light, if that has changed."""
        kelvin, trim = self._balance.kelvin, self._trim
        if self._developed == (kelvin, trim):
            return
        self._developed = kelvin, trim
        try:
            recipe = recipe_for(self._facts, kelvin, trim)
        except ValueError:  # its matrices make no sense so far out
            warm, cool = self._balance.limits
            recipe = recipe_for(self._facts, min(max(kelvin, warm), cool), trim)
        self._tune(recipe)

    # Focus.

    def _is_lit(self, focus: AutoFocus) -> bool:
        """Whether frames can be compared for sharpness: while exposure settles their noise differs, and what a search
        saw before counts no more. Light that never settles is not waited for longer than ``UNSETTLED`` frames."""
        assert self._exposure is not None
        if self._exposure.state is ExposureState.SETTLING:
            self._unsettled += 1
            return self._unsettled > UNSETTLED
        if 0 < self._unsettled <= UNSETTLED and focus.state is FocusState.SEARCH:
            focus.start(focus.continuous)
        self._unsettled = 0
        return True

    def _make_focus(self, mode: Mode) -> AutoFocus | None:
        fine, coarse = self._module.get(Cid.FOCUS_FINE), self._module.get(Cid.FOCUS_ABSOLUTE)
        if Cid.FOCUS_AUTO not in self._own:
            return None
        if fine is None:
            assert coarse is not None
            low, high, step = (n * UDPT_PER_CDPT for n in (coarse.minimum, coarse.maximum, max(1, coarse.step)))
            fine = replace(coarse, minimum=low, maximum=high, step=step)
        pixel_m, told = self._facts.pixel_nm / 1e9, Cid.FOCUS_FINE in self._module
        return AutoFocus(fine, math.hypot(mode.width, mode.height) * pixel_m * CONFUSION_PER_DIAGONAL, pixel_m, told)

    def _focus_value(self, udpt: int) -> dict[int, int]:
        if Cid.FOCUS_FINE in self._module:
            return {Cid.FOCUS_FINE: udpt}
        return {Cid.FOCUS_ABSOLUTE: round(udpt / UDPT_PER_CDPT)}

    # Writing.

    def _want(self, values: Mapping[int, int]) -> None:
        self._pending |= values
        self._wake.set()

    async def _work(self) -> None:
        """Write what the automatics want, one after the other, as fast as the module takes it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._turn:
                values, self._pending = self._pending, {}
                self._taken.clear()
                if not values:
                    continue
                written = await self._put(values)
                while self._theirs:  # what was on its way has undone what the hand did
                    theirs, self._theirs = self._theirs, {}
                    await self._put(theirs)
            self._wrote(values, written)

    async def _put(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write to the module; what it has taken. Where it refuses one of several it may have taken others, and only
        one by one does it say which."""
        self._flying = values
        try:
            return await self._write(values)
        except MaglensError as error:
            log.info("the module did not take %s: %s", values, error)
            apart = values if isinstance(error, Refused) and len(values) > 1 else {}
        finally:
            self._flying = {}
        taken: dict[int, int] = {}
        for control, value in apart.items():
            if self._drives(control):  # a hand may have come meanwhile
                taken |= await self._put({control: value})
        return taken

    def _wrote(self, wanted: Mapping[int, int], written: Mapping[int, int]) -> None:
        """The module has taken ``written`` of what was ``wanted``: that is so, whatever was switched off meanwhile.
        What a person has moved meanwhile is theirs."""
        written = {control: value for control, value in written.items() if control not in self._taken}
        for control, value in written.items():
            self._moved(control, value)
        if self._exposure is not None and wanted.keys() & EXPOSURE:
            self._exposure.wrote(replace(self._exposure_now(self._exposure.program), trim=self._trim))
        if self._focus is not None and wanted.keys() & FOCUS:
            fine = written.get(Cid.FOCUS_FINE)
            if fine is not None and Cid.FOCUS_ABSOLUTE in self._module:
                shown = self._module[Cid.FOCUS_ABSOLUTE].clamp(round(fine / UDPT_PER_CDPT))
                self._moved(Cid.FOCUS_ABSOLUTE, shown)
            coarse = written.get(Cid.FOCUS_ABSOLUTE)
            self._focus.wrote(fine if fine is not None else coarse * UDPT_PER_CDPT if coarse is not None else None)

    def _drives(self, control: int) -> bool:
        """Whether a control is the automatics' now."""
        if control in FOCUS:
            return self._focus is not None and self._focus.is_on
        free = self._free()
        return {Cid.EXPOSURE_ABSOLUTE: free.time, Cid.GAIN: free.gain, Cid.IRIS_ABSOLUTE: free.iris}.get(
            Cid(control), False
        )
