# SPDX-License-Identifier: GPL-2.0-or-later
"""One camera that never goes away: two apps watch while cameras of every kind come, go and break."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from maglens_driver.gadget.faults import FOREVER
from maglens_driver.mode import NV12, make_mode
from maglens_driver.virtual import mark
from tests.demo.recording import pictures
from tests.tools.usbip.camera import MARK_SOURCE
from tests.vm.conftest import Record
from tests.vm.guest.devices import daemon_kept_away
from tests.vm.guest.gstreamer import Gstreamer
from tests.vm.guest.limits import emulated
from tests.vm.guest.stall import Stall
from tests.vm.guest.troupe import BUILT_IN, MODULE, WEBCAM, Troupe

WIDTH, HEIGHT, RATE = 640, 480, 15
MODULE_MARK = 35
BARS, CARD = -1, -2  # libcamera's virtual camera draws no mark
STRIPES = 30  # standard deviation of a row's luma from which it is bars
WINDOW_NS = 2_000_000_000
SHOWN_S = 0.2  # from a source's first frame to the first picture of it
CONFIG = f"[node]\nwidth = {WIDTH}\nheight = {HEIGHT}\nrate = {RATE}\n"


@pytest.fixture
def troupe() -> Iterator[Troupe]:
    """A daemon of this test's own; the service, where there is one, rests meanwhile."""
    with daemon_kept_away(), Troupe(CONFIG) as made:
        yield made


