# SPDX-License-Identifier: GPL-2.0-or-later
"""A module that has rehearsed plays a sweep of focus at 3840x2160, RAW10, over USB, and no frame is late. Long, and
for User Mode Linux (`make test-uml`): an emulated processor carries no such link. At 15 frames a second: with module,
link and host on one processor a picture that is never drawn comes 35 to 42 times a second, and the sweep wants some.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from maglens_driver.frame import Frame, Lease
from maglens_driver.gadget.client import SimClient
from maglens_driver.mode import SRGGB10P, Mode
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.virtual import lens
from maglens_v4l2.pool import BufferPool
from tests.bench.path.ours import find
from tests.vm.guest.devices import daemon_kept_away, succeed
from tests.vm.guest.limits import EVENT_S, emulated
from tests.vm.guest.troupe import LENS, virtual_module

WIDTH, HEIGHT, RATE = 3840, 2160, 15
NEAR_MM = 2000  # of this lens: fewer positions, which have to fit into the machine's memory
SWEEP: Sequence[int] = (*range(0, 51, 5), *range(45, -1, -5))  # hundredths of a dioptre
BUFFERS = 8
WARM_UP = 30  # frames
USBFS_MB = Path("/sys/module/usbcore/parameters/usbfs_memory_mb")


def only_uhd() -> str:
    """The 35 mm lens's file with nothing but the raw mode, at a price that takes no contract."""
    head, *modes = Path(lens.__file__).with_name("lenses").joinpath(f"{LENS}.toml").read_text().split("[[modes]]")
    wanted = next(mode for mode in modes if f"[{WIDTH}, {HEIGHT}]" in mode and "pRAA" in mode)
    tail = modes[-1][modes[-1].index("# Units as") :]
    text = "[[modes]]".join((head, wanted)) + "\n" + tail
    for before, after in (("mw = [3800, 2900]", "mw = [200, 150]"), ("near_mm = 250", f"near_mm = {NEAR_MM}")):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimClient]:
    """The virtual module, detached."""
    lenses = tmp_path / "lenses"
    lenses.mkdir()
    lenses.joinpath(f"{LENS}.toml").write_text(only_uhd())
    monkeypatch.setenv(ENV_LENS_PATH, str(lenses))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    succeed("modprobe", "-a", "libcomposite", "dummy_hcd")
    USBFS_MB.write_text("512")
    with daemon_kept_away(), virtual_module(tmp_path) as client:
        yield client


class Watcher:
    """A sink that looks at how frames were taken."""

    def __init__(self, nbytes: int) -> None:
        self._pool = BufferPool(BUFFERS, nbytes)
        self._changed = threading.Condition()
        self.numbers: list[int] = []
        self.focus = -1  # of the last frame
        self.bad: list[str] = []

    def lease(self, nbytes: int) -> Lease | None:
        return self._pool.lease(nbytes)

    def deliver(self, frame: Frame) -> None:
        number, focus = frame.seq, frame.meta.focus_cdpt
        frame.lease.release()
        with self._changed:
            self.numbers.append(number)
            self.focus = focus
            self._changed.notify_all()

    def control(self, generation: int, control: int, value: int) -> None:
        """What the ring says is in the frames, too."""

    def active(self, generation: int, control: int, active: bool) -> None:
        """No control of it is ever out of use."""

    def dropped(self, generation: int, cause: str) -> None:
        self.bad.append(cause)

    def lost(self, generation: int, why: Exception) -> None:
        self.bad.append(str(why))

    def until_focus(self, focus: int) -> None:
        """Wait for a frame that was taken so."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.focus == focus, EVENT_S), (focus, self.focus, self.bad)

    def until_frames(self, count: int) -> None:
        """Wait for so many frames in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.numbers) >= count, EVENT_S), (len(self.numbers), self.bad)


def sweep(module: SimClient, watcher: Watcher) -> None:
    """From frame to frame, as fast as they show it."""
    for focus in SWEEP:
        module.ring("focus", focus)
        watcher.until_focus(focus)


async def played(module: SimClient) -> tuple[dict[str, int], Watcher, int]:
    """What was late in the sweep, by the module's own count; the host's watcher; its frames before the sweep."""
    module.attach()
    (source,) = await find()
    try:
        mode: Mode = next(m for m in source.modes if m.fourcc == SRGGB10P and m.interval.denominator == RATE)
        watcher = Watcher(mode.nbytes)
        await source.configure(mode)
        await source.start(watcher, 1)
        await asyncio.to_thread(watcher.until_frames, WARM_UP)
        before, seen = module.status()["stays"][-1], len(watcher.numbers)
        await asyncio.to_thread(sweep, module, watcher)
        after = module.status()["stays"][-1]
    finally:
        await source.close()
    late = {
        "skipped": sum(after["frames_skipped"].values()) - sum(before["frames_skipped"].values()),
        "displaced": after["frames_displaced"] - before["frames_displaced"],
        "cut": after["frames_cut"] - before["frames_cut"],
    }
    return late, watcher, seen


@pytest.mark.long
def test_a_sweep_of_focus_has_no_late_frame(module: SimClient) -> None:
    if emulated():
        pytest.skip("an emulated processor carries no 1.2 Gbit/s; `make test-uml` does it")
    module.ring("iris", 0)  # fewer positions again
    kept = module.rehearse("pRAA", WIDTH, HEIGHT, lambda done, of: print(f"{done} of {of}", flush=True))
    assert kept["positions"] > 10
    late, watcher, seen = asyncio.run(played(module))
    assert late == {"skipped": 0, "displaced": 0, "cut": 0}
    swept = watcher.numbers[seen:]
    assert len(swept) >= len(SWEEP)
    assert swept == list(range(swept[0], swept[0] + len(swept))), "a frame is missing"
    assert watcher.bad == []
