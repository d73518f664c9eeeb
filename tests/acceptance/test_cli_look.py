"""Looking at runs and answering their questions from a command line: mostly in this process,
where it is the same.
"""

import asyncio
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Never

import pytest
from click.testing import CliRunner, Result

from supersteps import (
    Executor,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
)
from supersteps.cli.app import cli
from supersteps.cli.schema_text import in_words

SECONDS = 20


@dataclass
class Draft:
    text: str


@dataclass
class Verdict:
    approved: bool
    level: Literal["high", "low"] = "low"


class Editor(Executor):
    """Writes three lines, asks three questions, and fails where its input says so."""

    @handler
    async def write(self, number: int, ctx: WorkflowContext[int, str]) -> None:
        if number == 13:
            raise ValueError("the printer is on fire")
        await ctx.set_shared_state("count", number)
        await ctx.set_shared_state(
            "text", "\n".join(f"line {i}{'!' * (i == number)}" for i in range(5))
        )
        await ctx.yield_output(f"page {number}")
        if number < 3:
            await ctx.send_message(number + 1)
        elif number == 3:
            await ctx.request_info(Draft("a poem"), bool, request_id="good")
            await ctx.request_info(Draft("a poem"), Verdict, request_id="verdict")
            await ctx.request_info("What is it called?", str, request_id="title")

    @response_handler
    async def take_bool(self, asked: Draft, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"good: {answer}")

    @response_handler
    async def take_verdict(
        self, asked: Draft, answer: Verdict, ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"verdict: {answer}")

    @response_handler
    async def take_title(self, asked: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"title: {answer}")


def workflow_on(storage: SqliteCheckpointStorage) -> Workflow:
    editor = Editor("editor")
    builder = WorkflowBuilder(name="editing").set_start_executor(editor).add_edge(editor, editor)
    return builder.with_checkpointing(storage).build()


async def fill(path: Path) -> None:
    """A run that asks, a fork of it, one that failed, and a branch that the first has left."""
    async with SqliteCheckpointStorage(path) as storage:
        workflow = workflow_on(storage)
        await workflow.run(1, run_id="first")
        checkpoints = await storage.list_checkpoints(run_id="first")
        fork = workflow.fork(checkpoints[1], changes={"shared_state.count": 100}, run_id="other")
        await fork.wait_for_completion()
        await workflow.run_from_checkpoint(checkpoints[2].checkpoint_id)
        with pytest.raises(ValueError, match="on fire"):
            await workflow.run(13, run_id="broken")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "runs.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def store(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for each test, and the one that is meant."""
    path = tmp_path / "runs.db"
    path.write_bytes(filled.read_bytes())
    monkeypatch.setenv("SUPERSTEPS_STORE", f"sqlite:///{path}")
    monkeypatch.chdir(tmp_path)
    return path


def call(*arguments: str, typed: str | None = None) -> Result:
    """Call the command line here; errors of the library come out as they are."""
    return CliRunner().invoke(cli, arguments, input=typed)


def read(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def waiting() -> set[tuple[str, str]]:
    return {
        (one["run_id"], one["request_id"]) for one in json.loads(read("requests", "-o", "json"))
    }


ALL = {(run, question) for run in ("first", "other") for question in ("good", "verdict", "title")}


# --------------------------------------------------------------------------------------------- runs


def in_state(state: str) -> list[str]:
    return [run["run_id"] for run in json.loads(read("runs", "--status", state, "-o", "json"))]


@pytest.mark.usefixtures("store")
def test_runs_by_the_words_of_the_table() -> None:
    assert in_state("waiting") == in_state("idle_with_pending_requests") == ["other", "first"]
    assert in_state("failed") == in_state("FAILED") == ["broken"]
    assert in_state("done") == in_state("in progress") == in_state("stopped") == []
    refused = call("runs", "--status", "bogus")
    assert refused.exit_code == 2
    assert "choose from done, waiting, in-progress, stopped, failed, cancelled" in refused.stderr


@pytest.mark.usefixtures("store")
def test_a_run_that_no_process_drives_is_stopped() -> None:
    assert call("restore", "first@2", "--yes").exit_code == 0

    assert in_state("stopped") == ["first"]
    assert in_state("in-progress") == []
    assert re.search(r"^first +editing +stopped +2 ", read("runs"), re.MULTILINE)
    assert "first  editing, stopped after superstep 2" in read("log", "first")
    assert "state     stopped after superstep 2" in read("show", "first")


@pytest.mark.usefixtures("store")
def test_a_cancelled_run_asks_nothing() -> None:
    assert call("cancel", "other").exit_code == 0

    assert "other  editing   cancelled  3" in read("runs", "--status", "cancelled")
    assert "asks" not in read("runs", "--status", "cancelled")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["-x", "@latest"])
