"""What a run continues from: a checkpoint or head that the graph fits."""

from __future__ import annotations

from typing import TypeAlias

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.fan_in import FAN_IN
from supersteps.checkpoint.sections.graph import GRAPH, GraphDescription, read_graph
from supersteps.checkpoint.sections.message import MESSAGES, read_messages
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.define.graph import Graph
from supersteps.engine.run_store import Beginning, RunStore
from supersteps.engine.time_travel.fork import status_of
from supersteps.engine.time_travel.migration import Fitted, Migration, fit
from supersteps.engine.time_travel.receivers import INPUT_SOURCE, addressed, unaddressed
from supersteps.errors import CheckpointNotFoundError, GraphChangedError, RunNotFoundError
from supersteps.ids import new_run_id, split_checkpoint_id
from supersteps.storage.ports import DurableStorage, name_of
from supersteps.storage.rules import RunRecord

CheckpointReference: TypeAlias = str | CheckpointInfo | WorkflowCheckpoint
"""A checkpoint by its id, its handle or itself."""


def reference_id(checkpoint: CheckpointReference) -> str:
    """Return the id of a checkpoint that is given in any way."""
    return checkpoint if isinstance(checkpoint, str) else checkpoint.checkpoint_id


async def find_checkpoint(
    storage: DurableStorage, reference: CheckpointReference
) -> CheckpointRecord:
    """Return a checkpoint as stored; one that was made by hand and never saved is taken as it is.

    Raises:
        CheckpointNotFoundError: The storage holds no such checkpoint.
    """
    checkpoint_id = reference_id(reference)
    record = await storage.load_record(checkpoint_id)
    if record is not None:
        if isinstance(reference, WorkflowCheckpoint) and (
            record.header.run_id == reference.run_id
            and reference.incarnation not in ("", record.header.incarnation)
        ):
            raise CheckpointNotFoundError(
                f"{name_of(storage)} holds a checkpoint {checkpoint_id!r} of another run "
                f"{reference.run_id!r}: the one to which this checkpoint belongs was deleted, and "
                "another one was started under its id. Name the checkpoint by its id to resume the "
                "new run."
            )
        return record
    if isinstance(reference, WorkflowCheckpoint):
        return reference.to_record(storage.codec)
    known = await storage.list_checkpoint_ids()
    newest = (
        f"its newest are {', '.join(map(repr, known[-3:]))}"
        if known
        else "it holds no checkpoints at all"
    )
    raise CheckpointNotFoundError(
        f"{name_of(storage)} holds no checkpoint {checkpoint_id!r}; {newest}. "
        "list_checkpoints() shows all."
    )


async def find_run(
    storage: DurableStorage, reference: CheckpointReference
) -> tuple[CheckpointRecord, RunRecord | None]:
    """Return a checkpoint and the run that has committed it here.

    A checkpoint that was made by hand, or comes from another storage, has no such run.

    Raises:
        CheckpointNotFoundError: The storage holds no such checkpoint.
    """
    while True:
        record = await find_checkpoint(storage, reference)
        header = record.header
        run = await storage.get_run(header.run_id) if header.run_id else None
        if run is None or run.incarnation == header.incarnation:
            return record, run
        if (await find_checkpoint(storage, reference)).header == header:
            return record, None
        # The run was deleted and another one started in between: there is another checkpoint now.


async def head_of(storage: DurableStorage, run_id: str) -> tuple[CheckpointRecord, RunRecord]:
    """Return a run's head and its record.

    Raises:
        RunNotFoundError: There is no such run.
        CheckpointNotFoundError: Its head is gone.
    """
    missing = None
    while (run := await storage.get_run(run_id)) is not None:
        record = await storage.load_record(run.head)
        if record is not None and record.header.incarnation == run.incarnation:
            return record, run
        if record is not None:
            continue  # the run was deleted and another one started since it was read
        if run.head == missing:
            raise CheckpointNotFoundError(
                f"the head {run.head!r} of run {run_id!r} is missing in {name_of(storage)}"
            )
        missing = (
            run.head
        )  # pruned since the run was read, and gone on: then it has another one now
    raise RunNotFoundError(f"{name_of(storage)} holds no run {run_id!r}")


