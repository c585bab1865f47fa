# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command in User Mode Linux needs of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.uml_guest import MAPS, large_processes
from tests.vm.progress import LabError


def test_the_limit_is_raised_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    setting = tmp_path / "max_map_count"
    setting.write_text("65530\n")
    with pytest.raises(KeyError), large_processes(setting):
        assert int(setting.read_text()) == MAPS
        raise KeyError
    assert int(setting.read_text()) == 65530


def test_a_limit_that_is_high_enough_stays(tmp_path: Path) -> None:
    setting = tmp_path / "max_map_count"
    setting.write_text(f"{2 * MAPS}\n")
    with large_processes(setting):
        assert int(setting.read_text()) == 2 * MAPS
    assert int(setting.read_text()) == 2 * MAPS


def test_one_who_may_not_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = tmp_path / "max_map_count"
    setting.write_text("65530\n")

    def refuse(path: Path, text: str) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(LabError) as raised, large_processes(setting):
        pass
    assert raised.value.hint == f"sudo sysctl vm.max_map_count={MAPS}"
