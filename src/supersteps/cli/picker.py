"""Choosing from a numbered list at a terminal, narrowed by typing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import click

from supersteps.cli.output import age, is_terminal, run_text
from supersteps.cli.prompt import Terminal
from supersteps.cli.words import asked, brief_changes, count, cut, entry_line, plain
from supersteps.errors import SuperstepsError
from supersteps.service.errors import ReferenceNotFoundError
from supersteps.service.questions import Question
from supersteps.service.service import Service
from supersteps.service.views import LogEntry, RunSummary
from supersteps.states import WorkflowRunState
from supersteps.storage.listings import RunFilter

PAGE = 15
_MOST_RUNS = 1000


@dataclass(frozen=True)
class Item:
    """An entry of the list.

    Attributes:
        name: Its id.
        line: Its text in the list.
        parent: The checkpoint to compare it with; empty for a run's input, None if there is none.
    """

    name: str
    line: str
    parent: str | None = None


async def chosen_checkpoint(service: Service, title: str, command: str) -> str:
    """Let the user choose a checkpoint, for a command that was called without one.

    Args:
        service: The store.
        title: What it is chosen for, shown above the list.
        command: Name of the command, for the error message.

    Raises:
        UsageError: There is no terminal to choose on.
    """
    if not is_terminal():
        raise click.UsageError(
            f"name a run or a checkpoint, as in `supersteps {command} @latest` (there is no "
            "terminal to choose one on)"
        )
    return await pick_checkpoint(service, title)


async def pick_run(service: Service, title: str, *, terminal: Terminal | None = None) -> str:
    """Let the user choose a run.

    Args:
        service: Where the runs are.
        title: The heading: what is chosen, and for what.
        terminal: The user's terminal; stdin and stderr if None.

    Returns:
        The run's id.

    Raises:
        ReferenceNotFoundError: There are no runs.
        click.Abort: The user gave up.
    """
    runs = await service.list_runs(RunFilter(limit=_MOST_RUNS))
    if not runs:
        raise ReferenceNotFoundError(
            "there is nothing to choose from: the store has no runs yet. Start one first."
        )
    return await _Picker(
        [_run_item(run) for run in runs], title, "run", terminal or Terminal()
    ).pick()


async def pick_checkpoint(
    service: Service, title: str, *, run: str | None = None, terminal: Terminal | None = None
) -> str:
    """Let the user choose a run, if there are several, and one of its checkpoints.

    Args:
        service: Where the runs are.
        title: The heading: what is chosen, and for what.
        run: The run, if it is chosen already.
        terminal: The user's terminal; stdin and stderr if None.

    Returns:
        The checkpoint's id.

    Raises:
        ReferenceNotFoundError: There are no runs.
        click.Abort: The user gave up.
    """
    terminal = terminal or Terminal()
    if run is None:
        only = await service.list_runs(RunFilter(limit=2))
        run = (
            only[0].run_id
            if len(only) == 1
            else await pick_run(service, f"{title} First choose the run.", terminal=terminal)
        )
    log = await service.log(run, with_forks=False)
    items = [_checkpoint_item(entry) for entry in log.entries]
    # The head comes first, as the likeliest choice, although abandoned branches may have newer
    # checkpoints.
    items.sort(key=lambda item: item.name != log.run.head)
    picker = _Picker(
        items,
        f"{title} Checkpoints of run {log.run.run_id}:",
        "checkpoint",
        terminal,
        _changes_of(service),
    )
    return await picker.pick()


async def pick_question(
    service: Service, title: str, *, run: str | None = None, terminal: Terminal | None = None
) -> str:
    """Let the user choose a waiting question; a single one is chosen without asking.

    Args:
        service: Where the runs are.
        title: The heading: what is chosen, and for what.
        run: Only questions of this run.
        terminal: The user's terminal; stdin and stderr if None.

    Returns:
        The question, as RUN:REQUEST.

    Raises:
        ReferenceNotFoundError: No question is waiting.
        click.Abort: The user gave up.
    """
    waiting = await service.list_questions(run)
    if not waiting:
        of_run = "" if run is None else f" in run {run!r}"
        raise ReferenceNotFoundError(
            f"no question is waiting for an answer{of_run}: `supersteps runs` shows the state of "
            "all runs."
        )
    items = [_question_item(question) for question in waiting]
    if len(items) == 1:
        return items[0].name
    return await _Picker(items, title, "question", terminal or Terminal()).pick()


def _question_item(question: Question) -> Item:
    name = click.style(question.request_id, fg="yellow")
    line = (
        f"{name}  run {question.run_id}, {question.executor_id} asks: "
        f"{cut(plain(asked(question.data)), 80)}"
    )
    return Item(f"{question.run_id}:{question.request_id}", line)


def _run_item(run: RunSummary) -> Item:
    state = run_text(run)
    asks = (
        f", {count(len(run.requests), 'question')}"
        if run.requests and run.status != WorkflowRunState.CANCELLED
        else ""
    )
    name = click.style(run.run_id, fg="blue")
    return Item(
        run.run_id,
        f"{name}  {run.workflow_id}  {state} after superstep {run.step}{asks}, "
        f"{age(run.updated_at)} ago",
    )


def _checkpoint_item(entry: LogEntry) -> Item:
    mark = (
        click.style("(head)", fg="cyan", bold=True)
        if entry.is_head
        else f"(branch {entry.branch})" * bool(entry.branch)
    )
    return Item(
        entry.checkpoint_id,
        entry_line(entry, mark),
        entry.parent or ("" if entry.step == 0 else None),
    )


def _changes_of(service: Service) -> Callable[[Item], Awaitable[str]]:
    async def describe(item: Item) -> str:
        if item.parent is None:
            return "its changes are unknown: the checkpoints before it were pruned"
        if not item.parent:
            return "the input, before anything ran"
        try:
            return brief_changes(await service.diff(item.parent, item.name))
        except SuperstepsError:
            return "its changes are unknown: the checkpoint before it is missing or damaged"

    return describe


class _Picker:
    """Shows pages of a list and reads commands until an entry is chosen.

    Args:
        items: The entries, the likeliest first.
        title: The heading of the list.
        what: The noun for an entry.
        terminal: The user's terminal.
        describe: Returns more about an entry; called once for each entry on the screen.
    """

    def __init__(
        self,
        items: Sequence[Item],
        title: str,
        what: str,
        terminal: Terminal,
        describe: Callable[[Item], Awaitable[str]] | None = None,
    ) -> None:
        self._items = list(items)
        self._matching = self._items
        self._title = title
        self._what = what
        self._terminal = terminal
        self._describe = describe
        self._described: dict[str, str] = {}
        self._page = 0

    async def pick(self) -> str:
        """Return the name of the chosen entry.

        Raises:
            click.Abort: The user gave up.
        """
        self._terminal.write(click.style(self._title, bold=True))
        await self._show()
        while True:
            typed = self._terminal.read(self._prompt())
            chosen = self._chosen(typed)
            if chosen is not None:
                self._terminal.write(f"-> {chosen.name}")
                return chosen.name
            if self._turned(typed) or self._narrowed(typed):
                await self._show()

    def _prompt(self) -> str:
        pages = self._pages()
        turn = f", n/p page {self._page + 1} of {pages}" if pages > 1 else ""
        narrowed = ", / for all" if len(self._matching) < len(self._items) else ""
        first = self._page * PAGE + 1
        return f"number, id or words to search for{turn}{narrowed}, q to quit [{first}]: "

    def _chosen(self, typed: str) -> Item | None:
        if typed in ("q", "quit"):
            raise click.Abort
        if not typed:
            return self._matching[self._page * PAGE]
        exact = [item for item in self._items if item.name == typed]
        if exact:
            return exact[0]
        if typed.isdecimal() and 1 <= int(typed) <= len(self._matching):
            return self._matching[int(typed) - 1]
        beginning = [item for item in self._items if item.name.startswith(typed)]
        return beginning[0] if len(beginning) == 1 else None

    def _turned(self, typed: str) -> bool:
        """Turn the page or show all entries; return whether the input asked for that."""
        if typed in ("n", "p"):
            self._page = min(max(self._page + (1 if typed == "n" else -1), 0), self._pages() - 1)
        elif typed == "/":
            self._matching, self._page = self._items, 0
        else:
            return False
        return True

    def _narrowed(self, typed: str) -> bool:
        words = typed.lower().removeprefix("/").split()
        found = [
            item for item in self._items if all(word in self._searched(item) for word in words)
        ]
        if not found:
            self._terminal.write(f"no {self._what} contains {typed!r}")
            return False
        self._matching, self._page = found, 0
        return True

    def _searched(self, item: Item) -> str:
        return f"{click.unstyle(item.line)} {self._described.get(item.name, '')}".lower()

    def _pages(self) -> int:
        return -(-len(self._matching) // PAGE)

    async def _show(self) -> None:
        start = self._page * PAGE
        for number, item in enumerate(self._matching[start : start + PAGE], start + 1):
            self._terminal.write(f"{number:>4}  {item.line}")
            if self._describe is not None:
                if item.name not in self._described:
                    self._described[item.name] = await self._describe(item)
                self._terminal.write(
                    click.style(f"      {self._described[item.name]}", fg="bright_black")
                )
