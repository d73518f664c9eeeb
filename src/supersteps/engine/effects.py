"""What a call of a handler did, as plain data: the unit of the journal and the input of the merge."""

from __future__ import annotations

import msgspec

from supersteps.engine.state import Write
from supersteps.engine.values import Sealed, Sealer


class Send(msgspec.Struct, frozen=True):
    """A message that a handler sent.

    Attributes:
        payload: The message.
        target_id: The only receiver the sender wants, None for all that the edges choose.
    """

    payload: Sealed
    target_id: str | None


class Ask(msgspec.Struct, frozen=True):
    """A question that a handler asked.

    Attributes:
        request_id: Its id.
        source_executor_id: Who gets the answer.
        data: The question.
        timestamp: When it was asked: ISO 8601, UTC.
    """

    request_id: str
    source_executor_id: str
    data: Sealed
    timestamp: str


class Effects(msgspec.Struct):
    """What one call did.

    Attributes:
        executor_id: Who was called.
        ordinal: Which of the executor's calls in the superstep it was, from 0.
        sends: Messages, in order.
        outputs: Outputs of the workflow, in order.
        writes: State changes, in order.
        asks: Questions, in order.
    """

    executor_id: str
    ordinal: int
    sends: list[Send] = []
    outputs: list[Sealed] = []
    writes: list[Write] = []
    asks: list[Ask] = []

    def to_record(self) -> bytes:
        """Return the effects as a journal record."""
        return msgspec.json.encode(
            _Record(
                self.executor_id,
                self.ordinal,
                [(_raw(send.payload), send.target_id) for send in self.sends],
                [_raw(output) for output in self.outputs],
                [(w.scope, w.key, w.value is not None, w.is_update, _raw(w.value)) for w in self.writes],
                [(ask.request_id, ask.source_executor_id, _raw(ask.data), ask.timestamp) for ask in self.asks],
            )
        )

    @classmethod
    def from_record(cls, record: bytes, sealer: Sealer) -> Effects:
        """Return the effects that a journal record holds."""
        stored = msgspec.json.decode(record, type=_Record)

        def load(raw: msgspec.Raw) -> Sealed:
            return sealer.load(bytes(raw))

        return cls(
            stored.executor_id,
            stored.ordinal,
            [Send(load(raw), target) for raw, target in stored.sends],
            [load(raw) for raw in stored.outputs],
            [
                Write(scope, key, load(raw) if exists else None, is_update)
                for scope, key, exists, is_update, raw in stored.writes
            ],
            [Ask(request_id, source, load(raw), when) for request_id, source, raw, when in stored.asks],
        )


class _Record(msgspec.Struct):
    executor_id: str
    ordinal: int
    sends: list[tuple[msgspec.Raw, str | None]]
    outputs: list[msgspec.Raw]
    writes: list[tuple[tuple[str, ...], str, bool, bool, msgspec.Raw]]
    asks: list[tuple[str, str, msgspec.Raw, str]]


def _raw(value: Sealed | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if value is None else value.encode())
