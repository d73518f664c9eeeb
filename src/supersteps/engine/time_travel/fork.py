"""Forks: a checkpoint's parts, edited, as the start of a new run.

Pure: no I/O and no clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.edits import DELETE, Edits, Path, how_to_write, parse_path, refusal
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint.sections.message import (
    MESSAGES,
    encode_messages,
    read_messages,
    without,
)
from supersteps.checkpoint.sections.question import REPLIES, REQUESTS
from supersteps.checkpoint.sections.section import Editing
from supersteps.checkpoint.sections.state import SUB_WORKFLOWS
from supersteps.checkpoint.sections.sub_run import encode_sub_run
from supersteps.checkpoint.sections.table import SECTIONS
from supersteps.checkpoint.sections.timer import TIMERS
from supersteps.checkpoint.values import Sealer
from supersteps.define.subworkflow import takes_input
from supersteps.engine.levels import Levels
from supersteps.engine.merge import enter
from supersteps.engine.merged import Merged
from supersteps.engine.state import State
from supersteps.engine.time_travel.present_graph import PresentGraph
from supersteps.errors import UnhandledMessageError
from supersteps.states import WorkflowRunState, state_at_barrier
from supersteps.typing import display_name

INPUT = "input"

_SHAPES = ", ".join(
    [INPUT, *(f"{name}.{each.place}" for name, each in SECTIONS.items() if each.place)]
)


def status_of(parts: Mapping[PartKey, Part]) -> WorkflowRunState:
    """Return the state of a run that starts with these parts."""
    sections = {key[0] for key in parts}
    goes_on = REPLIES in sections or TIMERS in sections or bool(read_messages(parts.get(MESSAGES)))
    return state_at_barrier(goes_on=goes_on, is_waiting=REQUESTS in sections)


def edited_parts(
    record: CheckpointRecord, changes: Edits, levels: Levels, codec: Codec
) -> dict[PartKey, Part]:
    """Return the parts of a checkpoint with changes made to them, in their order.

    Args:
        record: The checkpoint; not changed.
        changes: New values, or `DELETE`, by path.
        levels: The present graph.
        codec: Decodes and encodes values.

    Raises:
        ForkError: A path leads nowhere, or a value does not fit its place.
        UnhandledMessageError: The start executor does not take the new input.
        CheckpointEncodeError: A value cannot be saved; the message names its path.
    """
    editing = Editing(record.parts, PresentGraph(levels.root.graph, codec), codec)
    for given, value in changes.items():
        path = parse_path(given)
        section = SECTIONS.get(str(path[0]))
        if path[0] == INPUT:
            _change_input(editing, record.header, levels, given, path[1:], value)
        elif section is not None and section.place:
            section.edit(editing, given, path, value)
        else:
            known = f" {path[0]!r} records what happened and cannot be edited." if section else ""
            raise refusal(
                given,
                f"there is no section {str(path[0])!r} to edit.{known} {how_to_write(_SHAPES)}",
            )
    if editing.deleted:
        editing.parts[MESSAGES] = without(editing.parts[MESSAGES], editing.deleted)
    return editing.parts


def _change_input(
    editing: Editing,
    header: CheckpointHeader,
    levels: Levels,
    given: Any,
    inner: Path,
    new: Any,
) -> None:
    if header.iteration_count != 0:
        raise refusal(
            given,
            f"checkpoint {header.checkpoint_id!r} is that of superstep {header.iteration_count}, "
            "where the input has been handled; only iteration 0 holds it. Fork that one, or "
            "change messages.INDEX or shared_state.KEY.",
        )
    messages = read_messages(editing.parts.get(MESSAGES))
    if len(messages) != 1 or editing.deleted:
        raise refusal(
            given,
            f"checkpoint {header.checkpoint_id!r} has {len(messages) - len(editing.deleted)} "
            "messages in flight where the one input should be.",
        )
    if new is DELETE and not inner:
        raise refusal(given, "a run without input does nothing; pass another one.")
    was = messages[0]
    value = editing.inside(given, INPUT, bytes(was.data), inner, new) if inner else new
    graph = levels.root.graph
    start = graph.nodes[graph.start_id].executor
    if not takes_input(start, value):
        raise UnhandledMessageError(
            f"{given!r}: a fork cannot start with a {display_name(type(value))}: the start "
            f"executor {start.id!r} handles {', '.join(map(display_name, start.input_types))}. "
            "Nothing was created."
        )
    payload = Sealer(editing.codec, encoding=True).seal(value, "{!r}", given)
    merged = Merged()
    message = enter(levels, State(), payload, was.source_ids, merged)
    if merged.sub_runs:  # the input goes into a sub-workflow: its run starts again
        for key in [key for key in editing.parts if key[0] == SUB_WORKFLOWS]:
            del editing.parts[key]
        for path, sub in merged.sub_runs.items():
            editing.parts[SUB_WORKFLOWS, path] = encode_sub_run(sub)
    editing.parts[MESSAGES] = encode_messages([message])
