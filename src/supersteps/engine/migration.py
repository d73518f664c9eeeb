"""Migration: resuming a run that an earlier graph began. Pure: parts in, parts out; nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from supersteps._schema import schema_of
from supersteps._typing import display_name
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.record import (
    EXECUTORS,
    FAN_IN,
    GRAPH,
    INTERCEPTED,
    MESSAGES,
    REQUESTS,
    SHARED,
    SUB_SCOPES,
    SUB_STATE,
    SUB_WORKFLOWS,
    TIMERS,
    Changes,
    CheckpointRecord,
    ListPart,
    Part,
    PartKey,
)
from supersteps.checkpoint.stored import (
    StoredMessage,
    StoredRequest,
    StoredSubWorkflow,
    StoredTimer,
    as_json,
    decode_messages,
)
from supersteps.edges import FanInEdgeGroup
from supersteps.engine.answers import response_type
from supersteps.engine.effects import Effects
from supersteps.engine.encoding import decode_state, encode_graph
from supersteps.engine.forking import DELETE
from supersteps.engine.journal import Recorded
from supersteps.engine.levels import Levels
from supersteps.engine.state import path_of
from supersteps.engine.values import Sealer
from supersteps.errors import CheckpointDecodeError, GraphChangedError, UnanswerableRequestError
from supersteps.executor import Executor
from supersteps.graph import Graph, GraphDescription
from supersteps.requests import RequestResponse
from supersteps.subworkflow import PATH_MARK, WorkflowExecutor


@dataclass(frozen=True)
class Migration:
    """How a run that an earlier graph began is made to fit the present one; see `WorkflowBuilder.with_migration`.

    Attributes:
        rename: New ids of executors by their old ones.
        executor_state: `(new id, keys and values) -> keys and values`, None to drop them.
        shared_state: The same for the shared scope.
        message: `(id of the receiver, message) -> message`, `DELETE` to drop it.
        upgrade: Functions from stored fields to a value, by the name of the stored type.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    executor_state: Callable[[str, dict[str, Any]], dict[str, Any] | None] | None = None
    shared_state: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    message: Callable[[str, Any], Any] | None = None
    upgrade: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A checkpoint that fits the present graph.

    Attributes:
        record: The checkpoint, migrated where need be.
        changes: What the migration changed, for the next commit; None where it fits as it is.
        fingerprint: The present graph's hash, where the migration makes it the run's.
        warnings: A sentence for each message that was dropped.
        names: Old and new names, None where nothing was migrated.
        calls: New keys of planned calls by executor and old key; None for calls that are no more.
    """

    record: CheckpointRecord
    changes: Changes | None = None
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()
    names: Names | None = None
    calls: Mapping[tuple[str, str], str | None] = field(default_factory=dict)

    def translate(self, recorded: Recorded) -> Recorded:
        """Return what a journal says, in the names of the present graph."""
        names = self.names
        if names is None:
            return recorded
        found = Recorded()
        for place, effects in recorded.finished.items():
            if (new := self._place(*place)) is not None:
                found.finished[new] = names.effects(effects, *new)
        found.started.update(new for place in recorded.started if (new := self._place(*place)) is not None)
        for (executor_id, key, number), due in recorded.sleeps.items():
            if (new := self._place(executor_id, key)) is not None:
                found.sleeps[*new, number] = due
        return found

    def _place(self, executor_id: str, key: str) -> tuple[str, str] | None:
        assert self.names is not None
        address = self.names.address(executor_id)
        new = self.calls.get((address, key), key)
        return None if new is None else (address, new)


class Names:
    """New names for old ones, in every form in which executors are named."""

    def __init__(self, rename: Mapping[str, str], before: GraphDescription) -> None:
        self._rename = rename
        self._nested = bool(before.sub_workflows)

    def address(self, address: str) -> str:
        """Return the path of an executor."""
        if not self._nested:
            return self._rename.get(address, address)
        path, mark, name = address.rpartition(PATH_MARK)
        if not mark:
            return self._rename.get(name, name)
        return self.path(path) + mark + self._inner(self._static(path), name)

    def path(self, path: str) -> str:
        """Return the path of a sub-workflow's run."""
        found, static = [], ""
        for segment in path.split(PATH_MARK):
            node, mark, number = segment.rpartition("#")
            found.append(self._inner(static, node) + mark + number)
            static = f"{static}{PATH_MARK}{node}" if static else node
        return PATH_MARK.join(found)

    def _static(self, path: str) -> str:
        return PATH_MARK.join(segment.rpartition("#")[0] for segment in path.split(PATH_MARK))

    def _inner(self, static: str, name: str) -> str:
        full = f"{static}{PATH_MARK}{name}" if static else name
        return self._rename.get(full, full).rpartition(PATH_MARK)[2]

    def fan_in(self, name: str) -> tuple[str, Callable[[str], str]]:
        """Return the name of a fan-in, and what gives its sources their names."""
        path, mark, group = name.rpartition(PATH_MARK) if self._nested else ("", "", name)

        def local(executor_id: str) -> str:
            return self.address(path + mark + executor_id)[len(self.path(path) + mark) if mark else 0 :]

        sources, _, target = group.partition(":")[2].partition("->")
        ids = tuple(local(_unescaped(source)) for source in sources.split("+"))
        renamed = FanInEdgeGroup(ids, (local(_unescaped(target)),)).id
        return (self.path(path) + mark if mark else "") + renamed, local

    def message(self, message: StoredMessage) -> StoredMessage:
        """Return a message."""
        return msgspec.structs.replace(
            message,
            source_ids=tuple(map(self.address, message.source_ids)),
            target_ids=tuple(map(self.address, message.target_ids)),
        )

    def effects(self, effects: Effects, executor_id: str, key: str) -> Effects:
        """Return what a call did, under its new name and key."""
        change = msgspec.structs.replace
        path = path_of(effects.executor_id) if self._nested else ""
        new_path = path_of(executor_id) if self._nested else ""

        def local(target: str | None) -> str | None:
            if target is None:
                return None
            return self.address(path + PATH_MARK + target)[len(new_path) + 1 :] if path else self.address(target)

        return change(
            effects,
            executor_id=executor_id,
            key=key,
            sends=[change(send, target_id=local(send.target_id)) for send in effects.sends],
            writes=[change(write, scope=self.scope(write.scope)) for write in effects.writes],
            asks=[change(ask, source_executor_id=self.address(ask.source_executor_id)) for ask in effects.asks],
            delayed=[
                change(d, target_id=local(d.target_id), source_ids=tuple(map(self.address, d.source_ids)))
                for d in effects.delayed
            ],
        )

    def scope(self, scope: tuple[str, ...]) -> tuple[str, ...]:
        """Return a scope, or the key of a part."""
        if scope[0] == EXECUTORS:
            return (scope[0], self.address(scope[1]), *scope[2:])
        if scope[0] in (SUB_STATE, SUB_SCOPES, SUB_WORKFLOWS):
            return (scope[0], self.path(scope[1]), *scope[2:])
        return (scope[0], self.fan_in(scope[1])[0]) if scope[0] == FAN_IN else scope

    def part(self, key: PartKey, part: Part) -> Part:
        """Return a part with the names inside it changed."""
        encode, decode, change = msgspec.json.encode, msgspec.json.decode, msgspec.structs.replace
        if key == MESSAGES:
            return encode([self.message(message) for message in decode_messages(part)])
        if key[0] == TIMERS:
            timer = decode(as_json(part), type=StoredTimer)
            return encode(change(timer, message=self.message(timer.message)))
        if key[0] in (REQUESTS, INTERCEPTED):
            asked = decode(as_json(part), type=StoredRequest)
            return encode(
                change(
                    asked,
                    source_executor_id=self.address(asked.source_executor_id),
                    request_executor_id=self.address(asked.request_executor_id),
                    node=None if asked.node is None else self.address(asked.node),
                )
            )
        if key[0] == SUB_WORKFLOWS:
            sub = decode(as_json(part), type=StoredSubWorkflow)
            return encode(change(sub, node=self.address(sub.node)))
        if key[0] == FAN_IN:
            local = self.fan_in(key[1])[1]
            return encode({local(s): w for s, w in decode(as_json(part), type=dict[str, list[msgspec.Raw]]).items()})
        return part


