# SPDX-License-Identifier: GPL-2.0-or-later
"""kernel_abi.py against the kernel module's UAPI header, by the C compiler."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from maglens_v4l2 import kernel_abi as abi

INCLUDE = Path(__file__).parents[2] / "driver/kernel/include/uapi"
HEADER = INCLUDE / "linux/maglens.h"
STRUCTS = {
    "maglens_format": abi.Format,
    "maglens_menu_item": abi.MenuItem,
    "maglens_control": abi.Control,
    "maglens_input": abi.Input,
    "maglens_create": abi.Create,
    "maglens_submit": abi.Submit,
    "maglens_placeholder": abi.Placeholder,
    "maglens_counters": abi.Counters,
    "maglens_state": abi.State,
    "maglens_adopt": abi.Adopt,
    "maglens_push": abi.Push,
    "maglens_input_push": abi.InputPush,
    "maglens_format_push": abi.FormatPush,
    "maglens_event": abi.Event,
}
CONSTANTS = [name for name in vars(abi) if name.isupper() and not name.startswith(("CTRL_", "INPUT_NO"))]


def fields(struct: type[ctypes.Structure]) -> list[str]:
    names = [name for name, *_ in struct._fields_]
    return ["name", "value"] if names == ["u"] else names


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    facts = [(f"sizeof {name}", f"sizeof(struct {name})") for name in STRUCTS]
    facts += [
        (f"{name}.{field}", f"__builtin_offsetof(struct {name}, {field})")
        for name, struct in STRUCTS.items()
        for field in fields(struct)
    ]
    facts += [(name, f"MAGLENS_{name}") for name in CONSTANTS]
    lines = "".join(f'printf(",\\n\\"{key}\\": %llu", (unsigned long long){what});' for key, what in facts)
    folder = tmp_path_factory.mktemp("abi")
    (folder / "facts.c").write_text(
        f'#include <stdio.h>\n#include "{HEADER}"\n'
        f'int main(void) {{ printf("{{\\"\\": 0"); {lines} puts("}}"); return 0; }}\n'
    )
    subprocess.run([compiler, "-I", INCLUDE, "-o", folder / "facts", folder / "facts.c"], check=True)
    found: dict[str, int] = json.loads(subprocess.run([folder / "facts"], check=True, capture_output=True).stdout)
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_layout(compiled: dict[str, int], name: str) -> None:
    struct = STRUCTS[name]
    assert ctypes.sizeof(struct) == compiled[f"sizeof {name}"]
    for field in fields(struct):
        assert getattr(struct, field).offset == compiled[f"{name}.{field}"], field


def test_constants_and_requests(compiled: dict[str, int]) -> None:
    assert len(CONSTANTS) > 20
    for name in CONSTANTS:
        assert getattr(abi, name) == compiled[name], name


def test_every_struct_and_request_of_the_header_is_here() -> None:
    text = HEADER.read_text()
    assert set(re.findall(r"^struct (maglens_\w+) \{", text, re.M)) == {*STRUCTS, "maglens_fract"}
    assert set(re.findall(r"MAGLENS_(IOC_\w+)\s+_IO", text)) == {
        name for name in CONSTANTS if name.startswith("IOC_")
    }
