# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: strict, with file and line in every error."""

from __future__ import annotations

import importlib
import os
import re
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_daemon import config
from maglens_daemon.config import NodeConfig, Rule
from maglens_daemon.config_files import config_files
from maglens_daemon.errors import ConfigError
from maglens_daemon.toml_lines import Lines
from maglens_driver import names

ROOT = Path(__file__).resolve().parents[2]


def write(directory: Path, text: str, name: str = "maglens.toml") -> Path:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_has_to_be_there() -> None:
    made = config.load([])
    assert made == config.Config()
    assert made.node.mode.describe() == "1280x720 NV12 30 fps"


def test_every_key_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
[node]
name = "back"
kind = "auto"
format = "YUYV"
width = 640
height = 480
rate = 29.97
[power]
budget_mw = 5000
usb2_ma = 400
usb3_ma = 800
[link]
derating = 0.5
[policy]
dwell_ms = 0
[[policy.rule]]
kind = "module"
port = "1-*"
[[policy.rule]]
identity = "maker/*"
use = "never"
[port."1-2"]
name = "left"
max_mw = 3000
max_mbit_s = 400
priority = 3
enabled = false
""",
    )
    made = config.load([path])
    assert made.node.rate == Fraction(2997, 100)
    assert made.node.mode.describe() == "640x480 YUYV 29.97 fps"
    assert (made.power.budget_mw, made.power.usb2_ma, made.power.usb3_ma) == (5000, 400, 800)
    assert made.link.derating == 0.5
    assert made.policy.rule == (Rule(kind="module", port="1-*"), Rule(identity="maker/*", use="never"))
    port = made.port_config("1-2")
    assert (port.name, port.max_mw, port.max_mbit_s, port.priority, port.enabled) == ("left", 3000, 400, 3, False)
    assert made.port_config("9-9") == config.PortConfig()


BROKEN = [
    ("[node]\nwidht = 640\n", 2, "unknown key node.widht", "did you mean 'width'?"),
    ("\n\n[nod]\n", 3, "unknown key nod", "did you mean 'node'?"),
    ("[node]\nwidth = 641\n", 2, "node.width = 641 is not an even number", ""),
    ("[node]\nwidth = true\n", 2, "node.width = True is not an even number", ""),
    ("[node]\nwidth = 0\n", 2, "not an even number from 16", ""),
    ("[node]\nrate = 0\n", 2, "not frames per second", ""),
    ('[node]\nrate = "1/0"\n', 2, "not frames per second", ""),
    ('[node]\nformat = "NV21"\n', 2, "did you mean 'NV12'?", ""),
    ("[node]\nname = 'x\\u0007'\n", 2, "", ""),
    ('[node]\nname = "' + "x" * 32 + '"\n', 2, "printable text of 1 to 31 bytes", ""),
    ("[node]\nfocus_zone = [0.5, 0.5, 0.6, 0.5]\n", 2, "inside the picture", ""),
    ("[node]\nfocus_zone = [nan, 0, 1, 1]\n", 2, "inside the picture", ""),
    ("[node]\nfocus_zone = [0, 0, 1]\n", 2, "inside the picture", ""),
    ("node = 3\n", 1, "node is no table", "write [node]"),
    ("[power]\nbudget_mw = -1\n", 2, "a whole number from 0", ""),
    ("[power]\nbudget_mw = 1.5\n", 2, "a whole number from 0", ""),
    ("[link]\nderating = 0\n", 2, "a number above 0, at most 1", ""),
    ('[link]\nderating = "half"\n', 2, "a number above 0, at most 1", ""),
    ('[port."1-2"]\nname = "a"\nmax_watt = 1\n', 3, "unknown key port.1-2.max_watt", "did you mean 'max_mw'?"),
    ("[port]\nx = 1\n", 2, "port.x is no table", "write [port.x]"),
    ("[policy]\nrule = 1\n", 2, "policy.rule is no list of tables", "write [[policy.rule]]"),
    ('[[policy.rule]]\nkind = "module"\n[[policy.rule]]\n\nuse = "perhaps"\n', 5, "policy.rule.use = 'perhaps'", ""),
    ("[policy]\ndwell_ms = 99999\n", 2, "a whole number from 0 to 10000", ""),
    ("[node]\nwidth = \n", 2, "Invalid value", "sed -n 2p"),
    ("[node]\nwidth = 2\nwidth = 4\n", 3, "Cannot overwrite a value", ""),
    ('[node]\nname = "unfinished', 2, "", ""),
    ('[cameras]\ndevice = ["/dev/video\\u0000"]\n', 2, "a list of absolute paths", ""),
    ('[port."1-2"]\nmeter = "/sys/\\u001b[31m"\n', 2, "an absolute path", ""),
    ('[port."1_2"]\nname = "a"\n', 1, "'1_2' is no USB path", 'as [port."1-2.3"]'),
    ('[[policy.rule]]\nnode = "frnt"\n[node.front]\n', 2, "there is no [node.frnt]", "did you mean 'front'?"),
    ('[[policy.rule]]\n[[policy.rule]]\nnode = "x"\n', 3, "there is no [node.x]", "add a table [node.x]"),
    ('[node]\nname = "x"\n[node.back]\nname = "x"\n', 4, "has the name 'x', and so has [node]", "another name"),
    ('[node]\nname = "maglens back"\n[node.back]\nwidth = 64\n', 3, "and so has [node]", "give [node.back]"),
    ('[port."1-2"]\nusb = ["2-1"]\n[port."1-3"]\nusb = ["2-1"]\n', 4, "both claim the USB path 2-1", "leave 2-1"),
    ('[port."1-2"]\nusb = ["2-1"]\n[port."2-1"]\nname = "a"\n', 3, '"2-1"] and [port."1-2"] both', "leave 2-1"),
    ("[power]\nhot_c = 90\nwarm_c = 95\n", 3, "warm_c = 95 is above hot_c = 90", "hot_c the higher"),
    ("[power]\nhot_c = 80\n", 1, "warm_c = 85 is above hot_c = 80", "set both"),
    ("[power]\nbattery_low = 3\n", 2, "battery_low = 3 is below battery_critical = 5", "set both"),
    ('\n[node."front room/\u00e9"]\n', 2, "'front room/\u00e9' cannot be", "letters a to z"),
    ("[node.width]\nname = 'x'\n", 1, "'width' cannot be", "no key of [node]"),
    ("[source]\nrotate = 90\n", 2, "source.rotate is for one source", 'write [source."PATTERN"]'),
    ("[port]\nmax_mw = 90\n", 2, "port.max_mw is for one port", 'write [port."PATH"]'),
]


@pytest.mark.parametrize(("text", "line", "what", "hint"), BROKEN, ids=[b[0].replace("\n", " ")[:40] for b in BROKEN])
def test_an_error_names_file_and_line(tmp_path: Path, text: str, line: int, what: str, hint: str) -> None:
    if "u0007" in text:
        text = text.replace("'x\\u0007'", '"x\\u0007"')
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load([path])
    assert str(caught.value).startswith(f"{path}:{line}: "), str(caught.value)
    assert what in str(caught.value)
    assert hint in caught.value.hint


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "maglens.toml"
    path.write_bytes(b"[node]\n\n# \xff\n")
    with pytest.raises(ConfigError, match=f"{path}:3: not UTF-8"):
        config.load([path])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        config.load([tmp_path / "missing.toml"])


def test_a_node_that_no_ring_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maglens.toml"
    path.write_text("[node]\nwidth = 11648\nheight = 8736\n")
    assert config.load([path]).node.width == 11648
    path.write_text("[node]\nwidth = 16384\n[node.front]\nheight = 16384\n")
    with pytest.raises(ConfigError, match=r"\[node\.front\] is 16384 x 16384: more than") as caught:
        config.load([path])
    assert "[node.front]" in caught.value.hint


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    main = write(
        tmp_path, '[node]\nwidth = 640\nheight = 480\n[port."1-1"]\nname = "a"\n[[policy.rule]]\nport = "x"\n'
    )
    more = write(
        tmp_path, '[node]\nwidth = 320\n[port."1-2"]\nname = "b"\n[[policy.rule]]\nport = "y"\n', "d/10.toml"
    )
    made = config.load([main, more])
    assert (made.node.width, made.node.height) == (320, 480)
    assert set(made.port) == {"1-1", "1-2"}
    assert [rule.port for rule in made.policy.rule] == ["y"]
    assert made.files == (main, more)


def test_what_two_files_say_together_is_told_of_the_later_one(tmp_path: Path) -> None:
    main = write(tmp_path, "[power]\nwarm_c = 60\nhot_c = 70\n")
    more = write(tmp_path, "\n[power]\nwarm_c = 80\n", "d/10.toml")
    with pytest.raises(ConfigError, match=f"{more}:3: power.warm_c = 80 is above hot_c = 70"):
        config.load([main, more])


def test_a_battery_level_that_is_switched_off_is_no_contradiction(tmp_path: Path) -> None:
    assert config.load([write(tmp_path, "[power]\nbattery_low = 0\n")]).power.battery_low == 0


def test_an_error_in_a_dropin_names_the_dropin(tmp_path: Path) -> None:
    main = write(tmp_path, "[node]\nwidth = 640\n")
    more = write(tmp_path, "\n[node]\nheight = 1\n", "d/10.toml")
    with pytest.raises(ConfigError, match=f"{more}:3: "):
        config.load([main, more])


def test_dropins_beside_the_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write(tmp_path, "")
    (tmp_path / "maglens.toml.d").mkdir()
    second, first = (write(tmp_path / "maglens.toml.d", "", f"{n}.toml") for n in ("20", "10"))
    write(tmp_path / "maglens.toml.d", "x", "note.txt")
    monkeypatch.setenv("MAGLENS_CONFIG", str(main))
    assert config_files() == (main, first, second)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGLENS_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError):
        config.load()


def test_what_cannot_be_looked_at_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that may not look into the folder would run by the defaults, and say nothing."""
    write(tmp_path, "").with_name("maglens.toml.d").write_text("no folder")
    monkeypatch.setattr(names, "CONFIG_FILE", str(tmp_path / "maglens.toml"))
    monkeypatch.delenv(names.ENV_CONFIG, raising=False)
    with pytest.raises(ConfigError, match=r"maglens.toml.d: Not a directory") as caught:
        config_files()
    assert caught.value.hint
    tmp_path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may look into any folder
            os.seteuid(65534)
        with pytest.raises(ConfigError, match=r"maglens.toml: Permission denied"):
            config_files()
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(("text", "line"), [("[x = {} #]", 1), ("[x = {y = 1, z = 2} #]", 1), ("[[x = {}#]]", 1)])
def test_a_table_between_brackets_is_an_error_as_any_other(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"maglens.toml:{line}: "):
        config.load([write(tmp_path, text)])


