"""What may stand for a run, a checkpoint or a question."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.errors import CheckpointError, StorageError
from supersteps.ids import checkpoint_id
from supersteps.service.errors import AmbiguousReferenceError, ReferenceNotFoundError, ServiceError
from supersteps.service.reads import age
from supersteps.service.service import Service
from supersteps.storage.listings import RunFilter
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord
from supersteps.testing.answers import ask, question
from tests.contract.support import SUBJECTS, Writer, by_hand, open_subject


class Store:
    """Writes runs, each created a minute after the one before."""

    def __init__(self, storage: ManagedStorage) -> None:
        self.storage = storage
        self.count = 0

    async def run(self, run_id: str, steps: int = 1, first: Changes | None = None) -> Writer:
        """Write a run whose head is after superstep `steps - 1`."""
        self.count += 1
        writer = Writer(self.storage, run_id)
        writer.started += timedelta(minutes=self.count)
        for number in range(steps):
            await writer.commit(first if number == 0 else None, lease_seconds=None)
        return writer


async def runs(storage: ManagedStorage, *run_ids: str) -> Service:
    store = Store(storage)
    for run_id in run_ids:
        await store.run(run_id)
    return Service(storage)


async def found(service: Service, reference: str) -> str:
    return (await service.find_run(reference)).run_id


async def checkpoint(service: Service, reference: str) -> str:
    return (await service.find_checkpoint(reference)).checkpoint_id


# --------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_run_by_every_form(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        service = await runs(storage, "0193aa11", "0193aa22", "0194bb33")

        assert await found(service, "0193aa11") == "0193aa11"
        assert await found(service, "@latest") == "0194bb33"
        assert await found(service, "@-1") == "0193aa22"
        assert await found(service, "@-2") == "0193aa11"
        assert await found(service, "0194") == "0194bb33"
        assert await found(service, "a22") == "0193aa22"


async def test_a_beginning_comes_before_an_end() -> None:
    service = await runs(InMemoryCheckpointStorage(), "abc", "xab")

    assert await found(service, "ab") == "abc"


async def test_an_id_comes_first_whatever_it_looks_like() -> None:
    hostile = ["@latest", "@-1", "a@1", "a", "a-1", "a b", "x:y", "@latest@5", "ab", "é…\"'"]
    service = await runs(InMemoryCheckpointStorage(), *hostile, "newest")

    for run_id in hostile:
        assert await found(service, run_id) == run_id
        assert await checkpoint(service, run_id) == checkpoint_id(run_id, 0)
        assert await checkpoint(service, f"{run_id}@0") == checkpoint_id(run_id, 0)
        assert await checkpoint(service, f"{run_id}@latest") == checkpoint_id(run_id, 0)
        assert await checkpoint(service, f"{run_id}-0") == checkpoint_id(run_id, 0)


async def test_several_runs_are_listed() -> None:
    service = await runs(InMemoryCheckpointStorage(), *(f"run{n}" for n in range(10)), "other")

    with pytest.raises(AmbiguousReferenceError) as caught:
        await service.find_run("run")
    text = str(caught.value)
    assert "'run' can mean 10 runs" in text
    assert text.count("flow, stopped, ") == 8
    assert "days ago" in text
    assert "... and 2 more" in text


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("@-3", "the store has 3 runs; @latest is the newest"),
        ("ordre-1", "Did you mean 'order-1'"),
        ("zzz", "The newest are 'asks', 'order-2', 'order-1'"),
        ("", "none of the 3 runs"),
        ("order-1-000000", "It is a checkpoint of run 'order-1', but a run is needed"),
        ("saved", "It is a checkpoint that belongs to no run, but a run is needed"),
        ("approve?", "It is a question of run 'asks', but a run is needed"),
        ("@-0", "none of the 3 runs"),
        ("@latest ", "none of the 3 runs"),
    ],
)
async def test_what_is_said_of_a_run_that_is_not_there(reference: str, says: str) -> None:
    storage = InMemoryCheckpointStorage()
    store = Store(storage)
    await store.run("order-1")
    await store.run("order-2")
    await store.run("asks", first=ask(question("approve?", {})))
    await storage.save_checkpoint(by_hand("saved"))

    with pytest.raises(ReferenceNotFoundError) as caught:
        await Service(storage).find_run(reference)
    assert says in str(caught.value)
    assert repr(reference) in str(caught.value)


async def test_an_empty_store_says_so() -> None:
    service = Service(InMemoryCheckpointStorage())

    for reference in ("x", "@latest", "", "x@1", "x-1"):
        with pytest.raises(ReferenceNotFoundError, match="has no runs yet"):
            await service.find_run(reference)
        with pytest.raises(ReferenceNotFoundError, match="has no runs yet"):
            await service.find_checkpoint(reference)
        with pytest.raises(ReferenceNotFoundError, match="no question is waiting"):
            await service.find_question(reference)


async def test_more_runs_than_a_page_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supersteps.storage.pages.PAGE", 2)
    service = await runs(InMemoryCheckpointStorage(), *(f"r{n}" for n in range(7)))

    assert await found(service, "@-6") == "r0"


async def test_an_exact_run_costs_one_read() -> None:
    class Strict(InMemoryCheckpointStorage):
        async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
            raise StorageError("not wanted")

    storage = Strict()
    service = await runs(storage, "run", "run2")

    assert await found(service, "run") == "run"
    assert await checkpoint(service, "run@0") == "run-000000"


# -------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_checkpoint_by_every_form(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        store = Store(storage)
        await store.run("0193aa11", 3)
        await store.run("0193bb22", 13)
        service = Service(storage)

        for reference, wanted in {
            "0193aa11-000001": "0193aa11-000001",
            "0193aa11@1": "0193aa11-000001",
            "0193aa@0": "0193aa11-000000",
            "aa11@2": "0193aa11-000002",
            "0193aa11@latest": "0193aa11-000002",
            "0193aa11@-1": "0193aa11-000001",
            "aa11@-2": "0193aa11-000000",
            "0193bb-12": "0193bb22-000012",
            "b22-7": "0193bb22-000007",
            "@latest": "0193bb22-000012",
            "@-1": "0193aa11-000002",
            "@latest@7": "0193bb22-000007",
            "@latest-7": "0193bb22-000007",
            "@latest@-2": "0193bb22-000010",
            "@-1@1": "0193aa11-000001",
            "@-1@latest": "0193aa11-000002",
            "0193aa11": "0193aa11-000002",
            "a11": "0193aa11-000002",
        }.items():
            assert await checkpoint(service, reference) == wanted, reference


async def test_steps_are_those_of_the_lineage_of_the_head() -> None:
    storage = InMemoryCheckpointStorage()
    store = Store(storage)
    writer = await store.run("run", 4)
    await writer.move("run-000001")
    for step in (2, 3, 4):
        await writer.commit(iteration_count=step, lease_seconds=None)
    service = Service(storage)

    assert await checkpoint(service, "run@2") == "run-000004"
    assert await checkpoint(service, "run@1") == "run-000001"
    assert await checkpoint(service, "run@-3") == "run-000001"
    assert await checkpoint(service, "run-2") == "run-000002"
    with pytest.raises(ReferenceNotFoundError, match="its head is after superstep 4"):
        await checkpoint(service, "run@5")
    with pytest.raises(ReferenceNotFoundError, match="has 5 checkpoints"):
        await checkpoint(service, "run@-5")
    with pytest.raises(ReferenceNotFoundError, match="its newest is number 6"):
        await checkpoint(service, "run-7")
    await storage.delete_checkpoint("run-000004")
    with pytest.raises(
        ReferenceNotFoundError, match="no longer has a checkpoint after superstep 2"
    ):
        await checkpoint(service, "run@2")


async def test_a_beginning_with_a_dash_or_an_at_sign_is_still_one() -> None:
    service = await runs(
        InMemoryCheckpointStorage(), "2024-11-01-a", "2024-11-02-b", "me@home", "me@work"
    )

    assert await checkpoint(service, "2024-11-02") == "2024-11-02-b-000000"
    assert await checkpoint(service, "me@h") == "me@home-000000"
    assert await checkpoint(service, "me@home@0") == "me@home-000000"


async def test_two_readings_that_differ_are_refused() -> None:
    storage = InMemoryCheckpointStorage()
    store = Store(storage)
    await store.run("job-1a", 3)
    await store.run("jobs", 3)
    service = Service(storage)

    assert await checkpoint(service, "jobs-1") == "jobs-000001"
    with pytest.raises(AmbiguousReferenceError, match="can mean 2 runs"):
        await checkpoint(service, "job")
    assert (
        await checkpoint(service, "job-1") == "job-1a-000002"
    )  # as "job", number 1, it would be one of several
    await storage.delete_run("jobs")
    with pytest.raises(AmbiguousReferenceError) as caught:
        await checkpoint(service, "job-1")
    assert "job-1a-000001" in str(caught.value)
    assert "job-1a-000002" in str(caught.value)


async def test_a_run_that_is_clear_is_named_when_its_checkpoint_is_not_there() -> None:
    service = await runs(InMemoryCheckpointStorage(), "run", "other")

    with pytest.raises(
        ReferenceNotFoundError,
        match="run 'run' has no checkpoint 'ru@9': its head is after superstep 0",
    ):
        await checkpoint(service, "ru@9")
    with pytest.raises(
        ReferenceNotFoundError, match=r"there is no checkpoint '@latest@-1'.* has 1 checkpoint"
    ):
        await checkpoint(service, "@latest@-1")
    with pytest.raises(ReferenceNotFoundError, match="none of the 2 runs"):
        await checkpoint(service, "nope@9")


async def test_a_checkpoint_that_was_saved_by_hand_has_its_id() -> None:
    storage = InMemoryCheckpointStorage()
    await storage.save_checkpoint(by_hand("saved"))

    assert await checkpoint(Service(storage), "saved") == "saved"


# ---------------------------------------------------------------------------------------- questions


async def asking(storage: ManagedStorage, **asked: list[str]) -> Service:
    store = Store(storage)
    moment = 0
    for run_id, request_ids in asked.items():
        requests = []
        for request_id in request_ids:
            moment += 1
            at = f"2025-01-01T00:00:{moment:02}.000000+00:00"
            requests.append(question(request_id, {"type": "string"}, timestamp=at))
        await store.run(run_id, first=ask(*requests))
    return Service(storage)


async def asked(service: Service, reference: str) -> tuple[str, str]:
    one = await service.find_question(reference)
    return one.run_id, one.request_id


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_question_by_every_form(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        service = await asking(storage, one=["aa-11", "ab-22"], two=["cc:33"])

        for reference, wanted in {
            "aa-11": ("one", "aa-11"),
            "@latest": ("two", "cc:33"),
            "@-2": ("one", "aa-11"),
            "ab": ("one", "ab-22"),
            "22": ("one", "ab-22"),
            "cc:33": ("two", "cc:33"),
            "two:cc:33": ("two", "cc:33"),
            "tw:cc": ("two", "cc:33"),
            "one:11": ("one", "aa-11"),
        }.items():
            assert await asked(service, reference) == wanted, reference


async def test_one_question_in_two_runs_needs_the_run() -> None:
    service = await asking(InMemoryCheckpointStorage(), first=["q", "r"], second=["q"])

    with pytest.raises(AmbiguousReferenceError) as caught:
        await service.find_question("q")
    assert "first:q" in str(caught.value)
    assert "second:q" in str(caught.value)
    assert "Type one of these in full" in str(caught.value)
    assert await asked(service, "second:q") == ("second", "q")
    assert await asked(service, "fir:q") == ("first", "q")
    assert await asked(service, "r") == ("first", "r")


async def test_a_run_stands_for_its_only_question() -> None:
    service = await asking(InMemoryCheckpointStorage(), first=["q", "r"], second=["q"])

    assert await asked(service, "second") == ("second", "q")
    assert await asked(service, "sec") == ("second", "q")
    with pytest.raises(AmbiguousReferenceError, match="2 questions"):
        await service.find_question("first")


async def test_a_place_in_a_run_that_is_not_there_is_said_of_the_run() -> None:
    service = await runs(InMemoryCheckpointStorage(), "cats")

    with pytest.raises(ReferenceNotFoundError, match=r"the id 'catz'.*Did you mean 'cats'"):
        await checkpoint(service, "catz@5")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("aprove", "Did you mean 'approve'"),
        ("@-1", "none of the 1 waiting question"),
        ("run:nope", "none of the 1 waiting question"),
        (":approve", "none of the 1 waiting question"),
        ("", "none of the 1 waiting question"),
    ],
)
async def test_what_is_said_of_a_question_that_does_not_wait(reference: str, says: str) -> None:
    service = await asking(InMemoryCheckpointStorage(), run=["approve"])

    with pytest.raises(ReferenceNotFoundError) as caught:
        await service.find_question(reference)
    assert says in str(caught.value)


async def test_all_of_these_are_errors_of_the_service() -> None:
    assert issubclass(ReferenceNotFoundError, ServiceError)
    assert issubclass(AmbiguousReferenceError, ServiceError)
    assert not issubclass(ServiceError, CheckpointError)


def test_ages_as_people_say_them() -> None:
    now = datetime(2025, 1, 3, tzinfo=UTC)
    for ago, said in {
        5: "just now",
        60: "1 minute ago",
        7300: "2 hours ago",
        180_000: "2 days ago",
        -9: "just now",
    }.items():
        assert age((now - timedelta(seconds=ago)).isoformat(), now) == said
