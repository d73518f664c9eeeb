"""`WorkflowCheckpoint`: the committed state of a run, decoded on access."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Self, cast

import msgspec

from supersteps._notebook import Shown
from supersteps.checkpoint import content
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.diff import CheckpointDiff, diff_parts, document
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import FORMAT_VERSION, CheckpointHeader, CheckpointRecord, utc_now
from supersteps.checkpoint.sections.answered import AnsweredRequest
from supersteps.checkpoint.sections.question import PendingRequest
from supersteps.checkpoint.sections.sub_run import SubWorkflowState
from supersteps.checkpoint.sections.table import SECTION_DEPTHS, SECTIONS
from supersteps.checkpoint.stored import decode_json, elements
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.ids import new_id
from supersteps.states import WorkflowRunState

Compare = Callable[
    [CheckpointHeader, CheckpointHeader], tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]
]
"""Returns the parts of two checkpoints of a storage; common parts are the same object."""

_LAZY = frozenset(content.NAMES)


_NOT_GIVEN: Any = object()


def _not_given() -> Any:
    return _NOT_GIVEN


def _nothing() -> None:
    return None


@dataclass(eq=False)
class WorkflowCheckpoint(Shown):
    """The state of a run at a barrier.

    A loaded checkpoint decodes its content when it is first read. Values of types that the
    storage's codec does not know are read-only `RawValue`s. Changes of a loaded checkpoint are not
    stored.

    Attributes:
        checkpoint_id: Its id.
        workflow_id: The workflow's name.
        timestamp: ISO 8601, UTC; strictly increasing within a run.
        messages: Messages in flight by sender: a dict with data, source_id, source_ids and
            target_ids for each.
        shared_state: Shared keys and values.
        executor_states: Each executor's own keys and values.
        iteration_count: Supersteps done; 0 is the checkpoint that holds the raw input.
        max_iterations: The limit in force when it was written.
        metadata: The user's metadata of the run.
        version: Version of the stored format.
        run_id: The run it belongs to, empty for one saved by hand.
        parent: Id of the checkpoint it follows.
        sequence: Position in the order of the run's commits.
        branch: Number of the run's branch.
        status: A `WorkflowRunState` value.
        scopes: Keys and values of named scopes.
        fan_in: Messages that wait in fan-ins: by group, by source, a list.
        pending_requests: Questions that wait for answers, by request id.
        outputs: Every output of the lineage so far.
        answered: Every closed question of the lineage, with its answer.
        timers: Messages that are delivered at a given time, by id: like messages, with due, attempt
            and, for a call that is repeated, work (the id of its first attempt).
        sub_workflows: Runs of sub-workflows inside this one, by path.
        intercepted_requests: Questions of sub-workflows that executors of the outer workflow
            answer, by request id.
        replies: Such answers in flight to the sub-workflows, by request id.
        incarnation: Tells its run from earlier and later ones with the same id.
        stored: The result of `to_dict`, for `dataclasses.asdict` of a loaded checkpoint: it
            replaces the content, as JSON-ready builtins with all types. A checkpoint that is
            created with it, as by `WorkflowCheckpoint(**asdict(checkpoint))`, is equal.
    """

    checkpoint_id: str = field(default_factory=new_id)
    workflow_id: str = ""
    timestamp: str = field(default_factory=utc_now)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=_not_given)
    shared_state: dict[str, Any] = field(default_factory=_not_given)
    executor_states: dict[str, dict[str, Any]] = field(default_factory=_not_given)
    iteration_count: int = 0
    max_iterations: int = 100
    metadata: dict[str, Any] = field(default_factory=dict)
    version: str = FORMAT_VERSION
    run_id: str = ""
    parent: str | None = None
    sequence: int = 0
    branch: int = 0
    status: str = WorkflowRunState.IN_PROGRESS.value
    scopes: dict[str, dict[str, Any]] = field(default_factory=_not_given)
    fan_in: dict[str, dict[str, list[Any]]] = field(default_factory=_not_given)
    pending_requests: dict[str, PendingRequest] = field(default_factory=_not_given)
    outputs: list[Any] = field(default_factory=_not_given)
    answered: list[AnsweredRequest] = field(default_factory=_not_given)
    timers: dict[str, dict[str, Any]] = field(default_factory=_not_given)
    sub_workflows: dict[str, SubWorkflowState] = field(default_factory=_not_given)
    intercepted_requests: dict[str, PendingRequest] = field(default_factory=_not_given)
    replies: dict[str, Any] = field(default_factory=_not_given)
    incarnation: str = ""
    stored: dict[str, Any] | None = field(default_factory=_nothing, repr=False)

    def __post_init__(self) -> None:
        missing = [name for name in content.NAMES if self.__dict__[name] is _NOT_GIVEN]
        if self.stored is not None:
            self._take_stored(self.stored, missing)
        else:
            self.__dict__.update({name: content.empty(name) for name in missing})

    def _take_stored(self, stored: Mapping[str, Any], missing: Iterable[str]) -> None:
        """Set the content from its stored form, and leave all other fields unchanged."""
        for name in (*missing, "stored"):
            del self.__dict__[name]
        self.__dict__["_source"] = _source_of(stored)
        self.__dict__["__dataclass_fields__"] = _fields_of_loaded()

    @classmethod
    def from_record(
        cls,
        header: CheckpointHeader,
        load_parts: Callable[[], Mapping[PartKey, Part]],
        codec: Codec,
        compare: Compare | None = None,
    ) -> WorkflowCheckpoint:
        """Return a checkpoint that loads and decodes its content when it is first read.

        Args:
            header: All fields except the content.
            load_parts: Returns the encoded parts; called at most once.
            codec: Decodes them; values of unknown types become `RawValue`s.
            compare: Returns the parts of two checkpoints for `diff`, without reading their common
                ones.
        """
        self = cls.__new__(cls)
        self.checkpoint_id = header.checkpoint_id
        self.workflow_id = header.workflow_id
        self.timestamp = header.timestamp
        self.iteration_count = header.iteration_count
        self.max_iterations = header.max_iterations
        self.metadata = copy.deepcopy(header.metadata)  # the header may belong to the storage
        self.version = header.version
        self.run_id = header.run_id
        self.parent = header.parent_id
        self.sequence = header.sequence
        self.branch = header.branch
        self.status = header.status
        self.incarnation = header.incarnation
        self.__dict__["_source"] = (header, load_parts, codec)
        self.__dict__["_compare"] = compare
        self.__dict__["__dataclass_fields__"] = _fields_of_loaded()
        return self

    def __getattr__(self, name: str) -> Any:
        # Called only while the content of a loaded checkpoint has not been decoded: then the
        # attribute does not exist yet.
        if name == "stored" and "_source" in self.__dict__:
            return self.to_dict()
        if name not in _LAZY or "_source" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        _header, load_parts, codec = self.__dict__["_source"]
        for key, value in content.decode_parts(
            load_parts(), codec, f"checkpoint {self.checkpoint_id!r}"
        ).items():
            self.__dict__.setdefault(key, value)
        return self.__dict__[name]

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint's handle."""
        return CheckpointInfo(self.run_id, self.checkpoint_id, self.iteration_count, self.parent)

    def to_header(self) -> CheckpointHeader:
        """Return the checkpoint's fields except its content, which is not decoded."""
        source = self.__dict__.get("_source")
        return CheckpointHeader(
            checkpoint_id=self.checkpoint_id,
            run_id=self.run_id,
            workflow_id=self.workflow_id,
            parent_id=self.parent,
            sequence=self.sequence,
            branch=self.branch,
            iteration_count=self.iteration_count,
            max_iterations=self.max_iterations,
            steps_since_input=source[0].steps_since_input if source is not None else 0,
            timestamp=self.timestamp,
            status=self.status,
            metadata=copy.deepcopy(self.metadata),
            version=self.version,
            incarnation=self.incarnation,
        )

    def to_record(self, codec: Codec) -> CheckpointRecord:
        """Return the checkpoint encoded.

        Raises:
            CheckpointEncodeError: It contains a value that cannot be saved.
        """
        header = self.to_header()
        source = self.__dict__.get("_source")
        if source is not None and not _LAZY & self.__dict__.keys():  # never read, so unchanged
            return CheckpointRecord(header, dict(source[1]()))
        parts = content.encode_parts(self, codec)
        return CheckpointRecord(
            header, parts if source is None else _unless_changed(source, parts, codec)
        )

    def document(self) -> dict[str, Any]:
        """Return the content as JSON, which `diff` compares: sections, names, typed values."""
        return document(self._parts())

    def diff(self, other: WorkflowCheckpoint) -> CheckpointDiff:
        """Return the changes from this checkpoint's content to the other's, of any runs.

        Equal parts are not decoded and, if the storage finds them by hash, not even read.

        Example:
            `print(earlier.diff(later))` shows the changes, one per line.
        """
        compare = self._untouched_compare()
        if compare is not None and compare == other._untouched_compare():
            before, after = compare(self.__dict__["_source"][0], other.__dict__["_source"][0])
        else:
            before, after = self._parts(), other._parts()
        return CheckpointDiff(self.checkpoint_id, other.checkpoint_id, diff_parts(before, after))

    def _untouched_compare(self) -> Compare | None:
        """Return the storage's comparison, unless the content may have been changed here."""
        return None if _LAZY & self.__dict__.keys() else self.__dict__.get("_compare")

    def _parts(self) -> Mapping[PartKey, Part]:
        return self.to_record(self._codec()).parts

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as JSON-ready builtins, for `from_dict`."""
        record = self.to_record(self._codec())
        described: dict[str, Any] = msgspec.to_builtins(record.header)
        described["parts"] = [[list(key), decode_json(part)] for key, part in record.parts.items()]
        return described

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkflowCheckpoint:
        """Return the checkpoint that `to_dict` returned.

        Raises:
            ValueError: The data does not have the shape of a checkpoint.
        """
        return cls.from_record(*_source_of(data))

    def _codec(self) -> Codec:
        source = self.__dict__.get("_source")
        return source[2] if source is not None else Codec()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkflowCheckpoint):
            return NotImplemented
        names = (f.name for f in fields(WorkflowCheckpoint) if f.name != "stored")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        return hash(self.checkpoint_id)

    def __repr__(self) -> str:
        return (
            f"WorkflowCheckpoint(checkpoint_id={self.checkpoint_id!r}, "
            f"workflow_id={self.workflow_id!r}, iteration_count={self.iteration_count}, "
            f"status={self.status!r}, timestamp={self.timestamp!r})"
        )

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        codec = self._codec()
        record = self.to_record(codec)
        twin = self.from_record(record.header, lambda: record.parts, codec)
        memo[id(self)] = twin
        return cast(Self, twin)

    def __reduce__(self) -> Any:
        """Pickle the result of `to_dict`, since a codec belongs to its process."""
        return type(self).from_dict, (self.to_dict(),)


def _source_of(
    data: Mapping[str, Any],
) -> tuple[CheckpointHeader, Callable[[], Mapping[PartKey, Part]], Codec]:
    """Return the source of a checkpoint that `to_dict` returned.

    Raises:
        ValueError: The data does not have the shape of a checkpoint.
    """
    header = dict(data)
    listed = msgspec.convert(header.pop("parts", ()), list[tuple[PartKey, Any]])
    for key, _ in listed:
        if not key or len(key) != 1 + SECTION_DEPTHS.get(key[0], len(key) - 1):
            raise ValueError(f"a checkpoint has no part {key!r}")
    parts: dict[PartKey, Part] = {key: msgspec.json.encode(value) for key, value in listed}
    for section in SECTIONS.values():
        if section.is_list and (section.name,) in parts:
            parts[section.name,] = ListPart(elements(parts[section.name,]))
    return msgspec.convert(header, CheckpointHeader), lambda: parts, Codec()


@cache
def _fields_of_loaded() -> dict[str, Any]:
    """Return the fields of a loaded checkpoint, for `dataclasses.asdict` and `replace`.

    The content is in its stored form: values of a program's own types would lose their types.
    """
    named = WorkflowCheckpoint.__dataclass_fields__
    return {name: one for name, one in named.items() if name not in _LAZY}


def _unless_changed(
    source: tuple[CheckpointHeader, Callable[[], Mapping[PartKey, Part]], Codec],
    parts: dict[PartKey, Part],
    codec: Codec,
) -> dict[PartKey, Part]:
    """Return the parts of a loaded checkpoint whose content has been read.

    Unchanged parts are returned as stored.

    The decoded content leaves out what only the engine needs: the order of messages of different
    senders, lists that grow element by element, the graph. A part is unchanged if the stored part
    and the present content are encoded to the same bytes.
    """
    header, load_parts, own_codec = source
    stored = load_parts()
    from_stored = content.encode_parts(
        WorkflowCheckpoint.from_record(header, lambda: stored, own_codec), codec
    )
    kept = {
        k: part
        for k, part in stored.items()
        if k not in from_stored or from_stored[k] == parts.get(k)
    }
    order = dict.fromkeys((*(key for key in stored if key in kept or key in parts), *parts))
    return {key: kept[key] if key in kept else parts[key] for key in order}
