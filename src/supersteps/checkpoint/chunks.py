"""Large values as trees of content-addressed chunks.

Equal pieces are stored once, and the cost of a change depends on its size.

A value is the bytes of its JSON. It is cut into *leaves* of about a kilobyte: between elements of
its arrays and objects, and long strings into blocks. Where it is cut depends only on the elements
near the cut, so that an insertion changes only the cuts around it. A leaf is stored under the hash
of its bytes. The list of hashes is also bytes, which are cut into *nodes* in the same way, until
only a few are left: the root. Nothing is parsed when reading: the concatenated leaves are the
value, byte for byte.

A new version of a value is cut with the help of the old one: their common beginning and ending are
compared, not cut and hashed again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from typing import NamedTuple, TypeAlias
from zlib import crc32

import msgspec

HASH_BYTES = 16

Fetch: TypeAlias = Callable[[bytes], bytes | None]
"""Returns the data of a chunk by its hash, None if there is none."""


class DamagedChunkError(ValueError):
    """A chunk is missing, or does not match its hash."""


class Root(NamedTuple):
    """What has to be stored to find a value.

    Attributes:
        hashes: Hashes of the top chunks, concatenated.
        height: Levels of nodes above the leaves.
        size: Length of the value in bytes.
    """

    hashes: bytes
    height: int
    size: int


class Limits(NamedTuple):
    """The sizes of pieces in bytes: `least`, on average `least + mean`, rarely above `most`."""

    least: int
    mean: int
    most: int


# A leaf and the few bytes of its row fit in a page of 4 KB, so that the most common storages need
# no overflow page. With smaller leaves, a change would cost less and the list of hashes would be
# longer; this size balances the two.
LEAF = Limits(512, 1024, 3072)
NODE = Limits(8 * HASH_BYTES, 16 * HASH_BYTES, 128 * HASH_BYTES)
_ROOT_HASHES = 16
"""Up to this many hashes are stored with the reference to the value, without a node."""

_BLOCK = 3072
"""Inner values larger than this are cut themselves."""

_GLANCE = 32
"""No common ending is searched for if these last bytes differ."""

Cuts: TypeAlias = Callable[[bytes, int, bytes], Iterator[tuple[int, bytes]]]
"""Yields the positions after `start` where data may be cut, with the context of each."""


class Level:
    """One level of a tree: data in pieces.

    Attributes:
        data: The value's bytes, or the hashes of the level below.
        ends: Where each piece ends.
        contexts: The open arrays and objects at each end.
        hashes: The hash of each piece.
        fresh: Indexes of the pieces that are not in an earlier version.
    """

    __slots__ = ("contexts", "data", "ends", "fresh", "hashes")

    def __init__(
        self, data: bytes, ends: list[int], contexts: list[bytes], hashes: list[bytes], fresh: range
    ) -> None:
        self.data = data
        self.ends = ends
        self.contexts = contexts
        self.hashes = hashes
        self.fresh = fresh

    def piece(self, index: int) -> bytes:
        """Return one piece."""
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]]


class Tree:
    """A value in chunks.

    Attributes:
        levels: The leaves, then each level of nodes; the last has few pieces.
    """

    __slots__ = ("levels",)

    def __init__(self, levels: list[Level]) -> None:
        self.levels = levels

    @property
    def data(self) -> bytes:
        """The value."""
        return self.levels[0].data

    @property
    def root(self) -> Root:
        """What has to be stored to find the value."""
        return Root(b"".join(self.levels[-1].hashes), len(self.levels) - 1, len(self.data))

    def new_chunks(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield hash and data of every chunk that the earlier version does not have there."""
        for level in self.levels:
            for index in level.fresh:
                yield level.hashes[index], level.piece(index)


def split(data: bytes, before: Tree | None = None) -> Tree:
    """Cut a value into chunks.

    Args:
        data: The bytes of a JSON value. (Other data is cut into blocks.)
        before: An earlier version of it, whose chunks are stored. It saves work. The cuts are the
            same without it, unless an inner value has shrunk so much that it would no longer be cut
            itself.
    """
    try:
        levels = [_split_level(data, before.levels[0] if before else None, _json_cuts, LEAF)]
    except (msgspec.DecodeError, RecursionError):
        if (
            before is not None
        ):  # cut at a position from which it cannot be parsed (inside an escape sequence)
            return split(data)
        levels = [_split_level(data, None, _block_cuts, LEAF)]  # not JSON, or nested too deeply
    while len(levels[-1].hashes) > _ROOT_HASHES:
        height = len(levels)
        below = before.levels[height] if before and height < len(before.levels) else None
        levels.append(_split_level(b"".join(levels[-1].hashes), below, _hash_cuts, NODE, b"node"))
    return Tree(levels)


