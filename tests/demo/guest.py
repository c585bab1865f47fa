# SPDX-License-Identifier: GPL-2.0-or-later
"""The film, on a machine with systemd, udev and dummy_hcd: one ffmpeg records while modules come and go.

Nothing here waits for time to pass: the recording's own frames are the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pyudev

from maglens_driver.control import Cid
from maglens_driver.errors import MaglensError
from maglens_driver.gadget.client import SimClient
from maglens_driver.names import BUS_INTERFACE_NODE, BUS_NAME, BUS_PATH, SERVICE_UNIT, VIRTUAL_USB_VENDOR
from tests.demo import arrivals, automatics
from tests.demo.stage import service_away, stage
from tests.demo.story import CYCLES, RAW_LENS, RECORDING, STORY, Event, Story
from tests.vm.guest.acts import kill_service
from tests.vm.guest.devices import succeed
from tests.vm.guest.program import ProgramError
from tests.vm.guest.recorder import Recording

CYCLE_COUNT = 10
HOLD = 60  # frames of a scene
STEP = 30  # frames that one setting is shown, once the module has drawn its picture anew
FIRST_FRAMES_S = 60.0
FOCUS_NEAR = 200  # hundredths of a dioptre: half a metre, where the flowers are
FOCUS_STEPS = (90, 140, FOCUS_NEAR)
IRIS_WIDE = 595  # hundredths of a stop above f/11: f/1.4
NODE_TRIES = 20  # each waits until udev has nothing left to do
LENSES = ("35mm", "73mm")


def say(text: str) -> None:
    """One line of progress."""
    print(f"demo: {text}", flush=True)


class Film:
    """The story as it goes on."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.story = Story(kernel=platform.release())
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        self._monitor.filter_by("usb", "usb_device")
        self._added: list[int] = []
        self._news = threading.Condition()
        self._observer = pyudev.MonitorObserver(self._monitor, callback=self._on_udev)
        self._observer.start()

    def _on_udev(self, device: pyudev.Device) -> None:
        if device.action == "add" and device.properties.get("ID_VENDOR_ID") == f"{VIRTUAL_USB_VENDOR:04x}":
            with self._news:
                self._added.append(int(device.properties["USEC_INITIALIZED"]) * 1000)
                self._news.notify_all()

    def udev_add(self, after_ns: int) -> int:
        """When udev began to handle the add of a module that was snapped on at ``after_ns``."""
        with self._news:
            if not self._news.wait_for(lambda: any(t >= after_ns for t in self._added), 30):
                raise TimeoutError("udev saw no module within 30 s")
            return next(t for t in self._added if t >= after_ns)

    def note(self, kind: str, text: str, time_ns: int = 0) -> None:
        """Write down what happened, now or at ``time_ns``."""
        event = Event(time_ns or time.monotonic_ns(), kind, text)
        self.story.events.append(event)
        say(text)

    def close(self) -> None:
        """End watching udev and write the story."""
        self._observer.stop()
        self.story.save(self.out / STORY)


def node_status() -> dict[str, Any]:
    """The node, as soon as there is one."""
    for _ in range(NODE_TRIES):
        succeed("udevadm", "settle")
        node: dict[str, Any] = json.loads(succeed("maglens", "status", "--json"))["node"]
        if node["path"]:
            return node
    raise MaglensError(f"maglens has no node: {node['problem']}", hint=node["hint"])


def counters() -> dict[str, int]:
    """The service's counters of frames since its start; by D-Bus, which costs an emulated processor little."""
    words = ("--json=short", "call", BUS_NAME, f"{BUS_PATH}/node", BUS_INTERFACE_NODE, "Counters")
    found: dict[str, int] = json.loads(succeed("busctl", *words))["data"][0]
    return found


def hold(recording: Recording, frames: int) -> None:
    """Let the app record so many frames more."""
    recording.wait_frames(recording.frames + frames, 120)


def hold_until(
    recording: Recording, true: Callable[[], bool], what: str = "what was waited for", frames: int = 900
) -> None:
    """Let the app record until something is true; looked at after every frame or so, at most ``frames`` times."""
    for _ in range(frames):
        if true():
            return
        hold(recording, 1)
    raise TimeoutError(f"{what} has not come within {frames} frames")