def test_no_run_is_called_what_commands_take_for_something_else(name: str) -> None:
    refused = call("fork", "first@2", f"--run-id={name}", "--no-run")

    assert refused.exit_code == 2
    assert f"'{name}' starts with '{name[0]}'" in refused.stderr


# --------------------------------------------------------------------------------------------- show


@pytest.mark.usefixtures("store")
def test_a_run_with_its_questions_and_how_to_answer_them() -> None:
    shown = read("show", "first")

    assert "state     waiting after superstep 3" in shown
    assert "head      first-000004, branch 1 (5 checkpoints in all)" in shown
    assert "good  editor asks for bool" in shown
    assert "answer: supersteps answer good 'true|false'" in shown
    assert """answer: supersteps answer verdict '{"approved": true}'""" in shown
    assert "  [2]  page 3" in shown
    assert "Forks\n  other" in shown
    assert "next  supersteps answer" in shown


@pytest.mark.usefixtures("store")
def test_a_failed_run_says_what_to_do() -> None:
    shown = read("show", "broken")

    assert "ValueError: the printer is on fire" in shown
    assert "supersteps resume broken" in shown
    assert "supersteps fork broken-000000" in shown


@pytest.mark.usefixtures("store")
def test_a_checkpoint() -> None:
    shown = read("show", "first@2")

    assert "checkpoint  first-000002" in shown
    assert "Messages in flight (1)\n  editor -> editor\n    3" in shown
    assert "count  2" in shown
    assert "text   line 0 line 1 line 2! line 3 line 4" in shown
    assert "text   line 0\n         line 1\n         line 2!" in read(
        "show", "first-000002", "--full"
    )
    assert "(--full shows everything)" not in shown


@pytest.mark.usefixtures("store")
def test_a_value_by_its_place() -> None:
    assert read("show", "first@2", "--path", "shared_state.count") == "2\n"
    assert json.loads(read("show", "first", "--path", "/outputs")) == ["page 1", "page 2", "page 3"]
    assert read("show", "first@2", "--path", "outputs", "-o", "jsonl") == '"page 1"\n"page 2"\n'


@pytest.mark.usefixtures("store")
def test_json_is_the_views() -> None:
    run, checkpoint = (
        json.loads(read("show", "first", "-o", "json")),
        json.loads(read("show", "first@1", "-o", "json")),
    )

    assert (run["run"]["run_id"], run["forks"]) == ("first", ["other"])
    assert checkpoint["content"]["shared_state"]["count"] == 1
    assert [
        json.loads(line)["step"] for line in read("log", "broken", "-o", "jsonl").splitlines()
    ] == [0]


# ---------------------------------------------------------------------------------------------- log


@pytest.mark.usefixtures("store")
def test_the_log_of_a_run_as_a_graph() -> None:
    lines = read("log", "first", "--graph").splitlines()

    assert lines[0] == "first  editing, waiting after superstep 3, 1 fork"
    drawn = [re.sub(r"  \d+ s ago$", "", line) for line in lines[2:]]
    assert drawn == [
        "●      first-000004  @3  (head)  editor  +1 output  asks good and 2 more  waiting",
        "│ ●    other-000002  @3  (fork other)  editor  +1 output  asks good and 2 more  waiting",
        "│ ●    other-000001  @2  editor  +1 output",
        "│ ●    other-000000  @1  forked from first-000001",
        "│ │ ●  first-000003  @3  editor  +1 output  asks good and 2 more  waiting",
        "├─│─╯",
        "● │    first-000002  @2  editor  +1 output",
        "├─╯",
        "●      first-000001  @1  editor  +1 output",
        "●      first-000000  @0  input",
    ]


