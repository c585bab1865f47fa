# SPDX-License-Identifier: GPL-2.0-or-later
"""Contact sheet: chosen frames of a recording, labelled with what happened and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.demo.recording import Recording, pictures

COLUMNS = 4
THUMB_WIDTH = 480
LABEL_HEIGHT = 46
MARGIN = 10
BACKGROUND = (24, 26, 30)
TEXT = (235, 235, 235)
FAINT = (150, 160, 170)


@dataclass(frozen=True, slots=True)
class Choice:
    """One frame to show: its index in the recording and its label."""

    index: int
    label: str


def draw(recording: Recording, choices: Sequence[Choice], target: Path, title: str) -> None:
    """Write the sheet as PNG. Times on it count from the first frame of the recording."""
    wanted = {c.index for c in choices}
    frame_bytes = recording.width * recording.height * 3
    found = {i: raw for i, raw in enumerate(pictures(recording.path, "rgb24", frame_bytes)) if i in wanted}
    thumb_height = THUMB_WIDTH * recording.height // recording.width
    cell = (THUMB_WIDTH + MARGIN, thumb_height + LABEL_HEIGHT + MARGIN)
    rows = -(-len(choices) // COLUMNS)
    head = 40
    sheet = Image.new("RGB", (COLUMNS * cell[0] + MARGIN, rows * cell[1] + MARGIN + head), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(18), ImageFont.load_default(15)
    pen.text((MARGIN, MARGIN), title, fill=TEXT, font=ImageFont.load_default(22))
    start = recording.shots[0].time_ns
    for place, choice in enumerate(choices):
        left = MARGIN + place % COLUMNS * cell[0]
        top = MARGIN + head + place // COLUMNS * cell[1]
        picture = Image.frombytes("RGB", (recording.width, recording.height), found[choice.index])
        sheet.paste(picture.resize((THUMB_WIDTH, thumb_height), Image.Resampling.LANCZOS), (left, top))
        shot = recording.shots[choice.index]
        pen.text((left, top + thumb_height + 4), choice.label, fill=TEXT, font=font)
        mark = (
            f"module {shot.mark.source}, stay {shot.mark.generation}, frame {shot.mark.number}"
            if shot.mark
            else "card"
        )
        when = f"{(shot.time_ns - start) / 1e9:6.2f} s   {mark}"
        pen.text((left, top + thumb_height + 24), when, fill=FAINT, font=small)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
