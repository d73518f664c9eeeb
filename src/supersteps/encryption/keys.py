"""Keys: the user's `Keyring`, and the keys derived from it for each run."""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from supersteps._process_fork import forkable_lock
from supersteps.errors import DecryptionError

KEY_BYTES = 32
Algorithm = Literal["AES-256-GCM", "ChaCha20-Poly1305"]
LETTERS: dict[str, str] = {"AES-256-GCM": "A", "ChaCha20-Poly1305": "C"}
"""The letters of the algorithms in an envelope."""

_REMEMBERED = 1024
"""Number of runs whose keys are cached; deriving them takes some microseconds."""

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Cipher(Protocol):
    """An algorithm with a key, as in the `cryptography` package."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def _ciphers() -> dict[str, Any]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    except ImportError as error:
        raise ImportError(
            'encryption needs the package cryptography: pip install "supersteps[encryption]"'
        ) from error
    return {"A": AESGCM, "C": ChaCha20Poly1305}


def frame(*items: str | int | bytes) -> bytes:
    """Encode items unambiguously as bytes: each with its length before it."""
    pieces = []
    for item in items:
        if isinstance(item, int):
            item = b"%d" % item
        elif isinstance(item, str):
            item = item.encode("utf-8", "surrogatepass")
        pieces.append(len(item).to_bytes(4, "big"))
        pieces.append(item)
    return b"".join(pieces)


def derive(key: bytes, *purpose: str) -> bytes:
    """Return a key for one purpose: HKDF-SHA256 (RFC 5869) with a fixed salt, one block long."""
    extracted = hmac.digest(b"supersteps sealed records 1", key, "sha256")
    return hmac.digest(extracted, frame(*purpose) + b"\x01", "sha256")


class RunKeys:
    """The keys derived from one key of the ring for one run.

    Attributes:
        key_id: The key they are derived from.
        check: A few characters that distinguish a wrong key under this id from damage.
        family: The run, or the checkpoint saved with `save_checkpoint`, that they belong to.
    """

    __slots__ = ("_address", "_ciphers", "_data", "_name", "_sum", "check", "family", "key_id")

    def __init__(self, key_id: str, check: str, master: bytes, family: str) -> None:
        self.key_id = key_id
        self.check = check
        self.family = family
        self._data = {letter: derive(master, "data", letter, family) for letter in LETTERS.values()}
        self._name = derive(master, "names", family)
        self._address = derive(master, "addresses", family)
        self._sum = derive(master, "sums", family)
        self._ciphers: dict[str, Cipher] = {}

    def cipher(self, letter: str) -> Cipher:
        """Return an algorithm with the run's key."""
        found = self._ciphers.get(letter)
        if found is None:
            found = self._ciphers[letter] = _ciphers()[letter](self._data[letter])
        return found

    def hidden(self, *path: str) -> str:
        """Return the hash that replaces a name in a part's key; equal names elsewhere differ."""
        return b64encode(hmac.digest(self._name, frame(*path), "sha256")[:18], b"-_").decode()

    def address(self, *what: str | bytes) -> str:
        """Return the address of content that is found by its hash or by another part's key."""
        return b64encode(hmac.digest(self._address, frame(*what), "sha256")[:18], b"-_").decode()

    def weight(self, key: tuple[str, ...], sequence: int, ordinal: int, plain: bytes) -> int:
        """Return a part's summand in the sum over all parts of a checkpoint."""
        return int.from_bytes(
            hmac.digest(self._sum, frame(*key, "", sequence, ordinal, plain), "sha256"), "big"
        )


