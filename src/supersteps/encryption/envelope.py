"""Envelopes: how one sealed text looks.

    "s1.KEY.CHECK.A.12.BASE64"      as a JSON string: version, key id, key check, algorithm, sequence, and in base64
                                    nonce, ciphertext and tag

Everything before the last dot is authenticated, and so is where the envelope belongs.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

from supersteps.encryption.keys import LETTERS, Keyring, RunKeys, frame

NONCE_BYTES = 12
TAG_BYTES = 16
# Nonces are random. With 96 bits, NIST SP 800-38D allows 2**32 messages for one key, so that two of
# them share a nonce with a chance below 2**-32. The limit is kept because each run has a key of its
# own: a run that seals a thousand parts a second reaches it after 50 days of nothing else, by which
# time they are gone or the primary key was changed.
_VERSION = b"s1"


class SealError(ValueError):
    """What is stored cannot be what was sealed here; says why, not where."""


class PlaintextError(SealError):
    """What is stored was never sealed."""


class Envelope(NamedTuple):
    """An envelope, not opened yet.

    Attributes:
        head: All that is in clear.
        key_id: The key.
        check: Tells a wrong key from damage.
        letter: The algorithm.
        sequence: The number of the commit that wrote it, or what takes its place.
        body: Nonce, ciphertext, tag.
    """

    head: bytes
    key_id: str
    check: str
    letter: str
    sequence: int
    body: bytes


def seal(keyring: Keyring, family: str, plain: bytes, place: bytes, sequence: int = 0) -> bytes:
    """Return an envelope as JSON.

    Args:
        keyring: Its primary key is used.
        family: The run.
        plain: What is to be hidden.
        place: Where it belongs: opened anywhere else, it is refused.
        sequence: A number for all to see.
    """
    return seal_with(keyring.keys_of(family), LETTERS[keyring.algorithm], plain, place, sequence)


def seal_with(keys: RunKeys, letter: str, plain: bytes, place: bytes, sequence: int) -> bytes:
    """Return an envelope as JSON, under these keys."""
    head = b"%b.%b.%b.%b.%d" % (
        _VERSION,
        keys.key_id.encode(),
        keys.check.encode(),
        letter.encode(),
        sequence,
    )
    nonce = os.urandom(NONCE_BYTES)
    sealed = keys.cipher(letter).encrypt(nonce, plain, frame(head, place))
    return b'"%b.%b"' % (head, b2a_base64(nonce + sealed, newline=False))


def is_sealed(data: bytes) -> bool:
    """Return whether data looks like an envelope."""
    return data.startswith(b'"s1.') and data.endswith(b'"')


def parse(data: bytes) -> Envelope:
    """Return an envelope.

    Raises:
        PlaintextError: It is none.
        SealError: It is damaged.
    """
    if not is_sealed(data):
        raise PlaintextError("is not sealed")
    head, _, body = data[1:-1].rpartition(b".")
    try:
        _version, key_id, check, letter, sequence = head.decode("ascii").split(".")
        content = a2b_base64(body, strict_mode=True)
        number = int(sequence)
    except ValueError:
        raise SealError("has been altered: its envelope cannot be read") from None
    if len(content) < NONCE_BYTES + TAG_BYTES or letter not in LETTERS.values():
        raise SealError("has been altered: its envelope cannot be read")
    return Envelope(head, key_id, check, letter, number, content)


def unseal(keyring: Keyring, family: str, envelope: Envelope, place: bytes) -> bytes:
    """Return what an envelope hides.

    Raises:
        DecryptionError: The key is missing, or another one.
        SealError: It has been altered, or belongs elsewhere.
    """
    from cryptography.exceptions import InvalidTag

    keys = keyring.keys_of(family, envelope.key_id, envelope.check)
    nonce, sealed = envelope.body[:NONCE_BYTES], envelope.body[NONCE_BYTES:]
    try:
        return keys.cipher(envelope.letter).decrypt(nonce, sealed, frame(envelope.head, place))
    except InvalidTag:
        raise SealError(
            "has been altered, or moved here from another run, checkpoint or place"
        ) from None
