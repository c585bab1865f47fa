# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers: does DKMS build and sign the module for the kernels that Debian ships?

`python -m tests.kernel.headers` prints TAP. Each suite's compiler and headers are in a root file system of its
own in the cache.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.tap import Tap
from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.progress import LabError, step

SUITES = {"bookworm": "6.1", "trixie": "6.12", "sid": "the newest"}
"""Suite -> kernel series it stands for."""

PACKAGES = ["dkms", "gcc", "libc6-dev", "linux-headers-amd64", "make", "openssl"]

REPO = Path(__file__).parents[2]

SCRIPT = """
mount -t proc proc "$1/proc"
exec chroot "$1" sh -c '
    dkms install maglens/1 -k "$0"
    status=$?
    cat /var/lib/dkms/maglens/1/*/*/log/make.log /var/lib/dkms/maglens/1/build/make.log 2>/dev/null
    modinfo /lib/modules/$0/updates/dkms/maglens.ko*
    dkms remove maglens/1 --all >/dev/null
    exit $status' "$2"
"""


@dataclass(frozen=True, slots=True)
class Built:
    """One build: whether it went without a warning, whether the module is signed, and all that was said."""

    release: str
    ok: bool
    signed: bool
    said: str


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


def build(tree: Path) -> Built:
    """Put the source there as `make install-dkms` does, let DKMS install it, and take it all away again."""
    releases = sorted(p.name.removeprefix("linux-headers-") for p in (tree / "usr/src").glob("linux-headers-*-amd64"))
    if not releases:
        raise LabError(f"{tree} has no kernel headers", "remove it from the cache and try again")
    quiet([sys.executable, str(REPO / "daemon/system/install.py"), "install-dkms", "--destdir", str(tree)])
    try:
        # A mount namespace of its own: objtool of 7.x wants /proc.
        command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(tree), releases[-1]]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), check=False
        )
    finally:
        quiet([sys.executable, str(REPO / "daemon/system/install.py"), "uninstall-dkms", "--destdir", str(tree)])
    ok = done.returncode == 0 and "warning:" not in done.stdout
    return Built(releases[-1], ok, "signer: " in done.stdout, done.stdout)


def check(tap: Tap) -> dict[str, bool]:
    """Build for each suite: kernel release -> without a warning."""
    results = {}
    for suite, series in SUITES.items():
        built = build(root(suite))
        what = f"{built.release} ({suite}, {series})"
        results[built.release] = tap.check(built.ok, f"headers: DKMS builds it without a warning for {what}")
        signed = tap.check(built.signed, f"headers: DKMS signs it for {what}")
        if not built.ok or not signed:
            tap.note(built.said)
    return results


if __name__ == "__main__":
    try:
        printed = Tap()
        check(printed)
        sys.exit(printed.end())
    except LabError as error:
        print(f"Bail out! {error}{f' (try: {error.hint})' if error.hint else ''}", flush=True)
        sys.exit(2)
