"""The keys of encrypted parts: users' names are hashed, ids stay.

A name becomes a keyed hash of the whole path to it, so that equal names in two places do not look
equal. The names themselves are in the envelope. Names of scopes are hashed too, so two names that
no hash can be (`~...`) are free for the wrapper's own parts:

    ("scopes", "~blocks", address)   a piece of a large value, by a keyed hash of its content
    ("scopes", "~lists", address)    a list that grows: names, length, sum over its elements
"""

from __future__ import annotations

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.sections.state import SCOPES
from supersteps.checkpoint.sections.table import section_of
from supersteps.encryption.envelope import EnvelopeError
from supersteps.encryption.keys import RunKeys, frame

BLOCKS = "~blocks"
LISTS = "~lists"


def hide(key: PartKey, keys: RunKeys) -> PartKey:
    """Return the key of an encrypted part."""
    clear = _clear(key)
    if clear >= len(key):
        return key
    return (*key[:clear], *(keys.hidden(*key[: end + 1]) for end in range(clear, len(key))))


def _clear(key: PartKey) -> int:
    """Return how many items of a key are ids, or the section; the others are users' names."""
    section = section_of(key)
    return len(key) if section is None else len(key) - section.own_names


def pack_names(key: PartKey) -> bytes:
    """Return the names of a key that are hashed, encoded."""
    hidden = key[_clear(key) :]
    return b"%c" % len(hidden) + frame(*hidden)


def unpack_names(hidden: PartKey, data: bytes, start: int) -> tuple[PartKey, int]:
    """Return the original key of the part at `hidden`, and the end of its names in `data`.

    Raises:
        EnvelopeError: They are not of that shape.
    """
    clear = _clear(hidden)
    names = []
    place = start + 1
    if len(data) < place or data[start] != max(0, len(hidden) - clear):
        raise EnvelopeError("has unexpected content")
    for _ in range(data[start]):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        names.append(data[place + 4 : end].decode("utf-8", "surrogatepass"))
        place = end
    return (*hidden[:clear], *names), place


def block_key(address: str) -> PartKey:
    """Return the key of a piece of a large value."""
    return (SCOPES, BLOCKS, address)


def list_key(hidden: PartKey, keys: RunKeys) -> PartKey:
    """Return the key of a list's facts."""
    return (SCOPES, LISTS, keys.address("list", *hidden))


def is_block(key: PartKey) -> bool:
    """Return whether a part is a piece of a large value."""
    return key[:2] == (SCOPES, BLOCKS)


def is_list_facts(key: PartKey) -> bool:
    """Return whether a part holds the facts of a list."""
    return key[:2] == (SCOPES, LISTS)
