# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.fuzz.pixels.calls EXTENSION FIRST COUNT NOTES``: every entry of it called, right and wrong.

EXTENSION was built under sanitizers, and their library has been loaded before: `build.py` and `sanitized.py` see to
that. NOTES is a file that always tells which case is being run, for the case that ends the process.
"""

from __future__ import annotations

import copy
import io
import os
import random
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any, Final

from PIL import Image

from tests.fuzz.pixels.call import (
    STRIDES,
    Call,
    Spoil,
    Surprise,
    Values,
    anywhere,
    exact,
    given,
    instead,
    no_buffer,
    no_pair,
    no_picture,
    perform,
    picture,
)

NOTE_BYTES: Final = 240
NAME: Final = "maglens_v4l2._pixels"


def load(path: str) -> Any:
    """The extension of this path under its own name."""
    spec = spec_from_loader(NAME, ExtensionFileLoader(NAME, path))
    if spec is None or spec.loader is None:
        raise ImportError(path)
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def image_bytes(ext: Any, r: random.Random) -> Call:
    shape, _ = picture(r, "")
    wrong = [spoil for spoil in no_picture(shape, "") if spoil[0] != f"height {shape['height'] + 2}"]
    return Call("image_bytes", lambda v: ext.image_bytes(*v.values()), shape, wrong)


def fill(ext: Any, r: random.Random) -> Call:
    shape, nbytes = picture(r, "")
    right = {**shape, "dst": anywhere(r, nbytes), "y": r.randrange(256), "u": r.randrange(256), "v": r.randrange(256)}
    colours = [spoil for name in "yuv" for spoil in instead(name, (-1, 256, 2**31 - 1, 2**40, "1", None))]
    wrong = [*no_picture(shape, ""), *no_buffer(r, "dst", nbytes, writable=True), *colours]
    return Call("fill", lambda v: ext.fill(*v.values()), right, wrong)


def turn(ext: Any, r: random.Random) -> Call:
    width, height = r.randrange(2, 80, 2), r.randrange(2, 80, 2)
    degrees = r.choice((0, 90, 180, 270))
    wide, high = (height, width) if degrees % 180 else (width, height)
    stride, out = (r.choice((0, side, side + 2 * r.randrange(5))) for side in (width, wide))
    src, dst = (stride or width) * height * 3 // 2, (out or wide) * high * 3 // 2
    right = {
        "width": width, "height": height, "stride": stride, "src": exact(r, src), "dst_stride": out,
        "dst": exact(r, dst), "degrees": degrees, "mirror": r.random() < 0.5,
    }  # fmt: skip
    wrong: list[Spoil] = [
        *no_picture(right, ""),
        *instead("dst_stride", (-(2**31), -1, 1, wide + 3 - wide % 2, 131073, 2**31)),
        *instead("stride", (width + 1, width + 3)),
        *instead("degrees", (-90, 1, 45, 360, 2**31 - 1, 2**31, "90", None)),
        *no_pair(r, src, dst),
        ("src at an odd address", lambda: {"src": exact(r, src, 1)}),
        ("dst at an odd address", lambda: {"dst": exact(r, dst, 1)}),
    ]
    return Call("turn", lambda v: ext.turn(*v.values()), right, wrong)


def recolour(ext: Any, r: random.Random) -> Call:
    shape, src = picture(r, "", high=300)
    shape["src_stride"] = shape.pop("stride")
    fourcc, width, height = (shape[name] for name in ("fourcc", "width", "height"))
    dst = ext.image_bytes(fourcc, width, height)
    weights = tuple(r.choice((-32768, 32767, r.randrange(-32768, 32768))) for _ in range(7))
    right = {
        **shape, "src": anywhere(r, src), "dst_stride": 0, "dst": exact(r, dst, r.randrange(2)),
        "black": r.randrange(256), "weights": weights, "level": r.choice((None, *ext.levels())),
    }  # fmt: skip
    wrong: list[Spoil] = [
        *(spoil for spoil in no_picture({**shape, "stride": 0}, "") if not spoil[0].startswith("stride")),
        *instead("src_stride", STRIDES), *instead("dst_stride", STRIDES), *no_pair(r, src, dst),
        *instead("black", (-1, 256, 2**31, "16", None)), *instead("level", NO_LEVEL),
        *instead("weights", (weights[:6], (*weights, 0), list(weights), (), 7, None)),
        *(spoil for k in range(7) for spoil in instead("weights", tuple(
            (*weights[:k], bad, *weights[k + 1 :]) for bad in (-32769, 32768, 2**31, 2**64, 1.0, "1", None)))),
    ]  # fmt: skip
    return Call("recolour", lambda v: ext.recolour(**v), right, wrong)


def copy_bytes(ext: Any, r: random.Random) -> Call:
    nbytes = r.choice((0, r.randrange(1, 3000)))
    right = {"src": anywhere(r, nbytes), "dst": anywhere(r, nbytes), "nbytes": nbytes}
    wrong = instead("nbytes", (-1, -(2**63), nbytes + 64, 2**31, 2**62, 2**63 - 1, 2**63, 1.0, None))
    wrong += no_pair(r, nbytes, nbytes) if nbytes else []
    return Call("copy", lambda v: ext.copy(*v.values()), right, wrong)


def raw(r: random.Random, prefix: str) -> tuple[Values, int]:
    """A right packed Bayer picture, and the bytes of it."""
    bits = r.choice((10, 12))
    fourcc = "p" + r.choice("RgGB") + {10: "AA", 12: "CC"}[bits]
    width, height = r.randrange(4, 280, 4), r.randrange(2, 100, 2)
    row = width * bits // 8
    stride = r.choice((0, row, row + r.randrange(1, 9)))
    names = ("fourcc", "width", "height", "stride")
    shape = dict(zip((prefix + name for name in names), (fourcc, width, height, stride), strict=True))
    return shape, (stride or row) * height


NO_RAW: Final = ("", "pRA", "pRAB", "pXAA", "qRAA", "NV12", "RAAp", "\ud800AAA", b"pRAA", -1, 0, 2**32, None)


def no_raw(shape: Values, prefix: str) -> list[Spoil]:
    """What makes it a wrong one: besides, widths are multiples of 4."""
    return [*no_picture(shape, prefix, NO_RAW), *instead(f"{prefix}width", (2, shape[f"{prefix}width"] + 2))]


def unpack(ext: Any, r: random.Random) -> Call:
    shape, src = raw(r, "")
    bits = r.choice((8, 16))
    dst = shape["width"] * shape["height"] * bits // 8
    right = {**shape, "src": anywhere(r, src), "bits": bits, "dst": anywhere(r, dst)}
    wrong = [*no_raw(shape, ""), *no_pair(r, src, dst), *instead("bits", (0, -8, 7, 10, 32, 2**31 - 1, 2**31, None))]
    return Call("unpack", lambda v: ext.unpack(*v.values()), right, wrong)


def crc32c(ext: Any, r: random.Random) -> Call:
    right = {"data": anywhere(r, r.choice((0, 1, r.randrange(20000)))), "init": r.randrange(2**32), "way": "portable"}
    wrong = [
        *instead("data", (None, 7, "text", object())),
        *instead("way", ("", "PORTABLE", "\ud800", b"portable", 5)),
        *instead("init", ("x", None, 1.5)),
        ("data with gaps", lambda: {"data": exact(r, 40)[::2]}),
    ]
    ways = instead("way", (None, "hardware", "vpclmul"))
    return Call("crc32c", lambda v: ext.crc32c(v["data"], v["init"], way=v["way"]), right, wrong, ways)


def inside(r: random.Random, width: int, height: int, across: int = 2) -> tuple[int, int, int, int] | None:
    """A right rectangle of it, x and width multiples of ``across``."""
    if r.randrange(2):
        return None
    w, h = r.randrange(across, width + 1, across), r.randrange(2, height + 1, 2)
    return r.randrange(0, width - w + 1, across), r.randrange(0, height - h + 1, 2), w, h


def no_rect(name: str, width: int, height: int) -> list[Spoil]:
    big = 2**31 - 2
    return instead(
        name,
        (
            (0, 0, width + 2, height), (0, 0, width, height + 2), (2, 0, width, height), (0, 2, width, height),
            (-2, 0, 2, 2), (0, -2, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0), (1, 0, 2, 2), (0, 0, 2, 1), (0, 0, 2),
            (big, 0, 2, 2), (2, 2, big, big), (0, 0, -big, 2), (0, 0, 2**31, 2), (0, 0, 2.0, 2),
            7, "text", [0, 0, 2, 2],
        ),
    )  # fmt: skip


PLACES: Final = ("fit", "rect", "level")
NO_FIT: Final = ("", "Stretch", "crop", b"stretch", 1, None)
NO_LEVEL: Final = ("", "sse9", "Portable", "\ud800", 3, b"portable")


def scaler(ext: Any, r: random.Random) -> Call:
    src, src_bytes = picture(r, "src_")
    dst, dst_bytes = picture(r, "dst_")
    width, height = dst["dst_width"], dst["dst_height"]
    shape = {**src, **dst}
    if r.randrange(3) == 0:
        shape |= {"dst_width": src["src_width"], "dst_height": src["src_height"], "dst_stride": 0}
        width, height = src["src_width"], src["src_height"]
        dst_bytes = ext.image_bytes(dst["dst_fourcc"], width, height)
    right = {
        **shape, "fit": r.choice(("stretch", "letterbox")), "rect": inside(r, width, height),
        "flip_x": r.random() < 0.5, "flip_y": r.random() < 0.5, "level": r.choice((None, *ext.levels())),
        "src": anywhere(r, src_bytes), "dst": anywhere(r, dst_bytes),
    }  # fmt: skip

    def run(v: Values) -> object:
        made = ext.Scaler(**{name: value for name, value in v.items() if name not in ("src", "dst")})
        x, y, w, h = made.placed
        if min(x, y) < 0 or w < 2 or h < 2:
            raise Surprise(f"Scaler places its picture at {made.placed}")
        return made.run(v["src"], v["dst"]), made.src_bytes, made.dst_bytes

    wrong = [
        *no_picture(shape, "src_"), *no_picture(shape, "dst_"), *no_pair(r, src_bytes, dst_bytes),
        *instead("fit", NO_FIT), *instead("level", NO_LEVEL), *no_rect("rect", width, height),
        ("the largest picture", lambda: {"src_width": 32768, "src_height": 32768, "src_stride": 131072}),
        ("to the largest picture", lambda: {"dst_width": 32768, "dst_height": 32768, "dst_stride": 131072}),
    ]  # fmt: skip
    return Call("Scaler", run, right, wrong)


CURVE: Final = array("H", [min(k * 8, 65535) for k in range(8193)])


def tuning(r: random.Random, bits: int) -> Values:
    """What a Developer takes."""
    falloff = memoryview(array("d", sorted(1 + r.random() for _ in range(r.randrange(2, 6)))))
    return {
        "black": float(r.randrange(100)),
        "white": 2.0**bits - 24,
        "gains": tuple(0.5 + r.random() for _ in range(3)),
        "matrix": (1.62, -0.45, -0.17, -0.31, 1.55, -0.24, 0.02, -0.61, 1.59),
        "curve": memoryview(CURVE),
        "falloff": r.choice((None, falloff)),
    }


def no_tuning(r: random.Random, right: Values) -> list[Spoil]:
    nan, far = float("nan"), float("inf")
    gains, matrix, white = right["gains"], right["matrix"], right["white"]
    steep, falling = array("H", CURVE), array("H", CURVE)
    steep[256], falling[4096], falling[8192] = 65535, 65535, 0
    steep[257:] = array("H", [65535]) * (len(steep) - 257)

    def doubles(*values: float) -> memoryview:
        return memoryview(array("d", values))

    falloffs = (
        doubles(1), doubles(1, nan), doubles(1, far), doubles(1, 0.2), doubles(0, 1), doubles(-1, 1), doubles(1, 4),
        doubles(1, 1e308), memoryview(array("d", [1.0]) * 1026), memoryview(array("d", [1.0]) * 70000),
        exact(r, 16, 1), exact(r, 40)[::2], 7, "text",
    )  # fmt: skip
    return [
        *instead("black", (-1.0, white, white + 1, nan, far, -far, 1e308, "0", None)),
        *instead("white", (0.0, right["black"], 4097.0, -1.0, nan, far, 1e308, None)),
        *(spoil for k in range(3) for spoil in instead("gains", tuple(
            (*gains[:k], bad, *gains[k + 1 :]) for bad in (0.0, -1.0, 9.0, nan, far, 1e308, "1")))),
        *instead("gains", (gains[:2], (*gains, 1.0), 1.0, None)),
        *(spoil for k in range(9) for spoil in instead("matrix", tuple(
            (*matrix[:k], bad, *matrix[k + 1 :]) for bad in (9.0, -9.0, nan, far, -far, 1e308)))),
        *instead("matrix", ((3.0, -5.0, 3.0, *matrix[3:]), matrix[:8], (*matrix, 0.0), None)),
        *instead("curve", (memoryview(steep),), "too steep"),
        *instead("curve", (memoryview(falling),), "falling"),
        *no_buffer(r, "curve", 2 * len(CURVE), writable=False),
        ("curve at an odd address", lambda: {"curve": exact(r, 2 * len(CURVE), 1)}),
        *instead("falloff", falloffs),
    ]  # fmt: skip


def developer(ext: Any, r: random.Random) -> Call:
    src, src_bytes = raw(r, "src_")
    dst, dst_bytes = picture(r, "dst_", high=140)
    crop = inside(r, src["src_width"], src["src_height"], across=4)
    wide, high = crop[2:] if crop else (src["src_width"], src["src_height"])
    most = min(32, (wide + 63) // 64), min(32, (high // 2 + 3) // 4)
    zones = r.randrange(1, most[0] + 1), r.randrange(1, most[1] + 1)
    measured = 8 * (7 * zones[0] * zones[1] + 128)
    tune = tuning(r, 10 if src["src_fourcc"].endswith("AA") else 12)
    right = {
        **src, **dst, "fit": r.choice(("stretch", "letterbox")), "crop": crop,
        "rect": inside(r, dst["dst_width"], dst["dst_height"]), "threads": r.randrange(1, 5), "zones": zones,
        "level": r.choice((None, *ext.levels())),
        **tune, "src": anywhere(r, src_bytes), "dst": anywhere(r, dst_bytes),
        "stats": r.choice((None, exact(r, measured))), "tuned": True,
    }  # fmt: skip
    at_run = ("src", "dst", "stats", "tuned")

    def run(v: Values) -> object:
        made = ext.Developer(**{name: v[name] for name in v if name not in (*tune, *at_run)})
        if v["tuned"]:
            made.tune(**{name: v[name] for name in tune})
        made.run(v["src"], v["dst"], v["stats"])
        return made.placed, made.reduces, made.src_bytes, made.dst_bytes, made.stats_bytes

    def over(name: str) -> Values:
        both = exact(r, max(right[name].nbytes, measured) + 8)
        return {name: both[: right[name].nbytes], "stats": both[8 : 8 + measured]}

    wrong: list[Spoil] = [
        *no_raw(src, "src_"), *no_picture(dst, "dst_"), *no_pair(r, src_bytes, dst_bytes), *no_tuning(r, right),
        *no_rect("rect", dst["dst_width"], dst["dst_height"]), *no_rect("crop", src["src_width"], src["src_height"]),
        *instead("crop", ((2, 0, 4, 2), (0, 0, 2, 2))), *instead("fit", NO_FIT), *instead("level", NO_LEVEL),
        *instead("threads", (-1, 0, 65, 2**31 - 1, 2**31, None)), *instead("tuned", (False,)),
        *instead("zones", ((0, 1), (1, 0), (33, 1), (1, 33), (most[0] + 1, 1), (1, most[1] + 1), (-1, 1),
                           (2**31 - 1, 2**31 - 1), (2**31, 1), (1,), 1, None)),
        *(spoil for spoil in no_buffer(r, "stats", measured, writable=True) if spoil[0] != "stats None"),
        ("stats at an odd address", lambda: {"stats": exact(r, measured, r.randrange(1, 8))}),
        ("stats over src", lambda: over("src")),
        ("stats over dst", lambda: over("dst")),
        ("the largest picture", lambda: {"src_width": 32768, "src_height": 32768, "src_stride": 0, "crop": None}),
        ("to the largest picture", lambda: {"dst_width": 32768, "dst_height": 32768, "dst_stride": 131072}),
    ]  # fmt: skip
    return Call("Developer", run, right, wrong, written=("dst", "stats"))


def decoder(ext: Any, r: random.Random) -> Call:
    shape, nbytes = picture(r, "")
    width, height = shape["width"], shape["height"]

    def coded(w: int = width, h: int = height, mode: str = "YCbCr", **options: Any) -> bytes:
        channels = {"L": 1, "YCbCr": 3, "CMYK": 4}[mode]
        out = io.BytesIO()
        Image.frombytes(mode, (w, h), r.randbytes(w * h * channels)).save(out, "JPEG", **options)
        return out.getvalue()

    def block(data: bytes) -> Values:
        view = exact(r, len(data))
        view[:] = data
        return {"src": view}

    def damaged() -> Values:
        data = bytearray(plain)
        for _ in range(r.randrange(1, 9)):
            data[r.randrange(len(data))] = r.randrange(256)
        return block(bytes(data[: r.randrange(1, len(data) + 1)] if r.randrange(2) else data))

    plain = coded(mode=r.choice(("L", "YCbCr")), quality=r.randrange(1, 100), subsampling=r.randrange(3))
    right = {**shape, **block(plain), "dst": anywhere(r, nbytes)}
    wrong: list[Spoil] = [
        *no_picture(shape, ""),
        *no_buffer(r, "dst", nbytes, writable=True),
        *instead("src", (None, 7, "text", b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", plain[:20])),
        ("src noise", lambda: {"src": exact(r, r.randrange(1, 400))}),
        ("src with gaps", lambda: {"src": exact(r, 400)[::2]}),
        ("src too long", lambda: {"src": memoryview(array("B", b"\0") * ((48 << 20) + 1))}),
        ("src of another size", lambda: block(coded(w=width + 2))),
        ("src progressive", lambda: block(coded(progressive=True))),
        ("src CMYK", lambda: block(coded(mode="CMYK"))),
    ]
    maybe: list[Spoil] = [("src damaged", damaged)]

    def run(v: Values) -> object:
        made = ext.JpegDecoder(v["fourcc"], v["width"], v["height"], v["stride"])
        try:
            return made.run(v["src"], v["dst"])
        except ValueError:  # the same decoder goes on: by another buffer, for the first must be as it was
            with exact(r, max(1, made_bytes(v))) as other, memoryview(plain) as good:
                if (v["width"], v["height"]) == (width, height) and made.run(good, other) is not None:
                    raise Surprise("JpegDecoder, after a bad frame, warns of a good one") from None
            raise

    def made_bytes(v: Values) -> int:
        return int(ext.image_bytes(v["fourcc"], v["width"], v["height"], v["stride"]))

    return Call("JpegDecoder", run, right, wrong, maybe)


def _value(make: Callable[[], Values]) -> Any:
    (value,) = make().values()
    return value


def remap(ext: Any, r: random.Random) -> Call:
    width, height = r.randrange(4, 40, 2), r.randrange(4, 40, 2)
    strides = [r.choice((0, width, width + r.randrange(1, 9))) for _ in range(2)]
    src, dst = ((stride or width) * height * 3 // 2 for stride in strides)

    def table(n: int, w: int, h: int) -> tuple[memoryview, memoryview, memoryview]:
        def places(side: int) -> memoryview:
            if r.randrange(3) == 0:
                return exact(r, 4 * n).cast("i")
            return memoryview(array("i", [r.randrange(-300, 256 * side + 600) for _ in range(n)]))

        return places(w), places(h), exact(r, 2 * n).cast("H")

    counts = {"luma": (width * height, width, height), "chroma": (width * height // 4, width // 2, height // 2)}
    right: Values = {
        "width": width, "height": height, "src_stride": strides[0], "dst_stride": strides[1],
        **{name: table(*of) for name, of in counts.items()}, "src": anywhere(r, src), "dst": anywhere(r, dst),
    }  # fmt: skip

    def in_table(name: str, k: int, what: str, make: Callable[[], Any]) -> Spoil:
        return f"{name}[{k}] {what}", lambda: {name: (*right[name][:k], make(), *right[name][k + 1 :])}

    wrong: list[Spoil] = [
        *(spoil for spoil in no_picture({"height": height}, "") if "stride" not in spoil[0]),
        *instead("width", (2,)), *instead("height", (2,)),
        *(spoil for name in ("src_stride", "dst_stride") for spoil in instead(name, (-1, 1, 131073, 2**31, None))),
        *no_pair(r, src, dst),
    ]  # fmt: skip
    for name, (n, _, _) in counts.items():
        wrong += instead(name, (None, 7, (), right[name][:2], (*right[name], right[name][0]), list(right[name])))
        for k, item in enumerate((4, 4, 2)):
            for what, make in no_buffer(r, "part", item * n, writable=False):
                wrong.append(in_table(name, k, what, partial(_value, make)))
            odd = partial(exact, r, item * n, r.randrange(1, item))
            wrong.append(in_table(name, k, "at an odd address", odd))

    def huge() -> Values:
        tables = (table(4 * 32768, 4, 32768), table(2 * 16384, 2, 16384))
        shape = {"width": 4, "height": 32768, "src_stride": 131072, "dst_stride": 4}
        return {**shape, "luma": tables[0], "chroma": tables[1]}

    wrong.append(("a plane of 4 GiB", huge))

    def run(v: Values) -> object:
        made = ext.Remap(v["width"], v["height"], v["src_stride"], v["dst_stride"], v["luma"], v["chroma"])
        return made.run(v["src"], v["dst"])

    return Call("Remap", run, right, wrong)


def objects(ext: Any, r: random.Random) -> Call:
    """Python's own ways into an object."""
    kinds = (ext.Scaler, ext.Developer, ext.JpegDecoder, ext.Remap)
    kind = r.choice(kinds)
    decoder = ext.JpegDecoder("NV12", 2, 2)
    ways: dict[str, Callable[[], object]] = {
        "no arguments": kind,
        "object.__new__": lambda: object.__new__(kind),
        "a subclass": lambda: type("Sub", (kind,), {}),
        "another's method": lambda: ext.Scaler.run(decoder, b"", b""),
        "no self": kind.run,
        "copy": lambda: copy.copy(decoder),
        "an unknown keyword": lambda: kind(nonsense=1),
        "too many": lambda: kind(*range(40)),
        "reduce": lambda: decoder.__reduce_ex__(4),
    }
    wrong = instead("way", tuple(ways))
    return Call("objects", lambda v: ways[v["way"]]() if v["way"] in ways else None, {"way": "nothing"}, wrong)