def show(recording: Recording, there: Callable[[], bool]) -> None:
    """Let the app record until something is there to be seen, and ``STEP`` frames of it."""
    hold_until(recording, there, "a picture of what was set")
    hold(recording, STEP)


def streaming(sim: SimClient, at_least: int) -> bool:
    """Whether the module has sent so many frames in this stay."""
    return int(sim.progress()["frames_sent"]) >= at_least


def settled(sim: SimClient, control: int, value: int) -> bool:
    """Whether the module has this value, and its picture shows it."""
    progress = sim.progress()
    return bool(progress["settled"]) and int(progress["controls"][str(control)]) == value


def set_control(node: dict[str, Any], name: str, value: int) -> None:
    """As an app does it where the node has controls, else by maglens' own command."""
    if node["controls"]:
        succeed("v4l2-ctl", "-d", str(node["path"]), "--set-ctrl", f"{name}={value}")
    else:
        succeed("maglens", "control", "set", f"{name}={value}")


def story(film: Film, node: dict[str, Any], sims: dict[str, SimClient]) -> None:
    """Card, 35 mm, focus, iris, swap for 73 mm, the service killed, pulled mid-frame, card, 35 mm raw, card."""
    wide, portrait = (sims[lens] for lens in LENSES)
    with Recording(str(node["path"]), film.out / RECORDING) as app:
        app.wait_frames(1, FIRST_FRAMES_S)
        film.note("card", "an app is recording; there is no module yet")
        hold(app, HOLD)
        on = wide.attach()
        film.note("attach", "the 35 mm module is snapped on", on["stay"]["attach_ns"])
        hold_until(app, lambda: streaming(wide, HOLD))
        for value in FOCUS_STEPS:
            film.note("focus", f"the focus is pulled to {100 / value:.2f} m")
            set_control(node, "focus_absolute", value)
            show(app, partial(settled, wide, Cid.FOCUS_ABSOLUTE, value))
        film.note("iris", "the iris is opened to f/1.4")
        set_control(node, "iris_absolute", IRIS_WIDE)
        show(app, partial(settled, wide, Cid.IRIS_ABSOLUTE, IRIS_WIDE))
        off, on = wide.swap(portrait)
        film.note("detach", "the 35 mm module is pulled off", off["stay"]["detach_ns"])
        film.note("attach", "the 73 mm module is snapped on in its place", on["stay"]["attach_ns"])
        hold_until(app, lambda: streaming(portrait, 2 * HOLD))
        sent = int(portrait.progress()["frames_sent"])
        film.story.counters["kill"] = counters()
        film.note("restart", "the service is killed; its successor goes on", kill_service())
        hold_until(app, lambda: streaming(portrait, sent + 2 * HOLD))
        cut = int(portrait.status()["stays"][-1]["frames_cut"])
        off = portrait.detach(mid_frame=True)
        film.story.frames_cut_by_pull = int(off["stay"]["frames_cut"]) - cut
        film.note("detach", "the 73 mm module is pulled off in the middle of a frame", off["stay"]["detach_ns"])
        hold(app, HOLD)
        if RAW_LENS in sims:
            raw_act(film, app, node, sims[RAW_LENS])
        film.note("end", "the app stops recording")
    film.story.app_errors += app.errors()


def raw_act(film: Film, app: Recording, node: dict[str, Any], raw: SimClient) -> None:
    """A module that sends raw frames and is set wrong is set right by the automatics."""
    automatics.lamps(raw)
    on = raw.attach()
    film.note("attach", "a 35 mm module that sends RAW10: set wrong", on["stay"]["attach_ns"])
    film.story.automatics = automatics.watch(app, str(node["path"]), hold)
    found = ", ".join(what for what, right in film.story.automatics.items() if right)
    film.note("auto", f"{found or 'nothing'} found by itself")
    hold(app, HOLD)
    off = raw.detach()
    film.note("detach", "it is pulled off", off["stay"]["detach_ns"])
    hold(app, HOLD)


def mode_index() -> int:
    """Which of the attached module's modes plays: that which fits what the app has chosen."""
    module = json.loads(succeed("maglens", "status", "--json"))["modules"][0]
    return [m["text"] for m in module["modes"]].index(module["mode"]["text"])