def _split_level(
    data: bytes, old: Level | None, cuts: Cuts, limits: Limits, kind: bytes = b"leaf"
) -> Level:
    kept = _same_beginning(data, old) if old else 0
    ends, contexts = (old.ends[:kept], old.contexts[:kept]) if old else ([], [])
    same_from, shift = (
        _same_ending(data, old, ends[-1] if ends else 0) if old else (len(data) + 1, 0)
    )
    rest = 0
    for end, context in _choose_cuts(
        data, ends[-1] if ends else 0, contexts[-1] if contexts else b"", cuts, limits
    ):
        ends.append(end)
        contexts.append(context)
        if old and end >= same_from:
            rest = bisect_left(old.ends, end - shift)
            if (
                rest < len(old.ends)
                and old.ends[rest] == end - shift
                and old.contexts[rest] == context
            ):
                rest += 1  # from here on, the old version has the same bytes
                break
            rest = 0
    else:
        if not ends or ends[-1] != len(data):
            ends.append(len(data))
            contexts.append(b"")
    level = Level(data, ends, contexts, old.hashes[:kept] if old else [], range(kept, len(ends)))
    level.hashes += [_hash(level.piece(index), kind) for index in level.fresh]
    if old and level.hashes[kept : kept + 1] == old.hashes[kept : kept + 1]:
        level.fresh = range(kept + 1, len(ends))  # nothing more is shared
    if rest and old:
        ends += [end + shift for end in islice(old.ends, rest, None)]
        contexts += old.contexts[rest:]
        level.hashes += old.hashes[rest:]
    return level


def _choose_cuts(
    data: bytes, start: int, context: bytes, cuts: Cuts, limits: Limits
) -> Iterator[tuple[int, bytes]]:
    """Choose among the allowed cuts, by the content before each and within the size limits."""
    least, mean, most = limits
    begin = previous = start
    for place, inside in cuts(data, start, context):
        if place - begin > most and previous - begin >= least:
            yield previous, context
            begin = previous
        if place - begin >= least and (
            place - begin >= most or crc32(data[previous:place]) * mean < (place - previous) << 32
        ):
            yield place, inside
            begin = place
        previous, context = place, inside
    if len(data) - begin > most and previous - begin >= least:
        yield previous, context


def _same_beginning(data: bytes, old: Level) -> int:
    """Return how many leading pieces the data shares with an older version.

    They need not be cut again, except the last ones: the old version's last piece ended with its
    data, and the last common piece may depend on what follows it.
    """
    low, high = 0, len(old.ends) - 1
    if high and data.startswith(old.data[: old.ends[high - 1]]):
        return high - 1  # most often, data was appended
    while low < high:
        middle = (low + high + 1) // 2
        begin = old.ends[low - 1] if low else 0
        if data[begin : old.ends[middle - 1]] == old.data[begin : old.ends[middle - 1]]:
            low = middle
        else:
            high = middle - 1
    return max(0, low - 1)


def _same_ending(data: bytes, old: Level, after: int) -> tuple[int, int]:
    """Return where a common ending with an older version starts, and by how much it has moved.

    Args:
        data: The data.
        old: The older version.
        after: Only positions after this one count.
    """
    shift = len(data) - len(old.data)
    if data[-_GLANCE:] != old.data[-_GLANCE:]:
        return len(data) + 1, shift
    low, high = (
        0,
        len(old.ends) - 1,
    )  # a common ending starts at the end of piece `high`, not of `low - 1`
    while low < high:
        middle = (low + high) // 2
        begin, stop = old.ends[middle], old.ends[high]
        if begin + shift > after and data[begin + shift : stop + shift] == old.data[begin:stop]:
            high = middle
        else:
            low = middle + 1
    return old.ends[high] + shift, shift


# ---------------------------------------------------------------------------- where data may be cut

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_KEY = b'{"":'


