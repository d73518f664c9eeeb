"""What an inbox entry says: a typed answer, one in plain JSON, the default at the deadline, or that nobody will answer.

An answer that the workflow itself took is typed JSON, as the codec writes it. The other kinds are objects whose key `$`
holds a word that the codec never writes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

EntryKind = Literal["typed", "json", "defaulted", "cancelled"]

DEFAULTED = b'{"$":"request.defaulted"}'
"""Entry of a request whose deadline has passed: its default is the answer."""

CANCELLED = b'{"$":"request.cancelled"}'
"""Entry of a request that was taken back."""

_JSON = b'{"$":"request.json","v":'


def json_entry(value: Any) -> bytes:
    """Return the entry of an answer that is plain JSON, still to be converted to the type that the asker wants."""
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