def test_lines_end_where_they_end_in_toml() -> None:
    lines = Lines("# pasted:\u2028 it goes on\u0085 here\n\f\nx = 1\n")
    assert lines.find(("x",)) == 3
    assert Lines("x = [\n").of_syntax_error("Invalid value (at end of document)") == (1, "Invalid value")


def test_lines_of_dotted_and_quoted_keys() -> None:
    text = 'a.b = 1\n["x y".z]\n"k k" = 2\n[[t]]\n[[t]]\nv = 1\n[t.u]\nw = 1\n'
    lines = Lines(text)
    assert lines.find(("a", "b")) == 1
    assert lines.find(("x y", "z", "k k")) == 3
    assert lines.find(("t", 1, "v")) == 6
    assert lines.find(("nowhere",)) == 1


def test_the_example_without_its_comment_signs_is_the_default(tmp_path: Path) -> None:
    example = (ROOT / "daemon" / "system" / "maglens.toml").read_text()
    text = re.sub(r"^#(?=\[|[a-z0-9_]+ = [^ ])", "", example, flags=re.MULTILINE)
    made = config.load([write(tmp_path, text)])
    assert made.node == NodeConfig()
    assert made.power == config.PowerConfig()
    assert made.link == config.LinkConfig()
    assert made.policy == config.PolicyConfig(rule=(Rule(),))
    assert made.port == {"1-2": config.PortConfig()}


def test_example_manual_and_tables_are_as_the_schema_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "daemon" / "system"))
    describe = importlib.import_module("describe")
    for path, text in describe.documents().items():
        assert path.read_text() == text, f"{path.name} is not current: make describe"


@pytest.mark.parametrize(("pages", "fourk"), [(4 << 18, False), (6 << 18, True)])
def test_4k_is_offered_where_there_is_memory_for_it(monkeypatch: pytest.MonkeyPatch, pages: int, fourk: bool) -> None:
    values = {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", values.__getitem__)
    offered = {(mode.width, mode.height) for mode in NodeConfig().formats}
    assert {(640, 480), (1920, 1080)} <= offered
    assert ((3840, 2160) in offered) == fourk
    assert (3840, 2160) in {(mode.width, mode.height) for mode in NodeConfig(largest="4K").formats}
    assert (3840, 2160) not in {(mode.width, mode.height) for mode in NodeConfig(largest="1080p").formats}
    big = NodeConfig(largest="1080p", width=3840, height=2160)
    assert big.formats[0] == big.mode
