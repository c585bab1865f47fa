# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources as inputs of the node: names, presence, places that last, and what choosing one does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from maglens_daemon import policy
from maglens_daemon.config import Config, NodeConfig, PolicyConfig, Rule
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.inputs import AUTOMATIC, MAX_NAME, Inputs
from maglens_daemon.legacy import FILE_NAME, MAX_BYTES, MAX_TEXT, Left, Legacy
from maglens_v4l2.canonical import INPUTS
from maglens_v4l2.node import InputInfo
from tests.unit.test_daemon_manager import SMALL, theatre


def test_a_source_keeps_its_place() -> None:
    inputs = Inputs(count=3)
    assert inputs.infos() == (AUTOMATIC,)
    assert inputs.update({"a": "A"})
    assert not inputs.update({"a": "A"})
    assert inputs.update({})
    assert inputs.infos() == (AUTOMATIC, InputInfo("A", False))
    inputs.update({"b": "B"})
    inputs.update({"b": "B", "a": "A"})
    assert inputs.infos() == (AUTOMATIC, InputInfo("A", True), InputInfo("B", True))
    assert (inputs.source(0), inputs.source(1), inputs.source(2), inputs.source(3)) == (None, "a", "b", None)
    inputs.update({"b": "B", "c": "C"})
    assert inputs.source(1) == "c", "the place of one that has left"
    inputs.update({"b": "B", "c": "C", "d": "D"})
    assert [info.name for info in inputs.infos()] == ["Automatic", "C", "B"], "no place is left"


def test_names_fit() -> None:
    inputs = Inputs()
    inputs.update({"a": "é" * 40, "b": "", "c": "x\n"})
    names = [info.name for info in inputs.infos()[1:]]
    assert names == ["é" * (MAX_NAME // 2), "?", "x?"]


def test_an_app_chooses_an_input() -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            one, two = t.arrive(FakeVisitor("1"), "1-1"), t.arrive(FakeVisitor("2"), "1-2")
            await t.until_playing(two)
            await t.until(lambda: len(t.nodes[0].inputs) == 3)
            assert [info.present for info in t.nodes[0].inputs] == [True, True, True]
            app.choose_input(1)
            await t.until_playing(one)
            assert t.manager.pinned == "fake/camera/1"
            app.choose_input(0)
            await t.until_playing(two)
            assert t.manager.pinned == policy.AUTO
            t.manager.depart("1-1")
            await t.until(lambda: not t.nodes[0].inputs[1].present)

    asyncio.run(play())


def test_choosing_what_is_chosen_undoes_no_other_choice() -> None:
    """OBS sets the input that it has saved each time it starts."""

    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            one, two = t.arrive(FakeVisitor("1"), "1-1"), t.arrive(FakeVisitor("2"), "1-2")
            await t.until_playing(two)
            t.manager.use("1")
            await t.until_playing(one)
            app.choose_input(0)
            await asyncio.sleep(0.1)
            assert t.manager.pinned == "fake/camera/1"

    asyncio.run(play())


def test_the_next_service_goes_on_with_the_chosen_input(tmp_path: Path) -> None:
    """The camera outlives the service, and so does what apps chose there: also while no service ran."""

    async def play() -> None:
        async with theatre(legacy=Legacy(tmp_path)) as t:
            app = t.watch()
            one, two = t.arrive(FakeVisitor("1"), "1-1"), t.arrive(FakeVisitor("2"), "1-2")
            await t.until_playing(two)
            app.choose_input(1)
            await t.until_playing(one)
        for chosen, wanted in ((1, "1"), (1, "1"), (2, "2"), (0, "1")):
            async with theatre(legacy=Legacy(tmp_path), input=chosen) as t:
                t.watch()
                two, one = t.arrive(FakeVisitor("2"), "1-2"), t.arrive(FakeVisitor("1"), "1-1")
                await t.until_playing({"1": one, "2": two}[wanted])
                assert t.manager.pinned == (f"fake/camera/{wanted}" if chosen else policy.AUTO)
                assert one.identity is not None and two.identity is not None
                assert [info.name for info in t.nodes[0].inputs][1:] == [one.identity.model, two.identity.model]

    asyncio.run(play())


def test_a_choice_that_is_not_understood_was_made_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    known = Left((("a/b/1", "B"), ("", "")), 1, "a/b/1", "a/b/1")
    Legacy(tmp_path).leave("", known)
    text = path.read_text()
    assert Legacy(tmp_path).of("") == known
    assert Legacy(tmp_path).of("front") == Left()
    slots = [["a", "A"]] * INPUTS
    for broken in (
        "",
        "[]",
        "{}",
        "[" * (MAX_BYTES - 1),
        text[:-1],
        text.replace('"version": 1', '"version": 2'),
        text.replace('"input": 1', f'"input": {INPUTS}'),
        text.replace('"input": 1', '"input": "1"'),
        text.replace('"choice": "a/b/1"', '"choice": 1'),
        text.replace('"choice"', '"what"'),
        text.replace('"heeded": "a/b/1"', f'"heeded": "{"a" * (MAX_TEXT + 1)}"'),
        text.replace('[["a/b/1", "B"], ["", ""]]', json.dumps(slots)),
        text.replace('[["a/b/1", "B"], ["", ""]]', '[["a"]]'),
        json.dumps({"version": 1, "nodes": [1]}),
        json.dumps({"version": 1, "nodes": {"": 1}}),
        text + " " * MAX_BYTES,
    ):
        path.write_text(broken)
        assert Legacy(tmp_path).of("") == Left(), broken[:200]


def test_a_node_for_each_group() -> None:
    front = NodeConfig(name="maglens front", width=64, height=48)
    rules = (Rule(port="1-1", node="front"), Rule(port="1-3", use="never"))
    config = replace(SMALL, more={"front": front}, policy=PolicyConfig(dwell_ms=0, rule=rules))

    async def play() -> None:
        async with theatre(config) as t:
            back, face = t.manager.stages
            assert (back.name, face.name) == ("", "front")
            one, two = t.arrive(FakeVisitor("1"), "1-1"), t.arrive(FakeVisitor("2"), "1-2")
            for node in t.nodes:
                reader = node.open()
                reader.start()
            await t.until(lambda: face.playing is not None and face.playing.session is one)
            await t.until(lambda: back.playing is not None and back.playing.session is two)
            t.manager.use("1")
            await t.until(lambda: back.playing is not None and back.playing.session is one)
            await t.until(lambda: face.playing is None)
            t.manager.use("2", node="front")
            await t.until(lambda: face.playing is not None and face.playing.session is two)

    asyncio.run(play())


def test_a_pinned_rule_waits_for_no_dwell_time() -> None:
    rules = policy.Rules((Rule(kind="module"), Rule(by_id="usb-Best*", use="pin")), dwell_s=10)
    module = policy.SourceState(1, "module", "a/b/1", "1-1", "1-1", 0.0)
    webcam = policy.SourceState(2, "v4l2", "a/c/2", "1-2", "1-2", 5.0, True, "usb-Best_Cam-video-index0")
    assert policy.choose(rules, [module, webcam], 1, 5.1).order == (2, 1)
    assert policy.choose(policy.Rules((Rule(kind="module"),), dwell_s=10), [module, webcam], 1, 99).order == (1,)


def test_one_node_is_the_default() -> None:
    assert list(Config().nodes) == [""]
