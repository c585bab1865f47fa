# SPDX-License-Identifier: GPL-2.0-or-later
"""Pipeline stats: what a pipeline has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """Counts since the pipeline was made.

    ``frames_in`` frames delivered; ``submitted`` source frames shown, ``repeated`` and ``cards`` fillers shown;
    ``left`` times that fillers came too late and were left to the node, and ``filled`` pictures that it has shown by
    itself, as far as it has told; ``dropped`` frames not shown, by cause; ``last_frame_ns`` when a source frame was
    last shown, and ``first_frame_ns`` when the first one of ``generation`` was (CLOCK_MONOTONIC; 0: not yet).
    """

    frames_in: int
    submitted: int
    repeated: int
    cards: int
    left: int
    filled: int
    dropped: Mapping[str, int]
    last_frame_ns: int
    generation: int | None
    first_frame_ns: int
