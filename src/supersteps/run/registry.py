"""`RunRegistry`: the handles of a workflow's runs, and who waits."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable
from functools import partial

from supersteps.errors import RequestError, UnknownRequestError
from supersteps.run.handle import StreamingRun
from supersteps.storage.ports import DurableStorage, name_of, when_closed


class RunRegistry:
    """The runs of one workflow that have a handle, and those that wait for answers.

    A run with a storage can be found there, so its handle is referenced weakly; a run without one
    lives only as long as its handle.
    """

    def __init__(self, storage: DurableStorage | None) -> None:
        """Create an empty registry.

        Args:
            storage: The workflow's storage; recorded runs add theirs.
        """
        self._storage = storage
        self._other_storages: dict[int, tuple[DurableStorage, set[str]]] = {}
        self._unstored: dict[str, StreamingRun] = {}
        self._stored: weakref.WeakValueDictionary[str, StreamingRun] = weakref.WeakValueDictionary()
        self._asked: weakref.WeakKeyDictionary[StreamingRun, tuple[str, ...]] = (
            weakref.WeakKeyDictionary()
        )
        self._handles: weakref.WeakValueDictionary[tuple[int, str], StreamingRun] = (
            weakref.WeakValueDictionary()
        )
        self._forked: set[str] = set()

    def note(self, run: StreamingRun, request_ids: Iterable[str]) -> None:
        """Record the requests for which a run waits; none if it has completed."""
        storage = run.storage
        registry = self._unstored if storage is None else self._stored
        asked = tuple(request_ids)
        for request_id in self._asked.pop(run, ()):
            if registry.get(request_id) is run:
                del registry[request_id]
        if asked:
            self._asked[run] = asked
        for request_id in asked:
            registry[request_id] = run
        if storage is not None and storage is not self._storage:
            self._keep(storage, run.run_id, is_waiting=bool(asked))

    def _keep(self, storage: DurableStorage, run_id: str, *, is_waiting: bool) -> None:
        """Keep a storage while one of its runs waits, but not once it was closed."""
        key = id(storage)
        if is_waiting and key not in self._other_storages:
            self._other_storages[key] = storage, set()
            when_closed(storage, partial(_let_go, weakref.ref(self), key))
        kept = self._other_storages.get(key)
        if kept is None:
            return
        (kept[1].add if is_waiting else kept[1].discard)(run_id)
        if not kept[1]:
            del self._other_storages[key]

    def register(self, storage: DurableStorage, run: StreamingRun) -> None:
        """Record the newest handle of a stored run."""
        self._handles[id(storage), run.run_id] = run

    def handle(self, storage: DurableStorage, run_id: str) -> StreamingRun | None:
        """Return the newest handle of a stored run, if it still exists."""
        return self._handles.get((id(storage), run_id))

    def note_forked(self, request_ids: Iterable[str]) -> None:
        """Record that these requests also wait in a fork; the storage knows in how many runs."""
        self._forked.update(request_ids)

    def at_hand(self, request_ids: Iterable[str]) -> StreamingRun | None:
        """Return the handle of the run that waits for these requests.

        None if only a storage may know the run.

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
                f"({', '.join(run.run_id for run in runs.values())}); answer one run at a time. "
                "Nothing was changed."
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

    def let_go(self, key: int) -> None:
        """Drop a storage that was closed, so that it is not opened again."""
        self._other_storages.pop(key, None)

    async def find(
        self, request_ids: Collection[str], workflow_id: str
    ) -> tuple[DurableStorage, str]:
        """Return the stored run that waits for these requests, as its storage and its id.

        Requests for which no run waits are skipped if there are others: the run itself knows their
        outcome.

        Raises:
            UnknownRequestError: No run waits for any of them.
            RequestError: They belong to different runs, or several runs wait for all of them.
        """
        storages = [
            *([] if self._storage is None else [self._storage]),
            *(storage for storage, _runs in self._other_storages.values()),
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
                ["among its own runs", *(name_of(storage) for storage in storages)]
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
                f"these requests belong to different runs ({'; '.join(places)}); answer one run at "
                "a time. Nothing was changed."
            )
        if len(common) > 1:
            asked = ", ".join(map(repr, waiting))
            raise RequestError(
                f"request {asked} waits in several runs "
                f"({', '.join(run_id for _, run_id in common)}); choose one: "
                "run_from_checkpoint(<its head>, responses=...). Nothing was changed."
            )
        return common[0]


def _let_go(reference: weakref.ref[RunRegistry], key: int) -> None:
    waiting = reference()
    if waiting is not None:
        waiting.let_go(key)
