"""Forking: the parts of a checkpoint, edited, as the first commit of a new run. Pure: no I/O, no clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.message import (
    MESSAGES,
    StoredMessage,
    encode_messages,
    read_messages,
)
from supersteps.checkpoint.sections.question import REPLIES, REQUESTS
from supersteps.checkpoint.sections.state import EXECUTORS, SCOPES, SHARED
from supersteps.checkpoint.sections.sub_run import (
    SUB_SCOPES,
    SUB_STATE,
    SUB_WORKFLOWS,
    encode_sub_run,
)
from supersteps.checkpoint.sections.table import SECTION_DEPTHS
from supersteps.checkpoint.sections.timer import TIMERS
from supersteps.checkpoint.stored import as_json
from supersteps.checkpoint.values import Sealer, is_text
from supersteps.define.subworkflow import takes_input
from supersteps.engine.levels import Levels
from supersteps.engine.merge import enter
from supersteps.engine.merged import Merged
from supersteps.errors import ForkError, UnhandledMessageError
from supersteps.paths import PATH_MARK, path_of
from supersteps.requests import RequestResponse
from supersteps.states import WorkflowRunState, state_at_barrier
from supersteps.typing import display_name

Path: TypeAlias = tuple[str | int, ...]
"""A section, and the names, indexes and attributes that lead into it."""


class Edits(Protocol):
    """New values, or `DELETE`, by path: any mapping, whether its keys are strings, tuples or both."""

    def items(self) -> Iterable[tuple[str | Path, Any]]:
        """Return them in the order in which they are to be made."""


class Delete(Enum):
    """The type of `DELETE`."""

    DELETE = "DELETE"

    def __repr__(self) -> str:
        return "DELETE"


DELETE: Final = Delete.DELETE
"""In the changes of a fork: removes the key, element or message that the path names."""

INPUT = "input"

_STATE = {
    SHARED: "KEY",
    EXECUTORS: "ID.KEY",
    SCOPES: "NAME.KEY",
    SUB_STATE: "PATH.KEY",
    SUB_SCOPES: "PATH.NAME.KEY",
}
_SHAPES = ", ".join(
    [INPUT, "messages.INDEX", *(f"{section}.{names}" for section, names in _STATE.items())]
)


def status_of(parts: Mapping[PartKey, Part]) -> WorkflowRunState:
    """Return where a run stands that begins with these parts."""
    sections = {key[0] for key in parts}
    goes_on = REPLIES in sections or TIMERS in sections or bool(read_messages(parts.get(MESSAGES)))
    return state_at_barrier(goes_on=goes_on, is_waiting=REQUESTS in sections)


def parse_path(given: str | tuple[str | int, ...]) -> Path:
    """Return a path as its steps: a tuple as it is, a JSON Pointer, or a string split at its dots.

    Raises:
        ForkError: It is neither, or empty.
    """
    if isinstance(given, tuple):
        path: Path = given
    elif isinstance(given, str) and given.startswith("/"):
        path = tuple(step.replace("~1", "/").replace("~0", "~") for step in given[1:].split("/"))
    elif isinstance(given, str):
        path = tuple(given.split("."))
    else:
        path = ()
    if not path or not all(
        isinstance(step, str | int) and not isinstance(step, bool) and step != "" for step in path
    ):
        raise ForkError(
            f"{given!r} is not a path into a checkpoint: write it with dots ('shared_state.total'), as a tuple where a "
            "name has a dot in it (('shared_state', 'v1.2')), or as a JSON Pointer ('/shared_state/total'). Nothing "
            "was created."
        )
    return path


def edited_parts(
    record: CheckpointRecord, changes: Edits, levels: Levels, codec: Codec
) -> dict[PartKey, Part]:
    """Return the parts of a checkpoint with changes made to them, in their order.

    Args:
        record: The checkpoint; not changed.
        changes: New values, or `DELETE`, by path.
        levels: The present graph.
        codec: Decodes and encodes values.

    Raises:
        ForkError: A path leads nowhere, or a value does not fit its place.
        UnhandledMessageError: The start executor does not take the new input.
        CheckpointEncodeError: A value cannot be saved; the message names its path.
    """
    if not changes:
        return dict(record.parts)
    editing = _Editing(record, levels, codec)
    for given, value in changes.items():
        editing.change(given, parse_path(given), value)
    return editing.result()


class _Editing:
    def __init__(self, record: CheckpointRecord, levels: Levels, codec: Codec) -> None:
        self._record = record
        self._levels = levels
        self._codec = codec
        self._parts = dict(record.parts)
        self._messages: list[StoredMessage | None] = list(read_messages(record.parts.get(MESSAGES)))
        self._touches_messages = False

    def result(self) -> dict[PartKey, Part]:
        if self._touches_messages:
            self._parts[MESSAGES] = msgspec.json.encode(
                [kept for kept in self._messages if kept is not None]
            )
        return self._parts

    def change(self, given: Any, path: Path, value: Any) -> None:
        section = str(path[0])
        if section == INPUT:
            self._change_input(given, path[1:], value)
        elif section == MESSAGES[0]:
            self._change_message(given, path[1:], value)
        elif section in _STATE:
            self._change_state(given, section, path, value)
        else:
            hint = ""
            if section in SECTION_DEPTHS:
                hint = f" {section!r} is what happened; it cannot be edited."
            raise ForkError(
                f"{given!r}: there is no section {section!r} to edit.{hint} {_write(_SHAPES)}"
            )

    # -------------------------------------------------------------------------------------- messages

    def _change_input(self, given: Any, inner: Path, value: Any) -> None:
        header = self._record.header
        if header.iteration_count != 0:
            raise ForkError(
                f"{given!r}: checkpoint {header.checkpoint_id!r} is that of superstep {header.iteration_count}, where "
                "the input has been handled; only iteration 0 holds it. Fork that one, or change messages.INDEX or "
                "shared_state.KEY. Nothing was created."
            )
        if len(self._messages) != 1 or self._messages[0] is None:
            raise ForkError(
                f"{given!r}: checkpoint {header.checkpoint_id!r} has {len(self._messages)} messages in flight where "
                "the one input should be. Nothing was created."
            )
        if value is DELETE and not inner:
            raise ForkError(
                f"{given!r}: a run without input has nothing to do; give another one. Nothing was created."
            )
        was = self._messages[0]
        new = value if not inner else self._stepped(given, INPUT, bytes(was.data), inner, value)
        start = self._levels.root.graph.nodes[self._levels.root.graph.start_id].executor
        if not takes_input(start, new):
            raise UnhandledMessageError(
                f"{given!r}: a fork cannot start with a {display_name(type(new))}: the start executor {start.id!r} "
                f"handles {', '.join(map(display_name, start.input_types))}. Nothing was created."
            )
        payload = Sealer(self._codec, encoding=True).seal(new, "{!r}", given)
        merged = Merged()
        message = enter(self._levels, payload, was.source_ids, merged)
        if merged.sub_runs:  # the input goes into a sub-workflow: its run begins anew
            for key in [key for key in self._parts if key[0] == SUB_WORKFLOWS]:
                del self._parts[key]
            self._parts.update(
                ((SUB_WORKFLOWS, path), encode_sub_run(sub))
                for path, sub in merged.sub_runs.items()
            )
        self._messages = list(read_messages(encode_messages([message])))
        self._touches_messages = True

    def _change_message(self, given: Any, inner: Path, value: Any) -> None:
        if not inner:
            raise ForkError(
                f"{given!r}: say which message. {_write('messages.INDEX')} {self._in_flight()}"
            )
        index = _index(inner[0])
        was = (
            self._messages[index]
            if index is not None and 0 <= index < len(self._messages)
            else None
        )
        if index is None or was is None:
            raise ForkError(
                f"{given!r}: there is no message {inner[0]!r}. {self._in_flight()} Nothing was created."
            )
        self._touches_messages = True
        if value is DELETE and len(inner) == 1:
            self._messages[index] = None
            return
        if was.reply is not None:
            raise ForkError(
                f"{given!r}: message {index} is an answer on its way to {', '.join(map(repr, was.target_ids))}; fork a "
                "checkpoint before the answer and answer differently. Nothing was created."
            )
        new = (
            value
            if len(inner) == 1
            else self._stepped(given, MESSAGES[0], bytes(was.data), inner[1:], value)
        )
        for target in was.target_ids:
            executor = self._levels.specimen(target)
            if isinstance(new, RequestResponse) or not executor.can_handle(new):
                raise ForkError(
                    f"{given!r}: message {index} goes to executor {target!r}, which handles "
                    f"{', '.join(map(display_name, executor.input_types))}, not a {display_name(type(new))}. Nothing "
                    "was created."
                )
        data = msgspec.Raw(self._codec.encode(new, f"{given!r}"))
        self._messages[index] = msgspec.structs.replace(was, data=data)

    def _in_flight(self) -> str:
        if not self._messages:
            return "No message is in flight."
        ways = [
            f"{index} ({', '.join(message.source_ids)} -> {', '.join(message.target_ids)})"
            for index, message in enumerate(self._messages)
            if message is not None
        ]
        return f"Messages in flight: {'; '.join(ways) or 'none any more'}."

    # ----------------------------------------------------------------------------------------- state

    def _change_state(self, given: Any, section: str, path: Path, value: Any) -> None:
        depth = SECTION_DEPTHS[section]
        shape = f"{section}.{_STATE[section]}"
        if len(path) <= depth:
            raise ForkError(f"{given!r}: this names a whole section or scope. {self._known(section, path)} "
                            f"{_write(shape)}")  # fmt: skip
        key: PartKey = tuple(map(str, path[: depth + 1]))
        inner = path[depth + 1 :]
        self._check_owner(given, key)
        if not all(map(is_text, key)):
            raise ForkError(
                f"{given!r}: names are Unicode text, and one of these holds half of a surrogate pair."
            )
        old = self._parts.get(key)
        if old is None and (inner or value is DELETE):
            raise ForkError(
                f"{given!r}: there is no key {key[-1]!r}. {self._known(section, path)} {_write(shape)}"
            )
        if value is DELETE and not inner:
            del self._parts[key]
            return
        new = value
        if inner:
            assert old is not None
            new = self._stepped(given, ".".join(key), as_json(old), inner, value)
        where = f"{given!r}"
        if isinstance(old, ListPart) and isinstance(
            new, list
        ):  # it goes on growing element by element
            self._parts[key] = ListPart(
                self._codec.encode(item, f"{where}[{i}]") for i, item in enumerate(new)
            )
        else:
            self._parts[key] = self._codec.encode(new, where)

    def _check_owner(self, given: Any, key: PartKey) -> None:
        """Refuse the scope of an executor, or of a run of a sub-workflow, that is not there."""
        section, owner = key[0], key[1]
        if section in (SUB_STATE, SUB_SCOPES):
            run_path = owner
        elif section == EXECUTORS:
            run_path = path_of(owner)
        else:
            return
        runs = [name[1] for name in self._parts if name[0] == SUB_WORKFLOWS]
        if run_path and run_path not in runs:
            raise ForkError(
                f"{given!r}: no sub-workflow {run_path!r} is running; {_listed(runs)}. Nothing was created."
            )
        if section != EXECUTORS:
            return
        nodes = self._levels.at(run_path).graph.nodes
        if (owner[len(run_path) + len(PATH_MARK) :] if run_path else owner) not in nodes:
            known = [f"{run_path}{PATH_MARK}{name}" if run_path else name for name in nodes]
            raise ForkError(
                f"{given!r}: there is no executor {owner!r}; {_listed(known)}. Nothing was created."
            )

    def _known(self, section: str, path: Path) -> str:
        names = tuple(map(str, path[1 : SECTION_DEPTHS[section]]))
        found = [
            key
            for key in self._parts
            if key[0] == section and key[1 : 1 + len(names)] == names and key[-1]
        ]
        if len(path) > SECTION_DEPTHS[section] or section == SHARED:
            return f"Keys there: {', '.join(repr(key[-1]) for key in found) or 'none'}."
        return f"Keys there: {', '.join(sorted('.'.join(key[1:]) for key in found)) or 'none'}."

    # ---------------------------------------------------------------------------------- inside values

    def _stepped(self, given: Any, place: str, encoded: bytes, steps: Path, new: Any) -> Any:
        """Return a value with something inside it changed."""
        return _changed(given, place, self._codec.decode(encoded, f"{given!r}"), steps, new)


def _changed(given: Any, place: str, value: Any, steps: Path, new: Any) -> Any:
    """Return a value, which belongs to the caller, with what `steps` lead to changed."""
    if not steps:
        return new
    step, inner = steps[0], steps[1:]
    if isinstance(value, MutableMapping):
        return _changed_mapping(given, place, value, steps, new)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        fields: tuple[str, ...] = getattr(value, "_fields", ())
        if step in fields:
            return type(value)._make(  # type: ignore[attr-defined]  # a NamedTuple
                _changed_sequence(
                    given, place, list(value), (fields.index(str(step)), *inner), new, fixed=True
                )
            )
        changed = _changed_sequence(given, place, value, steps, new, fixed=bool(fields))
        if changed is value:
            return value
        return type(value)._make(changed) if fields else type(value)(changed)  # type: ignore[attr-defined, call-arg]
    names = _attributes(value)
    if step not in names:
        what = f"attributes {', '.join(map(repr, names))}" if names else f"{value!r:.80}"
        raise _nowhere(given, place, step, f"a {display_name(type(value))} with {what}")
    if new is DELETE and not inner:
        raise ForkError(
            f"{given!r}: {step!r} is an attribute of the {display_name(type(value))} at {place}, which cannot do "
            "without it; set it to something else. Nothing was created."
        )
    name = str(step)
    content = _changed(given, f"{place}.{name}", getattr(value, name), inner, new)
    if isinstance(value, msgspec.Struct):
        msgspec.structs.force_setattr(value, name, content)
    else:
        object.__setattr__(
            value, name, content
        )  # also where it is frozen: this copy is nobody else's
    return value


def _changed_mapping(
    given: Any, place: str, value: MutableMapping[Any, Any], steps: Path, new: Any
) -> Any:
    step, inner = steps[0], steps[1:]
    key: Any = step
    if (
        step not in value
        and isinstance(step, str)
        and (number := _index(step)) is not None
        and number in value
    ):
        key = number
    if key not in value and (inner or new is DELETE):
        raise _nowhere(
            given, place, step, f"a {type(value).__name__} with the keys {_listed(list(value))}"
        )
    if new is DELETE and not inner:
        del value[key]
    else:
        value[key] = _changed(given, f"{place}.{step}", value.get(key), inner, new)
    return value


def _changed_sequence(
    given: Any, place: str, value: Sequence[Any], steps: Path, new: Any, *, fixed: bool = False
) -> Any:
    step, inner = steps[0], steps[1:]
    items: Any = value if isinstance(value, MutableSequence) else list(value)
    if (
        step == "-" and not inner and new is not DELETE and not fixed
    ):  # as in a JSON Patch: after the last one
        items.append(new)
        return items
    index = _index(step)
    if index is None or not 0 <= index < len(items) or (fixed and new is DELETE and not inner):
        raise _nowhere(
            given, place, step, f"a {type(value).__name__} of {len(items)} elements, counted from 0"
        )
    if new is DELETE and not inner:
        del items[index]
    else:
        items[index] = _changed(given, f"{place}.{index}", items[index], inner, new)
    return items


def _attributes(value: Any) -> list[str]:
    """Return the names of the fields of a dataclass-like value."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return list(kind.__struct_fields__)
    for names in ("__dataclass_fields__", "model_fields"):
        if fields := getattr(kind, names, None):
            return list(fields)
    return [field.name for field in getattr(kind, "__attrs_attrs__", ())]


def _index(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdigit() else None


def _nowhere(given: Any, place: str, step: str | int, there: str) -> ForkError:
    return ForkError(
        f"{given!r} leads nowhere: at {place} is {there}, and no {step!r}. Nothing was created."
    )


def _listed(names: Sequence[Any]) -> str:
    return f"there are {', '.join(map(repr, names))}" if names else "there is none"


def _write(shape: str) -> str:
    return (
        f"Write {shape}, and further steps into a value after it; a tuple where a name has a dot. "
        "Nothing was created."
    )
