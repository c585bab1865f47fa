# SPDX-License-Identifier: MIT
"""Errors of the whole stack. Unplugged, wrong state and bad input are different things, and each carries a hint."""

from __future__ import annotations


class MaglensError(Exception):
    """Base of all errors shown to people: what happened, and the next command to try.

    ``hint`` is a command or a short advice; ``str()`` gives the message alone, ``explain()`` both.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def explain(self) -> str:
        """The message with its hint, as one or two lines."""
        return f"{self}\n  try: {self.hint}" if self.hint else str(self)


class Gone(MaglensError):
    """The device was unplugged. Orthogonal to state, and never the same as :class:`WrongState`."""


class Interrupted(Gone):
    """What brings the device's frames has ended, as a helper process does; the device itself may be there still, and
    can be configured again."""


class WrongState(MaglensError):
    """The call is not legal in the present state; nothing was done."""


class Deadline(MaglensError):
    """The other side did not answer within its time limit."""


class BadModule(MaglensError):
    """A module sent something that the protocol does not allow.

    ``cause`` is a stable short word under which it is counted (``leader_magic``, ``payload_crc``, ...).
    """

    def __init__(self, cause: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


class Refused(MaglensError):
    """The other side understood and said no. ``status`` is its status code's name."""

    def __init__(self, status: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class MissingDependency(MaglensError):
    """A program, library or kernel module is not there; the hint is the command that brings it."""
