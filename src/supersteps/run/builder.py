"""`WorkflowBuilder`: a graph, and how its runs are saved and limited."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from supersteps._user_functions import check_plain
from supersteps.define.graph import Graph
from supersteps.define.graph_builder import GraphBuilder
from supersteps.errors import UnsavedStateWarning, WorkflowValidationError
from supersteps.ids import check_id

if TYPE_CHECKING:
    from supersteps.engine.backends import Backend
    from supersteps.engine.observer import Observer
    from supersteps.engine.time_travel.migration import Migration
    from supersteps.run.workflow import Workflow
    from supersteps.storage.ports import CheckpointStorage
    from supersteps.storage.retention import RetentionPolicy

DEFAULT_MAX_ITERATIONS = 100
"""Default limit of supersteps after an input from outside."""


class WorkflowBuilder(GraphBuilder):
    """Builds a `Workflow`, call by call; every method except `build` returns the builder.

    Every method that needs an executor accepts an instance, a factory without arguments (such as a
    class), or the name of a registered one. With factories, every run gets its own instances: use
    them if executors keep attributes and runs may overlap.

    Example:
        `WorkflowBuilder().set_start_executor(draft).add_edge(draft, review).build()`
    """

    def __init__(
        self, max_iterations: int = DEFAULT_MAX_ITERATIONS, name: str | None = None
    ) -> None:
        """Create an empty builder.

        Args:
            max_iterations: How many supersteps a run may take after an input from outside, not
                counting its first one.
            name: The workflow's name, by which its runs are found in a storage; by default the
                start executor's id.
        """
        super().__init__()
        self._storage: CheckpointStorage | None = None
        self._types: list[Any] = []
        self._retention: RetentionPolicy | None = None
        self._migration: Migration | None = None
        self._backend: Backend | None = None
        self._observer: Observer | None = None
        self._name = None if name is None else check_id(name, "workflow name")
        self.set_max_iterations(max_iterations)

    def set_max_iterations(self, max_iterations: int) -> Self:
        """Set how many supersteps a run may take after an input from outside.

        The first superstep of a run is not counted. The limit is a guard against endless loops.
        """
        if (
            isinstance(max_iterations, bool)
            or not isinstance(max_iterations, int)
            or max_iterations < 1
        ):
            raise WorkflowValidationError(
                f"max_iterations must be a number of supersteps, at least 1, not {max_iterations!r}"
            )
        self._max_iterations = max_iterations
        return self

    def with_checkpointing(
        self,
        checkpoint_storage: CheckpointStorage,
        *,
        types: Sequence[Any] = (),
        retention: RetentionPolicy | None = None,
    ) -> Self:
        """Save a checkpoint after each superstep.

        Args:
            checkpoint_storage: The storage; any object with the five methods of
                `CheckpointStorage`. Choose `SqliteCheckpointStorage` if in doubt.
            types: Types of values that the handlers' annotations do not reach, such as those in
                the state.
            retention: Which checkpoints to keep while a run continues; by default all. Pruning is
                done from time to time, so a run may temporarily have more.
        """
        if isinstance(checkpoint_storage, type):
            raise TypeError(
                f"with_checkpointing takes a checkpoint storage, but {checkpoint_storage.__name__} "
                f"is a class; write {checkpoint_storage.__name__}(...)"
            )
        missing = [
            name
            for name in _STORAGE_METHODS
            if not callable(getattr(checkpoint_storage, name, None))
        ]
        if missing:
            raise TypeError(
                "with_checkpointing takes a checkpoint storage; "
                f"{type(checkpoint_storage).__name__} has no {', '.join(missing)}"
            )
        if retention is not None:
            # needed only with a policy
            from supersteps.storage.ports import is_managed

            if not is_managed(checkpoint_storage):
                raise TypeError(
                    "retention needs a storage that can prune; "
                    f"{type(checkpoint_storage).__name__} cannot"
                )
        self._storage = checkpoint_storage
        self._retention = retention
        self._types = list(types)
        return self

    def with_migration(
        self,
        *,
        rename: Mapping[str, str] | None = None,
        executor_state: Callable[[str, dict[str, Any]], dict[str, Any] | None] | None = None,
        shared_state: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        message: Callable[[str, Any], Any] | None = None,
        upgrade: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> Self:
        """Resume runs that an earlier graph started, if their content fits the present one.

        Without arguments, this allows every change of the graph after which everything in the run
        still has its place. The functions are called only for checkpoints of another graph, and
        their results are stored with the run's next commit. Values of types that no longer exist
        are passed as `RawValue`.

        Args:
            rename: New ids of executors by their old ones; "node/id" is an executor inside a
                sub-workflow. Rules for several earlier graphs may be combined; each must lead to an
                existing id.
            executor_state: Gets an executor's new id and its keys and values, and returns new ones;
                None drops them.
            shared_state: The same for the shared keys.
            message: Gets the id of the receiver and a message, in flight or of a timer, and returns
                the new message; `DELETE` drops it with a warning.
            upgrade: Functions by the name of a saved type, `module:qualname`: each gets the saved
                data (a dict of the fields) and returns a value. Types that only gained fields with
                defaults need none.
        """
        # Imports the engine, which is needed only here.
        from supersteps.engine.time_travel.migration import Migration

        functions = {"executor_state": executor_state, "shared_state": shared_state}
        functions |= {
            "message": message,
            **{f"upgrade[{key!r}]": f for key, f in (upgrade or {}).items()},
        }
        for name, function in functions.items():
            if function is not None:
                what = f"with_migration({name.partition('[')[0]}=...): {name}"
                check_plain(function, what, "Nothing is awaited while a checkpoint is migrated.")

        self._migration = Migration(
            dict(rename or {}), executor_state, shared_state, message, dict(upgrade or {})
        )
        return self

    def with_backend(self, backend: Backend) -> Self:
        """Use your own backend to call handlers and checkpoint hooks.

        By default they are called in this process: async handlers on the event loop, plain ones in
        threads. Use another backend to limit how many calls run at once, to measure them, or to run
        them in other processes; see `supersteps.backends`. All guarantees remain, because a backend
        only makes calls: their effects are merged and committed here. Calls inside sub-workflows go
        to the backend of the outer workflow.

        Args:
            backend: Any object with the three methods of `supersteps.backends.Backend`; subclass
                `LocalBackend` to extend the default.
        """
        missing = [name for name in _BACKEND_METHODS if not callable(getattr(backend, name, None))]
        if missing or isinstance(backend, type):
            kind = backend if isinstance(backend, type) else type(backend)
            what = f"{kind.__name__} has no {', '.join(missing)}"
            if isinstance(backend, type):
                what = f"{kind.__name__} is a class; write {kind.__name__}(...)"
            raise TypeError(f"with_backend takes a backend; {what}")
        self._backend = backend
        return self

    def with_observer(self, observer: Observer) -> Self:
        """Report what runs do to an observer, for tracing and metrics.

        Args:
            observer: An instance of a subclass of `supersteps.observers.Observer`. Exceptions that
                it raises become warnings and do not affect the run.
        """
        # Imports the engine, which is needed only here.
        from supersteps.engine.observer import Observer

        if not isinstance(observer, Observer):
            raise TypeError(
                f"with_observer takes an instance of a subclass of Observer, not {observer!r:.200}"
            )
        self._observer = observer
        return self

    def build(self) -> Workflow:
        """Check all rules of the graph and return the immutable workflow.

        Raises:
            WorkflowValidationError: A rule is broken; the subclass says which, the message where,
                and what to do.
        """
        # Imports asyncio and the engine, which are needed only to run.
        from supersteps.run.workflow import Workflow

        graph = self._graph()
        if self._storage is not None:
            _warn_of_unsaved_state(graph)
        if self._migration is not None:
            self._migration.check(graph)
        return Workflow(
            graph,
            workflow_id=self._name or graph.start_id,
            max_iterations=self._max_iterations,
            checkpoint_storage=self._storage,
            types=self._types,
            retention=self._retention,
            backend=self._backend,
            migration=self._migration,
            observer=self._observer,
        )


def _warn_of_unsaved_state(graph: Graph) -> None:
    """Warn about dicts in `self.state`, which Agent Framework saves in checkpoints."""
    for node in graph.nodes.values():
        executor = node.executor
        state = vars(executor).get("state")
        if isinstance(state, dict) and not executor.__supersteps__.has_hooks:
            warnings.warn(
                f"executor {executor.id!r} keeps a dict in self.state, which is not saved: "
                "set it with ctx.set_state(...), define snapshot_state() and restore_state(state), "
                "or rename the attribute if it need not be saved",
                UnsavedStateWarning,
                stacklevel=3,
            )


_BACKEND_METHODS = ("invoke", "checkpoint", "restore")
_STORAGE_METHODS = (
    "save_checkpoint",
    "load_checkpoint",
    "list_checkpoint_ids",
    "list_checkpoints",
    "delete_checkpoint",
)
