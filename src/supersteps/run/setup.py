"""`RunSetup`: what the runs of a workflow have in common."""

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
        storage: Where runs are saved unless a run is given another storage.
        registry: The runs at hand.
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
        """Nothing is opened yet.

        Args:
            definition: The workflow.
            checkpoint_storage: Where runs are saved.
            retention: Which checkpoints to keep while a run goes on.
            backend: Where handlers run.
            migration: How to go on with runs that an earlier graph began; they are refused when
                None.
            observer: Is told what the runs do.
        """
        self.definition = definition
        self._retention = retention
        self._backend = backend
        self._migration = migration
        self._observer = observer
        self._adapters: weakref.WeakValueDictionary[int, DurableStorage] = (
            weakref.WeakValueDictionary()
        )
        self.storage = None if checkpoint_storage is None else self._durable(checkpoint_storage)
        self._codecs: weakref.WeakKeyDictionary[DurableStorage, Codec] = weakref.WeakKeyDictionary()
        self._plain_codec = Codec(definition.types)
        self.registry = RunRegistry(self.storage)

    # ------------------------------------------------------------------------------------- storages

    def storage_for(self, checkpoint_storage: CheckpointStorage | None) -> DurableStorage | None:
        """Return a run's storage: the one that it is given, else the workflow's own."""
        return self.storage if checkpoint_storage is None else self._durable(checkpoint_storage)

    def require(self, storage: DurableStorage | None, what_for: str) -> DurableStorage:
        """Return a storage.

        Args:
            storage: The storage of a run, if it has one.
            what_for: What it is needed for, for the text of the error.

        Raises:
            CheckpointingDisabledError: There is none.
        """
        if storage is None:
            raise CheckpointingDisabledError(
                f"workflow {self.definition.workflow_id!r} has no storage to {what_for}: pass "
                "checkpoint_storage=, or build it with_checkpointing(checkpoint_storage=...)"
            )
        return storage

    def _durable(self, checkpoint_storage: CheckpointStorage) -> DurableStorage:
        # Imported here because only workflows with a storage need it.
        from supersteps.storage.plain.adapter import as_durable

        storage = self._adapters.get(id(checkpoint_storage)) or as_durable(checkpoint_storage)
        if storage is not checkpoint_storage:  # one adapter for each storage, which it keeps alive
            self._adapters[id(checkpoint_storage)] = storage
        storage.codec.add_types(
            self.definition.types
        )  # so that listing its checkpoints gives typed values
        return storage

    def codec(self, storage: DurableStorage | None) -> Codec:
        """Return what encodes and decodes the values of a run."""
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
        """Return a checkpoint as the workflow can go on with it.

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
        """Give a run its executors, a runner and its hold on the storage; nothing is begun yet."""
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