def _json_cuts(data: bytes, start: int, context: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the positions after the elements of a JSON value and of its large elements, in order.

    Args:
        data: The value.
        start: Where to start: an earlier cut, or 0.
        context: What is open at the start: a prefix that makes the rest one JSON value again
            (`{"":[` for the array in an object's value), so that reading can start anywhere.
    """
    offset = start - len(context)
    for place, inside in _inner_cuts(context + data[start:], offset, b"", context):
        if start < place < len(data):
            yield place, inside


def _inner_cuts(text: bytes, offset: int, outer: bytes, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the positions inside one value.

    Lengths are those of compact JSON. In JSON with spaces the positions are shifted: less is
    shared, but nothing is wrong.

    Args:
        text: The value.
        offset: Where it starts in the whole data.
        outer: What is open around it.
        path: What is open at its very start. Cuts must follow it, even if little is left of large
            elements.
    """
    first = text[:1]
    if first == b"[":
        yield from _element_cuts(_decode_list(text), (), offset, outer, b"[", path[1:])
    elif first == b"{":
        members = _decode_object(text)
        path = path[len(_KEY) if path.startswith(_KEY) else 1 :]
        yield from _element_cuts(members.values(), members, offset, outer, b"{", path)
    else:
        inside = outer + (b'"' if first == b'"' else b"")
        for place in range(offset + 1 + _BLOCK, offset + len(text), _BLOCK):
            yield place, inside


def _element_cuts(
    values: Iterable[msgspec.Raw],
    keys: Iterable[str],
    offset: int,
    outer: bytes,
    opened: bytes,
    path: bytes,
) -> Iterator[tuple[int, bytes]]:
    """Yield the positions after each element except the last, and inside large ones."""
    place = offset
    names = iter(keys)
    between, within = outer + opened, outer + (_KEY if opened == b"{" else b"[")
    for value in values:
        if place != offset:
            yield place + 1, between
        place += 1  # a comma or an opening bracket
        if opened == b"{":
            place += len(_encode(next(names))) + 1
        length = len(bytes(value)) if not hasattr(value, "__len__") else len(value)
        if length > _BLOCK or path:
            yield from _inner_cuts(bytes(value), place, within, path)
            path = b""
        place += length


def _block_cuts(data: bytes, start: int, context: bytes) -> Iterator[tuple[int, bytes]]:
    return ((place, b"") for place in range(start + _BLOCK, len(data), _BLOCK))


def _hash_cuts(data: bytes, start: int, context: bytes) -> Iterator[tuple[int, bytes]]:
    return ((place, b"") for place in range(start + HASH_BYTES, len(data), HASH_BYTES))


def _hash(data: bytes, kind: bytes) -> bytes:
    # The kind is part of the hashed data: a string of hashes that a user stores must not be taken
    # for a node.
    return blake2b(data, digest_size=HASH_BYTES, person=kind).digest()


# ------------------------------------------------------------------------------------------ reading


def join(root: Root, fetch: Fetch) -> bytes:
    """Join the chunks of a value.

    Raises:
        DamagedChunkError: A chunk is missing or does not match its hash.
    """
    value = BytesIO()  # returns its content without a copy
    for hash in _leaves(root, fetch):
        value.write(_checked(hash, b"leaf", fetch))
    if value.tell() != root.size:
        raise DamagedChunkError(f"its chunks have {value.tell()} bytes instead of {root.size}")
    return value.getvalue()


def hashes(root: Root, fetch: Fetch, known: set[bytes]) -> Iterator[bytes]:
    """Yield the hashes of a value's chunks except those in `known`, without reading leaves.

    The hashes are added to `known`.

    Raises:
        DamagedChunkError: A node is missing or does not match its hash.
    """
    waiting = [(hash, root.height) for hash in _children(root.hashes)]
    while waiting:
        hash, height = waiting.pop()
        if hash in known:
            continue
        known.add(hash)
        yield hash
        if height:
            waiting += [(child, height - 1) for child in _children(_checked(hash, b"node", fetch))]


def _leaves(root: Root, fetch: Fetch) -> Iterator[bytes]:
    level = _children(root.hashes)
    for _ in range(root.height):
        level = _below(level, fetch)
    return level


def _below(nodes: Iterator[bytes], fetch: Fetch) -> Iterator[bytes]:
    for node in nodes:
        yield from _children(_checked(node, b"node", fetch))


def _children(node: bytes) -> Iterator[bytes]:
    return (node[place : place + HASH_BYTES] for place in range(0, len(node), HASH_BYTES))


def _checked(hash: bytes, kind: bytes, fetch: Fetch) -> bytes:
    data = fetch(hash)
    if data is None:
        raise DamagedChunkError(f"chunk {hash.hex()} is missing")
    if _hash(data, kind) != hash:
        raise DamagedChunkError(
            f"chunk {hash.hex()} has been altered: its content does not match its hash"
        )
    return data


def find_damage(root: Root, fetch: Fetch, seen: dict[bytes, str | None]) -> str | None:
    """Return what is wrong with a value's chunks, None if they are intact.

    Args:
        root: The value.
        fetch: Reads chunks.
        seen: Problems of the chunks that were read before; this call adds to it, so that no chunk
            is read twice.
    """
    problems = (_damage(hash, root.height, fetch, seen) for hash in _children(root.hashes))
    return next((problem for problem in problems if problem is not None), None)


def _damage(hash: bytes, height: int, fetch: Fetch, seen: dict[bytes, str | None]) -> str | None:
    if hash not in seen:
        try:
            data = _checked(hash, b"node" if height else b"leaf", fetch)
            below = (
                _damage(child, height - 1, fetch, seen)
                for child in (_children(data) if height else ())
            )
            seen[hash] = next((problem for problem in below if problem is not None), None)
        except DamagedChunkError as error:
            seen[hash] = str(error)
    return seen[hash]
