"""The origins of runs: an input, a checkpoint, a fork, an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.edits import Edits
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.engine.hooks import Holder
from supersteps.engine.levels import Levels
from supersteps.engine.run_store import Beginning
from supersteps.engine.time_travel.fork import edited_parts, status_of
from supersteps.engine.time_travel.migration import Fitted
from supersteps.engine.time_travel.replay import find_replay
from supersteps.engine.time_travel.resume_point import (
    CheckpointReference,
    adopt_checkpoint,
    check_graph,
    find_checkpoint,
    find_run,
    head_of,
)
from supersteps.errors import RunExistsError
from supersteps.ids import check_id, new_run_id
from supersteps.run.handle import StreamingRun
from supersteps.run.setup import RunSetup
from supersteps.run.work import Opened, RunWork
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage
from supersteps.storage.records import RunRecord


class RunOrigin:
    """Base of all origins, whose `open` does the work at the first iteration.

    Attributes:
        run_id: The run's id, empty while it is not known.
        begins_anew: Whether opening the run creates it; then only iterating may open it.
    """

    begins_anew = False

    def __init__(self, setup: RunSetup, run_id: str) -> None:
        self.run_id = run_id
        self._setup = setup

    def note_waiting(self, handle: Holder, request_ids: Sequence[str]) -> None:
        """Record the questions of a run that only waits."""
        assert isinstance(handle, StreamingRun)
        self._setup.registry.note(handle, request_ids)

    def _equip(self, work: RunWork, storage: DurableStorage | None) -> Opened:
        """Set up a run that is about to be started or loaded, and register its handle."""
        if storage is not None:
            assert isinstance(work.handle, StreamingRun)
            self._setup.registry.register(storage, work.handle)
        return self._setup.equip(work, storage)

    async def _load(
        self,
        work: RunWork,
        storage: DurableStorage,
        record: CheckpointRecord,
        run: RunRecord,
        fitted: Fitted | None = None,
    ) -> Opened:
        """Continue a run from one of its checkpoints."""
        work.run_id = run.run_id
        fitted = fitted or self._setup.fit(storage, record)
        opened = self._equip(work, storage)
        await opened.runner.load(record, run, fitted)
        return opened


class _Creation(RunOrigin):
    """Base of the origins of new runs: the run is created once.

    The next attempt finds out whether an interrupted one was committed.
    """

    begins_anew = True

    def __init__(
        self,
        setup: RunSetup,
        storage: DurableStorage | None,
        run_id: str | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> None:
        chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
        super().__init__(setup, chosen)
        self._storage = storage
        self._metadata = dict(metadata or {})
        self._tags = tags
        self._attempt: Opened | None = None

    def _made(self, work: RunWork) -> Opened | None:
        """Return the last attempt if it has created the run, or was interrupted meanwhile."""
        last = self._attempt
        if last is None or last.store is None or not (last.store.is_cut or last.store.head):
            return None
        work.begin_with(last.store)
        return last


class NewRun(_Creation):
    """A new run, with an input; see `Workflow.run`."""

    def __init__(
        self,
        setup: RunSetup,
        storage: DurableStorage | None,
        message: Any,
        *,
        run_id: str | None,
        if_exists: Literal["error", "attach"],
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> None:
        if if_exists not in ("error", "attach"):
            raise ValueError(f'if_exists must be "error" or "attach", not {if_exists!r}')
        super().__init__(setup, storage, run_id, metadata, tags)
        self.begins_anew = if_exists == "error"
        self._message = message

    async def open(self, work: RunWork) -> Opened:
        """Start the run, or load the one that already has its id."""
        opened = self._made(work)
        if opened is not None and not opened.runner.is_beginning:
            return opened
        opened = self._attempt = opened or self._equip(work, self._storage)
        try:
            await opened.runner.begin(self._message, self._metadata, self._tags)
        except RunExistsError:
            if self.begins_anew or self._storage is None:
                raise
            return await self._load(work, self._storage, *await head_of(self._storage, self.run_id))
        return opened


class ResumedRun(RunOrigin):
    """A run that continues from one of its checkpoints; see `Workflow.run_from_checkpoint`."""

    def __init__(
        self,
        setup: RunSetup,
        storage: DurableStorage | None,
        reference: CheckpointReference,
        responses: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(setup, "" if isinstance(reference, str) else reference.run_id)
        self._storage = storage
        self._reference = reference
        self._responses = responses or {}

    async def open(self, work: RunWork) -> Opened:
        """Load the checkpoint; one without a run becomes the first of a new run."""
        storage = self._setup.require(self._storage, "resume from")
        record, run = await find_run(storage, self._reference)
        fitted = self._setup.fit(storage, record)
        if run is None:
            definition = self._setup.definition
            record, run = await adopt_checkpoint(
                storage, fitted.record, definition.workflow_id, definition.graph
            )
            fitted = Fitted(record, warnings=fitted.warnings)
        opened = await self._load(work, storage, record, run, fitted)
        if self._responses:
            await self._answer(work, opened)
        elif record.header.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
            assert opened.store is not None
            await opened.store.become_head()  # it waits for answers, which go to the head
        return opened

    async def _answer(self, work: RunWork, opened: Opened) -> None:
        """Accept answers to waiting questions; keep those to questions in flight."""
        runner = opened.runner
        later = runner.coming_questions() - runner.state.requests.keys()
        work.answer_when_asked({k: v for k, v in self._responses.items() if k in later})
        now = {k: v for k, v in self._responses.items() if k not in later}
        if now:
            await runner.accept(now)


class RunAtHead(RunOrigin):
    """A stored run that continues at its head."""

    def __init__(self, setup: RunSetup, storage: DurableStorage, run_id: str) -> None:
        super().__init__(setup, run_id)
        self._storage = storage

    async def open(self, work: RunWork) -> Opened:
        """Load the head."""
        return await self._load(work, self._storage, *await head_of(self._storage, self.run_id))


class AnsweredRun(RunOrigin):
    """The stored run that waits for these answers; see `Workflow.send_responses_streaming`."""

    def __init__(self, setup: RunSetup, responses: Mapping[str, Any]) -> None:
        super().__init__(setup, "")
        self._responses = responses

    async def open(self, work: RunWork) -> Opened:
        """Find the run, load its head and answer it."""
        workflow_id = self._setup.definition.workflow_id
        storage, work.run_id = await self._setup.registry.find(self._responses, workflow_id)
        opened = await self._load(work, storage, *await head_of(storage, work.run_id))
        await opened.runner.accept(self._responses)
        return opened


class ForkedRun(_Creation):
    """A new run that starts from a checkpoint of any run; see `Workflow.fork`."""

    def __init__(
        self,
        setup: RunSetup,
        storage: DurableStorage | None,
        reference: CheckpointReference,
        changes: Edits | None,
        *,
        run_id: str | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> None:
        super().__init__(setup, storage, run_id, metadata, tags)
        self._reference = reference
        self._changes = changes or {}

    async def open(self, work: RunWork) -> Opened:
        """Create the run, and load its first checkpoint."""
        storage = self._setup.require(self._storage, "fork from")
        opened = self._made(work)
        if opened is None:
            opened = await self._create(work, storage)
        elif opened.store is not None and opened.store.is_cut:
            await opened.store.settle()
        await opened.runner.load(*await head_of(storage, self.run_id))
        return opened

    async def _create(self, work: RunWork, storage: DurableStorage) -> Opened:
        definition = self._setup.definition
        graph = definition.graph
        source = await find_checkpoint(storage, self._reference)
        source = self._setup.fit(storage, source).record
        parts = edited_parts(source, self._changes, Levels(graph), self._setup.codec(storage))
        opened = self._attempt = self._equip(work, storage)
        assert opened.store is not None
        await opened.store.commit(
            Changes.between({}, parts),
            iteration=source.header.iteration_count,
            steps_since_input=source.header.steps_since_input,
            max_iterations=definition.max_iterations,
            status=status_of(parts).value,
            more=False,
            beginning=Beginning(
                graph,
                self._metadata,
                self._tags,
                source.header.run_id or None,
                source.header.checkpoint_id,
            ),
        )
        self._setup.registry.note_forked(key[1] for key in parts if key[0] == REQUESTS)
        return opened


class ReplayedRun(RunOrigin):
    """A lineage that is repeated in memory; see `Workflow.replay`."""

    begins_anew = True

    def __init__(
        self,
        setup: RunSetup,
        storage: DurableStorage | None,
        reference: CheckpointReference,
        to_step: int | None,
    ) -> None:
        super().__init__(setup, "" if isinstance(reference, str) else reference.run_id)
        self._storage = storage
        self._reference = reference
        self._to_step = to_step

    async def open(self, work: RunWork) -> Opened:
        """Read the lineage, and move to its first checkpoint."""
        setup = self._setup
        storage = setup.require(self._storage, "replay from")
        replay = await find_replay(storage, self._reference, self._to_step)
        check_graph(setup.definition.graph, setup.definition.workflow_id, replay.start)
        work.run_id = replay.start.header.run_id
        opened = setup.equip(work, None, codec=setup.codec(storage), replay=replay)
        await opened.runner.load_replay()
        return opened

    def note_waiting(self, handle: Holder, request_ids: Sequence[str]) -> None:
        """Do nothing: the questions were answered in the run."""


class WatchedRun(RunOrigin):
    """A run that another handle drives, and this one only reads."""

    async def open(self, work: RunWork) -> Opened:
        """Never called."""
        raise AssertionError(f"run {work.run_id!r} is only read")

    def note_waiting(self, handle: Holder, request_ids: Sequence[str]) -> None:
        """Do nothing: it is not answered through this handle."""
