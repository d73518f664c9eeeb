"""Decryption of a checkpoint's parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from supersteps.checkpoint import chunks
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.encryption.encryptor import (
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
from supersteps.encryption.envelope import EnvelopeError, PlaintextError, decrypt, parse
from supersteps.encryption.keys import Keyring, RunKeys
from supersteps.encryption.names import is_block, is_list_facts, list_key, unpack_names

Refuse = Callable[[str], Exception]
"""Creates the error for untrusted content; it names run and checkpoint."""


class PartDecryptor:
    """Decrypts the parts of one checkpoint.

    Args:
        keyring: The keys.
        keys: The keys for hashing names and sums.
        parts: The encrypted parts.
        refuse: Creates the error for a list that turns out to be damaged when it is read.

    Attributes:
        head: The state for the next commit, after `decrypt` has returned.
    """

    def __init__(
        self, keyring: Keyring, keys: RunKeys, parts: Mapping[PartKey, Part], refuse: Refuse
    ) -> None:
        self.head = Head(keys)
        self._keyring = keyring
        self._keys = keys
        self._encrypted = parts
        self._refuse = refuse
        self._blocks: dict[str, bytes] = {}
        self._facts: dict[PartKey, tuple[int, bytes]] = {}

    def decrypt(self, total: int) -> dict[PartKey, Part]:
        """Return the parts in clear.

        Args:
            total: The sum over all parts in the header.

        Raises:
            EnvelopeError: Something is not what was encrypted; the message starts with what.
            DecryptionError: A key is missing or wrong.
        """
        head = self.head
        for key, part in self._encrypted.items():
            if is_block(key):
                weight, self._blocks[key[-1]] = self._decrypt(key, part)
                head.blocks[key[-1]] = Block(weight)
            elif is_list_facts(key):
                self._facts[key] = self._decrypt(key, part)
        decrypted: dict[PartKey, Part] = {}
        for key, part in self._encrypted.items():
            if not is_block(key) and not is_list_facts(key):
                try:
                    name, value = (
                        self._decrypt_list(key, part)
                        if isinstance(part, ListPart)
                        else self._decrypt_value(key)
                    )
                except chunks.DamagedChunkError as error:
                    raise EnvelopeError(f"part {key!r}: {error}") from None
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise EnvelopeError(f"part {key!r} has unexpected content") from None
                decrypted[name] = value
        weights = [entry.weight for entry in head.entries.values()]
        head.total = (sum(weights) + sum(block.weight for block in head.blocks.values())) % MODULUS
        if self._facts or head.total != total:
            raise EnvelopeError(
                "each of its parts is intact, but they do not belong together: one was removed, "
                "added, exchanged or taken from an earlier checkpoint"
            )
        return decrypted

    def _decrypt(self, key: PartKey, part: Part) -> tuple[int, bytes]:
        """Return a part's summand and its plaintext."""
        data = part if isinstance(part, bytes) else part.to_json()
        try:
            envelope = parse(data)
            plain = decrypt(
                self._keyring, self._keys.family, envelope, part_place(self._keys.family, key)
            )
        except EnvelopeError as error:
            raise type(error)(f"part {key!r} {error}") from None
        return self._keys.weight(key, envelope.sequence, 0, plain), plain

    def _decrypt_value(self, key: PartKey) -> tuple[PartKey, bytes]:
        weight, plain = self._decrypt(key, self._encrypted[key])
        entry = self.head.entries[key] = Entry(weight)
        name, start = unpack_names(key, plain, 1)
        if plain[:1] == VALUE:
            return name, plain[start:]
        if plain[:1] != SPLIT:
            raise EnvelopeError(f"part {key!r} has unexpected content")
        root = msgspec.msgpack.decode(plain[start:], type=chunks.Root)

        def fetch(hash: bytes) -> bytes | None:
            address = entry.blocks[hash] = self._keys.address("block", hash)
            return self._blocks.get(address)

        value = chunks.join(root, fetch)
        for address in entry.blocks.values():
            self.head.blocks[address].users += 1
        return name, value

    def _decrypt_list(self, key: PartKey, part: ListPart) -> tuple[PartKey, ListPart]:
        found = self._facts.pop(list_key(key, self._keys), None)
        if found is None:
            is_plain = len(part) and not part[0].startswith(b'"s1.')
            kind: type[EnvelopeError] = PlaintextError if is_plain else EnvelopeError
            raise kind(f"part {key!r} is a list that was not encrypted")
        weight, plain = found
        name, start = unpack_names(key, plain, 1)
        if plain[:1] != LIST:
            raise EnvelopeError(f"part {key!r} has unexpected content")
        facts = msgspec.msgpack.decode(plain[start:], type=ListFacts)
        if facts.length != len(part):
            raise EnvelopeError(
                f"part {key!r} is a list of {len(part)} elements, but {facts.length} were encrypted"
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
                items.append(decrypt(self._keyring, self._keys.family, envelope, place))
                total -= self._keys.weight(key, envelope.sequence, ordinal + 1, items[-1])
        except EnvelopeError as error:
            raise self._refuse(f"element {len(items)} of part {key!r} {error}") from error
        if total % MODULUS:
            raise self._refuse(f"part {key!r} has an element of another branch or commit")
        return items
