# SPDX-License-Identifier: GPL-2.0-or-later
"""Lens files become descriptors that the protocol allows, and optics follow from them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.control import Cid
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import MJPG, NV12
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.virtual import lens as lens_module
from maglens_driver.virtual.lens import LensError, lens_names, load_lens
from maglens_driver.virtual.optics import Optics

OWN = Path(lens_module.__file__).with_name("lenses")


@pytest.mark.parametrize("name", lens_names())
def test_descriptors_survive_the_wire(name: str) -> None:
    descriptor = load_lens(name).with_serial("S1").descriptor
    assert Descriptor.unpack(descriptor.pack()) == descriptor
    assert descriptor.identity.serial == "S1"


def test_the_three_lenses_are_as_promised() -> None:
    facts = {n: load_lens(n).descriptor.lens for n in ("35mm", "73mm", "234mm")}
    assert {n: (f.focal_um[0] // 1000, f.fnumber_milli) for n, f in facts.items()} == {
        "35mm": (35, (1400, 11000)),
        "73mm": (73, (1800, 16000)),
        "234mm": (234, (4000, 22000)),
    }
    assert len({load_lens(n).mark for n in lens_names()}) == len(lens_names())


def test_modes_carry_their_price() -> None:
    modes = load_lens("35mm").descriptor.modes
    full = next(m for m in modes if (m.width, m.fourcc, m.interval) == (1920, NV12, Fraction(1, 30)))
    assert full.mbit_s == 747  # 1920 * 1080 * 1.5 * 8 * 30 = 746.5 Mbit/s and 112 bytes a frame
    assert all(m.mbit_s < 330 for m in modes if m.fourcc == MJPG)
    assert all(m.mw > 0 for m in modes)


def test_blur_follows_the_thin_lens() -> None:
    """35 mm at f/1.4 focused at infinity, a point at 2 m: c = A f / d = 25 mm * 35 mm / 2000 mm = 0.4375 mm."""
    optics = Optics(35, 17.3, 1.4, 0.0, 0.008, 1.0, 5600)
    assert optics.blur_pixels(2.0, 1730) == pytest.approx(43.75)
    assert optics.blur_pixels(float("inf"), 1730) == 0


def test_iris_at_its_most_is_the_widest_stop() -> None:
    module = load_lens("35mm").descriptor
    iris = next(c for c in module.controls if c.id == Cid.IRIS_ABSOLUTE)
    assert Optics.of(module, {Cid.IRIS_ABSOLUTE: iris.maximum}).fnumber == pytest.approx(1.4, rel=0.01)
    assert Optics.of(module, {Cid.IRIS_ABSOLUTE: 0}).fnumber == pytest.approx(11)
    one_stop = Optics.of(module, {Cid.IRIS_ABSOLUTE: 100}).brightness() / Optics.of(module, {}).brightness()
    assert one_stop == pytest.approx(2)


def test_a_lens_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(LensError) as caught:
        load_lens("../35mm")
    assert "35mm" in caught.value.hint


def test_a_wrong_lens_names_file_and_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (OWN / "35mm.toml").read_text()
    monkeypatch.setenv(ENV_LENS_PATH, str(tmp_path))
    for name, changed, told in (
        ("a", text.replace('cfa = "RGGB"', 'cfa = "RGBG"'), "sensor.cfa"),
        ("b", text.replace("near_mm", "nearest"), "near_mm"),
        ("c", text.replace("iris =", "irise ="), "irise"),
        ("d", text.replace("mark = 35", "mark = 350"), "mark"),
        ("e", "[lens", "e.toml"),
    ):
        (tmp_path / f"{name}.toml").write_text(changed)
        with pytest.raises(LensError, match=told):
            load_lens(name)
    (tmp_path / "my.toml").write_text(text)
    assert load_lens("my").descriptor.lens.name == "35 mm f/1.4"
    assert "my" in lens_names()
