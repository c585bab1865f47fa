# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: what it prints, its exit statuses, its errors, its completion."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType
from dbus_fast.aio import MessageBus

from maglens_daemon import exits
from maglens_daemon import main as daemon_main
from maglens_daemon.cli import client, complete, control, main, output, preview, show, window
from maglens_daemon.config import NodeConfig
from maglens_daemon.errors import NotFound
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session_state import SessionState
from maglens_daemon.status import (
    ContractStatus,
    DrawStatus,
    ModeStatus,
    ModuleStatus,
    NodeStatus,
    OpticsStatus,
    PortStatus,
    PowerStatus,
    Status,
    SupplyStatus,
)
from maglens_driver.errors import BadModule, MaglensError, MissingDependency, Refused
from maglens_driver.gadget import client as sim_client
from maglens_driver.gadget.faults import Fault
from maglens_driver.virtual.lens import LensError, NoLens, lens_names
from tests.unit.private_bus import listening, private_bus, published
from tests.unit.test_daemon_manager import Theatre, theatre

ROOT = Path(__file__).resolve().parents[2]
MODE = ModeStatus(text="1280x720 NV12 30 fps", fourcc="NV12", width=1280, height=720, fps=30.0, mbit_s=332, mw=1700)


def module(**changes: Any) -> ModuleStatus:
    made = ModuleStatus(
        port="2-1",
        port_name="back",
        kind="module",
        state="streaming",
        reason="",
        cause="",
        hint="",
        identity="maglens/Virtual 35mm F1.4/SIM-35mm",
        maker="maglens",
        model="Virtual 35mm F1.4",
        serial="SIM-35mm",
        firmware="1.0",
        lens="35 mm f/1.4",
        speed_mbit_s=5000,
        usable_mbit_s=3750,
        contract=ContractStatus(
            mv=5000, operating_ma=840, maximum_ma=840, least_ma=200, capability_mismatch=False, burst_mw=0
        ),
        supply=SupplyStatus(
            state="contract",
            limit_mw=4200,
            source_capabilities={"1:fixed_supply": {"voltage": 5000, "maximum_current": 900}},
        ),
        notes=[],
        mode=MODE,
        modes=[MODE],
        playing=True,
        obstacle="",
        counters={"frames": 120, "payload_crc": 2},
        unavailable_controls=[],
        attach_to_frame_ms=41.5,
    )
    made.update(changes)  # type: ignore[typeddict-item]
    return made


POWER = PowerStatus(
    budget_mw=6000,
    granted_mw=4200,
    level="normal",
    reason="",
    on_battery=True,
    battery_percent=80,
    zone="cpu-thermal",
    celsius=51.0,
)


def everything(*modules: ModuleStatus, **node: Any) -> Status:
    made = NodeStatus(
        group="",
        playing=modules[0]["identity"] if modules else "",
        choice="auto",
        path="/dev/video0",
        name="maglens",
        format=MODE,
        streamers=1,
        openers=None,
        controls=False,
        outlives_daemon=False,
        problem="",
        hint="",
        counters={},
    )
    made.update(node)  # type: ignore[typeddict-item]
    return Status(
        version="0.1.0",
        state="",
        playing=modules[0]["identity"] if modules else "",
        choice="auto",
        power=POWER,
        optics=None,
        node=made,
        nodes=[made],
        ports=[],
        modules=list(modules),
    )


def test_status_of_a_port_with_pins() -> None:
    port = PortStatus(
        port="1-2",
        port_name="back",
        state="present",
        cause="brown_out",
        message="it resets",
        failures=1,
        seated=True,
        powered=True,
        limit_mw=4200,
        draw=DrawStatus(mv=5000, ma=610, mw=3050),
        counters={},
    )
    assert output.port_lines(port) == [
        "port      back (1-2): present, at most 4.2 W, draws 3.05 W",
        "          brown_out, 1 times: it resets",
    ]
    port["powered"], port["draw"], port["message"] = False, None, ""
    assert output.port_lines(port) == ["port      back (1-2): present, power off"]


