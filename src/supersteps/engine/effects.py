"""`Effects`: what a call of a handler did, as plain data.

They are the unit of the journal and the input of the merge.
"""

from __future__ import annotations

import msgspec

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.message import ReplyPart, load_payload, reply_part
from supersteps.checkpoint.sections.question import Ask, AskRecord, ask_from, record_of
from supersteps.checkpoint.stored import decode_stored, raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.checkpoint.work import Work
from supersteps.engine.view import Write


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message that a handler sent.

    Attributes:
        payload: The message.
        target_id: The only receiver the sender wants, None for all that the edges choose.
    """

    payload: Sealed
    target_id: str | None


class Delayed(msgspec.Struct, frozen=True, gc=False):
    """A message for later.

    Attributes:
        payload: The message.
        target_id: The only receiver the sender wants, None for all that the edges choose.
        due: When it is delivered: ISO 8601, UTC.
        attempt: Which attempt to handle it that will be. It is more than 1 for a call that is
            repeated; then the receiver is the sender itself.
        source_ids: Who sent it in the first place, where that is somebody else.
        work: Of a call that is repeated: which piece of work it does.
    """

    payload: Sealed
    target_id: str | None
    due: str
    attempt: int = 1
    source_ids: tuple[str, ...] = ()
    work: Work | None = None


class Effects(msgspec.Struct, gc=False):
    """What one call did.

    Attributes:
        executor_id: Who was called, by path.
        key: Which of the executor's calls in the superstep it was.
        sends: Messages, in order.
        outputs: Outputs of the workflow, in order.
        writes: State changes, in order.
        asks: Questions, in order.
        delayed: Messages for later, in order.
        failures: Failures for the executors at the end of the error edges.
        is_apart: Whether the executor's other calls ran side by side with it, and saw none of its
            writes.
    """

    executor_id: str
    key: str
    sends: list[Send] = []
    outputs: list[Sealed] = []
    writes: list[Write] = []
    asks: list[Ask] = []
    delayed: list[Delayed] = []
    failures: list[Sealed] = []
    is_apart: bool = False

    def to_record(self) -> bytes:
        """Return the effects as a journal record."""
        return msgspec.json.encode(
            _Record(
                self.executor_id,
                self.key,
                [(_raw(send.payload), send.target_id) for send in self.sends],
                [_raw(output) for output in self.outputs],
                [
                    (w.scope, w.key, w.value is not None, w.is_update, _raw(w.value))
                    for w in self.writes
                ],
                [record_of(ask) for ask in self.asks],
                [
                    _Delayed(
                        _raw(d.payload),
                        reply_part(d.payload),
                        d.target_id,
                        d.due,
                        d.attempt,
                        d.source_ids,
                        d.work,
                    )
                    for d in self.delayed
                ],
                [_raw(failure) for failure in self.failures],
            )
        )

    @classmethod
    def from_record(cls, record: bytes, sealer: Sealer) -> Effects:
        """Return the effects that a journal record holds."""
        stored = decode_stored(record, _Record, "a record in the journal")

        def load(data: msgspec.Raw) -> Sealed:
            return sealer.load(bytes(data))

        return cls(
            stored.executor_id,
            stored.key,
            [Send(load(data), target) for data, target in stored.sends],
            [load(data) for data in stored.outputs],
            [
                Write(scope, key, load(data) if exists else None, is_update)
                for scope, key, exists, is_update, data in stored.writes
            ],
            [ask_from(ask, sealer) for ask in stored.asks],
            [
                Delayed(
                    load_payload(d.data, d.reply, sealer),
                    d.target_id,
                    d.due,
                    d.attempt,
                    d.source_ids,
                    d.work,
                )
                for d in stored.delayed
            ],
            [load(data) for data in stored.failures],
        )


class _Delayed(msgspec.Struct, omit_defaults=True):
    data: msgspec.Raw
    reply: ReplyPart | None
    target_id: str | None
    due: str
    attempt: int = 1
    source_ids: tuple[str, ...] = ()
    work: Work | None = None


class _Record(msgspec.Struct, omit_defaults=True):
    executor_id: str
    key: str
    sends: list[tuple[msgspec.Raw, str | None]] = []
    outputs: list[msgspec.Raw] = []
    writes: list[tuple[Scope, str, bool, bool, msgspec.Raw]] = []
    asks: list[AskRecord] = []
    delayed: list[_Delayed] = []
    failures: list[msgspec.Raw] = []


def _raw(value: Sealed | None) -> msgspec.Raw:
    return raw(b"null" if value is None else value.encode())
