"""Messages of hand-made checkpoints that name no receiver."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.message import MESSAGES, StoredMessage, read_messages
from supersteps.checkpoint.values import Sealer
from supersteps.define.graph import Graph
from supersteps.engine.effects import Send
from supersteps.engine.encode import encode_changes
from supersteps.engine.levels import Levels
from supersteps.engine.merge import enter
from supersteps.engine.merged import Merged
from supersteps.engine.router import Router
from supersteps.engine.state import State

INPUT_SOURCE = "Workflow"
"""Sender of the input, as the start executor sees it."""


def unaddressed(parts: Mapping[PartKey, Part]) -> list[StoredMessage]:
    """Return the messages in flight that name no receiver."""
    return [message for message in read_messages(parts.get(MESSAGES)) if not message.target_ids]


def addressed(
    record: CheckpointRecord, graph: Graph, codec: Codec
) -> tuple[CheckpointRecord, tuple[str, ...]]:
    """Return a checkpoint whose messages all have receivers, and a sentence for each that has none.

    A message goes where the edges of its sender lead, as if it had just been sent; the input goes
    to the start executor.

    Args:
        record: The checkpoint; the senders of its messages are in the graph.
        graph: The graph.
        codec: Decodes the messages, for conditions and for who handles what.
    """
    if not unaddressed(record.parts):
        return record, ()
    levels, sealer, step = (
        Levels(graph),
        Sealer(codec, encoding=True),
        record.header.iteration_count,
    )
    state, merged = State.load(record.parts, sealer), Merged()
    router = Router(levels, state, sealer, step, merged)
    for message in state.messages:
        if message.target_ids:
            merged.messages.append(message)
        elif message.source_ids == (INPUT_SOURCE,):
            entered = enter(levels, State(), message.payload, message.source_ids, merged)
            merged.messages.append(entered)
        else:
            for source in message.source_ids:
                level = levels.of(source)
                router.route(level, level.local(source), Send(message.payload, None))
    router.release_fan_ins()
    parts = dict(record.parts)
    encode_changes(merged, state, levels, step=step).apply(parts)
    return replace(record, parts=parts), tuple(merged.undelivered)