def test_status_of_a_playing_module() -> None:
    assert output.status_text(everything(module())) == (
        "camera    /dev/video0 (maglens), 1280x720 NV12 30 fps, 1 watching\n"
        "power     4.2 W of 6.0 W promised\n"
        "plays     maglens/Virtual 35mm F1.4/SIM-35mm, by the rules\n"
        "modules\n"
        "* maglens Virtual 35mm F1.4 (SIM-35mm) at port back (2-1): streaming\n"
        "    lens      35 mm f/1.4, firmware 1.0\n"
        "    power     5.0 V 0.84 A (4.2 W)\n"
        "    link      5000 Mbit/s, 3750 for pictures\n"
        "    mode      1280x720 NV12 30 fps\n"
        "    frames    120, 2 payload_crc"
    )


def test_status_of_a_machine_without_a_node() -> None:
    status = everything(path="", format=None, streamers=0, problem="v4l2loopback is not loaded", hint="modprobe it")
    assert output.status_text(status) == (
        "camera    none: v4l2loopback is not loaded\n"
        "          try: modprobe it\n"
        "power     4.2 W of 6.0 W promised\n"
        "plays     nothing, by the rules\n"
        "modules   none"
    )


def test_status_of_a_refused_module() -> None:
    refused = module(
        identity="", reason="its descriptor is broken", hint="tell its maker", state="quarantined", playing=False
    )
    assert output.module_lines(refused) == [
        "  not identified at port back (2-1): quarantined",
        "    refused: its descriptor is broken",
        "    try: tell its maker",
    ]


def test_contract_in_pds_terms() -> None:
    assert output.contract_text(None) == "no contract"
    wants = ContractStatus(
        mv=5000, operating_ma=500, maximum_ma=500, least_ma=500, capability_mismatch=True, burst_mw=0
    )
    assert output.contract_text(wants) == "5.0 V 0.50 A (2.5 W, wants more)"


