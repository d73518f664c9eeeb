"""`ctx.idempotency_key` names a piece of work: all attempts share one key, no two pieces do."""

import asyncio
from pathlib import Path
from typing import Any, Never
from uuid import UUID

import pytest

from supersteps import (
    Executor,
    FailurePolicy,
    InMemoryCheckpointStorage,
    ManagedStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)
from supersteps.checkpoint.work import Work
from tests.contract.support import SUBJECTS, open_subject

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")
each_storage = pytest.mark.parametrize("kind", SUBJECTS)


def test_a_key_is_a_uuid_that_says_nothing_of_the_run() -> None:
    key = Work(0, 1, "pay", "0").key("order-17", "x")
    assert (UUID(key).version, str(UUID(key)), len(key)) == (8, key, 36)
    assert "order" not in key


def test_parts_that_hold_the_sign_between_them_make_no_other_key() -> None:
    pieces = {
        (Work(0, 1, "a:b", "c"), "r", "i"),
        (Work(0, 1, "a", "b:c"), "r", "i"),
        (Work(0, 1, "a", "c"), "r:0", "i"),
        (Work(0, 1, 'a","b', "c"), "r", "i"),
        (Work(0, 11, "a", "c"), "r", "i"),
        (Work(1, 1, "a", "c"), "r", "i"),
        (Work(1, 1, "a", "c"), "ri", "i"),
        (Work(1, 1, "a", "c"), "r", "ii"),
    }
    assert len({work.key(run_id, which) for work, run_id, which in pieces}) == len(pieces)


def test_a_run_of_before_incarnations_keeps_its_keys() -> None:
    assert Work(0, 2, "pay", "timer:1.0").key("r", "") == "r:0:2:pay:timer:1.0"


class Payer(Executor):
    """Asks how much to pay, pays, and does not learn whether it has worked, `lost` times."""

    def __init__(self, lost: int = 0) -> None:
        super().__init__("payer")
        self.lost = lost
        self.paid: list[tuple[str, str]] = []

    @handler
    async def ask(self, who: str, ctx: WorkflowContext[Any, str]) -> None:
        ctx.request_info(f"how much for {who}?", str, request_id="amount")

    @response_handler
    async def pay(self, asked: str, amount: str, ctx: WorkflowContext[Any, str]) -> None:
        self.paid.append((amount, ctx.idempotency_key))
        if len(self.paid) <= self.lost:
            raise TimeoutError("no reply from the bank")
        ctx.yield_output(amount)

    @property
    def keys(self) -> list[str]:
        return [key for _amount, key in self.paid]


def paying(payer: Payer, storage: ManagedStorage, policy: FailurePolicy | None = None) -> Workflow:
    builder = WorkflowBuilder(name="pay").set_start_executor(payer).with_checkpointing(storage)
    if policy is not None:
        builder = builder.with_failure_policy(payer, policy)
    return builder.build()


@each_storage
async def test_a_retry_in_another_process_has_the_key_of_the_first_attempt(
    kind: str, tmp_path: Path
) -> None:
    policy = FailurePolicy(max_attempts=3, backoff=0.01)
    async with open_subject(kind, tmp_path) as storage:
        first = Payer(lost=9)
        run = paying(first, storage, policy).run_stream("ada", run_id="r")
        async for _ in run:
            pass
        await run.send_response("amount", "20")
        async for _ in run:
            if first.paid:
                break  # the process ends between the attempts
        await run.aclose()
        second = Payer()
        checkpoint = await storage.load_checkpoint("r-000002")
        assert checkpoint is not None
        assert checkpoint.timers["2.0"]["attempt"] == 2
        result = await paying(second, storage, policy).run_from_checkpoint("r-000002")

        assert result.get_outputs() == ["20"]
        assert second.keys == first.keys[:1]


@each_storage
async def test_restoring_the_head_and_answering_otherwise_gives_another_key(
    kind: str, tmp_path: Path
) -> None:
    async with open_subject(kind, tmp_path) as storage:
        payer = Payer(lost=1)
        run = paying(payer, storage).run_stream("ada", run_id="r")
        async for _ in run:
            pass
        await run.send_response("amount", "20")
        with pytest.raises(TimeoutError):
            await run.wait_for_completion()  # the bank may have paid 20
        head = run.latest_checkpoint
        assert head is not None
        await run.restore_checkpoint(head)
        await run.send_response("amount", "30")
        result = await run.wait_for_completion()

        assert result.get_outputs() == ["30"]
        assert [amount for amount, _ in payer.paid] == ["20", "30"]
        assert len(set(payer.keys)) == 2


