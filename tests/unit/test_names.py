# SPDX-License-Identifier: GPL-2.0-or-later
"""Names agree wherever they stand: Python, udev, systemd, D-Bus, polkit, C, documentation."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from maglens_daemon import authority, bus_schema, exits
from maglens_driver import names

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = ROOT / "daemon" / "system"


def text(path: str) -> str:
    return (ROOT / path).read_text()


def rules() -> list[str]:
    return [line for line in text("udev/70-maglens.rules").splitlines() if line and not line.startswith("#")]


def rule(*parts: str) -> str:
    """The one rule that has all these parts."""
    (found,) = [line for line in rules() if all(part in line for part in parts)]
    return found


def test_the_rule_for_modules() -> None:
    module = rule('SUBSYSTEM=="usb"')
    assert f'ENV{{ID_USB_INTERFACES}}=="{names.UDEV_INTERFACE_GLOB}"' in module
    assert f'GROUP="{names.SYSTEM_GROUP}", MODE="0660"' in module
    assert 'TAG+="systemd"' in module
    assert f'ENV{{SYSTEMD_WANTS}}+="{names.SERVICE_UNIT}"' in module
    triple = f"{names.USB_CLASS:02x}{names.USB_SUBCLASS:02x}{names.USB_PROTOCOL:02x}"
    assert f"*:{triple}:*" == names.UDEV_INTERFACE_GLOB


def test_the_rules_for_nodes() -> None:
    assert f'KERNEL=="{Path(names.NODE_DEVICE).name}"' in rule(f'static_node={Path(names.NODE_DEVICE).name}"')
    assert f'GROUP="{names.SYSTEM_GROUP}"' in rule(f'KERNEL=="{Path(names.LOOPBACK_CONTROL).name}"')
    loopback = f'ATTR{{name}}=="{names.NODE_CARD_NAME}|{names.NODE_CARD_NAME} *"'
    assert loopback in rule("v4l/by-id", 'DEVPATH=="/devices/virtual/video4linux/*"')
    assert loopback in rule("ID_V4L_CAPABILITIES", 'DEVPATH=="/devices/virtual/video4linux/*"')
    assert rule("v4l/by-id", 'ATTRS{camera_id}=="?*"')
    assert "DEVICE_ATTR_RO(camera_id);" in (ROOT / "driver/kernel/maglens-main.c").read_text()
    assert len([line for line in rules() if "video4linux" in line]) == 3, "no other may speak of a webcam"


def test_the_rule_for_hall_sensors_leaves_a_laptops_lid_alone() -> None:
    hall = rule('SUBSYSTEM=="input"')
    assert f'ATTRS{{name}}=="{names.HALL_NAME_GLOB}"' in hall
    assert f'GROUP="{names.SYSTEM_GROUP}"' in hall
    assert f'label = "{names.HALL_NAME_GLOB.rstrip("*")}";' in text("docs/operations.md")


def test_the_service() -> None:
    unit = text("daemon/system/maglensd.service")
    assert (SYSTEM / names.SERVICE_UNIT).exists()
    for line in (
        f"User={names.SYSTEM_USER}",
        f"Group={names.SYSTEM_GROUP}",
        f"RuntimeDirectory={Path(names.RUNTIME_DIR).name}",
        f"StateDirectory={Path(names.STATE_DIR).name}",
        "Type=notify",
        "WantedBy=multi-user.target",
        "StartLimitIntervalSec=0",
        "Restart=always",
        "RestartSec=100ms",
        "CapabilityBoundingSet=",
    ):
        assert line in unit.splitlines(), line
    (prevented,) = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    assert prevented.split() == [
        str(int(e)) for e in (exits.Exit.UNAVAILABLE, exits.Exit.NO_PERMISSION, exits.Exit.CONFIG)
    ]


def test_nothing_of_the_service_runs_as_root() -> None:
    """A command with '+' or '!' in front of it would."""
    commands = re.findall(r"^Exec\w+=(.*)$", text("daemon/system/maglensd.service"), re.MULTILINE)
    assert commands
    assert not [c for c in commands if re.match(r"[-@:]*[+!]", c)]


def test_users_and_directories() -> None:
    assert re.search(rf"^u {names.SYSTEM_USER} - .* {names.STATE_DIR}$", text("daemon/system/maglens.sysusers"), re.M)
    assert f"d {names.CONFIG_DROPIN_DIR} " in text("daemon/system/maglens.tmpfiles")
    assert f"d {Path(names.CONFIG_FILE).parent} " in text("daemon/system/maglens.tmpfiles")


def test_d_bus() -> None:
    policy = ET.fromstring(text("daemon/system/org.maglens1.conf"))
    assert {a.attrib["own"] for a in policy.iter("allow") if "own" in a.attrib} == {names.BUS_NAME}
    assert {a.attrib["send_destination"] for a in policy.iter("allow") if "send_destination" in a.attrib} == {
        names.BUS_NAME
    }
    activation = text("daemon/system/org.maglens1.service").splitlines()
    assert f"Name={names.BUS_NAME}" in activation
    assert f"SystemdService={names.SERVICE_UNIT}" in activation
    assert set(bus_schema.load()) == {names.BUS_INTERFACE, names.BUS_INTERFACE_MODULE, names.BUS_INTERFACE_NODE}
    (action,) = ET.fromstring(text("daemon/system/org.maglens1.policy")).iter("action")
    assert action.attrib["id"] == authority.ACTION


@pytest.mark.parametrize(
    "document", ["docs/operations.md", "daemon/system/maglensd.8", "daemon/maglens_daemon/journal.py"]
)
def test_log_fields(document: str) -> None:
    fields = {value for name, value in vars(names).items() if name.startswith("LOG_")}
    if document.endswith(".py"):
        constants = {name for name in vars(names) if name.startswith("LOG_")}
        assert all(f"names.{constant}" in text(document) for constant in constants)
    else:
        assert fields <= set(re.findall(r"MAGLENS_[A-Z]+", text(document)))


def test_exit_statuses_are_in_the_manual() -> None:
    manual = text("daemon/system/maglens.1") + text("daemon/system/maglensd.8")
    for status in exits.Exit:
        assert re.search(rf"\b{int(status)}\b", manual), status


def test_the_virtual_modules_unit() -> None:
    assert (ROOT / "driver/maglens_driver/gadget" / names.SIM_UNIT_TEMPLATE).exists()
    assert f"RuntimeDirectory={Path(names.SIM_RUNTIME_DIR).name}" in text(
        f"driver/maglens_driver/gadget/{names.SIM_UNIT_TEMPLATE}"
    )


def test_every_rule_is_one_that_udev_understands() -> None:
    """udevadm verify knows all keys; where there is none (systemd before 254), at least the shape is right."""
    for line in rules():
        for part in re.split(r",\s*", line):
            assert re.fullmatch(r'[A-Z]+(\{[A-Za-z_0-9/]+\})?(==|!=|\+=|:=|=)"[^"]*"', part), part


def test_what_the_udev_rules_give_rights_to_is_triggered_by_the_installation() -> None:
    """Else devices that were there before keep their old rights until the next boot."""
    rules = (ROOT / "udev/70-maglens.rules").read_text()
    given = set(re.findall(r'^SUBSYSTEM=="(\w+)",.* GROUP=', rules, re.M))
    triggered = re.search(r"^TRIGGERED = \((.*?)\)", (ROOT / "daemon/system/install.py").read_text(), re.M)
    assert triggered is not None
    assert given == set(re.findall(r'"(\w+)"', triggered[1]))