def fitted(
    graph: Graph,
    workflow_id: str,
    record: CheckpointRecord,
    codec: Codec,
    migration: Migration | None,
) -> Fitted:
    """Return a checkpoint as the graph can go on with it.

    One that another graph wrote is migrated, if that is wanted.

    Raises:
        GraphChangedError: It does not fit.
    """
    before = read_graph(record.parts.get(GRAPH))
    if migration is None or before is None or record.header.workflow_id != workflow_id:
        _check_graph(graph, workflow_id, record, before)
    elif before.differences(graph.description):
        return fit(graph, record, before, codec, migration)
    if before is None:
        complete, nowhere = addressed(record, graph, codec)
        return Fitted(complete, warnings=nowhere)
    return Fitted(record)


def check_graph(graph: Graph, workflow_id: str, record: CheckpointRecord) -> None:
    """Refuse a checkpoint that another graph wrote, or a workflow of another name.

    Under another name the run would not be found again.

    Raises:
        GraphChangedError: The structures differ; the error lists how.
    """
    _check_graph(graph, workflow_id, record, read_graph(record.parts.get(GRAPH)))


def _check_graph(
    graph: Graph, workflow_id: str, record: CheckpointRecord, before: GraphDescription | None
) -> None:
    differences = (
        _strangers(graph, record) if before is None else before.differences(graph.description)
    )
    name = record.header.workflow_id
    if before is not None and name != workflow_id:
        differences.append(
            f"the workflow was named {name!r} and is now {workflow_id!r}: "
            f"WorkflowBuilder(name={name!r})"
        )
    if differences:
        listing = "".join(f"\n  - {difference}" for difference in differences)
        raise GraphChangedError(
            f"workflow {workflow_id!r} no longer fits checkpoint {record.header.checkpoint_id!r} "
            f"of run {record.header.run_id!r}:{listing}\nResume with the graph that wrote it, "
            "allow for the changes with WorkflowBuilder.with_migration(), or start a new run.",
            differences,
        )


def _strangers(graph: Graph, record: CheckpointRecord) -> list[str]:
    """Return what a checkpoint names and the graph lacks.

    For checkpoints that say nothing of their graph, such as those made by hand.
    """
    named = {
        target
        for message in read_messages(record.parts.get(MESSAGES))
        for target in message.target_ids
    }
    found = [
        f"a message is on its way to executor {i!r}, which is not there"
        for i in sorted(named - {*graph.nodes})
    ]
    senders = {source for message in unaddressed(record.parts) for source in message.source_ids}
    found += [
        f"a message without a receiver comes from executor {i!r}, which is not there"
        for i in sorted(senders - {*graph.nodes, INPUT_SOURCE})
    ]
    for section, *names in record.parts:
        if section == FAN_IN and names[0] not in graph.fan_ins:
            found.append(f"messages wait in {names[0]}, which is not there")
    return found


async def adopt_checkpoint(
    storage: DurableStorage, record: CheckpointRecord, workflow_id: str, graph: Graph
) -> tuple[CheckpointRecord, RunRecord]:
    """Make a checkpoint that belongs to no run of this storage the first of a new one.

    The run has the id that the checkpoint names, where that is free, else a new one. Its commits
    are numbered after the checkpoints of that name which are here already; those stay as they are.

    Returns:
        The new run's head and its record.
    """
    header = record.header
    run_id, last = header.run_id, -1
    if not run_id or await storage.get_run(run_id) is not None:
        run_id = new_run_id()
    else:
        taken = [header.checkpoint_id, *await storage.list_checkpoint_ids(run_id=run_id)]
        last = max(_number(identifier, run_id) for identifier in taken)
    store = RunStore(storage, run_id, workflow_id)
    store.number_after(last)
    await store.commit(
        Changes.between({}, record.parts),
        iteration=header.iteration_count,
        steps_since_input=header.steps_since_input,
        max_iterations=header.max_iterations,
        status=status_of(record.parts).value,
        more=False,
        beginning=Beginning(graph, header.metadata),
    )
    return await head_of(storage, store.run_id)


def _number(identifier: str, run_id: str) -> int:
    """Return the number of a run's checkpoint, -1 if the id is not one of this run's."""
    place = split_checkpoint_id(identifier)
    return place[1] if place is not None and place[0] == run_id else -1
