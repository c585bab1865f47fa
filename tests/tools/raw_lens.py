# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw lens: the 35 mm module as one whose maker prefers raw in its smallest size, and whose factory settings are
wrong in every way: far too dark, and focused on nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from maglens_driver.gadget.client import unit
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.virtual import lens

NAME: Final = "35mm"
EXPOSURE: Final = 4  # 100 us: a twentieth of what is right
FOCUS: Final = 400  # hundredths of a dioptre: a quarter of a metre, before everything there is
_MODES: Final = "[[modes]]"
_CHANGED: Final = {
    "maximum = 320, default = 80": f"maximum = 320, default = {EXPOSURE}",
    "focus = { default = 50 }": f"focus = {{ default = {FOCUS} }}",
    "default = 500000": f"default = {FOCUS * 10_000}",
}


def text() -> str:
    """The lens's file. ``ValueError`` where the one that it is made of has changed."""
    head, *modes = Path(lens.__file__).with_name("lenses").joinpath(f"{NAME}.toml").read_text().split(_MODES)
    first = next(mode for mode in modes if "[640, 480]" in mode and "pRAA" in mode)
    modes.remove(first)
    made = _MODES.join((head, first, *modes))
    for before, after in _CHANGED.items():
        if made.count(before) != 1:
            raise ValueError(f"{NAME}.toml has no {before!r} any more")
        made = made.replace(before, after)
    return made


def write(folder: Path) -> None:
    """As a file that is found before the usual one where ``ENV_LENS_PATH`` names the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{NAME}.toml").write_text(text())


def install(folder: Path) -> Path:
    """For the virtual module's service, from its next start on. The answer is to be deleted to undo this."""
    write(folder)
    change = Path(f"/run/systemd/system/{unit(NAME)}.d/raw-lens.conf")
    change.parent.mkdir(parents=True, exist_ok=True)
    change.write_text(f"[Service]\nEnvironment={ENV_LENS_PATH}={folder}\n")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    return change
