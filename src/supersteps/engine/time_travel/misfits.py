"""`Check`: what of a checkpoint's parts a graph cannot go on with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.question import INTERCEPTED, REQUESTS, with_schema
from supersteps.checkpoint.sections.table import section_of
from supersteps.checkpoint.values import Sealer
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.engine.answers import response_type
from supersteps.engine.levels import Levels
from supersteps.engine.parts import decode_state
from supersteps.errors import CheckpointDecodeError, UnanswerableRequestError
from supersteps.paths import PATH_MARK, path_of
from supersteps.typing.schema import schema_of


class Check:
    """Lists what of a checkpoint's parts does not fit a graph; where all fits, makes the schemas of answers anew."""

    def __init__(self, graph: Graph, codec: Codec, parts: dict[PartKey, Part]) -> None:
        self._graph = graph
        self._codec = codec
        self._parts = parts
        self._levels = Levels(graph)

    def misfits(self) -> list[str]:
        """Return a sentence for each part that does not fit."""
        found = list(dict.fromkeys(self._sections()))
        return found or list(dict.fromkeys(self._questions()))

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

    def decode(self, data: msgspec.Raw, what: str) -> Any:
        """Return a value.

        Raises:
            CheckpointDecodeError: Its type is not known here.
        """
        return self._codec.decode(bytes(data), what)

    def _sections(self) -> Iterator[str]:
        for key, part in self._parts.items():
            if (section := section_of(key)) is not None:
                yield from section.misfits(key, part, self)

    def _questions(self) -> Iterator[str]:
        """Once everything is there: whether askers take the answers; the schemas of those are made anew."""
        state = decode_state(self._parts, Sealer(self._codec, encoding=True))
        for section, requests in ((REQUESTS, state.requests), (INTERCEPTED, state.intercepted)):
            for request_id, request in requests.items():
                try:
                    schema = schema_of(response_type(self._levels, request))
                except (UnanswerableRequestError, CheckpointDecodeError) as error:
                    yield f"request {request_id!r} waits and can no longer be answered: {error}"
                    continue
                key = section, request_id
                self._parts[key] = with_schema(self._parts[key], schema)