def test_table() -> None:
    assert output.table([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"
    assert output.table([]) == ""


# --- whole commands against a real bus -------------------------------------------------------------------------


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with private_bus(tmp_path) as made:
        monkeypatch.setattr(
            client, "MessageBus", lambda bus_address, bus_type: MessageBus(made, bus_type=BusType.SYSTEM)
        )
        yield made


async def run(*words: str) -> int:
    """One command in a thread of its own, as a process would be."""
    return await asyncio.to_thread(main.main, list(words))


def test_commands(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def play(t: Theatre) -> None:
        session = t.arrive(FakeVisitor("7"), "1-2")
        await t.until(lambda: session.state is SessionState.READY)
        assert await run("status", "--json") == 0
        assert json.loads(capsys.readouterr().out)["modules"][0]["serial"] == "7"
        assert await run("modules") == 0
        assert capsys.readouterr().out == "1-2  ready  fake/camera/7\n"
        assert await run("control", "list") == 0
        assert capsys.readouterr().out == "focus_absolute  50  0 to 400, step 10, default 50  ring\n"
        assert await run("control", "set", "focus_absolute=1000") == 0
        assert capsys.readouterr().out.startswith("focus_absolute  400 ")
        assert await run("--json", "control", "get", "Focus") == 0
        (got,) = json.loads(capsys.readouterr().out)
        assert (got["key"], got["value"], got["type"]) == ("focus_absolute", 400, "integer")
        assert await run("control", "reset") == 0
        assert capsys.readouterr().out.startswith("focus_absolute  50 ")
        assert await run("use", "7") == 0
        assert capsys.readouterr().out == "fake/camera/7 plays whenever it is there\n"
        assert await run("use", "auto", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"choice": "auto"}
        assert await run("reload") == 0
        assert "what [node] says counts from: sudo systemctl restart" in capsys.readouterr().out

    serve(address, play)


def serve(address: str, play: Any) -> None:
    async def go() -> None:
        async with asyncio.timeout(60), theatre() as t, published(t.manager, address):
            await play(t)

    asyncio.run(go())


ERRORS = [
    (("use", "nothing"), exits.Exit.NOT_FOUND, "no module fit 'nothing'", "maglens modules"),
    (
        ("control", "get", "zoom"),
        exits.Exit.NOT_FOUND,
        "no control 'zoom'; it has focus_absolute",
        "maglens control list",
    ),
    (("control", "set", "focus_absolute"), exits.Exit.USAGE, "is not NAME=NUMBER", "maglens control set"),
    (("control", "list", "-m", "9"), exits.Exit.NOT_FOUND, "no module '9'", "maglens modules"),
]


@pytest.mark.parametrize(("words", "status", "what", "hint"), ERRORS)
def test_errors(
    address: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, what: str, hint: str
) -> None:
    async def play(t: Theatre) -> None:
        session = t.arrive(FakeVisitor("7"), "1-2")
        await t.until(lambda: session.state is SessionState.READY)
        assert await run(*words) == status
        said = capsys.readouterr()
        assert said.out == ""
        first, second = said.err.rstrip().splitlines()
        assert first.startswith("maglens: ")
        assert what in first
        assert second.startswith("  try: ")
        assert hint in second

    serve(address, play)


def test_no_service(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status"]) == exits.Exit.UNAVAILABLE
    assert capsys.readouterr().err == (
        "maglens: the service does not answer: The name org.maglens1 was not provided by any .service files\n"
        "  try: sudo systemctl start maglensd.service\n"
    )


def test_no_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'nothing'}")
    assert main.main(["status"]) == exits.Exit.UNAVAILABLE
    said = capsys.readouterr().err
    assert "there is no system bus" in said
    assert "try: sudo systemctl start dbus.socket" in said


def test_no_module_is_an_answer_in_json(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def play(_: Theatre) -> None:
        assert await run("control", "list", "--json") == exits.Exit.OK
        assert json.loads(capsys.readouterr().out) == []
        assert await run("control", "list") == exits.Exit.NOT_FOUND
        assert "maglens sim attach 35mm" in capsys.readouterr().err

    serve(address, play)


def test_watch(address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hears = listening(monkeypatch)
    news = {signal: threading.Event() for signal in ("ModuleAdded", "ModuleRemoved")}

    def noted(document: Any) -> None:
        output.emit(document)
        if document["signal"] in news:
            news[document["signal"]].set()

    monkeypatch.setattr("maglens_daemon.cli.show.emit", noted)

    async def play(t: Theatre) -> None:
        watching = asyncio.create_task(run("watch", "--json"))
        assert await asyncio.to_thread(hears.wait, 10)
        bad = FakeVisitor("7")
        bad.steps.fail("open", BadModule("descriptor_crc", "broken"))
        session = t.arrive(bad, "1-2")
        await t.until(lambda: session.state is SessionState.QUARANTINED)
        assert await asyncio.to_thread(news["ModuleAdded"].wait, 10)
        t.manager.depart("1-2")
        await t.until(lambda: not t.manager.sessions)
        assert await asyncio.to_thread(news["ModuleRemoved"].wait, 10)
        watchers.append(watching)

    watchers: list[asyncio.Task[int]] = []

    async def go() -> None:
        async with asyncio.timeout(60), theatre() as t:
            async with published(t.manager, address):
                await play(t)
            assert await watchers[0] == exits.Exit.UNAVAILABLE, "it ends with the service"

    asyncio.run(go())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [c["signal"] for c in told if c["signal"].startswith("Module")] == ["ModuleAdded", "ModuleRemoved"]
    removed = next(c for c in told if c["signal"] == "ModuleRemoved")
    assert removed["reason"] == "broken"
    assert all(show.change_lines(change) for change in told)


# --- the rest --------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["version", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert re.fullmatch(r"\d+\.\d+\.\d+", said["version"])
    assert said["protocol"] == "1.0"


def test_version_as_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"maglens \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_lists_what_people_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    said = capsys.readouterr().out
    assert "doctor" in said
    assert "SUPPRESS" not in said
    assert not re.search(r"^ +complete", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statu"], "there is no 'statu'; did you mean 'status'?"),
        (["sim", "atach", "35mm"], "did you mean 'attach'?"),
        (["xyz"], "choose from status, watch"),
    ],
)
def test_an_unknown_command(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == exits.Exit.USAGE
    told = capsys.readouterr()
    assert said in told.err
    assert "'complete'" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("ACCESS", "no permission to open it"), exits.Exit.NO_PERMISSION),
        (Refused("BUSY", "not now"), exits.Exit.FAILED),
        (NoLens("there is no lens"), exits.Exit.NOT_FOUND),
        (LensError("it is broken"), exits.Exit.FAILED),
    ],
)
def test_exit_statuses_of_the_drivers_errors(error: MaglensError, status: exits.Exit) -> None:
    assert main.exit_status(error) is status


@pytest.mark.parametrize(
    "words", [("module", "run", "--source", "none", "--lens", "m-mount-50mm"), ("sim", "attach", "35mm")]
)
def test_what_changes_the_machine_needs_root(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(words) == exits.Exit.NO_PERMISSION
    assert "needs root\n  try: sudo maglens" in capsys.readouterr().err


def test_a_virtual_module_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sim_client, "_SYSTEMD_RUNS", tmp_path)
    with pytest.raises(MissingDependency, match="services of systemd"):
        sim_client.stop("35mm")
    failing = tmp_path / "systemctl"
    failing.write_text("#!/bin/sh\necho no such unit >&2\nexit 5\n")
    failing.chmod(0o755)
    with pytest.raises(MaglensError, match="did not stop: no such unit"):
        sim_client.stop("35mm")
    monkeypatch.setattr(sim_client, "_SYSTEMD_RUNS", tmp_path / "nothing")
    with pytest.raises(MissingDependency, match="does not run here"):
        sim_client.start("35mm")


def test_every_query_has_json() -> None:
    for name in ("status", "watch", "modules", "use x", "reload", "doctor", "version", "sim list", "control list"):
        for words in (["--json", *name.split()], [*name.split(), "--json"]):
            assert main.parser().parse_args(words).json is True


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main._one_line(KeyError, KeyError("x"), None)
    said = capsys.readouterr().err
    assert said == "maglens: unexpected KeyError: 'x'\n  try: MAGLENS_DEBUG=1 maglens ..., and report it\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sta", ["status"]),
        ("sim ", ["attach", "detach", "fault", "light", "list", "rehearse", "ring", "stop", "swap"]),
        ("sim attach ", sorted(lens_names())),
        ("sim fault pay", ["payload-crc", "payload-long", "payload-short"]),
        ("sim ring ", ["focus", "iris", "zoom"]),
        ("control set --", ["--help", "--json", "--module"]),
        ("use a", ["auto"]),
    ],
)
def test_completion(line: str, words: list[str]) -> None:
    given = shlex.split(line) + ([""] if line.endswith(" ") else [])
    assert complete.candidates(given) == words


