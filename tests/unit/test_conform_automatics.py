# SPDX-License-Identifier: GPL-2.0-or-later
"""The kit and controls that a module's own automatic drives: it ends that, judges, and leaves all as it was."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from maglens_driver.conform.specimen import Specimen
from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.link import wire
from maglens_driver.link.wire import EventKind, Op
from maglens_driver.usb.fake import FakeModule
from tests.unit.test_conform import FACTS, INTERVAL, Bench, quick
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

GAIN = ControlInfo(Cid.GAIN, "Gain", ControlType.INTEGER, 0, 255, 1, 100)
SWITCH = ControlInfo(Cid.AUTOGAIN, "Gain, Automatic", ControlType.BOOLEAN, 0, 1, 1, 1)
HUM = ControlInfo(
    Cid.POWER_LINE_FREQUENCY, "Hum", ControlType.MENU, 0, 2, 1, 1, menu=((0, "off"), (1, "50 Hz"), (2, "60 Hz"))
)
HEAT = ControlInfo(0x00980FFF, "Heat", ControlType.INTEGER, 0, 100, 1, 0, ControlFlag.READ_ONLY)
EVERYTHING = ("controls.*", "events.set_is_silent", "state.standby_keeps_controls")


@dataclass
class Nature:
    """How a module's gain behaves."""

    obeys: bool = True  # once its automatic is off
    sticks: bool = False  # its automatic cannot be ended


def bench_of(nature: Nature, *controls: ControlInfo) -> Bench:
    """A module with these controls and its usual ones. What goes its own way is another at every look, as vivid's."""
    others = tuple(c for c in DESCRIPTOR.controls if c.id not in {own.id for own in controls})
    rig = FakeRig(descriptor=replace(quick(DESCRIPTOR), controls=(*controls, *others)), interval_s=float(INTERVAL))
    module, looks = rig.module, itertools.count()
    plain = module.set_controls

    def seen(control: int) -> int:
        free = control == HEAT.id or (control == GAIN.id and (not nature.obeys or module.values[SWITCH.id] == 1))
        return 30 + next(looks) % 60 if free else module.values[control]

    def read_controls() -> Mapping[int, int]:
        return {control: seen(control) for control in module.values}

    def set_controls(values: Mapping[int, int]) -> Mapping[int, int]:
        plain({c: v for c, v in values.items() if c != HEAT.id and not (c == SWITCH.id and nature.sticks)})
        return {control: seen(control) for control in values}

    module.controls, module.set_controls = read_controls, set_controls  # type: ignore[method-assign]
    return Bench(rig, Specimen(FACTS, rig.device, rig.transport))


def judged(nature: Nature, *controls: ControlInfo) -> tuple[dict[str, str], FakeModule]:
    """Why checks failed, by name; and the module as it was left."""
    bench = bench_of(nature, *controls)
    wrong = bench.run(*EVERYTHING)
    bench.specimen.close()
    return {name: bench.why(name) for name in wrong}, bench.rig.module


def test_a_gain_that_obeys_once_its_automatic_is_off_conforms() -> None:
    for controls in ((GAIN, SWITCH), (SWITCH, GAIN)):
        why, module = judged(Nature(), *controls)
        assert why == {}
        assert module.values[SWITCH.id] == 1, "the automatic goes on"


def test_a_gain_that_never_obeys_is_caught_though_its_automatic_is_on_at_first() -> None:
    why, module = judged(Nature(obeys=False), SWITCH, GAIN)
    assert why["controls.set_and_read"].startswith("Gain ")
    assert module.values[SWITCH.id] == 1, "after a failure, too"


def test_an_automatic_that_cannot_be_ended_is_named() -> None:
    why, _ = judged(Nature(sticks=True), SWITCH, GAIN)
    assert "Gain, Automatic" in why["controls.set_and_read"]
    assert why["controls.clamps_above"] == "Gain, Automatic is not switched off but 1"


def test_what_an_automatic_without_a_switch_drives_is_left_out() -> None:
    for switch in (replace(SWITCH, flags=ControlFlag.READ_ONLY), replace(SWITCH, minimum=1)):
        why, _ = judged(Nature(sticks=True), switch, GAIN)
        assert why == {}


def test_a_read_only_control_may_move_by_itself() -> None:
    why, _ = judged(Nature(), HEAT)
    assert why == {}


def test_a_menu_is_left_at_its_default() -> None:
    bench = bench_of(Nature(), HUM)
    assert bench.run("controls.set_and_read") == []
    module = bench.rig.module
    assert module.values == {c.id: c.default for c in module.descriptor.controls}
    bench.specimen.close()


def test_a_module_that_forgets_in_standby_is_caught() -> None:
    bench = bench_of(Nature(), SWITCH, GAIN)
    module = bench.rig.module

    def reply(_op: int, raw: bytes) -> bytes:
        if module.requests[-2:] == [Op.STANDBY, Op.RESULT]:
            module.values.update({c.id: c.default for c in module.descriptor.controls})
        return raw

    module.reply = reply
    assert bench.run("state.standby_keeps_controls") == ["state.standby_keeps_controls"]
    assert "Gain was 0 and is" in bench.why("state.standby_keeps_controls")
    bench.specimen.close()


def test_an_event_for_any_control_that_was_set_is_caught() -> None:
    bench = bench_of(Nature(), SWITCH, GAIN)
    module = bench.rig.module
    plain = module.set_controls
    seq = iter(range(1, 10_000))

    def echoing(values: Mapping[int, int]) -> Mapping[int, int]:
        taken = plain(values)
        if Cid.FOCUS_ABSOLUTE in taken:
            told = (Cid.FOCUS_ABSOLUTE, taken[Cid.FOCUS_ABSOLUTE])
            module.send_event(wire.Event(wire.EVENT_MAGIC, 1, EventKind.CONTROL, next(seq), *told, 0).pack())
        return taken

    module.set_controls = echoing  # type: ignore[method-assign]
    assert bench.run("events.set_is_silent") == ["events.set_is_silent"]
    assert bench.why("events.set_is_silent") == "setting Focus caused one"
    bench.specimen.close()
