"""Entries of a run's inbox: answers, and marks that end a question.

An answer that the workflow itself took is typed JSON, as the codec writes it. The others are
objects whose key `$` holds a word that the codec never writes: an answer in plain JSON, the default
at the deadline, a cancelled question.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

EntryKind = Literal["typed", "json", "defaulted", "cancelled"]

DEFAULTED = b'{"$":"request.defaulted"}'
"""Entry of a request whose deadline has passed: its default is the answer."""

CANCELLED = b'{"$":"request.cancelled"}'
"""Entry of a request that was cancelled."""

_JSON = b'{"$":"request.json","v":'


def json_entry(value: Any) -> bytes:
    """Return the entry of an answer in plain JSON, to be converted to the wanted type later."""
    return _JSON + msgspec.json.encode(value) + b"}"


def read_entry(entry: bytes) -> tuple[EntryKind, bytes]:
    """Return what kind of entry this is, and the answer in it, encoded."""
    if entry == DEFAULTED:
        return "defaulted", b"null"
    if entry == CANCELLED:
        return "cancelled", b"null"
    if entry.startswith(_JSON):
        return "json", entry[len(_JSON) : -1]
    return "typed", entry
