# SPDX-License-Identifier: GPL-2.0-or-later
"""The service on a real machine: how it is started, who it is, what it plays, and what cannot hurt it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_daemon.cli.client import Client
from maglens_daemon.exits import Exit
from maglens_daemon.status import Status
from maglens_driver import names
from tests.vm.conftest import JournalOf, Record, Sim, WatchUdev
from tests.vm.guest.devices import succeed
from tests.vm.guest.one_stay import one_stay

UNIT = names.SERVICE_UNIT
ATTACH_S = 60.0  # on an emulated, shared processor; the figures are the demo's business
START_S = 90.0
DROPIN = Path(names.CONFIG_DROPIN_DIR) / "99-test.toml"
SMALL = ("-input_format", "nv12", "-video_size", "640x480", "-framerate", "10")
CARD_AFTER = 20  # frames: the last picture stays for half a second
BY_ID = "/dev/v4l/by-id/{}-video-index0"


def systemctl(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=check)


def shown(name: str) -> str:
    return systemctl("show", "-P", name, UNIT).stdout.strip()


def status() -> Status:
    async def ask() -> Status:
        async with Client() as client:
            return await client.status()

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def service() -> Iterator[None]:
    """The service runs before and after every test; no virtual module is left on."""
    have_service()
    yield
    DROPIN.unlink(missing_ok=True)
    have_service()


def have_service() -> None:
    """Enabling takes seconds on an emulated machine, so it is done only where it has to be."""
    if any(systemctl(ask, "--quiet", UNIT, check=False).returncode for ask in ("is-enabled", "is-active")):
        systemctl("enable", "--now", UNIT)


def test_it_starts_at_boot_as_a_user_of_its_own() -> None:
    assert systemctl("is-enabled", UNIT).stdout.strip() == "enabled"
    assert shown("Type") == "notify"
    group = Path("/sys/fs/cgroup") / shown("ControlGroup").lstrip("/") / "cgroup.procs"
    owners = {pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name for pid in group.read_text().split()}
    assert owners == {names.SYSTEM_USER}
    said = subprocess.run(["systemd-analyze", "security", UNIT], capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_udev_starts_it(sim: Sim, journal: JournalOf) -> None:
    module = sim("35mm")
    systemctl("disable", "--now", UNIT)
    log = journal(UNIT)
    module.attach()
    log.wait_for("the camera is /dev/video", START_S)
    assert systemctl("is-active", UNIT).stdout.strip() == "active"
    module.detach()
    log.wait_for("removed", ATTACH_S)
    systemctl("stop", UNIT)
    again = journal(UNIT)  # a unit that udev started only the first time is a known trap
    module.attach()
    again.wait_for("the camera is /dev/video", START_S)
    module.detach()


def test_starting_the_machine_starts_it(journal: JournalOf) -> None:
    """multi-user.target, which is what booting leads to, pulls it in; no module has come and udev tells of none."""
    systemctl("stop", UNIT)
    log = journal(UNIT)
    systemctl("start", "multi-user.target")
    log.wait_for("the camera is /dev/video", START_S)
    assert systemctl("is-active", UNIT).stdout.strip() == "active"
    assert Path(status()["node"]["path"]).is_char_device()


def test_a_module_plays_for_an_app_and_leaves(sim: Sim, journal: JournalOf, ffmpeg_recorder: Record) -> None:
    module = sim("35mm")
    log = journal(UNIT)
    node = status()["node"]["path"]
    with ffmpeg_recorder(node, options=SMALL) as app:
        app.wait_frames(1)
        module.attach()
        played = log.wait_for("plays 640x480", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        assert played.fields["MAGLENS_PORT"]
        assert played.fields["MAGLENS_STATE"] == "streaming"
        now = status()
        assert now["playing"].endswith("/SIM-35mm")
        (entry,) = now["modules"]
        assert entry["state"] == "streaming"
        assert entry["contract"] is not None
        module.detach()
        log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        assert status()["modules"] == []
        app.wait_more(CARD_AFTER)
    one_stay(app, module.status()["mark"])


def test_ten_contacts_within_a_second(
    sim: Sim, journal: JournalOf, ffmpeg_recorder: Record, wait_for_udev: WatchUdev
) -> None:
    """What the hub makes of them is one attach: it waits until a contact has been at rest for 100 ms."""
    module = sim("35mm")
    log = journal(UNIT)
    udev = wait_for_udev("usb", "usb_device")
    with ffmpeg_recorder(status()["node"]["path"], options=SMALL) as app:
        app.wait_frames(1)
        module.fault("bounce", count=10, value=30)
        module.attach()
        log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(1)
        stays = module.status()["stays"][-11:]
        module.detach()
        log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(CARD_AFTER)
    udev.next("remove")
    seen = [device.action for device in udev.seen if device.action in ("add", "remove")]
    took = (stays[-1]["attached_ns"] - stays[0]["attach_ns"]) / 1e9
    print(f"ten contacts in {took:.2f} s; udev saw {seen}")
    assert seen == ["add", "remove"] * (len(seen) // 2)
    one_stay(app, module.status()["mark"])


@pytest.mark.long
def test_ten_stays_each_cut_short(
    sim: Sim, journal: JournalOf, ffmpeg_recorder: Record, wait_for_udev: WatchUdev
) -> None:
    """Pulled as soon as udev knows of it, ten times in a row: as fast as USB can enumerate it. Then it plays."""
    module = sim("35mm")
    log = journal(UNIT)
    udev = wait_for_udev("usb", "usb_device")
    before = shown("MainPID")
    with ffmpeg_recorder(status()["node"]["path"], options=SMALL) as app:
        app.wait_frames(1)
        for _ in range(10):
            module.attach()
            udev.next("add")
            module.detach()
            udev.next("remove")
        module.attach()
        log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(CARD_AFTER)
        module.detach()
        log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(CARD_AFTER)
    assert shown("MainPID") == before
    assert [device.action for device in udev.seen][:20] == ["add", "remove"] * 10
    one_stay(app, module.status()["mark"])


BAD_DESCRIPTORS = {
    "descriptor-crc": "descriptor_crc",
    "descriptor-duplicate": "descriptor_deterministic",
    "descriptor-version": "descriptor_version",
}


@pytest.mark.parametrize("fault", BAD_DESCRIPTORS)
def test_a_broken_descriptor_is_refused_and_nobody_else_suffers(fault: str, sim: Sim, journal: JournalOf) -> None:
    good, bad = sim("35mm"), sim("73mm")
    before = shown("MainPID")
    log = journal(UNIT)
    good.attach()
    bad.fault(fault)
    reply = bad.attach()
    refused = log.wait_for("refused: ", ATTACH_S)
    assert refused.fields["MAGLENS_CAUSE"] == BAD_DESCRIPTORS[fault]
    states = {m["serial"] or m["reason"]: m["state"] for m in status()["modules"]}
    assert states.pop("SIM-35mm") in ("ready", "standby", "streaming")
    assert list(states.values()) == ["quarantined"]
    bad.detach()
    bad.clear()
    bad.attach(reply["udc"])
    good.detach()
    log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
    log.wait_for("ready", ATTACH_S, MAGLENS_SERIAL="SIM-73mm")
    bad.detach()
    log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-73mm")
    assert shown("MainPID") == before


def test_a_stranger_with_our_class_is_left_alone(sim: Sim, journal: JournalOf) -> None:
    module = sim("35mm")
    log = journal(UNIT)
    module.fault("stranger")
    module.attach()
    log.wait_for("left alone: .*stranger", ATTACH_S)
    assert status()["modules"] == []
    assert module.status()["stays"][-1]["vendor_requests"] == 0, "not a word was said to it"
    module.detach()


def test_two_modules_with_one_identity(sim: Sim, journal: JournalOf) -> None:
    first, second = sim("35mm"), sim("35mm:twin")
    second.set_serial("SIM-35mm")
    log = journal(UNIT)
    first.attach()
    second.attach()
    refused = log.wait_for("the one that came second is refused", ATTACH_S)
    ports = [m["port"] for m in status()["modules"]]
    assert len(ports) == 2
    assert all(port in refused.message for port in ports)
    assert sorted(m["state"] for m in status()["modules"])[0] == "quarantined"
    first.detach()
    second.detach()
    log.wait_for("removed", ATTACH_S)


def test_a_broken_configuration_is_named_and_the_old_one_stays(journal: JournalOf) -> None:
    before = shown("MainPID")
    log = journal(UNIT)
    DROPIN.write_text("# test\n[power]\nbudget = 1\n")
    done = systemctl("reload", UNIT, check=False)
    assert done.returncode != 0
    log.wait_for(re.escape(f"{DROPIN}:3: unknown key power.budget"))
    os.kill(int(before), signal.SIGHUP)
    log.wait_for(f"the configuration is as before: {re.escape(str(DROPIN))}:3: ")
    DROPIN.write_text("[power]\nbudget_mw = 12345\n")
    systemctl("reload", UNIT)
    log.wait_for("configuration read: .*99-test.toml")
    assert shown("MainPID") == before
    assert status()["power"]["budget_mw"] == 12345
    DROPIN.unlink()
    systemctl("reload", UNIT)


@pytest.mark.long
def test_a_changed_node_takes_effect_at_a_restart(journal: JournalOf) -> None:
    """Where no app has it open; a second one comes and goes with its section."""

    def cards() -> list[str]:
        succeed("udevadm", "settle")
        found = (path.read_text().strip() for path in Path("/sys/class/video4linux").glob("video*/name"))
        return sorted(card for card in found if card.startswith(names.NODE_CARD_NAME))

    assert cards() == ["maglens"]
    before = os.stat(BY_ID.format("maglens")).st_rdev
    systemctl("restart", UNIT)
    assert os.stat(BY_ID.format("maglens")).st_rdev == before
    DROPIN.write_text("[node]\nwidth = 640\nheight = 480\n[node.front]\nrate = 10\n")
    systemctl("restart", UNIT)
    assert cards() == ["maglens", "maglens front"]
    assert "640" in succeed("v4l2-ctl", "-d", BY_ID.format("maglens"), "--get-fmt-video")
    assert "10.000" in succeed("v4l2-ctl", "-d", BY_ID.format("maglens_front"), "--get-parm")
    with open(BY_ID.format("maglens"), "rb"):  # an app's, or what might be one
        log = journal(UNIT)
        DROPIN.unlink()
        systemctl("restart", UNIT)
        log.wait_for("stays as it was made, while an app has it open")
        log.wait_for("camera-front is configured no more")
    assert cards() == ["maglens"]
    systemctl("restart", UNIT)
    assert "1280" in succeed("v4l2-ctl", "-d", BY_ID.format("maglens"), "--get-fmt-video")


def test_a_second_daemon_says_so_in_one_line() -> None:
    before = shown("MainPID")
    done = subprocess.run(["maglensd"], capture_output=True, text=True, check=False, timeout=START_S)
    assert done.returncode == Exit.UNAVAILABLE
    assert "another maglensd is running" in done.stderr
    assert "Traceback" not in done.stderr
    assert shown("MainPID") == before


def test_without_permission_it_says_so_in_one_line() -> None:
    before = shown("MainPID")
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "maglensd"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
    assert done.returncode == Exit.NO_PERMISSION
    assert "no permission for" in done.stderr
    assert "systemctl start" in done.stderr
    assert "Traceback" not in done.stderr
    assert shown("MainPID") == before


def test_who_may_control() -> None:
    """Everyone reads; nobody changes something without group, root or polkit."""
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "maglens"]
    done = subprocess.run([*as_nobody, "status", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"]
    done = subprocess.run([*as_nobody, "use", "auto"], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.NO_PERMISSION, done.stderr
    assert "usermod" in done.stderr


def test_killed_while_an_app_watches(sim: Sim, journal: JournalOf) -> None:
    module = sim("35mm")
    log = journal(UNIT)
    node = status()["node"]["path"]
    command = ["v4l2-ctl", "-d", node, "--stream-mmap", "--stream-count=100000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as app:
        try:
            module.attach()
            log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
            before = shown("MainPID")
            log = journal(UNIT)
            os.kill(int(before), signal.SIGKILL)
            log.wait_for(f"the camera is {node}, ", START_S)
            log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
            assert shown("MainPID") != before
            assert app.poll() is None, "the app lives"
            assert status()["node"]["path"] == node
        finally:
            app.terminate()
    module.detach()


def test_doctor_finds_a_machine_in_order() -> None:
    done = subprocess.run(["maglens", "doctor", "--json"], capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)
    assert not [f for f in findings if f["verdict"] == "wrong"], findings
    assert done.returncode == 0