def cycles(film: Film, node: dict[str, Any], sim: SimClient) -> int:
    """Attach and detach under a second recording, for the time from udev's add to the app's first frame.

    Returns the index of the mode in use.
    """
    mode = 0
    ahead_ns = arrivals.ahead_ns()
    with Recording(str(node["path"]), film.out / CYCLES, arrivals.OPTIONS) as app:
        app.wait_frames(1, FIRST_FRAMES_S)
        for number in range(CYCLE_COUNT):
            on = sim.attach()["stay"]["attach_ns"]
            film.story.cycle_attach_ns.append(on)
            film.story.cycle_udev_add_ns.append(film.udev_add(on))
            hold_until(app, lambda: streaming(sim, 5))
            if number == 0:
                mode = mode_index()
            sim.detach()
            hold(app, 20)
            hold_until(app, lambda: bool(sim.progress()["settled"]))  # it has drawn anew what it was reset to
            say(f"attach and detach {number + 1} of {CYCLE_COUNT}")
    film.story.cycles_ahead_ns = arrivals.still_ahead_ns(ahead_ns)
    film.story.app_errors += app.errors()
    return mode


def c_reader(film: Film, sim: SimClient, program: Path, mode: int) -> None:
    """The same number of attaches in the same mode, answered by a minimal C program in the daemon's place."""
    for number in range(CYCLE_COUNT):
        words = [str(program), "--mode", str(mode)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None and reader.stderr is not None
            if "waiting" not in (line := reader.stderr.readline()):
                raise RuntimeError(f"{program} did not begin to wait: {line}")
            on = sim.attach()["stay"]["attach_ns"]
            found = reader.stdout.readline()
            if not found:
                raise RuntimeError(f"{program} got no frame: {reader.stderr.read()}")
            film.story.c_reader_ns.append(json.loads(found)["first_frame_ns"] - film.udev_add(on))
        sim.detach()
        say(f"the C reader's attach {number + 1} of {CYCLE_COUNT}")


def cold_start(film: Film, sim: SimClient) -> None:
    """The service is not running; udev starts it when a module comes."""
    on = sim.attach()["stay"]["attach_ns"]
    added = film.udev_add(on)
    succeed("systemctl", "start", SERVICE_UNIT)
    stamp = succeed("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", SERVICE_UNIT)
    film.story.cold_start_ns = int(stamp) * 1000 - added
    sim.detach()


def play(film: Film, options: argparse.Namespace, undo: ExitStack) -> None:
    """All of it, on the stage that is set."""
    node = node_status()
    film.story.interval_ns = round(1e9 / node["format"]["fps"])
    film.story.node = f"{node['name']} {node['format']['text']}"
    lenses = [*LENSES]
    if node["controls"]:
        automatics.dress(undo)
        lenses.append(RAW_LENS)
    else:
        say("the act of the automatics is left out: this node has no controls")
    sims = {lens: SimClient(lens) for lens in lenses}
    try:
        story(film, node, sims)
    except ProgramError as error:  # the app did not live through it: what the demo is about, so it is told
        film.story.app_restarts += 1
        film.story.app_errors.append(str(error))
        film.note("end", "the app has ended by itself")
        for sim in sims.values():
            if sim.status()["attached"]:
                sim.detach()
    film.story.counters["film"] = counters()
    mode = cycles(film, node, sims[LENSES[0]])
    film.story.counters["cycles"] = counters()
    film.story.stays = {lens: sim.status()["stays"] for lens, sim in sims.items()}
    film.story.marks = {lens: int(sim.status()["mark"]) for lens, sim in sims.items()}
    with service_away():
        c_reader(film, sims[LENSES[0]], options.c_reader, mode)
    cold_start(film, sims[LENSES[0]])


def main() -> int:
    """Make the film into a directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/demo")))
    parser.add_argument("--c-reader", type=Path, required=True)
    parser.add_argument("--size", help="WIDTHxHEIGHT of the node, instead of as it is configured")
    options = parser.parse_args()
    say("the virtual modules render their pictures")
    try:
        with stage(LENSES, options.size) as undo, closing(Film(options.out)) as film:
            play(film, options, undo)
    except MaglensError as error:
        print(f"demo: {error.explain()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
