# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench fails where a promise is not kept, and its report grows part by part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.bench import __main__ as bench
from tests.bench import auto_exposure_bench, auto_focus_bench, auto_white_balance_bench, promises
from tests.bench.auto_runs import GROUPS
from tests.bench.case import Case
from tests.bench.promises import PROMISES, Promise, missed
from tests.bench.report import Report, read

NUMPY = "quality/100mp-to-1080p/raw12/psnr-y/numpy"
CASE = Case(NUMPY, "dB", "higher", 58.0, 58.5, "numpy", 58.0 / 58.5, 3, 0.0)


def judged(*cases: Case, whole: bool = False) -> list[str]:
    return list(missed(cases, ["quality_bench"], whole=whole))


def test_the_largest_sensor_is_within_a_decibel_of_the_reference() -> None:
    assert not judged(CASE)
    assert not judged(replace(CASE, ours=57.51))
    (what,) = judged(replace(CASE, ours=57.4))
    assert NUMPY in what and "57.4 against 58.5 dB" in what


def test_ratios_are_judged_the_better_way() -> None:
    faster = Promise("pixel_bench", "x", ratio=0.4)
    assert faster.kept(replace(CASE, better="lower", ratio=0.39))
    assert not faster.kept(replace(CASE, better="lower", ratio=0.41))
    assert not faster.kept(replace(CASE, better="higher", ratio=0.39))
    late = Promise("attach_bench", "x", difference=100.0)
    assert late.kept(replace(CASE, better="lower", ours=150, peer=60))
    assert not late.kept(replace(CASE, better="lower", ours=161, peer=60))


def test_what_was_to_be_measured_and_was_not_is_told_of_a_whole_run() -> None:
    assert len(judged(whole=True)) == sum(p.module == "quality_bench" for p in PROMISES)
    assert not list(missed([], ["node_bench"], whole=True))


def test_every_promise_is_of_a_module_that_is_there() -> None:
    assert {promise.module for promise in PROMISES} <= set(bench._modules(""))


def test_the_automatics_are_held_to_what_was_promised_of_them() -> None:
    """By the names of their cases, each of them; and their worst run counts."""
    sharp = auto_focus_bench.Attempt(0.1, 9, True)
    right = auto_exposure_bench.Attempt(3.0, 5, 0.001)
    near = auto_white_balance_bench.Attempt(4000, 150, True)
    found = [
        case
        for group in GROUPS
        for cases in (
            auto_focus_bench.told(group, [sharp] * 20),
            auto_exposure_bench.told(group, [right], False),
            auto_exposure_bench.told(group, [right], True),
            auto_white_balance_bench.told(group, [near]),
        )
        for case in cases
    ]
    modules = ["auto_focus_bench", "auto_exposure_bench", "auto_white_balance_bench"]
    assert not list(missed(found, modules, whole=True))
    group = GROUPS[0]
    blurred, late, off = replace(sharp, circles=1.1), replace(right, frames=13), replace(near, off_k=201)
    for module, wrong in (
        (modules[0], auto_focus_bench.told(group, [sharp] * 18 + [blurred] * 2)),
        (modules[1], auto_exposure_bench.told(group, [right, late], True)),
        (modules[2], auto_white_balance_bench.told(group, [near, off])),
    ):
        assert len(list(missed(wrong, [module], whole=False))) == 1


def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: Callable[[bool], Iterable[Case]]) -> int:
    """`make bench ONLY=quality`, with other cases and one promise; its status."""
    pytest.importorskip("matplotlib", reason="fetched by make bench")
    module = ModuleType("tests.bench.quality_bench")
    vars(module)["cases"] = cases
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(promises, "PROMISES", [p for p in PROMISES if p.case == NUMPY])
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "quality", "--out", str(tmp_path / "report.json")])
    return bench.main()


@pytest.mark.parametrize(("ours", "status"), [(58.0, 0), (57.0, 1)])
def test_the_bench_fails_by_a_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ours: float, status: int
) -> None:
    assert measure(tmp_path, monkeypatch, lambda quick: [replace(CASE, ours=ours)]) == status
    assert ("promised, not kept" in capsys.readouterr().out) == bool(status)


def test_the_bench_fails_by_a_part_that_could_not_be_measured_and_keeps_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cases(quick: bool) -> Iterator[Case]:
        yield CASE
        raise RuntimeError("no module came")

    assert measure(tmp_path, monkeypatch, cases) == 1
    assert "FAILED: no module came" in capsys.readouterr().out
    assert [entry["case"] for entry in read(tmp_path / "report.json")] == [NUMPY]


def test_a_part_goes_into_the_report_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "report.json"
    whole = Report(path)
    whole.add(CASE)
    whole.add(replace(CASE, case="other"))
    Report(path, into=True).add(replace(CASE, ours=1.0))
    assert [(entry["case"], entry["ours"]) for entry in read(path)] == [(NUMPY, 1.0), ("other", 58.0)]
    Report(path).add(CASE)
    assert len(read(path)) == 1
