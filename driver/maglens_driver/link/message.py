# SPDX-License-Identifier: MIT
"""Message: wire structures declared once, as data. Little-endian, no padding.

A structure is a frozen dataclass whose fields are made by :func:`u8` to :func:`i64`; ``@message`` derives the
layout. Decoding looks at length, then magic, then version, then fields; bytes behind the known fields are ignored,
so that a newer minor version can append.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

from maglens_driver.errors import BadModule

Buffer = bytes | bytearray | memoryview


def _number(code: str, doc: str, default: int | None) -> Any:
    metadata = {"code": code, "doc": doc}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)


def u8(doc: str, *, default: int | None = None) -> Any:
    """Unsigned 8-bit field."""
    return _number("B", doc, default)


def u16(doc: str, *, default: int | None = None) -> Any:
    """Unsigned 16-bit field."""
    return _number("H", doc, default)


def u32(doc: str, *, default: int | None = None) -> Any:
    """Unsigned 32-bit field."""
    return _number("I", doc, default)


def i32(doc: str, *, default: int | None = None) -> Any:
    """Signed 32-bit field."""
    return _number("i", doc, default)


def u64(doc: str, *, default: int | None = None) -> Any:
    """Unsigned 64-bit field."""
    return _number("Q", doc, default)


def i64(doc: str, *, default: int | None = None) -> Any:
    """Signed 64-bit field."""
    return _number("q", doc, default)


@dataclass(frozen=True)
class FieldLayout:
    """Where one field lies: offset and size in bytes, struct code, meaning."""

    name: str
    offset: int
    size: int
    code: str
    doc: str


class Message:
    """Base of all wire structures; ``@message`` fills the class variables."""

    __slots__ = ()
    WIRE: ClassVar[struct.Struct]
    SIZE: ClassVar[int]
    NAMES: ClassVar[tuple[str, ...]]

    def pack(self) -> bytes:
        """The structure as bytes."""
        return self.WIRE.pack(*self._values())

    def pack_into(self, target: bytearray | memoryview, offset: int = 0) -> None:
        """Write the structure at ``offset`` of ``target``."""
        self.WIRE.pack_into(target, offset, *self._values())

    def _values(self) -> list[int]:
        # A list: CPython makes a tuple of a generator longer than it has to be and cuts it, so that each one packed
        # leaves one more tuple with the interpreter's spare ones, up to 2000, which looks like a leak.
        return [getattr(self, name) for name in self.NAMES]

    @classmethod
    def unpack(cls, raw: Buffer, offset: int = 0) -> Self:
        """Read the structure at ``offset``; too few bytes raise ``BadModule("length")``."""
        if len(raw) - offset < cls.SIZE:
            have = max(0, len(raw) - offset)
            raise BadModule("length", f"{cls.__name__} takes {cls.SIZE} bytes, {have} came")
        return cls(*cls.WIRE.unpack_from(raw, offset))

    @classmethod
    def layout(cls) -> tuple[FieldLayout, ...]:
        """Byte layout, for the documentation and its test."""
        result, offset = [], 0
        for f in fields(cls):  # type: ignore[arg-type]
            code = f.metadata["code"]
            size = struct.calcsize("<" + code)
            result.append(FieldLayout(f.name, offset, size, code, f.metadata["doc"]))
            offset += size
        return tuple(result)


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True, field_specifiers=(u8, u16, u32, i32, u64, i64))
def message(size: int) -> Callable[[type[M]], type[M]]:
    """Make a class a wire structure of exactly ``size`` bytes; a layout that does not add up fails at import."""

    def decorate(cls: type[M]) -> type[M]:
        made = dataclass(frozen=True, slots=True)(cls)
        names = tuple(f.name for f in fields(made))  # type: ignore[arg-type]
        wire = struct.Struct("<" + "".join(f.metadata["code"] for f in fields(made)))  # type: ignore[arg-type]
        if wire.size != size:
            raise TypeError(f"{cls.__name__} is declared as {size} bytes but its fields take {wire.size}")
        made.WIRE, made.SIZE, made.NAMES = wire, size, names
        return made

    return decorate
