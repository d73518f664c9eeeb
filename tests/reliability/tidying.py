"""The process that tidies a storage while others drive its run: prunes, deletes, exports, checks
and lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from supersteps import (
    CheckpointNotFoundError,
    InMemoryCheckpointStorage,
    RetentionPolicy,
    RunNotFoundError,
    StorageError,
    WorkflowRunState,
    export_run,
    import_run,
)
from tests.reliability.racing import RUN, Here, Racer, Store


async def tidy(racer: Racer, storage: Store, here: Here) -> None:
    """Do one thing after the other until the run is done.

    It says `deleted ID` for what it takes away, `done OPERATION`, `declined OPERATION WHY` for an
    error that an operation may well end in, and `false WHAT` for what it is told and cannot be
    true.
    """
    operations: list[Callable[[Racer, Store, Here], Awaitable[None]]] = [
        prune,
        delete,
        vacuum,
        verify,
        export,
        look,
        look,
    ]
    while True:
        run = await storage.get_run(RUN)
        operation = here.dice.choice(operations)
        if run is not None:
            await operation(racer, storage, here)
            here.say("did", operation.__name__)
            if run.status == WorkflowRunState.IDLE.value:
                return
        await asyncio.sleep(here.dice.random() * 0.01)


async def prune(racer: Racer, storage: Store, here: Here) -> None:
    policy = RetentionPolicy(
        keep_last=here.dice.randint(1, 6), waiting_too=here.dice.random() < 0.3
    )
    for gone in await storage.prune(RUN, policy):
        here.say("deleted", gone)


async def delete(racer: Racer, storage: Store, here: Here) -> None:
    run = await storage.get_run(RUN)
    assert run is not None
    old = [
        header.checkpoint_id
        for header in await storage.list_headers(RUN)
        if header.sequence < run.sequence
    ]
    if old:
        chosen = here.dice.choice(old)
        if await storage.delete_checkpoint(chosen) or not racer.options.get("is_alone"):
            here.say("deleted", chosen)
        else:
            here.say("false", f"{chosen} was listed and not there to be deleted")


async def vacuum(racer: Racer, storage: Store, here: Here) -> None:
    await storage.vacuum()


async def verify(racer: Racer, storage: Store, here: Here) -> None:
    for damage in await storage.verify(here.dice.choice([None, RUN])):
        here.say("false", f"verify: {damage.what}: {damage.problem}")


async def export(racer: Racer, storage: Store, here: Here) -> None:
    path = Path(racer.folder, f"{racer.name}.run")
    try:
        count = await export_run(storage, RUN, path)
    except StorageError as error:
        here.say("declined", "export", error)
        return
    copy = InMemoryCheckpointStorage()
    run = await import_run(copy, path)
    headers = await copy.list_headers(RUN)
    if len(headers) != count or await copy.load_record(run.head) is None:
        here.say("false", f"export: said {count} checkpoints, there are {len(headers)}")


async def look(racer: Racer, storage: Store, here: Here) -> None:
    """Read everything as people do; what was deleted in between is not damage."""
    run = await storage.get_run(RUN)
    assert run is not None
    listed = await storage.list_runs()
    if RUN not in [record.run_id for record in listed]:
        here.say("false", "the run is not in the list of runs")
    lineage = await storage.list_lineage(run.head, 10_000)
    if lineage and lineage[-1].checkpoint_id != run.head:
        here.say("false", f"the lineage of {run.head} ends at {lineage[-1].checkpoint_id}")
    for checkpoint in await storage.list_checkpoints(run_id=RUN):
        try:
            if checkpoint.document()["graph"] is None:
                here.say("false", f"{checkpoint.checkpoint_id} has no graph")
        except CheckpointNotFoundError as error:
            here.say("declined", "look", error)
    try:
        await storage.list_requests(RUN)
    except (RunNotFoundError, CheckpointNotFoundError) as error:
        here.say("false", f"list_requests: {error}")