@pytest.mark.usefixtures("store")
def test_less_of_a_log() -> None:
    assert "other" not in read("log", "first", "--no-forks")
    short = call("log", "first", "-n", "1")
    assert len(short.stdout.splitlines()) == 3
    assert "older checkpoints are not shown" in short.stderr
    assert "failed" in read("log", "broken")
    assert (
        read("log", "broken", "--graph").splitlines()[3] == "   ValueError: the printer is on fire"
    )
    assert read("log", "broken").splitlines()[3] == "ValueError: the printer is on fire"


# --------------------------------------------------------------------------------------------- diff


@pytest.mark.usefixtures("store")
def test_what_a_superstep_changed() -> None:
    shown = read("diff", "first@2")

    assert shown.startswith("--- first-000001\n+++ first-000002\n")
    assert "  ~ editor -> editor: 2 -> 3\n" in shown
    assert "  ~ count: 1 -> 2\n" in shown
    assert "    -line 1!\n" in shown
    assert '  + [1]: "page 2"\n' in shown


@pytest.mark.usefixtures("store")
def test_a_fork_is_compared_with_what_it_was_forked_from() -> None:
    assert "  ~ count: 1 -> 100" in read("diff", "other-000000")


@pytest.mark.usefixtures("store")
def test_a_json_patch() -> None:
    patch = json.loads(read("diff", "first@1", "first@2", "--patch"))

    assert {"op": "replace", "path": "/shared_state/count", "value": 2} in patch
    assert json.loads(read("diff", "first@1", "first@2", "-o", "json")) == patch


@pytest.mark.usefixtures("store")
def test_nothing_differs() -> None:
    assert (
        read("diff", "first@2", "first-000002", "--exit-code")
        == "first-000002 and first-000002 are equal\n"
    )
    assert call("diff", "first@2", "--exit-code").exit_code == 1


@pytest.mark.usefixtures("store")
def test_without_a_terminal_a_checkpoint_has_to_be_named() -> None:
    result = call("diff")

    assert result.exit_code == 2
    assert "supersteps diff A [B]" in result.stderr


# ----------------------------------------------------------------------------------------- requests


@pytest.mark.usefixtures("store")
def test_the_questions() -> None:
    assert waiting() == ALL
    (row,) = [line for line in read("requests", "first").splitlines() if line.startswith("title")]
    assert row.split()[:3] == ["title", "first", "editor"]
    assert row.endswith("What is it called?")
    (asked,) = [
        one
        for one in json.loads(read("requests", "first", "-o", "json"))
        if one["request_id"] == "verdict"
    ]
    assert in_words(asked["response_schema"]).startswith("an object with approved (true or false)")
    assert call("requests", "broken").stderr == "no questions are waiting\n"
    assert json.loads(read("requests", "--workflow", "another", "-o", "json")) == []


@pytest.mark.usefixtures("store")
def test_an_answer() -> None:
    result = call("answer", "first:good", "true")

    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "request good is answered: true",
        "continue the run: supersteps resume first",
    ]
    assert waiting() == ALL - {("first", "good")}
    assert "answered  1 question: the answers are used when the run is resumed" in read(
        "show", "first"
    )


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("value", "typed", "taken"), [("42", None, '"42"'), ("-", "it is\nlong\n", '"it is\\nlong"')]
)
def test_text_is_text(value: str, typed: str | None, taken: str) -> None:
    result = call("answer", "title", value, "--run", "other", typed=typed)

    assert result.exit_code == 0
    assert f"request title is answered: {taken}" in result.stderr
    assert ("taken as text" in result.stderr) == (value == "42")


@pytest.mark.usefixtures("store")
def test_a_mistyped_option_is_not_an_answer() -> None:
    assert call("answer", "first:title", "--cancle").exit_code == 2
    assert waiting() == ALL
    assert call("answer", "first:title", "--", "--a title--").exit_code == 0


@pytest.mark.usefixtures("store")
def test_without_a_terminal_a_question_has_to_be_named() -> None:
    refused = call("answer")

    assert refused.exit_code == 2
    assert "supersteps answer REQUEST VALUE" in refused.stderr


@pytest.mark.usefixtures("store")
def test_a_question_is_cancelled() -> None:
    assert call("answer", "first:good", "--cancel").exit_code == 0
    assert waiting() == ALL - {("first", "good")}
    assert call("answer", "first:good", "--cancel", "true").exit_code == 2


