"""Formats of texts in JSON Schemas, as the conversion to Python accepts them."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

import msgspec

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])"
_HOSTS = rf"(?:[^\s/?#@,]+@)?{_HOST}(?::\d{{1,4}})?(?:,{_HOST}(?::\d{{1,4}})?)*"
_REST = r"(?:[/?#][!#-;=?-\[\]_a-z~]*)?"
_URL = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:{_HOSTS}{_REST}|/[!-;=?-~]*)")
_WITHOUT_HOST = re.compile(r"(?!(?:https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*:[!-.0-;=?-~][!-;=?-~]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_EMAIL = re.compile(
    rf"(?!.{{255}})[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:{_LABEL}\.)+[A-Za-z]{{2,}}"
)
_NAMED_EMAIL = re.compile(rf"(?:[\w ]+ <{_EMAIL.pattern}>|{_EMAIL.pattern})")


def _converts_to(kind: Any) -> Callable[[str], object]:
    return lambda text: msgspec.convert(text, kind)


def _matches(pattern: re.Pattern[str]) -> Callable[[str], object]:
    def check(text: str) -> None:
        if pattern.fullmatch(text) is None:
            raise ValueError

    return check


def _url(text: str) -> None:
    core = sys.modules.get("pydantic_core")
    if _BAD_ESCAPE.search(text) is not None:
        raise ValueError
    if core is not None:  # pydantic's own parser, if the program uses pydantic
        core.MultiHostUrl(text)
    elif _URL.fullmatch(text) is None and _WITHOUT_HOST.fullmatch(text) is None:
        raise ValueError


CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "date": _converts_to(date),
    "time": _converts_to(time),
    "partial-time": _converts_to(time),
    "date-time": _converts_to(datetime),
    "duration": _converts_to(timedelta),
    "uuid": _converts_to(UUID),
    "decimal": _converts_to(Decimal),
    "fraction": Fraction,
    "complex": complex,
    "email": _matches(_EMAIL),
    "name-email": _matches(_NAMED_EMAIL),
    "uri": _url,
    "multi-host-uri": _url,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "ipv4network": ipaddress.IPv4Network,
    "ipv6network": ipaddress.IPv6Network,
    "ipv4interface": ipaddress.IPv4Interface,
    "ipv6interface": ipaddress.IPv6Interface,
    "ipvanyaddress": ipaddress.ip_address,
    "ipvanynetwork": ipaddress.ip_network,
    "ipvanyinterface": ipaddress.ip_interface,
    "regex": re.compile,
    "json-string": json.loads,
    "base64": lambda text: b64decode(text, validate=True),
    "base64url": lambda text: b64decode(text, altchars=b"-_", validate=True),
}
"""Check by name of the format, which raises for an invalid text; other formats are ignored."""

ERRORS: Final = (ValueError, TypeError, ArithmeticError, RecursionError, re.error)
"""The exceptions that the checks raise."""
