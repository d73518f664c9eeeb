"""`WaitingRuns`: who waits for which request, among the runs of one workflow and in the storages that they live in."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable

from supersteps.errors import RequestError, UnknownRequestError
from supersteps.run import StreamingRun
from supersteps.storage.base import DurableStorage


class WaitingRuns:
    """The runs that wait for answers.

    A run with a storage can be found there again, so its handle is held weakly; one without lives only as long as
    somebody holds it.
    """

    def __init__(self, storage: DurableStorage | None) -> None:
        """Begin empty.

        Args:
            storage: The workflow's own; runs that are noted add theirs.
        """
        self._storage = storage
        self._other_storages: dict[int, DurableStorage] = {}
        self._unstored: dict[str, StreamingRun] = {}
        self._stored: weakref.WeakValueDictionary[str, StreamingRun] = weakref.WeakValueDictionary()
        self._forked: set[str] = set()

    def note(self, run: StreamingRun, request_ids: Iterable[str]) -> None:
        """Learn that a run waits for answers to these requests."""
        registry = self._unstored if run.storage is None else self._stored
        if run.storage is not None and run.storage is not self._storage:
            self._other_storages[id(run.storage)] = run.storage
        for request_id in request_ids:
            registry[request_id] = run

    def note_forked(self, request_ids: Iterable[str]) -> None:
        """Learn that these requests wait in a fork too; only the storage knows in how many runs."""
        self._forked.update(request_ids)

    def at_hand(self, request_ids: Iterable[str]) -> StreamingRun | None:
        """Return the handle of the run that waits for these requests; None where only a storage may know it.

        Raises:
            RequestError: They belong to different runs.
        """
        runs = {
            id(run): run
            for request_id in request_ids
            if (run := self._handle(request_id)) is not None
        }
        if len(runs) > 1:
            raise RequestError(
                "these requests belong to different runs "
                f"({', '.join(run.run_id for run in runs.values())}); answer one run at a time. Nothing was changed."
            )
        return next(iter(runs.values()), None)

    def _handle(self, request_id: str) -> StreamingRun | None:
        if request_id in self._forked:
            return None  # the storage knows in how many runs it waits
        for registry in (self._unstored, self._stored):
            run = registry.get(request_id)
            if run is not None:
                if run.waits_for(request_id):
                    return run
                del registry[request_id]
        return None

    async def find(
        self, request_ids: Collection[str], workflow_id: str
    ) -> tuple[DurableStorage, str]:
        """Return the stored run of a workflow that waits for these requests, as its storage and its id.

        Requests that no run waits for are passed over, if there are others: the run itself knows what became of them.

        Raises:
            UnknownRequestError: No run waits for any of them.
            RequestError: They belong to different runs, or several runs wait for all of them.
        """
        storages = [
            *([] if self._storage is None else [self._storage]),
            *self._other_storages.values(),
        ]
        waiting: dict[str, dict[tuple[int, str], DurableStorage]] = {}
        for request_id in request_ids:
            found = {
                (id(storage), run.run_id): storage
                for storage in storages
                for run in await storage.find_waiting_runs(request_id)
                if run.workflow_id == workflow_id
            }
            if found:
                waiting[request_id] = found
        if not waiting:
            asked = ", ".join(map(repr, request_ids))
            where = " or in its ".join(
                ["among its own runs", *(type(storage).__name__ for storage in storages)]
            )
            raise UnknownRequestError(
                f"no run of workflow {workflow_id!r} waits for request {asked}, {where}. It may be "
                "answered already, or belong to another workflow or storage. Nothing was changed."
            )
        first, *others = waiting.values()
        common = [
            (storage, key[1])
            for key, storage in first.items()
            if all(key in other for other in others)
        ]
        if not common:
            places = [
                f"{asked!r} in {', '.join(key[1] for key in found)}"
                for asked, found in waiting.items()
            ]
            raise RequestError(
                f"these requests belong to different runs ({'; '.join(places)}); answer one run at a time. Nothing was "
                "changed."
            )
        if len(common) > 1:
            asked = ", ".join(map(repr, waiting))
            raise RequestError(
                f"request {asked} waits in several runs ({', '.join(run_id for _, run_id in common)}); choose "
                "one: run_from_checkpoint(<its head>, responses=...). Nothing was changed."
            )
        return common[0]
