# SPDX-License-Identifier: MIT
"""Assembly: a gadget with its function mounted and open, ready to be snapped on."""

from __future__ import annotations

from pathlib import Path

from maglens_driver.gadget import configfs, functionfs
from maglens_driver.gadget.configfs import ConfigfsGadget, GadgetSpec
from maglens_driver.gadget.functionfs import FunctionFs
from maglens_driver.source import Identity


def gadget_name(name: str) -> str:
    """Name of the gadget's directories: only characters that are safe in a path."""
    return "maglens-" + "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


class Assembly:
    """From :meth:`open` to :meth:`close`. ``runtime``: the directory under which the function is mounted.

    Everything here blocks on the kernel for milliseconds.
    """

    def __init__(self, name: str, runtime: Path) -> None:
        self._name = gadget_name(name)
        self._mount = runtime / f"{self._name}.ffs"
        self._files: FunctionFs | None = None
        self._gadget: ConfigfsGadget | None = None

    def open(
        self, identity: Identity, interface: str = functionfs.OUR_INTERFACE, max_power_ma: int = 500
    ) -> FunctionFs:
        """Make it; what an earlier process has left under the name goes. ``MissingDependency``, ``OSError``."""
        spec = GadgetSpec(self._name, identity.maker, identity.model, identity.serial, max_power_ma)
        self._gadget = ConfigfsGadget(spec)
        functionfs.unmount(self._mount)
        self._gadget.create()
        functionfs.mount(spec.name, self._mount)
        self._files = FunctionFs(self._mount, interface)
        self._gadget.link()
        return self._files

    @property
    def files(self) -> FunctionFs:
        """The open function."""
        if self._files is None:
            raise ValueError("the gadget is not open")
        return self._files

    def attach(self, udc: str | None = None, touches: str | None = None) -> str:
        """Snap on; see :meth:`ConfigfsGadget.attach`. ``touches``: the fastest speed that the contacts allow, as
        ``high-speed`` with the slow pair alone; None: all that it can."""
        if self._gadget is None:
            raise ValueError("the gadget is not open")
        self._gadget.touch(touches or self._gadget.spec.max_speed)
        return self._gadget.attach(udc)

    def detach(self) -> None:
        """Snap off. Idempotent."""
        if self._gadget is not None:
            self._gadget.detach()

    def trained_mbit(self) -> int:
        """Signalling rate of the bus now; 0 while it is off."""
        udc = self._gadget.attached_to() if self._gadget else None
        return configfs.speed_mbit(udc) if udc else 0

    def close(self) -> None:
        """Take everything down. Idempotent."""
        if self._files is not None:
            self._files.close()
            self._files = None
        if self._gadget is not None:
            functionfs.unmount(self._mount)
            self._gadget.remove()
            self._gadget = None
        if self._mount.is_dir():
            self._mount.rmdir()
