# SPDX-License-Identifier: MIT
"""Mutations of valid bytes and of decoded documents."""

from __future__ import annotations

import random
from typing import Any

_NUMBERS = (0, 1, -1, 23, 24, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, -(2**63))
_TEXTS = ("", "x", "x" * 64, "x" * 65, "\0", "a/b", "é" * 32, "\u202e", "NV12", "focus")


def mutate(rng: random.Random, raw: bytes) -> bytes:
    """A few random edits: bits, bytes, interesting numbers, cuts, repeats."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                data[at:at] = data[at : at + rng.randint(1, 64)]
            case 5:
                size = rng.choice((2, 4, 8))
                data[at : at + size] = (rng.choice(_NUMBERS) % (1 << 8 * size)).to_bytes(
                    size, rng.choice(("little", "big"))
                )
            case _:
                del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


def value(rng: random.Random, depth: int = 0) -> Any:
    """A random value that a descriptor could hold."""
    match rng.randrange(8 if depth < 4 else 5):
        case 0:
            return rng.choice(_NUMBERS)
        case 1:
            return rng.choice(_TEXTS)
        case 2:
            return rng.choice((None, True, False))
        case 3:
            return rng.randbytes(rng.randrange(5))
        case 4:
            return rng.randint(-1000, 100_000)
        case 5 | 6:
            return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
        case _:
            return {rng.choice(_TEXTS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def mutate_document(rng: random.Random, document: Any) -> Any:
    """``document`` with one place replaced, removed or doubled; changes it."""
    at = document
    while True:
        if isinstance(at, dict) and at:
            key: Any = rng.choice(sorted(at))
        elif isinstance(at, list) and at:
            key = rng.randrange(len(at))
        else:
            return value(rng)
        if isinstance(at[key], dict | list) and rng.random() < 0.7:
            at = at[key]
            continue
        match rng.randrange(4):
            case 0:
                del at[key]
            case 1 if isinstance(at, list):
                at.extend([at[key]] * rng.choice((1, 5, 70, 300)))
            case _:
                at[key] = value(rng)
        return document