@each_storage
async def test_restoring_the_head_where_nothing_is_dropped_keeps_branch_and_key(
    kind: str, tmp_path: Path
) -> None:
    async with open_subject(kind, tmp_path) as storage:
        payer = Payer()
        run = paying(payer, storage).run_stream("ada", run_id="r")
        async for _ in run:
            pass
        head = run.latest_checkpoint
        assert head is not None
        await run.restore_checkpoint(head)
        record = await storage.get_run("r")
        assert record is not None
        assert record.branch == 0


@each_storage
async def test_dropping_recorded_calls_begins_a_branch(kind: str, tmp_path: Path) -> None:
    async with open_subject(kind, tmp_path) as storage:

        @executor(id="two")
        async def two(text: str, ctx: WorkflowContext[str]) -> None:
            ctx.send_message("a", target_id="one")
            ctx.send_message("b", target_id="other")

        @executor(id="one")
        async def one(text: str, ctx: WorkflowContext[Never, str]) -> None:
            keys.append(ctx.idempotency_key)

        @executor(id="other")
        async def other(text: str, ctx: WorkflowContext[Never, str]) -> None:
            raise ValueError("no")

        keys: list[str] = []
        builder = WorkflowBuilder(name="w").set_start_executor(two)
        builder = builder.add_edge(two, one).add_edge(two, other).with_checkpointing(storage)
        run = builder.build().run_stream("x", run_id="r")
        with pytest.raises(ValueError, match="no"):
            await run.wait_for_completion()
        assert len(await storage.read_journal("r", "r-000001")) == 1
        await run.restore_checkpoint("r-000001")
        with pytest.raises(ValueError, match="no"):
            await run.wait_for_completion()
        assert len(keys) == len(set(keys)) == 2


async def test_no_two_runs_share_a_key() -> None:
    storage = InMemoryCheckpointStorage()
    payer = Payer()
    workflow = paying(payer, storage)

    async def answered(run: Any) -> None:
        async for _ in run:
            pass
        await run.send_response("amount", "20")
        await run.wait_for_completion()

    await answered(workflow.run_stream("ada", run_id="r"))
    await answered(workflow.fork("r-000000", run_id="fork"))
    await storage.delete_run("r")
    await answered(workflow.run_stream("ada", run_id="r"))
    unstored = WorkflowBuilder(name="pay").set_start_executor(payer).build()
    await answered(unstored.run_stream("ada", run_id="r"))
    await answered(unstored.run_stream("ada", run_id="r"))
    assert len(payer.keys) == len(set(payer.keys)) == 5


async def test_a_fork_in_the_middle_of_attempts_has_a_key_of_its_own() -> None:
    storage = InMemoryCheckpointStorage()
    payer = Payer(lost=1)
    workflow = paying(payer, storage, FailurePolicy(max_attempts=3, backoff=0.01))
    run = workflow.run_stream("ada", run_id="r")
    async for _ in run:
        pass
    await run.send_response("amount", "20")
    await run.wait_for_completion()
    await workflow.fork("r-000002", run_id="fork").wait_for_completion()

    assert payer.keys[0] == payer.keys[1] != payer.keys[2]


async def test_a_replay_shows_the_keys_that_there_were() -> None:
    storage = InMemoryCheckpointStorage()
    payer = Payer(lost=1)
    workflow = paying(payer, storage, FailurePolicy(max_attempts=3, backoff=0.01))
    run = workflow.run_stream("ada", run_id="r")
    async for _ in run:
        pass
    await run.send_response("amount", "20")
    await run.wait_for_completion()
    made = list(payer.keys)
    payer.paid.clear()
    await asyncio.wait_for(workflow.replay("r").wait_for_completion(), 10)

    assert set(payer.keys) == set(made)


async def test_a_checkpoint_that_people_have_looked_at_still_knows_the_work() -> None:
    storage = InMemoryCheckpointStorage()
    payer = Payer(lost=9)
    workflow = paying(payer, storage, FailurePolicy(max_attempts=2, backoff=0.01))
    run = workflow.run_stream("ada", run_id="r")
    async for _ in run:
        pass
    await run.send_response("amount", "20")
    with pytest.raises(TimeoutError):
        await run.wait_for_completion()
    checkpoint = await storage.load_checkpoint("r-000002")
    assert checkpoint is not None
    assert checkpoint.timers["2.0"]["work"] == [0, 2, "payer", "answer:amount"]
    checkpoint.timers["2.0"]["due"] = "2026-01-01T00:00:00.000000+00:00"
    record = checkpoint.to_record(storage.codec)
    assert b'"work":[0,2,"payer","answer:amount"]' in record.parts["timers", "2.0"]
