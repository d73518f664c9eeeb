"""`supersteps diff`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import click
import msgspec

from supersteps.checkpoint.diff import Change, CheckpointDiff
from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, is_terminal
from supersteps.cli.picker import pick_checkpoint
from supersteps.cli.terminal import echo, harmless
from supersteps.cli.words import TITLES, asked, cut, place, plain, pretty, respect_no_color, route
from supersteps.service.errors import InputError
from supersteps.service.service import Service

_WIDTH = 90
_AROUND = 24
"""How many equal characters are shown before and after a difference."""
Messages: TypeAlias = tuple[list[Any], list[Any]]
"""The messages in flight on both sides."""
_SIGNS = {"add": ("+", "green"), "remove": ("-", "red"), "replace": ("~", "yellow")}


@click.command("diff")
@click.argument("before", metavar="[A]", required=False, shell_complete=complete_checkpoint)
@click.argument("after", metavar="[B]", required=False, shell_complete=complete_checkpoint)
@click.option("--patch", is_flag=True, help="Print a JSON Patch (RFC 6902); -o json does so too.")
@click.option("--full", is_flag=True, help="Shorten nothing.")
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if they differ.")
@common_options
@click.pass_context
def command(
    context: click.Context,
    before: str | None,
    after: str | None,
    patch: bool,
    full: bool,
    exit_code: bool,
    store: str | None,
    output: str,
) -> None:
    """Show how the checkpoints A and B differ. They may belong to different runs.

    With A only: what its superstep changed. Without both, choose them at the terminal.
    """
    respect_no_color()
    if before is None and not is_terminal():
        raise click.UsageError(
            "name two checkpoints, or one to see what its superstep changed: supersteps diff A [B]"
        )

    async def work() -> tuple[CheckpointDiff, Messages | None]:
        async with open_service(store) as service:
            found = await service.diff(*await _chosen(service, before, after))
            is_shown = (
                output == "table"
                and not patch
                and any(change.path[0] == "messages" for change in found)
            )
            return found, await _messages(service, found) if is_shown else None

    found, messages = do(work())
    form = "json" if patch and output == "table" else output
    emit(
        found.to_json_patch(),
        form,
        lambda: echo("\n".join(lines(found, messages, full=full))),
    )
    if exit_code and found:
        context.exit(1)


async def _chosen(service: Service, before: str | None, after: str | None) -> tuple[str, str]:
    if before is None:
        first = await pick_checkpoint(service, "Compare which checkpoint?")
        return first, await pick_checkpoint(service, f"Compare {first} with which one?")
    if after is not None:
        return before, after
    header = await service.find_checkpoint(before)
    parent = header.parent_id
    if parent is None and header.run_id:  # a fork starts at the checkpoint it was forked from
        parent = (await service.find_run(header.run_id)).parent_checkpoint
    if parent is None:
        raise InputError(
            f"{header.checkpoint_id} is the first checkpoint of its run, so there is no earlier "
            f"one to compare it with. Name another one: supersteps diff {header.checkpoint_id} B"
        )
    return parent, header.checkpoint_id


# -------------------------------------------------------------------------------------------- lines


async def _messages(service: Service, found: CheckpointDiff) -> Messages:
    """Return the messages in flight of both checkpoints, to compare regardless of order."""
    sides = [await service.show_checkpoint(side) for side in (found.before, found.after)]
    before, after = (side.content.get("messages", []) for side in sides)
    return before, after


def lines(
    found: CheckpointDiff, messages: Messages | None = None, *, full: bool = False
) -> list[str]:
    """Return a diff as lines of text, by section.

    Args:
        found: What differs.
        messages: The messages in flight on both sides, to report whole messages.
        full: Whether to shorten nothing.
    """
    if not found:
        return [f"{found.before} and {found.after} are equal"]
    told = _relevant_changes(found)
    if not told:
        return [
            f"{found.before} and {found.after} are equal, except for the times at which they asked"
        ]
    shown = [
        click.style(f"--- {found.before}", bold=True),
        click.style(f"+++ {found.after}", bold=True),
    ]
    sections: dict[str, list[Change]] = {}
    for change in told:
        sections.setdefault(str(change.path[0]), []).append(change)
    for section, changes in sections.items():
        shown += ["", click.style(TITLES.get(section, section), bold=True)]
        if section == "messages" and messages is not None:
            changes = (
                list(_whole_messages(*messages)) or changes
            )  # they may differ only in their order
        shown += [f"  {line}" for change in changes for line in _change(section, change, full)]
    return shown


def _relevant_changes(found: CheckpointDiff) -> list[Change]:
    """Return the changes, without the times of equal questions, which a fork asks again."""
    inside = Counter(change.path[:2] for change in found)
    return [
        change
        for change in found
        if not (
            change.path[0] in ("requests", "intercepted")
            and change.path[2:] == ("timestamp",)
            and inside[change.path[:2]] == 1
        )
    ]


def _whole_messages(before: list[Any], after: list[Any]) -> Iterator[Change]:
    """Yield removed and added messages; a new one on the same route replaces the old one."""
    encode = msgspec.json.encode
    gone, come = (
        _without(before, Counter(map(encode, after))),
        _without(after, Counter(map(encode, before))),
    )
    for message in gone:
        same_way = next((other for other in come if route(other) == route(message)), None)
        if same_way is None:
            yield Change("remove", ("messages", route(message)), before=message.get("data"))
            continue
        come.remove(same_way)
        before_data, after_data = (plain(one.get("data")) for one in (message, same_way))
        yield Change("replace", ("messages", route(message)), before=before_data, after=after_data)
    for message in come:
        yield Change("add", ("messages", route(message)), after=message.get("data"))


def _without(messages: list[Any], others: Counter[bytes]) -> list[Any]:
    """Return the messages that are not among the others, as a multiset difference."""
    left = []
    for message in messages:
        key = msgspec.json.encode(message)
        if others[key]:
            others[key] -= 1
        else:
            left.append(message)
    return left


def _change(section: str, change: Change, full: bool) -> Iterator[str]:
    sign, color = _SIGNS[change.kind]
    name = place(change.path[1:]) or "(all)"
    if section == "messages" and isinstance(change.path[1], str):  # a whole message, by its route
        name = change.path[1]
    if change.kind == "replace":
        yield from _replaced(section, name, change, full)
        return
    value = change.after if change.kind == "add" else change.before
    text = _item_text(section, change, value) or _text(value, full, section)
    first, *more = text.split("\n")
    yield click.style(f"{sign} {name}: {first}", fg=color)
    for line in more:
        yield click.style(f"{sign}   {line}", fg=color)


def _item_text(section: str, change: Change, value: Any) -> str | None:
    """Return a whole question or answer as text; None for everything else."""
    if not isinstance(value, dict) or len(change.path) != 2:
        return None
    if section in ("requests", "intercepted"):
        wanted = str(value.get("response_type", "")).removeprefix("__main__.")
        return (
            f"{value.get('source_executor_id')} asks for {wanted}: "
            f"{cut(plain(asked(value.get('data'))), _WIDTH)}"
        )
    if section == "answered":
        given = (
            f": {cut(plain(value.get('data')), _WIDTH)}"
            if value.get("outcome") != "cancelled"
            else ""
        )
        return f"{value.get('request_id')} {value.get('outcome', 'answered')}{given}"
    return None


def _replaced(section: str, name: str, change: Change, full: bool) -> Iterator[str]:
    old, new = change.before, change.after
    if isinstance(old, str) and isinstance(new, str) and ("\n" in old or "\n" in new):
        yield click.style(f"~ {name}:", fg="yellow")
        yield from _unified(old, new, full)
        return
    before, after = _text(old, True, section), _text(new, True, section)
    if not full:
        before, after = around(before, after)
    if "\n" not in before + after and len(name) + len(before) + len(after) <= _WIDTH:
        removed, added = click.style(before, fg="red"), click.style(after, fg="green")
        yield f"{click.style(f'~ {name}:', fg='yellow')} {removed} -> {added}"
        return
    yield click.style(f"~ {name}:", fg="yellow")
    yield from (click.style(f"  - {line}", fg="red") for line in before.split("\n"))
    yield from (click.style(f"  + {line}", fg="green") for line in after.split("\n"))


def _unified(old: str, new: str, full: bool) -> Iterator[str]:
    """Yield the lines that differ, with their context."""
    colors = {"+": "green", "-": "red", "@": "cyan"}
    context = max(old.count("\n"), new.count("\n")) + 1 if full else 2
    compared: Iterable[str] = difflib.unified_diff(
        harmless(old).split("\n"), harmless(new).split("\n"), n=context, lineterm=""
    )
    for number, line in enumerate(compared):
        if number >= 2:  # after the names of the files
            text = line if full else cut_end(line, _WIDTH)
            yield f"  {click.style(text, fg=colors.get(line[:1]))}"


def around(before: str, after: str) -> tuple[str, str]:
    """Return two texts, shortened at their equal ends if they are long."""
    if max(len(before), len(after)) <= _WIDTH:
        return before, after
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return _window(before, start, end), _window(after, start, end)


def _window(text: str, start: int, end: int) -> str:
    begin, stop = max(start - _AROUND, 0), min(len(text) - end + _AROUND, len(text))
    begin, stop = (0 if begin <= 3 else begin), (len(text) if stop >= len(text) - 3 else stop)
    inner = text[begin:stop]
    if len(inner) > _WIDTH:  # the difference itself is long
        half = (_WIDTH - 1) // 2
        inner = f"{inner[:half]}…{inner[-half:]}"
    return f"{'…' if begin else ''}{inner}{'…' if stop < len(text) else ''}"


def cut_end(text: str, width: int) -> str:
    """Return a line shortened to a width, its spaces unchanged."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _text(value: Any, full: bool, section: str) -> str:
    """Return an added or removed value; text in quotes, since spaces may matter."""
    if isinstance(value, str) and section != "messages":
        shown = msgspec.json.encode(value).decode()
    else:
        shown = plain(value)
        if full and len(shown) > _WIDTH:
            return pretty(value)
    return shown if full else cut(shown, _WIDTH)
