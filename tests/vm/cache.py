# SPDX-License-Identifier: GPL-2.0-or-later
"""Cache: where the lab keeps what is slow to make, outside the source tree.

An entry is a directory named KIND-KEY whose key is a hash of everything that determines the content. It
is built under another name and renamed when complete, so that an entry that exists is whole. A lock per
entry keeps two runs from building the same one.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.vm.progress import say

KEEP_S = 14 * 24 * 3600
"""Entries that nobody has used for this long are removed, in seconds."""


def root() -> Path:
    """The lab's cache directory: $MAGLENS_CACHE, else $XDG_CACHE_HOME/maglens, else ~/.cache/maglens."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = Path(os.environ.get("MAGLENS_CACHE") or home / "maglens")
    path = base / "vm"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key_of(facts: object) -> str:
    """The key of JSON-serialisable facts: 16 hex digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; says so when it has to wait for another run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that holds {path.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The entry KIND-KEY, built by build(directory) if the cache lacks it."""
    base = root()
    final = base / f"{kind}-{key}"
    with locked(base / f"{kind}-{key}.lock"):
        if not final.exists():
            partial = base / f"{kind}-{key}.partial"
            remove(partial)
            partial.mkdir()
            build(partial)
            partial.rename(final)
        os.utime(final)
    _prune(kind, final)
    return final


def remove(path: Path) -> None:
    """Remove a directory tree if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _prune(kind: str, keep: Path) -> None:
    oldest = time.time() - KEEP_S
    for path in root().glob(f"{kind}-*"):
        if path != keep and path.is_dir() and path.stat().st_mtime < oldest:
            say(f"removing {path.name} from the cache: unused for {KEEP_S // 86400} days")
            remove(path)
