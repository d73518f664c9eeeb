"""`Section`: what can be done with the parts of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.edits import Path, changed
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.stored import as_json
from supersteps.checkpoint.values import Sealer


class ValueReader:
    """Decodes values for people; those of unknown types come as `RawValue`.

    Attributes:
        where: The checkpoint, for error messages.
    """

    def __init__(self, codec: Codec, where: str) -> None:
        self.where = where
        self._codec = codec

    def read(self, part: Part | msgspec.Raw, at: str) -> Any:
        """Return a value; `at` is its place in the checkpoint, for error messages."""
        data = bytes(part) if isinstance(part, msgspec.Raw) else as_json(part)
        return self._codec.decode(data, f"{self.where}, {at}", raw=True)


class Names(Protocol):
    """The present names of executors and of what is named after them."""

    def address(self, address: str, /) -> str:
        """Return the path of an executor."""

    def path(self, path: str, /) -> str:
        """Return the path of a sub-workflow's run."""

    def fan_in(self, name: str, /) -> tuple[str, Callable[[str], str]]:
        """Return the name of a fan-in, and a function that renames its sources."""


class PresentGraph(Protocol):
    """What a section asks of the graph that is to go on with a checkpoint."""

    def has_executor(self, address: str, /) -> bool:
        """Return whether there is such an executor."""

    def has_fan_in(self, address: str, /) -> bool:
        """Return whether there is such a fan-in."""

    def has_sub_workflow(self, path: str, /) -> bool:
        """Return whether the node exists whose sub-workflow has such a run."""

    def executors_at(self, path: str, /) -> Sequence[str]:
        """Return the executors in a sub-workflow's run, by path; at the root for an empty path."""

    def handles(self, address: str, message: Any, /) -> bool:
        """Return whether an executor, which exists, handles a message."""

    def handled_types(self, address: str, /) -> Sequence[Any]:
        """Return the types of messages that an executor, which exists, handles."""

    def takes_answer(self, address: str, question: Any, answer: Any, /) -> bool:
        """Return whether a `@response_handler` of an executor takes an answer."""

    def decode(self, data: msgspec.Raw, what: str, /) -> Any:
        """Return a value.

        Raises:
            CheckpointDecodeError: Its type is not known here.
        """


class Editing:
    """The parts of a checkpoint while a fork changes them.

    Attributes:
        parts: The parts, in their order.
        graph: The present graph.
        codec: Encodes and decodes values.
        deleted: Indices of messages that were deleted. Paths go on counting them, so they are
            removed at the end.
    """

    def __init__(self, parts: Mapping[PartKey, Part], graph: PresentGraph, codec: Codec) -> None:
        self.parts = dict(parts)
        self.graph = graph
        self.codec = codec
        self.deleted: set[int] = set()

    def inside(self, given: Any, place: str, encoded: bytes, steps: Path, new: Any) -> Any:
        """Return a value with something inside it changed; see `edits.changed`."""
        return changed(given, place, self.codec.decode(encoded, f"{given!r}"), steps, new)


class Section:
    """One kind of part; the methods do nothing for sections to which they do not apply.

    Attributes:
        name: The first element of its part keys.
        depth: How many names follow it in a part key.
        own_names: How many of them, at the end, are names of users and no ids: encryption hides
            them.
        title: What people call it.
        brief: The same in a word, for lists.
        content: The attribute of `WorkflowCheckpoint` that shows it; empty for none.
        is_list: Whether that attribute is a list; otherwise it is a dict.
        place: How the names in a path into it are written; empty if it cannot be edited.
    """

    name: str
    depth: int = 1
    own_names: int = 0
    title: str
    brief: str
    content: str = ""
    is_list: bool = False
    place: str = ""

    def load(self, state: Any, key: PartKey, part: Part, sealer: Sealer) -> None:
        """Put a part into the state of a run; values are decoded when they are read."""

    def describe(self, shown: Any, key: PartKey, part: Part, reader: ValueReader) -> None:
        """Put a part into what people see: the attribute of a `WorkflowCheckpoint`."""

    def encode(self, shown: Any, codec: Codec) -> Iterable[tuple[PartKey, Part]]:
        """Return the parts of what people see, and may have made or changed."""
        return ()

    def rename_key(self, key: PartKey, names: Names) -> PartKey:
        """Return a part's key, or the scope at its beginning, with present names."""
        return key

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        """Return a part with present names inside it."""
        return part

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        """Yield a sentence for each thing in a part that the present graph cannot go on with."""
        yield from ()

    def edit(self, editing: Editing, given: Any, path: Path, new: Any) -> None:
        """Change what a path of a fork names.

        Args:
            editing: The parts to change.
            given: The path as it was given, for error messages.
            path: The path, beginning with the section.
            new: The new value, or `DELETE`.

        Raises:
            ForkError: The path leads nowhere, or the value does not fit.
        """
        raise NotImplementedError(f"section {self.name!r} has a place and no edit()")
