"""What is known of a run: the states of its checkpoints, by the simulation, and what it has
accepted.
"""

from __future__ import annotations

from typing import Any

from supersteps import ManagedStorage
from supersteps.checkpoint.inbox import read_entry
from tests.reliability.run_graph import content_expected, content_of, ended_in
from tests.reliability.run_model import DEFAULT, Entry, Simulation, State


class Mismatch(Exception):
    """A run is not what it must be."""


class History:
    """A run.

    Args:
        run_id: Its id.
        simulation: What its supersteps do.
        states: What its checkpoints hold, by id, in the order of commits; those that were pruned
            included.
        root: What its first checkpoint must hold.

    Attributes:
        head: Its head.
        inbox: Answers that no superstep has taken.
        root: What its first checkpoint holds.
        is_cancelled: Whether it was ended.
    """

    def __init__(
        self, run_id: str, simulation: Simulation, states: dict[str, State], root: State
    ) -> None:
        self.run_id = run_id
        self.states = states
        self.head = ""
        self.inbox: list[Entry] = []
        self.is_cancelled = False
        self.is_pruned = False
        self._simulation = simulation
        self.root = root
        self._gone: set[str] = set()
        self._parents: dict[str, str | None] = {}

    @property
    def now(self) -> State:
        """What the head holds."""
        return self.states[self.head]

    @property
    def position(self) -> tuple[str, bool, str]:
        """What a handle must know: the head, whether the run was cancelled, its newest commit.

        Another handle may have gone on and come back to the head, on a new branch.
        """
        return self.head, self.is_cancelled, next(reversed(self.states), "")

    @property
    def present(self) -> list[str]:
        """The checkpoints that were not pruned."""
        return [checkpoint_id for checkpoint_id in self.states if checkpoint_id not in self._gone]

    def inbox_at(self, checkpoint_id: str) -> list[Entry]:
        """Return the answers that a run consumes when it continues from a checkpoint."""
        return self.inbox if checkpoint_id == self.head else []

    def move(self, target: str) -> None:
        """Take note that a checkpoint is the head again."""
        self.head, self.inbox, self.is_cancelled = target, [], False

    def move_if_stored(self, stored: Any, target: str) -> None:
        if stored is not None and stored.head == target != self.head:
            self.move(target)

    def cancel(self) -> None:
        self.is_cancelled = True

    def forget(self, gone: list[str]) -> None:
        """Take note that checkpoints were pruned."""
        if self.head in gone:
            raise Mismatch("the head was pruned")
        self._gone.update(gone)
        self.is_pruned = self.is_pruned or bool(gone)

    def lineage(self) -> list[str]:
        """Return the head and its ancestors, oldest first, without those that were pruned."""
        found: list[str] = []
        place: str | None = self.head
        while place is not None:
            if place not in self._gone:
                found.append(place)
            place = self._parents[place]
        return found[::-1]

    async def read(self, storage: ManagedStorage, now: str, base: str | None) -> list[str]:
        """Compare the run with what is stored, and learn of new checkpoints; return their ids.

        Args:
            storage: Where it is.
            now: The time.
            base: The checkpoint from which somebody may have gone on; None if nobody may.
        """
        record = await storage.get_run(self.run_id)
        if record is None:
            if self.states:
                raise Mismatch(f"run {self.run_id} is gone")
            return []
        headers = await storage.list_headers(self.run_id)
        ids = [header.checkpoint_id for header in headers]
        if lost := [checkpoint_id for checkpoint_id in self.present if checkpoint_id not in ids]:
            raise Mismatch(f"{lost} are gone")
        if back := self._gone.intersection(ids):
            raise Mismatch(f"{back} were pruned and are there")
        new = [header for header in headers if header.checkpoint_id not in self.states]
        if new and self.states and base is None:
            raise Mismatch(
                f"{[header.checkpoint_id for header in new]} were committed by somebody who must "
                "not"
            )
        for header in new:
            await self._learn(storage, header.checkpoint_id, header.parent_id, now, base)
        if record.head != self.head:
            if record.head != base:
                raise Mismatch(f"the head is {record.head}, not {self.head}")
            self.move(record.head)
        if (record.status == "CANCELLED") != self.is_cancelled:
            if record.status == "CANCELLED" or base is None:
                raise Mismatch(f"the status is {record.status}")
            self.is_cancelled = False
        await self._read_inbox(storage, now)
        lineage = [info.checkpoint_id for info in await storage.list_lineage(self.head, 999)]
        if lineage != self.lineage():
            raise Mismatch(f"the lineage is {lineage}, not {self.lineage()}")
        return [header.checkpoint_id for header in new]

    async def _learn(
        self,
        storage: ManagedStorage,
        checkpoint_id: str,
        parent: str | None,
        now: str,
        base: str | None,
    ) -> None:
        """Check a new checkpoint against the simulation of its superstep."""
        checkpoint = await storage.load_checkpoint(checkpoint_id)
        assert checkpoint is not None
        if parent is None:
            state = self.root
        else:
            if parent != self.head:
                if parent != base:
                    raise Mismatch(f"{checkpoint_id} follows {parent}, the head is {self.head}")
                self.move(parent)
            before = self.states[parent]
            taken = ended_in(checkpoint)[len(before.ended) :]
            for entry in taken:
                if entry not in self.inbox and not (
                    entry.outcome == "defaulted"
                    and entry.request_id in before.late(now)
                    and entry.value == DEFAULT
                ):
                    raise Mismatch(f"{checkpoint_id} took {entry}, which nobody gave")
            names = [entry.request_id for entry in taken]
            if missed := [entry for entry in self.inbox if entry.request_id not in names]:
                raise Mismatch(f"{checkpoint_id} passed over {missed}")
            self.inbox = []
            state = self._simulation.step(before, taken, now)
        got, expected = content_of(checkpoint), content_expected(state)
        if got != expected:
            parts = [
                f"{key}: {got[key]!r}, not {expected[key]!r}"
                for key in got
                if got[key] != expected[key]
            ]
            raise Mismatch(f"{checkpoint_id} holds {'; '.join(parts)}")
        self.states[checkpoint_id] = state
        self._parents[checkpoint_id] = parent
        self.head = checkpoint_id
        self.is_cancelled = False

    async def _read_inbox(self, storage: ManagedStorage, now: str) -> None:
        """Compare the inbox with what was accepted; defaults may have been put in by somebody who
        then died.
        """
        late = self.now.late(now)
        stored = await storage.read_inbox(self.run_id)
        accepted = {entry.request_id for entry in self.inbox}
        for entry in stored:
            is_default = read_entry(entry.value)[0] == "defaulted"
            if is_default and entry.request_id in late and entry.request_id not in accepted:
                self.inbox.append(Entry(entry.request_id, "defaulted", DEFAULT))
        if [entry.request_id for entry in stored] != [entry.request_id for entry in self.inbox]:
            raise Mismatch(f"the inbox holds {stored}, accepted was {self.inbox}")
