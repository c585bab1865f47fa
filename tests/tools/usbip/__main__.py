# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.tools.usbip plug|unplug|list``: a webcam out of nothing. Needs root and vhci-hcd."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
from types import FrameType

from maglens_driver.errors import MaglensError
from tests.tools.usbip import vhci
from tests.tools.usbip.camera import Camera
from tests.tools.usbip.descriptors import Identity, Speed, Uvc

_SPEEDS = {"high": Speed.HIGH, "super": Speed.SUPER}
_VERSIONS = {"1.1": Uvc.V1_1, "1.5": Uvc.V1_5}


def plug(speed: Speed, uvc: Uvc, identity: Identity, *, paced: bool = True, stamped: bool = False) -> None:
    """Be a camera until unplugged, or ended by SIGTERM or Ctrl-C, which unplug it too."""
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with kernels:
            number = vhci.attach(kernels, speed)
        print(f"plugged port {number}", flush=True)
        signal.signal(signal.SIGTERM, _end)
        try:
            # vhci closes its side by a shutdown, which we may meet while writing.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                Camera(ours, speed, uvc, identity, paced=paced, stamped=stamped).serve()
        except KeyboardInterrupt:
            vhci.detach(number)
        print(f"unplugged port {number}", flush=True)


def unplug(number: int | None) -> None:
    """Unplug that port, or all of our cameras."""
    for port in vhci.ports():
        if port.ours and number in (None, port.number):
            vhci.detach(port.number)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.usbip", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plugging = commands.add_parser("plug", help="be a camera until unplugged or ended")
    plugging.add_argument("--speed", choices=_SPEEDS, default="super")
    plugging.add_argument("--uvc", choices=_VERSIONS, default="1.1")
    plugging.add_argument("--product", default=Identity().product)
    plugging.add_argument("--serial", default=Identity().serial)
    plugging.add_argument("--matrix", type=int, default=Identity().matrix, help="bMatrixCoefficients; 1 is BT.709")
    plugging.add_argument("--unpaced", action="store_true", help="send as fast as the host asks")
    plugging.add_argument(
        "--stamped", action="store_true", help="uncompressed pictures begin with when they were taken"
    )
    unplugging = commands.add_parser("unplug", help="pull the camera out")
    unplugging.add_argument("--port", type=int, help="only this one (default: all that are ours)")
    commands.add_parser("list", help="which ports have one of our cameras")
    wish = parser.parse_args()
    try:
        if wish.command == "plug":
            identity = Identity(product=wish.product, serial=wish.serial, matrix=wish.matrix)
            options = {"paced": not wish.unpaced, "stamped": wish.stamped}
            plug(_SPEEDS[wish.speed], _VERSIONS[wish.uvc], identity, **options)
        elif wish.command == "unplug":
            unplug(wish.port)
        else:
            for port in vhci.ports():
                if port.ours:
                    print(f"port {port.number} {port.speed.name.lower()} speed")
    except MaglensError as error:
        print(error.explain(), file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error}\n  try: sudo", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
