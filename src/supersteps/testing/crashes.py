"""Contract: the process dies at any point of any operation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.message import MESSAGES
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage, ManagedStorage, is_managed
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing.subject import Subject
from supersteps.testing.writer import LEASE, REQUEST, Writer, by_hand, content_of, request, shared

MOST_POINTS = 1000
"""Limit of points, after which a step counts as endless."""

Step = Callable[[Writer], Awaitable[object]]

STEPS: Mapping[str, Step] = {
    "commit": lambda w: w.commit(
        Changes(puts={shared("n"): b"9"}, appends={OUTPUTS: [b"2"]}, deletes=[request("q")])
    ),
    "acquire": lambda w: w.storage.acquire("run", w.owner, LEASE),
    "release": lambda w: w.storage.release(
        "run", 1, status=WorkflowRunState.FAILED.value, error="x"
    ),
    "move_head": lambda w: w.storage.move_head("run", 1, "run-000000"),
    "append_journal": lambda w: w.storage.append_journal("run", 1, "run-000003", [b'{"call":3}']),
    "discard_journal": lambda w: w.storage.discard_journal("run", 1),
    "add_answers": lambda w: w.storage.add_answers("run", [("p", b"1")]),
    "create a run": lambda w: Writer(w.storage, "second").put(n=b"1"),
    "save_checkpoint": lambda w: w.storage.save_checkpoint(by_hand("mine", shared_state={"n": 1})),
}
"""Steps that are atomic."""

REMOVALS: Mapping[str, Step] = {
    "delete the head": lambda w: w.storage.delete_checkpoint("run-000003"),
    "delete a middle one": lambda w: w.storage.delete_checkpoint("run-000001"),
    "delete the first": lambda w: w.storage.delete_checkpoint("run-000000"),
    "delete_run": lambda w: w.storage.delete_run("run"),
}
"""Steps that may be half done, but leave a consistent run, and are completed by a retry."""

UPKEEP: Mapping[str, Step] = {
    "prune": lambda w: _managed(w.storage).prune(
        "run", RetentionPolicy(keep_last=1, waiting_too=True)
    ),
    "vacuum": lambda w: _managed(w.storage).vacuum(),
}
"""The same, for storages with management."""


def _managed(storage: DurableStorage) -> ManagedStorage:
    assert is_managed(storage)
    return storage


async def prepare(storage: DurableStorage) -> Writer:
    """Create a run with a list part, open requests, a journal and an answer."""
    writer = Writer(storage)
    await writer.commit(
        Changes(puts={MESSAGES: b"[]", shared("n"): b"0"}, appends={OUTPUTS: [b"0"]})
    )
    await writer.put(n=b"1")
    await writer.put(n=b"2")
    questions = {request("q"): REQUEST, request("p"): REQUEST}
    head = await writer.commit(
        Changes(puts={shared("n"): b"3", **questions}, appends={OUTPUTS: [b"1"]})
    )
    await storage.append_journal("run", 1, head, [b'{"call":1}'])
    await storage.append_journal("run", 1, head, [b'{"call":2}'])
    await storage.add_answers("run", [("q", b'"yes"')])
    return writer


async def snapshot(storage: DurableStorage) -> dict[str, Any]:
    """Return everything that is visible of a storage."""
    runs = [await storage.get_run(run_id) for run_id in ("run", "second")]
    ids = await storage.list_checkpoint_ids()
    return {
        "runs": [
            run and (run.head, run.sequence, run.branch, run.epoch, run.status, run.error)
            for run in runs
        ],
        "checkpoints": {
            checkpoint_id: await content_of(storage, checkpoint_id) for checkpoint_id in ids
        },
        "journal": [await storage.read_journal("run", f"run-00000{n}") for n in range(5)],
        "inbox": [entry.request_id for entry in await storage.read_inbox("run")],
    }


async def go_on(storage: DurableStorage) -> None:
    """Resume or create the runs, as the next process would."""
    for run_id in ("run", "second"):
        if await storage.get_run(run_id) is None:
            await Writer(storage, run_id).put(again=b"1")
        successor = Writer(storage, run_id)
        await successor.take()
        newest = await successor.put(after=b"1")
        assert (await content_of(storage, newest))[shared("after")] == b"1"
        await storage.append_journal(run_id, successor.epoch, newest, [b"1"])
        assert await storage.read_journal(run_id, newest) == [b"1"]


class Crashes(Subject):
    """After a crash, the next process finds the state before or after, and continues."""

    async def test_what_a_method_has_returned_for_is_there_without_closing(self) -> None:
        self.needs("durability", "head", "journal", "inbox")
        for name, step in {**STEPS, **REMOVALS}.items():
            self.elsewhere(name)
            writer = await prepare(self.storage)
            await step(writer)
            assert await snapshot(self.reopen()) == await snapshot(self.storage), name

    def test_a_death_leaves_the_state_before_or_after(self) -> None:
        self.needs("crash points", "durability")
        for name, step in STEPS.items():
            self.elsewhere(f"{name} undisturbed")
            writer = asyncio.run(prepare(self.storage))
            allowed = [asyncio.run(snapshot(self.storage))]
            asyncio.run(_run(step, writer))
            allowed.append(asyncio.run(snapshot(self.storage)))
            for point in range(MOST_POINTS):
                died = self._die(name, step, point)
                found = asyncio.run(snapshot(self.storage))
                assert found in allowed, f"{name}, died at point {point}: {found}"
                asyncio.run(go_on(self.storage))
                if not died:
                    break
            else:
                raise AssertionError(f"{name} does not end")

    def test_a_death_amid_a_removal_leaves_a_whole_run(self) -> None:
        self.needs("crash points", "durability")
        steps = dict(REMOVALS) if "management" in self.missing() else {**REMOVALS, **UPKEEP}
        for name, step in steps.items():
            self.elsewhere(f"{name} undisturbed")
            writer = asyncio.run(prepare(self.storage))
            before = asyncio.run(snapshot(self.storage))["checkpoints"]
            asyncio.run(_run(step, writer))
            after = asyncio.run(snapshot(self.storage))["checkpoints"]
            for point in range(MOST_POINTS):
                died = self._die(name, step, point)
                found = asyncio.run(self._whole(f"{name}, died at point {point}"))
                assert after.items() <= found.items() <= before.items()
                asyncio.run(_run(step, Writer(self.storage)))
                assert (
                    asyncio.run(self._whole(f"{name}, died at point {point}, then again")) == after
                )
                asyncio.run(go_on(self.storage))
                if not died:
                    break
            else:
                raise AssertionError(f"{name} does not end")

    def _die(self, name: str, step: Step, point: int) -> bool:
        """Crash a new storage at a point of a step, and open it again."""
        self.elsewhere(f"{name} {point}")
        writer = asyncio.run(prepare(self.storage))
        died = self.crash(point, lambda: asyncio.run(_run(step, writer)))
        self.storage = self.reopen()
        return died

    async def _whole(self, when: str) -> dict[str, Any]:
        """Return the checkpoints, after checking that their parents exist."""
        found = await snapshot(self.storage)
        run = await self.storage.get_run("run")
        assert run is None or run.head in found["checkpoints"], when
        for checkpoint_id in found["checkpoints"]:
            record = await self.storage.load_record(checkpoint_id)
            assert record is not None, when
            assert (
                record.header.parent_id is None or record.header.parent_id in found["checkpoints"]
            ), when
        if is_managed(self.storage):
            assert await self.storage.verify() == [], when
        checkpoints: dict[str, Any] = found["checkpoints"]
        return checkpoints


async def _run(step: Step, writer: Writer) -> None:
    await step(writer)
