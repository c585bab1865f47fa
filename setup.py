# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the pixel kernel; everything else about the package stands in setup.cfg."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = sorted(str(p) for p in Path("v4l2_bridge/maglens_v4l2/pixels").glob("*.c"))

setup(
    ext_modules=[
        Extension(
            "maglens_v4l2._pixels",
            sources=SOURCES,
            libraries=["turbojpeg"],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-fno-math-errno"],
        )
    ]
)
