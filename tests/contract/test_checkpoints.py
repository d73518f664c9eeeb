"""What is saved comes back: parts, order, lineage, listings, deletes, isolation."""

import asyncio
import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps._ids import checkpoint_id
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.record import GRAPH, MESSAGES, OUTPUTS, Changes, CheckpointInfo, PartKey
from supersteps.errors import CheckpointEncodeError, CheckpointVersionError, StorageError
from supersteps.storage.base import DurableStorage
from tests.contract.support import (
    REQUEST,
    SUBJECTS,
    Subject,
    Writer,
    by_hand,
    make_subject,
    parts_of,
    plain,
    request,
    shared,
)

EVERYTHING: dict[PartKey, bytes] = {
    MESSAGES: b'[{"data":"hi","source_ids":["a"],"target_ids":["b"]}]',
    ("fan_in", "a,b->c"): b'{"a":[1]}',
    shared("z"): b"1.50",
    shared('a b\n"c"'): '"é \\u00e9 \\n"'.encode(),
    shared(""): b"null",
    ("executor_states", "up", ""): b"null",
    ("executor_states", "up", "count"): b"12345678901234567890123",
    ("executor_states", "down", "count"): b"[]",
    ("scopes", "team", "x"): b"{}",
    request("q"): REQUEST,
    GRAPH: b'{"nodes":[]}',
}

# ---------------------------------------------------------------------------------------------------------- round trips


async def test_a_commit_comes_back_byte_for_byte(subject: Subject) -> None:
    writer = Writer(subject.storage)
    commit = writer.next(
        Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b'"one"', b"2"]}),
        iteration_count=7,
        max_iterations=9,
        steps_since_input=3,
        status="IDLE_WITH_PENDING_REQUESTS",
        metadata={"who": "me", "tags": ["x"]},
    )
    await subject.storage.commit(commit)

    record = await subject.reopened().load_record(commit.header.checkpoint_id)

    assert record is not None
    assert record.header == commit.header
    assert plain(record) == {**EVERYTHING, OUTPUTS: [b'"one"', b"2"]}


async def test_a_checkpoint_has_what_its_ancestors_left_unchanged(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.put(a=b"1", b=b"2", c=b"3")
    second = await writer.commit(Changes(puts={shared("b"): b"20"}, deletes=[shared("a"), shared("never there")]))
    third = await writer.put(a=b"10")

    assert list((await parts_of(storage, second)).items()) == [(shared("b"), b"20"), (shared("c"), b"3")]
    assert list((await parts_of(storage, third)).items()) == [
        (shared("b"), b"20"),
        (shared("c"), b"3"),
        (shared("a"), b"10"),
    ]


async def test_a_list_part_grows_and_each_checkpoint_keeps_its_length(storage: DurableStorage) -> None:
    writer = Writer(storage)
    first = await writer.commit(Changes(appends={OUTPUTS: [b"0", b"1"]}))
    second = await writer.commit(Changes(appends={OUTPUTS: [b"2"]}))
    third = await writer.commit(Changes(deletes=[OUTPUTS], appends={OUTPUTS: [b"3"]}))

    assert plain(await storage.load_record(first)) == {OUTPUTS: [b"0", b"1"]}
    assert plain(await storage.load_record(second)) == {OUTPUTS: [b"0", b"1", b"2"]}
    assert plain(await storage.load_record(third)) == {OUTPUTS: [b"3"]}


async def test_appending_to_an_array_that_was_put_keeps_its_elements(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.put(log=b'[1,{"a":2}]')
    second = await writer.commit(Changes(appends={shared("log"): [b"3"]}))

    assert plain(await storage.load_record(second)) == {shared("log"): [b"1", b'{"a":2}', b"3"]}


NAMES = st.sampled_from(["a", "b", "c d", "é"])
STEP = st.tuples(
    st.dictionaries(NAMES, st.integers()),  # puts
    st.lists(st.integers(), max_size=3),  # appends to the outputs
    st.lists(NAMES, max_size=2),  # deletes
    st.integers(min_value=0, max_value=9),  # the checkpoint to restore before the step, if there is one so far back
)


@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(steps=st.lists(STEP, min_size=1, max_size=8))
async def test_any_history_reads_as_it_was_written(name: str, steps: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        subject = make_subject(name, Path(folder))
        writer = Writer(subject.storage)
        written: list[dict[PartKey, Any]] = []
        now: dict[PartKey, Any] = {}
        for puts, appends, deletes, back in steps:
            if back < len(written):
                await writer.move(checkpoint_id("run", back))
                now = dict(written[back])
            changes = Changes(
                puts={shared(k): str(v).encode() for k, v in puts.items()},
                appends={OUTPUTS: [str(v).encode() for v in appends]} if appends else {},
                deletes=[shared(k) for k in deletes],
            )
            await writer.commit(changes)
            now = {key: value for key, value in now.items() if key not in changes.deletes} | changes.puts
            if appends:
                now[OUTPUTS] = [*now.get(OUTPUTS, []), *changes.appends[OUTPUTS]]
            written.append(now)

        reopened = subject.reopened()
        for number, expected in enumerate(written):
            got = plain(await reopened.load_record(checkpoint_id("run", number)))
            assert got == expected
            assert [k for k in got if k[0] == "shared_state"] == [k for k in expected if k[0] == "shared_state"]
        await subject.aclose()


async def test_content_is_decoded_for_people(storage: DurableStorage) -> None:
    writer = Writer(storage)
    saved = await writer.commit(Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b'"one"']}))

    (listed,) = await storage.list_checkpoints()
    loaded = await storage.load_checkpoint(saved)

    assert listed == loaded
    assert listed.shared_state["z"] == 1.5
    assert listed.executor_states == {"up": {"count": 12345678901234567890123}, "down": {"count": []}}
    assert listed.messages["a"][0]["data"] == "hi"
    assert listed.pending_requests["q"].data == "Sure?"
    assert listed.outputs == ["one"]
    assert listed.info == CheckpointInfo("run", saved, 0, None)