def command_line(*arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "supersteps", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["answer", "first:good", "maybe"], "Expected: true or false"),
        (["answer", "first:good", "3"], "3 is not of type 'boolean'"),
        (["answer", "first:good", "-3.5"], "-3.5 is not of type 'boolean'"),
        (["answer", "first:good"], '{"type": "boolean"}'),
        (["answer", "good", "true"], "first:good"),
        (["answer", "nothing-like-this", "1"], "nothing-like-this"),
        (["answer", "first:verdict", '{"approved": 1}'], "$.approved"),
    ],
)
def test_refused_answers_change_nothing(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from supersteps.cli import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert waiting() == ALL


@pytest.mark.usefixtures("store")
def test_an_answer_comes_twice(capsys: pytest.CaptureFixture[str]) -> None:
    from supersteps.cli import main

    assert call("answer", "good", "true", "--run", "first").exit_code == 0
    with pytest.raises(SystemExit) as ended:
        main(["answer", "good", "false", "--run", "first"])

    assert ended.value.code == 2
    assert "was answered at" in capsys.readouterr().err


def test_an_answer_that_was_taken(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from supersteps.cli import main

    async def go_on() -> None:
        async with SqliteCheckpointStorage(store) as storage:
            for head in ("other-000002", "first-000004"):
                await workflow_on(storage).run_from_checkpoint(head)

    for run in ("other", "first"):
        for question, value in (
            ("good", "true"),
            ("verdict", '{"approved": true}'),
            ("title", "Sea"),
        ):
            assert re.search(rf"{run} .* waiting .* asks (good|verdict|title)", read("runs"))
            assert call("answer", f"{run}:{question}", value).exit_code == 0
        assert re.search(
            rf"{run} +editing +waiting +3 .* answered: resume it\n",
            read("runs", "--status", "waiting"),
        )
    asyncio.run(go_on())

    with pytest.raises(SystemExit) as ended:
        main(["answer", "good", "false"])
    assert ended.value.code == 2
    assert "request 'good' of run 'other' was answered in superstep 4" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_a_reference_with_several_meanings_says_states_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from supersteps.cli import main

    assert call("export", "first").exit_code == 0
    assert call("import", "first.jsonl", "--run-id", "firstling").exit_code == 0
    assert call("restore", "firstling@2", "--yes").exit_code == 0
    with pytest.raises(SystemExit):
        main(["log", "firs"])
    error = capsys.readouterr().err
    assert "first (editing, waiting, " in error
    assert "firstling (editing, stopped, " in error


# ---------------------------------------------------------------------------------- other processes


@pytest.mark.usefixtures("store")
def test_what_is_piped_has_no_colors() -> None:
    shown = command_line("log", "first", "--graph")

    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout


@pytest.mark.usefixtures("store")
def test_an_answer_from_stdin() -> None:
    answered = command_line(
        "answer", "first:verdict", "-", typed='{"approved": true, "level": "high"}\n'
    )

    assert answered.returncode == 0, answered.stderr
    assert waiting() == ALL - {("first", "verdict")}


class Session:
    """A command at a terminal of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.seen = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ.update({"TERM": "xterm", **environment})
            os.execv(sys.executable, [sys.executable, "-m", "supersteps", *arguments])

    def type(self, after: str, typed: str) -> None:
        """Type once something has been shown since the last time."""
        start = len(self.seen)
        deadline = time.monotonic() + SECONDS
        while after not in self.seen[start:]:
            self._check(deadline)
            assert self._read() is not False, f"it ended before {after!r}: {self.seen}"
        os.write(self._terminal, typed.encode())

    def end(self, again: str = "", until: str = "") -> int:
        """Return the exit code once it has ended.

        A signal that comes between the prompt and the wait for input is only seen with the next
        key, in any Python program: `again` is typed until it is, which `until` tells. A further one
        would kill an interpreter that is about to exit, and has put the signal's default back.
        """
        deadline = time.monotonic() + SECONDS
        while (found := self._read()) is not False:
            self._check(deadline)
            if found is None and again and until not in self.seen:
                os.write(self._terminal, again.encode())
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            pytest.fail(f"it waits for something else: {self.seen}")

    def _read(self) -> bool | None:
        """Take what is shown: whether there was something before the end, None where nothing came
        for a while.
        """
        ready, _, _ = select.select([self._terminal], [], [], 0.5)
        if not ready:
            return None
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the other side has closed it
            data = b""
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.mark.usefixtures("store")
def test_a_graph_fits_the_terminal() -> None:
    session = Session("log", "first", "--graph", NO_COLOR="1", COLUMNS="40", LINES="30")

    assert session.end() == 0
    lines = session.seen.replace("\r", "").splitlines()
    assert max(map(len, lines[2:])) == 40
    assert "│ ●    other-000002  @3  (fork other)  …" in lines
    assert "├─│─╯" in lines


@pytest.mark.usefixtures("store")
def test_asked_at_a_terminal() -> None:
    session = Session("answer", "first:verdict")
    session.type("approved (y/n): ", "perhaps\r")
    session.type("type y or n", "y\r")
    session.type('Enter for "low"', "high\r")

    assert session.end() == 0
    assert "an object with approved" in session.seen
    assert 'request verdict is answered: {"approved": true, "level": "high"}' in session.seen
    assert waiting() == ALL - {("first", "verdict")}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_leaving_a_question_changes_nothing(key: str) -> None:
    session = Session("answer", "first:verdict")
    session.type("approved (y/n): ", "y\r")
    session.type('Enter for "low"', key)

    assert session.end(again=key, until="nothing was changed") == 130
    assert "nothing was changed" in session.seen
    assert waiting() == ALL


@pytest.mark.usefixtures("store")
def test_the_picker_at_a_terminal() -> None:
    session = Session("diff", NO_COLOR="1")
    session.type("q to quit", "first\r")
    session.type("q to quit", "@1\r")
    session.type("/ for all", "1\r")
    session.type("First choose the run", "other\r")
    session.type("q to quit", "other-000000\r")

    assert session.end() == 0
    assert "~ count: 1 -> 100" in session.seen
    assert "\x1b[3" not in session.seen


@pytest.mark.usefixtures("store")
def test_giving_up_in_the_picker() -> None:
    session = Session("diff")
    session.type("q to quit", "q\r")

    assert session.end() == 130


# --------------------------------------------------------------------------------------- completion


def completed(*typed: str) -> list[str]:
    words = ["supersteps", *typed]
    environment = {
        "_SUPERSTEPS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    shown = CliRunner(env=environment).invoke(cli, prog_name="supersteps").stdout
    return [line.partition(",")[2] for line in shown.splitlines() if line]


@pytest.mark.usefixtures("store")
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("supersteps comp", ["completion"]),
        ("supersteps show fi", ["first"]),
        ("supersteps show first@", ["3", "2", "1", "0"]),  # bash replaces what is behind the @
        ("supersteps answer other:t", ["title"]),
        ("supersteps runs --status=wai", ["waiting"]),
        ("supersteps --help sh", ["show"]),
        ("supersteps log  bro", ["broken"]),
        ("supersteps show --store sqlite:///runs.db o", ["other"]),
    ],
)
def test_bash_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    """The script as bash calls it, with words taken apart as bash does."""
    program = tmp_path / "supersteps"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m supersteps "$@"\n')
    program.chmod(0o755)
    words = [word for word in re.split(r"([:@=]+)|\s+", line) if word]
    script = "\n".join(
        [
            "compopt() { :; }",
            read("completion", "bash"),
            f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}",
            f"COMP_WORDS=({shlex.join(words)})",
            f"_supersteps_completion {shlex.quote(str(program))}",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    shown = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=SECONDS
    )

    assert shown.stdout.splitlines() == offered, shown.stderr


@pytest.mark.usefixtures("store")
def test_ids_are_completed() -> None:
    assert completed("show", "f") == ["first"]
    assert completed("show", "first@") == ["first@3", "first@2", "first@1", "first@0"]
    assert "first-000003" in completed("diff", "first-")
    assert completed("log", "") == ["broken", "other", "first"]
    assert set(completed("answer", "t")) == {"title"}


def test_completion_is_quiet_without_a_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SUPERSTEPS_STORE", f"sqlite:///{tmp_path}/nothing.db")

    assert completed("show", "f") == []
