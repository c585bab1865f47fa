# SPDX-License-Identifier: GPL-2.0-or-later
"""The installer where something is in its way: what was installed stays, and the message says what to do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from maglens_driver import names

ROOT = Path(__file__).resolve().parents[2]


def program(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of ``daemon/system``, which belongs to no package."""
    spec = importlib.util.spec_from_file_location(f"maglens_{name}", ROOT / f"daemon/system/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"maglens_{name}", made)  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``daemon/system/install.py``"""
    return program("install", monkeypatch)


def contents(top: Path) -> dict[str, bytes]:
    return {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def earlier(installer: ModuleType, top: Path) -> None:
    """An installation with its manifest, as an earlier version has left it."""
    layout = installer.Layout("/usr", "/etc", str(top))
    manifest = installer.Manifest(layout)
    manifest.directory(f"{layout.home}/lib")
    (layout.staged(layout.home) / "lib" / "works.py").write_text("1\n")
    manifest.write("/usr/bin/maglens", "works\n", 0o755)
    manifest.save()


def arguments(action: str, top: Path) -> list[str]:
    return [action, "--prefix", "/usr", "--destdir", str(top)]


def test_an_update_that_pip_cannot_finish_leaves_what_was_there(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(where: str) -> Path:
        wheel = Path(where) / "maglens-9.9-py3-none-any.whl"
        wheel.write_text("no wheel")
        return wheel

    monkeypatch.setattr(installer, "_wheel", broken)
    earlier(installer, tmp_path)
    before = contents(tmp_path)
    assert installer.main(arguments("install", tmp_path)) == installer.FAILED
    assert "failed with" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert installer.main(arguments("uninstall", tmp_path)) == 0
    assert contents(tmp_path) == {}


def test_an_update_that_fails_later_can_be_taken_away(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new packages are in their place, then the disk is full: the manifest still knows what was there."""

    def packages(layout: object, manifest: object) -> None:
        del manifest
        (tmp_path / "usr/lib/maglens.new").mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    earlier(installer, tmp_path)
    monkeypatch.setattr(installer, "make_packages", packages)
    with monkeypatch.context() as patch:
        patch.setattr(installer.Manifest, "write", full)
        assert installer.main(arguments("install", tmp_path)) == installer.FAILED
    assert not (tmp_path / "usr/lib/maglens.old").exists()
    assert installer.main(arguments("uninstall", tmp_path)) == 0
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("before", [True, False], ids=["update", "first"])
def test_one_that_cannot_write_a_directory_can_be_taken_away(
    installer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: bool,
) -> None:
    """A first installation as well, which has left no manifest; nor does the other's forget what is new."""

    def packages(layout: object, manifest: Any) -> None:
        manifest.directory("/usr/lib")
        (tmp_path / "usr/lib/maglens.new").mkdir()

    if before:
        earlier(installer, tmp_path)
        (tmp_path / "usr/lib/maglens.old").mkdir()
    in_the_way = tmp_path / "usr/share"
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("no directory\n")
    monkeypatch.setattr(installer, "make_packages", packages)
    assert installer.main(arguments("install", tmp_path)) == installer.FAILED
    assert "usr/share" in capsys.readouterr().err
    assert (tmp_path / "usr/lib/systemd/system/maglensd.service").exists(), "so far it has come"
    (tmp_path / "usr/lib/maglens.new").mkdir()  # of one more try, which was cut off
    (tmp_path / "usr/lib/maglens.new/half").write_text("")
    assert installer.main(arguments("uninstall", tmp_path)) == 0
    assert contents(tmp_path) == {"usr/share": b"no directory\n"}


def test_a_manifest_that_cannot_be_written_leaves_the_one_there_was(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier(installer, tmp_path)
    before = contents(tmp_path)
    layout = installer.Layout("/usr", "/etc", str(tmp_path))
    manifest = installer.Manifest(layout, files=["/usr/bin/other"])

    def full(path: Path, text: str) -> int:
        path.touch()
        path.write_bytes(b"{")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            manifest.save()
    after = contents(tmp_path)
    assert all(after[name] == content for name, content in before.items())
    assert installer.main(arguments("uninstall", tmp_path)) == 0
    assert contents(tmp_path) == {}


def test_an_update_that_was_cut_off_between_old_and_new_can_be_taken_away(
    installer: ModuleType, tmp_path: Path
) -> None:
    earlier(installer, tmp_path)
    (tmp_path / "usr/lib/maglens").rename(tmp_path / "usr/lib/maglens.old")
    assert installer.main(arguments("uninstall", tmp_path)) == 0
    assert contents(tmp_path) == {}


def test_the_machine_itself_is_root_s(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer.os, "geteuid", lambda: 1000)
    assert installer.main(["install"]) == installer.NO_PERMISSION
    assert "install needs root\n  try: sudo make install\n" in capsys.readouterr().err
    assert installer.main(["uninstall", "--prefix", "/opt"]) == installer.NO_PERMISSION
    assert "try: sudo make uninstall PREFIX=/opt\n" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["/opt/my apps", "opt/maglens", "", "/opt/100%"])
def test_a_prefix_that_no_unit_can_name_is_refused(
    installer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prefix: str,
) -> None:
    """A service with a space in its program's path does not start, nor does a program behind ``#!``."""
    monkeypatch.setattr(
        installer, "make_packages", lambda layout, _: layout.staged(layout.coming).mkdir(parents=True)
    )
    words = ["install", "--prefix", prefix, "--destdir", str(tmp_path)]
    assert installer.main(words) == installer.FAILED
    assert "absolute path" in capsys.readouterr().err
    assert not contents(tmp_path)


def test_what_a_relative_destdir_means_does_not_change_on_the_way(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that fill it run in the folder of the sources, whoever called."""
    seen: list[Path] = []

    def packages(layout: Any, manifest: object) -> None:
        del manifest
        seen.append(layout.staged(layout.coming))
        raise installer.InstallError("far enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installer, "make_packages", packages)
    installer.main(["install", "--prefix", "/usr", "--destdir", "image"])
    assert seen == [tmp_path / "image/usr/lib/maglens.new"]


def test_an_old_python_is_told_so(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer, "LEAST_PYTHON", (9, 9))
    assert installer.main(arguments("install", tmp_path)) == installer.FAILED
    assert "maglens needs Python 9.9 or later" in capsys.readouterr().err


def test_an_old_python_is_told_so_before_an_environment_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program("prepare", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--where"])
    monkeypatch.setattr(made, "LEAST_PYTHON", (9, 9))
    with pytest.raises(SystemExit, match=r"maglens needs Python 9\.9 or later"):
        made.main()


@pytest.mark.parametrize(
    ("needs", "packages"),
    [("NEEDS", "libusb-1.0-0-dev libudev-dev"), ("BENCH_NEEDS", "libavutil-dev libswscale-dev")],
)
def test_without_root_what_a_test_or_the_bench_needs_is_named_in_one_line(
    needs: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = program("prepare", monkeypatch)
    monkeypatch.setattr(made.os, "geteuid", lambda: 1000)
    wanted = [made.Need(need.package, need.purpose, lambda: False) for need in getattr(made, needs)]
    with pytest.raises(SystemExit, match=rf"^missing: .*\n  try: sudo apt-get install .*{packages}$"):
        made.install_packages(wanted)


def test_the_bench_is_not_made_without_its_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = program("prepare", monkeypatch)
    monkeypatch.setattr(made.os, "geteuid", lambda: 1000)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    with pytest.raises(SystemExit, match="swscale, which the bench compares with"):
        made.prepare_bench(tmp_path)


def test_python_and_permission_are_what_the_project_says(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maglens_daemon.exits import Exit

    wanted = "python_requires = >=" + ".".join(map(str, installer.LEAST_PYTHON))
    assert wanted in (ROOT / "setup.cfg").read_text().splitlines()
    assert program("prepare", monkeypatch).LEAST_PYTHON == installer.LEAST_PYTHON
    assert installer.NO_PERMISSION == Exit.NO_PERMISSION


def test_uninstall_without_an_installation_names_prefix(
    installer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installer.main(arguments("uninstall", tmp_path)) == installer.FAILED
    assert "make uninstall PREFIX=" in capsys.readouterr().err


def test_virtual_modules_do_not_run_on_without_their_files(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = installer.Layout(str(tmp_path / "usr"), str(tmp_path / "etc"), "")
    manifest = installer.Manifest(layout)
    manifest.directory(layout.home)
    manifest.save()
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(installer, "_tell_the_system", lambda *commands: told.extend(commands))
    monkeypatch.setattr(installer, "_running", lambda: True)
    installer.uninstall(layout)
    stopped = next(command for command in told if command[:2] == ("systemctl", "stop"))
    assert {names.SERVICE_UNIT, names.SIM_UNIT_TEMPLATE.replace("@", "@*")} <= set(stopped)
    assert ("systemctl", "disable", names.SERVICE_UNIT) in told
