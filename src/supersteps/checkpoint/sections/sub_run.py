"""Runs of sub-workflows inside the run, with their scopes of state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey, Scope
from supersteps.checkpoint.sections.section import (
    Editing,
    Names,
    PresentGraph,
    Section,
    ValueReader,
)
from supersteps.checkpoint.sections.state import (
    EXECUTORS,
    SUB_WORKFLOWS,
    Keys,
    check_sub_run,
    describe_key,
    encode_scopes,
)
from supersteps.checkpoint.stored import decode_stored
from supersteps.checkpoint.values import Sealer
from supersteps.paths import path_of

SUB_STATE = "sub_state"
SUB_SCOPES = "sub_scopes"

_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class SubRun:
    """A run of a sub-workflow inside the run.

    Attributes:
        workflow_id: The sub-workflow's name.
        node: The executor that stands for it.
        started: The superstep that sent its input.
        steps: Supersteps in which it has moved since its last input.
    """

    workflow_id: str
    node: str
    started: int
    steps: int = 0


class StoredSubWorkflow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of a sub-workflow as it is stored; the fields are those of `SubRun`."""

    workflow_id: str
    node: str
    started: int
    steps: int = 0


@dataclass(frozen=True, slots=True)
class SubWorkflowState:
    """A run of a sub-workflow inside a run.

    The states of its executors are among the run's `executor_states`.

    Attributes:
        workflow_id: The sub-workflow's name.
        node: The executor that stands for it.
        started: The superstep in which it was given its input.
        steps: Supersteps in which it has moved since its last input.
        shared_state: Its shared keys and values.
        scopes: Keys and values of its named scopes.
    """

    workflow_id: str
    node: str
    started: int
    steps: int = 0
    shared_state: dict[str, Any] = field(default_factory=dict)
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)


def owner_of(scope: Scope) -> str:
    """Return the path of the sub-workflow's run that a scope belongs to, empty at the root."""
    if scope[0] == EXECUTORS:
        return path_of(scope[1])
    return scope[1] if scope[0] in (SUB_STATE, SUB_SCOPES) else ""


def encode_sub_run(sub: SubRun | SubWorkflowState) -> bytes:
    """Return the run of a sub-workflow as its part."""
    return _encoder.encode(StoredSubWorkflow(sub.workflow_id, sub.node, sub.started, sub.steps))


def _read(part: Part, what: str) -> StoredSubWorkflow:
    return decode_stored(part, StoredSubWorkflow, what)


class _State(Protocol):
    sub_runs: dict[str, SubRun]


class SubRuns(Section):
    """Runs of sub-workflows, by path."""

    name = SUB_WORKFLOWS
    title = "Sub-workflows"
    brief = "sub-workflows"
    content = "sub_workflows"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        stored = _read(part, f"the sub-workflow's run {key[1]!r}")
        state.sub_runs[key[1]] = SubRun(
            stored.workflow_id, stored.node, stored.started, stored.steps
        )

    def describe(
        self, shown: dict[str, SubWorkflowState], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        stored = _read(part, f"{reader.where}: a sub-workflow's run")
        shown[key[1]] = SubWorkflowState(
            stored.workflow_id, stored.node, stored.started, stored.steps
        )

    def encode(
        self, shown: Mapping[str, SubWorkflowState], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        for path, sub in shown.items():
            yield (SUB_WORKFLOWS, path), encode_sub_run(sub)

    def rename_key(self, key: PartKey, names: Names) -> PartKey:
        return (key[0], names.path(key[1]))

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        stored = _read(part, "a sub-workflow's run")
        return _encoder.encode(msgspec.structs.replace(stored, node=names.address(stored.node)))

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        if not graph.has_sub_workflow(key[1]):
            yield (
                f"sub-workflow {key[1]!r} is running and its node does not exist: keep it, or "
                "rename= it"
            )


class _KeysOfSubRun(Keys):
    """State of a sub-workflow's run; people see it as that run's."""

    content = "sub_workflows"

    def rename_key(self, key: PartKey, names: Names) -> PartKey:
        return (key[0], names.path(key[1]), *key[2:])

    def check_owner(self, editing: Editing, given: Any, owner: str) -> None:
        check_sub_run(editing, given, owner)


class SubState(_KeysOfSubRun):
    """The shared scopes of sub-workflows' runs."""

    name = SUB_STATE
    depth = 2
    title = "State of sub-workflows"
    brief = "sub-state"
    place = "PATH.KEY"

    def describe(
        self, shown: dict[str, SubWorkflowState], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        _section, path, name = key
        if path in shown:
            shown[path].shared_state[name] = reader.read(part, f"sub_state[{path!r}][{name!r}]")

    def encode(
        self, shown: Mapping[str, SubWorkflowState], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        for path, sub in shown.items():
            for name, value in sub.shared_state.items():
                encoded = codec.encode(value, f"sub_state[{path!r}][{name!r}]")
                yield (SUB_STATE, path, name), encoded


class SubScopes(_KeysOfSubRun):
    """The named scopes of sub-workflows' runs."""

    name = SUB_SCOPES
    own_names = 2
    depth = 3
    title = "Named scopes of sub-workflows"
    brief = "sub-scopes"
    place = "PATH.NAME.KEY"

    def describe(
        self, shown: dict[str, SubWorkflowState], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        if key[1] in shown:
            describe_key(shown[key[1]].scopes, key, part, reader)

    def encode(
        self, shown: Mapping[str, SubWorkflowState], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        for path, sub in shown.items():
            yield from encode_scopes((SUB_SCOPES, path), sub.scopes, codec)