def test_every_fault_completes() -> None:
    assert set(complete.candidates(["sim", "fault", ""])) == {"none", *(f.value for f in Fault)}


def test_every_command_is_in_the_manual() -> None:
    manual = (ROOT / "daemon/system/maglens.1").read_text()
    for name in complete._actions(main.parser()):
        assert re.search(rf"^\.B[RI]? \"?{name}\b", manual, re.MULTILINE), name


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Every long option of a program and its commands."""
    own = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    return own.union(*(options(made) for made in complete._actions(parser).values()))


@pytest.mark.parametrize(("page", "parser"), [("maglens.1", main.parser), ("maglensd.8", daemon_main._parser)])
def test_every_option_is_in_the_manual(page: str, parser: Callable[[], argparse.ArgumentParser]) -> None:
    manual = (ROOT / "daemon/system" / page).read_text().replace("\\-", "-")
    wanted = options(parser()) - ({"--help"} if page == "maglensd.8" else set())
    assert not {option for option in wanted if not re.search(rf"{option}\b", manual)}


def test_picking_a_module() -> None:
    one, two = module(playing=False), module(identity="m/x/2", serial="2", port="2-2", playing=False)
    assert control.pick_module([one], None) is one
    assert control.pick_module([one, two], "2") is two
    assert control.pick_module([one, two], "2-1") is one
    assert control.pick_module([one, module(identity="m/x/3", serial="3")], None)["serial"] == "3"
    built_in = module(identity="built/in/0", serial="0", port="camera0", playing=False, kind="libcamera")
    assert control.pick_module([built_in, one], None) is one
    assert control.pick_module([built_in], None) is built_in
    with pytest.raises(NotFound, match="several modules"):
        control.pick_module([one, two], None)
    with pytest.raises(NotFound, match="no module") as caught:
        control.pick_module([module(reason="broken")], None)
    assert "sim attach" in caught.value.hint


@pytest.mark.parametrize(("text", "pair"), [("a=1", ("a", 1)), ("a=0x10", ("a", 16)), ("a=-3", ("a", -3))])
def test_assignment(text: str, pair: tuple[str, int]) -> None:
    assert control.parse_assignment(text) == pair


@pytest.mark.parametrize("text", ["a", "=1", "a=", "a=b", "a=1.5"])
def test_bad_assignment(text: str) -> None:
    with pytest.raises(MaglensError, match="is not NAME=NUMBER"):
        control.parse_assignment(text)


# --- preview ---------------------------------------------------------------------------------------------------


def test_preview_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.y4m"
    words = ["preview", "--in-process", "--out", str(out), "--seconds", "0.5", "--size", "320x240", "--json"]
    assert main.main(words) == 0
    said = json.loads(capsys.readouterr().out)
    raw = out.read_bytes()
    head, _, rest = raw.partition(b"\n")
    assert head == b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420mpeg2"
    frame = len(b"FRAME\n") + 320 * 240 * 3 // 2
    assert len(rest) == said["frames"] * frame
    assert said["frames"] >= 40, "two seconds of cards and half a second of module"
    assert said["submitted"] >= 5
    pictures = {rest[i : i + frame] for i in range(0, len(rest), frame)}
    assert len(pictures) > 5


def test_the_window_tells_source_lens_power_and_link() -> None:
    assert window.overlay(everything(module())).splitlines() == [
        "source  maglens Virtual 35mm F1.4 at back, 1280x720 NV12 30 fps",
        "lens    35 mm f/1.4",
        "power   5.0 V 0.84 A (4.2 W)",
        "link    5000 Mbit/s",
    ]
    through = everything(module(lens="", contract=None, speed_mbit_s=0))
    through["optics"] = OpticsStatus(identity="a/b/c", lens="50 mm f/2", focal_mm=(50, 50), fnumber=(2, 16))
    said = window.overlay(through)
    assert "50 mm f/2 before it" in said
    assert "no contract" in said
    assert "not USB" in said
    assert window.overlay(everything()) == "nothing plays"


def test_the_window_needs_ffplay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/ffplay")
    command = window.player(tmp_path / "overlay")
    assert f"textfile={tmp_path / 'overlay'}" in " ".join(command)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(MissingDependency):
        window.player(tmp_path)


@pytest.mark.parametrize("text", ["big", "0x0", "321x240", "320x241", "99999x16", "-2x16", "8x8"])
def test_preview_wants_a_size(text: str) -> None:
    with pytest.raises(MaglensError, match=f"'{text}' is no "):
        preview.parse_size(text)


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--in-process", "--rate", "0"), "0 is no rate", exits.Exit.USAGE),
        (("--in-process", "--size", "0x0"), "'0x0' is no size", exits.Exit.USAGE),
        (("--seconds", "nan"), "nan are no seconds", exits.Exit.USAGE),
        (("--in-process", "--out", "x.y4m", "--seconds", "-1"), "-1 are no seconds", exits.Exit.USAGE),
        (("--out", "x.y4m"), "--out is for virtual modules alone", exits.Exit.USAGE),
        (("--size", "640x480"), "--in-process --size", exits.Exit.USAGE),
        (("--in-process", "--out", "/nowhere/x.y4m"), "/nowhere/x.y4m: No such file", exits.Exit.FAILED),
        (("--in-process", "--out", "/nowhere/x.mp4"), "/nowhere/x.mp4: No such file", exits.Exit.FAILED),
        (("--in-process", "--lens", "35"), "there is no lens '35'", exits.Exit.NOT_FOUND),
    ],
)
def test_preview_refuses_what_it_cannot_do(
    words: tuple[str, ...], said: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["preview", *words]) == status
    assert said in capsys.readouterr().err


def test_preview_without_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    mode = NodeConfig().mode
    with pytest.raises(MissingDependency, match="ffplay") as caught:
        preview._player(mode, tmp_path / "overlay")
    assert "ffmpeg" in caught.value.hint
    with pytest.raises(MissingDependency, match=r"\.mp4 needs ffmpeg") as caught:
        preview._encoder(mode, Path("x.mp4"))
    assert "x.y4m" in caught.value.hint
