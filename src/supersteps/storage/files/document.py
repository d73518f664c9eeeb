"""Files of the JSON storage: readable checkpoints with checksums.

A document is a JSON object, one line per field, whose last field is a checksum of all bytes before
it. A line is a JSON object with a checksum of its entry. The checksum and the fields `format` and
`version` will never change, so that damage can always be told from a newer version.

A checkpoint's parts are written as the compact JSON to which they were encoded, one part per line,
in nested objects that mirror their keys:

    {
      "format": "supersteps.checkpoint",
      "version": "1.0",
      "standalone": false,
      "checkpoint_id": "0198f3-000002",
      ...
      "lists": [["outputs"]],
      "shared_state": {
        "draft": "Once upon a time"
      },
      "outputs": ["first","second"],
      "checksum": "9f86d081884c7d659a2feaa0c55ad015"
    }
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec

from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, check_version
from supersteps.checkpoint.sections.table import SECTION_DEPTHS
from supersteps.errors import CheckpointEncodeError, CorruptCheckpointError

T = TypeVar("T")

CHECKPOINT = "supersteps.checkpoint"

_DIGEST_BYTES = 16
_OPENING = b'{\n  "format": '
_CHECKSUM = (b',\n  "checksum": "', b'"\n}\n')
_CHECKSUM_LENGTH = sum(map(len, _CHECKSUM)) + 2 * _DIGEST_BYTES
_LINE = (b'{"checksum":"', b'","entry":', b"}")
_ENTRY_START = len(_LINE[0]) + 2 * _DIGEST_BYTES + len(_LINE[1])
_CONTENT = b',\n  "lists": '


class Frame(msgspec.Struct, frozen=True):
    """The fields that every document has.

    Attributes:
        format: The kind of document.
        version: Version of the stored format.
        standalone: Whether it is a checkpoint that was saved directly and is valid without a run.
    """

    format: str = ""
    version: str = ""
    standalone: bool = False


class _Lists(msgspec.Struct, frozen=True):
    """Which parts of a checkpoint document are lists that grow."""

    lists: list[PartKey]


# ---------------------------------------------------------------------------------------- checksums


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest().encode()


def checksummed_document(fields: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a document of named JSON values, the first of which must be `format`."""
    body = b"{\n  " + b",\n  ".join(b'"%s": %s' % (name.encode(), value) for name, value in fields)
    return b"".join((body, _CHECKSUM[0], _digest(body), _CHECKSUM[1]))


def checked_fields(data: bytes, kind: str, path: Path) -> bytes:
    """Return the small fields of a document, those before a checkpoint's parts, as JSON.

    Args:
        data: Content of the file.
        kind: The `format` it must have.
        path: The file, for the message.

    Raises:
        CorruptCheckpointError: It is damaged, or not such a document.
        CheckpointVersionError: A newer version of the library wrote it.
    """
    body, tail = data[:-_CHECKSUM_LENGTH], data[-_CHECKSUM_LENGTH:]
    if not data.startswith(_OPENING):
        raise CorruptCheckpointError(
            f"{path} is not a {kind} file, or its beginning is missing ({len(data)} bytes). "
            "Restore it from a backup, or move it out of this folder."
        )
    if tail != _digest(body).join(_CHECKSUM):
        raise CorruptCheckpointError(
            f"{path} is damaged: its {len(data)} bytes do not match its checksum, so it was "
            "truncated or changed after it was written. Restore it from a backup, or delete it "
            "and continue from another checkpoint."
        )
    # Line breaks are only between fields, because the values before the parts are compact.
    head = body.partition(_CONTENT)[0] + b"}"
    frame = decode(head, Frame, path)
    check_version(frame.version, f"file {path}")
    if frame.format != kind:
        raise CorruptCheckpointError(
            f"{path} is a {frame.format} file where a {kind} file should be; move it back to its "
            "place"
        )
    return head


