# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bench of the path from USB to an app compares is what it runs, and counts as it says."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maglens_driver.link.limits import MAX_MODES
from maglens_driver.mode import NV12, SRGGB10P
from tests.bench.path import cases, guest
from tests.bench.path.meter import Figures, Span, together
from tests.bench.path.still import FASTEST, MODES, STEPS, index_of
from tests.kernel.uml_guest import Result
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


class Offered(guest.Fastest):
    """A path that gets ``most`` pictures through, and fewer the more it has to leave out."""

    def __init__(self, most: float, guess: float) -> None:
        super().__init__([], NV12, guest.UHD, lambda: guess)
        self.most = most
        self.rates: list[int] = []

    def _run(self, rate: int, span: Span) -> list[dict[str, float]]:
        self.rates.append(rate)
        return [{"frames_per_s": min(rate, self.most - max(0.0, rate - self.most) / 2)}]


def test_the_rate_is_the_one_at_which_most_pictures_come() -> None:
    path = Offered(31.0, guess=34.5)
    assert path(Span(1, 4.0)) == [{"frames_per_s": 30.5}]
    assert path.rates == [38, 32, 30, 32]
    path.most = 40.0
    for _ in range(6):
        path(Span(1, 4.0))
    assert path.rates[4:] == [32, 34, 36, 38, 40, 43]  # what keeps up is offered more
    path.most = 20.0
    path(Span(1, 4.0))
    path(Span(1, 4.0))
    assert path.rates[-2:] == [40, 38]


def test_a_rate_is_looked_for_a_few_times_only() -> None:
    path = Offered(1.0, guess=500.0)
    path(Span(1, 4.0))
    assert len(path.rates) <= guest.TRIALS + 1
    assert path.rates[0] == max(STEPS[guest.UHD])


def test_the_module_has_every_rate_that_is_looked_for() -> None:
    assert len(MODES) == len(set(MODES)) <= MAX_MODES
    for code, size in ((NV12, guest.UHD), (SRGGB10P, guest.UHD), (NV12, guest.VGA)):
        assert FASTEST not in STEPS[size], "it has no clock"
        assert all(index_of(code, size, step) >= 0 for step in STEPS[size])


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


FAKE_APP = """#!/bin/sh
echo '{"warm_up": 40}'
for window in $(seq $2); do echo '{"frames": 90, "seconds": 3.0, "frames_per_s": 30.0}'; done
"""
FAKE_READER = """#!/bin/sh
trap 'touch stopped; exit 0' TERM
trap '' PIPE
echo opened >&2
echo /dev/video7 >&2
while [ ! -e ends ]; do echo picture; sleep 0.02; done
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app and a C reader that need no kernel, where the real ones are looked for."""
    for name, text in (("app", FAKE_APP), ("c_reader", FAKE_READER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.bench.path.meter.BUILD", tmp_path)
    monkeypatch.setattr(guest, "READER", str(tmp_path / "c_reader"))
    return tmp_path


def test_the_floor_gives_a_figure_for_each_window_and_stops_its_module(stand_ins: Path) -> None:
    found = guest.floor([], guest.UHD, FASTEST, Span(3, 1.0))
    assert [(one["window"], one["frames_per_s"]) for one in found] == [(0, 30.0), (1, 30.0), (2, 30.0)]
    assert all(one["cpu_ms"] >= 0 for one in found)
    assert (stand_ins / "stopped").exists(), "the next path finds a module that is not in the middle of a stream"


def test_a_reader_that_gave_up_is_no_floor(stand_ins: Path) -> None:
    (stand_ins / "app").write_text("#!/bin/sh\ntouch ends\n" + FAKE_APP.replace("seq $2", "sleep 0.5; seq $2"))
    with pytest.raises(RuntimeError, match="c_reader ended by itself"):
        guest.floor([], guest.UHD, FASTEST, Span(1, 1.0))


def test_a_well_known_program_is_fed_and_ended(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "shown_by", lambda device: "NV12" if (stand_ins / "fed").exists() else "")
    found = guest.loopback([], "sh -c 'exec cat > fed' ", guest.FHD, guest.VIDEO, Span(3, 1.0))
    assert len(found) == 3 and (stand_ins / "stopped").exists()
    (stand_ins / "fed").unlink()
    with pytest.raises(RuntimeError, match="ended by itself"):
        guest.loopback([], "false ", guest.UHD, guest.VIDEO, Span(1, 1.0))


def test_an_app_that_fails_is_no_figure(stand_ins: Path) -> None:
    (stand_ins / "app").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(RuntimeError, match="app"):
        guest.floor([], guest.UHD, FASTEST, Span(1, 1.0))


def test_what_fails_is_told_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> list[Figures]:
        raise RuntimeError("no module")

    book = guest.Book(tmp_path / "path.json", ["a", "b", "modules/2"])
    book.keep("a", fail)
    for _ in range(2):
        book.keep("b", lambda: [{"window": 0}])
    book.keep("c", fail)
    assert book.failed and "a: FAILED: no module" in capsys.readouterr().out
    assert json.loads((tmp_path / "path.json").read_text()) == {"b": [{"window": 0}] * 2}
    assert book.wants("modules/") and not book.wants("x")


@pytest.mark.parametrize(
    ("printed", "status", "complaints"),
    [(b"x\npass/ffmpeg: FAILED: no\n", 1, ()), (b"", 0, ("BUG: bad",)), (b"Traceback", 124, ())],
)
def test_what_went_wrong_in_the_guest_is_told_once_all_figures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: bytes, status: int, complaints: tuple[str, ...]
) -> None:
    figures = {name: [{"frames_per_s": 30.0}] * 3 for name in ("pass/ours", "pass/floor")}
    (tmp_path / "path.json").write_text(json.dumps(figures))

    def run(command: list[str], output: Callable[[bytes], None], **how: object) -> Result:
        output(printed)
        return Result(status, tmp_path, "", complaints)

    monkeypatch.setattr("tests.kernel.uml_guest.run", run)
    monkeypatch.setattr(cases, "_in_memory", lambda quick: iter(()))
    told = cases.cases(quick=False)
    assert next(told).case == "usb/4k/nv12/pass/floor"
    with pytest.raises(RuntimeError, match=r"FAILED: no|BUG: bad|status 124: Traceback"):
        next(told)
