# SPDX-License-Identifier: GPL-2.0-or-later
"""Initrd: busybox, the few modules the root disk needs, and the payload that the lab lays over the root.

Packed anew for each run (milliseconds), so neither a foreign kernel nor a change of the lab's guest side
needs another image. The archive is a cpio in the "newc" format, uncompressed.
"""

import lzma
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm.progress import LabError

REQUIRED = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
OPTIONAL = ("crc32c_generic", "crc32c_intel", "virtio_rng", "libcrc32c")
"""ext4 asks for crc32c by its crypto name, which no dependency list shows; later kernels have it built in."""

PROBE_OK = "maglens-lab: probe ok"
FAILED = "maglens-lab: cannot boot:"

INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /new
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
die() {{ echo "{FAILED} $*" >/dev/console; $b poweroff -f; }}
if $b grep -q maglens.probe /proc/cmdline; then echo "{PROBE_OK}" >/dev/console; $b poweroff -f; fi
for m in $($b cat /modules.list); do $b insmod /modules/$m || die "insmod $m"; done
$b mount -t ext4 -o noatime /dev/vda /new || die "no root disk"
if [ -b /dev/vdb ]; then $b mkdir -p /new/out; $b mount -t ext4 -o noatime /dev/vdb /new/out || die "no out disk"; fi
if [ -b /dev/vdc ]; then
    m=/new/usr/lib/modules/$($b uname -r)
    $b mkdir -p $m; $b mount -t ext4 -o ro /dev/vdc $m || die "no modules disk"
fi
$b cp -a /payload/. /new/ || die "payload"
$b umount /proc /sys
$b mount -o move /dev /new/dev
exec $b switch_root /new /sbin/init
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the archive or payload: file content, or a link's target."""

    content: bytes
    mode: int = stat.S_IFREG | 0o644


def text(content: str, mode: int = 0o644) -> Item:
    """A text file."""
    return Item(content.encode(), stat.S_IFREG | mode)


def link(target: str) -> Item:
    """A symbolic link."""
    return Item(target.encode(), stat.S_IFLNK | 0o777)


def pack(path: Path, busybox: Path, modules: Path, payload: Mapping[str, Item]) -> None:
    """Write the initrd for the kernel whose modules directory (with modules.dep) is given."""
    items = {
        "init": text(INIT, 0o755),
        "bin/busybox": Item(busybox.read_bytes(), stat.S_IFREG | 0o755),
        "dev/console": Item(b"", stat.S_IFCHR | 0o600),
    }
    names = []
    for source in needed(modules):
        name = source.name.removesuffix(".xz").removesuffix(".gz").removesuffix(".zst")
        names.append(name)
        items[f"modules/{name}"] = Item(_decompress(source))
    items["modules.list"] = text("\n".join(names) + "\n")
    items |= {f"payload/{name.strip('/')}": item for name, item in payload.items()}
    path.write_bytes(b"".join(_archive(items)))


def needed(modules: Path) -> list[Path]:
    """The module files for the root disk, each after those it depends on."""
    files: dict[str, tuple[Path, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        files[_stem(name)] = (modules / name, [_stem(dep) for dep in rest.split()])
    builtin_list = modules / "modules.builtin"
    builtin = {_stem(line) for line in builtin_list.read_text().splitlines()} if builtin_list.exists() else set()
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        path, dependencies = files[name]
        for dependency in dependencies:
            if dependency not in order:
                add(dependency)
        order[name] = path

    for name in (*OPTIONAL, *REQUIRED):
        if name in files and name not in order:
            add(name)
        elif name in REQUIRED and name not in files and name not in builtin:
            raise LabError(f"the kernel of {modules} has no {name}", "enable it, built in or as a module")
    return list(order.values())


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".ko", maxsplit=1)[0].replace("-", "_")


def _decompress(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix in (".zst", ".gz"):
        tool = {".zst": "zstd", ".gz": "gzip"}[path.suffix]
        return subprocess.run([tool, "-dc", str(path)], check=True, capture_output=True).stdout
    return path.read_bytes()


def _archive(items: Mapping[str, Item]) -> Iterator[bytes]:
    directories = {str(parent) for name in items for parent in Path(name).parents if str(parent) != "."}
    whole = {name: Item(b"", stat.S_IFDIR | 0o755) for name in directories} | dict(items)
    for inode, (name, item) in enumerate(sorted(whole.items()), start=1):
        yield _entry(inode, name, item)
    yield _entry(0, "TRAILER!!!", Item(b"", 0))


def _entry(inode: int, name: str, item: Item) -> bytes:
    device = (5, 1) if stat.S_ISCHR(item.mode) else (0, 0)
    fields = (inode, item.mode, 0, 0, 1, 0, len(item.content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return _padded(head) + _padded(item.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
