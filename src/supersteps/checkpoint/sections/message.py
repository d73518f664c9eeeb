"""Messages in flight, and answers on their way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.edits import DELETE, Path, how_to_write, index_of, refusal
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.section import (
    Editing,
    Names,
    PresentGraph,
    Section,
    ValueReader,
)
from supersteps.checkpoint.stored import decode_stored, raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.errors import CheckpointDecodeError
from supersteps.paths import is_fan_in
from supersteps.requests import RequestResponse
from supersteps.typing import display_name

MESSAGES: PartKey = ("messages",)

_encoder = msgspec.json.Encoder()


class Reply(Sealed, kw_only=True):
    """An answer on its way to the executor that asked.

    It is put together when it is opened, and stored as its question.

    Attributes:
        request_id: The request.
        question: The question.
        answer: The answer.
        direct: Whether a `@response_handler` takes it; otherwise it is handled as a
            `RequestResponse`.
    """

    request_id: str
    question: Sealed
    answer: Sealed
    direct: bool

    def open(self) -> Any:
        return RequestResponse(self.answer.open(), self.question.open(), self.request_id)

    def encode(self) -> bytes:
        return self.question.encode()


class Message(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A message in flight.

    Attributes:
        payload: The message itself.
        source_ids: Executors that sent it.
        target_ids: Executors that get it in the next superstep; of a delayed one, fan-ins as well.
        taker: The place, among its receiver's handlers, of the one that routing has found for it,
            None where it is to be found at the call; it is not stored. It is not a reference to
            the handler: that may lead to the run, and the garbage collector does not track
            messages.
    """

    payload: Sealed
    source_ids: tuple[str, ...]
    target_ids: tuple[str, ...]
    taker: int | None = None


class ReplyPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes a stored message an answer: its data is the question.

    Attributes:
        request_id: The request.
        answer: The answer, encoded.
        direct: Whether a `@response_handler` takes it; otherwise it is handled as a
            `RequestResponse`.
    """

    request_id: str
    answer: msgspec.Raw
    direct: bool = False


class StoredMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message in flight as it is stored.

    Attributes:
        data: The message, encoded.
        source_ids: Executors that sent it (several after a fan-in).
        target_ids: Executors to which it goes in the next superstep.
        reply: What makes it an answer, None for a plain message.
    """

    data: msgspec.Raw
    source_ids: tuple[str, ...]
    target_ids: tuple[str, ...]
    reply: ReplyPart | None = None


# ------------------------------------------------------------------------------ run time and stored


def encode_messages(messages: Iterable[Message]) -> bytes:
    """Return messages in flight as their part."""
    return _encoder.encode([stored_message(message) for message in messages])


def stored_message(message: Message) -> StoredMessage:
    """Return a message as it is stored."""
    payload = message.payload
    reply = reply_part(payload) if isinstance(payload, Reply) else None
    return StoredMessage(
        msgspec.Raw(payload.encode()), message.source_ids, message.target_ids, reply
    )


def reply_part(payload: Sealed) -> ReplyPart | None:
    """Return what makes a stored message an answer, None for a plain one."""
    if not isinstance(payload, Reply):
        return None
    return ReplyPart(payload.request_id, raw(payload.answer.encode()), payload.direct)


def read_messages(part: Part | None) -> list[StoredMessage]:
    """Return the messages in flight of a checkpoint, their data still encoded."""
    return (
        [] if part is None else decode_stored(part, list[StoredMessage], "the messages in flight")
    )


def load_message(stored: StoredMessage, sealer: Sealer) -> Message:
    """Return a stored message."""
    return Message(
        load_payload(stored.data, stored.reply, sealer), stored.source_ids, stored.target_ids
    )


def load_payload(data: msgspec.Raw, reply: ReplyPart | None, sealer: Sealer) -> Sealed:
    """Return the payload of a stored message."""
    payload = sealer.load(bytes(data))
    if reply is None:
        return payload
    answer = sealer.load(bytes(reply.answer))
    return Reply(
        sealer.codec,
        request_id=reply.request_id,
        question=payload,
        answer=answer,
        direct=reply.direct,
    )


# -------------------------------------------------------------------------------------- for people


def describe_message(message: StoredMessage, reader: ValueReader) -> dict[str, Any]:
    """Return a message as people see it."""
    source = message.source_ids[0] if message.source_ids else ""
    described = {
        "data": reader.read(message.data, f"message from {source!r}"),
        "source_id": source,
        "source_ids": list(message.source_ids),
        "target_ids": list(message.target_ids),
    }
    if message.reply is not None:
        reply = message.reply
        described["reply"] = {
            "request_id": reply.request_id,
            "answer": reader.read(reply.answer, f"answer to {reply.request_id!r}"),
            "direct": reply.direct,
        }
    return described


def stored_from_described(described: Mapping[str, Any], source: str, codec: Codec) -> StoredMessage:
    """Return a message that people see, and may have made, as it is stored."""
    reply = described.get("reply")
    one_target = described.get("target_id")
    return StoredMessage(
        raw(codec.encode(described.get("data"), f"messages[{source!r}]")),
        tuple(described.get("source_ids") or (source,)),
        tuple(described.get("target_ids") or ([one_target] if one_target else ())),
        None
        if reply is None
        else ReplyPart(
            reply["request_id"],
            raw(codec.encode(reply["answer"], f"answer to {reply['request_id']!r}")),
            reply["direct"],
        ),
    )


