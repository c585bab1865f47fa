# SPDX-License-Identifier: GPL-2.0-or-later
"""A raw module over USB, flown by the daemon: an app sees it find exposure, white balance and focus at the node, and
takes over at once, as a hand on the ring does.

Long: `make test-uml` runs it in User Mode Linux, where it takes 16 s; an emulated processor takes a second or two for
each position of focus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from maglens_driver.control import Cid
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.virtual import mark
from maglens_v4l2.auto_focus import Status
from tests.tools import raw_lens
from tests.unit.v4l2_app import V4l2App
from tests.vm.guest import app_calls
from tests.vm.guest.devices import daemon_kept_away
from tests.vm.guest.limits import EVENT_S
from tests.vm.guest.troupe import MODULE, Troupe

SIZE = 640, 480
CONFIG = '[node]\nwidth = 640\nheight = 480\nrate = 15\nkind = "maglens"\n'
CONVERGED_S = 90.0  # an emulated processor draws a position of focus in a second or two


@pytest.fixture
def troupe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Troupe]:
    raw_lens.write(tmp_path)
    monkeypatch.setenv(ENV_LENS_PATH, str(tmp_path))
    with daemon_kept_away(), Troupe(CONFIG) as performing:
        yield performing


class Watcher:
    """An app that streams, and reads controls between two pictures."""

    def __init__(self, app: V4l2App) -> None:
        self._app = app
        self.light = self.contrast = 0.0  # of the last picture: mean luma and its detail
        self.marked = False  # it is the module's

    def value(self, control: int) -> int:
        return app_calls.value(self._app.fd, control)

    def write(self, control: Cid, value: int) -> None:
        app_calls.set_control(self._app.fd, control, value)

    def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + CONVERGED_S
        while not true():
            assert time.monotonic() < end, f"never came: {what}"
            picture = self._app.next(EVENT_S)
            assert picture is not None, "no picture came"
            luma = np.frombuffer(picture.data, np.uint8, SIZE[0] * SIZE[1]).reshape(SIZE[::-1])
            self.marked = isinstance(mark.read(luma), mark.Mark)
            middle = luma[120:360, 160:480]
            self.light = float(middle.mean())
            self.contrast = float(np.abs(np.diff(middle.astype(np.int16), axis=1)).mean())


@pytest.mark.long
def test_converges_until_someone_takes_over(troupe: Troupe) -> None:
    def told(control: Cid) -> int:
        return int(troupe.sim.status()["controls"][str(int(control))])

    with closing(V4l2App(troupe.status()["node"]["path"])) as app:
        app.start()
        seen = Watcher(app)
        troupe.sim.light(raw_lens.LAMPS_K)
        troupe.sim.attach()
        assert "pRAA" in troupe.plays(MODULE)
        seen.until(lambda: seen.marked, "its first picture")
        dark = seen.light
        seen.until(lambda: seen.value(Cid.AUTO_FOCUS_STATUS) == Status.BUSY, "a search")
        blurred = seen.contrast

        seen.until(lambda: seen.value(Cid.AUTO_FOCUS_STATUS) == Status.REACHED, "focus")
        assert seen.value(Cid.FOCUS_AUTO) == 1
        values = {control: seen.value(control) for control in raw_lens.DRIVEN}
        assert all(raw_lens.found(values).values()), values
        for control in (Cid.EXPOSURE_ABSOLUTE, Cid.FOCUS_ABSOLUTE):
            assert told(control) == seen.value(control), "what apps read is what the module has"
        assert seen.light > dark + 20
        assert seen.contrast > 1.5 * blurred

        seen.write(Cid.FOCUS_ABSOLUTE, 321)
        seen.until(lambda: seen.value(Cid.FOCUS_AUTO) == 0, "manual focus")
        seen.until(lambda: told(Cid.FOCUS_ABSOLUTE) == 321, "the app's focus")
        assert seen.value(Cid.AUTO_FOCUS_STATUS) == Status.IDLE

        seen.write(Cid.FOCUS_AUTO, 1)
        seen.until(lambda: seen.value(Cid.AUTO_FOCUS_STATUS) == Status.BUSY, "another search")
        troupe.sim.ring("focus", 150)
        seen.until(lambda: seen.value(Cid.FOCUS_AUTO) == 0, "the hand")
        assert seen.value(Cid.AUTO_FOCUS_STATUS) == Status.IDLE
        focus = Cid.FOCUS_ABSOLUTE
        seen.until(lambda: (seen.value(focus), told(focus)) == (150, 150), "the hand's focus")
