"""Where sealed parts stand: the user's own names are hidden, ids stay.

A name becomes a keyed hash of the whole path to it, so that equal names in two places do not look
equal. The names themselves are inside the envelope. Named scopes have hidden names too, hence two
names that no hash can be (`~...`) are free for what only the wrapper needs:

    ("scopes", "~blocks", address)    a piece of a large value, by a keyed hash of its content
    ("scopes", "~lists", address)     of a list that grows: its names, its length, the sum over its elements
"""

from __future__ import annotations

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.sections.state import EXECUTORS, SCOPES, SHARED
from supersteps.checkpoint.sections.sub_run import SUB_SCOPES, SUB_STATE
from supersteps.encryption.envelope import SealError
from supersteps.encryption.keys import RunKeys, frame

_CLEAR = {SHARED: 1, EXECUTORS: 2, SCOPES: 1, SUB_STATE: 2, SUB_SCOPES: 2}
"""How many items of a key are ids (or the section) where the rest are names."""

BLOCKS = "~blocks"
LISTS = "~lists"


def hide(key: PartKey, keys: RunKeys) -> PartKey:
    """Return where a part stands sealed."""
    clear = _CLEAR.get(key[0], len(key))
    if clear >= len(key):
        return key
    return (*key[:clear], *(keys.hidden(*key[: end + 1]) for end in range(clear, len(key))))


def pack_names(key: PartKey) -> bytes:
    """Return the names of a key that are hidden."""
    hidden = key[_CLEAR.get(key[0], len(key)) :]
    return b"%c" % len(hidden) + frame(*hidden)


def unpack_names(hidden: PartKey, data: bytes, start: int) -> tuple[PartKey, int]:
    """Return the key of a part that stands at `hidden`, and where its names end in what was sealed.

    Raises:
        SealError: They are not of that shape.
    """
    clear = _CLEAR.get(hidden[0], len(hidden))
    names = []
    place = start + 1
    if len(data) < place or data[start] != max(0, len(hidden) - clear):
        raise SealError("does not hold what belongs there")
    for _ in range(data[start]):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        names.append(data[place + 4 : end].decode("utf-8", "surrogatepass"))
        place = end
    return (*hidden[:clear], *names), place


def block_key(address: str) -> PartKey:
    """Return where a piece of a large value stands."""
    return (SCOPES, BLOCKS, address)


def list_key(hidden: PartKey, keys: RunKeys) -> PartKey:
    """Return where the facts of a list stand."""
    return (SCOPES, LISTS, keys.address("list", *hidden))


def is_block(key: PartKey) -> bool:
    """Return whether a part is a piece of a large value."""
    return key[:2] == (SCOPES, BLOCKS)


def is_list_facts(key: PartKey) -> bool:
    """Return whether a part holds the facts of a list."""
    return key[:2] == (SCOPES, LISTS)
