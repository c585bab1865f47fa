# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bench of the path from USB to an app compares is what it runs, and counts as it says."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bench.path import cases, guest
from tests.bench.path.meter import Span, together
from tests.bench.path.still import FASTEST, MODES, STEPS
from tests.tools import stamp

SOURCE = Path(guest.HERE).parent / "c_reader"
S = 1_000_000_000


def test_everything_compared_is_run() -> None:
    paths = guest.Paths([], guest.SHORT, guest.LONG, guest.BULK_FRAMES)
    run = {*paths.short(), *paths.long(), *(f"modules/{n}" for n in guest.MODULES[1:])}
    compared = {path for row in (*cases.SHORT, *cases.LONG, *cases.MINUTE) for path in row[4:6]}
    assert compared == run - {"raw/ours"}, "whose peer is in its own figures"


def test_processor_time_and_latency_are_of_runs_of_a_minute_and_rates_of_runs_in_turn() -> None:
    assert guest.LONG.windows * guest.LONG.seconds >= 60 and guest.LONG.windows >= guest.REPEATS
    paths = guest.Paths([], guest.SHORT, guest.LONG, guest.BULK_FRAMES)
    short, long = set(paths.short()), {*paths.long(), *(f"modules/{n}" for n in guest.MODULES[1:])}
    assert not short & long
    assert {path for row in cases.SHORT for path in row[4:6]} <= short
    for row in (*cases.LONG, *cases.MINUTE):
        assert {*row[4:6]} <= long, row
    assert {row[3] for row in cases.SHORT} == {"frames_per_s"}
    assert {row[3] for row in cases.MINUTE} == {"cpu_ms"}


@pytest.mark.parametrize(("peer", "size"), [("uvcvideo", "vga"), ("ffmpeg", "1080p"), ("gstreamer", "1080p")])
def test_what_one_would_otherwise_take_is_compared_in_every_way(peer: str, size: str) -> None:
    names = {row[0] for row in (*cases.SHORT, *cases.LONG, *cases.MINUTE)}
    assert {f"usb/{size}/nv12/{what}/{peer}" for what in ("latency", "latency-p99", "cpu")} <= names
    assert any(name.split("/")[3:] == ["pass", peer] for name in names)


def test_a_rate_is_a_little_above_what_was_reached() -> None:
    assert [guest._step(rate) for rate in (0.0, 9.0, 45.0, 66.0, 99.0, 500.0)] == [10, 10, 50, 80, 100, 100]
    assert FASTEST not in STEPS, "it has no clock"
    assert len(MODES) == len(set(MODES))


def test_fewer_figures_than_repeats_are_no_case() -> None:
    row = cases.MINUTE[0]
    one = {"cpu_ms": 2.0}
    assert not list(cases._compare({"4k/ours": [one] * 3, "4k/floor": [one] * 2}, row))
    (case,) = cases._compare({"4k/ours": [one] * 3, "4k/floor": [{"cpu_ms": 4.0}] * 3}, row)
    assert (case.case, case.ratio) == ("usb/4k/nv12/cpu/floor", 0.5)


def test_processor_time_is_shared_by_the_pictures_of_all_apps() -> None:
    lines = [json.dumps({"frames": 600, "seconds": 20.0, "frames_per_s": rate}) for rate in (30.0, 10.0)]
    (one,) = together([lines[:1]], [6.0])
    (both,) = together([lines[:1], lines[1:]], [6.0])
    assert (one["cpu_ms"], both["cpu_ms"]) == (10.0, 7.5)
    assert (both["frames_per_s"], both["window"]) == (40.0, 0)


class Tally:
    """tally.c at work, with pictures of whatever time."""

    def __init__(self, folder: Path, span: Span) -> None:
        if not shutil.which("cc"):
            pytest.skip("no C compiler: apt install build-essential")
        library = folder / "tally.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE / "tally.c"], check=True)
        self._c = ctypes.CDLL(str(library))
        self._c.tally_new.restype = ctypes.c_void_p
        self._c.tally_new.argtypes = [ctypes.c_uint, ctypes.c_double]
        self._c.tally_add.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]
        self._tally = self._c.tally_new(span.windows, span.seconds)
        self._picture = bytearray(640)

    def add(self, now: int, late: int, *, stamped: bool = True, again: bool = False) -> int:
        """A picture at a time; V4L2 says that it was taken that very moment."""
        if not again:
            self._picture[100:108] = now.to_bytes(8, "little")
            if stamped:
                stamp.put(self._picture, now - late)
        return int(self._c.tally_add(self._tally, bytes(self._picture), now, now))


def test_apps_count_new_pictures_in_windows_and_believe_their_stamps(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(tmp_path, Span(2, 1.0))
    now, over = 5 * S, 0
    for number in range(40 + 20):  # ten a second: four seconds to find the pace, and two windows
        assert not over
        now += S // 10
        over = tally.add(now, (number + 1) * 1_000_000)
        assert over or tally.add(now + S // 20, 0, again=True) == 0
    assert over == 1
    ctypes.CDLL(None).fflush(None)
    warm, one, two = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert warm == {"warm_up": 40}
    assert (one["frames"], one["again"], one["stamped"], one["seconds"]) == (10, 10, 10, 1.0)
    assert (one["frames_per_s"], one["late_ms"], one["late_p99_ms"]) == (10.0, 46.0, 50.0)
    assert (two["frames"], two["late_ms"], two["late_p99_ms"]) == (10, 56.0, 60.0)


def test_apps_end_where_no_new_picture_comes(tmp_path: Path) -> None:
    tally = Tally(tmp_path, Span(1, 1.0))
    assert tally.add(S, 0, stamped=False) == 0
    assert tally.add(20 * S, 0, again=True) == 0
    assert tally.add(22 * S, 0, again=True) == -1
