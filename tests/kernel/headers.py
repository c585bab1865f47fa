# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers: does the module build against the kernels that Debian ships, as DKMS would build it?

`python -m tests.kernel.headers` prints TAP. Each suite's compiler and headers are in a root file system of its
own in the cache.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.kernel.tap import Tap
from tests.kernel.uml import DRIVER
from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.progress import LabError, step

SUITES = {"bookworm": "6.1", "trixie": "6.12", "sid": "the newest"}
"""Suite -> kernel series it stands for."""

PACKAGES = ["gcc", "libc6-dev", "linux-headers-amd64", "make"]


def root(suite: str) -> Path:
    """The suite's root file system with compiler and kernel headers."""

    def bootstrap(directory: Path) -> None:
        with step(f"kernel headers of Debian {suite}"):
            options = [
                # A mirror may be older than the suite allows; here that does no harm.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=APT::Install-Recommends "false"',
            ]
            command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", *options]
            quiet([*command, f"--include={','.join(PACKAGES)}", suite, str(directory / "root")])

    key = cache.key_of({"recipe": 1, "suite": suite, "packages": PACKAGES})
    return cache.entry("kernel-headers", key, bootstrap) / "root"


def build(tree: Path) -> tuple[str, bool, str]:
    """Build the module in a root file system: (kernel release, success without a warning, what make said)."""
    releases = sorted(p.name.removeprefix("linux-headers-") for p in (tree / "usr/src").glob("linux-headers-*-amd64"))
    if not releases:
        raise LabError(f"{tree} has no kernel headers", "remove it from the cache and try again")
    where = tree / "tmp/maglens"
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(DRIVER, where)
    try:
        # A mount namespace of its own: objtool of 7.x wants /proc.
        script = 'mount -t proc proc "$1/proc" && exec chroot "$1" make -C /tmp/maglens "KDIR=$2"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(tree), f"/usr/src/linux-headers-{releases[-1]}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            check=False,
        )
        complete = (where / "maglens.ko").exists()
    finally:
        shutil.rmtree(where)
    warned = "warning:" in done.stdout
    return releases[-1], done.returncode == 0 and complete and not warned, done.stdout


def main() -> int:
    """Build for each suite; the exit status."""
    tap = Tap()
    for suite, series in SUITES.items():
        release, ok, said = build(root(suite))
        if not tap.check(ok, f"headers: builds without a warning for {release} ({suite}, {series})"):
            tap.note(said)
    return tap.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"Bail out! {error}{f' (try: {error.hint})' if error.hint else ''}", flush=True)
        sys.exit(2)
