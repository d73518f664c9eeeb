"""Contract: the inbox of accepted answers."""

from __future__ import annotations

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.errors import AlreadyAnsweredError, UnknownRequestError
from supersteps.testing.subject import Subject
from supersteps.testing.writer import ASK, REQUEST, Writer, request


class Inbox(Subject):
    """Answers wait in order until one commit consumes them, or a restore discards them."""

    async def test_answers_wait_in_order(self) -> None:
        storage = self.storage
        await Writer(storage).commit(ASK)

        one = await storage.add_answers("run", [("b", b'"yes"')])
        two = await storage.add_answers("run", [("c", b"1.50"), ("a", b"[]")])

        assert await storage.read_inbox("run") == [*one, *two]
        assert [(e.number, e.request_id, e.value) for e in [*one, *two]] == [
            (1, "b", b'"yes"'),
            (2, "c", b"1.50"),
            (3, "a", b"[]"),
        ]

    async def test_answers_are_durable(self) -> None:
        self.needs("inbox")
        await Writer(self.storage).commit(ASK)
        entries = await self.storage.add_answers("run", [("a", b"1")])

        other = self.reopen()
        assert await other.read_inbox("run") == entries
        with pytest.raises(AlreadyAnsweredError):
            await other.add_answers("run", [("a", b"2")])

    async def test_answers_are_taken_all_or_none(self) -> None:
        await Writer(self.storage).commit(ASK)
        before = await self.storage.add_answers("run", [("a", b"1")])
        refused: list[tuple[list[tuple[str, bytes]], type[Exception]]] = [
            ([("b", b"1"), ("nobody", b"2")], UnknownRequestError),
            ([("b", b"1"), ("a", b"2")], AlreadyAnsweredError),
            ([("b", b"1"), ("b", b"2")], AlreadyAnsweredError),
        ]

        for answers, error in refused:
            with pytest.raises(error, match="'run'"):
                await self.storage.add_answers("run", answers)

        assert await self.storage.read_inbox("run") == before

    async def test_a_commit_consumes_what_it_has_read(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.commit(ASK)
        (first,) = await storage.add_answers("run", [("a", b"1")])
        (second,) = await storage.add_answers("run", [("b", b"2")])

        await writer.commit(Changes(deletes=[request("a")]), inbox_read=first.number)
        assert await storage.read_inbox("run") == [second]
        with pytest.raises(UnknownRequestError):
            await storage.add_answers("run", [("a", b"3")])
        (third,) = await storage.add_answers("run", [("c", b"3")])
        assert (second.number, third.number) == (2, 3)
        await writer.commit(Changes(deletes=[request("b"), request("c")]), inbox_read=3)
        assert await storage.read_inbox("run") == []

        await writer.commit(Changes(puts={request("d"): REQUEST}))
        (fourth,) = await storage.add_answers("run", [("d", b"4")])
        assert fourth.number == 4

    async def test_a_commit_that_read_nothing_consumes_nothing(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.commit(ASK)
        entries = await storage.add_answers("run", [("a", b"1")])
        await writer.commit()

        assert await storage.read_inbox("run") == entries

    async def test_restoring_drops_the_answers_and_asks_again(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first = await writer.commit(ASK)
        await storage.add_answers("run", [("a", b"1")])
        await writer.commit(Changes(deletes=[request("a")]), inbox_read=1)
        await storage.add_answers("run", [("b", b"2")])

        await writer.move(first)

        assert await storage.read_inbox("run") == []
        again = await storage.add_answers("run", [("a", b"3"), ("b", b"4")])
        assert [entry.number for entry in again] == [3, 4]
        assert await storage.read_inbox("run") == again

    async def test_restoring_to_the_head_drops_the_answers_too(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        head = await writer.commit(ASK)
        await storage.add_answers("run", [("a", b"1")])
        await writer.move(head)

        assert await storage.read_inbox("run") == []
        await storage.add_answers("run", [("a", b"2")])

    async def test_an_answer_needs_no_epoch_and_disturbs_nobody(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        head = await writer.commit(ASK)
        await storage.append_journal("run", 1, head, [b"1"])
        await storage.add_answers("run", [("a", b"1")])

        await storage.append_journal("run", 1, head, [b"2"])
        assert await storage.read_journal("run", head) == [b"1", b"2"]
        await writer.commit()
