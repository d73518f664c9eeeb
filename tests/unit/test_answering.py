"""Answering without the workflow's code: the rarer paths; the common ones are in the contract of
storages.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.inbox import CANCELLED, DEFAULTED, json_entry
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.errors import (
    AlreadyAnsweredError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    LateResponseError,
    RequestError,
    RunBusyError,
    RunNotFoundError,
    StaleRequestError,
    StorageError,
    UnknownRequestError,
)
from supersteps.storage import answers, pages
from supersteps.storage.listings import RunFilter
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import Capabilities, DurableStorage, is_managed
from supersteps.storage.records import InboxEntry, RunRecord
from supersteps.testing.answers import ask, end, question
from tests.contract.support import SUBJECTS, Writer, open_subject, record_of


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_storages_have_it_as_methods(subject: str, tmp_path: Path) -> None:
    storage: Any = open_subject(subject, tmp_path)
    async with storage:
        await Writer(storage).commit(ask(question("a", {}), question("b", {})), lease_seconds=None)

        assert [asked.request_id for asked in await storage.list_requests()] == ["a", "b"]
        await storage.answer("run", "a", {"yes": True})
        assert [asked.request_id for asked in await storage.list_requests("run", "flow")] == ["b"]
        await storage.cancel_request("run", "b")
        assert [entry.value for entry in await storage.read_inbox("run")] == [
            json_entry({"yes": True}),
            CANCELLED,
        ]
        await storage.cancel_run("run")
        assert (await record_of(storage)).status == "CANCELLED"


# ----------------------------------------------------------------------------------------- refusing


async def test_a_branch_that_was_left_is_searched_newest_first() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage)
    first = await writer.commit()
    await writer.commit(ask(question("q", {}), question("early", {})))
    await writer.commit(end("early"))
    await writer.move(first)
    await writer.commit(ask(question("here", {})))

    with pytest.raises(
        StaleRequestError,
        match=r"'run-000002' of branch 0, while the run.s head is 'run-000003' of branch 1",
    ):
        await answers.answer(storage, "run", "q", 1)
    assert isinstance(await answers.refusal(storage, "run", "early"), StaleRequestError)
    unknown = await answers.refusal(storage, "run", "never")
    assert type(unknown) is UnknownRequestError
    assert "waiting requests: 'here'" in str(unknown)


async def test_only_so_many_checkpoints_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage)
    first = await writer.commit()
    await writer.commit(ask(question("q", {})))
    for _ in range(3):
        await writer.commit(end("q") if writer.sequence == 1 else None)
    await writer.move(first)
    loaded: list[str] = []
    load_record = storage.load_record

    async def load(checkpoint_id: str) -> CheckpointRecord | None:
        loaded.append(checkpoint_id)
        return await load_record(checkpoint_id)

    monkeypatch.setattr(storage, "load_record", load)
    monkeypatch.setattr(answers, "_SEARCHED", 2)

    assert isinstance(await answers.refusal(storage, "run", "never"), UnknownRequestError)
    assert loaded == [first, "run-000004", "run-000003"]


async def test_a_damaged_checkpoint_does_not_end_the_search() -> None:
    class Damaged(InMemoryCheckpointStorage):
        async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
            if checkpoint_id == "run-000002":
                raise CorruptCheckpointError("a row")
            return await super().load_record(checkpoint_id)

    storage = Damaged()
    writer = Writer(storage)
    first = await writer.commit()
    await writer.commit(ask(question("q", {})))
    await writer.commit()
    await writer.move(first)

    with pytest.raises(StaleRequestError, match="'run-000001'"):
        await answers.answer(storage, "run", "q", 1)


async def test_a_question_that_was_asked_again_has_ended_as_it_did_last() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage)
    await writer.commit(ask(question("q", {})))
    await writer.commit(end("q", "cancelled"))
    await writer.commit(ask(question("q", {})))
    await writer.commit(end("q", "answered"))

    assert isinstance(await answers.refusal(storage, "run", "q"), AlreadyAnsweredError)


@pytest.mark.parametrize(
    ("entry", "error", "words"),
    [
        (b'"yes"', AlreadyAnsweredError, "was answered at 2"),
        (json_entry(1), AlreadyAnsweredError, "was answered at 2"),
        (DEFAULTED, LateResponseError, "has passed, and its default is the answer since 2"),
        (CANCELLED, StaleRequestError, "was cancelled at 2"),
    ],
)
async def test_what_lies_in_the_inbox_is_named(
    entry: bytes, error: type[RequestError], words: str
) -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage).commit(ask(question("q", {})))
    await storage.add_answers("run", [("q", entry)])

    attempts: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: answers.answer(storage, "run", "q", 1),
        lambda: answers.cancel_request(storage, "run", "q"),
    )
    for attempt in attempts:
        with pytest.raises(error, match=words) as caught:
            await attempt()
        assert type(caught.value) is error
        assert "Nothing was changed" in str(caught.value)
    assert [kept.value for kept in await storage.read_inbox("run")] == [entry]


async def test_a_cancelled_run_still_tells_what_was_answered() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage)
    await writer.commit(ask(question("old", {}), question("q", {})))
    await writer.commit(end("old"), lease_seconds=None)
    await answers.cancel_run(storage, "run")

    assert isinstance(await answers.refusal(storage, "run", "old"), AlreadyAnsweredError)
    stale = await answers.refusal(storage, "run", "q")
    assert isinstance(stale, StaleRequestError)
    assert "resume the run from its checkpoint 'run-000001'" in str(stale)
    assert await answers.list_requests(storage) == []


# -------------------------------------------------------------------------------------------- races


class Meanwhile(InMemoryCheckpointStorage):
    """Lets something happen right before one call of a method."""

    def __init__(self, method: str, work: Callable[["Meanwhile"], Any]) -> None:
        super().__init__()
        self.method: str | None = method
        self.work = work
        self.armed = False

    async def _before(self, method: str) -> None:
        if self.armed and method == self.method:
            self.armed = False
            await self.work(self)

    async def add_answers(
        self, run_id: str, answers: Sequence[tuple[str, bytes]], **which: Any
    ) -> list[InboxEntry]:
        await self._before("add_answers")
        return await super().add_answers(run_id, answers, **which)

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        await self._before("load_record")
        return await super().load_record(checkpoint_id)

    async def acquire(
        self, run_id: str, owner: Owner, lease_seconds: float, **which: Any
    ) -> RunRecord:
        await self._before("acquire")
        return await super().acquire(run_id, owner, lease_seconds, **which)

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        if wanted.before is not None:
            await self._before("find_runs")
        return await super().find_runs(wanted)

    async def get_run(self, run_id: str) -> RunRecord | None:
        await self._before("get_run")
        return await super().get_run(run_id)


@pytest.mark.parametrize(
    ("outcome", "error"), [("answered", AlreadyAnsweredError), ("cancelled", StaleRequestError)]
)
async def test_the_head_moves_on_before_the_answer_is_put(
    outcome: str, error: type[RequestError]
) -> None:
    async def move_on(storage: Meanwhile) -> None:
        await writer.commit(end("q", outcome))

    storage = Meanwhile("add_answers", move_on)
    writer = Writer(storage)
    await writer.commit(ask(question("q", {})))
    storage.armed = True

    with pytest.raises(error, match="in superstep 2") as caught:
        await answers.answer(storage, "run", "q", 1)
    assert isinstance(caught.value.__cause__, UnknownRequestError)
    assert await storage.read_inbox("run") == []


async def test_somebody_else_answers_first() -> None:
    async def answer_too(storage: Meanwhile) -> None:
        await storage.add_answers("run", [("q", b"1")])

    storage = Meanwhile("add_answers", answer_too)
    await Writer(storage).commit(ask(question("q", {})))
    storage.armed = True

    with pytest.raises(AlreadyAnsweredError, match="'q'"):
        await answers.answer(storage, "run", "q", 2)
    assert [entry.value for entry in await storage.read_inbox("run")] == [b"1"]


async def test_the_head_is_deleted_while_one_looks() -> None:
    async def delete(storage: Meanwhile) -> None:
        await storage.delete_checkpoint("run-000001")

    storage = Meanwhile("load_record", delete)
    writer = Writer(storage)
    await writer.commit(ask(question("q", {})))
    await writer.commit()
    storage.armed = True

    await answers.answer(storage, "run", "q", 1)
    assert (await record_of(storage)).head == "run-000000"
    assert len(await storage.read_inbox("run")) == 1


async def test_the_run_is_deleted_while_one_looks() -> None:
    async def delete(storage: Meanwhile) -> None:
        await storage.delete_run("run")

    storage = Meanwhile("load_record", delete)
    await Writer(storage).commit(ask(question("q", {})))
    storage.armed = True

    with pytest.raises(RunNotFoundError, match="'run'"):
        await answers.answer(storage, "run", "q", 1)


async def test_a_head_that_is_not_there_is_an_error() -> None:
    class Lossy(InMemoryCheckpointStorage):
        async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
            return None

    storage = Lossy()
    await Writer(storage).commit(ask(question("q", {})))

    with pytest.raises(CheckpointNotFoundError, match="'run-000000'"):
        await answers.answer(storage, "run", "q", 1)


async def test_an_answer_that_is_consumed_while_one_lists_is_not_listed() -> None:
    async def consume(storage: Meanwhile) -> None:
        await writer.commit(end("q"), inbox_read=1)

    storage = Meanwhile("get_run", consume)
    writer = Writer(storage)
    await writer.commit(ask(question("q", {}), question("other", {})))
    await answers.answer(storage, "run", "q", 1)
    storage.armed = True

    assert [asked.request_id for asked in await answers.list_requests(storage, "run")] == ["other"]


async def test_a_run_that_ends_while_it_is_cancelled_stays_done() -> None:
    async def finish(storage: Meanwhile) -> None:
        await writer.commit(status="IDLE", lease_seconds=None)

    storage = Meanwhile("acquire", finish)
    writer = Writer(storage)
    await writer.commit()
    storage.armed = True

    await answers.cancel_run(storage, "run")

    run = await record_of(storage)
    assert (run.status, run.lease) == ("IDLE", None)


async def test_a_busy_run_is_not_cancelled() -> None:
    storage = InMemoryCheckpointStorage(clock=lambda: 0.0)
    await Writer(storage).commit(owner=Owner("elsewhere", "boot", "", 1, "1"))

    with pytest.raises(RunBusyError, match="elsewhere"):
        await answers.cancel_run(storage, "run")
    assert (await record_of(storage)).status == "IN_PROGRESS"


async def test_a_failed_run_is_cancelled_and_keeps_its_error() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage).commit()
    await storage.release("run", 1, status="FAILED", error="boom")

    await answers.cancel_run(storage, "run")

    run = await record_of(storage)
    assert (run.status, run.error) == ("CANCELLED", "boom")


# ------------------------------------------------------------------------------------------ listing


async def ask_in(storage: DurableStorage, count: int) -> None:
    for number in range(count):
        await Writer(storage, f"run {number}").commit(
            ask(question(f"q{number}", {})),
            timestamp=f"2025-01-0{number + 1}T00:00:00.000000+00:00",
        )


async def test_many_runs_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)
    storage = InMemoryCheckpointStorage()
    await ask_in(storage, 5)

    found = await answers.list_requests(storage)

    assert [(asked.run_id, asked.request_id) for asked in found] == [
        (f"run {n}", f"q{n}") for n in range(5)
    ]


@pytest.mark.parametrize("gone", [["run 3"], ["run 3", "run 4"], ["run 3", "run 2"]])
async def test_runs_are_deleted_while_one_lists(
    gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete(storage: Meanwhile) -> None:
        for run_id in gone:
            await storage.delete_run(run_id)

    monkeypatch.setattr(pages, "PAGE", 2)
    storage = Meanwhile("find_runs", delete)
    await ask_in(storage, 5)
    storage.armed = True

    found = [asked.run_id for asked in await answers.list_requests(storage)]

    # Those of the first page had been looked at before they went.
    assert found == [f"run {n}" for n in range(5) if n > 2 or f"run {n}" not in gone]


async def test_a_run_with_a_damaged_head_does_not_hide_the_others() -> None:
    class Damaged(InMemoryCheckpointStorage):
        async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
            if checkpoint_id.startswith("run 0"):
                raise CorruptCheckpointError("checkpoint 'run 0-000000' is damaged")
            return await super().load_record(checkpoint_id)

    storage = Damaged()
    await ask_in(storage, 2)

    with pytest.warns(CorruptCheckpointWarning, match="run 0"):
        found = await answers.list_requests(storage)
    assert [asked.run_id for asked in found] == ["run 1"]
    with pytest.raises(CorruptCheckpointError):
        await answers.list_requests(storage, "run 0")


async def test_a_storage_that_cannot_list_its_runs_is_asked_by_run() -> None:
    class Unmanaged(InMemoryCheckpointStorage):
        capabilities = Capabilities(is_permanent=False)

    storage = Unmanaged()
    await ask_in(storage, 1)

    assert not is_managed(storage)
    with pytest.raises(StorageError, match="Unmanaged cannot list its runs"):
        await answers.list_requests(storage)
    assert [asked.request_id for asked in await answers.list_requests(storage, "run 0")] == ["q0"]
    assert isinstance(await answers.refusal(storage, "run 0", "never"), UnknownRequestError)


@dataclass
class Draft:
    text: str


async def test_a_question_is_decoded_as_far_as_the_types_are_known() -> None:
    data = json.dumps({"$": f"{__name__}:Draft", "text": "Sure?"}).encode()
    for codec, known in ((Codec(), False), (Codec(types=[Draft]), True)):
        storage = InMemoryCheckpointStorage(codec)
        await Writer(storage).commit(ask(question("q", {}, data=msgspec.Raw(data))))
        (asked,) = await answers.list_requests(storage)
        assert asked.data.text == "Sure?"
        assert isinstance(asked.data, Draft) is known
