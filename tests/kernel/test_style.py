# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's style: the kernel's own checkpatch and sparse, and what the module's users rely on by name.

Skips what needs a kernel source or build that is not in the cache: `make kernel-test` puts them there.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel import uml
from tests.vm import cache

DRIVER = uml.DRIVER
FILES = sorted([*DRIVER.glob("*.[ch]"), *DRIVER.glob("include/**/*.h")])
MAX_LINES = 600

IGNORED = {
    # One header for all kernels from 6.1 on is what an out-of-tree module has instead of a version.
    "LINUX_VERSION_CODE": "maglens-compat.h",
    "CONSTANT_COMPARISON": "maglens-compat.h",
    # C11's keyword: the friendlier name needs <assert.h>, which not every program includes.
    "CAMELCASE": "maglens.h",
    # Fields are described in the kernel-doc comment of their struct, locks included.
    "UNCOMMENTED_DEFINITION": "",
}
"""checkpatch's complaint -> the file it is ignored in; empty: all of them."""


def cached(kind: str, marker: str) -> Path:
    """The newest cache entry of a kind that has a certain file; skips if there is none."""
    found = [p for p in cache.root().glob(f"{kind}-*") if (p / marker).exists()]
    if not found:
        pytest.skip(f"no {kind} in the cache: `make kernel-test` builds it")
    return max(found, key=lambda p: p.stat().st_mtime)


def checkpatch(path: Path, ignore: list[str]) -> list[str]:
    """checkpatch's complaints about a file, strict."""
    script = cached("kernel-source", "scripts/checkpatch.pl") / "scripts/checkpatch.pl"
    options = ["--no-tree", "--strict", "--terse", "--max-line-length=100", "--show-types"]
    if ignore:
        options.append(f"--ignore={','.join(ignore)}")
    done = subprocess.run(
        ["perl", str(script), *options, "-f", str(path)], capture_output=True, text=True, check=False
    )
    return re.findall(r"^.*: (?:ERROR|WARNING|CHECK):.*$", done.stdout, re.M)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_checkpatch(path: Path) -> None:
    ignore = [kind for kind, where in IGNORED.items() if where in ("", path.name)]
    assert checkpatch(path, ignore) == []


def test_checkpatch_complains(tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("// SPDX-License-Identifier: GPL-2.0-only\nint f(void)\n{\n    if(1) return 0;\n}\n")
    assert checkpatch(bad, [])


def sparse(where: Path) -> str:
    """sparse's complaints about a copy of the driver, built against the cached kernel."""
    if not shutil.which("sparse"):
        pytest.skip("no sparse: apt-get install sparse")
    build = cached("uml", "linux")
    command = ["make", "-C", str(build), "ARCH=um", f"M={where}", "C=2", "W=1", "modules"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (where / "maglens.ko").exists(), done.stderr[-2000:]
    return "\n".join(line for line in done.stderr.splitlines() if str(where) in line)


def test_sparse(tmp_path: Path) -> None:
    where = tmp_path / "driver"
    shutil.copytree(DRIVER, where)
    assert sparse(where) == ""


def test_sparse_complains(tmp_path: Path) -> None:
    where = tmp_path / "driver"
    shutil.copytree(DRIVER, where)
    main = where / "maglens-main.c"
    main.write_text(
        main.read_text() + "\nint maglens_bad(int __user *p);\nint maglens_bad(int __user *p)\n{\n\treturn *p;\n}\n"
    )
    assert "maglens_bad" in sparse(where) or "dereference" in sparse(where)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_licence(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    note = " WITH Linux-syscall-note" if "uapi" in path.parts else ""
    assert f"SPDX-License-Identifier: GPL-2.0-only{note}" in first


def kernel_doc_fields(text: str) -> dict[str, tuple[set[str], set[str]]]:
    """Struct -> (fields it has, fields its kernel-doc comment describes)."""
    found = {}
    pattern = r"/\*\*\n \* struct (\w+) - (.*?)\*/\nstruct \1 \{\n(.*?)\n\};"
    for match in re.finditer(pattern, text, re.S):
        described = set(re.findall(r"^ \* @(\w+):", match[2], re.M))
        fields = set(re.findall(r"(\w+)(?:\[\w*\])*;", re.sub(r"union \{|\};", "", match[3])))
        found[match[1]] = (fields, described)
    return found


@pytest.mark.parametrize("name", ["maglens-camera.h", "include/uapi/linux/maglens.h"])
def test_kernel_doc(name: str) -> None:
    text = (DRIVER / name).read_text()
    documented = kernel_doc_fields(text)
    assert set(documented) == set(re.findall(r"^struct (\w+) \{$", text, re.M))
    for struct, (fields, described) in documented.items():
        assert fields == described, struct


def test_kernel_doc_notices() -> None:
    text = "/**\n * struct x - y\n * @a:\tz\n */\nstruct x {\n\tint a;\n\tint b;\n};\n"
    assert kernel_doc_fields(text) == {"x": ({"a", "b"}, {"a"})}


def abi(tmp_path: Path, *flags: str) -> dict[str, dict[str, object]]:
    """The ABI as abi_dump prints it, compiled with these flags."""
    program = tmp_path / "abi_dump"
    source = uml.HERE / "programs/abi_dump.c"
    include = DRIVER / "include/uapi/linux"
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", *flags, f"-I{include}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([str(program)], check=True, capture_output=True, text=True)
    result: dict[str, dict[str, object]] = json.loads(done.stdout)
    return result


def test_abi_dump_is_complete(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc: apt-get install gcc libc6-dev")
    text = (DRIVER / "include/uapi/linux/maglens.h").read_text()
    dumped = abi(tmp_path)
    assert set(dumped["structs"]) == set(re.findall(r"^struct (\w+) \{$", text, re.M))
    names = set(re.findall(r"^#define (MAGLENS_\w+)", text, re.M)) - {"MAGLENS_IOC_MAGIC"}
    assert set(dumped["ioctls"]) == {n for n in names if n.startswith("MAGLENS_IOC_")}
    assert {n for n in names if not n.startswith("MAGLENS_IOC_")} <= set(dumped["constants"])
    for name, (fields, _) in kernel_doc_fields(text).items():
        struct = dumped["structs"][name]
        assert isinstance(struct, dict)
        assert set(struct["fields"]) == fields


def test_layout_has_no_holes() -> None:
    """No padding on 32 bits, none on 64: the layouts are the same. Compiled only, so no 32-bit libc is needed."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc: apt-get install gcc libc6-dev")
    include = DRIVER / "include/uapi/linux"
    machine = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    options = ["-std=gnu11", "-Wpadded", "-Werror", "-fsyntax-only", f"-I/usr/include/{machine}", "-xc", "-"]
    source = f'#include "{include}/maglens.h"\n'
    for flag in ("-m32", "-m64") if machine == "x86_64-linux-gnu" else ("-O2",):
        done = subprocess.run(["gcc", flag, *options], input=source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
