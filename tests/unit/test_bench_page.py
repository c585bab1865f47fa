# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of figures is renewed from a report, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import page
from tests.bench.case import Case
from tests.bench.path import cases as path_cases
from tests.bench.report import Entry

PAGE = Path(__file__).parents[2] / page.PAGE


def entry(case: str, ours: float, peer: float, who: str = "peer", unit: str = "ms") -> Entry:
    return Case(case, unit, "lower", ours, peer, who, ours / peer, 3, 0.1).as_json()


def test_the_page_has_a_place_for_all_that_is_known() -> None:
    names = [found[2] for found in page.PART.finditer(PAGE.read_text())]
    assert sorted(names) == sorted([*page.SECTIONS, "machine"])


def test_every_case_of_a_path_has_a_row() -> None:
    rows = (*path_cases.SHORT, *path_cases.LONG, *path_cases.MINUTE)
    report = {row[0]: entry(row[0], 2.0, 4.0, row[6]) for row in rows}
    shown = "\n".join(page.path(report) + page.growth(report))
    assert shown.count(" (0.50 x)") == sum(not row[0].startswith("growth/") for row in rows)
    for count in ("2 readers", "4 readers", "2 modules", "3 modules"):
        assert f"| a 1080p picture, {count}, ms | 2 | 0.50 |" in shown


def test_tables_are_written_anew_and_what_is_not_measured_stays() -> None:
    text = "a\n<!-- bench: pixels -->\nold\n<!-- end -->\nb\n<!-- bench: path -->\nkept\n<!-- end -->\n"
    start = "pixel/4k/raw10/nv12/1-thread"
    report = [entry(f"{start}/opencv", 6.0, 33.0), entry(f"{start}/avx2/opencv", 8.0, 33.0)]
    new, left = page.renewed(text, report, "machine")
    assert "old" not in new and "kept" in new and left == ["path"]
    assert "6 ms of one processor" in new and "| OpenCV, the same steps, 8 bits | 5.5 x |" in new
    assert page.renewed(new, report, "machine")[0] == new


def test_the_matrix_and_levels() -> None:
    case = "pixel/100mp/raw12/yuyv/2-thread/swscale"
    (_, _, row) = page.matrix({case: entry(case, 90.0, 900.0)})
    assert row == "| 11648x8736 RAW12 to YUYV | 2 | 90 |  |  | 10 x |  |"
    start = "pixel/4k/raw10/nv12/1-thread/avx2"
    found = {f"{start}/{peer}": entry(f"{start}/{peer}", 8.0, ms) for peer, ms in (("best", 6.0), ("opencv", 32.0))}
    assert page.levels(found)[2] == "| avx2 | 8 ms, 4 x |  |  |  |"


def test_smaller_pictures() -> None:
    start = "pixel/4k-to-1080p/raw10/nv12/1-thread"
    found = {f"{start}/{peer}": entry(f"{start}/{peer}", 8.0, ms) for peer, ms in (("opencv", 32.0), ("memcpy", 2.0))}
    assert page.smaller(found)[2:] == ["| 4K RAW10 to 1080p NV12 | 8 | 4 x | 0.25 x |"]


def test_numbers_have_three_digits() -> None:
    assert [page.number(n) for n in (0.8123, 6.0, 30.77, 1234.5)] == ["0.812", "6", "30.8", "1234"]


def test_a_figure_of_memory_keeps_its_ratio() -> None:
    case = "memory/4k/raw10/nv12/1-thread/kernel"
    assert page.memory({case: entry(case, 92.0, 100.0)})[2].endswith("| 92 | 100 | 0.92 | 0.10 |")


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(KeyError):
        page.renewed("<!-- bench: nonsense -->\n<!-- end -->", [], "machine")
