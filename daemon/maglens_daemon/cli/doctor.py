# SPDX-License-Identifier: GPL-2.0-or-later
"""Doctor: ``maglens doctor``."""

from __future__ import annotations

import argparse
import dataclasses

from maglens_daemon.cli.output import emit, say
from maglens_daemon.doctor import examine
from maglens_daemon.exits import Exit
from maglens_daemon.machine import Machine, Verdict

_SIGNS = {Verdict.OK: "ok  ", Verdict.NOTE: "note", Verdict.WRONG: "MEND"}


def run(args: argparse.Namespace) -> int:
    """Every finding with the command that mends it; status 1 where something has to be mended."""
    findings = examine(Machine())
    wrong = [finding for finding in findings if finding.verdict is Verdict.WRONG]
    if args.json:
        emit([{**dataclasses.asdict(f), "verdict": f.verdict.value} for f in findings])
    else:
        for finding in findings:
            say(f"{_SIGNS[finding.verdict]}  {finding.subject}: {finding.what}")
            if finding.mend:
                say(f"        try: {finding.mend}")
        say("nothing has to be mended" if not wrong else f"{len(wrong)} to mend")
    return Exit.FAILED if wrong else Exit.OK
