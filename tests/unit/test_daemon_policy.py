# SPDX-License-Identifier: GPL-2.0-or-later
"""The pure parts: budget, ports, choice of mode, choice of source."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.budget import Ask, Limits, allot
from maglens_daemon.config import Config, LinkConfig, PortConfig, PowerConfig, Rule
from maglens_daemon.mode_choice import Means, choose_mode, obstacle
from maglens_daemon.policy import Rules, SourceState, choose
from maglens_daemon.port import make_port, offers
from maglens_driver.link.pd import FixedPdo
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, fourcc, make_mode

FPS30, FPS15, FPS60 = Fraction(1, 30), Fraction(1, 15), Fraction(1, 60)
NODE = make_mode(NV12, 1280, 720, FPS30)


# --- budget ---------------------------------------------------------------------------------------------------

BUDGETS: list[tuple[str, Limits, list[Ask], dict[str, int]]] = [
    ("one gets all it wants", Limits(None, {"a": 4500}), [Ask("a", 500, 2500)], {"a": 2500}),
    ("the port limits", Limits(None, {"a": 2000}), [Ask("a", 500, 2500)], {"a": 2000}),
    ("the total limits", Limits(1500, {}), [Ask("a", 500, 2500)], {"a": 1500}),
    ("less than the least is nothing", Limits(400, {}), [Ask("a", 500, 2500)], {"a": 0}),
    ("a port below the least is nothing", Limits(None, {"a": 400}), [Ask("a", 500, 2500)], {"a": 0}),
    ("the first has the rest", Limits(3000, {}), [Ask("a", 500, 2500), Ask("b", 500, 2500)], {"a": 2500, "b": 500}),
    ("priority goes first", Limits(3000, {}), [Ask("a", 500, 2500), Ask("b", 500, 2500, 1)], {"a": 500, "b": 2500}),
    (
        "nobody starves for another's most",
        Limits(1000, {}),
        [Ask("a", 500, 1000, 9), Ask("b", 500, 600)],
        {"a": 500, "b": 500},
    ),
    ("the one that does not fit", Limits(1200, {}), [Ask("a", 1000, 1000), Ask("b", 500, 500)], {"a": 1000, "b": 0}),
    ("nobody asks", Limits(1000, {}), [], {}),
]


@pytest.mark.parametrize(("limits", "asks", "shares"), [b[1:] for b in BUDGETS], ids=[b[0] for b in BUDGETS])
def test_allot(limits: Limits, asks: list[Ask], shares: dict[str, int]) -> None:
    assert allot(limits, asks) == shares


@st.composite
def situations(draw: st.DrawFn) -> tuple[Limits, list[Ask]]:
    ports = draw(st.lists(st.sampled_from("abcdef"), unique=True))
    asks = []
    for port in ports:
        least = draw(st.integers(0, 5000))
        asks.append(Ask(port, least, least + draw(st.integers(0, 5000)), draw(st.integers(-2, 2))))
    total = draw(st.none() | st.integers(0, 20_000))
    return Limits(total, draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9000)))), asks


@given(situations())
def test_allot_never_promises_what_is_not_there(situation: tuple[Limits, list[Ask]]) -> None:
    limits, asks = situation
    shares = allot(limits, asks)
    assert set(shares) == {ask.port for ask in asks}
    assert limits.total_mw is None or sum(shares.values()) <= limits.total_mw
    for ask in asks:
        share = shares[ask.port]
        assert share == 0 or ask.least_mw <= share <= ask.most_mw
        assert share <= limits.port_mw.get(ask.port, share)


# --- ports ----------------------------------------------------------------------------------------------------


def test_a_port_without_configuration_has_usbs_own_limits() -> None:
    slow, fast = make_port("1-1", 480, Config()), make_port("2-1", 5000, Config())
    assert (slow.limit_mw, slow.usable_mbit_s) == (2500, 360)
    assert (fast.limit_mw, fast.usable_mbit_s) == (4500, 3750)
    assert slow.label == "1-1"


def test_a_configured_port() -> None:
    settings = PortConfig(name="back", max_mw=7500, max_mbit_s=1000, priority=2)
    config = Config(port={"2-1": settings}, link=LinkConfig(derating=0.5), power=PowerConfig(usb3_ma=100))
    port = make_port("2-1", 5000, config)
    assert (port.limit_mw, port.usable_mbit_s, port.priority) == (7500, 500, 2)
    assert port.label == "back (2-1)"


def test_every_camera_of_a_device_is_at_its_port() -> None:
    """One that sees in the dark beside one that sees colours, say. A name means one of them."""
    config = Config(port={"1-4": PortConfig(name="back", enabled=False, usb=("2-4",))})
    for path, name in (("1-4", "back"), ("1-4:1.2", "1-4:1.2"), ("2-4:1.2", "2-4:1.2")):
        port = make_port(path, 0, config)
        assert (port.enabled, port.name) == (False, name)
    for other in ("1-40:1.2", "libcamera:1-4", "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:4:1.0-video-index0"):
        assert make_port(other, 0, config).enabled


def test_offers_are_five_volt_in_steps() -> None:
    assert offers(2500) == (FixedPdo(5000, 500),)
    assert offers(2549) == (FixedPdo(5000, 500),)
    assert offers(49) == ()


# --- modes ----------------------------------------------------------------------------------------------------


def mode(code: int, width: int, height: int, interval: Fraction = FPS30, mbit_s: int = 0, mw: int = 0) -> Mode:
    if code == MJPG:
        return Mode(code, width, height, 0, width * height // 2, interval, mbit_s, mw)
    return make_mode(code, width, height, interval, mbit_s=mbit_s, mw=mw)


SAME = mode(NV12, 1280, 720, mbit_s=332, mw=1700)
FULL = mode(NV12, 1920, 1080, mbit_s=747, mw=2300)
SMALL = mode(NV12, 640, 480, mbit_s=111, mw=1200)
SQUARISH = mode(NV12, 960, 720)
OTHER = mode(YUYV, 1280, 720, mbit_s=443, mw=1700)
SLOW = mode(NV12, 1280, 720, FPS15, mbit_s=166, mw=1400)
FAST = mode(NV12, 1280, 720, FPS60, mbit_s=664, mw=2000)
JPEG = mode(MJPG, 1280, 720, mbit_s=111, mw=1700)
RAW = mode(fourcc("pRAA"), 1280, 720, mbit_s=10)
ENOUGH = Means(10_000, 10_000)

CHOICES: list[tuple[str, list[Mode], Means, Mode | None]] = [
    ("the same passes through", [FULL, OTHER, FAST, SAME, JPEG], ENOUGH, SAME),
    ("larger before smaller", [SMALL, FULL], ENOUGH, FULL),
    ("same size in another format before larger", [FULL, OTHER], ENOUGH, OTHER),
    ("no larger than what is seen of it", [mode(NV12, 3840, 2880), SQUARISH], ENOUGH, SQUARISH),
    ("uncompressed before compressed", [JPEG, OTHER], ENOUGH, OTHER),
    ("smooth before detailed", [SLOW, SMALL], ENOUGH, SMALL),
    ("compressed when the link is slow", [SAME, SMALL, JPEG], Means(200, 10_000), JPEG),
    ("smaller when power is short", [SAME, SMALL], Means(10_000, 1500), SMALL),
    ("slower when nothing else fits", [SAME, SLOW], Means(10_000, 1500), SLOW),
    ("no limits", [SAME], Means(), SAME),
    ("raw is developed", [RAW], ENOUGH, RAW),
    ("what is no picture is not", [mode(fourcc("BA81"), 1280, 720)], ENOUGH, None),
    ("smaller when memory is short", [SAME, SMALL], Means(frame_bytes=SAME.nbytes - 1), SMALL),
    ("nothing fits", [SAME, SMALL], Means(100, 10_000), None),
    ("no sensor", [], ENOUGH, None),
]


@pytest.mark.parametrize(("modes", "means", "wanted"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_choose_mode(modes: list[Mode], means: Means, wanted: Mode | None) -> None:
    assert choose_mode(modes, NODE, means).mode == wanted
    assert choose_mode(list(reversed(modes)), NODE, means).mode == wanted


def test_raw_where_the_maker_prefers_it() -> None:
    assert choose_mode([RAW, SAME], NODE, ENOUGH).mode == RAW
    assert choose_mode([SAME, RAW], NODE, ENOUGH).mode == SAME
    assert choose_mode([RAW, FULL], NODE, Means(10_000, 10_000)).mode == RAW
    assert choose_mode([replace(RAW, mbit_s=11_000), SAME], NODE, ENOUGH).mode == SAME


def test_mjpeg_is_passed_on_or_there_is_none() -> None:
    node = mode(MJPG, 1280, 720)
    assert choose_mode([SAME, JPEG], node, ENOUGH).mode == JPEG
    refused = choose_mode([SAME, mode(MJPG, 640, 480)], node, ENOUGH)
    assert refused.mode is None
    assert refused.reason == "an app asks for MJPEG of 1280x720, which it does not make"


def test_why_nothing_fits_names_the_least() -> None:
    reason = choose_mode([SAME, SMALL], NODE, Means(100, 10_000)).reason
    assert reason == "no mode fits: 640x480 NV12 30 fps needs 111 Mbit/s, the link carries 100"
    assert choose_mode([], NODE, ENOUGH).reason == "it has no sensor of its own"
    assert "1700 mW, the contract gives 900" in obstacle(SAME, Means(None, 900))
    assert "has 1 MB, this board has memory for 0" in obstacle(SAME, Means(frame_bytes=900_000))


# --- sources --------------------------------------------------------------------------------------------------


def source(
    id: int, identity: str = "m/x/1", port: str = "1-1", since: float = 0.0, kind: str = "module"
) -> SourceState:
    return SourceState(id, kind, identity, port, port, since)


A, B = source(1, "m/a/1", "1-1", 0.0), source(2, "m/b/1", "1-2", 10.0)
CAM = source(3, "m/Cam [HD]/1", "1-3", 15.0)
PREFER_A = Rules((Rule(identity="m/a/*"),))
NEVER_B = Rules((Rule(port="1-2", use="never"),))
DWELL = Rules(dwell_s=0.3)

SCENES: list[tuple[str, Rules, list[SourceState], int | None, float, int | None]] = [
    ("nobody there", Rules(), [], None, 0, None),
    ("an empty stage is taken at once", DWELL, [B], None, 10.0, 2),
    ("what came last plays", Rules(), [A, B], 1, 20.0, 2),
    ("but only after the dwell time", DWELL, [A, B], 1, 10.1, 1),
    ("and then it does", DWELL, [A, B], 1, 10.3, 2),
    ("rules come before time", PREFER_A, [A, B], 2, 20.0, 1),
    ("brackets are the maker's", Rules((Rule(identity="m/Cam [HD]/?", use="never"),)), [CAM, A], None, 20.0, 1),
    ("never is never", NEVER_B, [B], None, 20.0, None),
    ("the other then", NEVER_B, [A, B], None, 20.0, 1),
    ("a choice beats the rules", Rules(PREFER_A.rule, "m/b/1"), [A, B], 1, 20.0, 2),
    ("a choice waits for nothing", Rules(pinned="m/b/1", dwell_s=9), [A, B], 1, 10.0, 2),
    ("a choice beats never", Rules(NEVER_B.rule, "m/b/1"), [A, B], 1, 20.0, 2),
    ("a choice that is not there", Rules(pinned="m/z/1"), [A], None, 20.0, 1),
    ("who plays and has gone is nobody", DWELL, [B], 1, 10.0, 2),
    (
        "kinds in order",
        Rules((Rule(kind="module"), Rule(kind="v4l2"))),
        [source(3, kind="v4l2", since=99), A],
        None,
        99,
        1,
    ),
]


@pytest.mark.parametrize(
    ("rules", "seen", "playing", "now", "wanted"), [s[1:] for s in SCENES], ids=[s[0] for s in SCENES]
)
def test_choose(rules: Rules, seen: list[SourceState], playing: int | None, now: float, wanted: int | None) -> None:
    assert choose(rules, seen, playing, now).source == wanted
    assert choose(rules, list(reversed(seen)), playing, now).source == wanted


def test_choose_says_when_to_ask_again() -> None:
    choice = choose(DWELL, [A, B], 1, 10.1)
    assert choice.again_at == pytest.approx(10.3)
    assert choose(DWELL, [A, B], 2, 10.4).again_at is None
