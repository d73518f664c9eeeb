"""`Check`: which parts of a checkpoint a graph cannot go on with."""

from __future__ import annotations

from collections.abc import Iterator

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.question import INTERCEPTED, REQUESTS, with_schema
from supersteps.checkpoint.sections.table import section_of
from supersteps.checkpoint.values import Sealer
from supersteps.define.graph import Graph
from supersteps.engine.answers import response_type
from supersteps.engine.levels import Levels
from supersteps.engine.state import State
from supersteps.engine.time_travel.present_graph import PresentGraph
from supersteps.errors import CheckpointDecodeError, UnanswerableRequestError
from supersteps.typing.schema import schema_of


class Check:
    """Lists what does not fit a graph; if everything fits, updates the schemas of answers."""

    def __init__(self, graph: Graph, codec: Codec, parts: dict[PartKey, Part]) -> None:
        self._present = PresentGraph(graph, codec)
        self._codec = codec
        self._parts = parts
        self._levels = Levels(graph)

    def misfits(self) -> list[str]:
        """Return a sentence for each part that does not fit."""
        found = list(dict.fromkeys(self._sections()))
        return found or list(dict.fromkeys(self._questions()))

    def _sections(self) -> Iterator[str]:
        for key, part in self._parts.items():
            if (section := section_of(key)) is not None:
                yield from section.misfits(key, part, self._present)

    def _questions(self) -> Iterator[str]:
        """Yield questions that can no longer be answered; update the schemas of the rest."""
        state = State.load(self._parts, Sealer(self._codec, encoding=True))
        for section, requests in ((REQUESTS, state.requests), (INTERCEPTED, state.intercepted)):
            for request_id, request in requests.items():
                try:
                    schema = schema_of(response_type(self._levels, request))
                except (UnanswerableRequestError, CheckpointDecodeError) as error:
                    yield f"request {request_id!r} waits and can no longer be answered: {error}"
                    continue
                key = section, request_id
                self._parts[key] = with_schema(self._parts[key], schema)
