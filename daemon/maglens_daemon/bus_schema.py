# SPDX-License-Identifier: GPL-2.0-or-later
"""Bus schema: the interfaces of org.maglens1.xml as data. The XML is the only place where a signature stands."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

XML_FILE: Final = "org.maglens1.xml"
_CHANGES: Final = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True)
class Property:
    """Signature; ``constant`` ones are never announced."""

    signature: str
    constant: bool


@dataclass(frozen=True, slots=True)
class Method:
    """Signatures of arguments and results."""

    takes: str
    gives: str


@dataclass(frozen=True, slots=True)
class Interface:
    """Members by name; ``xml`` is its part of the introspection data."""

    name: str
    properties: Mapping[str, Property]
    methods: Mapping[str, Method]
    signals: Mapping[str, str]
    xml: str


def _signature(element: ET.Element, direction: str | None = None) -> str:
    arguments = element.findall("arg")
    return "".join(a.attrib["type"] for a in arguments if direction is None or a.attrib["direction"] == direction)


def _property(element: ET.Element) -> Property:
    notes = {a.attrib["name"]: a.attrib["value"] for a in element.findall("annotation")}
    return Property(element.attrib["type"], notes.get(_CHANGES) == "const")


def _interface(element: ET.Element) -> Interface:
    return Interface(
        element.attrib["name"],
        {e.attrib["name"]: _property(e) for e in element.findall("property")},
        {e.attrib["name"]: Method(_signature(e, "in"), _signature(e, "out")) for e in element.findall("method")},
        {e.attrib["name"]: _signature(e) for e in element.findall("signal")},
        ET.tostring(element, encoding="unicode"),
    )


def load() -> dict[str, Interface]:
    """All interfaces by name."""
    text = resources.files("maglens_daemon").joinpath(XML_FILE).read_text(encoding="utf-8")
    return {i.name: i for i in (_interface(e) for e in ET.fromstring(text).findall("interface"))}
