# SPDX-License-Identifier: GPL-2.0-or-later
"""Compliance: v4l2-compliance run against the camera, and its verdict read."""

import re
from dataclasses import dataclass
from pathlib import Path

FRAMES = 10
MODES = ("exclusive", "shared")
SECOND_STREAMER = "q2.reqbufs(node->node2, 1) != EBUSY"
"""The test that a camera for several readers fails on purpose: that a second file is refused buffers."""

LATE = "got sequence number"
"""A warning that it was itself late to queue a buffer: the machine is busy, try again."""

TRIES = 3
SECOND_HOLDS = "Could not set fmt2"
"""A warning that follows from it: the second file still has its buffers when its format is set."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run. `failures` and `warns` are the lines that explain the failed tests and the warnings; `tries`: it was
    the last of so many, each before it with a warning that it was itself LATE."""

    succeeded: int
    failed: int
    warnings: int
    failures: tuple[str, ...]
    warns: tuple[str, ...]
    tries: int = 0

    @property
    def counts(self) -> str:
        """In words."""
        return f"{self.succeeded} succeeded, {self.failed} failed, {self.warnings} warnings, try {self.tries}"

    def as_expected(self, mode: str) -> bool:
        """All well; or, shared, nothing but the second streamer and what follows from it."""
        if not self.succeeded:
            return False
        if mode == "shared":
            return (
                all(SECOND_STREAMER in line for line in self.failures)
                and self.failed == len(self.failures)
                and all(SECOND_HOLDS in line for line in self.warns)
            )
        return not self.failed and not self.warnings


def script(mode: str, programs: Path = Path("/mnt/bin"), out: Path = Path("/mnt/out")) -> str:
    """Shell lines that run it in a mode; its output goes to OUT/compliance.MODE, its version to OUT/v4l-utils.

    A second camera exports the buffers that the first imports.
    """
    flag = "--exclusive" if mode == "exclusive" else ""
    return f"""
mkfifo /tmp/stop /tmp/stop2
{programs}/backend {flag} < /tmp/stop > /tmp/node & first=$!
{programs}/backend < /tmp/stop2 > /tmp/node2 & second=$!
exec 8> /tmp/stop 9> /tmp/stop2
until [ -s /tmp/node ] && [ -s /tmp/node2 ]; do sleep 0.05; done
v4l2-compliance --version > {out}/v4l-utils
for try in {" ".join(map(str, range(1, TRIES + 1)))}; do
    v4l2-compliance --no-progress -s{FRAMES} -e $(cat /tmp/node2) -d $(cat /tmp/node) \
        > {out}/compliance.{mode} 2>&1
    echo $try > {out}/compliance.{mode}.tries
    grep -q "{LATE}" {out}/compliance.{mode} || break
done
exec 8>&- 9>&-
wait $first $second
rm /tmp/stop /tmp/stop2 /tmp/node /tmp/node2
"""


def read(out: Path, mode: str) -> Verdict:
    """The verdict in what script() left in OUT; all zero if v4l2-compliance did not come to an end."""
    log, tries = out / f"compliance.{mode}", out / f"compliance.{mode}.tries"
    if not log.exists() or not tries.exists():
        return Verdict(0, 0, 0, (), ())
    text = log.read_text(errors="replace")
    total = re.search(r"^Total for .*: \d+, Succeeded: (\d+), Failed: (\d+), Warnings: (\d+)", text, re.M)
    failures = tuple(re.findall(r"fail: (.*)", text))
    warns = tuple(re.findall(r"warn: (.*)", text))
    if not total:
        return Verdict(0, 0, 0, failures, warns)
    return Verdict(int(total[1]), int(total[2]), int(total[3]), failures, warns, int(tries.read_text()))
