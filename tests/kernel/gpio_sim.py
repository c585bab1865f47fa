# SPDX-License-Identifier: GPL-2.0-or-later
"""gpio-sim: a GPIO chip whose lines a test pulls, by configfs. Needs CONFIG_GPIO_SIM: User Mode Linux has it here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CONFIGFS = Path("/sys/kernel/config/gpio-sim")
LABEL = "maglens-test"


class SimChip:
    """A live chip. Lines are named, and numbered in the order of their names."""

    def __init__(self, sysfs: Path, device: Path, names: Sequence[str]) -> None:
        self._sysfs = sysfs
        self.device = device
        self._offsets = {name: offset for offset, name in enumerate(names)}

    def _attribute(self, line: str, name: str) -> Path:
        return self._sysfs / f"sim_gpio{self._offsets[line]}" / name

    def pull(self, line: str, up: bool) -> None:
        """The voltage that the outside puts on an input."""
        self._attribute(line, "pull").write_text("pull-up" if up else "pull-down")

    def value(self, line: str) -> bool:
        """The voltage on a line, whoever puts it there."""
        return self._attribute(line, "value").read_text().strip() == "1"


@contextmanager
def sim_chip(names: Sequence[str]) -> Iterator[SimChip]:
    """A chip with these lines."""
    chip, bank = CONFIGFS / LABEL, CONFIGFS / LABEL / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text(str(len(names)))
    (bank / "label").write_text(LABEL)
    for offset, name in enumerate(names):
        line = bank / f"line{offset}"
        line.mkdir()
        (line / "name").write_text(name)
    live = chip / "live"
    live.write_text("1")
    try:
        device = (chip / "dev_name").read_text().strip()
        number = (bank / "chip_name").read_text().strip()
        yield SimChip(Path("/sys/devices/platform") / device / number, Path("/dev") / number, names)
    finally:
        live.write_text("0")
        for offset in range(len(names)):
            (bank / f"line{offset}").rmdir()
        bank.rmdir()
        chip.rmdir()
