"""Runs, checkpoints and values as text, wherever they are shown."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from supersteps.checkpoint.diff import Change
from supersteps.checkpoint.sections.table import SECTIONS
from supersteps.cli.output import age, status_text, visible_width
from supersteps.cli.terminal import harmless
from supersteps.service.questions import Question
from supersteps.service.states import DAMAGED
from supersteps.service.views import LogEntry
from supersteps.states import IN_PROGRESS, WorkflowRunState

TITLES = {name: section.title for name, section in SECTIONS.items()}
"""Titles of a checkpoint's sections."""

_BRIEF = {name: section.brief for name, section in SECTIONS.items()}
_NAME = re.compile(r"[^\W\d][\w-]*")
_ADDRESS = ("request_id", "source_executor_id")
"""Fields of a question that only name its asker, which is shown beside it."""


def respect_no_color() -> None:
    """Turn colours off if NO_COLOR is set (https://no-color.org)."""
    context = click.get_current_context(silent=True)
    if context is not None and os.environ.get("NO_COLOR"):
        context.color = False


def count(number: int, what: str) -> str:
    """Return a number with its noun: `1 output`, `2 outputs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def moment(timestamp: str, now: datetime | None = None) -> str:
    """Return a time to the second, with its distance from now."""
    then = datetime.fromisoformat(timestamp).astimezone(UTC)
    present = now or datetime.now(UTC)
    ahead = then > present
    distance = f"in {age(present.isoformat(), then)}" if ahead else f"{age(timestamp, present)} ago"
    return f"{then:%Y-%m-%d %H:%M:%S} UTC ({distance})"


# ------------------------------------------------------------------------------------------- values


def plain(value: Any) -> str:
    """Return a typed-JSON value as text: strings as is, typed values like calls, else JSON."""
    return harmless(value if isinstance(value, str) else _inner(value))


def _inner(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_inner, value))}]"
    if not isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if not isinstance(tag := value.get("$"), str):
        return (
            "{"
            + ", ".join(f"{_quoted(name)}: {_inner(item)}" for name, item in value.items())
            + "}"
        )
    name = tag.rpartition(":")[2].rpartition(".")[2]
    rest = {key: item for key, item in value.items() if key != "$"}
    if rest.keys() == {"$value"}:
        return f"{name}.{plain(rest['$value'])}"
    if rest.keys() == {"v"}:
        inner = rest["v"]
        if isinstance(inner, str) and ":" not in tag:  # a time, a path, a number with many digits
            return inner
        return f"{name}({_inner(inner)})"
    fields = [f"{key}={_inner(item)}" for key, item in rest.items() if not _is_bookkeeping(key)]
    return f"{name}({', '.join(fields)})"


def _is_bookkeeping(key: str) -> bool:
    return key.startswith("$")


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def asked(data: Any) -> Any:
    """Return a question without the fields that only the engine needs."""
    if isinstance(data, dict) and "$" in data and all(name in data for name in _ADDRESS):
        return {name: value for name, value in data.items() if name not in _ADDRESS}
    return data


def spread(data: Any) -> str:
    """Return a question in full, one line per field."""
    data = asked(data)
    if not isinstance(data, dict) or not data or "v" in data or "$value" in data:
        return plain(data)
    tag = str(data.get("$", "")).rpartition(":")[2]
    fields = [
        (str(name), plain(value)) for name, value in data.items() if not _is_bookkeeping(name)
    ]
    return "\n".join([*([tag] if tag else []), *aligned(fields, "  " if tag else "")])


def cut(text: str, width: int = 100) -> str:
    """Return a text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def pretty(value: Any) -> str:
    """Return a value in full, on as many lines as it needs."""
    if isinstance(value, str):
        return harmless(value)
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def place(path: Iterable[str | int]) -> str:
    """Return a path inside a section: `editor.mood`, `[0].data`, `editor["a key"]`."""
    text = ""
    for item in path:
        if isinstance(item, int):
            text += f"[{item}]"
        elif _NAME.fullmatch(item) or (not text and re.fullmatch(r"[^\s\[\]]+", item)):
            text += f".{item}" if text else item
        else:
            text += f"[{_quoted(item)}]"
    return text


def route(message: Any) -> str:
    """Return the senders and receivers of a stored message."""
    sources = ", ".join(message.get("source_ids") or ()) or "outside"
    return f"{sources} -> {', '.join(message.get('target_ids') or ()) or 'no executor'}"


# ------------------------------------------------------------------------------------------ entries


