# SPDX-License-Identifier: GPL-2.0-or-later
"""Config files: which there are. What cannot be looked at is an error, and not the same as what is not there."""

from __future__ import annotations

import os
from pathlib import Path

from maglens_daemon.errors import ConfigError
from maglens_driver import names


def config_files() -> tuple[Path, ...]:
    """The files that are there, in the order of reading. ``MAGLENS_CONFIG`` names another main file; its drop-ins
    are then beside it. Raises :class:`ConfigError`."""
    main = Path(os.environ.get(names.ENV_CONFIG) or names.CONFIG_FILE)
    files = (main,) if names.ENV_CONFIG in os.environ or _is_there(main) else ()
    return (*files, *_dropins(Path(f"{main}.d")))


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _closed(path, error) from error
    return True


def _dropins(folder: Path) -> list[Path]:
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _closed(folder, error) from error
    return sorted(folder / name for name in found if name.endswith(".toml"))


def _closed(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: {error.strerror}", hint=f"namei -l {path}")
