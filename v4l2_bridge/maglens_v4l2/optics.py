# SPDX-License-Identifier: GPL-2.0-or-later
"""Optics: what a bare lens before a camera does to that camera's pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Calibration, Descriptor, Lens, Profile
from maglens_driver.mode import Mode
from maglens_v4l2.convert import Converter
from maglens_v4l2.orientation import UPRIGHT, Orientation, upright_converter
from maglens_v4l2.recipe_book import Measured, RecipeBook


@dataclass(frozen=True, slots=True)
class Optics:
    """``profile`` and ``calibration`` as the descriptor has them; ``lens`` for what is told of each frame."""

    lens: Lens
    profile: Profile
    calibration: Calibration

    def meta(self, meta: Meta) -> Meta:
        """How a picture was taken through it: what a lens without a ring that can be read is known to have."""
        focal, stop = self.lens.focal_um, self.lens.fnumber_milli
        return replace(
            meta,
            focal_um=focal[0] if focal[0] == focal[1] else 0,
            fnumber_milli=stop[0] if stop[0] == stop[1] else 0,
            focus_cdpt=0,
            focus_udpt=0,
        )

    @classmethod
    def of(cls, descriptor: Descriptor) -> Optics:
        """Those of a module that is optics only."""
        return cls(descriptor.lens, descriptor.profile or Profile(), descriptor.calibration)


def through(
    optics: Optics | None,
    src: Mode,
    dst: Mode,
    orientation: Orientation = UPRIGHT,
    book: RecipeBook | None = None,
    measured: Measured | None = None,
    like: Converter | None = None,
) -> Converter | None:
    """:func:`upright_converter`, through a lens where there is one: that takes seconds to make for a large picture,
    but not where there is one ``like`` it, from the same source through the same lens to another format."""
    if optics is None:
        return upright_converter(src, dst, orientation, book, measured)
    from maglens_v4l2.correcting import OpticsConverter  # numpy: 12 MB, for a bare lens only

    if isinstance(like, OpticsConverter):
        return like.to(dst)
    return OpticsConverter(optics, src, dst, orientation, book, measured)
