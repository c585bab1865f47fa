#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Install: puts maglens on a machine, and takes away exactly what it put there.

``PREFIX/lib/maglens`` is a venv of the system's Python that sees the system's packages: what the distribution has is
used, what it lacks is fetched by pip (``PIP_NO_INDEX`` and ``PIP_FIND_LINKS`` make that offline). Everything else is
one table, :data:`FILES`; ``@PREFIX@`` in a file becomes the prefix. A manifest remembers every file and directory
made, and uninstall goes by it. An update that fails leaves what was installed as it was. Standard library only: it
runs on the system's Python, and on one that is too old for all else as far as to say so.
"""

from __future__ import annotations

import argparse
import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = """#!{python} -I
# SPDX-License-Identifier: GPL-2.0-or-later
import sys

from {module} import main

sys.exit(main())
"""
PROGRAMS = {"maglens": "maglens_daemon.cli.main", "maglensd": "maglens_daemon.main"}
SERVICE = "maglensd.service"
MODULES = "maglens-sim@*.service"  # virtual ones that run
TRIGGERED = ("usb", "misc", "gpio", "input", "dma_heap")  # what our udev rules give rights to
OPTIONAL = {"v4l2": "linuxpy: webcams are no source", "gpio": "gpiod: ports have no pins"}  # extras of setup.cfg
BUILD_FILES = ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md")  # and the packages' folders
KERNEL = ROOT / "driver" / "kernel"
KERNEL_SOURCES = (".c", ".h")

# Source in the tree, place on the machine. {lib} is PREFIX/lib, {share} PREFIX/share; {dbus} and {polkit} are where
# those daemons look, which for PREFIX=/usr/local is not below it.
FILES = (
    ("daemon/system/maglensd.service", "{lib}/systemd/system/maglensd.service"),
    ("driver/maglens_driver/gadget/maglens-sim@.service", "{lib}/systemd/system/maglens-sim@.service"),
    ("daemon/system/maglens.sysusers", "{lib}/sysusers.d/maglens.conf"),
    ("daemon/system/maglens.tmpfiles", "{lib}/tmpfiles.d/maglens.conf"),
    ("daemon/system/maglens.modprobe", "{lib}/modprobe.d/maglens.conf"),
    ("udev/70-maglens.rules", "{lib}/udev/rules.d/70-maglens.rules"),
    ("daemon/system/org.maglens1.conf", "{dbus}/system.d/org.maglens1.conf"),
    ("daemon/system/org.maglens1.service", "{dbus_services}/org.maglens1.service"),
    ("daemon/maglens_daemon/org.maglens1.xml", "{share}/dbus-1/interfaces/org.maglens1.xml"),
    ("daemon/system/org.maglens1.policy", "{polkit}/org.maglens1.policy"),
    ("daemon/system/maglens.toml", "{share}/doc/maglens/maglens.toml"),
    ("daemon/system/maglens.bash", "{share}/bash-completion/completions/maglens"),
    ("daemon/system/maglens.1", "{share}/man/man1/maglens.1"),
    ("daemon/system/maglensd.8", "{share}/man/man8/maglensd.8"),
    ("daemon/system/maglens.toml.5", "{share}/man/man5/maglens.toml.5"),
)


PREFIX = "/usr/local"
FAILED = 1
NO_PERMISSION = 77  # as maglens_daemon.exits has it, which is not installed yet
LEAST_PYTHON = (3, 11)  # python_requires of setup.cfg
PLAIN = re.compile(r"/[\w./+~-]*", re.ASCII)  # a path that a unit and the first line of a program take as it is


class InstallError(Exception):
    """What went wrong and, behind a newline, what to try."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)  # no slots: Python 3.9 must come as far as main()
class Layout:
    """Where things go. ``destdir`` is put before every path when writing, and is in no file's text."""

    prefix: str
    sysconfdir: str
    destdir: str

    @property
    def home(self) -> str:
        """The venv."""
        return f"{self.prefix}/lib/maglens"

    @property
    def coming(self) -> str:
        """Where the venv is made; it takes the other's place when it is whole."""
        return f"{self.home}.new"

    @property
    def going(self) -> str:
        """Where the venv of before is while it is replaced."""
        return f"{self.home}.old"

    def staged(self, path: str) -> Path:
        """Where ``path`` is written."""
        return Path(self.destdir + path) if self.destdir else Path(path)

    def place(self, template: str) -> str:
        """The path of a template of :data:`FILES`."""
        usr = self.prefix == "/usr"
        return template.format(
            lib=f"{self.prefix}/lib",
            share=f"{self.prefix}/share",
            dbus="/usr/share/dbus-1" if usr else f"{self.sysconfdir}/dbus-1",
            dbus_services=f"{self.prefix}/share/dbus-1/system-services",
            polkit="/usr/share/polkit-1/actions",
        )