def what_happened(entry: LogEntry) -> list[str]:
    """Return what happened in a checkpoint's superstep, in a few words each."""
    words = [", ".join(who_ran(entry)) or _origin(entry)]
    if entry.outputs:
        words.append(click.style(f"+{count(entry.outputs, 'output')}", fg="green"))
    if entry.asked:
        words.append(click.style(f"asks {_ids(entry.asked)}", fg="yellow"))
    if entry.closed:
        words.append(f"closes {_ids(entry.closed)}")
    if entry.error and entry.status != DAMAGED:
        words.append(status_text(WorkflowRunState.FAILED))
    elif entry.status not in IN_PROGRESS:  # every checkpoint on the way is
        words.append(status_text(entry.status))
    return words


def who_ran(entry: LogEntry) -> list[str]:
    """Return the executors that ran in a checkpoint's superstep, as `web (attempt 2 waits)`."""
    waiting: dict[str, set[int]] = {}
    for retry in entry.retries:
        waiting.setdefault(retry.executor_id, set()).add(retry.attempt)
    return [
        f"{name}{_attempts(waiting.get(name, ()))}"
        for name in dict.fromkeys((*entry.ran, *waiting))
    ]


def _attempts(numbers: Iterable[int]) -> str:
    found = [str(number) for number in sorted(numbers)]
    if not found:
        return ""
    text = (
        f" (attempt {found[0]} waits)"
        if len(found) == 1
        else f" (attempts {', '.join(found)} wait)"
    )
    return click.style(text, fg="yellow")


def _origin(entry: LogEntry) -> str:
    """Return the origin of a checkpoint in whose superstep no executor ran."""
    if entry.status == DAMAGED:
        return "?"
    if entry.parent is None:
        return "input" if entry.step == 0 else "(earlier ones were pruned)"
    return "-" if entry.parent.startswith(f"{entry.run_id}-") else f"forked from {entry.parent}"


def _ids(identifiers: tuple[str, ...]) -> str:
    first = cut(identifiers[0], 24)
    return f"{first} and {len(identifiers) - 1} more" if identifiers[1:] else first


def entry_line(entry: LogEntry, mark: str = "", now: datetime | None = None) -> str:
    """Return a checkpoint on one line.

    Args:
        entry: The checkpoint.
        mark: A mark such as `(head)`.
        now: The current time.
    """
    head = click.style(
        entry.checkpoint_id, fg="bright_black" if entry.status == DAMAGED else "blue"
    )
    parts = [head, f"@{entry.step}", *([mark] if mark else []), *what_happened(entry)]
    return "  ".join([*parts, click.style(f"{age(entry.timestamp, now)} ago", fg="bright_black")])


def aligned(rows: Iterable[tuple[str, str]], indent: str = "") -> list[str]:
    """Return names and values as lines with the values aligned, multi-line values too."""
    pairs = list(rows)
    width = max((visible_width(name) for name, _ in pairs), default=0)
    lines = []
    for name, value in pairs:
        first, *more = value.split("\n")
        lines.append(f"{indent}{name}{' ' * (width - visible_width(name))}  {first}".rstrip())
        lines += [f"{indent}{' ' * width}  {line}".rstrip() for line in more]
    return lines


# ---------------------------------------------------------------------------------------- questions


def answer_hint(question: Question) -> str:
    """Return the command that answers a question."""
    if question.response_schema is None:
        return "only the workflow's own code can accept the answer"
    from supersteps.cli.typed_value import example

    shown = example(question.response_schema)
    return f"supersteps answer {shlex.quote(question.request_id)} {shown}"


# ------------------------------------------------------------------------------------------ changes


def brief_changes(changes: Iterable[Change], shown: int = 2) -> str:
    """Return the differences on one line: how many in each section, and the first paths."""
    sections: dict[str, list[Change]] = {}
    for change in changes:
        sections.setdefault(str(change.path[0]), []).append(change)
    if not sections:
        return "nothing changed"
    told = []
    for section, inside in sections.items():
        signs = "".join(
            f"{sign}{number}"
            for sign, kind in (("+", "add"), ("-", "remove"), ("~", "replace"))
            if (number := sum(change.kind == kind for change in inside))
        )
        names = list(
            dict.fromkeys(
                cut(place(change.path[1:3]), 20) for change in inside if _is_named(change)
            )
        )
        places = (
            f" ({', '.join(names[:shown])}{', …' if len(names) > shown else ''})" if names else ""
        )
        told.append(f"{_BRIEF.get(section, section)} {signs}{places}")
    return ", ".join(told)


def _is_named(change: Change) -> bool:
    return (
        len(change.path) > 1
        and isinstance(change.path[1], str)
        and change.path[0] not in ("requests", "graph")
    )