ENTRIES: Final = (
    image_bytes, fill, turn, recolour, copy_bytes, unpack, crc32c, scaler, developer, decoder, remap, objects,
)  # fmt: skip
WEIGHTS: Final = (2, 3, 4, 4, 2, 4, 3, 6, 12, 6, 8, 1)


def noted(what: str) -> bytes:
    """A note that covers the one before."""
    return what.encode(errors="replace")[:NOTE_BYTES].ljust(NOTE_BYTES)


def main(arguments: list[str]) -> int:
    """1 at the first surprise; a sanitizer ends the process by itself."""
    path, first, count, notes = arguments[0], int(arguments[1]), int(arguments[2]), arguments[3]
    ext = load(path)
    seen: Counter[str] = Counter()
    note = os.open(notes, os.O_WRONLY | os.O_CREAT, 0o644)
    for seed in range(first, first + count):
        r = random.Random(seed)
        os.pwrite(note, noted(f"seed {seed}"), 0)
        call = r.choices(ENTRIES, WEIGHTS)[0](ext, r)
        what, right, values = given(r, call)
        os.pwrite(note, noted(f"seed {seed}: {call.name}, {what}"), 0)
        try:
            seen["taken" if perform(call, what, right, values) else "refused"] += 1
        except Surprise as surprise:
            print(f"seed {seed}: {surprise}", file=sys.stderr)
            return 1
        seen[call.name] += 1
    print(", ".join(f"{name} {n}" for name, n in sorted(seen.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
