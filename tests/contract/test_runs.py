"""One writer per run: creation, compare-and-swap, fencing, leases, heads and branches."""

import subprocess
import sys

import pytest
from msgspec.structs import replace

from supersteps.checkpoint.owner import _process_start, mark_advancing, this_process
from supersteps.checkpoint.record import OUTPUTS, Changes
from supersteps.errors import (
    CheckpointNotFoundError,
    RunBusyError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
)
from supersteps.storage.base import DurableStorage
from supersteps.storage.runs import RunRecord
from tests.contract.support import ELSEWHERE, LEASE, REQUEST, Subject, Writer, by_hand, plain, request, shared


async def record_of(storage: DurableStorage, run_id: str = "run") -> RunRecord:
    run = await storage.get_run(run_id)
    assert run is not None
    return run


# --------------------------------------------------------------------------------------------- creating and committing


async def test_the_first_commit_creates_the_run(subject: Subject) -> None:
    writer = Writer(subject.storage)
    await writer.commit(
        Changes(puts={request("q"): REQUEST}), metadata={"who": "me"}, tags=("a", "b"), fingerprint="f", status="IDLE"
    )

    run = await record_of(subject.storage)
    assert (run.run_id, run.workflow_id, run.head, run.sequence, run.branch) == ("run", "flow", "run-000000", 0, 0)
    assert (run.epoch, run.status, run.fingerprint, run.requests) == (1, "IDLE", "f", ("q",))
    assert (run.metadata, run.tags) == ({"who": "me"}, ("a", "b"))
    assert run.created_at == run.updated_at == "2025-01-01T00:00:00.000000+00:00"
    assert run.lease is not None
    assert run.lease.owner == writer.owner
    assert run.lease.expires == subject.clock.now + LEASE


async def test_another_process_sees_the_same_run(subject: Subject) -> None:
    subject.needs("head")
    writer = Writer(subject.storage)
    await writer.commit(metadata={"who": "me"}, tags=("a",))
    await writer.commit(Changes(puts={request("q"): REQUEST}))
    await subject.storage.release("run", 1, status="FAILED", error="boom")

    assert await subject.reopened().get_run("run") == await subject.storage.get_run("run")


async def test_a_plain_storage_is_read_into_a_run_by_a_new_process(subject: Subject) -> None:
    writer = Writer(subject.storage)
    await writer.commit(Changes(puts={shared("n"): b"1"}), metadata={"who": "me"})
    await writer.commit(Changes(puts={request("q"): REQUEST}), status="IDLE", metadata={"who": "me"})

    other = subject.reopened()
    run = await record_of(other)

    assert (run.run_id, run.workflow_id, run.head, run.sequence) == ("run", "flow", "run-000001", 1)
    assert (run.status, run.requests, run.metadata) == ("IDLE", ("q",), {"who": "me"})
    assert [r.run_id for r in await other.find_waiting_runs("q")] == ["run"]
    successor = Writer(other)
    await successor.take()
    await successor.commit()
    assert await other.list_checkpoint_ids() == ["run-000000", "run-000001", "run-000002"]
    assert plain(await other.load_record("run-000002"))[shared("n")] == b"1"


async def test_a_run_is_created_once(subject: Subject) -> None:
    await Writer(subject.storage).put(n=b"1")

    for storage in (subject.storage, subject.reopened()):
        with pytest.raises(RunExistsError, match="'run'"):
            await Writer(storage).put(n=b"2")

    assert plain(await subject.storage.load_record("run-000000")) == {shared("n"): b"1"}


async def test_the_same_commit_again_is_a_success(subject: Subject) -> None:
    writer = Writer(subject.storage)
    first = writer.next(Changes(appends={OUTPUTS: [b"1"]}))
    await subject.storage.commit(first)
    await subject.storage.commit(first)
    writer.head, writer.sequence = "run-000000", 0
    second = writer.next(Changes(appends={OUTPUTS: [b"2"]}))
    await subject.storage.commit(second)
    await subject.storage.commit(second)

    assert plain(await subject.reopened().load_record("run-000001")) == {OUTPUTS: [b"1", b"2"]}
    assert (await record_of(subject.storage)).sequence == 1