# -------------------------------------------------------------------------------------------------------- saved by hand


async def test_a_checkpoint_saved_by_hand_comes_back_equal(subject: Subject) -> None:
    checkpoint = by_hand(
        "mine",
        shared_state={"when": (1, 2), "set": {3}},
        executor_states={"e": {"k": b"bytes"}, "empty": {}},
        scopes={"s": {"k": float("inf")}},
        messages={"a": [{"data": "hi", "source_id": "a", "source_ids": ["a"], "target_ids": ["b"]}]},
        outputs=["x"],
        metadata={"note": "n"},
        iteration_count=4,
    )

    assert await subject.storage.save_checkpoint(checkpoint) == "mine"

    assert await subject.reopened().load_checkpoint("mine") == checkpoint
    assert await subject.reopened().list_checkpoint_ids() == ["mine"]


async def test_saving_again_under_the_same_id_replaces(storage: DurableStorage) -> None:
    await storage.save_checkpoint(by_hand("mine", shared_state={"n": 1}))
    await storage.save_checkpoint(by_hand("mine", shared_state={"n": 2}))

    (only,) = await storage.list_checkpoints()
    assert only.shared_state == {"n": 2}


async def test_what_was_committed_cannot_be_overwritten_by_hand(subject: Subject) -> None:
    if subject.name == "adapter":
        pytest.skip("a plain storage does with save_checkpoint what it does")
    storage = subject.storage
    saved = await Writer(storage).put(n=b"1")
    checkpoint = await storage.load_checkpoint(saved)
    assert checkpoint is not None

    await storage.save_checkpoint(checkpoint)  # nothing is changed by that
    checkpoint.shared_state["n"] = 2
    with pytest.raises(StorageError, match="another checkpoint 'run-000000'"):
        await storage.save_checkpoint(checkpoint)
    await storage.save_checkpoint(dataclasses.replace(checkpoint, checkpoint_id="copy"))

    assert plain(await storage.load_record(saved)) == {shared("n"): b"1"}
    assert plain(await storage.load_record("copy")) == {MESSAGES: b"[]", shared("n"): b"2"}


async def test_a_checkpoint_saved_by_hand_may_name_any_run(storage: DurableStorage) -> None:
    writer = Writer(storage)
    await writer.put(n=b"1")
    await storage.save_checkpoint(by_hand("other", run_id="unknown", sequence=9))

    assert await storage.list_checkpoint_ids(run_id="unknown") == ["other"]
    assert await storage.list_checkpoint_ids(run_id="run") == ["run-000000"]


@pytest.mark.parametrize("bad", ["", "x" * 300, "tab\there", "nul\0"])
async def test_an_impossible_id_is_refused(subject: Subject, bad: str) -> None:
    if subject.name == "adapter":
        pytest.skip("a plain storage takes the ids it takes")
    with pytest.raises(ValueError, match="checkpoint_id"):
        await subject.storage.save_checkpoint(by_hand(bad))


