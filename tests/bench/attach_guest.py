# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's attaches on User Mode Linux, at native speed: ours and the C reader's; the story goes to ``$OUT``.

python -m tests.kernel.uml_guest -- python3 -m tests.bench.attach_guest
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from maglens_driver import names
from tests.demo.guest import Film, c_reader, cycles
from tests.unit.private_bus import private_bus
from tests.vm.guest.devices import succeed
from tests.vm.guest.log import Log
from tests.vm.guest.troupe import process, virtual_module

HERE = Path(__file__).parent
BUILD = Path("/tmp/c_reader")
CONFIG = "[node]\nwidth = 640\nheight = 480\n"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daemon", default="maglens_daemon.main", help="the Python module to run, for profiling")
    options = parser.parse_args()
    succeed("modprobe", "-a", "libcomposite", "dummy_hcd", "maglens")
    subprocess.run(["make", "-s", "-C", str(HERE / "c_reader"), f"BUILD={BUILD}"], check=True)
    with tempfile.TemporaryDirectory(prefix="attach-") as made:
        folder = Path(made)
        settings = folder / "maglens.toml"
        settings.write_text(CONFIG)
        with private_bus(folder) as bus, virtual_module(folder) as sim:
            os.environ |= {"DBUS_SYSTEM_BUS_ADDRESS": bus, names.ENV_CONFIG: str(settings)}
            film = Film(Path(os.environ["OUT"]))
            with process(options.daemon, environment=dict(os.environ)) as running:
                log = Log(running)
                log.wait_for("the camera is /dev/video")
                node = json.loads(succeed("maglens", "status", "--json"))["node"]
                mode = cycles(film, node, sim)
                log.drain()
            print("\n".join(log.lines))
            c_reader(film, sim, BUILD / "c_reader", mode)
            film.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
