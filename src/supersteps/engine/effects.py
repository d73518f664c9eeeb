"""`Effects`: the effects of a handler's call, as plain data.

They are the unit of the journal and the input of the merge.
"""

from __future__ import annotations

import msgspec

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.question import Ask, AskRecord
from supersteps.checkpoint.sections.timer import Delayed, DelayedRecord
from supersteps.checkpoint.stored import decode_stored, raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.engine.view import Write


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message that a handler sent.

    Attributes:
        payload: The message.
        target_id: The only receiver, None for all that the edges choose.
    """

    payload: Sealed
    target_id: str | None


class Effects(msgspec.Struct, gc=False):
    """The effects of one call.

    Attributes:
        executor_id: The executor, by path.
        key: Identifies the call among the executor's calls in the superstep.
        sends: Messages, in order.
        outputs: Outputs of the workflow, in order.
        writes: State changes, in order.
        asks: Questions, in order.
        delayed: Messages for later, in order.
        failures: Failures for the executors at the end of the error edges.
        is_apart: Whether it ran concurrently with the executor's other calls, and saw none of their
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
                [ask.to_record() for ask in self.asks],
                [delayed.to_record() for delayed in self.delayed],
                [_raw(failure) for failure in self.failures],
            )
        )

    @classmethod
    def from_record(cls, record: bytes, sealer: Sealer) -> Effects:
        """Return the effects of a journal record."""
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
            [ask.load(sealer) for ask in stored.asks],
            [delayed.load(sealer) for delayed in stored.delayed],
            [load(data) for data in stored.failures],
        )


class _Record(msgspec.Struct, omit_defaults=True):
    executor_id: str
    key: str
    sends: list[tuple[msgspec.Raw, str | None]] = []
    outputs: list[msgspec.Raw] = []
    writes: list[tuple[Scope, str, bool, bool, msgspec.Raw]] = []
    asks: list[AskRecord] = []
    delayed: list[DelayedRecord] = []
    failures: list[msgspec.Raw] = []


def _raw(value: Sealed | None) -> msgspec.Raw:
    return raw(b"null" if value is None else value.encode())
