"""Contract: what is saved is what comes back."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.sections.message import MESSAGES
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CheckpointEncodeError, CheckpointVersionError, StorageError
from supersteps.ids import checkpoint_id
from supersteps.states import WorkflowRunState
from supersteps.testing.subject import Subject
from supersteps.testing.writer import (
    EVERYTHING,
    Writer,
    by_hand,
    content_of,
    parts_of,
    plain,
    record_of,
    shared,
)


class RoundTrips(Subject):
    """Parts, values and types come back as saved, on every branch, from both ways of saving."""

    async def test_a_commit_comes_back_byte_for_byte(self) -> None:
        writer = Writer(self.storage)
        commit = writer.next(
            Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b'"one"', b"2"]}),
            iteration_count=7,
            max_iterations=9,
            steps_since_input=3,
            status=WorkflowRunState.IDLE_WITH_PENDING_REQUESTS.value,
            metadata={"who": "me", "tags": ["x"]},
        )
        await self.storage.commit(commit)

        record = await self.reopen().load_record(commit.header.checkpoint_id)

        assert record is not None
        assert record.header == commit.header
        assert plain(record) == {**EVERYTHING, OUTPUTS: [b'"one"', b"2"]}

    async def test_a_checkpoint_has_what_its_ancestors_left_unchanged(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.put(a=b"1", b=b"2", c=b"3")
        second = await writer.commit(
            Changes(puts={shared("b"): b"20"}, deletes=[shared("a"), shared("never there")])
        )
        third = await writer.put(a=b"10")

        assert list((await parts_of(storage, second)).items()) == [
            (shared("b"), b"20"),
            (shared("c"), b"3"),
        ]
        assert list((await parts_of(storage, third)).items()) == [
            (shared("b"), b"20"),
            (shared("c"), b"3"),
            (shared("a"), b"10"),
        ]

    async def test_a_list_part_grows_and_each_checkpoint_keeps_its_length(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first = await writer.commit(Changes(appends={OUTPUTS: [b"0", b"1"]}))
        second = await writer.commit(Changes(appends={OUTPUTS: [b"2"]}))
        third = await writer.commit(Changes(deletes=[OUTPUTS], appends={OUTPUTS: [b"3"]}))

        assert plain(await storage.load_record(first)) == {OUTPUTS: [b"0", b"1"]}
        assert plain(await storage.load_record(second)) == {OUTPUTS: [b"0", b"1", b"2"]}
        assert plain(await storage.load_record(third)) == {OUTPUTS: [b"3"]}

    async def test_appending_to_an_array_that_was_put_keeps_its_elements(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.put(log=b'[1,{"a":2}]')
        second = await writer.commit(Changes(appends={shared("log"): [b"3"]}))

        assert plain(await storage.load_record(second)) == {shared("log"): [b"1", b'{"a":2}', b"3"]}

    async def test_any_history_reads_as_it_was_written(self) -> None:
        chance = random.Random(1)
        for number in range(12):
            self.elsewhere(f"history {number}")
            await self._write_and_read(chance)

    async def _write_and_read(self, chance: random.Random) -> None:
        writer = Writer(self.storage)
        written: list[dict[PartKey, Any]] = []
        for _ in range(chance.randint(1, 8)):
            now: dict[PartKey, Any] = dict(written[-1]) if written else {}
            if written and chance.random() < 0.3:
                back = chance.randrange(len(written))
                await writer.move(checkpoint_id("run", back))
                now = dict(written[back])
            names = ["a", "b", "c d", "é"]
            changes = Changes(
                puts={
                    shared(name): b"%d" % chance.randrange(100)
                    for name in names
                    if chance.random() < 0.4
                },
                appends={OUTPUTS: [b"%d" % n for n in range(chance.randint(1, 3))]}
                if chance.random() < 0.6
                else {},
                deletes=[shared(name) for name in names if chance.random() < 0.2],
            )
            await writer.commit(changes)
            now = {
                key: value for key, value in now.items() if key not in changes.deletes
            } | changes.puts
            if changes.appends:
                now[OUTPUTS] = [*now.get(OUTPUTS, []), *changes.appends[OUTPUTS]]
            written.append(now)
        reopened = self.reopen()
        for number, expected in enumerate(written):
            got = await content_of(reopened, checkpoint_id("run", number))
            assert got == expected
            assert [k for k in got if k[0] == "shared_state"] == [
                k for k in expected if k[0] == "shared_state"
            ]

    async def test_content_is_decoded_for_people(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        saved = await writer.commit(Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b'"one"']}))

        (listed,) = await storage.list_checkpoints()
        loaded = await storage.load_checkpoint(saved)

        assert listed == loaded
        assert listed.shared_state["z"] == 1.5
        assert listed.executor_states == {
            "up": {"count": 12345678901234567890123},
            "down": {"count": []},
        }
        assert listed.messages["a"][0]["data"] == "hi"
        assert listed.pending_requests["q"].data == "Sure?"
        assert listed.outputs == ["one"]
        assert listed.info == CheckpointInfo("run", saved, 0, None)

    async def test_a_checkpoint_saved_by_hand_comes_back_equal(self) -> None:
        checkpoint = by_hand(
            "mine",
            shared_state={"when": (1, 2), "set": {3}},
            executor_states={"e": {"k": b"bytes"}, "empty": {}},
            scopes={"s": {"k": float("inf")}},
            messages={
                "a": [{"data": "hi", "source_id": "a", "source_ids": ["a"], "target_ids": ["b"]}]
            },
            outputs=["x"],
            metadata={"note": "n"},
            iteration_count=4,
        )

        assert await self.storage.save_checkpoint(checkpoint) == "mine"

        assert await self.reopen().load_checkpoint("mine") == checkpoint
        assert await self.reopen().list_checkpoint_ids() == ["mine"]

    async def test_saving_again_under_the_same_id_replaces(self) -> None:
        storage = self.storage
        await storage.save_checkpoint(by_hand("mine", shared_state={"n": 1}))
        await storage.save_checkpoint(by_hand("mine", shared_state={"n": 2}))

        (only,) = await storage.list_checkpoints()
        assert only.shared_state == {"n": 2}

    async def test_what_was_committed_cannot_be_overwritten_by_hand(self) -> None:
        self.needs("protection")
        storage = self.storage
        saved = await Writer(storage).put(n=b"1")
        checkpoint = await storage.load_checkpoint(saved)
        assert checkpoint is not None

        await storage.save_checkpoint(checkpoint)  # this changes nothing
        checkpoint.shared_state["n"] = 2
        with pytest.raises(StorageError, match="run-000000"):
            await storage.save_checkpoint(checkpoint)
        await storage.save_checkpoint(dataclasses.replace(checkpoint, checkpoint_id="copy"))

        assert plain(await storage.load_record(saved)) == {shared("n"): b"1"}
        assert plain(await storage.load_record("copy")) == {MESSAGES: b"[]", shared("n"): b"2"}

    async def test_a_commit_does_not_overwrite_what_was_saved_by_hand(self) -> None:
        self.needs("protection")
        writer = Writer(self.storage)
        await writer.commit()
        await self.storage.save_checkpoint(by_hand("run-000001", shared_state={"mine": 1}))

        with pytest.raises(StorageError, match="run-000001"):
            await writer.commit()

        assert (await record_of(self.storage)).head == "run-000000"
        checkpoint = await self.storage.load_checkpoint("run-000001")
        assert checkpoint is not None
        assert checkpoint.shared_state == {"mine": 1}

    async def test_a_checkpoint_saved_by_hand_may_name_any_run(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.put(n=b"1")
        await storage.save_checkpoint(by_hand("other", run_id="unknown", sequence=9))

        assert await storage.list_checkpoint_ids(run_id="unknown") == ["other"]
        assert await storage.list_checkpoint_ids(run_id="run") == ["run-000000"]

    async def test_an_impossible_id_is_refused(self) -> None:
        self.needs("protection")
        for bad in ("", "x" * 300, "tab\there", "nul\0"):
            with pytest.raises(ValueError, match="checkpoint_id"):
                await self.storage.save_checkpoint(by_hand(bad))
        assert await self.storage.list_checkpoint_ids() == []

    async def test_what_cannot_make_the_trip_is_refused(self) -> None:
        self.needs("protection")
        with pytest.raises(CheckpointEncodeError, match="shared_state"):
            await self.storage.save_checkpoint(by_hand("mine", shared_state={"f": object()}))
        with pytest.raises(CheckpointVersionError, match=r"'99\.0'"):
            await self.storage.save_checkpoint(by_hand("mine", version="99.0"))

        assert await self.storage.list_checkpoint_ids() == []

    async def test_nothing_outside_can_change_what_is_saved(self) -> None:
        self.needs("isolation")
        storage = self.storage
        mine = by_hand("mine", shared_state={"list": [1]}, metadata={"m": [1]})
        await storage.save_checkpoint(mine)
        writer = Writer(storage)
        commit = writer.next(
            Changes(puts={shared("a"): b"1"}, appends={OUTPUTS: [b"1"]}), metadata={"m": [1]}
        )
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
        assert plain(await storage.load_record("run-000000")) == {
            shared("a"): b"1",
            OUTPUTS: [b"1"],
        }
        record = await storage.load_record("run-000000")
        assert record is not None
        assert record.header.metadata == {"m": [1]}
        assert (await storage.get_run("run")).metadata == {"m": [1]}  # type: ignore[union-attr]