def _unescaped(name: str) -> str:
    return name.replace("-%3E", "->").replace("%2B", "+").replace("%25", "%")


def fit(graph: Graph, record: CheckpointRecord, before: GraphDescription, codec: Codec, migration: Migration) -> Fitted:
    """Return a checkpoint as the present graph can go on with it.

    Args:
        graph: The present graph.
        record: The checkpoint; not changed.
        before: The graph that wrote it.
        codec: Decodes and encodes values.
        migration: How to make it fit.

    Raises:
        GraphChangedError: Something in it does not fit; the error lists what.
    """
    migrating = _Migrating(graph, codec, migration, Names(migration.rename, before))
    migrating.rename(record.parts)
    migrating.change_messages()
    migrating.change_state()
    migrating.upgrade()
    migrating.parts[GRAPH] = encode_graph(graph.description)
    misfits = [*migrating.misfits, *_Check(graph, codec, migrating.parts).misfits()]
    if misfits:
        listing = "".join(f"\n  - {misfit}" for misfit in misfits)
        raise GraphChangedError(
            f"checkpoint {record.header.checkpoint_id!r} of run {record.header.run_id!r} cannot be migrated to the "
            f"present graph of workflow {record.header.workflow_id!r}:{listing}\nNothing was changed.",
            misfits,
        )
    changes = _changes_between(record.parts, migrating.parts)
    parts = dict(record.parts)
    changes.apply(parts)
    return Fitted(
        CheckpointRecord(record.header, parts),
        changes,
        graph.fingerprint,
        tuple(migrating.warnings),
        migrating.names,
        migrating.calls,
    )


