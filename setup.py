# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the pixel kernel; everything else about the package stands in setup.cfg."""

from pathlib import Path

from setuptools import Extension, setup

PIXELS = Path("v4l2_bridge/maglens_v4l2/pixels")

setup(
    ext_modules=[
        Extension(
            "maglens_v4l2._pixels",
            sources=sorted(str(p) for p in PIXELS.glob("*.c")),
            depends=sorted(str(p) for p in PIXELS.glob("*.h")),
            libraries=["turbojpeg"],
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_POSIX_C_SOURCE", "200809L")],
            py_limited_api=True,
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-Wall",
                "-Wextra",
                "-fvisibility=hidden",
                "-fno-math-errno",
                "-ffp-contract=off",  # tables are computed in floats, alike on every processor
                "-pthread",
            ],
            extra_link_args=["-pthread"],
        )
    ]
)
