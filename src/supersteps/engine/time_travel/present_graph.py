"""`PresentGraph`: what sections ask of the graph that is to go on."""

from __future__ import annotations

from typing import Any

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.paths import PATH_MARK, path_of


class PresentGraph:
    """Answers by paths; see the protocol in `checkpoint.sections.section`.

    Args:
        graph: The graph.
        codec: Decodes values.
    """

    def __init__(self, graph: Graph, codec: Codec) -> None:
        self._graph = graph
        self._codec = codec

    def _graph_at(self, path: str) -> Graph | None:
        graph: Graph | None = self._graph
        for segment in path.split(PATH_MARK) if path else ():
            inner = None if graph is None else graph.nested.get(segment.rpartition("#")[0])
            graph = None if inner is None else inner.graph
        return graph

    def _executor(self, address: str) -> Executor | None:
        path = path_of(address) if self._graph.nested else ""
        graph = self._graph_at(path)
        node = (
            None
            if graph is None
            else graph.nodes.get(address[len(path) + 1 :] if path else address)
        )
        return None if node is None else node.executor

    def has_executor(self, address: str) -> bool:
        """Return whether there is such an executor."""
        return self._executor(address) is not None

    def has_fan_in(self, name: str) -> bool:
        """Return whether there is such a fan-in."""
        path = path_of(name) if self._graph.nested else ""
        graph = self._graph_at(path)
        return graph is not None and (name[len(path) + 1 :] if path else name) in graph.fan_ins

    def has_sub_workflow(self, path: str) -> bool:
        """Return whether the node exists whose sub-workflow has such a run."""
        return self._graph_at(path) is not None

    def handles(self, address: str, message: Any) -> bool:
        """Return whether an executor handles a message that is on its way to it.

        What is in flight has its receiver inside a sub-workflow: the node itself receives nothing.
        """
        executor = self._executor(address)
        return (
            executor is not None
            and not isinstance(executor, WorkflowExecutor)
            and executor.can_handle(message)
        )

    def takes_answer(self, address: str, question: Any, answer: Any) -> bool:
        """Return whether a `@response_handler` of an executor takes an answer."""
        executor = self._executor(address)
        return (
            executor is not None
            and not isinstance(executor, WorkflowExecutor)
            and executor.__supersteps__.find_response(question, answer) is not None
        )

    def handled_types(self, address: str) -> list[Any]:
        """Return the types of messages that an executor handles."""
        executor = self._executor(address)
        return [] if executor is None else executor.input_types

    def executors_at(self, path: str) -> list[str]:
        """Return the executors in a sub-workflow's run, by path; at the root for an empty path."""
        graph = self._graph_at(path)
        prefix = path + PATH_MARK if path else ""
        return [] if graph is None else [prefix + node_id for node_id in graph.nodes]

    def decode(self, data: msgspec.Raw, what: str) -> Any:
        """Return a value.

        Raises:
            CheckpointDecodeError: Its type is not known here.
        """
        return self._codec.decode(bytes(data), what)
