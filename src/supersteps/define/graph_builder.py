"""`GraphBuilder`: collects executors and edges for a validated graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

from supersteps._user_functions import check_plain, discard, unusual_form
from supersteps.define.context import MISSING
from supersteps.define.edges import (
    Case,
    Condition,
    Default,
    EdgeGroup,
    ErrorEdgeGroup,
    ExecutorSource,
    FanInEdgeGroup,
    FanOutEdgeGroup,
    SelectionFunction,
    SingleEdgeGroup,
    SwitchCaseEdgeGroup,
    check_switch,
    function_name,
)
from supersteps.define.executor import Executor
from supersteps.define.functions import FunctionExecutor, check_concurrency
from supersteps.define.graph import Graph, Node, Reducer
from supersteps.define.policies import FailurePolicy
from supersteps.define.reserved import check_instance
from supersteps.define.validation import validate
from supersteps.errors import (
    EdgeGroupError,
    ExecutorDuplicationError,
    MissingStartError,
    UnknownExecutorError,
    WorkflowValidationError,
)

_DECIDE = (
    "It is called while messages are routed, where nothing is awaited: let the executor await what "
    "the decision needs and send it as part of the message."
)


class GraphBuilder:
    """Collects the parts of a graph, call by call.

    Every method that needs an executor accepts an instance, a factory without arguments (such as a
    class), or the name of a registered one. With factories, every run gets its own instances.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._factories: dict[int, str] = {}
        self._groups: list[EdgeGroup] = []
        self._start: str | None = None
        self._reducers: dict[str, Reducer] = {}
        self._policies: dict[str, FailurePolicy] = {}
        self._concurrency: dict[str, int] = {}

    # ------------------------------------------------------------------------------------ executors

    def register_executor(self, factory: Callable[[], Executor], name: str) -> Self:
        """Register a factory under a name, for use in edges.

        Args:
            factory: Creates the executor for each run; the executor's id must be the name.
            name: The executor's id.

        Raises:
            ExecutorDuplicationError: The name is already used.
        """
        if name in self._nodes:
            raise ExecutorDuplicationError(
                f"executor id {name!r} is already used; ids are unique in a workflow", name
            )
        made = self._add_factory(factory)
        if made != name:
            raise WorkflowValidationError(
                f"the factory registered as {name!r} creates an executor with id {made!r}; use the "
                "same name for both"
            )
        return self

    def _resolve(self, source: ExecutorSource) -> str:
        """Return the id of an executor given in any form, adding it if it is new."""
        if isinstance(source, str):
            return source  # looked up in build(), so that the order of calls does not matter
        if isinstance(source, Executor):
            check_instance(source)
            known = self._nodes.get(source.id)
            if known is None:
                self._nodes[source.id] = Node(source, None, len(self._nodes))
            elif known.executor is not source:
                raise ExecutorDuplicationError(
                    f"two executors have the id {source.id!r} ({known.executor!r} and {source!r}); "
                    "ids are unique in a workflow. Change one of the ids, or use the same "
                    "instance in both places.",
                    source.id,
                )
            return source.id
        if callable(source):
            return self._factories.get(id(source)) or self._add_factory(source)
        raise TypeError(
            f"expected an executor, got {type(source).__name__}: pass an Executor instance, a "
            "function decorated with @executor, a factory, or the name of a registered one"
        )

    def _add_factory(self, factory: Callable[[], Executor]) -> str:
        try:
            specimen = factory()
        except TypeError as error:
            raise TypeError(
                f"{getattr(factory, '__name__', factory)!r} cannot be called without arguments to "
                f"create an executor: {error}. Pass an instance, or a lambda that fills in the "
                "arguments. A plain function becomes an executor with @executor."
            ) from error
        if not isinstance(specimen, Executor):
            form = unusual_form(factory)
            discard(specimen)
            raise TypeError(
                f"factory {factory!r} returned a {type(specimen).__name__}, not an Executor"
                + (f": it is {form}, but must be a plain function (def)" if form else "")
            )
        check_instance(specimen)
        if specimen.id in self._nodes:
            raise ExecutorDuplicationError(
                f"factory {getattr(factory, '__name__', factory)!r} creates an executor with id "
                f"{specimen.id!r}, which is already used; ids are unique in a workflow",
                specimen.id,
            )
        self._nodes[specimen.id] = Node(specimen, factory, len(self._nodes))
        self._factories[id(factory)] = specimen.id
        return specimen.id

    # ---------------------------------------------------------------------------------------- edges

    def add_edge(
        self, source: ExecutorSource, target: ExecutorSource, condition: Condition | None = None
    ) -> Self:
        """Send messages from one executor to another.

        Args:
            source: The executor that sends the messages.
            target: The executor that gets them; may be the source itself.
            condition: Gets a message and returns whether it may pass; by default every message
                passes. It is called only for messages that the target handles. If it raises, the
                superstep fails.
        """
        ids = self._resolve(source), self._resolve(target)
        if condition is not None:
            what = _named("condition", condition)
            check_plain(condition, f"{what} of edge {ids[0]} -> {ids[1]}", _DECIDE)
        self._groups.append(SingleEdgeGroup(ids[:1], ids[1:], condition))
        return self

    def add_chain(self, executors: Sequence[ExecutorSource]) -> Self:
        """Connect executors in a row, each with the next one."""
        if len(executors) < 2:
            raise EdgeGroupError(f"add_chain needs at least two executors, not {len(executors)}")
        for source, target in pairwise(executors):
            self.add_edge(source, target)
        return self

    def add_fan_out_edges(self, source: ExecutorSource, targets: Sequence[ExecutorSource]) -> Self:
        """Send every message of one executor to several."""
        return self._add_fan_out("add_fan_out_edges", source, targets, None)

    def add_multi_selection_edge_group(
        self,
        source: ExecutorSource,
        targets: Sequence[ExecutorSource],
        selection_func: SelectionFunction,
    ) -> Self:
        """Send each message to those of several executors that a function selects.

        Args:
            source: The executor that sends the messages.
            targets: The executors that may get them.
            selection_func: Gets a message and the list of all target ids, and returns those that
                get the message. It is called only for messages that some of the targets handle.
        """
        return self._add_fan_out("add_multi_selection_edge_group", source, targets, selection_func)

    def _add_fan_out(
        self,
        what: str,
        source: ExecutorSource,
        targets: Sequence[ExecutorSource],
        select: SelectionFunction | None,
    ) -> Self:
        if len(targets) < 2:
            raise EdgeGroupError(
                f"{what} needs at least two targets, not {len(targets)}; use add_edge for one"
            )
        ids = tuple(self._resolve(target) for target in targets)
        source_id = self._resolve(source)
        if select is not None:
            what = _named("selection function", select)
            check_plain(select, f"{what} of {source_id!r}", _DECIDE)
        self._groups.append(FanOutEdgeGroup((source_id,), ids, select))
        return self

    def add_switch_case_edge_group(
        self, source: ExecutorSource, cases: Sequence[Case | Default]
    ) -> Self:
        """Send each message to exactly one executor: the first true case, otherwise the default.

        Args:
            source: The executor that sends the messages.
            cases: `Case(condition, target)` in the order in which they are tried, and one
                `Default(target)`. A case whose target does not handle a message is skipped; a
                condition that raises fails the superstep.
        """
        tried, default = check_switch(cases)
        ids = (*(self._resolve(case.target) for case in tried), self._resolve(default.target))
        source_id = self._resolve(source)
        for case, target in zip(tried, ids, strict=False):
            what = _named("condition", case.condition)
            check_plain(case.condition, f"{what} of the case {source_id} -> {target}", _DECIDE)
        conditions = tuple(case.condition for case in tried)
        self._groups.append(SwitchCaseEdgeGroup((source_id,), ids, conditions))
        return self

    def add_fan_in_edges(self, sources: Sequence[ExecutorSource], target: ExecutorSource) -> Self:
        """Wait for a message from every source and send them to the target as one list.

        The list is in the order of the sources. Only messages that the target handles in a list
        wait; further messages of a source wait for the next list.
        """
        if len(sources) < 2:
            raise EdgeGroupError(
                f"add_fan_in_edges needs at least two sources, not {len(sources)}; use add_edge"
            )
        ids = tuple(self._resolve(source) for source in sources)
        self._groups.append(FanInEdgeGroup(ids, (self._resolve(target),)))
        return self

    def add_error_edge(self, source: ExecutorSource, handler: ExecutorSource) -> Self:
        """Send failures to an executor, instead of failing the superstep.

        A call of the source that has failed for good (after all attempts of its failure policy) is
        sent to the handler as an `ExecutorFailure`.

        Args:
            source: The executor whose failures are sent.
            handler: The executor that gets them; it handles `ExecutorFailure`.
        """
        self._groups.append(ErrorEdgeGroup((self._resolve(source),), (self._resolve(handler),)))
        return self

    def set_start_executor(self, executor: ExecutorSource) -> Self:
        """Set the executor that gets the input."""
        self._start = self._resolve(executor)
        return self

    # ---------------------------------------------------------------------------- how executors run

    def with_failure_policy(self, executor: ExecutorSource, policy: FailurePolicy) -> Self:
        """Set how failed calls of an executor are repeated, and how long calls may take.

        Args:
            executor: The executor.
            policy: Replaces an earlier one; without a policy, an executor is called once, without a
                time limit.

        Raises:
            TypeError: It is not a `FailurePolicy`.
        """
        if not isinstance(policy, FailurePolicy):
            raise TypeError(
                f"with_failure_policy takes a FailurePolicy, not {policy!r}: write "
                "FailurePolicy(max_attempts=3)"
            )
        self._policies[self._resolve(executor)] = policy
        return self

    def with_concurrency(self, executor: ExecutorSource, max_concurrency: int) -> Self:
        """Let an executor handle several messages of a superstep concurrently.

        By default it handles one after the other. Use this for an executor that mostly waits: for a
        service, a model, a disk. Each call is recorded by itself, and their effects are merged in
        the order of the messages.

        Concurrent calls do not see each other's writes: each sees the state at the start of the
        superstep and its own writes. It is a `StateConflictError` if two of them set or delete the
        same key, of the executor's own state or of a shared one without a reducer. So send results
        as messages, append to a shared list, or add a reducer for the key.

        Args:
            executor: The executor; not a sub-workflow, and not one with checkpoint hooks.
            max_concurrency: Maximum number of concurrent calls; overrides
                `@executor(max_concurrency=...)`.

        Raises:
            ValueError: It is not an int of at least 1.
        """
        limit = check_concurrency(max_concurrency)
        self._concurrency[self._resolve(executor)] = limit
        return self

    def with_reducer(
        self, key: str, reducer: Callable[[Any, Any], Any], initial: Any = MISSING
    ) -> Self:
        """Set how updates of a shared key are combined, so that several executors may write it.

        Without a reducer, two executors that write one shared key in one superstep are a
        `StateConflictError`.

        Args:
            key: The shared key.
            reducer: `(value so far, update) -> value`, a pure function; called in the order of the
                graph and the messages.
            initial: The value before the first update; without one, the first update is the value.

        Raises:
            TypeError: It is not a function, or it is an `async def`.
        """
        check_plain(
            reducer,
            f"the reducer of shared key {key!r}",
            "It is called while a superstep is merged, where nothing is awaited: let the executors "
            "await what it needs and write that as their update.",
        )
        self._reducers[key] = Reducer(reducer, initial)
        return self

    # ---------------------------------------------------------------------------------------- graph

    def _graph(self) -> Graph:
        """Return the graph, once it has passed every check.

        Raises:
            WorkflowValidationError: A rule is broken; the subclass says which, the message where,
                and what to do.
        """
        if self._start is None:
            raise MissingStartError(
                "no start executor is set: call set_start_executor(executor) before build()"
            )
        used = [
            node_id for group in self._groups for node_id in (*group.source_ids, *group.target_ids)
        ]
        for node_id in [self._start, *used, *self._policies, *self._concurrency]:
            if node_id not in self._nodes:
                raise UnknownExecutorError(
                    f"executor {node_id!r} is named as the start, in an edge, by a failure policy "
                    "or by with_concurrency, but was not added; known are "
                    f"{', '.join(map(repr, self._nodes)) or 'none'}. Register it: "
                    f"register_executor(factory, {node_id!r}).",
                    node_id,
                )
        graph = Graph(
            dict(self._nodes),
            tuple(self._groups),
            self._start,
            dict(self._reducers),
            dict(self._policies),
            self._limits(),
        )
        validate(graph)
        return graph

    def _limits(self) -> dict[str, int]:
        """Return the numbers of concurrent calls of executors, if above one."""
        own = {
            node_id: node.executor.max_concurrency
            for node_id, node in self._nodes.items()
            if isinstance(node.executor, FunctionExecutor)
        }
        limits = {**own, **self._concurrency}
        return {node_id: limit for node_id, limit in limits.items() if limit > 1}


def _named(role: str, function: object) -> str:
    """Return a function's role with its name, for error messages."""
    return f"the {role} {function_name(function)!r}" if callable(function) else f"the {role}"
