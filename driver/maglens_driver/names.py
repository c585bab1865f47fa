# SPDX-License-Identifier: MIT
"""Ids, bus names, paths, environment variables and log fields: every name that more than one file must agree on.

A test compares these with the udev rules, units, D-Bus files, C headers and docs.
"""

from __future__ import annotations

from typing import Final

# USB interface (docs/protocol.md, "Recognising a module")
USB_CLASS: Final = 0xFF
USB_SUBCLASS: Final = 0x53
USB_PROTOCOL: Final = 0x01
USB_INTERFACE_STRING: Final = "maglens"
UDEV_INTERFACE_GLOB: Final = "*:ff5301:*"  # matches ID_USB_INTERFACES of systemd's usb_id
HALL_NAME_GLOB: Final = "hall*"  # input devices of Hall sensors, by the label of their device-tree node
# pid.codes' test range; any VID:PID may be a module, the host never looks at it.
VIRTUAL_USB_VENDOR: Final = 0x1209
VIRTUAL_USB_PRODUCT: Final = 0x0001

# System
SYSTEM_USER: Final = "maglens"
SYSTEM_GROUP: Final = "maglens"
SERVICE_UNIT: Final = "maglensd.service"
SIM_UNIT_TEMPLATE: Final = "maglens-sim@.service"
NODE_CARD_NAME: Final = "maglens"
NODE_DEVICE: Final = "/dev/maglens"
LOOPBACK_CONTROL: Final = "/dev/v4l2loopback"
LOOPBACK_DRIVER: Final = "v4l2 loopback"  # as v4l2loopback calls itself in QUERYCAP

# D-Bus
BUS_NAME: Final = "org.maglens1"
BUS_PATH: Final = "/org/maglens1"
BUS_INTERFACE: Final = "org.maglens1.Manager"
BUS_INTERFACE_MODULE: Final = "org.maglens1.Module"
BUS_INTERFACE_NODE: Final = "org.maglens1.Node"

# Files
CONFIG_FILE: Final = "/etc/maglens/maglens.toml"
CONFIG_DROPIN_DIR: Final = "/etc/maglens/maglens.toml.d"
STATE_DIR: Final = "/var/lib/maglens"
RUNTIME_DIR: Final = "/run/maglens"
SIM_RUNTIME_DIR: Final = "/run/maglens-sim"
MODULE_RUNTIME_DIR: Final = "/run/maglens-module"
CONFIGFS_GADGETS: Final = "/sys/kernel/config/usb_gadget"

# Environment
ENV_CONFIG: Final = "MAGLENS_CONFIG"
ENV_LENS_PATH: Final = "MAGLENS_LENS_PATH"
ENV_TIME_FACTOR: Final = "MAGLENS_TIME_FACTOR"

# journald fields
LOG_PORT: Final = "MAGLENS_PORT"
LOG_MODULE: Final = "MAGLENS_MODULE"
LOG_SERIAL: Final = "MAGLENS_SERIAL"
LOG_STATE: Final = "MAGLENS_STATE"
LOG_CAUSE: Final = "MAGLENS_CAUSE"
