"""Choosing at a terminal, with a person who types lines."""

import re

import click
import pytest

from supersteps import RetentionPolicy, WorkflowBuilder, WorkflowContext, executor
from supersteps.cli import picker
from supersteps.cli.picker import pick_checkpoint, pick_question, pick_run
from supersteps.cli.prompt import Terminal
from supersteps.service.errors import ReferenceNotFoundError
from supersteps.service.service import Service
from supersteps.storage.memory import InMemoryCheckpointStorage
from tests.unit.support import built, shout_workflow
from tests.unit.test_cli_asking import Person
from tests.unit.test_service_references import asking


@executor
async def count(left: int, ctx: WorkflowContext[int, int]) -> None:
    await ctx.set_shared_state("left", left)
    await (ctx.send_message(left - 1) if left else ctx.yield_output(0))


async def store(*names: str, steps: int = 3) -> Service:
    storage = InMemoryCheckpointStorage()
    for name in names:
        await built(
            WorkflowBuilder(name="count").add_edge(count, count), count, storage=storage
        ).run(steps, run_id=name)
    return Service(storage)


def shown(person: Person) -> list[str]:
    """The ids of the numbered lines, since the last prompt or before it."""
    return [
        match[1]
        for line in person.seen
        if (match := re.match(r" *\d+  (\S+)", click.unstyle(line)))
    ]


async def test_enter_takes_the_newest_run() -> None:
    person = Person("")

    assert (
        await pick_run(await store("one", "two"), "Resume which run?", terminal=person.terminal)
        == "two"
    )
    assert click.unstyle(person.seen[0]) == "Resume which run?"
    assert shown(person) == ["two", "one"]
    assert person.prompts == ["number, id or words to search for, q to quit [1]: "]


@pytest.mark.parametrize("typed", ["2", "one", "on"])
async def test_a_run_by_number_id_or_beginning(typed: str) -> None:
    service = await store("one", "two")

    assert await pick_run(service, "?", terminal=Person(typed).terminal) == "one"


async def test_words_narrow_the_list() -> None:
    service = await store("red-fox", "blue-fox", "red-owl")
    person = Person("nothing like it", "fox", "FOX red", "")

    assert await pick_run(service, "?", terminal=person.terminal) == "red-fox"
    assert person.seen.count("no run contains 'nothing like it'") == 1
    assert shown(person) == ["red-owl", "blue-fox", "red-fox", "blue-fox", "red-fox", "red-fox"]
    assert "/ for all" in person.prompts[-1]


async def test_back_to_all() -> None:
    service = await store("red-fox", "blue-fox", "red-owl")

    assert await pick_run(service, "?", terminal=Person("fox", "/", "").terminal) == "red-owl"


async def test_a_run_then_a_checkpoint_with_what_changed() -> None:
    service = await store("one", "two")
    person = Person("one", "@1", "1")

    chosen = await pick_checkpoint(service, "Fork from which checkpoint?", terminal=person.terminal)

    assert chosen == "one-000001"
    told = [click.unstyle(line).strip() for line in person.seen]
    assert "Fork from which checkpoint? First choose the run." in told
    assert "the input, before anything ran" in told
    assert any(line.startswith("messages ~1") for line in told), told


async def test_the_only_run_is_not_asked_for() -> None:
    person = Person("")

    assert await pick_checkpoint(await store("one"), "?", terminal=person.terminal) == "one-000004"


async def test_the_head_comes_first_after_a_restore() -> None:
    service = await store("one")
    await service.restore("one@1")

    head = (await service.find_run("one")).head
    assert await pick_checkpoint(service, "?", terminal=Person("").terminal) == head


async def test_pages_and_only_what_is_on_the_screen_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = await store("one", steps=40)
    compared = []
    diff = service.diff

    async def counted(before: str, after: str) -> object:
        compared.append(after)
        return await diff(before, after)

    monkeypatch.setattr(service, "diff", counted)
    person = Person("n", "p", "p", "n", "n", "n", "")

    chosen = await pick_checkpoint(service, "?", run="one", terminal=person.terminal)

    assert chosen == "one-000011"  # the first on the last of three pages
    assert len(compared) == len(set(compared)) == 41
    assert "page 1 of 3" in person.prompts[0]
    assert "[31]" in person.prompts[-1]


async def test_nothing_is_compared_before_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    service = await store("one", steps=40)
    compared = []

    async def counted(before: str, after: str) -> list[object]:
        compared.append(after)
        return []

    monkeypatch.setattr(service, "diff", counted)

    await pick_checkpoint(service, "?", run="one", terminal=Person("").terminal)

    assert len(compared) == picker.PAGE


async def test_a_number_beyond_the_page_is_one_of_the_whole_list() -> None:
    service = await store("one", steps=40)

    assert (
        await pick_checkpoint(service, "?", run="one", terminal=Person("42").terminal)
        == "one-000000"
    )


async def test_a_parent_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    service = await store("one")
    await service.storage.delete_checkpoint("one-000001")
    person = Person("")

    await pick_checkpoint(service, "?", terminal=person.terminal)

    assert shown(person)[0] == "one-000004"


async def test_what_was_pruned_before_a_checkpoint_is_not_the_input() -> None:
    service = await store("one")
    await service.storage.prune("one", RetentionPolicy(keep_last=2))
    person = Person("")

    await pick_checkpoint(service, "?", terminal=person.terminal)

    assert "the checkpoints before it were pruned" in person.seen[-2]


async def test_the_only_question_is_not_asked_for() -> None:
    service = await asking(InMemoryCheckpointStorage(), one=["q"])

    assert await pick_question(service, "?", terminal=Person().terminal) == "one:q"


async def test_a_question_of_several() -> None:
    service = await asking(InMemoryCheckpointStorage(), one=["q", "r"], two=["q"])

    assert await pick_question(service, "?", terminal=Person("3").terminal) == "two:q"
    assert await pick_question(service, "?", terminal=Person("two", "").terminal) == "two:q"
    assert await pick_question(service, "?", run="one", terminal=Person("2").terminal) == "one:r"


async def test_no_questions() -> None:
    with pytest.raises(ReferenceNotFoundError, match="no question is waiting for an answer"):
        await pick_question(await store("one"), "?", terminal=Person().terminal)


async def test_no_runs() -> None:
    with pytest.raises(ReferenceNotFoundError, match="no runs yet"):
        await pick_checkpoint(Service(InMemoryCheckpointStorage()), "?", terminal=Person().terminal)


@pytest.mark.parametrize("leaving", ["q", "quit", EOFError(), KeyboardInterrupt()])
async def test_leaving(leaving: str | BaseException) -> None:
    service = await store("one", "two")

    with pytest.raises(click.Abort):
        await pick_run(service, "?", terminal=Person(leaving).terminal)


async def test_other_workflows_are_found_by_their_name() -> None:
    service = await store("one", "two")
    await shout_workflow(storage=service.storage).run("x", run_id="three")

    assert await pick_run(service, "?", terminal=Person("count", "").terminal) == "two"


def test_the_default_terminal_reads_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: f" {prompt} ")
    terminal = Terminal()
    terminal.write("shown")

    assert terminal.read("typed") == "typed"
    assert capsys.readouterr().err == "shown\n"
