# SPDX-License-Identifier: GPL-2.0-or-later
"""Version: the one number of the whole project, from the package's metadata (setup.cfg)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final


def _version() -> str:
    try:
        return metadata.version("maglens")
    except metadata.PackageNotFoundError:  # run from the tree without installation
        declared = Path(__file__).resolve().parents[2] / "setup.cfg"
        for line in declared.read_text(encoding="utf-8").splitlines():
            if line.startswith("version = "):
                return line.removeprefix("version = ").strip()
        raise


VERSION: Final = _version()
