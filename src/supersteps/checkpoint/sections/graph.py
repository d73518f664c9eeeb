"""The graph's structure: stored with a run, compared on resume."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256

import msgspec

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.section import Section
from supersteps.checkpoint.stored import as_json, decode_stored
from supersteps.typing.annotations import is_main_file

GRAPH: PartKey = ("graph",)

_NAME = re.compile(r"[^\W\d][\w.<>]*")
_MAIN = "__main__."


class GraphDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A graph's structure as stored beside a checkpoint.

    What a graph does not have is left out of the stored form, so that its fingerprint does not
    change when a later version of the library describes more.

    Attributes:
        start: Id of the start executor.
        executors: Handled types by executor id.
        edges: One line for each edge group.
        responses: Answers by id of the executor that handles them, as "question -> answer".
        sub_workflows: Structures of sub-workflows by the id of their executor.
    """

    start: str
    executors: dict[str, list[str]]
    edges: list[str]
    responses: dict[str, list[str]] = {}  # msgspec creates a new dict for every description
    sub_workflows: dict[str, GraphDescription] = {}

    @property
    def fingerprint(self) -> str:
        """Hash of the description, as 64 hexadecimal digits."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    def differences(self, now: GraphDescription) -> list[str]:
        """Return what has changed since this description, one sentence for each change.

        The classes of a script are the same, whether it runs as `__main__` or is imported.
        """
        found = [f"executor {i!r} was removed" for i in self.executors if i not in now.executors]
        found += [f"executor {i!r} was added" for i in now.executors if i not in self.executors]
        found += [
            f"executor {i!r} handled {', '.join(before)} "
            f"and now handles {', '.join(now.executors[i])}"
            for i, before in self.executors.items()
            if i in now.executors and not _same_types(before, now.executors[i])
        ]
        found += [
            f"executor {i!r} took {_answers(self, i)} and now takes {_answers(now, i)}"
            for i in self.executors
            if i in now.executors
            and not _same_types(self.responses.get(i, []), now.responses.get(i, []))
        ]
        found += [f"edge {edge} was removed" for edge in self.edges if edge not in now.edges]
        found += [f"edge {edge} was added" for edge in now.edges if edge not in self.edges]
        if self.start != now.start:
            found.append(f"the start was {self.start!r} and is now {now.start!r}")
        return [*found, *self._differences_inside(now)]

    def _differences_inside(self, now: GraphDescription) -> list[str]:
        """Return what changed inside sub-workflows, and which ones were added or removed."""
        found = []
        for node_id in self.executors.keys() & now.executors.keys():
            before, after = self.sub_workflows.get(node_id), now.sub_workflows.get(node_id)
            if before is not None and after is not None:
                found += [
                    f"in sub-workflow {node_id!r}: {what}" for what in before.differences(after)
                ]
            elif before is not after:
                found.append(
                    f"executor {node_id!r} {'was' if after is None else 'is now'} a sub-workflow"
                )
        return sorted(found)


def _same_types(before: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether the same types are named, also if a script is `__main__` on one side only.

    A class that one side names in `__main__` has a module on the other: for a stored `__main__`,
    any module, as for the codec; for a present one, the module whose file is the script.
    """
    if before == now:
        return True
    stored, present = _names_in_main(before), _names_in_main(now)
    if not (stored or present):
        return False
    was = sorted(
        _NAME.sub(lambda name: _as_main(name[0], present, is_main_file), kind) for kind in before
    )
    return was == sorted(
        _NAME.sub(lambda name: _as_main(name[0], stored, lambda _module: True), kind)
        for kind in now
    )


def _names_in_main(kinds: Iterable[str]) -> set[str]:
    names = (match[0] for kind in kinds for match in _NAME.finditer(kind))
    return {name.removeprefix(_MAIN) for name in names if name.startswith(_MAIN)}


def _as_main(name: str, in_main: Collection[str], is_wanted: Callable[[str], bool]) -> str:
    for qualname in in_main:
        module = name.removesuffix(f".{qualname}")
        if module != name and is_wanted(module):
            return f"{_MAIN}{qualname}"
    return name


def _answers(description: GraphDescription, executor_id: str) -> str:
    lines = description.responses.get(executor_id)
    return f"the answers {', '.join(lines)}" if lines else "no answers"


def encode_graph(description: GraphDescription) -> bytes:
    """Return a graph's description as its part."""
    return msgspec.json.encode(description)


def read_graph(part: Part | None) -> GraphDescription | None:
    """Return the graph's description that a checkpoint holds, None if it holds none.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    return None if part is None else decode_stored(part, GraphDescription, "the graph")


class _Start(msgspec.Struct):
    start: str | None = None


def read_start(part: Part | None) -> str | None:
    """Return the id of the start executor, None if the stored structure does not have one."""
    try:
        return None if part is None else msgspec.json.decode(as_json(part), type=_Start).start
    except msgspec.ValidationError:  # a structure that another program wrote
        return None


class GraphSection(Section):
    """The structure of the workflow that wrote the checkpoint."""

    name = "graph"
    depth = 0
    title = "Structure of the workflow"
    brief = "graph"
