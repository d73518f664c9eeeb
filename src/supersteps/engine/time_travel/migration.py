"""`Migration`: resuming a run that an earlier graph began.

Pure: parts in, parts out; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.edits import DELETE
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.graph import GRAPH, GraphDescription, encode_graph
from supersteps.checkpoint.sections.message import MESSAGES, StoredMessage, read_messages
from supersteps.checkpoint.sections.state import EXECUTORS, SHARED
from supersteps.checkpoint.sections.timer import TIMERS, read_timer, with_message
from supersteps.checkpoint.stored import as_json
from supersteps.define.graph import Graph, Node
from supersteps.engine.journal import Recorded
from supersteps.engine.time_travel.misfits import Check
from supersteps.engine.time_travel.names import Names
from supersteps.errors import GraphChangedError, UnknownExecutorError
from supersteps.paths import PATH_MARK, is_fan_in


@dataclass(frozen=True)
class Migration:
    """How a run that an earlier graph began is made to fit the present one.

    See `WorkflowBuilder.with_migration`.

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

    def check(self, graph: Graph) -> None:
        """Refuse new ids that no executor of a graph has; old ones may be of any earlier graph.

        Raises:
            UnknownExecutorError: No executor has a new id.
        """
        for old, new in self.rename.items():
            if new in graph.nodes or new.rpartition(PATH_MARK)[2] in self._nodes_at(graph, old):
                continue
            raise UnknownExecutorError(
                f"with_migration(rename={{{old!r}: {new!r}}}) gives an executor an id that none "
                f"has: {new!r} is not in this workflow. Use the ids that executors have now; one "
                "that was renamed twice goes straight from its oldest to its present id.",
                new,
            )

    def _nodes_at(self, graph: Graph, old: str) -> Mapping[str, Node]:
        """Return the executors beside one with this old path; none if its sub-workflow is gone."""
        steps = old.split(PATH_MARK)[:-1]
        for depth, step in enumerate(steps, 1):
            path = PATH_MARK.join(steps[:depth])
            inner = graph.nested.get(self.rename.get(path, step).rpartition(PATH_MARK)[2])
            if inner is None:
                return {}
            graph = inner.graph
        return graph.nodes if steps else {}


@dataclass(frozen=True)
class Fitted:
    """A checkpoint that fits the present graph.

    Attributes:
        record: The checkpoint, migrated where need be.
        changes: What the migration changed, for the next commit; None where it fits as it is.
        fingerprint: The present graph's hash, where the migration makes it the run's.
        warnings: A sentence for each message that was dropped.
        names: Old and new names, None where nothing was migrated.
        calls: New keys of planned calls by executor and old key; None for calls that are dropped.
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
        found.started.update(
            new for place in recorded.started if (new := self._place(*place)) is not None
        )
        for (executor_id, key, number), due in recorded.sleeps.items():
            if (new := self._place(executor_id, key)) is not None:
                found.sleeps[*new, number] = due
        return found

    def _place(self, executor_id: str, key: str) -> tuple[str, str] | None:
        assert self.names is not None
        address = self.names.address(executor_id)
        new = self.calls.get((address, key), key)
        return None if new is None else (address, new)


def fit(
    graph: Graph,
    record: CheckpointRecord,
    before: GraphDescription,
    codec: Codec,
    migration: Migration,
) -> Fitted:
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
    misfits = [*migrating.misfits, *Check(graph, codec, migrating.parts).misfits()]
    if misfits:
        listing = "".join(f"\n  - {misfit}" for misfit in misfits)
        raise GraphChangedError(
            f"checkpoint {record.header.checkpoint_id!r} of run {record.header.run_id!r} cannot be "
            f"migrated to the present graph of workflow {record.header.workflow_id!r}:{listing}\n"
            "Nothing was changed.",
            misfits,
        )
    changes = Changes.between(record.parts, migrating.parts)
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
                both = " and ".join(map(repr, (key[1], new[1])))
                self.misfits.append(f"rename makes one of {both}: both keep data")
            self.parts[new] = self.names.part(key, part)

    # ----------------------------------------------------------------------------------- messages

    def change_messages(self) -> None:
        function = self._migration.message
        if function is None:
            return
        counts: dict[str, list[int]] = {}
        kept = []
        for message in read_messages(self.parts.get(MESSAGES)):
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
            timer = read_timer(part)
            forms = list(self._changed(timer.message, "timer"))
            del self.parts[key]
            for number, message in enumerate(forms):
                name = key[1] if not number else f"{key[1]}.{number}"
                self.parts[TIMERS, name] = with_message(timer, message)

    def _changed(self, message: StoredMessage, what: str) -> Iterator[StoredMessage]:
        """Yield a message as the user's function changes it, once for each new form."""
        function = self._migration.message
        assert function is not None
        if message.reply is not None:
            yield message
            return
        forms: dict[bytes, list[str]] = {}
        for target in message.target_ids:
            if is_fan_in(target):  # like what waits there already: as it is
                forms.setdefault(bytes(message.data), []).append(target)
                continue
            value = function(
                target, self._codec.decode(bytes(message.data), f"message to {target!r}", raw=True)
            )
            if value is DELETE:
                senders = ", ".join(map(repr, message.source_ids))
                self.warnings.append(f"migration dropped a {what} from {senders} to {target!r}")
            else:
                forms.setdefault(
                    self._codec.encode(value, f"migrated message to {target!r}"), []
                ).append(target)
        for data, targets in forms.items():
            yield msgspec.structs.replace(
                message, data=msgspec.Raw(data), target_ids=tuple(targets)
            )

    # -------------------------------------------------------------------------------------- state

    def change_state(self) -> None:
        if (shared := self._migration.shared_state) is not None:
            self._change_scope((SHARED,), shared)
        if (own := self._migration.executor_state) is not None:
            for address in dict.fromkeys(key[1] for key in self.parts if key[0] == EXECUTORS):
                self._change_scope((EXECUTORS, address), partial(own, address))

    def _change_scope(
        self, scope: PartKey, function: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> None:
        before = {key[-1]: part for key, part in self.parts.items() if key[:-1] == scope}
        where = ".".join(scope)
        values = {
            name: self._codec.decode(as_json(part), f"{where}.{name}", raw=True)
            for name, part in before.items()
            if name  # the empty name only says that the scope exists
        }
        now = function(values)
        for name in before:
            if now is None or (name and name not in now):
                del self.parts[*scope, name]
        for name, value in (now or {}).items():
            encoded, old = self._codec.encode(value, f"migrated {where}.{name}"), before.get(name)
            if old is None or as_json(old) != encoded:
                grows = isinstance(old, ListPart) and isinstance(value, list)
                self.parts[*scope, name] = ListPart.from_json(encoded) if grows else encoded

    # ----------------------------------------------------------------------------------- upgrades

    def upgrade(self) -> None:
        """Write values of upgraded types again, so that later programs need no such functions."""
        names = [msgspec.json.encode(name) for name in self._migration.upgrade]
        if not names:
            return
        for key, part in self.parts.items():
            if key != GRAPH and any(name in as_json(part) for name in names):
                self.parts[key] = self._upgraded(key, part)

    def _upgraded(self, key: PartKey, part: Part) -> Part:
        # Structured parts hold values at some depth; their own fields are plain JSON, so the codec
        # walks through them.
        def again(data: bytes) -> bytes:
            return self._codec.encode(
                self._codec.decode(data, ".".join(key), raw=True), ".".join(key)
            )

        return ListPart(map(again, part)) if isinstance(part, ListPart) else again(part)
