"""Contract: answers in plain JSON, given without the workflow's code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.inbox import CANCELLED, json_entry
from supersteps.checkpoint.sections.answered import ANSWERED, StoredAnswer
from supersteps.checkpoint.sections.question import StoredRequest
from supersteps.checkpoint.stored import raw
from supersteps.errors import (
    AlreadyAnsweredError,
    LateResponseError,
    NoSchemaError,
    RequestError,
    ResponseTypeError,
    RunBusyError,
    RunNotFoundError,
    StaleRequestError,
    UnknownRequestError,
)
from supersteps.states import WorkflowRunState
from supersteps.storage import answers
from supersteps.storage.ports import DurableStorage
from supersteps.testing.subject import Subject
from supersteps.testing.writer import ELSEWHERE, Writer, record_of, request

_ASKED = datetime(2025, 1, 1, tzinfo=UTC)


def question(request_id: str, schema: Any = None, **fields: Any) -> bytes:
    """Return an encoded question.

    Args:
        request_id: Its id.
        schema: JSON Schema of the answer.
        fields: Other fields of `StoredRequest`.
    """
    known: dict[str, Any] = {
        "source_executor_id": "asker",
        "request_executor_id": "asker",
        "iteration": 1,
        "timestamp": _ASKED.isoformat(timespec="microseconds"),
        "response_type": "str",
        "data": msgspec.Raw(b'"Sure?"'),
    }
    stored = StoredRequest(
        request_id, **{**known, **fields}, response_schema=raw(msgspec.json.encode(schema))
    )
    return msgspec.json.encode(stored)


def ask(*questions: bytes) -> Changes:
    """Return the changes of a superstep that asks."""
    return Changes(
        puts={request(msgspec.json.decode(each)["request_id"]): each for each in questions}
    )


def end(request_id: str, outcome: Any = "answered") -> Changes:
    """Return the changes of a superstep in which a question ends."""
    answer = StoredAnswer(request_id, "asker", 2, "2025-01-01T00:00:02.000000+00:00", outcome)
    return Changes(deletes=[request(request_id)], appends={ANSWERED: [msgspec.json.encode(answer)]})


async def refused(
    storage: DurableStorage,
    attempt: Callable[[], Awaitable[object]],
    error: type[Exception],
    words: str,
) -> None:
    """Check that a call is refused with this error and changes nothing."""
    before = await storage.get_run("run"), await storage.read_inbox("run")
    with pytest.raises(error, match=words) as caught:
        await attempt()
    assert type(caught.value) is error
    if isinstance(caught.value, RequestError):
        assert "'run'" in str(caught.value)
        assert "Nothing was changed" in str(caught.value)
    assert (await storage.get_run("run"), await storage.read_inbox("run")) == before


def _fixed(now: datetime) -> Callable[[], datetime]:
    return lambda: now


class Answers(Subject):
    """Answers are checked against the stored schema; each kind of refusal has its error."""

    async def test_an_answer_in_json_is_checked_and_waits_in_the_inbox(self) -> None:
        storage = self.storage
        schema = {
            "$ref": "#/$defs/P",
            "$defs": {"P": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        }
        await Writer(storage).commit(ask(question("q", schema, response_type="Plan")))

        for wrong, words in (
            ({"n": "1"}, r"not of type 'integer' - at `\$\.n`"),
            ({"n": True}, "Plan"),
            ([], r'fits \{"\$ref"'),
            ({"n": {1}}, "not plain JSON"),
            (float("nan"), "not a JSON number"),
        ):
            give = partial(self._answer, "q", wrong)
            await refused(storage, give, ResponseTypeError, words)
        await answers.answer(storage, "run", "q", {"n": 1})

        (entry,) = await storage.read_inbox("run")
        assert (entry.request_id, entry.value) == ("q", json_entry({"n": 1}))

    async def test_an_answer_in_json_is_durable(self) -> None:
        self.needs("inbox")
        await Writer(self.storage).commit(ask(question("q", {})))
        await answers.answer(self.storage, "run", "q", [1, "é", None])

        other = self.reopen()
        assert [entry.value for entry in await other.read_inbox("run")] == [
            json_entry([1, "é", None])
        ]
        await refused(
            other,
            lambda: answers.answer(other, "run", "q", 2),
            AlreadyAnsweredError,
            "waits for the next superstep",
        )

    async def test_an_answer_comes_too_late_or_has_no_schema(self) -> None:
        storage = self.storage
        deadline = _ASKED + timedelta(hours=1)
        await Writer(storage).commit(
            ask(
                question("late", {}, deadline=deadline.isoformat(timespec="microseconds")),
                question("opaque"),
            )
        )

        for too_late in (deadline, deadline + timedelta(days=1)):
            await refused(
                storage,
                partial(answers.answer, storage, "run", "late", 1, clock=_fixed(too_late)),
                LateResponseError,
                "'late'.*2025-01-01T01:00",
            )
        await refused(
            storage, lambda: self._answer("opaque", 1), NoSchemaError, "'opaque'.*type str"
        )
        await answers.answer(
            storage,
            "run",
            "late",
            1,
            clock=lambda: deadline.astimezone() - timedelta(microseconds=1),
        )

    async def test_what_does_not_wait_is_refused_in_its_own_words(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.commit(ask(*(question(name, {}) for name in ("a", "b", "c", "here"))))
        await writer.commit(end("a"))
        await writer.commit(end("b", "defaulted"))
        await writer.commit(end("c", "cancelled"))

        for name, error, words in (
            ("a", AlreadyAnsweredError, "was answered in superstep 2"),
            ("b", LateResponseError, "deadline.* in superstep 2"),
            ("c", StaleRequestError, "cancelled in superstep 2"),
            ("nobody", UnknownRequestError, "waiting requests: 'here'"),
        ):
            await refused(storage, partial(self._answer, name, 1), error, words)
            await refused(storage, partial(self._cancel, name), error, words)
        for attempt in (
            lambda: answers.answer(storage, "none", "a", 1),
            lambda: answers.cancel_request(storage, "none", "a"),
            lambda: answers.list_requests(storage, "none"),
            lambda: answers.cancel_run(storage, "none"),
        ):
            await refused(storage, attempt, RunNotFoundError, "'none'")

    async def test_a_question_on_a_branch_that_was_left_is_stale(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        first = await writer.commit()
        await writer.commit(ask(question("q", {})))
        await writer.commit(end("q"))
        await writer.move(first)

        await refused(storage, lambda: self._answer("q", 1), StaleRequestError, "branch 0")

    async def test_a_question_is_taken_back_once(self) -> None:
        storage = self.storage
        await Writer(storage).commit(ask(question("q"), question("other", {})))

        await answers.cancel_request(storage, "run", "q")

        assert [(e.request_id, e.value) for e in await storage.read_inbox("run")] == [
            ("q", CANCELLED)
        ]
        await refused(storage, lambda: self._cancel("q"), StaleRequestError, "cancelled")
        await refused(storage, lambda: self._answer("q", 1), StaleRequestError, "cancelled")
        assert [asked.request_id for asked in await answers.list_requests(storage, "run")] == [
            "other"
        ]

    async def test_a_cancelled_run_asks_nobody(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        head = await writer.commit(
            ask(question("q", {})),
            status=WorkflowRunState.IDLE_WITH_PENDING_REQUESTS.value,
            lease_seconds=None,
        )

        await answers.cancel_run(storage, "run")
        await answers.cancel_run(storage, "run")

        run = await record_of(storage)
        assert (run.status, run.lease, run.head, run.epoch) == (
            WorkflowRunState.CANCELLED.value,
            None,
            head,
            2,
        )
        if "head" not in self.missing():
            assert await record_of(self.reopen()) == run
        await refused(storage, lambda: self._answer("q", 1), StaleRequestError, "run was cancelled")
        await refused(storage, lambda: self._cancel("q"), StaleRequestError, "run was cancelled")
        assert await answers.list_requests(storage, "run") == []
        await writer.take()
        await writer.commit(
            status=WorkflowRunState.IDLE_WITH_PENDING_REQUESTS.value, lease_seconds=None
        )
        await answers.answer(storage, "run", "q", 1)

    async def test_a_run_that_is_done_stays_done_and_a_busy_one_is_left_alone(self) -> None:
        storage = self.storage
        await Writer(storage).commit(status=WorkflowRunState.IDLE.value, lease_seconds=None)
        before = await record_of(storage)
        await answers.cancel_run(storage, "run")
        assert await record_of(storage) == before

        await Writer(storage, "busy").commit(owner=ELSEWHERE)
        if "clock" not in self.missing():
            with pytest.raises(RunBusyError, match="'busy'"):
                await answers.cancel_run(storage, "busy")

    async def test_questions_are_listed_oldest_first(self) -> None:
        storage = self.managed()
        for number, (run_id, workflow_id) in enumerate(
            [("one", "flow"), ("two", "other"), ("three", "flow")]
        ):
            when = (_ASKED - timedelta(hours=number)).isoformat(timespec="microseconds")
            asked = [question(f"{run_id} {n}", {"type": "integer"}, timestamp=when) for n in (1, 2)]
            await Writer(storage, run_id, workflow_id).commit(ask(*asked))
        await Writer(storage, "quiet").commit()
        await answers.answer(storage, "one", "one 2", 1)

        async def names(run_id: str | None = None, workflow_id: str | None = None) -> list[str]:
            return [
                asked.request_id
                for asked in await answers.list_requests(storage, run_id, workflow_id)
            ]

        assert await names() == ["three 1", "three 2", "two 1", "two 2", "one 1"]
        assert await names("two") == ["two 1", "two 2"]
        assert await names(workflow_id="flow") == ["three 1", "three 2", "one 1"]
        assert await names("two", "flow") == await names("quiet") == []
        (found,) = await answers.list_requests(storage, "one")
        assert (found.run_id, found.data, found.response_schema) == (
            "one",
            "Sure?",
            {"type": "integer"},
        )
        assert found.age > timedelta(days=300)

    async def _answer(self, request_id: str, value: Any) -> None:
        await answers.answer(self.storage, "run", request_id, value)

    async def _cancel(self, request_id: str) -> None:
        await answers.cancel_request(self.storage, "run", request_id)