def shown(lumas: Iterable[bytes]) -> list[tuple[int, int]]:
    """What each recorded picture is: a mark's source (else ``BARS`` or ``CARD``) and number in its stream.
    A mixed one fails."""
    found = []
    for raw in lumas:
        luma = np.frombuffer(raw, np.uint8).reshape(HEIGHT, WIDTH)
        seen = mark.read(luma)
        assert not isinstance(seen, mark.Mixed), "parts of two pictures"
        if seen is not None:
            found.append((seen.source, seen.number))
        else:
            found.append((BARS if float(luma[HEIGHT // 2].std()) > STRIPES else CARD, 0))
    return found


def recorded(path: Path) -> Iterator[bytes]:
    """The luma of every picture that ffmpeg wrote."""
    return pictures(path, "gray", WIDTH * HEIGHT)


def windows(stamps: Sequence[int]) -> Iterator[int]:
    """Frames in every 2 s that begin with one."""
    for first, stamp in enumerate(stamps):
        if stamp + WINDOW_NS > stamps[-1]:
            return
        yield sum(1 for later in stamps[first:] if later < stamp + WINDOW_NS)


def judged(app: str, seen: Sequence[tuple[int, int]], stamps: Sequence[int], stall_ns: int) -> None:
    """The cameras in their order, each shown soon after its first frame, no gap, and no two seconds with too few
    pictures or too many. ``stamps`` in ns."""
    order = [source for source, _ in itertools.groupby(source for source, _ in seen)]
    late = [next(number for source, number in seen if source == who) / RATE for who in (MODULE_MARK, MARK_SOURCE)]
    interval = 1_000_000_000 / RATE
    gaps = [(b - a) / interval for a, b in itertools.pairwise(stamps)]
    counts = list(windows(stamps))
    slack = 2 * stall_ns / interval
    print(
        f"{app}: {len(seen)} pictures, {order}; largest gap {max(gaps):.2f} intervals; {min(counts)} to {max(counts)}"
        f" in 2 s; module and webcam {late[0]:.3f} and {late[1]:.3f} s after their first frame; the machine stood"
        f" still for up to {stall_ns / 1e6:.0f} ms"
    )
    assert len(stamps) == len(seen), app
    played = [source for source in order if source != CARD]
    assert [source for source, _ in itertools.groupby(played)] == [BARS, MODULE_MARK, MARK_SOURCE, BARS], app
    assert max(late) <= SHOWN_S + slack * interval / 1e9, app
    assert max(gaps) <= (4 if emulated() else 2) + slack, app
    assert 1.8 * RATE - slack <= min(counts) and max(counts) <= 2.2 * RATE + slack, app


@pytest.mark.long
def test_two_apps_watch_while_cameras_come_and_go(troupe: Troupe, ffmpeg_recorder: Record, out: Path) -> None:
    node = troupe.status()["node"]["path"]
    options = ["-input_format", "nv12", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE)]
    first = ffmpeg_recorder(node, options=options)
    raw = out / "gstreamer.nv12"

    def hold(seconds: float) -> None:
        first.wait_more(round(seconds * RATE))

    with Stall() as stall, Gstreamer(node, raw, make_mode(NV12, WIDTH, HEIGHT, Fraction(1, RATE))) as second:
        troupe.plays(BUILT_IN)
        hold(3)
        troupe.sim.attach()
        troupe.plays(MODULE)
        hold(3)
        troupe.plug()
        troupe.plays(WEBCAM)
        hold(3)
        troupe.sim.detach()
        troupe.log.wait_for(f"{MODULE}.*: removed")
        with contextlib.suppress(LookupError):  # it rests where all this has taken ten seconds
            os.kill(troupe.child_pid(), signal.SIGKILL)
        hold(1)
        troupe.unbind()
        troupe.plays(BUILT_IN)
        hold(2)
        os.kill(troupe.child_pid(), signal.SIGKILL)
        troupe.plays(BUILT_IN)
        hold(2)
    first.stop()
    print("\n".join(troupe.log.lines))

    assert first.errors() == []
    judged("ffmpeg", shown(recorded(first.path)), [s * 1000 for s in first.timestamps_us()], stall.worst_ns)
    judged("GStreamer", shown(second.lumas()), second.timestamps_ns(), stall.worst_ns)


@pytest.mark.long
def test_whoever_hangs_holds_up_nobody(troupe: Troupe, ffmpeg_recorder: Record) -> None:
    """A libcamera process that does nothing, then a module that answers nothing, while the webcam plays."""
    node = troupe.status()["node"]["path"]
    options = ["-input_format", "nv12", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE)]
    recording = ffmpeg_recorder(node, options=options)
    troupe.plays(BUILT_IN)
    troupe.plug()
    spans = []

    def webcam_plays() -> int:
        """The picture from which on it does, and has drawn anew what people chose for it before."""
        troupe.plays(WEBCAM)
        return recording.wait_more(2 * RATE)

    with Stall() as stall:
        webcam_plays()
        troupe.maglens("use", "lab0")  # its process rests after ten seconds without a part
        troupe.plays(BUILT_IN)
        troupe.maglens("use", "auto")
        began = webcam_plays()
        os.kill(troupe.child_pid(), signal.SIGSTOP)
        troupe.maglens("use", "lab0")
        troupe.log.wait_for(f"{BUILT_IN}.*starting it again")
        spans.append((began, recording.wait_more(0)))
        troupe.plays(BUILT_IN)
        troupe.maglens("use", "auto")
        began = webcam_plays()
        troupe.sim.fault("hang", FOREVER)
        troupe.sim.attach()
        troupe.log.wait_for("refused: the module did not answer")
        spans.append((began, recording.wait_more(0)))
        troupe.sim.clear()
        troupe.sim.detach()
    recording.stop()

    assert recording.errors() == []
    seen, stamps = shown(recorded(recording.path)), recording.timestamps_us()
    slack = 2 * stall.worst_ns * RATE / 1e9
    for began, ended in spans:
        anew = [i for i in range(began + 1, ended) if seen[i] != seen[i - 1] and seen[i][0] != CARD]
        assert {seen[i][0] for i in anew} == {MARK_SOURCE}
        waited = [(stamps[b] - stamps[a]) * RATE / 1e6 for a, b in itertools.pairwise(anew)]
        print(
            f"{len(anew)} new pictures of {ended - began}, at most {max(waited):.2f} intervals apart;"
            f" the machine stood still for up to {stall.worst_ns / 1e6:.0f} ms"
        )
        assert max(waited) <= 2 + slack, "more than one frame was left out"