# --------------------------------------------------------------------------------------- migration


def renamed_message(message: StoredMessage, names: Names) -> StoredMessage:
    """Return a message with present names."""
    return msgspec.structs.replace(
        message,
        source_ids=tuple(map(names.address, message.source_ids)),
        target_ids=tuple(
            names.fan_in(target)[0] if is_fan_in(target) else names.address(target)
            for target in message.target_ids
        ),
    )


def misfits_of(message: StoredMessage, what: str, graph: PresentGraph) -> Iterator[str]:
    """Yield why the present graph cannot deliver a message.

    Args:
        message: The message.
        what: What it is: "a message", "a timer".
        graph: The present graph.
    """
    reply = message.reply
    try:
        value = graph.decode(message.data, what)
        answer = None if reply is None else graph.decode(reply.answer, what)
    except CheckpointDecodeError as error:
        targets = ", ".join(map(repr, message.target_ids))
        yield f"{error} (on its way to {targets}): use upgrade= or message="
        return
    for target in message.target_ids:
        if not graph.has_executor(target):
            if not graph.has_fan_in(target):
                yield (
                    f"{what} is on its way to executor {target!r}, which does not exist: rename= "
                    "it, or use message="
                )
            continue
        if reply is None:
            takes = graph.handles(target, value)
        elif reply.direct:
            takes = graph.takes_answer(target, value, answer)
        else:
            takes = graph.handles(target, RequestResponse(answer, value, reply.request_id))
        if not takes:
            yield (
                f"{what} of type {display_name(type(value))} is on its way to executor {target!r}, "
                "which does not handle it: change it by message= or upgrade=, or let message= "
                "return DELETE"
            )


# ------------------------------------------------------------------------------------- the section


class _State(Protocol):
    messages: list[Message]


class Messages(Section):
    """Messages in flight, one list in the order in which they will be handled."""

    name = "messages"
    depth = 0
    title = "Messages in flight"
    brief = "messages"
    content = "messages"
    place = "INDEX"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.messages = [load_message(stored, sealer) for stored in read_messages(part)]

    def describe(
        self, shown: dict[str, Any], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        for message in read_messages(part):
            described = describe_message(message, reader)
            shown.setdefault(described["source_id"], []).append(described)

    def encode(
        self, shown: Mapping[str, Iterable[Mapping[str, Any]]], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        sent = [
            stored_from_described(message, source, codec)
            for source, messages in shown.items()
            for message in messages
        ]
        yield MESSAGES, _encoder.encode(sent)

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        return _encoder.encode([renamed_message(message, names) for message in read_messages(part)])

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        for message in read_messages(part):
            yield from misfits_of(message, "a message", graph)

    def edit(self, editing: Editing, given: Any, path: Path, new: Any) -> None:
        messages, deleted = read_messages(editing.parts.get(MESSAGES)), editing.deleted
        if len(path) == 1:
            hint = how_to_write("messages.INDEX")
            raise refusal(given, f"say which message. {hint} {_in_flight(messages, deleted)}")
        index = index_of(path[1])
        if index is None or not 0 <= index < len(messages) or index in deleted:
            raise refusal(
                given, f"there is no message {path[1]!r}. {_in_flight(messages, deleted)}"
            )
        was, inner = messages[index], path[2:]
        if new is DELETE and not inner:
            deleted.add(index)
            return
        if was.reply is not None:
            raise refusal(
                given,
                f"message {index} is an answer on its way to "
                f"{', '.join(map(repr, was.target_ids))}; fork a checkpoint before the answer and "
                "answer differently.",
            )
        value = editing.inside(given, "messages", bytes(was.data), inner, new) if inner else new
        for target in was.target_ids:
            if isinstance(value, RequestResponse) or not editing.graph.handles(target, value):
                types = ", ".join(map(display_name, editing.graph.handled_types(target)))
                raise refusal(
                    given,
                    f"message {index} goes to executor {target!r}, which handles {types}, not a "
                    f"{display_name(type(value))}.",
                )
        data = msgspec.Raw(editing.codec.encode(value, f"{given!r}"))
        messages[index] = msgspec.structs.replace(was, data=data)
        editing.parts[MESSAGES] = _encoder.encode(messages)


def without(part: Part, indices: Collection[int]) -> bytes:
    """Return messages in flight without some of them."""
    kept = [each for index, each in enumerate(read_messages(part)) if index not in indices]
    return _encoder.encode(kept)


def _in_flight(messages: Sequence[StoredMessage], deleted: Collection[int]) -> str:
    if not messages:
        return "No message is in flight."
    ways = [
        f"{index} ({', '.join(message.source_ids)} -> {', '.join(message.target_ids)})"
        for index, message in enumerate(messages)
        if index not in deleted
    ]
    return f"Messages in flight: {'; '.join(ways) or 'none is left'}."
