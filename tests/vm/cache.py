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

GRACE_S = 3600
"""An entry used within this time stays in any case, in seconds."""

KEY_DIGITS = 16

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
    """The key of JSON-serialisable facts: KEY_DIGITS hex digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


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


def entry(kind: str, key: str, build: Callable[[Path], None], most: int = 4) -> Path:
    """The entry KIND-KEY, built by build(directory) if the cache lacks it.

    most: how many entries of this kind are worth keeping, the most recently used ones.
    """
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
    _prune(kind, most)
    return final


def remove(path: Path) -> None:
    """Remove a directory tree if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _prune(kind: str, most: int) -> None:
    # By the key's shape: uml-layer-KEY is of another kind than uml-KEY, and a .partial or .lock is no entry.
    entries = [path for path in root().glob(f"{kind}-{'[0-9a-f]' * KEY_DIGITS}") if path.is_dir()]
    oldest = time.time() - KEEP_S
    for rank, path in enumerate(sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)):
        if path.stat().st_mtime < oldest or (rank >= most and path.stat().st_mtime < time.time() - GRACE_S):
            with locked(path.with_name(f"{path.name}.lock")):
                remove(path)
