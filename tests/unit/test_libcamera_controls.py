# SPDX-License-Identifier: GPL-2.0-or-later
"""LibcameraSource's controls and formats, of libcameras with but one switch for exposure and of newer ones."""

from __future__ import annotations

import pytest

from maglens_driver.automatics import switches_to_end
from maglens_driver.control import Cid
from maglens_driver.errors import Refused
from maglens_driver.libcamera import control_map
from maglens_driver.libcamera.packet import FrameBody
from maglens_driver.libcamera.source import LibcameraSource
from tests.unit.test_libcamera_source import Sink, scenario


def test_newer_libcamera_has_more() -> None:
    async def body(source: LibcameraSource) -> None:
        controls = {c.id: c for c in source.controls}
        assert controls[Cid.WHITE_BALANCE_TEMPERATURE].maximum == 8000
        assert controls[Cid.EXPOSURE_AUTO].default == 0

    scenario(body, generation="0.7")


async def written(source: LibcameraSource, *writes: dict[int, int]) -> list[dict[int, int]]:
    """What a source makes of these, one after the other: exposure's switch, gain's, and gain."""
    shown = (Cid.EXPOSURE_AUTO, Cid.AUTOGAIN, Cid.GAIN)
    told: list[dict[int, int]] = []
    for values in writes:
        told.append(dict(await source.set(values)))
        now = await source.get()
        assert {c: v for c, v in told[-1].items() if c in shown}.items() <= {c: now[c] for c in shown}.items()
    return told


def test_gain_has_a_switch_that_an_older_libcamera_shares_with_exposure() -> None:
    """Else nobody ends the automatic for a gain that a person sets, and it is overwritten with the next frame."""

    async def body(source: LibcameraSource) -> None:
        assert switches_to_end(Cid.GAIN, await source.get()) == {Cid.AUTOGAIN: 0}
        ended, taken, again = await written(source, {Cid.AUTOGAIN: 0}, {Cid.GAIN: 4000}, {Cid.EXPOSURE_AUTO: 0})
        assert ended == {Cid.AUTOGAIN: 0, Cid.EXPOSURE_AUTO: 1}
        assert taken == {Cid.GAIN: 4000}
        assert again == {Cid.EXPOSURE_AUTO: 0, Cid.AUTOGAIN: 1}

    scenario(body)


def test_a_newer_libcamera_has_a_switch_for_each() -> None:
    async def body(source: LibcameraSource) -> None:
        assert switches_to_end(Cid.GAIN, await source.get()) == {Cid.AUTOGAIN: 0}
        assert await written(source, {Cid.AUTOGAIN: 0}, {Cid.EXPOSURE_AUTO: 1}, {Cid.AUTOGAIN: 1}) == [
            {Cid.AUTOGAIN: 0},
            {Cid.EXPOSURE_AUTO: 1},
            {Cid.AUTOGAIN: 1},
        ]

    scenario(body, generation="0.7")


def test_a_gain_that_a_person_set_stays() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(source.modes[0])
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: (1, Cid.GAIN, 2500) in sink.controls)
        await source.set({Cid.AUTOGAIN: 0, Cid.GAIN: 4000})
        await sink.until(lambda: sink.frames[-1].meta.gain_milli == 4000)
        told = len(sink.controls)
        await sink.until(lambda: len(sink.frames) > 20)
        assert (await source.get())[Cid.GAIN] == 4000
        assert not [told for told in sink.controls[told:] if told[1] == Cid.GAIN]

    scenario(body, generation="0.7")


EXPOSED = FrameBody(**{f: 0 for f in FrameBody.__dataclass_fields__} | {"exposure_us": 20000, "gain_milli": 3000})


@pytest.mark.parametrize(
    ("exposure", "gain", "told"),
    [
        (0, 1, {Cid.EXPOSURE_ABSOLUTE: 200, Cid.GAIN: 3000}),
        (0, 0, {Cid.EXPOSURE_ABSOLUTE: 200}),
        (1, 1, {Cid.GAIN: 3000}),
        (1, 0, {}),
    ],
)
def test_a_frame_tells_of_what_an_automatic_drives(exposure: int, gain: int, told: dict[int, int]) -> None:
    values: dict[int, int] = {Cid.EXPOSURE_AUTO: exposure, Cid.AUTOGAIN: gain, Cid.EXPOSURE_ABSOLUTE: 1, Cid.GAIN: 1}
    assert control_map.readings(EXPOSED, values) == told


def test_a_camera_of_a_software_isp_is_refused_by_its_formats() -> None:
    """It makes RGB alone, which nobody converts here."""
    with pytest.raises(Refused, match="it offers XR24, RG24, and maglens takes NV12, YUYV, MJPG") as caught:
        scenario(nothing, rgb=True)
    assert "cam -c 1 --info" in caught.value.hint


async def nothing(source: LibcameraSource) -> None:
    raise AssertionError(source.modes)
