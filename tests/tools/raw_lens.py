# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw lens: another 35 mm module, which sends nothing but raw frames of the smallest size, and whose factory settings
are wrong in every way: far too dark, and focused on nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from maglens_driver.control import Cid
from maglens_driver.gadget.client import unit
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.virtual import lens

NAME: Final = "35mm"
EXPOSURE: Final = 4  # 100 us: a twentieth of what is right
FOCUS: Final = 400  # hundredths of a dioptre: a quarter of a metre, before everything there is
DRIVEN: Final[tuple[int, ...]] = (Cid.EXPOSURE_ABSOLUTE, Cid.WHITE_BALANCE_TEMPERATURE, Cid.FOCUS_ABSOLUTE)
LAMPS_K: Final = 3600  # a light for the scene that the module is not set to
BRIGHTER: Final = 4  # times at least, rightly exposed
ABOUT_K: Final = 600  # the scene is not quite neutral
# Hundredths of a dioptre: mountains and village, which fill the middle; contrast there is within a seventh of its
# best, and less than half of that at the robot (50) and the flowers (200).
SHARP: Final = range(11)
RATES: Final = (30, 15)  # of the mode, by its file
PRICE_MW: Final = 900  # of another rate
_MODES: Final = "[[modes]]"
_BEHIND: Final = "# Units as"
_CHANGED: Final = {
    "mark = 35": "mark = 36",
    "maximum = 320, default = 80": f"maximum = 320, default = {EXPOSURE}",
    "focus = { default = 50 }": f"focus = {{ default = {FOCUS} }}",
    "default = 500000": f"default = {FOCUS * 10_000}",
}


def text(rate: int = RATES[0]) -> str:
    """The lens's file, with ``rate`` frames a second. ``ValueError`` where the one that it is made of has
    changed."""
    head, *modes = Path(lens.__file__).with_name("lenses").joinpath(f"{NAME}.toml").read_text().split(_MODES)
    first = next(mode for mode in modes if "[640, 480]" in mode and "pRAA" in mode)
    tail = modes[-1].partition(_BEHIND)[1:]
    rates, price = (next(line for line in first.splitlines() if line.startswith(key)) for key in ("rates", "mw"))
    if rates != f"rates = {list(RATES)}":
        raise ValueError(f"{NAME}.toml has other rates than {RATES}")
    if rate not in RATES:
        first = first.replace(rates, f"rates = [{rate}]").replace(price, f"mw = [{PRICE_MW}]")
    made = "".join((head, _MODES, first, *tail))
    for before, after in _CHANGED.items():
        if made.count(before) != 1:
            raise ValueError(f"{NAME}.toml has no {before!r} any more")
        made = made.replace(before, after)
    return made


def found(values: Mapping[int, int]) -> dict[str, bool]:
    """Whether exposure, white balance and focus are right for the scene under lamps; ``values`` of controls."""
    return {
        "exposure": values[Cid.EXPOSURE_ABSOLUTE] > BRIGHTER * EXPOSURE,
        "white balance": abs(values[Cid.WHITE_BALANCE_TEMPERATURE] - LAMPS_K) < ABOUT_K,
        "focus": values[Cid.FOCUS_ABSOLUTE] in SHARP,
    }


def write(folder: Path, name: str = NAME, rate: int = RATES[0]) -> None:
    """As a file that is found, before the usual one if it is called so, where ``ENV_LENS_PATH`` names the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{name}.toml").write_text(text(rate))


def install(folder: Path, name: str = NAME, rate: int = RATES[0], settings: Sequence[str] = ()) -> None:
    """For the service of the virtual module ``name``, from its next start on, with more ``settings`` of a unit."""
    write(folder, name, rate)
    change = _change(name)
    change.parent.mkdir(parents=True, exist_ok=True)
    change.write_text("\n".join(("[Service]", f"Environment={ENV_LENS_PATH}={folder}", *settings, "")))
    subprocess.run(["systemctl", "daemon-reload"], check=True)


def remove(folder: Path, name: str = NAME) -> None:
    """What :func:`install` has changed; as it was from the service's next start on."""
    _change(name).unlink(missing_ok=True)
    folder.joinpath(f"{name}.toml").unlink(missing_ok=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)


def _change(name: str) -> Path:
    return Path(f"/run/systemd/system/{unit(name)}.d/raw-lens.conf")