def _changes_between(before: Mapping[PartKey, Part], now: Mapping[PartKey, Part]) -> Changes:
    changes = Changes(deletes=[key for key in before if key not in now])
    for key, part in now.items():
        if key in before and (before[key] is part or before[key] == part):
            continue
        if isinstance(part, ListPart):
            changes.deletes.append(key)
            changes.appends[key] = list(part)
        else:
            changes.puts[key] = part
    return changes


class _Migrating:
    def __init__(self, graph: Graph, codec: Codec, migration: Migration, names: Names) -> None:
        self.parts: dict[PartKey, Part] = {}
        self.warnings: list[str] = []
        self.misfits: list[str] = []
        self.names = names
        self.calls: dict[tuple[str, str], str | None] = {}
        self._graph = graph
        self._codec = codec
        self._migration = migration

    def rename(self, parts: Mapping[PartKey, Part]) -> None:
        if not self._migration.rename:
            self.parts = dict(parts)
            return
        for key, part in parts.items():
            new = self.names.scope(key)
            if new in self.parts:
                self.misfits.append(f"rename makes one of {' and '.join(map(repr, (key[1], new[1])))}: both keep data")
            self.parts[new] = self.names.part(key, part)

    # -------------------------------------------------------------------------------------- messages

    def change_messages(self) -> None:
        function = self._migration.message
        if function is None:
            return
        counts: dict[str, list[int]] = {}
        kept = []
        for message in decode_messages(self.parts.get(MESSAGES)):
            places = {}
            for target in message.target_ids:
                places[target] = counts.setdefault(target, [0, 0])
            for changed in self._changed(message, "message"):
                kept.append(changed)
                for target in changed.target_ids:
                    before, after = places.pop(target)
                    self.calls[target, str(before)] = str(after)
                    counts[target] = [before + 1, after + 1]
            for target, (before, after) in places.items():
                self.calls[target, str(before)] = None
                counts[target] = [before + 1, after]
        if MESSAGES in self.parts:
            self.parts[MESSAGES] = msgspec.json.encode(kept)
        for key, part in [item for item in self.parts.items() if item[0][0] == TIMERS]:
            timer = msgspec.json.decode(as_json(part), type=StoredTimer)
            forms = list(self._changed(timer.message, "timer"))
            del self.parts[key]
            for number, message in enumerate(forms):
                name = key[1] if not number else f"{key[1]}.{number}"
                self.parts[TIMERS, name] = msgspec.json.encode(msgspec.structs.replace(timer, message=message))

    def _changed(self, message: StoredMessage, what: str) -> Iterator[StoredMessage]:
        """Yield a message as the user's function makes it, once for each form that its receivers get."""
        function = self._migration.message
        assert function is not None
        if message.reply is not None:
            yield message
            return
        forms: dict[bytes, list[str]] = {}
        for target in message.target_ids:
            value = function(target, self._codec.decode(bytes(message.data), f"message to {target!r}", raw=True))
            if value is DELETE:
                self.warnings.append(
                    f"migration dropped a {what} from {', '.join(map(repr, message.source_ids))} to {target!r}"
                )
            else:
                forms.setdefault(self._codec.encode(value, f"migrated message to {target!r}"), []).append(target)
        for data, targets in forms.items():
            yield msgspec.structs.replace(message, data=msgspec.Raw(data), target_ids=tuple(targets))

    # ----------------------------------------------------------------------------------------- state

    def change_state(self) -> None:
        if (shared := self._migration.shared_state) is not None:
            self._change_scope((SHARED,), shared)
        if (own := self._migration.executor_state) is not None:
            for address in dict.fromkeys(key[1] for key in self.parts if key[0] == EXECUTORS):
                self._change_scope((EXECUTORS, address), lambda values, a=address: own(a, values))  # type: ignore[misc]

    def _change_scope(self, scope: PartKey, function: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        before = {key[-1]: part for key, part in self.parts.items() if key[:-1] == scope}
        where = ".".join(scope)
        now = function(
            {n: self._codec.decode(as_json(part), f"{where}.{n}", raw=True) for n, part in before.items() if n}
        )
        if now is None:
            now, before = {}, {name: part for name, part in before.items() if name or self._drop(scope, name)}
        for name in before:
            if name and name not in now:
                del self.parts[*scope, name]
        for name, value in now.items():
            encoded, old = self._codec.encode(value, f"migrated {where}.{name}"), before.get(name)
            if old is None or as_json(old) != encoded:
                grows = isinstance(old, ListPart) and isinstance(value, list)
                self.parts[*scope, name] = ListPart.from_json(encoded) if grows else encoded

    def _drop(self, scope: PartKey, name: str) -> bool:
        del self.parts[*scope, name]
        return False

    # -------------------------------------------------------------------------------------- upgrades

    def upgrade(self) -> None:
        """Write values that hold upgraded types anew, so that the next programs need no such functions."""
        names = [msgspec.json.encode(name) for name in self._migration.upgrade]
        if not names:
            return
        for key, part in self.parts.items():
            if key != GRAPH and any(name in as_json(part) for name in names):
                self.parts[key] = self._upgraded(key, part)

    def _upgraded(self, key: PartKey, part: Part) -> Part:
        # Structured parts hold values at some depth; their own fields are plain JSON, so the codec walks through them.
        def again(data: bytes) -> bytes:
            return self._codec.encode(self._codec.decode(data, ".".join(key), raw=True), ".".join(key))

        return ListPart(map(again, part)) if isinstance(part, ListPart) else again(part)


class _Check:
    """Lists what of a checkpoint's parts does not fit a graph."""

    def __init__(self, graph: Graph, codec: Codec, parts: Mapping[PartKey, Part]) -> None:
        self._graph = graph
        self._codec = codec
        self._parts = parts
        self._levels = Levels(graph)

    def misfits(self) -> list[str]:
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
        node = None if graph is None else graph.nodes.get(address[len(path) + 1 :] if path else address)
        return None if node is None else node.executor

    def _sections(self) -> Iterator[str]:
        for key, part in self._parts.items():
            if key == MESSAGES:
                for message in decode_messages(part):
                    yield from self._message(message, "a message")
            elif key[0] == TIMERS:
                yield from self._message(msgspec.json.decode(as_json(part), type=StoredTimer).message, "a timer")
            elif key[0] == FAN_IN:
                path = path_of(key[1]) if self._graph.nested else ""
                graph = self._graph_at(path)
                if graph is None or (key[1][len(path) + 1 :] if path else key[1]) not in graph.fan_ins:
                    yield f"messages wait in {key[1]!r}, which is not there: keep that fan-in, or rename= its executors"
            elif key[0] == EXECUTORS and self._executor(key[1]) is None:
                yield (
                    f"executor {key[1]!r} keeps state and is not there: rename= it, or let executor_state= return None"
                )
            elif key[0] == SUB_WORKFLOWS and self._graph_at(key[1]) is None:
                yield f"sub-workflow {key[1]!r} is at work and its node is not there: keep it, or rename= it"
            elif key[0] in (REQUESTS, INTERCEPTED):
                asked = msgspec.json.decode(as_json(part), type=StoredRequest)
                for address in dict.fromkeys((asked.source_executor_id, asked.request_executor_id, asked.node)):
                    if address is not None and self._executor(address) is None:
                        yield (
                            f"request {asked.request_id!r} waits and its executor {address!r} is not there: rename= "
                            "it, or keep it until the request is answered"
                        )

    def _message(self, message: StoredMessage, what: str) -> Iterator[str]:
        try:
            value = self._codec.decode(bytes(message.data), what)
            answer = None if message.reply is None else self._codec.decode(bytes(message.reply.answer), what)
        except CheckpointDecodeError as error:
            yield f"{error} (on its way to {', '.join(map(repr, message.target_ids))}): use upgrade= or message="
            return
        for target in message.target_ids:
            executor = self._executor(target)
            if executor is None:
                yield f"{what} is on its way to executor {target!r}, which is not there: rename= it, or use message="
                continue
            if isinstance(executor, WorkflowExecutor):
                takes = False  # what is in flight has a receiver inside; the run of a sub-workflow begins by routing
            elif message.reply is None:
                takes = executor.can_handle(value)
            elif message.reply.direct:
                takes = executor.find_response_handler(value, answer) is not None
            else:
                takes = executor.can_handle(RequestResponse(answer, value, message.reply.request_id))
            if not takes:
                yield (
                    f"{what} of type {display_name(type(value))} is on its way to executor {target!r}, which does not "
                    "handle it: change it by message= or upgrade=, or let message= return DELETE"
                )

    def _questions(self) -> Iterator[str]:
        """Once everything is there: whether askers take the answers; the schemas of those are made anew."""
        state = decode_state(self._parts, Sealer(self._codec, encoding=True))
        for section, requests in ((REQUESTS, state.requests), (INTERCEPTED, state.intercepted)):
            for request_id, request in requests.items():
                try:
                    schema = msgspec.json.encode(schema_of(response_type(self._levels, request)))
                except (UnanswerableRequestError, CheckpointDecodeError) as error:
                    yield f"request {request_id!r} waits and cannot be answered any more: {error}"
                    continue
                stored = msgspec.json.decode(as_json(self._parts[section, request_id]), type=StoredRequest)
                if bytes(stored.response_schema) != schema and isinstance(self._parts, dict):
                    new = msgspec.structs.replace(stored, response_schema=msgspec.Raw(schema))
                    self._parts[section, request_id] = msgspec.json.encode(new)
