# SPDX-License-Identifier: GPL-2.0-or-later
"""Run: makes the checks one after the other. A check that fails never keeps the others from being made."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from maglens_driver.conform.check import Check, Failed, Result, Skipped, Verdict
from maglens_driver.conform.specimen import Specimen
from maglens_driver.errors import Deadline, Gone, MaglensError

log = logging.getLogger(__name__)

SILENT_AFTER: Final = 3  # unanswered requests in a row, after which nothing more is asked


class Run:
    """One run. ``on_result`` hears of every check as it is done."""

    def __init__(self, specimen: Specimen, on_result: Callable[[Result], None] = lambda result: None) -> None:
        self._specimen = specimen
        self._on_result = on_result
        self._unanswered = 0
        self._over = ""  # why nothing more can be asked
        self.results: list[Result] = []

    def make(self, checks: Sequence[Check]) -> list[Result]:
        """Make ``checks`` in order; their results."""
        for check in checks:
            began = time.monotonic()
            verdict, why = self._make(check)
            if verdict is Verdict.FAIL and check.should:
                verdict = Verdict.NOTE
            result = Result(check, verdict, why, time.monotonic() - began)
            self.results.append(result)
            self._on_result(result)
        return self.results

    def _make(self, check: Check) -> tuple[Verdict, str]:
        if self._over:
            return Verdict.SKIP, self._over
        try:
            check.run(self._specimen)
        except Skipped as why:
            return Verdict.SKIP, str(why)
        except Failed as why:
            self._recover()
            return Verdict.FAIL, str(why)
        except Gone as error:
            self._over = "the module is gone"
            return Verdict.FAIL, str(error)
        except MaglensError as error:
            self._answered(not isinstance(error, Deadline))
            self._recover()
            return Verdict.FAIL, str(error)
        except Exception as error:  # a defect of the kit's, met by one module: the other checks are made all the same
            log.exception("%s", check.name)
            self._recover()
            return Verdict.FAIL, f"the kit itself failed: {type(error).__name__}: {error}"
        self._answered(True)
        return Verdict.PASS, ""

    def _answered(self, answered: bool) -> None:
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered >= SILENT_AFTER:
            self._over = "the module does not answer any more"

    def _recover(self) -> None:
        try:
            self._specimen.recover()
        except Gone:
            self._over = "the module is gone"
        except (MaglensError, Failed) as error:
            self._answered(not isinstance(error, Deadline))


def failed(results: Sequence[Result]) -> list[str]:
    """Names of the checks that failed."""
    return [r.check.name for r in results if r.verdict is Verdict.FAIL]
