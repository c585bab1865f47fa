# SPDX-License-Identifier: GPL-2.0-or-later
"""UML guest: one command as root on User Mode Linux, at native speed, in the VM lab's Debian with the project there.

    python -m tests.kernel.uml_guest -- python3 -m tests.some.script

The kernel has USB on both ends (dummy_hcd, FunctionFS), V4L2 with maglens.ko, v4l2loopback and vivid, gpio-sim,
uinput and I2C. The command starts in the working tree (/usr/src/maglens, read-only), with the installed project's
python3 first on PATH; all else can be written to and is forgotten. It finds a directory for results in $OUT.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import source, uml
from tests.kernel.guest import SERIAL, Output, boot
from tests.kernel.uml import Uml
from tests.vm import cache, host, layer
from tests.vm.host import quiet
from tests.vm.image import EXTRA, Image, image
from tests.vm.payload import MODULE_OPTIONS
from tests.vm.progress import LabError, say, step

REPO = Path(__file__).parents[2]
WORK = REPO / "build/uml"
INIT = Path(__file__).parent / "programs/init.c"
PYTHON = "/usr/lib/maglens/bin"
DEADLINE_S = 300.0
TIMED_OUT = 124
"""The status of a command that was ended, as timeout(1) has it."""

RECIPE = 1
"""Raise when the way of making the layer changes; part of its key."""

MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
MAPS = 1 << 20
"""Mappings that a process needs to have 4 GiB here: each page is one by itself, where Linux allows 65530."""

OPTIONS = ("dummy_hcd.num=4", "dummy_hcd.is_super_speed=1", "loglevel=7")

SURROUNDINGS = """\
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs shm /dev/shm 2>/dev/null || { mkdir /dev/shm && mount -t tmpfs shm /dev/shm; }
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t configfs config /sys/kernel/config
ln -s /proc/self/fd /dev/fd
hostname maglens-uml
systemd-sysusers
systemd-tmpfiles --create maglens.conf
"""

UDEV = """\
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add
udevadm settle
"""

COMMAND = """\
stty -F {serial} raw -echo
cd {source}
export PATH={python}:$PATH PYTHONPATH={source} PYTHONDONTWRITEBYTECODE=1 OUT=/mnt/out HOME=/root
# The installed project, not the tree that pyproject.toml points to.
export PYTEST_ADDOPTS="-o pythonpath=. -p no:cacheprovider --color=no"
{command} < /dev/null > {serial} 2>&1
echo $? > /mnt/out/status
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command went: its status (TIMED_OUT if it was ended), its $OUT here, the kernel's log and complaints."""

    status: int
    out: Path
    kernel_log: str
    complaints: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """The command succeeded and the kernel has nothing to complain about."""
        return self.status == 0 and not self.complaints


def run(
    argv: Sequence[str],
    output: Output,
    *,
    name: str = "guest",
    deadline_s: float = DEADLINE_S,
    udev: bool = True,
    kernel_src: Path | None = None,
    extra: Sequence[str] = (),
) -> Result:
    """Run a command; output() gets what it prints, as it comes. ``extra``: package sets of the image.

    Kernel, image and layer come from the cache or are made. Runs at the same time need different names.
    """
    host.ensure()
    uml.need_tools()
    kernel = uml.kernel(source.given(kernel_src) if kernel_src else source.debian(), sanitized=False)
    base = image(extra)
    over = _layer(base, kernel)
    where = WORK / name
    shutil.rmtree(where, ignore_errors=True)
    uml.program("init", [INIT], where / "bin")
    command = COMMAND.format(serial=SERIAL, source=layer.SOURCE, python=PYTHON, command=shlex.join(argv))
    script = SURROUNDINGS + (UDEV if udev else "") + command
    options = [*OPTIONS, f"LAYER={over}", f"SOURCE={REPO}"]
    done = boot(kernel, base.tree, where, script, deadline_s, options, output)
    status = done.text("status").strip()
    return Result(int(status) if status else TIMED_OUT, done.out, done.text("console"), done.complaints)


