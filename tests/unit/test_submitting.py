"""Submitting a run: it is durable and in the queue, and nothing of it has run."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    EncryptedStorage,
    Executor,
    InMemoryCheckpointStorage,
    PostgresCheckpointStorage,
    RunExistsError,
    SqliteCheckpointStorage,
    UnhandledMessageError,
    Worker,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    export_run,
    handler,
    import_run,
)
from supersteps.checkpoint.owner import this_process
from supersteps.encryption.keys import Keyring
from supersteps.errors import CheckpointingDisabledError, CheckpointSaveError, StorageError
from supersteps.storage.claims import Claim
from tests.contract.support import PlainStorage
from tests.unit.support import FailingStorage


class Shout(Executor):
    def __init__(self) -> None:
        super().__init__("shout")
        self.heard: list[str] = []

    @handler
    async def shout(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.heard.append(text)
        await ctx.yield_output(text.upper())


def workflow_with(storage: Any, shout: Shout | None = None, name: str = "loud") -> Workflow:
    return (
        WorkflowBuilder(name=name)
        .set_start_executor(shout or Shout())
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


async def test_a_submitted_run_is_durable_unowned_in_the_queue_and_has_not_run() -> None:
    storage, shout = InMemoryCheckpointStorage(), Shout()
    workflow = workflow_with(storage, shout)
    run_id = await workflow.submit("hi", priority=3, queue="q", metadata={"who": "me"}, tags=["a"])

    run = await storage.get_run(run_id)
    assert run is not None
    assert (run.lease, run.status, run.sequence) == (None, "IN_PROGRESS", 0)
    assert (run.metadata, run.tags) == ({"who": "me"}, ("a",))
    entry = await storage.queue_entry(run_id)
    assert entry is not None
    assert (entry.queue, entry.priority, entry.is_claimed) == ("q", 3, False)
    assert shout.heard == []
    result = await workflow.run("ignored", run_id=run_id, if_exists="attach")
    assert (result.get_outputs(), shout.heard) == (["HI"], ["hi"])


async def test_a_submission_that_is_repeated_makes_one_run() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = workflow_with(storage)
    await workflow.submit("hi", run_id="order-1")
    with pytest.raises(RunExistsError, match="order-1"):
        await workflow.submit("hi", run_id="order-1")
    with pytest.raises(RunExistsError):
        await workflow.submit("hi", run_id="order-1", if_exists="error")
    assert await workflow.submit("other", run_id="order-1", if_exists="attach") == "order-1"
    assert [run.run_id for run in await storage.list_runs()] == ["order-1"]
    other = workflow_with(storage, name="quiet")
    with pytest.raises(RunExistsError, match="one of workflow 'loud', not of 'quiet'"):
        await other.submit("hi", run_id="order-1", if_exists="attach")


async def test_a_run_that_was_driven_by_hand_can_be_left_to_workers() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = workflow_with(storage)
    async for _event in workflow.run_stream("hi", run_id="run"):
        break
    assert await storage.queue_entry("run") is None
    await workflow.submit("hi", run_id="run", if_exists="attach")
    assert await storage.queue_entry("run") is not None


async def test_when_it_may_start_is_a_time_or_a_delay() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = workflow_with(storage)
    then = datetime(2040, 1, 1, tzinfo=UTC)
    entry = await storage.queue_entry(await workflow.submit("hi", start_at=then))
    assert entry is not None
    assert entry.ready_at == then.timestamp()
    later = datetime.now(UTC).timestamp() + 3600
    entry = await storage.queue_entry(await workflow.submit("hi", start_at=timedelta(hours=1)))
    assert entry is not None
    assert entry.ready_at is not None
    assert entry.ready_at >= later


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"start_at": datetime(2040, 1, 1)}, ValueError, "no time zone"),
        ({"priority": True}, TypeError, "whole number"),
        ({"priority": 1.5}, TypeError, "whole number"),
        ({"queue": ""}, ValueError, "name of a queue"),
        ({"concurrency_key": 7}, TypeError, "are text"),
        ({"if_exists": "ignore"}, ValueError, "if_exists"),
        ({"run_id": ""}, ValueError, "run_id"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.raises(error, match=message):
        await workflow_with(storage).submit("hi", **wrong)
    assert await storage.list_runs() == []


async def test_an_input_that_nobody_takes_is_refused() -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.raises(UnhandledMessageError, match="Nothing was started"):
        await workflow_with(storage).submit(7)
    assert await storage.list_runs() == []


async def test_a_storage_without_a_queue_says_so() -> None:
    with pytest.raises(StorageError, match="PlainStorageAdapter has no queue"):
        await workflow_with(PlainStorage()).submit("hi")
    with pytest.raises(CheckpointingDisabledError, match="no storage to submit runs to"):
        await WorkflowBuilder(name="loud").set_start_executor(Shout()).build().submit("hi")


async def test_postgres_has_no_queue_yet_and_says_so_before_it_connects() -> None:
    pytest.importorskip("psycopg")
    storage = PostgresCheckpointStorage("postgresql://nobody@127.0.0.1:1/none")
    workflow = workflow_with(storage)
    with pytest.raises(StorageError, match=r"PostgresCheckpointStorage .* has no queue"):
        await workflow.submit("hi")
    with pytest.raises(StorageError, match="has no queue"):
        Worker(storage, [workflow])


async def test_a_save_that_fails_is_an_error() -> None:
    with pytest.raises(CheckpointSaveError):
        await workflow_with(FailingStorage(commits=[0])).submit("hi")


async def test_the_place_in_the_queue_goes_with_an_exported_run(tmp_path: Path) -> None:
    source, target = InMemoryCheckpointStorage(), SqliteCheckpointStorage(tmp_path / "runs.db")
    run_id = await workflow_with(source).submit("hi", priority=4, concurrency_key="ann")
    await export_run(source, run_id, tmp_path / "run.jsonl")
    async with target:
        await import_run(target, tmp_path / "run.jsonl")
        assert await target.queue_entry(run_id) == await source.queue_entry(run_id)
        claim = Claim(owner=this_process("w"), workflow_ids=("loud",))
        assert [run.run_id for run in (await target.claim_runs(claim)).runs] == [run_id]
        # Whoever had it there does not have it here.
        await export_run(target, run_id, tmp_path / "claimed.jsonl")
        again = InMemoryCheckpointStorage()
        await import_run(again, tmp_path / "claimed.jsonl")
        assert [run.run_id for run in (await again.claim_runs(claim)).runs] == [run_id]


async def test_an_encrypted_storage_hides_whose_run_it_is() -> None:
    inner = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inner, Keyring({"k": bytes(range(32))}, primary="k"))
    workflow = workflow_with(storage)
    for run_id in ("a", "b"):
        await workflow.submit("hi", run_id=run_id, concurrency_key="ann")
    entries = [await inner.queue_entry(run_id) for run_id in ("a", "b")]
    keys = {entry.concurrency_key for entry in entries if entry is not None}
    assert len(keys) == 1
    assert "ann" not in keys
    claim = Claim(owner=this_process("w"), workflow_ids=("loud",), limit=9, key_limit=1)
    assert [run.run_id for run in (await storage.claim_runs(claim)).runs] == ["a"]


async def test_whoever_is_cancelled_meanwhile_hears_of_it_once_the_run_is_there() -> None:
    storage = InMemoryCheckpointStorage()
    task = asyncio.ensure_future(workflow_with(storage).submit("hi", run_id="run"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.queue_entry("run") is not None