async def test_a_commit_whose_reply_was_lost_is_recognised_after_a_takeover(storage: DurableStorage) -> None:
    writer = Writer(storage)
    commit = writer.next()
    await storage.commit(commit)
    await Writer(storage).take()

    await storage.commit(commit)

    writer.head, writer.sequence = "run-000000", 0
    with pytest.raises(RunFencedError):
        await writer.commit()


async def test_a_commit_must_follow_the_head(subject: Subject) -> None:
    writer = Writer(subject.storage)
    first = await writer.put(n=b"1")
    twin = Writer(subject.storage)
    twin.head, twin.sequence = first, 0
    await writer.put(n=b"2")

    with pytest.raises(RunFencedError, match="'run-000001'"):
        await twin.put(n=b"3")  # the same number, another content
    with pytest.raises(RunFencedError):
        await subject.storage.commit(writer.next(sequence=1, checkpoint_id="run-000001"))

    assert await subject.storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
    assert plain(await subject.storage.load_record("run-000001")) == {shared("n"): b"2"}
    await writer.put(n=b"4")


async def test_numbers_may_be_left_out(subject: Subject) -> None:
    writer = Writer(subject.storage)
    await writer.put(n=b"1")
    await writer.commit(sequence=5, checkpoint_id="run-000005")
    await writer.commit()

    assert await subject.reopened().list_checkpoint_ids() == ["run-000000", "run-000005", "run-000006"]
    assert (await record_of(subject.storage)).sequence == 6


async def test_a_checkpoint_has_the_id_of_its_run_and_number(storage: DurableStorage) -> None:
    with pytest.raises(ValueError, match="foreign id"):
        await storage.commit(Writer(storage).next(checkpoint_id="mine"))
    assert await storage.list_checkpoint_ids() == []


async def test_a_commit_does_not_overwrite_what_was_saved_by_hand(subject: Subject) -> None:
    if subject.name == "adapter":
        pytest.skip("to a plain storage, all checkpoints are saved by hand")
    writer = Writer(subject.storage)
    await writer.commit()
    await subject.storage.save_checkpoint(by_hand("run-000001", shared_state={"mine": 1}))

    with pytest.raises(RuntimeError, match="another checkpoint 'run-000001'"):
        await writer.commit()

    assert (await record_of(subject.storage)).head == "run-000000"
    checkpoint = await subject.storage.load_checkpoint("run-000001")
    assert checkpoint is not None
    assert checkpoint.shared_state == {"mine": 1}


