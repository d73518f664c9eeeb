"""Opening: the sealed parts of a checkpoint become what was put in, or are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from supersteps.checkpoint import chunks
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.encryption.envelope import PlaintextError, SealError, parse, unseal
from supersteps.encryption.keys import Keyring, RunKeys
from supersteps.encryption.names import is_block, is_list_facts, list_key, unpack_names
from supersteps.encryption.seal import (
    LIST,
    MODULUS,
    SPLIT,
    VALUE,
    Block,
    Entry,
    Head,
    ListFacts,
    element_place,
    part_place,
)

Refuse = Callable[[str], Exception]
"""Makes the error of what cannot be trusted, which knows run and checkpoint."""


class Opening:
    """Opens the parts of one checkpoint.

    Args:
        keyring: The keys.
        keys: Those by which names were hidden and sums made.
        parts: The sealed parts.
        refuse: Makes the error of a list that turns out to be damaged when it is read.

    Attributes:
        head: What the next commit has to know, once `open` has returned.
    """

    def __init__(
        self, keyring: Keyring, keys: RunKeys, parts: Mapping[PartKey, Part], refuse: Refuse
    ) -> None:
        self.head = Head(keys)
        self._keyring = keyring
        self._keys = keys
        self._sealed = parts
        self._refuse = refuse
        self._blocks: dict[str, bytes] = {}
        self._facts: dict[PartKey, tuple[int, bytes]] = {}

    def open(self, total: int) -> dict[PartKey, Part]:
        """Return the parts.

        Args:
            total: The sum over all parts that the header carries.

        Raises:
            SealError: Something is not what was sealed; the message begins with what.
            DecryptionError: A key is missing, or another one.
        """
        head = self.head
        for key, part in self._sealed.items():
            if is_block(key):
                weight, self._blocks[key[-1]] = self._open(key, part)
                head.blocks[key[-1]] = Block(weight)
            elif is_list_facts(key):
                self._facts[key] = self._open(key, part)
        opened: dict[PartKey, Part] = {}
        for key, part in self._sealed.items():
            if not is_block(key) and not is_list_facts(key):
                try:
                    name, value = (
                        self._open_list(key, part)
                        if isinstance(part, ListPart)
                        else self._open_value(key)
                    )
                except chunks.DamagedChunkError as error:
                    raise SealError(f"part {key!r}: {error}") from None
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise SealError(f"part {key!r} does not hold what belongs there") from None
                opened[name] = value
        weights = [entry.weight for entry in head.entries.values()]
        head.total = (sum(weights) + sum(block.weight for block in head.blocks.values())) % MODULUS
        if self._facts or head.total != total:
            raise SealError(
                "its parts are each whole but do not belong together: one was taken away, added, "
                "exchanged or put back from an earlier checkpoint"
            )
        return opened

    def _open(self, key: PartKey, part: Part) -> tuple[int, bytes]:
        """Return what a part adds to the sum, and what it hides."""
        data = part if isinstance(part, bytes) else part.to_json()
        try:
            envelope = parse(data)
            plain = unseal(
                self._keyring, self._keys.family, envelope, part_place(self._keys.family, key)
            )
        except SealError as error:
            raise type(error)(f"part {key!r} {error}") from None
        return self._keys.weight(key, envelope.sequence, 0, plain), plain

    def _open_value(self, key: PartKey) -> tuple[PartKey, bytes]:
        weight, plain = self._open(key, self._sealed[key])
        entry = self.head.entries[key] = Entry(weight)
        name, start = unpack_names(key, plain, 1)
        if plain[:1] == VALUE:
            return name, plain[start:]
        if plain[:1] != SPLIT:
            raise SealError(f"part {key!r} does not hold what belongs there")
        root = msgspec.msgpack.decode(plain[start:], type=chunks.Root)

        def fetch(hash: bytes) -> bytes | None:
            address = entry.blocks[hash] = self._keys.address("block", hash)
            return self._blocks.get(address)

        value = chunks.join(root, fetch)
        for address in entry.blocks.values():
            self.head.blocks[address].users += 1
        return name, value

    def _open_list(self, key: PartKey, part: ListPart) -> tuple[PartKey, ListPart]:
        found = self._facts.pop(list_key(key, self._keys), None)
        if found is None:
            is_plain = len(part) and not part[0].startswith(b'"s1.')
            kind: type[SealError] = PlaintextError if is_plain else SealError
            raise kind(f"part {key!r} is a list that nobody sealed")
        weight, plain = found
        name, start = unpack_names(key, plain, 1)
        if plain[:1] != LIST:
            raise SealError(f"part {key!r} does not hold what belongs there")
        facts = msgspec.msgpack.decode(plain[start:], type=ListFacts)
        if facts.length != len(part):
            raise SealError(
                f"part {key!r} is a list of {len(part)} elements, and {facts.length} were sealed"
            )
        entry = self.head.entries[key] = Entry(weight)
        entry.length, entry.sum = facts.length, int.from_bytes(facts.sum, "big")
        entry.names = plain[1:start]
        return name, ListPart.stored(facts.length, partial(self._elements, key, part, entry.sum))

    def _elements(self, key: PartKey, part: ListPart, total: int) -> list[bytes]:
        items = []
        try:
            for ordinal, data in enumerate(part):
                place = element_place(self._keys.family, key, ordinal)
                envelope = parse(data)
                items.append(unseal(self._keyring, self._keys.family, envelope, place))
                total -= self._keys.weight(key, envelope.sequence, ordinal + 1, items[-1])
        except SealError as error:
            raise self._refuse(f"element {len(items)} of part {key!r} {error}") from error
        if total % MODULUS:
            raise self._refuse(f"part {key!r} holds an element of another branch or commit")
        return items
