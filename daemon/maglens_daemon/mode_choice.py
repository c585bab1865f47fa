# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode choice: which of a source's modes feeds the node, within what link and contract can carry. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maglens_daemon.effort import Effort
from maglens_driver.mode import MJPG, RAW, Mode
from maglens_v4l2.convert import CONVERTIBLE


@dataclass(frozen=True, slots=True)
class Means:
    """What there is: link rate in Mbit/s (derated), power in mW; None where a kind of source has no such limit.
    ``effort`` is what the module has kept up with: no limit, since it sends what it can of anything else, too.
    ``frame_bytes``: the largest frame that there is memory for."""

    mbit_s: int | None = None
    mw: int | None = None
    effort: Effort | None = None
    frame_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """``mode`` None: nothing fits, and ``reason`` says why."""

    mode: Mode | None
    reason: str = ""


def obstacle(mode: Mode, means: Means) -> str:
    """What stands against a mode; empty when nothing does."""
    if mode.fourcc not in CONVERTIBLE:
        return f"{mode.describe()} cannot be converted"
    if means.mbit_s is not None and mode.mbit_s > means.mbit_s:
        return f"{mode.describe()} needs {mode.mbit_s} Mbit/s, the link carries {means.mbit_s}"
    if means.mw is not None and mode.mw > means.mw:
        return f"{mode.describe()} needs {mode.mw} mW, the contract gives {means.mw}"
    if means.frame_bytes is not None and mode.nbytes > means.frame_bytes:
        megabytes = [nbytes // 1_000_000 for nbytes in (mode.nbytes, means.frame_bytes)]
        return f"a frame of {mode.describe()} has {megabytes[0]} MB, this board has memory for {megabytes[1]}"
    return ""


def _rank(mode: Mode, node: Mode, preferred: bool) -> tuple[float, ...]:
    """Smaller is better. Smoothness first, then detail, then the kind (raw or finished) that the maker prefers,
    then the work it takes, then the load on the link."""
    seconds = mode.interval.numerator / mode.interval.denominator  # as fractions these would take most of a choice
    missing_rate = max(0.0, 1 - node.interval.numerator / node.interval.denominator / seconds)
    shrunk = min(1.0, node.width / mode.width, node.height / mode.height)  # letterboxed: the same both ways
    cover = (shrunk * mode.width / node.width) * (shrunk * mode.height / node.height)
    passes = mode.fourcc == node.fourcc and (mode.width, mode.height) == (node.width, node.height)
    compressed = mode.fourcc == MJPG
    excess = mode.width * mode.height / (node.width * node.height)
    return (
        round(missing_rate, 3),
        round(1 - cover, 3),
        not preferred,
        not passes,
        round(excess, 3),
        compressed,
        mode.fourcc != node.fourcc,
        -seconds,  # no faster than the node shows
        mode.mbit_s,
    )


def choose_mode(modes: Sequence[Mode], node: Mode, means: Means) -> Choice:
    """The mode that serves the node's format best: what keeps the rate and covers the size; of one size the kind that
    the maker names first, raw or finished; then the same format, which passes through untouched; else the least."""
    if not modes:
        return Choice(None, "it has no sensor of its own")
    if node.fourcc == MJPG:  # which nobody here makes
        size = node.width, node.height
        modes = [mode for mode in modes if mode.fourcc == MJPG and (mode.width, mode.height) == size]
        if not modes:
            return Choice(None, f"an app asks for MJPEG of {node.width}x{node.height}, which it does not make")
    fitting = [mode for mode in modes if not obstacle(mode, means)]
    if not fitting:
        least = min(modes, key=lambda m: (m.mbit_s, m.mw))
        return Choice(None, f"no mode fits: {obstacle(least, means)}")
    kinds: dict[tuple[int, int], bool] = {}
    for mode in modes:
        kinds.setdefault((mode.width, mode.height), mode.fourcc in RAW)

    def rank(mode: Mode) -> tuple[float, ...]:
        return _rank(mode, node, kinds[mode.width, mode.height] is (mode.fourcc in RAW))

    effort = means.effort
    kept_up = [mode for mode in fitting if effort is None or effort.covers(mode)]
    return Choice(min(kept_up or fitting, key=rank))
