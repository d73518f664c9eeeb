"""Finished calls and accepted answers: in order, durable, fenced, and void at the right moments."""

import pytest

from supersteps.checkpoint.record import Changes
from supersteps.errors import AlreadyAnsweredError, RunFencedError, UnknownRequestError
from supersteps.storage.base import DurableStorage
from tests.contract.support import REQUEST, Subject, Writer, request

ASK = Changes(puts={request("a"): REQUEST, request("b"): REQUEST, request("c"): REQUEST})

# -------------------------------------------------------------------------------------------------------------- journal


async def test_records_come_back_in_order(subject: Subject) -> None:
    head = await Writer(subject.storage).commit()
    await subject.storage.append_journal("run", 1, head, [b'{"call":1}', b"2"])
    await subject.storage.append_journal("run", 1, head, [])
    await subject.storage.append_journal("run", 1, head, ['"drei ü"'.encode()])

    assert await subject.storage.read_journal("run", head) == [b'{"call":1}', b"2", '"drei ü"'.encode()]


async def test_another_process_reads_the_records_and_adds_its_own(subject: Subject) -> None:
    subject.needs("journal")
    head = await Writer(subject.storage).commit()
    await subject.storage.append_journal("run", 1, head, [b"1"])
    other = subject.reopened()
    successor = Writer(other)
    await successor.take()

    await other.append_journal("run", 2, head, [b"2"])

    assert await subject.reopened().read_journal("run", head) == [b"1", b"2"]


async def test_a_commit_voids_the_records(subject: Subject) -> None:
    writer = Writer(subject.storage)
    first = await writer.commit()
    await subject.storage.append_journal("run", 1, first, [b"1"])
    second = await writer.commit()

    for storage in (subject.storage, subject.reopened()):
        assert await storage.read_journal("run", first) == []
        assert await storage.read_journal("run", second) == []
    await subject.storage.append_journal("run", 1, second, [b"2"])
    assert await subject.storage.read_journal("run", second) == [b"2"]
    assert await subject.storage.read_journal("run", first) == []


async def test_restoring_voids_the_records_also_to_the_head_and_there_and_back(subject: Subject) -> None:
    writer = Writer(subject.storage)
    first, second = await writer.commit(), await writer.commit()
    await subject.storage.append_journal("run", 1, second, [b"1"])
    await writer.move(second)
    assert await subject.storage.read_journal("run", second) == []

    await subject.storage.append_journal("run", 1, second, [b"2"])
    await writer.move(first)
    await writer.move(second)
    for storage in (subject.storage, subject.reopened()):
        assert await storage.read_journal("run", second) == []
    await subject.storage.append_journal("run", 1, second, [b"3"])
    assert await subject.storage.read_journal("run", second) == [b"3"]


async def test_discarded_records_are_gone(subject: Subject) -> None:
    head = await Writer(subject.storage).commit()
    await subject.storage.append_journal("run", 1, head, [b"1"])
    await subject.storage.discard_journal("run", 1)

    for storage in (subject.storage, subject.reopened()):
        assert await storage.read_journal("run", head) == []
    await subject.storage.append_journal("run", 1, head, [b"2"])
    assert await subject.storage.read_journal("run", head) == [b"2"]


async def test_records_must_follow_the_head(storage: DurableStorage) -> None:
    writer = Writer(storage)
    first = await writer.commit()
    await writer.commit()

    with pytest.raises(RunFencedError, match="'run-000000'"):
        await storage.append_journal("run", 1, first, [b"1"])
    assert await storage.read_journal("run", "run-000001") == []


async def test_a_lease_does_not_touch_the_records(storage: DurableStorage) -> None:
    writer = Writer(storage)
    head = await writer.commit()
    await storage.append_journal("run", 1, head, [b"1"])
    await storage.renew("run", 1, 5)
    await storage.append_journal("run", 1, head, [b"2"])
    await storage.release("run", 1, error="a sibling failed")
    await writer.take()
    await storage.append_journal("run", writer.epoch, head, [b"3"])

    assert await storage.read_journal("run", head) == [b"1", b"2", b"3"]


# ---------------------------------------------------------------------------------------------------------------- inbox


async def test_answers_wait_in_order(subject: Subject) -> None:
    storage = subject.storage
    await Writer(storage).commit(ASK)

    one = await storage.add_answers("run", [("b", b'"yes"')])
    two = await storage.add_answers("run", [("c", b"1.50"), ("a", b"[]")])

    assert await storage.read_inbox("run") == [*one, *two]
    assert [(e.number, e.request_id, e.value) for e in [*one, *two]] == [
        (1, "b", b'"yes"'),
        (2, "c", b"1.50"),
        (3, "a", b"[]"),
    ]


async def test_answers_are_durable(subject: Subject) -> None:
    subject.needs("inbox")
    await Writer(subject.storage).commit(ASK)
    entries = await subject.storage.add_answers("run", [("a", b"1")])

    other = subject.reopened()
    assert await other.read_inbox("run") == entries
    with pytest.raises(AlreadyAnsweredError):
        await other.add_answers("run", [("a", b"2")])


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([("b", b"1"), ("nobody", b"2")], UnknownRequestError),
        ([("b", b"1"), ("a", b"2")], AlreadyAnsweredError),
        ([("b", b"1"), ("b", b"2")], AlreadyAnsweredError),
    ],
)
async def test_answers_are_taken_all_or_none(
    storage: DurableStorage, answers: list[tuple[str, bytes]], error: type[Exception]
) -> None:
    await Writer(storage).commit(ASK)
    before = await storage.add_answers("run", [("a", b"1")])

    with pytest.raises(error, match="run 'run'"):
        await storage.add_answers("run", answers)

    assert await storage.read_inbox("run") == before


async def test_a_commit_consumes_what_it_has_read(subject: Subject) -> None:
    storage = subject.storage
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


async def test_a_commit_that_read_nothing_consumes_nothing(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.commit(ASK)
    entries = await storage.add_answers("run", [("a", b"1")])
    await writer.commit()

    assert await storage.read_inbox("run") == entries


async def test_restoring_drops_the_answers_and_asks_again(subject: Subject) -> None:
    storage = subject.storage
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


async def test_restoring_to_the_head_drops_the_answers_too(storage: DurableStorage) -> None:
    writer = Writer(storage)
    head = await writer.commit(ASK)
    await storage.add_answers("run", [("a", b"1")])
    await writer.move(head)

    assert await storage.read_inbox("run") == []
    await storage.add_answers("run", [("a", b"2")])


async def test_an_answer_needs_no_epoch_and_disturbs_nobody(subject: Subject) -> None:
    storage = subject.storage
    writer = Writer(storage)
    head = await writer.commit(ASK)
    await storage.append_journal("run", 1, head, [b"1"])
    await storage.add_answers("run", [("a", b"1")])

    await storage.append_journal("run", 1, head, [b"2"])
    assert await storage.read_journal("run", head) == [b"1", b"2"]
    await writer.commit()
