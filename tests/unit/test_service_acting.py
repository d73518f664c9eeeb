"""Answering, restoring, ending, pruning, checking, carrying runs from store to store."""

from pathlib import Path

import pytest

from supersteps.checkpoint.owner import mark_advancing, this_process
from supersteps.errors import (
    AlreadyAnsweredError,
    CorruptCheckpointError,
    ResponseTypeError,
    RunBusyError,
    RunExistsError,
    StaleRequestError,
)
from supersteps.service.errors import AmbiguousReferenceError, ReferenceNotFoundError, ServiceError
from supersteps.service.service import Service
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing.answers import ask, question
from tests.contract.support import ELSEWHERE, SUBJECTS, Writer, by_hand, open_subject, record_of
from tests.unit.support import asking_workflow, counter_workflow, shout_workflow

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")

OnAll = pytest.mark.parametrize("subject", SUBJECTS)


# ---------------------------------------------------------------------------------------- answering


@OnAll
async def test_an_answer_is_taken_when_the_run_goes_on(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        workflow = asking_workflow(storage=storage)
        await workflow.run("x", run_id="r")
        service = Service(storage)

        with pytest.raises(ResponseTypeError):
            await service.answer("ask-x", 7)
        taken = await service.answer("@latest", "yes")
        assert (taken.run_id, taken.request_id) == ("r", "ask-x")
        assert await service.list_questions() == []
        with pytest.raises(AlreadyAnsweredError):
            await service.answer("ask-x", "no")
        with pytest.raises(ReferenceNotFoundError):
            await service.answer("@latest", "no")

        result = await workflow.run_from_checkpoint("r-000002")
        assert result.get_outputs() == ["x=yes"]


async def test_an_answer_for_one_of_two_runs_that_ask_alike() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    await workflow.run("x", run_id="r")
    await workflow.fork("r-000002", run_id="f").wait_for_completion()
    service = Service(storage)

    with pytest.raises(AmbiguousReferenceError):
        await service.answer("ask-x", "yes")
    await service.answer("f:ask-x", "yes")
    assert [question.run_id for question in await service.list_questions()] == ["r"]
    await service.answer("ask-x", "no")  # only one of them waits now
    assert await service.list_questions() == []


async def test_why_a_question_that_was_answered_cannot_be_answered_again() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    service = Service(storage)
    await workflow.run("x", run_id="r")
    await workflow.run("y", run_id="s")
    await service.answer("ask-x", "yes")
    assert [
        (run.run_id, run.answered) for run in await service.with_answers(await service.list_runs())
    ] == [
        ("s", ()),
        ("r", ("ask-x",)),
    ]
    await workflow.run_from_checkpoint("r-000002")

    with pytest.raises(AlreadyAnsweredError, match=r"'ask-x' of run 'r' was answered in superstep"):
        await service.answer("ask-x", "no")
    assert isinstance(await service.why_not("ask-x", "r"), AlreadyAnsweredError)
    assert await service.why_not("ask-z") is None
    assert await service.why_not("ask-x", "s") is None


async def test_why_a_question_of_a_cancelled_run_cannot_be_answered() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "r").commit(ask(question("q", {})), lease_seconds=None)
    await Service(storage).cancel("r")

    with pytest.raises(StaleRequestError, match="cancelled"):
        await Service(storage).answer("q", 1)


# ---------------------------------------------------------------------------------------- restoring


