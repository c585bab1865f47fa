# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine: one QEMU process and its run directory (sockets, console log, disks).

A machine is alive exactly while the lock of its run directory is held: QEMU inherits the open lock.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import accel, cache, channel, initrd
from tests.vm.frames import PORTS, port_name
from tests.vm.host import environment
from tests.vm.image import Image, make_disk
from tests.vm.payload import payload
from tests.vm.progress import LabError, say, step

ONE_RUN = "run-"
"""How the names of machines for one run begin."""

CPUS = 2
MEMORY = "4G"
OUT_MIB = 16384
"""Size of the disk mounted at /out in the guest; the file is sparse."""

BOOT_S = 180.0
"""Limit for a boot on a loaded machine without acceleration; 15 s is usual."""

COMMAND_LINE = (
    "console=hvc0 console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off audit=0 nokaslr "
    "systemd.show_status=0 systemd.default_device_timeout_sec=60 net.ifnames=0 raid=noautodetect"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A running machine."""

    name: str
    run: Path
    pid: int
    acceleration: str
    release: str
    image: Image

    @property
    def out_disk(self) -> Path:
        """The disk behind the guest's /out."""
        return self.run / "out.img"

    def call(
        self,
        argv: Sequence[str],
        *,
        cwd: str = "/root",
        env: Mapping[str, str] | None = None,
        stdin: channel.Input | bytes | None = None,
        stdout: channel.Output | None = None,
        stderr: channel.Output | None = None,
        deadline_s: float | None = None,
    ) -> int:
        """Run a command in the guest; see channel.call."""
        return channel.call(
            self.run, argv, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, deadline_s=deadline_s
        )

    def output(self, argv: Sequence[str], deadline_s: float | None = None) -> str:
        """Standard output of a guest command that must succeed."""
        return channel.output(self.run, argv, deadline_s=deadline_s)

    def show_tail(self, lines: int = 30) -> None:
        """Show the last lines of the kernel's console, and QEMU's own."""
        for name in ("console.log", "qemu.log"):
            path = self.run / name
            text = path.read_text(errors="replace") if path.exists() else ""
            for line in text.splitlines()[-lines:]:
                print(f"    | {line}", file=sys.stderr)

    def kill(self) -> None:
        """End the machine now, as if unplugged; returns when it is gone."""
        if not is_alive(self.run):
            return
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
            finally:
                os.close(handle)


@dataclass(frozen=True, slots=True)
class OwnKernel:
    """A kernel of the caller's: bzImage, its modules directory, and the disk with these modules (see foreign.py)."""

    kernel: Path
    modules: Path
    disk: Path


def discard(machine: Machine) -> None:
    """Remove the run directory of a machine that has ended."""
    if is_alive(machine.run):
        raise LabError(f"machine {machine.name!r} is still up", f"python -m tests.vm down --name {machine.name}")
    cache.remove(machine.run)


def run_directory(name: str) -> Path:
    """The run directory of a machine of that name."""
    if not name or "/" in name or name.startswith("."):
        raise LabError(f"{name!r} is no machine name", "use letters, digits and dashes")
    return cache.root() / "run" / name


def is_alive(run: Path) -> bool:
    """True while a machine uses this run directory."""
    try:
        with (run / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def running(name: str) -> Machine:
    """The machine of that name, which must be up."""
    run = run_directory(name)
    if not is_alive(run):
        raise LabError(f"no machine {name!r} is up", f"python -m tests.vm up --name {name}")
    facts = json.loads((run / "machine.json").read_text())
    image = Image(facts["image"], Path(facts["tree"]), Path(facts["disk"]), facts["image_release"])
    return Machine(name, run, facts["pid"], facts["acceleration"], facts["release"], image)


def names() -> list[str]:
    """Names of the machines that are up."""
    base = cache.root() / "run"
    return sorted(p.name for p in base.iterdir() if is_alive(p)) if base.exists() else []


def boot(
    image: Image,
    name: str,
    acceleration: str,
    *,
    own: OwnKernel | None = None,
    plain: bool = False,
    outlive: bool = False,
) -> Machine:
    """Boot a machine and wait until systemd says that it is up. An emulated one that stumbled over code being patched
    is booted once more, and that is said.

    own: instead of the image's kernel. plain: for software rendering, see accel.options.
    outlive: the machine stays when this process ends.
    """
    try:
        return _boot(image, name, acceleration, own, plain, outlive)
    except LabError:
        console = run_directory(name) / "console.log"
        if acceleration != "tcg" or not stumbled(console.read_text(errors="replace") if console.exists() else ""):
            raise
    say("the emulator ran a breakpoint that the kernel had just taken away; booting once more")
    return _boot(image, name, acceleration, own, plain, outlive)


def stumbled(console: str) -> bool:
    """Whether a kernel died of an int3 that it does not know, before any module was loaded.

    Linux patches its code (static branches, at boot above all) by way of a breakpoint (text_poke_bp_batch(),
    arch/x86/kernel/alternative.c). QEMU's translator with several processors may run a breakpoint that is there no
    more: the kernel finds none of its own at that place, and gives up.
    """
    oops = console.find("Oops: int3")
    modules = re.search(r"^.*Modules linked in:(.*)$", console[max(oops, 0) :], re.M)
    return oops >= 0 and "Kernel panic" in console[oops:] and modules is not None and not modules[1].strip()


def _boot(image: Image, name: str, acceleration: str, own: OwnKernel | None, plain: bool, outlive: bool) -> Machine:
    run = run_directory(name)
    with contextlib.ExitStack() as stack:
        with cache.locked(cache.root() / "run.lock"):
            _sweep(run.parent)
            run.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = stack.enter_context((run / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                hint = f"python -m tests.vm down --name {name}"
                raise LabError(f"a machine {name!r} is up already", hint) from None
        modules = own.modules if own else image.modules
        initrd.pack(run / "initrd", image.tree / "usr/bin/busybox", modules, payload())
        make_disk(run / "out.img", OUT_MIB, "out")
        # Listening before QEMU starts: whoever connects waits for QEMU, or sees it end.
        sockets = {n: stack.enter_context(channel.listen(run, n)) for n in channel.SOCKETS}
        descriptors = {n: s.fileno() for n, s in sockets.items()}
        command = _command(image, accel.options(acceleration, plain=plain), own, descriptors)
        if not outlive:
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        log = stack.enter_context((run / "qemu.log").open("w"))
        process = subprocess.Popen(
            command,
            cwd=run,
            env={**environment(), "TMPDIR": str(run)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno(), *descriptors.values()],
            start_new_session=True,
        )
    machine = Machine(name, run, process.pid, acceleration, modules.name, image)
    facts = {
        "pid": process.pid,
        "acceleration": acceleration,
        "release": modules.name,
        "image": image.key,
        "tree": str(image.tree),
        "disk": str(image.disk),
        "image_release": image.release,
    }
    (run / "machine.json").write_text(json.dumps(facts))
    with step(f"booting {name!r}, Linux {modules.name}, {acceleration}"), guarded(machine):
        state = bytearray()
        channel.call(
            run,
            ["systemctl", "is-system-running", "--wait"],
            stdout=state.extend,
            deadline_s=BOOT_S,
            accept_s=BOOT_S,
        )
    if state.strip() != b"running":
        failed = machine.output(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
        say(f"systemd is {state.decode().strip()}: {failed.strip()}")
    return machine


def _sweep(base: Path) -> None:
    """Remove the directories of machines that ended with a run that could not clean up."""
    for path in base.glob(f"{ONE_RUN}*"):
        if not is_alive(path):
            cache.remove(path)


@contextlib.contextmanager
def guarded(machine: Machine) -> Iterator[None]:
    """Whatever goes wrong with the machine inside: show the console's tail and end it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, LabError):
            say(f"{error}; the console ends with:")
            machine.show_tail()
        machine.kill()
        raise


def _command(image: Image, processor: Sequence[str], own: OwnKernel | None, sockets: Mapping[str, int]) -> list[str]:
    command = [
        "qemu-system-x86_64", *processor, "-machine", "pc", "-smp", str(CPUS), "-m", MEMORY,
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(own.kernel if own else image.kernel), "-initrd", "initrd", "-append", COMMAND_LINE,
        "-drive", f"file={image.disk},format=raw,if=none,id=root,snapshot=on,cache=unsafe",
        "-device", "virtio-blk-pci,drive=root",
        "-drive", "file=out.img,format=raw,if=none,id=out,cache=unsafe",
        "-device", "virtio-blk-pci,drive=out",
        "-chardev", "file,id=klog,path=console.log", "-serial", "chardev:klog",
        "-device", "virtio-rng-pci",
        "-device", f"virtio-serial-pci,max_ports={PORTS + 2}",
        "-chardev", f"socket,id=console,fd={sockets[channel.CONSOLE]},server=on,wait=off",
        "-device", "virtconsole,chardev=console",
    ]  # fmt: skip
    if own is not None:
        command += [
            "-drive", f"file={own.disk},format=raw,if=none,id=modules,snapshot=on,cache=unsafe",
            "-device", "virtio-blk-pci,drive=modules",
        ]  # fmt: skip
    for index in range(PORTS):
        command += [
            "-chardev", f"socket,id=agent{index},fd={sockets[channel.port_socket(index)]},server=on,wait=off",
            "-device", f"virtserialport,chardev=agent{index},name={port_name(index)}",
        ]  # fmt: skip
    return command
