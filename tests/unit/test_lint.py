# SPDX-License-Identifier: GPL-2.0-or-later
"""The linters, and for each one a proof that it would notice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_TREES = ("driver", "v4l2_bridge", "daemon", "tests")
TYPED_TREES = (
    "driver/maglens_driver",
    "v4l2_bridge/maglens_v4l2",
    "daemon/maglens_daemon",
    "daemon/system",
    "tests",
)
MAX_LINES = 600
LICENCES = {
    "driver/maglens_driver/link": "MIT",
    "driver/maglens_driver/gadget": "MIT",
    "driver/maglens_driver/virtual": "MIT",
    "driver/kernel": "GPL-2.0-only",
    "tests/fuzz/link": "MIT",  # goes with the protocol
}
LICENCE_OF_THE_REST = "GPL-2.0-or-later"
# Shared by the parts above: what a module maker takes along.
SHARED = {
    "color.py",
    "control.py",
    "described.py",
    "errors.py",
    "frame.py",
    "mode.py",
    "names.py",
    "raw.py",
    "source.py",
    "ycbcr.py",
}
SOURCE_SUFFIXES = {".py", ".pyi", ".c", ".h", ".sh", ".mk", ".service", ".rules", ".conf"}
# Split, so that this line does not name them itself.
MACHINE_WORDS = ("/ho" + "me/", "/wo" + "rkspace/")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, check=False)


def tracked() -> Iterator[Path]:
    """Files that are in the repository, or would be; all files where there is none (an unpacked archive)."""
    done = run("git", "ls-files", "-z", "-co", "--exclude-standard")
    if done.returncode == 0:
        yield from (ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())
    else:
        yield from (p for p in ROOT.rglob("*") if p.is_file() and "build" not in p.relative_to(ROOT).parts[:1])


def ruff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "ruff", *arguments)


def mypy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "mypy", *arguments)


def too_wide(path: Path, columns: int = 100) -> list[str]:
    """Lines of C that checkpatch would complain of; itself it needs a kernel's source, as make kernel-test has."""
    lines = path.read_text().splitlines()
    return [f"{path}:{number}" for number, line in enumerate(lines, 1) if len(line.expandtabs(8)) > columns]


def test_lines_of_the_kernel_module() -> None:
    files = sorted((ROOT / "driver/kernel").rglob("*.[ch]"))
    assert len(files) > 5
    assert not [line for path in files for line in too_wide(path)]


def test_a_wide_line_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wide.c"
    path.write_text("\t" * 2 + "x" * 84 + "\n" + "\t" * 2 + "x" * 85 + "\n")
    assert too_wide(path) == [f"{path}:2"]


def test_ruff_check() -> None:
    done = ruff("check", "--output-format=concise", *PYTHON_TREES, "setup.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_check_would_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import os\n\n\ndef f() -> None:\n    try:\n        pass\n    except Exception:\n        pass\n"
    )
    found = ruff("check", "--output-format=concise", "--config", ROOT / "pyproject.toml", tmp_path).stdout
    assert "F401" in found
    assert "BLE001" in found


def test_ruff_format() -> None:
    done = ruff("format", "--check", *PYTHON_TREES, "setup.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_format_would_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = { 1 : 2 }\n")
    assert ruff("format", "--check", "--config", ROOT / "pyproject.toml", tmp_path).returncode == 1


def test_mypy_strict() -> None:
    done = mypy(*TYPED_TREES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_would_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(x):\n    return x\n\n\ny: int = 'no'\n")
    found = mypy("--config-file", ROOT / "pyproject.toml", tmp_path / "bad.py").stdout
    assert "no-untyped-def" in found
    assert "assignment" in found


def licence_for(path: Path) -> str:
    relative = path.relative_to(ROOT)
    for folder, licence in LICENCES.items():
        if relative.is_relative_to(folder):
            return licence
    if relative.parent.as_posix() == "driver/maglens_driver" and relative.name in SHARED:
        return "MIT"
    if relative.name.startswith("test_link_"):
        return "MIT"  # goes with the protocol
    return LICENCE_OF_THE_REST


def wrong_licence(path: Path) -> str | None:
    """What is wrong with a source file's first lines; None when nothing is."""
    head = path.read_text(errors="replace")[:400].splitlines()[:3]
    stated = [line.partition("SPDX-License-Identifier:")[2] for line in head if "SPDX-License-Identifier:" in line]
    if not stated:
        return f"{path}: no SPDX line at the top"
    said = stated[0].replace("*/", "").replace("-->", "").strip()
    wanted = licence_for(path)
    if said.removesuffix(" WITH Linux-syscall-note") != wanted:
        return f"{path}: {said}, not {wanted}"
    return None


def sources() -> list[Path]:
    return [p for p in tracked() if p.suffix in SOURCE_SUFFIXES and p.stat().st_size]


def test_every_source_has_its_licence() -> None:
    found = sources()
    assert len(found) > 100, "the search found next to nothing"
    assert not [what for path in found if (what := wrong_licence(path))]


def test_the_licence_check_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name, text in (("none.py", "x = 1\n"), ("other.py", "# SPDX-License-Identifier: MIT\n")):
        (tmp_path / name).write_text(text)
        assert wrong_licence(tmp_path / name)
    (tmp_path / "right.py").write_text("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    assert wrong_licence(tmp_path / "right.py") is None


def test_every_licence_has_its_text() -> None:
    texts = {p.stem for p in (ROOT / "LICENSES").iterdir()}
    assert {*LICENCES.values(), LICENCE_OF_THE_REST, "CC0-1.0", "Linux-syscall-note"} <= texts


def too_long(path: Path) -> bool:
    return len(path.read_text(errors="replace").splitlines()) > MAX_LINES


def test_no_file_is_too_long() -> None:
    assert not [str(p) for p in sources() if too_long(p)]


def test_the_length_check_would_notice(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("x = 1\n" * (MAX_LINES + 1))
    assert too_long(tmp_path / "long.py")


def unfinished(text: str) -> list[str]:
    """Words that say that something is not done."""
    return [word for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X:") if word in text]


def test_nothing_says_that_it_is_unfinished() -> None:
    assert not [(str(p), found) for p in sources() if (found := unfinished(p.read_text(errors="replace")))]
    assert unfinished("# TO" + "DO: later")


def test_nothing_names_the_machine_it_was_written_on() -> None:
    texts = [p for p in tracked() if p.suffix in SOURCE_SUFFIXES | {".md", ".toml", ".cfg", ".xml", ".txt"}]
    assert not [str(p) for p in texts if any(word in p.read_text(errors="replace") for word in MACHINE_WORDS)]