async def test_what_cannot_make_the_trip_is_refused(subject: Subject) -> None:
    if subject.name == "adapter":
        pytest.skip("a plain storage takes the values it takes")
    with pytest.raises(CheckpointEncodeError, match="shared_state"):
        await subject.storage.save_checkpoint(by_hand("mine", shared_state={"f": object()}))
    with pytest.raises(CheckpointVersionError, match=r"'99\.0'"):
        await subject.storage.save_checkpoint(by_hand("mine", version="99.0"))

    assert await subject.storage.list_checkpoint_ids() == []


# ------------------------------------------------------------------------------------------------------------ isolation


async def test_nothing_outside_can_change_what_is_saved(subject: Subject) -> None:
    if subject.name == "adapter":
        pytest.skip("a plain storage may hand out the very object that it keeps")
    storage = subject.storage
    mine = by_hand("mine", shared_state={"list": [1]}, metadata={"m": [1]})
    await storage.save_checkpoint(mine)
    writer = Writer(storage)
    commit = writer.next(Changes(puts={shared("a"): b"1"}, appends={OUTPUTS: [b"1"]}), metadata={"m": [1]})
    await storage.commit(commit)

    mine.shared_state["list"].append(2)
    mine.metadata["m"].append(2)
    commit.changes.puts.clear()
    commit.changes.appends[OUTPUTS].append(b"2")
    commit.header.metadata["m"].append(2)
    for checkpoint in await storage.list_checkpoints():
        checkpoint.metadata["m"].append(3)
        checkpoint.outputs.append(3)
        checkpoint.shared_state.clear()
    record = await storage.load_record("run-000000")
    assert record is not None
    record.parts.clear()
    record.header.metadata.clear()
    run = await storage.get_run("run")
    assert run is not None
    run.metadata.clear()

    assert await storage.load_checkpoint("mine") == dataclasses.replace(
        mine, shared_state={"list": [1]}, metadata={"m": [1]}
    )
    assert plain(await storage.load_record("run-000000")) == {shared("a"): b"1", OUTPUTS: [b"1"]}
    assert (await storage.load_record("run-000000")).header.metadata == {"m": [1]}  # type: ignore[union-attr]
    assert (await storage.get_run("run")).metadata == {"m": [1]}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------- listings


async def test_an_empty_storage_has_nothing(storage: DurableStorage) -> None:
    assert await storage.list_checkpoints() == []
    assert await storage.list_checkpoint_ids(workflow_id="flow", run_id="run") == []
    assert await storage.load_checkpoint("run-000000") is None
    assert await storage.load_record("run-000000") is None
    assert await storage.list_lineage("run-000000", 10) == []
    assert await storage.get_run("run") is None
    assert await storage.find_waiting_runs("q") == []
    assert await storage.read_journal("run", "run-000000") == []
    assert await storage.read_inbox("run") == []
    assert not await storage.delete_checkpoint("run-000000")
    assert not await storage.delete_run("run")


async def test_listings_are_in_order_of_time_and_filtered(subject: Subject) -> None:
    storage = subject.storage
    one, two = Writer(storage, "one"), Writer(storage, "two", workflow_id="other")
    await two.commit(timestamp="2025-01-01T00:00:00.000000+00:00")
    await one.commit(timestamp="2025-01-01T00:00:01.000000+00:00")
    await two.commit(timestamp="2025-01-01T00:00:03.000000+00:00")
    await one.commit(timestamp="2025-01-01T00:00:02.000000+00:00")
    await storage.save_checkpoint(by_hand("hand", timestamp="2025-01-01T00:00:01.500000+00:00"))

    for each in (storage, subject.reopened()):
        checkpoints = await each.list_checkpoints()
        ids = [c.checkpoint_id for c in checkpoints]
        assert ids == ["two-000000", "one-000000", "hand", "one-000001", "two-000001"]
        assert ids == await each.list_checkpoint_ids()
        assert checkpoints == sorted(checkpoints, key=lambda c: c.timestamp)
        assert await each.list_checkpoint_ids(workflow_id="other") == ["two-000000", "two-000001"]
        assert await each.list_checkpoint_ids(workflow_id="flow") == ["one-000000", "hand", "one-000001"]
        assert await each.list_checkpoint_ids(workflow_id="flow", run_id="one") == ["one-000000", "one-000001"]
        assert [c.checkpoint_id for c in await each.list_checkpoints(run_id="one")] == ["one-000000", "one-000001"]
        assert await each.list_checkpoint_ids(workflow_id="other", run_id="one") == []
        assert await each.list_checkpoint_ids(workflow_id="", run_id="") == []


