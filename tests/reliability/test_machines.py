"""The fast part of the machines, and proof that they notice a library that does something else."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from supersteps import (
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    StaleRequestError,
)
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.record import Commit
from supersteps.storage.records import InboxEntry, RunRecord
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing.writer import Clock, Writer
from tests.reliability import machines, run_graph, run_machine, storage_machine, trips, values
from tests.reliability.run_model import Shape, Stage, Unit
from tests.reliability.shrinking import shrink

pytestmark = pytest.mark.slow
SEED = 20261123


def test_storages_are_what_the_model_says() -> None:
    found = [machines.storage_trial(SEED, number) for number in range(12)]

    assert [verdict.wrong for _, verdict in found] == [[]] * 12


def test_runs_are_what_the_simulation_says() -> None:
    found = [machines.run_trial(SEED, number) for number in range(30)]

    assert [verdict.wrong for _, verdict in found] == [[]] * 30


def test_values_arrive_and_others_are_refused() -> None:
    made, verdict = trips.check(0, SEED, 40)

    assert verdict.wrong == []
    assert made >= 35


# -------------------------------------------------------------------------- storages that are wrong


class DropsAnAppend(InMemoryCheckpointStorage):
    async def commit(self, commit: Commit) -> None:
        appends = {
            key: items[:-1] for key, items in commit.changes.appends.items() if len(items) > 1
        }
        changes = Changes(puts=commit.changes.puts, appends=appends, deletes=commit.changes.deletes)
        await super().commit(replace(commit, changes=changes))


class KeepsTheInbox(InMemoryCheckpointStorage):
    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, **which: Any
    ) -> RunRecord:
        before = await self.get_run(run_id)
        inbox = await self.read_inbox(run_id)
        record = await super().move_head(run_id, epoch, checkpoint_id, **which)
        assert before is not None
        self._runs[run_id].inbox = inbox
        self._runs[run_id].record = replace(record, inbox_read=before.inbox_read)
        return record


class CutsTheHeadOff(InMemoryCheckpointStorage):
    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        gone = await super().prune(run_id, policy, dry_run=dry_run)
        if gone and not dry_run:
            head = self._runs[run_id].record.head
            kept = self._checkpoints[head]
            self._checkpoints[head] = replace(kept, header=replace(kept.header, parent_id=None))
        return gone


class LetsAnybodyIn(InMemoryCheckpointStorage):
    async def commit(self, commit: Commit) -> None:
        run = await self.get_run(commit.header.run_id)
        await super().commit(commit if run is None else replace(commit, epoch=run.epoch))


class LosesAnAnswer(InMemoryCheckpointStorage):
    async def add_answers(
        self, run_id: str, answers: Sequence[tuple[str, bytes]], **which: Any
    ) -> list[InboxEntry]:
        entries = await super().add_answers(run_id, answers, **which)
        self._runs[run_id].inbox = []
        return entries


class ForgetsTheRestore(InMemoryCheckpointStorage):
    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, **which: Any
    ) -> RunRecord:
        before = self._runs[run_id].record
        record = await super().move_head(run_id, epoch, checkpoint_id, **which)
        self._runs[run_id].record = before
        return record


@pytest.mark.parametrize(
    ("broken", "within"),
    [
        (DropsAnAppend, 5),
        (KeepsTheInbox, 150),
        (CutsTheHeadOff, 40),
        (LetsAnybodyIn, 20),
        (LosesAnAnswer, 20),
    ],
)
def test_the_storage_machine_notices(broken: type[InMemoryCheckpointStorage], within: int) -> None:
    def make() -> storage_machine.Opener:
        opened: list[ManagedStorage] = []

        def open_it(folder: Path, clock: Clock) -> ManagedStorage:
            opened.append(opened[0] if opened else broken(clock=clock))
            return opened[-1]

        return open_it

    found = first_problem(
        lambda number: storage_machine.check(make, storage_machine.sequence(f"1 {number}")), within
    )

    assert found is not None
    assert found.rpartition("after: ")[2].count("; ") < 15, found  # it was made short


@pytest.mark.parametrize(
    ("broken", "within"),
    [
        (DropsAnAppend, 5),
        (KeepsTheInbox, 150),
        (CutsTheHeadOff, 150),
        (LosesAnAnswer, 40),
        (ForgetsTheRestore, 60),
    ],
)
def test_the_run_machine_notices(broken: type[InMemoryCheckpointStorage], within: int) -> None:
    def opener(folder: Path) -> Callable[[], ManagedStorage]:
        storage = broken()
        return lambda: storage

    found = first_problem(
        lambda number: run_machine.perform(opener, *run_machine.sequence(f"1 {number}")), within
    )

    assert found is not None


def first_problem(trial: Callable[[int], str | None], within: int) -> str | None:
    return next(
        (problem for number in range(within) if (problem := trial(number)) is not None), None
    )


def test_sequences_are_made_short() -> None:
    def fails(ops: Sequence[int]) -> bool:
        return 3 in ops and 11 in ops

    assert shrink(range(40), fails) == [3, 11]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1}, {1.0}),
        ("a", b"a"),
    ],
)
def test_what_differs_is_not_the_same(one: Any, two: Any) -> None:
    assert values.same([one], [one])
    assert not values.same([one], [two])


# -------------------------------------------------------------------------- what the machines found


async def test_a_journal_that_another_object_has_extended_loses_nothing(tmp_path: Path) -> None:
    one, two = FileCheckpointStorage(tmp_path), FileCheckpointStorage(tmp_path)
    writer = Writer(one)
    head = await writer.commit()

    await two.append_journal("run", 1, head, [b"1"])
    await one.append_journal("run", 1, head, [b"2"])

    assert await one.read_journal("run", head) == [b"1", b"2"]
    await one.aclose()
    await two.aclose()


async def test_a_question_that_was_cancelled_elsewhere_is_stale() -> None:
    storage = InMemoryCheckpointStorage()
    shape = Shape((Stage("one", Unit("asker", "ask")),), 1)
    run = run_graph.build(shape, storage).run_stream(1, run_id="run")
    await run.wait_for_completion()
    await storage.cancel_request("run", "asker:1")

    with pytest.raises(StaleRequestError, match="was cancelled"):
        await run.send_response("asker:1", 2)


async def test_an_answer_that_a_restore_has_dropped_is_not_consumed_by_its_sender() -> None:
    storage = InMemoryCheckpointStorage()
    shape = Shape((Stage("one", Unit("asker", "ask")),), 1)
    one = run_graph.build(shape, storage).run_stream(1, run_id="run")
    await one.wait_for_completion()
    await one.send_response("asker:1", 2)
    other = run_graph.build(shape, storage).run_stream_from_checkpoint("run-000001")
    await other.restore_checkpoint("run-000000")
    await other.restore_checkpoint("run-000001")

    await one.wait_for_completion()

    assert (await storage.list_headers("run"))[-1].checkpoint_id == "run-000001"
    await one.send_response("asker:1", 3)
    await one.wait_for_completion()
    head = (await storage.list_headers("run"))[2]
    checkpoint = await storage.load_checkpoint(head.checkpoint_id)
    assert checkpoint is not None
    assert [answer.data for answer in checkpoint.answered] == [3]
    assert head.branch == 2