@OnAll
async def test_a_restored_run_goes_on_from_there(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        workflow = counter_workflow(storage=storage)
        await workflow.run(3, run_id="r")
        service = Service(storage)

        run = await service.restore("r@2")
        assert (run.head, run.status, run.step, run.branch) == ("r-000002", "IN_PROGRESS", 2, 1)
        assert run.owner is None
        assert (await record_of(storage, "r")).lease is None
        assert (await service.find_checkpoint("r")).checkpoint_id == "r-000002"
        assert (await service.log("r")).entries[0].checkpoint_id == "r-000004"
        assert [
            entry.checkpoint_id for entry in (await service.log("r")).entries if entry.is_head
        ] == ["r-000002"]

        await workflow.run_from_checkpoint("r-000002")
        assert (await service.find_checkpoint("r")).branch == 1


@OnAll
async def test_a_restored_question_waits_again(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        workflow = asking_workflow(storage=storage)
        await workflow.run("x", run_id="r")
        service = Service(storage)
        await service.answer("ask-x", "yes")
        await workflow.run_from_checkpoint("r-000002")
        assert await service.list_questions() == []

        run = await service.restore("r@2")
        assert (run.status, run.requests) == ("IDLE_WITH_PENDING_REQUESTS", ("ask-x",))
        assert [question.request_id for question in await service.list_questions()] == ["ask-x"]


async def test_restoring_the_head_of_a_cancelled_run_makes_it_go_on() -> None:
    storage = InMemoryCheckpointStorage()
    await asking_workflow(storage=storage).run("x", run_id="r")
    service = Service(storage)
    assert (await service.cancel("r")).status == "CANCELLED"

    run = await service.restore("r")
    assert (run.status, run.branch) == ("IDLE_WITH_PENDING_REQUESTS", 0)


async def test_what_cannot_be_restored(tmp_path: Path) -> None:
    async with open_subject("file", tmp_path) as storage:
        await counter_workflow(storage=storage).run(3, run_id="r")
        await storage.save_checkpoint(by_hand("saved"))
        path = tmp_path / "checkpoints" / "r-000001.json"
        path.write_bytes(path.read_bytes()[:-50])
        before = await record_of(storage, "r")
        service = Service(storage)

        with pytest.raises(ServiceError, match="saved with `save_checkpoint`"):
            await service.restore("saved")
        with pytest.raises(CorruptCheckpointError):
            await service.restore("r-000001")
        with pytest.raises(ReferenceNotFoundError):
            await service.restore("r@9")
        assert await record_of(storage, "r") == before


@OnAll
async def test_a_run_that_somebody_advances_is_left_alone(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        writer = Writer(storage, "r")
        writer.owner = this_process("busy") if subject == "adapter" else ELSEWHERE
        await writer.commit()
        await writer.commit()
        mark_advancing("busy", True)
        try:
            for act in (Service(storage).restore, Service(storage).cancel):
                with pytest.raises(RunBusyError):
                    await act("r@0" if act == Service(storage).restore else "r")
        finally:
            mark_advancing("busy", False)
        run = await record_of(storage, "r")
        assert (run.head, run.status) == ("r-000001", "IN_PROGRESS")


# --------------------------------------------------------------------------------------- the others


@OnAll
async def test_ending_a_run(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await asking_workflow(storage=storage).run("x", run_id="r")
        await shout_workflow(storage=storage).run("x", run_id="done")
        service = Service(storage)

        assert (await service.cancel("r")).status == "CANCELLED"
        assert (await service.cancel("r")).status == "CANCELLED"
        assert (await service.cancel("done")).status == "IDLE"
        assert (await service.log("r")).entries[0].status == "CANCELLED"


@OnAll
async def test_pruning_one_run_or_all(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(3, run_id="a")
        await counter_workflow(storage=storage).run(1, run_id="b")
        service, policy = Service(storage), RetentionPolicy(keep_last=2)

        (dry,) = await service.prune("a", policy, dry_run=True)
        assert (dry.run_id, dry.checkpoints, dry.kept) == (
            "a",
            ["a-000000", "a-000001", "a-000002"],
            2,
        )
        assert (await service.show_run("a")).checkpoints == 5
        assert await service.prune("a", policy) == [dry]
        assert (await service.show_run("a")).checkpoints == 2
        rest = {pruned.run_id: pruned for pruned in await service.prune(None, policy)}
        assert (rest["a"].checkpoints, rest["a"].kept) == ([], 2)
        assert (rest["b"].checkpoints, rest["b"].kept) == (["b-000000"], 2)


async def test_a_run_that_vanishes_while_all_are_pruned_is_passed_over() -> None:
    class Vanishing(InMemoryCheckpointStorage):
        async def prune(
            self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
        ) -> list[str]:
            await self.delete_run("a")
            return await super().prune(run_id, policy, dry_run=dry_run)

    storage = Vanishing()
    for run_id in ("a", "b"):
        await Writer(storage, run_id).commit(lease_seconds=None)

    assert [
        pruned.run_id for pruned in await Service(storage).prune(None, RetentionPolicy(keep_last=1))
    ] == ["b"]


async def test_checking_one_run_or_all(tmp_path: Path) -> None:
    async with open_subject("file", tmp_path) as storage:
        await shout_workflow(storage=storage).run("x", run_id="good")
        await shout_workflow(storage=storage).run("x", run_id="bad")
        path = tmp_path / "checkpoints" / "bad-000001.json"
        path.write_bytes(path.read_bytes()[:-50])
        service = Service(storage)

        assert await service.verify("good") == []
        assert [damage.checkpoint_id for damage in await service.verify("ba")] == ["bad-000001"]
        assert [damage.checkpoint_id for damage in await service.verify()] == ["bad-000001"]
        (tmp_path / "checkpoints" / "runs" / "bad" / "run.json").write_bytes(b"{")
        assert any(
            "run.json" in damage.what + damage.problem for damage in await service.verify("bad")
        )


@OnAll
async def test_a_run_goes_from_store_to_store(subject: str, tmp_path: Path) -> None:
    target = InMemoryCheckpointStorage()
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(3, run_id="r")
        assert await Service(storage).export("@latest", tmp_path / "r.run") == 5

    service = Service(target)
    run = await service.import_run(tmp_path / "r.run")
    assert (run.run_id, run.status, run.step) == ("r", "IDLE", 4)
    with pytest.raises(RunExistsError):
        await service.import_run(tmp_path / "r.run")
    assert (await service.import_run(tmp_path / "r.run", run_id="copy")).run_id == "copy"
    assert [entry.ran for entry in (await service.log("copy")).entries][:-1] == [("counter",)] * 4