async def test_lineage_is_the_chain_of_parents(storage: DurableStorage) -> None:
    writer = Writer(storage)
    ids = [await writer.commit() for _ in range(4)]
    await writer.move(ids[1])
    ids.append(await writer.commit())

    assert await storage.list_lineage(ids[4], 10) == [
        CheckpointInfo("run", ids[0], 0, None),
        CheckpointInfo("run", ids[1], 1, ids[0]),
        CheckpointInfo("run", ids[4], 4, ids[1]),
    ]
    assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 10)] == ids[:4]
    assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 2)] == ids[2:4]
    assert await storage.list_lineage(ids[3], 0) == []


# -------------------------------------------------------------------------------------------------------------- deletes


async def test_a_deleted_checkpoint_is_gone(subject: Subject) -> None:
    storage = subject.storage
    await storage.save_checkpoint(by_hand("mine"))
    writer = Writer(storage)
    first, second, third = [await writer.commit() for _ in range(3)]

    assert await storage.delete_checkpoint("mine")
    assert await storage.delete_checkpoint(second)
    assert not await storage.delete_checkpoint(second)

    assert await subject.reopened().list_checkpoint_ids() == [first, third]
    assert [info.checkpoint_id for info in await storage.list_lineage(third, 10)] == [third]
    await writer.commit()  # the run goes on


async def test_deleting_the_head_makes_the_nearest_ancestor_the_head(subject: Subject) -> None:
    storage = subject.storage
    writer = Writer(storage)
    first, second, third, fourth = [await writer.put(n=str(n).encode()) for n in range(4)]

    assert await storage.delete_checkpoint(third)
    assert await storage.delete_checkpoint(fourth)

    run = await subject.storage.get_run("run")
    assert run is not None
    assert (run.head, run.sequence) == (second, 3)
    await writer.take()
    again = await writer.commit()
    assert again == "run-000004"
    assert plain(await storage.load_record(again)) == {shared("n"): b"1"}
    assert await subject.reopened().list_checkpoint_ids() == [first, second, again]


async def test_deleting_the_last_checkpoint_removes_the_run(subject: Subject) -> None:
    storage = subject.storage
    writer = Writer(storage)
    first, second = [await writer.commit() for _ in range(2)]

    assert await storage.delete_checkpoint(second)
    assert await storage.delete_checkpoint(first)

    for each in (storage, subject.reopened()):
        assert await each.get_run("run") is None
        assert await each.list_checkpoint_ids() == []


async def test_deleting_a_run_takes_all_that_belongs_to_it(subject: Subject) -> None:
    storage = subject.storage
    writer, other = Writer(storage), Writer(storage, "run-000000")
    await writer.commit(Changes(puts={request("q"): REQUEST}))
    await writer.commit()
    kept = await other.commit()
    await storage.add_answers("run", [("q", b"1")])
    await storage.append_journal("run", 1, "run-000001", [b"{}"])

    assert await storage.delete_run("run")

    for each in (storage, subject.reopened()):
        assert await each.get_run("run") is None
        assert await each.list_checkpoint_ids() == [kept]
    assert not await storage.delete_run("run")

    again = Writer(storage)
    await again.commit(Changes(puts={request("q"): REQUEST}))
    assert await storage.read_inbox("run") == []
    assert await storage.read_journal("run", "run-000000") == []


# ----------------------------------------------------------------------------------------------------- use in any place


async def test_closing_is_not_the_end(storage: DurableStorage) -> None:
    writer = Writer(storage)
    async with storage:
        await writer.commit()
    await storage.aclose()

    await writer.commit()
    assert len(await storage.list_checkpoints()) == 2


def test_a_storage_belongs_to_no_event_loop(storage: DurableStorage) -> None:
    writer = Writer(storage)
    for _ in range(3):
        asyncio.run(writer.commit())

    assert asyncio.run(storage.list_checkpoint_ids()) == [checkpoint_id("run", n) for n in range(3)]


async def test_a_loaded_checkpoint_can_be_saved_elsewhere(storage: DurableStorage) -> None:
    writer = Writer(storage)
    saved = await writer.commit(Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b"1"]}), steps_since_input=2)
    checkpoint = await storage.load_checkpoint(saved)
    assert checkpoint is not None

    with TemporaryDirectory() as folder:
        for name in SUBJECTS:
            elsewhere = make_subject(name, Path(folder)).storage
            await elsewhere.save_checkpoint(checkpoint)
            copy = await elsewhere.load_checkpoint(saved)
            assert copy is not None
            assert copy == checkpoint
            assert copy.to_header() == checkpoint.to_header()
            assert isinstance(copy, WorkflowCheckpoint)
            await elsewhere.aclose()
