# SPDX-License-Identifier: GPL-2.0-or-later
"""KernelLog: the kernel's messages from a moment on, and which of them no run may have."""

import errno
import os
import re
import select
import time
from types import TracebackType
from typing import Self

from tests.vm.guest.limits import EVENT_S

BAD = re.compile(
    r"BUG:|Oops|WARNING:|Kernel panic|general protection fault|KASAN|UBSAN|kernel BUG at|INFO: task .* blocked"
    r"|possible recursive locking|possible circular locking|refcount_t:|list_(add|del) corruption|memory leak"
)
"""What makes a kernel log a failure whatever the tests say."""

RECORD = 8192
"""/dev/kmsg hands out one record per read; the kernel's own ceiling for one."""


def trouble(lines: list[str]) -> list[str]:
    """The lines that no run may have."""
    return [line for line in lines if BAD.search(line)]


class KernelLog:
    """Kernel messages since it was opened."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self) -> list[str]:
        """All messages so far."""
        while True:
            try:
                record = os.read(self._descriptor, RECORD)
            except BlockingIOError:
                return self.lines
            except OSError as error:
                if error.errno != errno.EPIPE:  # EPIPE: records were overwritten before they were read
                    raise
                self.lines.append("(kernel messages lost)")
                continue
            # "priority,sequence,microseconds,flags;text\n KEY=value ..."
            self.lines.append(record.decode(errors="replace").partition(";")[2].partition("\n")[0])

    def wait_for(self, pattern: str, deadline_s: float = EVENT_S) -> str:
        """The first message that matches; TimeoutError with the log if none comes."""
        end = time.monotonic() + deadline_s
        seen = 0
        while True:
            for line in self.read()[seen:]:
                if re.search(pattern, line):
                    return line
            seen = len(self.lines)
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError(f"no kernel message {pattern!r} within {deadline_s} s in {self.lines}")