@dataclass
class Manifest:
    """Files and directories made, in the order of their making; paths without DESTDIR."""

    layout: Layout
    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.layout.staged(f"{self.layout.home}/manifest.json")

    def directory(self, path: str) -> Path:
        """Make a directory and remember every level that was not there."""
        made: list[str] = []
        level = path
        while level not in ("", "/") and not self.layout.staged(level).exists():
            made.append(level)
            level = os.path.dirname(level)
        self.directories += [p for p in reversed(made) if p not in self.directories]
        self.layout.staged(path).mkdir(parents=True, exist_ok=True)
        return self.layout.staged(path)

    def write(self, path: str, content: str, mode: int) -> None:
        """Write one file."""
        self.directory(os.path.dirname(path))
        if path not in self.files:
            self.files.append(path)
        target = self.layout.staged(path)
        target.unlink(missing_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def save(self) -> None:
        """Keep it beside the venv; where that fails, the one there was."""
        content = {"files": self.files, "directories": self.directories}
        coming = self.path.with_suffix(".new")
        coming.write_text(json.dumps(content, indent=1) + "\n")
        coming.replace(self.path)

    @classmethod
    def load(cls, layout: Layout) -> Manifest | None:
        """The manifest of an earlier installation, or None."""
        manifest = cls(layout)
        if not manifest.path.exists():
            return None
        content = json.loads(manifest.path.read_text())
        manifest.files, manifest.directories = content["files"], content["directories"]
        return manifest


def _run(command: Sequence[str | os.PathLike[str]], hint: str = "") -> None:
    # A caller's PYTHONPATH would make pip believe that we are installed already.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=clean, check=False)
    if done.returncode != 0:
        text = " ".join(str(c) for c in command)
        raise InstallError(f"`{text}` failed with {done.returncode}" + (f"\n  try: {hint}" if hint else ""))


def _get(*needs: str) -> str:
    """The command that installs packages on this distribution, by the table that the doctor has."""
    sys.dont_write_bytecode = True  # in a user's folder
    sys.path.insert(0, str(ROOT / "driver"))
    from maglens_driver import packages

    return packages.install(*(packages.Need[need] for need in needs))


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise InstallError(f"{sys.executable} has no pip\n  try: {_get('PIP')}")
    return [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]


def _can_build_here() -> bool:
    """Whether this Python has what the build needs, so that nothing is fetched for it."""
    try:
        setuptools = int(metadata.version("setuptools").partition(".")[0])
    except metadata.PackageNotFoundError:
        return False
    has_wheel_inside = 71
    return setuptools >= has_wheel_inside or importlib.util.find_spec("wheel") is not None


def copy_sources(target: Path) -> None:
    """What a wheel is built of, without what was built before. A build leaves its files beside the sources, here
    those of root in a user's folder, and packs up modules again that an earlier one has left there."""
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    for line in declared["options"]["package_dir"].split("\n"):
        if line.strip():
            folder = line.partition("=")[2].strip()
            built = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
            shutil.copytree(ROOT / folder, target / folder, ignore=built)
    for name in BUILD_FILES:
        shutil.copyfile(ROOT / name, target / name)


def _wheel(where: str) -> Path:
    command = [*_pip(), "wheel", "--no-deps", "-w", where]
    if _can_build_here():
        command.append("--no-build-isolation")
    sources = Path(where) / "sources"
    copy_sources(sources)
    _run(
        [*command, str(sources)],
        _get("BUILD"),
    )
    (wheel,) = Path(where).glob("maglens-*.whl")
    return wheel


def make_packages(layout: Layout, manifest: Manifest) -> None:
    """A venv with our packages, and those of others that the system lacks, beside the one that is installed."""
    home = layout.staged(layout.coming)
    manifest.directory(os.path.dirname(layout.home))
    shutil.rmtree(home, ignore_errors=True)
    _run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", home],
        _get("VENV"),
    )
    python = home / "bin" / "python"
    pip = [*_pip(), "--python", str(python), "install", "--no-compile", "--no-warn-script-location"]
    with tempfile.TemporaryDirectory(prefix="maglens-") as temporary:
        wheel = _wheel(temporary)
        _run([*pip, str(wheel)], "a network, or PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR with the wheels of setup.cfg")
        for extra, without in OPTIONAL.items():
            optional = [*pip, "--retries", "1", "--timeout", "10", f"{wheel}[{extra}]"]
            if subprocess.run(optional, capture_output=True, text=True, check=False).returncode != 0:
                print(f"without {without} until it is there (see `maglens doctor`)", file=sys.stderr)
    for script in (home / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()  # activation scripts and others' tools: their paths would hold DESTDIR
    config = home / "pyvenv.cfg"
    config.write_text(re.sub(r"^(command|executable) = .*\n", "", config.read_text(), flags=re.MULTILINE))
    _run([str(python), "-m", "compileall", "-q", "-s", str(home), "-p", layout.home, str(home / "lib")])


def put_back(layout: Layout) -> None:
    """The old venv, where :func:`take_over` was ended in the moment between its two renames."""
    home, going = layout.staged(layout.home), layout.staged(layout.going)
    if going.exists() and not home.exists():
        going.rename(home)


def take_over(layout: Layout) -> None:
    """The new venv in place of the old one, whose manifest stays until there is a new one."""
    home, coming, going = (layout.staged(path) for path in (layout.home, layout.coming, layout.going))
    shutil.rmtree(going, ignore_errors=True)
    if home.exists():
        kept = home / "manifest.json"
        if kept.exists():
            shutil.copy(kept, coming)
        home.rename(going)
    coming.rename(home)
    shutil.rmtree(going, ignore_errors=True)


def write_files(layout: Layout, manifest: Manifest) -> None:
    """All that lies outside the venv."""
    for name, module in PROGRAMS.items():
        content = LAUNCHER.format(python=f"{layout.home}/bin/python", module=module)
        manifest.write(f"{layout.prefix}/bin/{name}", content, 0o755)
    for source, template in FILES:
        content = (ROOT / source).read_text().replace("@PREFIX@", layout.prefix)
        manifest.write(layout.place(template), content, 0o644)


def install(layout: Layout) -> None:
    """Everything but the kernel module."""
    put_back(layout)
    previous = Manifest.load(layout)
    manifest = Manifest(layout, directories=list(previous.directories) if previous else [])
    try:
        make_packages(layout, manifest)
    except BaseException:
        shutil.rmtree(layout.staged(layout.coming), ignore_errors=True)
        raise
    take_over(layout)
    try:
        write_files(layout, manifest)
    except BaseException:  # what was written can be taken away all the same, and what there was
        manifest.files += [path for path in previous.files if path not in manifest.files] if previous else []
        manifest.save()
        raise
    manifest.save()
    for path in previous.files if previous else ():
        if path not in manifest.files:
            layout.staged(path).unlink(missing_ok=True)
    if not layout.destdir:
        activate(layout)
        print("installed; next: maglens doctor")
    else:
        print(f"installed into {layout.destdir}")


def uninstall(layout: Layout) -> None:
    """What the manifest lists, what one that was cut off has left beside it, and nothing else."""
    put_back(layout)
    for path in (layout.coming, layout.going):
        if layout.staged(path).exists():
            shutil.rmtree(layout.staged(path))
    manifest = Manifest.load(layout)
    if manifest is None:
        raise InstallError(
            f"nothing is installed under {layout.staged(layout.prefix)}"
            "\n  try: make uninstall PREFIX=..., and DESTDIR=..., as they were given to make install"
        )
    if not layout.destdir:
        deactivate()
    for path in manifest.files:
        layout.staged(path).unlink(missing_ok=True)
    shutil.rmtree(layout.staged(layout.home))
    for path in reversed(manifest.directories):
        directory = layout.staged(path)
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    if not layout.destdir:
        _tell_the_system(("systemctl", "daemon-reload"), ("udevadm", "control", "--reload"))


def dkms(layout: Layout) -> tuple[str, Path]:
    """DKMS's name for the kernel module, and where its source goes."""
    settings = dict(re.findall(r'^(PACKAGE_\w+)="([^"]*)"', (KERNEL / "dkms.conf").read_text(), re.MULTILINE))
    name, version = settings["PACKAGE_NAME"], settings["PACKAGE_VERSION"]
    return f"{name}/{version}", layout.staged(f"/usr/src/{name}-{version}")


def install_dkms(layout: Layout) -> None:
    """The kernel module's source; without DESTDIR built and loaded, now and for every later kernel."""
    module, target = dkms(layout)
    if not layout.destdir:
        if shutil.which("dkms") is None:
            raise InstallError(f"dkms is not installed\n  try: {_get('DKMS', 'HEADERS')}")
        _tell_the_system(("dkms", "remove", module, "--all"))  # an earlier one of the same version
    shutil.rmtree(target, ignore_errors=True)
    for source in KERNEL.rglob("*"):
        if (source.suffix in KERNEL_SOURCES and not source.name.endswith(".mod.c")) or source.name in (
            "Kbuild",
            "Makefile",
            "dkms.conf",
        ):
            place = target / source.relative_to(KERNEL)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
    if not layout.destdir:
        _run(["dkms", "install", module], _get("HEADERS"))
        _tell_the_system(("modprobe", "maglens"))
        if _running():
            _tell_the_system(("systemctl", "try-restart", SERVICE))


def uninstall_dkms(layout: Layout) -> None:
    """The source, and what was built of it."""
    module, target = dkms(layout)
    if not target.exists():
        raise InstallError(f"{target} is not there")
    if not layout.destdir:
        _tell_the_system(("dkms", "remove", module, "--all"))
    shutil.rmtree(target)


def _tell_the_system(*commands: Sequence[str]) -> None:
    """Commands of systemd, where it is there; without a running system they work on the files alone or do nothing."""
    for command in commands:
        if shutil.which(command[0]) is not None:
            subprocess.run(command, check=False)


def _running() -> bool:
    return Path("/run/systemd/system").is_dir()


def activate(layout: Layout) -> None:
    """Make users, directories and devices known, enable the service and start it."""
    _tell_the_system(("systemd-sysusers",), ("systemctl", "enable", SERVICE))
    if _running():
        # udevd may have read the rules before there was the group that they name. It then ignores the group until it
        # sees a change: of the file, or before systemd 256 of its directory.
        rules = layout.staged(layout.place("{lib}/udev/rules.d/70-maglens.rules"))
        for path in (rules, rules.parent):
            os.utime(path)
        _tell_the_system(
            ("systemd-tmpfiles", "--create", "maglens.conf"),
            ("systemctl", "daemon-reload"),
            ("udevadm", "control", "--reload"),
            ("systemctl", "reload", "dbus.service"),
            ("udevadm", "trigger", *(f"--subsystem-match={name}" for name in TRIGGERED)),
            ("systemctl", "restart", SERVICE),
        )


def deactivate() -> None:
    """Stop and disable the service, and end virtual modules."""
    if _running():
        _tell_the_system(("systemctl", "stop", SERVICE, MODULES))
    _tell_the_system(("systemctl", "disable", SERVICE))


ACTIONS: dict[str, Callable[[Layout], None]] = {
    "install": install,
    "uninstall": uninstall,
    "install-dkms": install_dkms,
    "uninstall-dkms": uninstall_dkms,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("action", choices=tuple(ACTIONS))
    parser.add_argument("--prefix", default=PREFIX)
    parser.add_argument("--sysconfdir", default="/etc")
    parser.add_argument("--destdir", default="")
    return parser


def _see_that_it_can_work(args: argparse.Namespace) -> None:
    """The Python that maglens needs, paths that can be written into files, and root where the machine itself is
    changed."""
    if sys.version_info[:2] < LEAST_PYTHON:
        wanted = ".".join(map(str, LEAST_PYTHON))
        raise InstallError(
            f"maglens needs Python {wanted} or later, and {sys.executable} is {sys.version.split()[0]}"
            f"\n  try: sudo make {args.action} PYTHON=python{wanted}"
        )
    for name, path in (("PREFIX", args.prefix), ("SYSCONFDIR", args.sysconfdir)):
        if args.action == "install" and not PLAIN.fullmatch(path):
            raise InstallError(
                f"{name} is {path!r}: it has to be an absolute path of letters, digits and any of . _ + ~ -"
                f"\n  try: make install PREFIX={PREFIX}"
            )
    if not args.destdir and os.geteuid() != 0:
        prefix = "" if args.prefix == PREFIX else f" PREFIX={args.prefix}"
        raise InstallError(f"{args.action} needs root\n  try: sudo make {args.action}{prefix}", NO_PERMISSION)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or another one with one clear line."""
    args = _parser().parse_args(arguments)
    destdir = os.path.abspath(args.destdir) if args.destdir else ""  # pip and its like run in the sources
    layout = Layout(args.prefix.rstrip("/"), args.sysconfdir.rstrip("/"), destdir.rstrip("/"))
    try:
        _see_that_it_can_work(args)
        ACTIONS[args.action](layout)
    except InstallError as error:
        print(f"maglens: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"maglens: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
