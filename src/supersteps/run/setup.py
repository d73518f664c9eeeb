"""`RunSetup`: the common setup of a workflow's runs."""

from __future__ import annotations

import weakref

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.define.definition import Definition
from supersteps.engine.backends import Backend
from supersteps.engine.observer import Observer
from supersteps.engine.run_store import RunStore
from supersteps.engine.runner import Runner
from supersteps.engine.time_travel.migration import Fitted, Migration
from supersteps.engine.time_travel.replay import Replay
from supersteps.engine.time_travel.resume_point import fitted
from supersteps.errors import CheckpointingDisabledError
from supersteps.run.registry import RunRegistry
from supersteps.run.work import Opened, RunWork
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.retention import RetentionPolicy


class RunSetup:
    """Sets up the runs of one workflow.

    Attributes:
        definition: The workflow.
        storage: The storage of runs, unless a run has another one.
        registry: The handles of runs.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        checkpoint_storage: CheckpointStorage | None,
        retention: RetentionPolicy | None,
        backend: Backend,
        migration: Migration | None,
        observer: Observer | None,
    ) -> None:
        """Nothing is opened here.

        Args:
            definition: The workflow.
            checkpoint_storage: The storage of runs.
            retention: Which checkpoints to keep while a run continues.
            backend: Calls handlers.
            migration: How to go on with runs that an earlier graph began; they are refused when
                None.
            observer: Gets reports of what the runs do.
        """
        self.definition = definition
        self._retention = retention
        self._backend = backend
        self._migration = migration
        self._observer = observer
        # By the id of the user's storage: that storage, or the adapter that keeps it alive.
        self._durables: weakref.WeakValueDictionary[int, DurableStorage] = (
            weakref.WeakValueDictionary()
        )
        self.storage = None if checkpoint_storage is None else self._durable(checkpoint_storage)
        self._codecs: weakref.WeakKeyDictionary[DurableStorage, Codec] = weakref.WeakKeyDictionary()
        self._plain_codec = Codec(definition.types)
        self.registry = RunRegistry(self.storage)

    # ------------------------------------------------------------------------------------- storages

    def storage_for(self, checkpoint_storage: CheckpointStorage | None) -> DurableStorage | None:
        """Return a run's storage: the given one, otherwise the workflow's."""
        return self.storage if checkpoint_storage is None else self._durable(checkpoint_storage)

    def require(self, storage: DurableStorage | None, what_for: str) -> DurableStorage:
        """Return a storage.

        Args:
            storage: The storage of a run, if it has one.
            what_for: What it is needed for, for the error message.

        Raises:
            CheckpointingDisabledError: There is no storage.
        """
        if storage is None:
            raise CheckpointingDisabledError(
                f"workflow {self.definition.workflow_id!r} has no storage to {what_for}: pass "
                "checkpoint_storage=, or build it with_checkpointing(checkpoint_storage=...)"
            )
        return storage

    def _durable(self, checkpoint_storage: CheckpointStorage) -> DurableStorage:
        known = self._durables.get(id(checkpoint_storage))
        if known is not None:
            return known
        # Imported here because only workflows with a storage need it.
        from supersteps.storage.plain.adapter import as_durable

        storage = self._durables[id(checkpoint_storage)] = as_durable(checkpoint_storage)
        storage.codec.add_types(self.definition.types)  # so that what it lists has typed values
        return storage

    def codec(self, storage: DurableStorage | None) -> Codec:
        """Return the codec of a run."""
        if storage is None:
            return self._plain_codec
        codec = self._codecs.get(storage)
        if codec is None:
            codec = self._codecs[storage] = storage.codec.extended(self.definition.types)
            if self._migration is not None:
                codec.add_upgrades(self._migration.upgrade)
        return codec

    # ----------------------------------------------------------------------------------------- runs

    def fit(self, storage: DurableStorage, record: CheckpointRecord) -> Fitted:
        """Return a checkpoint in a form from which the workflow can continue.

        Raises:
            GraphChangedError: It does not fit the workflow.
        """
        definition = self.definition
        return fitted(
            definition.graph,
            definition.workflow_id,
            record,
            self.codec(storage),
            self._migration,
        )

    def equip(
        self,
        work: RunWork,
        storage: DurableStorage | None,
        *,
        codec: Codec | None = None,
        replay: Replay | None = None,
    ) -> Opened:
        """Create a run's executors, runner and access to the storage; nothing is started yet."""
        store, workflow_id = None, self.definition.workflow_id
        if storage is not None:
            store = RunStore(storage, work.run_id, workflow_id, self._retention)
        work.begin_with(store)
        runner = Runner(
            self.definition,
            work.run_id,
            codec=codec or self.codec(storage),
            store=store,
            backend=self._backend,
            stream=work.stream,
            holder=work.handle,
            replay=replay,
            observer=self._observer,
            fit=Fitted if storage is None else lambda record: self.fit(storage, record),
        )
        return Opened(runner, store)
