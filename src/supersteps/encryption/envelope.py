"""Envelopes: the form of one encrypted text.

"s1.KEY.CHECK.A.12.BASE64"  as a JSON string: version, key id, key check, algorithm,
                            sequence, and nonce, ciphertext and tag in base64

Everything before the last dot is authenticated, and so is the place where the envelope is stored.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

from supersteps.encryption.keys import LETTERS, Keyring, RunKeys, frame

NONCE_BYTES = 12
TAG_BYTES = 16
# Nonces are random. With 96 bits, NIST SP 800-38D allows 2**32 messages for one key, so that two of
# them share a nonce with a chance below 2**-32. This limit is respected because each run has its
# own key: a run that encrypts a thousand parts a second reaches it after 50 days.
_VERSION = b"s1"


class EnvelopeError(ValueError):
    """A record is not what was encrypted here; says why, not where."""


class PlaintextError(EnvelopeError):
    """A record was never encrypted."""


class Envelope(NamedTuple):
    """An envelope, not decrypted yet.

    Attributes:
        head: Everything that is in clear.
        key_id: The key.
        check: Tells a wrong key from damage.
        letter: The algorithm.
        sequence: The number of the commit that wrote it, or a substitute.
        body: Nonce, ciphertext, tag.
    """

    head: bytes
    key_id: str
    check: str
    letter: str
    sequence: int
    body: bytes


def encrypt(keyring: Keyring, family: str, plain: bytes, place: bytes, sequence: int = 0) -> bytes:
    """Return an envelope as JSON.

    Args:
        keyring: Its primary key is used.
        family: The run.
        plain: The text to encrypt.
        place: Where it is stored: decrypting it anywhere else fails.
        sequence: A number stored in clear.
    """
    return encrypt_with(keyring.keys_of(family), LETTERS[keyring.algorithm], plain, place, sequence)


def encrypt_with(keys: RunKeys, letter: str, plain: bytes, place: bytes, sequence: int) -> bytes:
    """Return an envelope as JSON, encrypted with these keys."""
    head = b"%b.%b.%b.%b.%d" % (
        _VERSION,
        keys.key_id.encode(),
        keys.check.encode(),
        letter.encode(),
        sequence,
    )
    nonce = os.urandom(NONCE_BYTES)
    encrypted = keys.cipher(letter).encrypt(nonce, plain, frame(head, place))
    return b'"%b.%b"' % (head, b2a_base64(nonce + encrypted, newline=False))


def is_encrypted(data: bytes) -> bool:
    """Return whether data looks like an envelope."""
    return data.startswith(b'"s1.') and data.endswith(b'"')


def parse(data: bytes) -> Envelope:
    """Parse an envelope.

    Raises:
        PlaintextError: It is not an envelope.
        EnvelopeError: It is damaged.
    """
    if not is_encrypted(data):
        raise PlaintextError("is not encrypted")
    head, _, body = data[1:-1].rpartition(b".")
    try:
        _version, key_id, check, letter, sequence = head.decode("ascii").split(".")
        content = a2b_base64(body, strict_mode=True)
        number = int(sequence)
    except ValueError:
        raise EnvelopeError("has been altered: its envelope cannot be read") from None
    if len(content) < NONCE_BYTES + TAG_BYTES or letter not in LETTERS.values():
        raise EnvelopeError("has been altered: its envelope cannot be read")
    return Envelope(head, key_id, check, letter, number, content)


def decrypt(keyring: Keyring, family: str, envelope: Envelope, place: bytes) -> bytes:
    """Decrypt an envelope.

    Raises:
        DecryptionError: The key is missing or wrong.
        EnvelopeError: It has been altered, or was moved here.
    """
    from cryptography.exceptions import InvalidTag

    keys = keyring.keys_of(family, envelope.key_id, envelope.check)
    nonce, encrypted = envelope.body[:NONCE_BYTES], envelope.body[NONCE_BYTES:]
    try:
        return keys.cipher(envelope.letter).decrypt(nonce, encrypted, frame(envelope.head, place))
    except InvalidTag:
        raise EnvelopeError(
            "has been altered, or moved here from another run, checkpoint or place"
        ) from None