def decode(data: bytes, kind: type[T], path: Path) -> T:
    """Decode intact JSON to a struct.

    Raises:
        CorruptCheckpointError: It has a different shape.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (
        ValueError,
        RecursionError,
    ) as error:  # errors of msgspec and of Unicode are ValueErrors
        raise CorruptCheckpointError(
            f"{path} is intact but has unexpected content ({error}); restore it from a backup"
        ) from error


def check_json(value: bytes, where: str) -> None:
    """Refuse a value that would make its file unreadable.

    Raises:
        CheckpointEncodeError: It is not one JSON value on one line.
    """
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointEncodeError(f"{where} is not JSON: {error}") from error
    if b"\n" in value:
        raise CheckpointEncodeError(f"{where} is JSON with line breaks; it has to be compact")


def checksummed_line(entry: bytes) -> bytes:
    """Return a line with one JSON value, which must not contain line breaks."""
    return b"".join((_LINE[0], _digest(entry), _LINE[1], entry, _LINE[2], b"\n"))


def checked_line(line: bytes) -> bytes | None:
    """Return the entry of a line, without its line break, None if it is damaged."""
    entry = line[_ENTRY_START : -len(_LINE[2])]
    return entry if checksummed_line(entry) == line + b"\n" else None


# -------------------------------------------------------------------------------------- checkpoints


def encode_checkpoint(record: CheckpointRecord, standalone: bool) -> bytes:
    """Return the document of a checkpoint.

    Raises:
        CheckpointEncodeError: An id or a key cannot be encoded as UTF-8.
    """
    try:
        return checksummed_document(_checkpoint_fields(record.header, record.parts, standalone))
    except UnicodeEncodeError as error:
        raise CheckpointEncodeError(
            f"checkpoint {record.header.checkpoint_id!r} has an id or a key that is not valid "
            f"Unicode: {error.object!r}"
        ) from error


def _checkpoint_fields(
    header: CheckpointHeader, parts: Mapping[PartKey, Part], standalone: bool
) -> Iterator[tuple[str, bytes]]:
    encode = msgspec.json.encode
    yield "format", encode(CHECKPOINT)
    yield "version", encode(header.version)
    yield "standalone", encode(standalone)
    for name in header.__struct_fields__:
        if name != "version":
            yield name, encode(getattr(header, name))
    yield "lists", encode([key for key, part in parts.items() if isinstance(part, ListPart)])
    sections: dict[str, dict[PartKey, bytes]] = {}
    for key, part in parts.items():
        if len(key) != 1 + SECTION_DEPTHS.get(key[0], -1):
            raise ValueError(
                f"checkpoint {header.checkpoint_id!r} has a part with a key of an unknown shape: "
                f"{key!r}"
            )
        sections.setdefault(key[0], {})[key[1:]] = (
            part.to_json() if isinstance(part, ListPart) else part
        )
    for name, section in sections.items():
        yield name, _nest(section, "  ")


def _nest(values: Mapping[PartKey, bytes], indent: str) -> bytes:
    """Return values as objects nested by the names in their keys, one value per line."""
    if () in values:
        return values[()]
    groups: dict[str, dict[PartKey, bytes]] = {}
    for (name, *rest), value in values.items():
        groups.setdefault(name, {})[tuple(rest)] = value
    deeper = indent + "  "
    lines = (
        f"\n{deeper}".encode() + msgspec.json.encode(n) + b": " + _nest(g, deeper)
        for n, g in groups.items()
    )
    return b"{" + b",".join(lines) + f"\n{indent}}}".encode()


def decode_header(data: bytes, path: Path) -> tuple[CheckpointHeader, Frame]:
    """Return the header of a checkpoint document; its parts are verified but not decoded.

    Raises:
        CorruptCheckpointError: It is damaged, or not a checkpoint.
        CheckpointVersionError: A newer version of the library wrote it.
    """
    head = checked_fields(data, CHECKPOINT, path)
    return decode(head, CheckpointHeader, path), decode(head, Frame, path)


def decode_checkpoint(data: bytes, path: Path) -> tuple[CheckpointRecord, Frame]:
    """Return the whole checkpoint of a document.

    Raises:
        CorruptCheckpointError: It is damaged, or not a checkpoint.
        CheckpointVersionError: A newer version of the library wrote it.
    """
    header, frame = decode_header(data, path)
    lists = set(decode(data, _Lists, path).lists)
    sections = decode(data, dict[str, msgspec.Raw], path)
    parts: dict[PartKey, Part] = {}
    for section, depth in SECTION_DEPTHS.items():
        if section in sections:
            for key, raw in _flatten((section,), sections[section], depth, path):
                parts[key] = (
                    ListPart(map(bytes, decode(raw, list[msgspec.Raw], path)))
                    if key in lists
                    else raw
                )
    return CheckpointRecord(header, parts), frame


def _flatten(
    place: PartKey, raw: msgspec.Raw, depth: int, path: Path
) -> Iterator[tuple[PartKey, bytes]]:
    """Yield the values of a section."""
    if depth == 0:
        yield place, bytes(raw)
        return
    for name, inner in decode(bytes(raw), dict[str, msgspec.Raw], path).items():
        yield from _flatten((*place, name), inner, depth - 1, path)
