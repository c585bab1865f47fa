# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal picture: its colours, its size, and that it leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import errno
import io
import re
from fractions import Fraction

import numpy as np
import pytest

from maglens_daemon.cli import main, terminal, window
from maglens_daemon.exits import Exit
from maglens_driver.errors import MaglensError
from maglens_driver.mode import NV12, YUYV, Mode, make_mode

RED = (81, 90, 240)  # luma, blue and red difference, BT.601 video range
RGB_RED = (254, 0, 0)


def picture(mode: Mode, left: tuple[int, int, int], right: tuple[int, int, int]) -> memoryview:
    """Two halves of one colour each."""
    half = mode.width // 2
    flat = np.zeros(mode.nbytes, np.uint8)
    if mode.fourcc == NV12:
        luma = flat[: mode.stride * mode.height].reshape(mode.height, mode.stride)
        chroma = flat[mode.stride * mode.height :].reshape(mode.height // 2, mode.stride // 2, 2)
        luma[:, :half], luma[:, half:] = left[0], right[0]
        chroma[:, : half // 2], chroma[:, half // 2 :] = left[1:], right[1:]
    else:
        pairs = flat.reshape(mode.height, mode.width // 2, 4)
        pairs[:, : half // 2], pairs[:, half // 2 :] = (
            (color[0], color[1], color[0], color[2]) for color in (left, right)
        )
    return memoryview(flat.data)


@pytest.mark.parametrize("fourcc", [NV12, YUYV])
def test_colours_and_sides(fourcc: int) -> None:
    mode = make_mode(fourcc, 64, 48, Fraction(1, 30))
    pixels = terminal.small(picture(mode, RED, (235, 128, 128)), mode, 80, 10)
    assert pixels.shape == (20, 26, 3)
    assert np.abs(pixels[:, :13].astype(int) - RGB_RED).max() <= 2
    assert np.abs(pixels[:, 13:].astype(int) - 255).max() <= 2


def test_a_wide_terminal_is_filled_by_height_and_a_narrow_one_by_width() -> None:
    mode = make_mode(NV12, 1280, 720, Fraction(1, 30))
    dark = memoryview(bytearray(mode.nbytes))
    assert terminal.small(dark, mode, 300, 20).shape == (40, 71, 3)
    assert terminal.small(dark, mode, 40, 50).shape == (22, 40, 3)


def test_a_colour_is_written_where_it_changes() -> None:
    pixels = np.zeros((4, 10, 3), np.uint8)
    pixels[1, 5:] = 255
    text = terminal.drawn(pixels)
    assert [line.count("\u2580") for line in text.split("\n")] == [10, 10]
    assert len(re.findall(r"\x1b\[38;2;[0-9;]*m", text)) == 3


@pytest.mark.parametrize(
    ("line", "fits"),
    [("camera", "came"), ("カメラ", "カメ"), ("aカメラ", "aカ"), ("cafe\u0301s", "cafe\u0301"), ("", "")],
)
def test_a_line_fits_by_columns_and_not_by_letters(line: str, fits: str) -> None:
    """One that is wider goes on in the next row, and the whole picture moves up with each."""
    assert terminal.fitting(line, 4) == fits


def test_the_terminal_is_left_as_it_was() -> None:
    out = io.StringIO()
    mode = make_mode(NV12, 64, 48, Fraction(1, 30))
    with pytest.raises(KeyboardInterrupt), terminal.screen(out) as shown:
        for _ in range(3):
            shown.show(memoryview(bytearray(mode.nbytes)), mode, "source  a camera\nlens    none")
        raise KeyboardInterrupt
    said = out.getvalue()
    assert said.count("source  a camera") == 1, "what comes too soon is left out"
    assert said.endswith("\x1b[?25h\x1b[?1049l")


def test_it_is_taken_where_no_window_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/ffplay")
    monkeypatch.setenv("DISPLAY", ":0")
    assert not window.in_terminal(False)
    assert window.in_terminal(True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert window.in_terminal(False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/ffplay")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert window.in_terminal(False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert not window.in_terminal(False), "into a pipe: the error says what is missing"


class NoReader:
    """A node that another app has, or that this user may not open."""

    def __init__(self, opening: int = 0, starting: int = 0) -> None:
        self._opening, self._starting = opening, starting
        self.closed = False

    def __call__(self, _path: str) -> NoReader:
        if self._opening:
            raise OSError(self._opening, "no")
        return self

    def format(self) -> Mode:
        return make_mode(NV12, 64, 48, Fraction(1, 30))

    def start(self) -> None:
        raise OSError(self._starting, "no")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("reader", "said", "status"),
    [
        (NoReader(opening=errno.EACCES), "/dev/video9: you may not open it", Exit.NO_PERMISSION),
        (NoReader(opening=errno.ENOENT), "/dev/video9: no", Exit.FAILED),
        (NoReader(starting=errno.EBUSY), "/dev/video9: another app has it", Exit.FAILED),
    ],
    ids=["rights", "gone", "busy"],
)
def test_a_node_that_cannot_be_shown_is_told(
    reader: NoReader, said: str, status: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "Reader", reader)
    with pytest.raises(MaglensError, match=said) as caught:
        asyncio.run(terminal.play("/dev/video9", lambda: "", 0.0))
    assert caught.value.hint
    assert main.exit_status(caught.value) == status
    assert reader.closed == bool(reader._starting)