async def test_requests_open_and_close(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.commit(Changes(puts={request("a"): REQUEST, request("b"): REQUEST}))
    await writer.commit(Changes(puts={request("c"): REQUEST, request("a"): REQUEST}, deletes=[request("b")]))
    assert (await record_of(storage)).requests == ("a", "c")
    assert [run.run_id for run in await storage.find_waiting_runs("c")] == ["run"]
    assert await storage.find_waiting_runs("b") == []

    await writer.commit(Changes(puts={request("a"): REQUEST}, deletes=[request("a")]))
    assert (await record_of(storage)).requests == ("c", "a")


# -------------------------------------------------------------------------------------------------------------- fencing


async def test_whoever_was_fenced_changes_nothing(subject: Subject) -> None:
    storage = subject.storage
    old = Writer(storage)
    await old.commit(Changes(puts={request("q"): REQUEST}))
    await storage.append_journal("run", 1, "run-000000", [b'"old"'])
    new = Writer(storage)
    await new.take()
    before = await record_of(storage)
    assert before.epoch == 2

    for attempt in (
        lambda: old.put(n=b"1"),
        lambda: storage.renew("run", 1, LEASE),
        lambda: storage.release("run", 1, status="FAILED", error="x"),
        lambda: storage.move_head("run", 1, "run-000000"),
        lambda: storage.append_journal("run", 1, "run-000000", [b'"more"']),
        lambda: storage.discard_journal("run", 1),
    ):
        with pytest.raises(RunFencedError, match="its epoch is 2"):
            await attempt()

    assert await storage.get_run("run") == before
    assert await storage.read_journal("run", "run-000000") == [b'"old"']
    assert await storage.list_checkpoint_ids() == ["run-000000"]
    await new.put(n=b"2")


async def test_a_takeover_in_another_process_fences(subject: Subject) -> None:
    subject.needs("fence")
    old = Writer(subject.storage)
    await old.put(n=b"1")
    await old.put(n=b"2")
    new = Writer(subject.reopened())
    await new.take()
    await new.put(n=b"3")

    with pytest.raises(RunFencedError):
        await old.put(n=b"4")
    await old.take()
    await old.put(m=b"5")

    assert plain(await subject.storage.load_record("run-000003")) == {shared("n"): b"3", shared("m"): b"5"}


async def test_a_run_that_is_not_there(storage: DurableStorage) -> None:
    writer = Writer(storage)
    for attempt in (
        lambda: storage.acquire("run", writer.owner, LEASE),
        lambda: storage.renew("run", 1, LEASE),
        lambda: storage.release("run", 1),
        lambda: storage.move_head("run", 1, "x"),
        lambda: storage.append_journal("run", 1, "x", [b"1"]),
        lambda: storage.discard_journal("run", 1),
        lambda: storage.add_answers("run", [("q", b"1")]),
        lambda: storage.commit(writer.next(parent_id="run-000000", sequence=1, checkpoint_id="run-000001")),
    ):
        with pytest.raises(RunNotFoundError, match="'run'"):
            await attempt()
    assert await storage.list_checkpoint_ids() == []


# --------------------------------------------------------------------------------------------------------------- leases


async def test_a_lease_keeps_others_off_until_it_expires(subject: Subject) -> None:
    storage = subject.storage
    await Writer(storage).commit(owner=ELSEWHERE)
    mine = Writer(storage)

    subject.clock.now += LEASE - 1
    with pytest.raises(RunBusyError, match="process 1 on elsewhere"):
        await mine.take()
    await storage.renew("run", 1, LEASE)
    subject.clock.now += LEASE - 1
    with pytest.raises(RunBusyError):
        await mine.take()
    subject.clock.now += 2
    await mine.take()

    run = await record_of(storage)
    assert run.epoch == 2
    assert run.lease is not None
    assert (run.lease.owner, run.lease.expires) == (mine.owner, subject.clock.now + LEASE)


async def test_a_commit_extends_the_lease_or_gives_it_up(subject: Subject) -> None:
    writer = Writer(subject.storage)
    await writer.commit()
    subject.clock.now += 20
    await writer.commit()
    run = await record_of(subject.storage)
    assert run.lease is not None
    assert run.lease.expires == subject.clock.now + LEASE

    await writer.commit(lease_seconds=None)
    assert (await record_of(subject.storage)).lease is None
    await subject.storage.renew("run", 1, LEASE)  # a heartbeat that comes too late
    assert (await record_of(subject.storage)).lease is None


async def test_a_released_run_can_be_taken_at_once(storage: DurableStorage) -> None:
    await Writer(storage).commit(owner=ELSEWHERE)
    await storage.release("run", 1, status="FAILED", error="boom")
    run = await record_of(storage)
    assert (run.lease, run.status, run.error) == (None, "FAILED", "boom")

    writer = Writer(storage)
    await writer.take()
    await writer.commit(status="IDLE")
    run = await record_of(storage)
    assert (run.status, run.error) == ("IDLE", None)


async def test_a_live_process_of_this_machine_keeps_its_run_and_a_dead_one_does_not(storage: DurableStorage) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = _process_start(child.pid)
        assert started is not None
        await Writer(storage).commit(owner=replace(this_process("h"), pid=child.pid, started=started))
        writer = Writer(storage)
        with pytest.raises(RunBusyError, match=f"process {child.pid} "):
            await writer.take()
    finally:
        child.communicate(b"\n")
    await writer.take()
    assert writer.epoch == 2


async def test_in_one_process_an_idle_handle_is_superseded_and_a_busy_one_is_not(subject: Subject) -> None:
    writer = Writer(subject.storage)
    await writer.commit()
    mark_advancing(writer.owner.handle, True)
    try:
        subject.clock.now += 10 * LEASE
        with pytest.raises(RunBusyError):
            await Writer(subject.storage).take()
    finally:
        mark_advancing(writer.owner.handle, False)
    await Writer(subject.storage).take()


# --------------------------------------------------------------------------------------------------- heads and branches


async def test_restoring_starts_a_branch_and_the_old_one_stays_readable(subject: Subject) -> None:
    storage = subject.storage
    writer = Writer(storage)
    ids = [
        await writer.commit(Changes(puts={shared("n"): b"%d" % n}, appends={OUTPUTS: [b"%d" % n]})) for n in range(4)
    ]

    run = await storage.move_head("run", 1, ids[1])
    assert (run.head, run.branch, run.sequence) == (ids[1], 1, 3)
    writer.head, writer.branch = run.head, run.branch
    new = await writer.commit(Changes(appends={OUTPUTS: [b"10"]}))

    for each in (storage, subject.reopened()):
        assert new == "run-000004"
        assert plain(await each.load_record(new)) == {shared("n"): b"1", OUTPUTS: [b"0", b"1", b"10"]}
        assert plain(await each.load_record(ids[3])) == {shared("n"): b"3", OUTPUTS: [b"0", b"1", b"2", b"3"]}
        assert [info.checkpoint_id for info in await each.list_lineage(new, 9)] == [ids[0], ids[1], new]
    assert [c.branch for c in await storage.list_checkpoints()] == [0, 0, 0, 0, 1]


async def test_a_moved_head_is_durable(subject: Subject) -> None:
    subject.needs("head")
    writer = Writer(subject.storage)
    first = await writer.commit(Changes(puts={request("q"): REQUEST}), status="IDLE")
    await writer.commit(Changes(deletes=[request("q")]), status="DONE")
    await writer.move(first)

    run = await record_of(subject.reopened())
    assert (run.head, run.branch, run.status, run.requests) == (first, 1, "IDLE", ("q",))


async def test_restoring_to_the_head_itself_keeps_the_branch(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.put(n=b"1")
    head = await writer.put(n=b"2")

    run = await storage.move_head("run", 1, head)

    assert (run.head, run.branch) == (head, 0)
    await writer.put(n=b"3")


async def test_only_a_checkpoint_of_the_run_can_be_restored(storage: DurableStorage) -> None:
    await Writer(storage).commit()
    await Writer(storage, "other").commit()
    await storage.save_checkpoint(by_hand("mine"))

    for wrong in ("nowhere", "other-000000", "mine"):
        with pytest.raises(CheckpointNotFoundError, match=wrong):
            await storage.move_head("run", 1, wrong)
    assert (await record_of(storage)).head == "run-000000"


async def test_a_restored_run_can_come_back(storage: DurableStorage) -> None:
    writer = Writer(storage)
    first, second = [await writer.put(n=n) for n in (b"1", b"2")]
    await writer.move(first)
    await writer.move(second)

    assert (writer.head, writer.branch) == (second, 2)
    assert plain(await storage.load_record(await writer.put(m=b"3"))) == {shared("n"): b"2", shared("m"): b"3"}
