# SPDX-License-Identifier: MIT
"""Client: drives virtual modules (:mod:`maglens_driver.gadget.sim`) over their sockets, blocking."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from maglens_driver.errors import Deadline, MaglensError, MissingDependency
from maglens_driver.names import SIM_RUNTIME_DIR, SIM_UNIT_TEMPLATE

REPLY_S: Final = 60.0  # a new serial number renders every picture anew, on an emulated processor too
_SYSTEMD_RUNS: Final = Path("/run/systemd/system")

Reply = dict[str, Any]


class SimClient:
    """One virtual module. Every method raises :class:`MaglensError` with the service's own words and hint."""

    def __init__(self, name: str, runtime: Path = Path(SIM_RUNTIME_DIR)) -> None:
        self.name = name
        self._path = runtime / f"{name}.sock"
        self._socket: socket.socket | None = None
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._received = b""

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(REPLY_S)
            try:
                connection.connect(str(self._path))
            except OSError as error:
                connection.close()
                hint = "sudo" if isinstance(error, PermissionError) else f"sudo systemctl start {unit(self.name)}"
                raise MaglensError(f"virtual module {self.name}: {error.strerror}", hint=hint) from error
            self._socket = connection
        return self._socket

    def ask(self, op: str, **fields: Any) -> Reply:
        """Any request; the reply's fields."""
        connection = self._connected()
        try:
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            while b"\n" not in self._received:
                piece = connection.recv(1 << 16)
                if not piece:
                    raise ConnectionResetError("the service hung up")
                self._received += piece
        except TimeoutError as error:
            self.close()
            what = f"virtual module {self.name} did not answer within {REPLY_S:.0f} s"
            raise Deadline(what, hint=f"journalctl -u {unit(self.name)}") from error
        except OSError as error:
            self.close()
            hint = f"journalctl -u {unit(self.name)}"
            raise MaglensError(f"virtual module {self.name}: {error}", hint=hint) from error
        line, _, self._received = self._received.partition(b"\n")
        reply: Reply = json.loads(line)
        if not reply.pop("ok"):
            raise MaglensError(reply["error"], hint=reply["hint"])
        return reply

    def attach(self, udc: str | None = None) -> Reply:
        """Snap on, to the first free controller or ``udc``: {udc, stay}; times of the stay are CLOCK_MONOTONIC ns."""
        return self.ask("attach", udc=udc)

    def detach(self, mid_frame: bool = False) -> Reply:
        """Snap off, if so wished in the middle of a frame: {udc, stay}."""
        return self.ask("detach", mid_frame=mid_frame)

    def swap(self, other: SimClient) -> tuple[Reply, Reply]:
        """Snap this one off and ``other`` on at the same place: the replies of both."""
        off = self.detach()
        return off, other.attach(off["udc"])

    def status(self) -> Reply:
        """All that is known of it; ``stays`` holds what was sent, per attach, oldest first."""
        return self.ask("status")

    def progress(self) -> Reply:
        """What is asked for often: {frames_sent (in the last stay), controls (present values), settled (whether the
        picture shows them)}."""
        return self.ask("progress")

    def set_serial(self, serial: str) -> Reply:
        """Take another serial number, while detached."""
        return self.ask("serial", value=serial)

    def ring(self, ring: str, value: int) -> Reply:
        """Turn the ``focus``, ``iris`` or ``zoom`` ring to a value of its control: {control, value (clamped), ns}."""
        return self.ask("ring", ring=ring, value=value)

    def light(self, kelvin: int, level: float = 1.0) -> Reply:
        """Change the light on the scene: its temperature, and its strength as a multiple of what is usual."""
        return self.ask("light", kelvin=kelvin, level=float(level))

    def rehearse(
        self, fourcc: str, width: int, height: int, told: Callable[[int, int], None] = lambda _done, _of: None
    ) -> Reply:
        """Keep a raw mode's frames at every position of focus, at the present settings, to be played at once:
        {positions, nbytes}. Takes seconds for each of a hundred; ``told`` hears how many are done, of how many."""
        mode: Reply = {"fourcc": fourcc, "width": width, "height": height}
        reply = self.ask("rehearse", **mode)
        for position in range(reply["positions"]):
            self.ask("rehearse", **mode, position=position)
            told(position + 1, reply["positions"])
        return reply

    def button(self, number: int = 0, pressed: bool = True) -> Reply:
        """Press or release a button."""
        return self.ask("button", number=number, pressed=pressed)

    def capability(self, reason: str, level: str) -> Reply:
        """Be able to do less: reason ``temperature`` or ``battery``; level ``full``, ``reduced`` or ``disabled``."""
        return self.ask("capability", reason=reason, level=level)

    def fault(self, fault: str, count: int = 1, value: int = 0, skip: int = 0) -> Reply:
        """Misbehave ``count`` times, after ``skip`` good occasions; names as in :class:`gadget.faults.Fault`."""
        return self.ask("fault", fault=fault, count=count, value=value, skip=skip)

    def clear(self, fault: str | None = None) -> Reply:
        """Behave again: one fault, or all."""
        return self.ask("clear", fault=fault)


def unit(name: str) -> str:
    """The service unit of a virtual module."""
    return SIM_UNIT_TEMPLATE.replace("@", f"@{name}")


def running(runtime: Path = Path(SIM_RUNTIME_DIR)) -> list[str]:
    """Names of the virtual modules that have a socket."""
    return sorted(p.stem for p in runtime.glob("*.sock")) if runtime.is_dir() else []


def start(name: str) -> None:
    """Start the service of a virtual module, and wait until it is ready to be attached."""
    _systemctl("start", name)


def stop(name: str) -> None:
    """Stop it; the module is off then."""
    _systemctl("stop", name)


def _systemctl(verb: str, name: str) -> None:
    if not _SYSTEMD_RUNS.is_dir() or shutil.which("systemctl") is None:
        raise MissingDependency(
            "virtual modules are services of systemd, which does not run here",
            hint=f"sudo {sys.executable} -m maglens_driver.gadget.sim {name}",
        )
    done = subprocess.run(["systemctl", verb, unit(name)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MaglensError(
            f"{unit(name)} did not {verb}: {done.stderr.strip()}", hint=f"journalctl -u {unit(name)} -n 20"
        )
