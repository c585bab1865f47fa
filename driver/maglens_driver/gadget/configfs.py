# SPDX-License-Identifier: MIT
"""configfs: makes a USB gadget of files and directories (Documentation/usb/gadget_configfs.rst of the kernel)."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver.errors import MaglensError, MissingDependency
from maglens_driver.names import CONFIGFS_GADGETS, VIRTUAL_USB_PRODUCT, VIRTUAL_USB_VENDOR

UDC_CLASS: Final = Path("/sys/class/udc")
_ENGLISH = "0x409"


@dataclass(frozen=True, slots=True)
class GadgetSpec:
    """What the host reads in the device descriptor. ``max_power_ma`` is bMaxPower, before any contract."""

    name: str
    maker: str
    model: str
    serial: str
    max_power_ma: int = 500
    max_speed: str = "super-speed"
    vendor: int = VIRTUAL_USB_VENDOR
    product: int = VIRTUAL_USB_PRODUCT


class ConfigfsGadget:
    """A gadget with one configuration and one FunctionFS function, from :meth:`create` to :meth:`remove`."""

    def __init__(self, spec: GadgetSpec, root: Path = Path(CONFIGFS_GADGETS)) -> None:
        self.spec = spec
        self.path = root / spec.name
        self._config = self.path / "configs" / "c.1"
        self.function = self.path / "functions" / f"ffs.{spec.name}"

    def create(self) -> None:
        """Make the directories. ``MissingDependency`` where the kernel has no gadget support loaded."""
        if not self.path.parent.is_dir():
            raise MissingDependency(
                f"{self.path.parent} is not there: no USB gadget support",
                hint="sudo modprobe libcomposite, and dummy_hcd where the machine has no USB device port",
            )
        if self.path.exists():
            self.remove()
        spec = self.spec
        self.path.mkdir()
        (self.path / "idVendor").write_text(f"{spec.vendor:#06x}")
        (self.path / "idProduct").write_text(f"{spec.product:#06x}")
        (self.path / "bcdUSB").write_text("0x0320")
        (self.path / "max_speed").write_text(spec.max_speed)
        strings = self.path / "strings" / _ENGLISH
        strings.mkdir()
        (strings / "manufacturer").write_text(spec.maker)
        (strings / "product").write_text(spec.model)
        (strings / "serialnumber").write_text(spec.serial)
        self._config.mkdir()
        (self._config / "MaxPower").write_text(str(spec.max_power_ma))
        self.function.mkdir()

    def link(self) -> None:
        """Put the function into the configuration: once, before the first :meth:`attach`."""
        link = self._config / self.function.name
        if not link.is_symlink():
            link.symlink_to(self.function)

    def unlink(self) -> None:
        """Take it out again. Idempotent."""
        (self._config / self.function.name).unlink(missing_ok=True)

    def touch(self, max_speed: str) -> None:
        """How far the contacts touch at the next attach: ``high-speed`` with the slow pair alone."""
        (self.path / "max_speed").write_text(max_speed)

    def attach(self, udc: str | None = None) -> str:
        """Appear on a device controller: ``udc``, or the first free one. Its name.

        ``MaglensError`` where none is free, ``MissingDependency`` where there is none at all.
        """
        names = [udc] if udc else controllers()
        if not names:
            raise MissingDependency(
                "this machine has no USB device controller",
                hint="sudo modprobe dummy_hcd num=4 is_super_speed=1",
            )
        for name in names:
            try:
                _write(self.path / "UDC", name)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENODEV):
                    raise
                continue
            return name
        raise MaglensError(
            f"no USB device controller is free ({', '.join(names)})",
            hint="detach another module first, or: modprobe -r dummy_hcd; modprobe dummy_hcd num=4 is_super_speed=1",
        )

    def detach(self) -> None:
        """Disappear. Idempotent, also where it was never made."""
        if not self.path.is_dir():
            return
        try:
            _write(self.path / "UDC", "\n")
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def attached_to(self) -> str | None:
        """The controller it is bound to, if any."""
        return (self.path / "UDC").read_text().strip() or None

    def remove(self) -> None:
        """Take everything down, also what an earlier process has left. Idempotent."""
        if not self.path.is_dir():
            return
        self.detach()
        for config in (self.path / "configs").iterdir():
            for entry in config.iterdir():
                if entry.is_symlink():
                    entry.unlink()
            _remove_children(config / "strings")
            config.rmdir()
        _remove_children(self.path / "functions")
        _remove_children(self.path / "strings")
        self.path.rmdir()


def controllers() -> list[str]:
    """Names of the USB device controllers of this machine."""
    return sorted(p.name for p in UDC_CLASS.iterdir()) if UDC_CLASS.is_dir() else []


def speed_mbit(udc: str) -> int:
    """Signalling rate in Mbit/s that a bound controller has trained to; 0 while there is none."""
    rates = {"full-speed": 12, "high-speed": 480, "super-speed": 5000, "super-speed-plus": 10_000}
    return rates.get((UDC_CLASS / udc / "current_speed").read_text().strip(), 0)


def _remove_children(path: Path) -> None:
    for child in path.iterdir():
        if child.is_dir():
            child.rmdir()


def _write(path: Path, text: str) -> None:
    """One write system call, so that the kernel's error is the one that is raised."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
