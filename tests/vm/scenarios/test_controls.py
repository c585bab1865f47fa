# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls end to end: plain V4L2 calls of apps, the kernel's node, the service, USB, and what the module itself says
of it. (What else apps do to a node is in test_app_replays.py.)"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maglens_driver.control import Cid
from maglens_driver.virtual import lens
from maglens_v4l2 import canonical
from tests.vm.guest import app_calls
from tests.vm.guest.app_process import AppProcess
from tests.vm.guest.studio import SERIAL, Studio, studio
from tests.vm.guest.troupe import BUILT_IN, LENS

FACTORY = {c.id: c.default for c in lens.load_lens(LENS).descriptor.controls}
pytestmark = pytest.mark.long

FOCUS, IRIS, EXPOSURE, GAIN = Cid.FOCUS_ABSOLUTE, Cid.IRIS_ABSOLUTE, Cid.EXPOSURE_ABSOLUTE, Cid.GAIN


@pytest.fixture(scope="module")
def one_studio() -> Iterator[Studio]:
    """One for all scenarios: it takes long to start."""
    with studio() as made:
        yield made


@pytest.fixture
def stage(one_studio: Studio) -> Studio:
    """The module is on, and as it left the factory."""
    one_studio.maglens_control("reset")
    one_studio.until_module(FACTORY)
    return one_studio


def test_a_set_reaches_the_module_and_comes_back_as_clamped(stage: Studio) -> None:
    """While nobody watches, and while somebody does."""
    stage.set(focus_absolute=123, gain=4321)  # gain goes by hundreds
    stage.until_module({FOCUS: 123, GAIN: 4300})
    stage.until_shown({FOCUS: 123, GAIN: 4300})
    with stage.watched():
        stage.until_module({FOCUS: 123, GAIN: 4300})
        stage.set(iris_absolute=200)
        stage.until_module({IRIS: 200})
        stage.maglens_control("set", "gain=5678")
        stage.until_module({GAIN: 5700})
        stage.until_shown({IRIS: 200, GAIN: 5700})


def test_what_the_module_lacks_is_inactive(stage: Studio) -> None:
    with stage.opened() as fd:
        listed = {c.id: bool(c.flags & app_calls.CTRL_FLAG_INACTIVE) for c in app_calls.controls(fd)}
    assert listed == {info.id: info.id not in FACTORY for info in canonical.CONTROLS}


def test_values_are_the_module_s_own_and_come_back_with_it(stage: Studio) -> None:
    sim = stage.troupe.sim
    stage.set(iris_absolute=210, exposure_time_absolute=33)
    stage.until_module({IRIS: 210, EXPOSURE: 33})
    sim.ring("focus", 222)
    stage.until_shown({FOCUS: 222})
    stage.snap_off()
    assert stage.module(IRIS) == FACTORY[IRIS], "it forgets without power"
    assert not stage.active(IRIS)
    sim.set_serial(f"{SERIAL}-other")
    stage.snap_on()
    stage.until_shown({IRIS: FACTORY[IRIS], EXPOSURE: FACTORY[EXPOSURE], FOCUS: FACTORY[FOCUS]})
    stage.snap_off()
    sim.set_serial(SERIAL)
    stage.snap_on()
    stage.until_module({IRIS: 210, EXPOSURE: 33, FOCUS: 222})
    stage.until_shown({IRIS: 210, EXPOSURE: 33, FOCUS: 222})


def test_a_reset_at_open_undoes_nothing(stage: Studio) -> None:
    """The default is what is stored, as soon as the last app has closed."""
    stage.set(exposure_time_absolute=20)
    stage.until_module({EXPOSURE: 20})
    stage.troupe.sim.ring("focus", 300)
    stage.until_shown({FOCUS: 300})
    stage.until(lambda: stage.shown(FOCUS).default_value == 300, "the default is what is stored")
    assert stage.shown(EXPOSURE).default_value == 20
    with AppProcess(stage.node, "chromium") as chromium:
        chromium.write([(control, None) for control in (EXPOSURE, FOCUS, IRIS, GAIN)])
        chromium.write([(IRIS, 150)])  # then its user does something, which comes after all of it
    stage.until_module({EXPOSURE: 20, FOCUS: 300, IRIS: 150, GAIN: FACTORY[GAIN]})
    stage.maglens_control("reset")
    stage.until_module(FACTORY)
    stage.until(lambda: stage.shown(FOCUS).default_value == FACTORY[FOCUS], "the default is the factory's again")
    stage.snap_off()
    stage.snap_on()
    stage.until_module(FACTORY)


def test_obs_writing_what_it_saved_undoes_no_ring(stage: Studio) -> None:
    saved: list[tuple[int, int | None]] = [(FOCUS, 100), (IRIS, FACTORY[IRIS]), (EXPOSURE, FACTORY[EXPOSURE])]
    with stage.watched(), AppProcess(stage.node, "obs") as obs:
        obs.write([(FOCUS, 100)])  # a slider is moved
        stage.until_module({FOCUS: 100})
        stage.troupe.sim.ring("focus", 222)
        stage.until_shown({FOCUS: 222})
        obs.write(saved)  # its properties are opened
        obs.write([(GAIN, 2000)])  # comes after all of it
        stage.until_module({GAIN: 2000})
        stage.until_shown({FOCUS: 222})
        stage.until_module({FOCUS: 222})


def test_values_outlive_the_service(stage: Studio) -> None:
    """Also the one that was set just before it was killed, and one that was set before the next was there."""
    with stage.watched():
        stage.set(iris_absolute=222)
        stage.until_module({IRIS: 222})
        stage.maglens_control("set", "gain=2000")  # answered when what came before it is done
        with stage.troupe.dies():
            assert stage.value(IRIS) == 222
            stage.set(iris_absolute=333)
        stage.until_module({IRIS: 333})
        stage.until_shown({IRIS: 333, GAIN: 2000})


def test_a_chosen_input_outlives_the_service(stage: Studio) -> None:
    """The automatic choice would be the module."""
    with stage.opened() as fd:
        inputs = app_calls.inputs(fd)
        app_calls.set_input(fd, next(index for index, name in enumerate(inputs) if name and name in BUILT_IN))
        with stage.watched(BUILT_IN):
            with stage.troupe.dies(BUILT_IN):
                pass
            assert app_calls.inputs(fd) == inputs
        app_calls.set_input(fd, 0)
        with stage.watched():
            pass
