"""The part of the storage machine that compares what a client sees with the model."""

from __future__ import annotations

import random
from typing import Any

from supersteps import FileCheckpointStorage, ManagedStorage
from supersteps.checkpoint.parts import ListPart
from supersteps.storage.records import InboxEntry
from tests.reliability import drawing
from tests.reliability.model import Model

RUNS = ("r", "r-000001", "é/..")
"""Ids of runs; the second one is that of a checkpoint of the first, too."""


class Mismatch(Exception):
    """The storage is not what the model says."""


class Comparing:
    """A storage and the model of it.

    Attributes:
        model: The model.
    """

    model: Model
    _clients: list[ManagedStorage]

    def _same(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise Mismatch(f"{what} gave {got!r:.700}, not {expected!r:.700}")

    async def _compare(self, client: int, run: int, dice: random.Random) -> None:
        """Compare what the operation may have touched, as both clients see it."""
        await self._compare_run(client, RUNS[run], dice)
        other = dice.randrange(2)
        await self._compare_run(other, dice.choice(RUNS), dice)
        if dice.random() < 0.3:
            await self._compare_listings(other)

    async def _compare_run(self, number: int, run_id: str, dice: random.Random | None) -> None:
        client, run = self._clients[number], self.model.runs.get(run_id)
        self._same(f"get_run {run_id}", run.record if run else None, await client.get_run(run_id))
        self._same(
            f"list_headers {run_id}", run.headers if run else [], await client.list_headers(run_id)
        )
        self._same(
            f"read_inbox {run_id}",
            run.inbox if run else [],
            answers_of(await client.read_inbox(run_id)),
        )
        if run is None:
            return
        head = run.record.head
        self._same(f"read_journal {run_id}", run.journal, await client.read_journal(run_id, head))
        lineage = [run.kept[checkpoint_id].header.info for checkpoint_id in run.lineage(head)]
        self._same(f"list_lineage {run_id}", lineage, await client.list_lineage(head, 99))
        wanted = [*run.kept] if dice is None else {head: None, dice.choice([*run.kept]): None}
        for checkpoint_id in wanted:
            kept, got = run.kept[checkpoint_id], await client.load_record(checkpoint_id)
            if got is None:
                raise Mismatch(f"checkpoint {checkpoint_id} is not there")
            self._same(f"header of {checkpoint_id}", kept.header, got.header)
            parts = {
                key: list(part) if isinstance(part, ListPart) else part
                for key, part in got.parts.items()
            }
            self._same(f"parts of {checkpoint_id}", kept.content, parts)
            self._same(
                f"order of {checkpoint_id}", drawing.order(kept.content), drawing.order(parts)
            )
            if not isinstance(
                client, FileCheckpointStorage
            ):  # its documents have the sections in an order of their own
                self._same(f"order of {checkpoint_id}", [*kept.content], [*parts])

    async def _compare_listings(self, number: int) -> None:
        client = self._clients[number]
        expected = self.model.list_runs(None, None, None, 50, None)
        self._same("list_runs", expected, [run.run_id for run in await client.list_runs()])
        self._same(
            "list_checkpoint_ids",
            self.model.checkpoint_ids(None, None),
            await client.list_checkpoint_ids(),
        )
        for run_id in RUNS:
            expected = self.model.checkpoint_ids("flow", run_id)
            self._same(
                f"list_checkpoint_ids {run_id}",
                expected,
                await client.list_checkpoint_ids("flow", run_id),
            )
        for request_id in drawing.REQUESTS:
            waiting = [
                run_id
                for run_id, run in self.model.runs.items()
                if request_id in run.record.requests
            ]
            found = [run.run_id for run in await client.find_waiting_runs(request_id)]
            self._same(f"find_waiting_runs {request_id}", sorted(waiting), sorted(found))
        self._same("load_record of none", None, await client.load_record("none"))


def answers_of(value: Any) -> Any:
    """Return entries of an inbox without the time at which they came, anything else as it is."""
    if isinstance(value, list) and value and isinstance(value[0], InboxEntry):
        return [(entry.number, entry.request_id, entry.value) for entry in value]
    return value