@contextmanager
def large_processes(setting: Path = MAX_MAP_COUNT) -> Iterator[None]:
    """This machine lets processes of the guest have more than 256 MiB for as long as this lasts."""
    before = int(setting.read_text())
    if before >= MAPS:
        yield
        return
    try:
        setting.write_text(str(MAPS))
    except PermissionError:
        raise LabError(f"it needs {MAPS} mappings", f"sudo sysctl vm.max_map_count={MAPS}") from None
    try:
        yield
    finally:
        setting.write_text(str(before))


def _layer(base: Image, kernel: Uml) -> Path:
    """What lies over the image's tree: the project as `make install` leaves it, and modules for this kernel."""
    archive = layer.archives(base)[1]

    def build(directory: Path) -> None:
        with step(f"the project and its modules for {kernel.release}"):
            root = directory / "root"
            for path in (root / "etc/modprobe.d", root / layer.SOURCE[1:]):
                path.mkdir(parents=True)
            quiet(["tar", "-x", "-f", str(archive), "-C", str(root)])
            (root / "etc/modprobe.d/maglens-lab.conf").write_text(MODULE_OPTIONS)
            work = directory / "work"
            ours = uml.module(kernel, work / "maglens")
            theirs = _loopback(base, kernel, work / "v4l2loopback")
            modules = work / "lib/modules" / kernel.release
            shutil.copytree(kernel.modules / "lib/modules" / kernel.release, modules, symlinks=True)
            (modules / "updates").mkdir()
            for module in (ours, theirs):
                shutil.copy(module, modules / "updates")
            quiet(["depmod", "-b", str(work), kernel.release])
            shutil.rmtree(root / "usr/lib/modules", ignore_errors=True)
            shutil.copytree(work / "lib/modules", root / "usr/lib/modules", symlinks=True)
            cache.remove(work)

    key = cache.key_of([RECIPE, MODULE_OPTIONS, archive.parent.name, kernel.build.name])
    return cache.entry("uml-layer", key, build) / "root"


def _loopback(base: Image, kernel: Uml, where: Path) -> Path:
    """v4l2loopback.ko for this kernel, from the source that its DKMS package has in the image."""
    sources = sorted(base.tree.glob("usr/src/v4l2loopback-*"))
    if not sources:
        raise LabError("the image has no source of v4l2loopback", f"ls {base.tree}/usr/src")
    shutil.copytree(sources[-1], where)
    quiet(["make", "-C", str(kernel.build), "ARCH=um", f"M={where}", "modules"])
    return where / "v4l2loopback.ko"


def main() -> int:
    """Run the command that was given; its exit status, or 1 if the kernel complained."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.uml_guest", description=__doc__)
    parser.add_argument("--name", default="guest", help="of the run; results are in build/uml/NAME/out")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="S", help="seconds, boot included")
    parser.add_argument("--no-udev", action="store_true", help="without systemd-udevd: a second quicker")
    parser.add_argument("--kernel-src", type=Path, metavar="PATH", help="a kernel source tree; else Debian's")
    parser.add_argument("--extra", action="append", default=[], choices=sorted(EXTRA), help="extra packages")
    parser.add_argument("--large", action="store_true", help="its processes need more than 256 MiB each")
    parser.add_argument("command", nargs="+", help="the command, after --")
    args = parser.parse_args()

    def pass_on(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    with large_processes() if args.large else nullcontext():
        result = run(
            args.command,
            pass_on,
            name=args.name,
            deadline_s=args.deadline,
            udev=not args.no_udev,
            kernel_src=args.kernel_src,
            extra=args.extra,
        )
    for line in result.complaints:
        say(f"kernel: {line}")
    if result.status == TIMED_OUT:
        say(f"ended after {args.deadline:.0f} s; see {result.out / 'console'}")
    return result.status or int(not result.ok)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        say(f"{error}{f' (try: {error.hint})' if error.hint else ''}")
        sys.exit(2)
