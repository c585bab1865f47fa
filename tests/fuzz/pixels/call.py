# SPDX-License-Identifier: GPL-2.0-or-later
"""Call: one call of the extension with arguments that are right, and what must not be taken in their place.

Buffers are allocated to the byte, so that a sanitizer sees the first one outside.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

Values = dict[str, Any]
Spoil = tuple[str, Callable[[], Values]]  # what is wrong, and the arguments that make it so

REFUSALS: Final = (ValueError, TypeError, OverflowError, MemoryError, RuntimeError)
NUMBERS: Final = (
    -(2**63), -(2**31), -65536, -2, -1, 0, 1, 2, 3, 4, 5, 8, 31, 32, 33, 64, 65, 127, 1025, 8191, 32767, 32768, 32770,
    65535, 131072, 131073, 2**30, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, 2**100,
)  # fmt: skip
FLOATS: Final = (float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 0.0, 5e-324, 1e-9, 0.25, 3.99, 1e9, 1.8e308)
SIDES: Final = (-(2**31), -2, 0, 1, 3, 7, 32769, 32770, 2**31 - 2, 2**31, 2**63, 2.5, "8", None)
STRIDES: Final = (-(2**31), -1, 1, 131073, 2**31 - 1, 2**31, 2**64, 1.5, "9", None)
NO_PICTURES: Final = ("", "NV1", "NV121", "RGB3", "pRAA", "\ud800V1", "\0\0\0\0", b"NV12", -1, 0, 2**32, 2**70, None)
NO_BUFFERS: Final = (None, 7, "text", object(), [1, 2, 3])


class Surprise(Exception):
    """The extension did what it has not promised; the text says what."""


@dataclass(frozen=True, slots=True)
class Call:
    """``run`` takes the arguments by name. ``wrong`` must be refused and ``written`` be as it was then; of ``maybe``
    only the sanitizers judge."""

    name: str
    run: Callable[[Values], object]
    right: Values
    wrong: list[Spoil]
    maybe: list[Spoil] = field(default_factory=list)
    written: tuple[str, ...] = ("dst",)


def exact(r: random.Random, nbytes: int, at: int = 0) -> memoryview:
    """Noise in a block of exactly ``at + nbytes`` bytes, from ``at`` on."""
    view = memoryview(array("B", b"\0") * (nbytes + at))[at:]
    view[:] = r.randbytes(nbytes)
    return view


def anywhere(r: random.Random, nbytes: int) -> memoryview:
    """The same, at times at an odd address, with bytes to spare, of another shape, or of larger items."""
    way = r.randrange(8)
    if way == 0 and nbytes:
        return exact(r, nbytes).cast("B", (1, nbytes))
    if way == 1 and nbytes % 4 == 0:
        return exact(r, nbytes).cast("I")
    return exact(r, nbytes + (r.randrange(40) if way == 2 else 0), r.randrange(1, 9) if way == 3 else 0)


def instead(name: str, values: tuple[Any, ...], why: str = "") -> list[Spoil]:
    """Each of ``values`` in the place of one argument."""
    return [(f"{name} {why or repr(value)}", partial(dict, ((name, value),))) for value in values]


def picture(r: random.Random, prefix: str, low: int = 2, high: int = 80) -> tuple[Values, int]:
    """A right fourcc, width, height and stride, their names led by ``prefix``; and the bytes of it."""
    fourcc = r.choice(("NV12", "YUYV"))
    width, height = r.randrange(low, high, 2), r.randrange(low, high, 2)
    row = width if fourcc == "NV12" else 2 * width
    stride = r.choice((0, row, row + r.randrange(1, 9)))
    nbytes = (stride or row) * height * (3 if fourcc == "NV12" else 2) // 2
    code = fourcc if r.randrange(2) else int.from_bytes(fourcc.encode(), "little")
    names = ("fourcc", "width", "height", "stride")
    return dict(zip((prefix + name for name in names), (code, width, height, stride), strict=True)), nbytes


def no_picture(given: Values, prefix: str, fourccs: tuple[Any, ...] = NO_PICTURES) -> list[Spoil]:
    """What makes a picture of ``picture`` a wrong one."""
    taller = given[f"{prefix}height"] + 2  # than its buffer
    return [
        *(instead(f"{prefix}fourcc", fourccs) if f"{prefix}fourcc" in given else ()),
        *instead(f"{prefix}width", SIDES),
        *instead(f"{prefix}height", (*SIDES, taller)),
        *instead(f"{prefix}stride", STRIDES),
    ]


def no_buffer(r: random.Random, name: str, nbytes: int, writable: bool) -> list[Spoil]:
    """What is no buffer of ``nbytes`` bytes."""

    def released() -> Values:
        view = exact(r, nbytes)
        view.release()
        return {name: view}

    spoils: list[Spoil] = [
        *instead(name, NO_BUFFERS),
        (f"{name} a byte short", lambda: {name: exact(r, nbytes - 1)}),
        (f"{name} short", lambda: {name: exact(r, r.randrange(nbytes))}),
        (f"{name} released", released),
    ]
    if nbytes > 1:
        spoils += [
            (f"{name} with gaps", lambda: {name: exact(r, 2 * nbytes)[::2]}),
            (f"{name} backwards", lambda: {name: exact(r, nbytes)[::-1]}),
        ]
    if writable:
        spoils += [
            (f"{name} bytes", lambda: {name: bytes(nbytes)}),
            (f"{name} read-only", lambda: {name: exact(r, nbytes).toreadonly()}),
        ]
    return spoils


def no_pair(r: random.Random, src: int, dst: int) -> list[Spoil]:
    """What is no source and destination of so many bytes."""

    def overlapping(first: str, n: int, second: str, m: int, at: int) -> Values:
        whole = exact(r, at + max(m, n - at))
        return {first: whole[:n], second: whole[at : at + m]}

    return [
        *no_buffer(r, "src", src, writable=False),
        *no_buffer(r, "dst", dst, writable=True),
        ("dst inside src", lambda: overlapping("src", src, "dst", dst, 2 * r.randrange((src + 1) // 2))),
        ("src inside dst", lambda: overlapping("dst", dst, "src", src, 2 * r.randrange((dst + 1) // 2))),
        ("dst at src's last byte", lambda: overlapping("src", src, "dst", dst, src - 1)),
        ("src at dst's last byte", lambda: overlapping("dst", dst, "src", src, dst - 1)),
    ]


def wild(r: random.Random, value: Any) -> Any:
    """Something of the same kind, or of another."""
    if isinstance(value, bool) or value is None:
        return r.choice((True, False, None, 0, 1, "", 2**70))
    if isinstance(value, int):
        return r.choice((*NUMBERS, value - 1, value + 1, value + 2, 2 * value))
    if isinstance(value, float):
        return r.choice((*FLOATS, value * 2, -value))
    if isinstance(value, str):
        return r.choice((*NO_PICTURES, "NV12", "YUYV", "pRAA", "pBCC", "stretch", "portable", value.upper()))
    if isinstance(value, tuple):
        kept = len(value) - (r.randrange(8) == 0)
        return tuple(wild(r, each) if r.randrange(3) == 0 else each for each in value[:kept])
    if isinstance(value, memoryview):
        return exact(r, r.randrange(2 * value.nbytes + 2), r.randrange(3))
    return value


def given(r: random.Random, call: Call) -> tuple[str, bool | None, Values]:
    """Arguments for a call: what they are, whether they are right (None: that is not said), and themselves."""
    draw = r.random()
    if draw < 0.3:
        return "right", True, call.right
    if draw < 0.5:
        return "wild", None, {k: wild(r, v) if r.randrange(5) == 0 else v for k, v in call.right.items()}
    if draw < 0.7 and call.maybe:
        what, make = r.choice(call.maybe)
        return what, None, call.right | make()
    name = r.choice(sorted({_first(what) for what, _ in call.wrong}))
    what, make = r.choice([spoil for spoil in call.wrong if _first(spoil[0]) == name])
    return what, False, call.right | make()


def _first(what: str) -> str:
    """The argument that a spoil tells of, so that one with many wrong values does not crowd out the others."""
    return what.partition(" ")[0]


def perform(call: Call, what: str, right: bool | None, values: Values) -> bool:
    """Whether the call was taken. Surprise: a wrong one was, or a right one not, or it left something behind."""
    buffers = {k: v for k, v in values.items() if isinstance(v, memoryview)}
    buffers |= {f"{k}[{i}]": e for k, v in values.items() if isinstance(v, tuple) for i, e in enumerate(v)
                if isinstance(e, memoryview)}  # fmt: skip
    before = {name: _bytes(buffers[name]) for name in call.written if name in buffers}
    refusal: Exception | None = None
    try:
        call.run(values)
    except REFUSALS as error:
        refusal = error
    if right is False and refusal is None:
        raise Surprise(f"{call.name} took {what}")
    if right and refusal is not None:
        raise Surprise(f"{call.name} refused what is right: {refusal!r}")
    for name, old in before.items():
        if refusal is not None and _bytes(buffers[name]) != old:
            raise Surprise(f"{call.name} refused {what} and had written to {name}")
    for name, view in buffers.items():
        try:
            view.release()
        except BufferError as error:
            raise Surprise(f"{call.name} kept {name} of {what}: {error}") from error
    return refusal is None


def _bytes(view: memoryview) -> bytes | None:
    try:
        return view.tobytes()
    except ValueError:  # released
        return None