class Keyring:
    """The keys of an `EncryptedStorage`: all of them decrypt, the primary one encrypts what is new.

    Args:
        keys: 32 random bytes for each key id (letters, digits, `-`, `_`); `Keyring.generate_key()`
            creates one.
        primary: Id of the key for new records.
        algorithm: The algorithm for new records; old records name their own.

    Attributes:
        primary: Id of the key for new records.
        algorithm: For new records.

    Raises:
        ValueError: A key or an id cannot be used.
        ImportError: The package `cryptography` is missing.
    """

    def __init__(
        self, keys: Mapping[str, bytes], primary: str, *, algorithm: Algorithm = "AES-256-GCM"
    ) -> None:
        for key_id, key in keys.items():
            if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
                raise ValueError(f"key id {key_id!r}: use up to 64 letters, digits, '-' and '_'")
            if not isinstance(key, bytes) or len(key) != KEY_BYTES:
                raise ValueError(
                    f"key {key_id!r} must be {KEY_BYTES} bytes; Keyring.generate_key() creates one"
                )
        if primary not in keys:
            raise ValueError(
                f"the primary key {primary!r} is not among the keys "
                f"({', '.join(keys) or 'there are none'})"
            )
        if algorithm not in LETTERS:
            raise ValueError(f"algorithm {algorithm!r}: use one of {', '.join(LETTERS)}")
        _ciphers()
        self.primary = primary
        self.algorithm: Algorithm = algorithm
        self._keys = dict(keys)
        self._checks = {
            key_id: b64encode(derive(key, "check")[:6], b"-_").decode()
            for key_id, key in keys.items()
        }
        self._lock = forkable_lock()
        self._runs: OrderedDict[tuple[str, str], RunKeys] = OrderedDict()

    @staticmethod
    def generate_key() -> bytes:
        """Return a new key from the system's random source."""
        return os.urandom(KEY_BYTES)

    @classmethod
    def from_environment(
        cls, variable: str = "SUPERSTEPS_KEYS", *, algorithm: Algorithm = "AES-256-GCM"
    ) -> Keyring:
        """Return the keyring in an environment variable: `id:base64,id:base64`, primary key first.

        Raises:
            ValueError: The variable is missing or not of that form; the message shows none of its
                content.
        """
        text = os.environ.get(variable, "").strip()
        if not text:
            raise ValueError(
                f"the environment variable {variable} is not set: set it to keys as "
                "id:base64,id:base64"
            )
        keys: dict[str, bytes] = {}
        for number, item in enumerate(text.split(","), 1):
            key_id, colon, encoded = item.strip().partition(":")
            try:
                key = b64decode(encoded, validate=True)
            except ValueError:
                key = b""
            if (
                not colon
                or len(key) != KEY_BYTES
                or not _KEY_ID.fullmatch(key_id)
                or key_id in keys
            ):
                raise ValueError(
                    f"item {number} of the environment variable {variable} is not a key, or "
                    f"repeats an id: write id:base64, with the base64 of {KEY_BYTES} bytes"
                )
            keys[key_id] = key
        return cls(keys, next(iter(keys)), algorithm=algorithm)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys."""
        return tuple(self._keys)

    def keys_of(self, family: str, key_id: str | None = None, check: str | None = None) -> RunKeys:
        """Return a run's keys.

        Args:
            family: The run.
            key_id: The key they are derived from; the primary one if None.
            check: The record's key check; None without a record.

        Raises:
            DecryptionError: The ring has no such key, or a different one under its id.
        """
        wanted = self.primary if key_id is None else key_id
        master = self._keys.get(wanted)
        if master is None:
            raise DecryptionError(
                f"key {wanted!r} is needed, but the keyring has only "
                f"{', '.join(map(repr, self._keys))}. Add it to the keyring; without it these "
                "records are lost."
            )
        if check is not None and check != self._checks[wanted]:
            raise DecryptionError(
                f"the keyring's key {wanted!r} is not the key that these records were written "
                "with, although it has the same id (or the records were altered). Put the right "
                "key under this id."
            )
        with self._lock:
            found = self._runs.get((wanted, family))
            if found is None:
                found = self._runs[wanted, family] = RunKeys(
                    wanted, self._checks[wanted], master, family
                )
                if len(self._runs) > _REMEMBERED:
                    self._runs.popitem(last=False)
            else:
                self._runs.move_to_end((wanted, family))
        return found

    def tag(self, label: str, key_id: str | None = None) -> str:
        """Return the hash that replaces a tag in listings; equal tags under one key are equal."""
        key = derive(self._keys[self.primary if key_id is None else key_id], "tags")
        return "~" + b64encode(hmac.digest(key, frame(label), "sha256")[:18], b"-_").decode()

    def __repr__(self) -> str:
        return (
            f"Keyring({', '.join(self._keys)}; primary={self.primary!r}, "
            f"algorithm={self.algorithm!r})"
        )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Keyring cannot be pickled or copied, so that keys stay in one place; create "
            "another from its source"
        )
