# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the VM lab that need no VM."""

import io
import os
import stat
import time
from pathlib import Path

import pytest

from tests.vm import cache, initrd, lab
from tests.vm.frames import Decoder, Kind, encode
from tests.vm.guest.kernel_log import trouble
from tests.vm.image import EXTRA, packages
from tests.vm.machine import run_directory, stumbled
from tests.vm.progress import LabError


def test_frames_survive_any_cut() -> None:
    stream = encode(7, Kind.OPEN, b"{}") + encode(7, Kind.STDOUT, b"x" * 1000) + encode(7, Kind.EXIT)
    for size in (1, 3, 13, 500, len(stream)):
        decoder = Decoder()
        frames = [frame for at in range(0, len(stream), size) for frame in decoder.feed(stream[at : at + size])]
        assert [(frame.session, frame.kind, len(frame.data)) for frame in frames] == [
            (7, Kind.OPEN, 2),
            (7, Kind.STDOUT, 1000),
            (7, Kind.EXIT, 0),
        ]


@pytest.mark.parametrize(
    "garbage",
    [b"left over", encode(1, Kind.STDIN, b"abc")[4:], b"\xf5ML\xfa" + b"\xff" * 9, b"\xf5M"],
)
def test_frames_are_found_behind_garbage(garbage: bytes) -> None:
    frames = Decoder().feed(garbage + encode(2, Kind.ACCEPT))
    assert [(frame.session, frame.kind) for frame in frames] == [(2, Kind.ACCEPT)]


def _members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """A cpio archive in the newc format: name -> mode, content."""
    found: dict[str, tuple[int, bytes]] = {}
    stream = io.BytesIO(archive)
    while True:
        head = stream.read(110)
        assert head[:6] == b"070701"
        fields = [int(head[at : at + 8], 16) for at in range(6, 110, 8)]
        name = stream.read(fields[11])[:-1].decode()
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
        content = stream.read(fields[6])
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], content)


def _kernel(tmp_path: Path, dependencies: str, builtin: str = "") -> Path:
    for line in dependencies.splitlines():
        path = tmp_path / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"module " + path.name.encode())
    (tmp_path / "modules.dep").write_text(dependencies)
    (tmp_path / "modules.builtin").write_text(builtin)
    return tmp_path


def test_initrd_has_modules_in_order_and_the_payload(tmp_path: Path) -> None:
    modules = _kernel(
        tmp_path / "6.1",
        "kernel/fs/ext4.ko: kernel/fs/jbd2.ko\nkernel/fs/jbd2.ko:\nkernel/drivers/virtio_blk.ko:\n",
        "kernel/drivers/virtio_pci.ko\nkernel/drivers/virtio_console.ko\n",
    )
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"ELF")
    payload = {"etc/hostname": initrd.text("lab\n"), "etc/masked": initrd.link("/dev/null")}
    initrd.pack(tmp_path / "initrd", busybox, modules, payload)
    members = _members((tmp_path / "initrd").read_bytes())
    assert members["modules.list"][1].split() == [b"virtio_blk.ko", b"jbd2.ko", b"ext4.ko"]
    assert members["modules/ext4.ko"][1] == b"module ext4.ko"
    assert members["payload/etc/hostname"] == (stat.S_IFREG | 0o644, b"lab\n")
    assert members["payload/etc/masked"] == (stat.S_IFLNK | 0o777, b"/dev/null")
    assert stat.S_ISDIR(members["payload/etc"][0])
    assert members["init"][0] == stat.S_IFREG | 0o755


def test_a_kernel_that_cannot_boot_here_is_refused(tmp_path: Path) -> None:
    modules = _kernel(tmp_path, "kernel/fs/ext4.ko:\n", "kernel/drivers/virtio_pci.ko\n")
    with pytest.raises(LabError, match="has no virtio_blk"):
        initrd.needed(modules)


def test_cache_builds_once_and_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGLENS_CACHE", str(tmp_path))
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "it").write_text("whole")

    def fail(directory: Path) -> None:
        (directory / "it").write_text("half")
        raise LabError("no mirror")

    with pytest.raises(LabError):
        cache.entry("thing", "a", fail)
    assert not (cache.root() / "thing-a").exists()
    path = cache.entry("thing", "a", build)
    assert cache.entry("thing", "a", build) == path
    assert (path / "it").read_text() == "whole"
    assert len(built) == 1


def test_cache_forgets_the_oldest_of_a_kind_and_of_that_kind_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGLENS_CACHE", str(tmp_path))
    first, *others = (cache.key_of(n) for n in range(4))
    old = cache.entry("uml", first, lambda directory: None)
    past = time.time() - 2 * cache.GRACE_S
    os.utime(old, (past, past))
    for key in others:
        cache.entry("uml-layer", key, lambda directory: None, most=1)
    cache.entry("uml", others[0], lambda directory: None, most=2)
    assert old.exists()
    os.utime(old, (past, past))
    cache.entry("uml", others[0], lambda directory: None, most=1)
    assert not old.exists()


def test_extra_packages_make_another_image() -> None:
    assert set(packages([])) < set(packages(["obs"]))
    with pytest.raises(LabError, match="no extra package set 'nonsense'") as caught:
        packages(["nonsense"])
    assert all(name in caught.value.hint for name in EXTRA)


@pytest.mark.parametrize("name", ["", "../x", ".hidden"])
def test_machine_names_stay_in_their_directory(name: str) -> None:
    with pytest.raises(LabError):
        run_directory(name)


def test_kernel_trouble_is_told_from_talk() -> None:
    fine = ["usb 1-1: new SuperSpeed USB device", "systemd[1]: Started a service that prints debug: no"]
    bad = ["WARNING: CPU: 1 PID: 2 at mm/x.c:3", "BUG: kernel NULL pointer dereference", "Kernel panic - not syncing"]
    assert trouble([*fine, *bad]) == bad


def test_the_names_of_tests_that_failed(tmp_path: Path) -> None:
    report = (
        '<testsuites><testsuite><testcase name="good"/><testcase name="bad"><failure>no</failure></testcase>'
        '<testcase name="broken"><error>no</error></testcase></testsuite></testsuites>'
    )
    (tmp_path / lab.JUNIT).write_text(report)
    assert lab.failed(tmp_path) == ["bad", "broken"]


CONSOLE = """\
[    3.579244] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI
[    3.579455] RIP: 0010:sched_clock_cpu+0x9/0x1d0
[    3.578564] Modules linked in:
[    3.579247] ---[ end trace 0000000000000000 ]---
[    3.579913] Kernel panic - not syncing: Fatal exception in interrupt
"""


def test_only_a_kernel_that_stumbled_while_it_was_patched_is_booted_again() -> None:
    assert stumbled(CONSOLE)
    assert not stumbled("")
    assert not stumbled(CONSOLE.replace("Modules linked in:", "Modules linked in: maglens(OE)")), "it may be ours"
    assert not stumbled(CONSOLE.replace("int3", "general protection fault"))
    assert not stumbled(CONSOLE.replace("Kernel panic", "Kernel"))
