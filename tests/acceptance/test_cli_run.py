"""`supersteps run`, `resume`, `fork` and `tail` as people and scripts use them: real processes,
killed and stopped.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.killing import DEADLINE, await_calls, calls, needs_sigkill

pytestmark = pytest.mark.slow

COUNT = """
import asyncio
import warnings
from pathlib import Path
from typing import Never

from supersteps import FailurePolicy, WorkflowBuilder, WorkflowContext, executor

@executor
async def count(number: int, ctx: WorkflowContext[int, str | list[int]]) -> None:
    with Path("calls").open("a") as file:
        file.write(f"{number}\\n")
    if number == 13 and not Path("mended").exists():
        raise ValueError("thirteen\\nis unlucky")
    await asyncio.sleep(0.02)
    if number < 20:
        await ctx.send_message(number + 1)
    else:
        await ctx.yield_output(f"counted to {number}")
        await ctx.yield_output([number])

workflow = WorkflowBuilder(name="count").set_start_executor(count).add_edge(count, count).build()

@executor
async def loud(text: str, ctx: WorkflowContext[Never, str]) -> None:
    warnings.warn("a user's own", stacklevel=1)
    await ctx.yield_output(text.upper())

shout = WorkflowBuilder(name="shout").set_start_executor(loud).build()

@executor
async def lost(text: str, ctx: WorkflowContext[int]) -> None:
    await ctx.send_message(1)

losing = (WorkflowBuilder(name="losing").set_start_executor(lost)
          .add_edge(lost, count, condition=lambda message: False).build())
"""

FLAKY = """
from typing import Never

from supersteps import FailurePolicy, WorkflowBuilder, WorkflowContext, executor

failing = ["gone"]

@executor
async def web(text: str, ctx: WorkflowContext[Never, str]) -> None:
    if failing:
        raise OSError(failing.pop())
    await ctx.yield_output(text)

workflow = (WorkflowBuilder(name="flaky").set_start_executor(web)
            .with_failure_policy(web, FailurePolicy(max_attempts=3, backoff=0.3)).build())
"""

REVIEW = """
import asyncio
from dataclasses import dataclass
from typing import Never

from supersteps import (Executor, SqliteCheckpointStorage, WorkflowBuilder, WorkflowContext,
                        handler, response_handler)

@dataclass
class Topic:
    name: str

@dataclass
class Approval:
    draft: str

class Editor(Executor):
    @handler
    async def write(self, topic: Topic, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info(Approval(f"A text about {topic.name}"), bool)

    @response_handler
    async def act(self, asked: Approval, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{'published' if approved else 'dropped'}: {asked.draft}")

workflow = (WorkflowBuilder(name="review").set_start_executor(Editor("editor"))
            .with_checkpointing(SqliteCheckpointStorage("review.db")).build())

if __name__ == "__main__":
    print(asyncio.run(workflow.run(Topic("tides"), run_id="r", if_exists="attach")).get_outputs())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(COUNT)
    (tmp_path / "review.py").write_text(REVIEW)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    return tmp_path


def launch(
    folder: Path, *arguments: str, stdin: int | None = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(**more: str) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERSTEPS_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


def cli(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return launch(folder, "-m", "supersteps", *arguments)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, out, errors


def do(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return ended(cli(folder, *arguments))


def printed_command(errors: str, beginning: str) -> list[str]:
    """Return the arguments of a command that was printed, as a shell would split it."""
    (found,) = (line for line in errors.splitlines() if beginning in line)
    words = shlex.split(found[found.index(beginning) :])
    assert words[0] == "supersteps"
    return words[1:]


# -------------------------------------------------------------------------------------- a run's end


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_progress_moves_and_stdout_stays_clean(folder: Path) -> None:
    import pty

    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "supersteps",
            "run",
            "flow:workflow",
            "15",
            "--store",
            "runs.db",
            "--run-id",
            "r",
        ],
        cwd=folder,
        env={**environment(TERM="xterm"), "NO_COLOR": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    os.close(stderr)
    shown = b""
    try:
        while piece := os.read(terminal, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(terminal)

    assert ended(process)[:2] == (0, "counted to 20\n[20]\n")
    text = shown.decode()
    assert "superstep 1: count" in text
    assert "\x1b[2K" in text  # a line that is written again
    assert "done: run r after 6 supersteps in " in text
    assert text.rindex("\x1b[?25h") < text.index(
        "done: "
    )  # the cursor is back before the last word


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_ctrl_c_is_answered_at_once_above_the_progress(folder: Path) -> None:
    import pty

    (folder / "slow.py").write_text(COUNT.replace("0.02", "60"))
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "supersteps",
            "run",
            "slow:workflow",
            "15",
            "--store",
            "runs.db",
            "--run-id",
            "r",
        ],
        cwd=folder,
        env={**environment(TERM="xterm", COLUMNS="120"), "NO_COLOR": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell ignores it in the background
    )
    os.close(stderr)
    guard = threading.Timer(DEADLINE, process.kill)
    guard.start()
    await_calls(process, folder, 1)
    process.send_signal(signal.SIGINT)
    shown = b""
    told = b"stopping after superstep 1; press Ctrl-C again to stop at once"
    is_stopped = False
    try:
        while piece := os.read(terminal, 65536):
            shown += piece
            if told in shown and not is_stopped:
                is_stopped = True
                process.send_signal(signal.SIGINT)
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    guard.cancel()

    assert ended(process)[0] == 130
    text = shown.decode()
    assert text[: text.index("stopping after")].endswith(
        "\x1b[2K\x1b[2m"
    )  # on the line of the display, wiped before
    assert "stopped at once: run r in superstep 1" in text[text.index("stopping after") :]


def test_outputs_go_to_stdout_and_all_else_to_stderr(folder: Path) -> None:
    code, out, errors = do(
        folder, "run", "flow:workflow", "18", "--store", "runs.db", "--run-id", "r"
    )

    assert (code, out) == (0, "counted to 20\n[20]\n")
    lines = errors.splitlines()
    assert lines[0] == "run r"
    assert lines[1].startswith("superstep 1: count  (")
    assert lines[3].endswith("  2 outputs")
    assert lines[4].startswith("done: run r after 3 supersteps in ")
    assert len(lines) == 5


def test_the_outcome_as_json(folder: Path) -> None:
    code, out, errors = do(
        folder, "run", "flow.py:workflow", "19", "--store", "runs.db", "-q", "-o", "json"
    )

    outcome = json.loads(out)
    assert code == 0
    assert (outcome["status"], outcome["step"], outcome["outputs"]) == (
        "IDLE",
        2,
        ["counted to 20", [20]],
    )
    assert errors.startswith("done: run ")
    assert len(errors.splitlines()) == 1


def test_without_a_store_it_runs_and_says_so(folder: Path) -> None:
    code, out, errors = do(folder, "run", "flow:workflow", "20")

    assert (code, out) == (0, "counted to 20\n[20]\n")
    assert errors.splitlines()[0].startswith(
        "note: this run is not stored, so it cannot be resumed; pass --store "
    )
    assert errors.splitlines()[-1].startswith("done: ")
    assert "after 1 superstep in" in errors


def test_input_comes_from_stdin_and_the_workflow_from_the_project(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.supersteps]\napp = "flow:shout"\nstore = "runs.db"\n'
    )

    process = launch(folder, "-m", "supersteps", "run", "-", stdin=subprocess.PIPE)
    out, errors = process.communicate("hello: world\n", timeout=DEADLINE)
    assert (process.returncode, out) == (0, "HELLO: WORLD\n"), errors
    # A warning of the user's code takes one line, and does not show the source.
    assert [line for line in errors.splitlines() if "own" in line] == [
        "warning: a user's own (flow.py, line 26)"
    ]

    assert do(folder, "run", "some text")[1] == "SOME TEXT\n"
    assert do(folder, "run", "flow:workflow", "20")[1] == "counted to 20\n[20]\n"
    assert do(folder, "resume", "@latest")[0] == 2  # of another workflow than the project's


def test_a_lost_message_is_reported_once(folder: Path) -> None:
    code, out, errors = do(folder, "run", "flow:losing", "x", "--store", "runs.db")

    assert (code, out) == (0, "")
    assert len([line for line in errors.splitlines() if line.startswith("warning: ")]) == 1


def test_a_failure_says_where_and_how_to_continue(folder: Path) -> None:
    code, out, errors = do(
        folder, "run", "flow:workflow", "12", "--store", "my runs.db", "--run-id", "r", "-q"
    )

    assert (code, out) == (1, "")
    failed, advice = errors.splitlines()
    assert failed.startswith(
        "failed: run r in superstep 2, executor count: ValueError: thirteen is unlucky (flow.py, "
    )
    assert advice.endswith("continue: supersteps resume r --app flow:workflow --store 'my runs.db'")

    (folder / "mended").touch()
    code, out, errors = do(folder, *printed_command(errors, "supersteps resume"))
    assert (code, out) == (0, "counted to 20\n[20]\n")
    assert errors.splitlines()[1].startswith("superstep 2: ")

    code, out, errors = do(folder, "resume", "r", "--app", "flow:workflow", "--store", "my runs.db")
    assert (code, out) == (0, "counted to 20\n[20]\n")
    assert errors == "run r is done already; nothing was run\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run"], "name a workflow"),
        (["run", "nothing:workflow"], "there is no module 'nothing'"),
        (["run", "broken:workflow"], "broken cannot be imported: ModuleNotFoundError"),
        (["run", "flow:nothing"], "flow has no 'nothing'"),
        (["run", "flow:workflow", "many"], "takes int, and 'many' does not fit"),
        (["run", "flow:workflow", "1", "--attach"], "--attach needs --run-id"),
        (["run", "flow:workflow", "1", "--meta", "x"], "not of the form KEY=JSON"),
        (["resume"], "no store is named"),
        (["resume", "@latest", "--store", "none.db"], "there is no store at none.db"),
    ],
)
def test_wrong_use(folder: Path, arguments: list[str], text: str) -> None:
    code, out, errors = do(folder, *arguments)

    assert (code, out) == (2, "")
    assert text in errors
    assert "Traceback" not in errors
    assert not (folder / "none.db").exists()


def test_starting_is_idempotent_with_attach(folder: Path) -> None:
    arguments = ["run", "flow:workflow", "20", "--store", "runs.db", "--run-id", "r"]
    assert do(folder, *arguments)[0] == 0

    code, out, errors = do(folder, *arguments)
    assert (code, out) == (2, "")
    assert errors == "error: run 'r' exists already: pass --attach to continue it\n"
    code, out, errors = do(folder, *arguments, "--attach")
    assert (code, out) == (0, "counted to 20\n[20]\n")
    assert calls(folder) == ["20"]


def test_a_limit_is_reached_and_raised(folder: Path) -> None:
    code, out, errors = do(
        folder, "run", "flow:workflow", "15", "--store", "runs.db", "--max-iterations", "2", "-q"
    )
    assert (code, out) == (1, "")
    resume = printed_command(errors, "supersteps resume")
    assert resume[-2:] == ["--max-iterations", "N"]

    assert do(folder, *resume[:-1], "9")[:2] == (0, "counted to 20\n[20]\n")


def test_no_checkpoint_is_chosen_without_a_terminal(folder: Path) -> None:
    do(folder, "run", "flow:workflow", "20", "--store", "runs.db")

    for command in ("resume", "fork"):
        code, out, errors = do(folder, command, "--app", "flow:workflow", "--store", "runs.db")
        assert (code, out) == (2, "")
        assert f"`supersteps {command} @latest`" in errors


# --------------------------------------------------------------------------------------- questions


def test_the_printed_commands_answer_and_continue_the_run(folder: Path) -> None:
    code, out, errors = do(folder, "run", "review:workflow", '{"name": "tides"}', "-q")
    assert (code, out) == (3, "")
    assert 'editor asks: Approval(draft="A text about tides")  (answer: ' in errors

    answer = printed_command(errors, "supersteps answer")
    resume = printed_command(errors, "supersteps resume")
    assert do(folder, *resume)[0] == 3
    assert do(folder, *["true" if word == "VALUE" else word for word in answer])[0] == 0
    assert do(folder, *resume)[:2] == (0, "published: A text about tides\n")


def test_an_answer_is_given_while_resuming(folder: Path) -> None:
    do(folder, "run", "review:workflow", '{"name": "tides"}')
    resume = ["resume", "@latest", "--app", "review:workflow"]

    assert do(folder, *resume, "--answer", "@latest=perhaps")[0] == 2
    assert do(folder, *resume, "--answer", "nothing=true")[0] == 2
    assert do(folder, *resume, "--answer", "@latest=true")[:2] == (
        0,
        "published: A text about tides\n",
    )
    # From the checkpoint before, on a new branch, with another answer.
    code, out, errors = do(folder, "resume", "@latest@1", *resume[2:], "--answer", "@latest=false")
    assert (code, out) == (0, "dropped: A text about tides\n"), errors


def test_the_command_line_continues_a_run_of_a_script(folder: Path) -> None:
    code, out, errors = ended(launch(folder, "review.py"))
    assert (code, out) == (0, "[]\n"), errors

    code, out, errors = do(
        folder, "resume", "r", "--app", "review:workflow", "--answer", "@latest=true"
    )
    assert (code, out) == (0, "published: A text about tides\n"), errors


@pytest.mark.parametrize("script", [["review.py"], ["-m", "review"], ["flows/review.py"]])
def test_a_script_continues_a_run_of_the_command_line(folder: Path, script: list[str]) -> None:
    app = "review:workflow"
    if script == ["flows/review.py"]:  # as a part of a package it has another name than as a file
        (folder / "flows").mkdir()
        (folder / "review.py").rename(folder / "flows/review.py")
        app = "flows.review:workflow"
    assert do(folder, "run", app, '{"name": "moons"}', "--run-id", "r")[0] == 3
    assert do(folder, "answer", "@latest", "true", "--store", "review.db")[0] == 0

    code, out, errors = ended(launch(folder, *script))
    assert (code, out) == (0, "['published: A text about moons']\n"), errors


def test_a_class_of_another_file_is_another_class(folder: Path) -> None:
    (folder / "other.py").write_text(REVIEW)
    do(folder, "run", "review:workflow", '{"name": "moons"}', "--run-id", "r")

    code, out, errors = ended(launch(folder, "other.py"))
    assert (code, out) == (1, "")
    assert "executor 'editor' handled review.Topic and now handles __main__.Topic" in errors


# ------------------------------------------------------------------------------- killed and stopped


@needs_sigkill
def test_killed_in_the_middle_and_resumed(folder: Path) -> None:
    process = cli(folder, "run", "flow:workflow", "-q", "--store", "runs.db", "--", "0")
    (folder / "mended").touch()
    await_calls(process, folder, 7)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL

    code, out, errors = do(
        folder, "resume", "@latest", "--app", "flow:workflow", "--store", "runs.db"
    )
    assert (code, out) == (0, "counted to 20\n[20]\n"), errors
    assert "after 21 supersteps" in errors
    assert {*calls(folder)} == {str(number) for number in range(21)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_printed_command_continues(
    folder: Path, number: signal.Signals
) -> None:
    (folder / "mended").touch()
    process = cli(folder, "run", "flow:workflow", "0", "--store", "runs.db")
    await_calls(process, folder, 5)
    process.send_signal(number)
    code, out, errors = ended(process)
    assert (code, out) == (128 + number, ""), errors
    assert f"stopped by {number.name}: run " in errors
    again = "press Ctrl-C" if number == signal.SIGINT else "send SIGTERM"
    said = [line for line in errors.split("\n") if line.startswith("stopping after superstep ")]
    assert all(line.endswith(f"; {again} again to stop at once") for line in said)

    code, out, errors = do(folder, *printed_command(errors, "supersteps resume"))
    assert (code, out) == (0, "counted to 20\n[20]\n"), errors
    assert sorted(map(int, calls(folder))) == [*range(21)]  # nothing was done twice


# --------------------------------------------------------------------------------- forks, followers


def test_a_fork_with_changes(folder: Path) -> None:
    where = ["--app", "flow:workflow", "--store", "runs.db"]
    do(folder, "run", "flow:workflow", "19", "--store", "runs.db", "--run-id", "first")

    code, out, errors = do(
        folder, "fork", "first@1", "--set", "messages.0=30", "--run-id", "second", *where
    )
    assert (code, out) == (0, "counted to 30\n[30]\n"), errors
    assert errors.splitlines()[0] == "run second, forked from run first after superstep 1"

    code, out, errors = do(folder, "fork", "first@0", "--set", "input=20", "--no-run", *where)
    assert (code, out) == (0, "")
    assert calls(folder) == ["19", "20", "30"]
    assert do(folder, *printed_command(errors, "supersteps resume"))[:2] == (
        0,
        "counted to 20\n[20]\n",
    )

    code, out, errors = do(folder, "fork", "first@1", "--set", "shared_stat.x=1", *where)
    assert (code, out) == (2, "")
    assert "Nothing was created" in errors
    assert len(errors.splitlines()) == 1


def test_tail_follows_a_run_of_another_process(folder: Path) -> None:
    (folder / "mended").touch()
    gate = 'while number > 7 and not Path("go").exists():\n        await asyncio.sleep(0.02)'
    (folder / "gated.py").write_text(COUNT.replace("await asyncio.sleep(0.02)", gate))
    driven = cli(folder, "run", "gated:workflow", "5", "--store", "runs.db", "--run-id", "r")
    await_calls(driven, folder, 2)
    watching = cli(folder, "tail", "r", "--store", "runs.db", "-o", "jsonl")
    assert watching.stdout is not None
    first = watching.stdout.readline()
    (folder / "go").touch()
    code, out, errors = ended(watching)
    assert ended(driven)[0] == 0

    entries: list[dict[str, Any]] = [json.loads(line) for line in (first, *out.splitlines())]
    assert (code, errors) == (0, "")
    assert [entry["step"] for entry in entries] == [*range(entries[0]["step"], 17)]
    assert len(entries) > 12
    assert entries[-1]["status"] == "IDLE"


@needs_sigkill
def test_tail_says_that_no_process_drives_the_run_and_keeps_waiting(folder: Path) -> None:
    (folder / "slow.py").write_text(COUNT.replace("0.02", "60"))
    driven = cli(folder, "run", "slow:workflow", "19", "--store", "runs.db", "--run-id", "r")
    await_calls(driven, folder, 1)
    driven.kill()
    ended(driven)
    watching = cli(folder, "tail", "r", "--store", "runs.db")
    assert watching.stderr is not None
    guard = threading.Timer(DEADLINE, watching.kill)
    guard.start()
    told = watching.stderr.readline()
    guard.cancel()

    assert told.startswith("no process drives run r: its process has died. To continue it: ")
    assert watching.poll() is None
    (folder / "slow.py").write_text(COUNT)
    words = printed_command(told, "supersteps resume")
    assert do(folder, *words, "--app", "slow:workflow", "--store", "runs.db")[0] == 0
    code, out, _errors = ended(watching)
    assert code == 0
    assert out.splitlines()[-1] == "superstep 2: count  +2 outputs  done"


def test_repeated_calls_are_shown(folder: Path) -> None:
    (folder / "flaky.py").write_text(FLAKY)
    code, out, errors = do(
        folder, "run", "flaky:workflow", "x", "--store", "runs.db", "--run-id", "r"
    )

    assert (code, out) == (0, "x\n")
    lines = errors.splitlines()
    assert re.fullmatch(
        r"superstep 1: web failed \(attempt 1 of 3\), again (in .*|at once): OSError: gone  \(.*\)",
        lines[1],
    )
    assert lines[2].startswith("superstep 2: web  (")
    assert "@1  web (attempt 2 waits)  " in do(folder, "log", "r", "--store", "runs.db")[1]


def test_a_wrong_input_is_answered_with_one_that_fits(folder: Path) -> None:
    code, out, errors = do(folder, "run", "review:workflow", "x")

    assert (code, out) == (2, "")
    assert "Schema" not in errors
    assert printed_command(errors, "supersteps run") == [
        "run",
        "review:workflow",
        '{"name": "some text"}',
    ]
    assert do(folder, *printed_command(errors, "supersteps run"))[0] == 3
    assert 'JSON Schema: {"$ref"' in do(folder, "run", "review:workflow", "x", "-o", "json")[2]


def test_an_invalid_store_is_a_usage_error(folder: Path) -> None:
    (folder / "other.db").write_text("something else")
    for store in ("other.db", "nobody://knows", "missing/folder"):
        assert do(folder, "runs", "--store", store)[0] == 2
    for store in ("other.db", "nobody://knows"):
        code, _out, errors = do(folder, "run", "flow:workflow", "20", "--store", store)
        assert (code, len(errors.splitlines())) == (2, 1), errors
    assert (folder / "other.db").read_text() == "something else"


def test_tail_ends_as_the_run_has(folder: Path) -> None:
    do(folder, "run", "flow:workflow", "13", "--store", "runs.db")
    do(folder, "run", "review:workflow", '{"name": "tides"}')

    code, out, _errors = do(folder, "tail", "@latest", "--store", "runs.db")
    assert code == 1
    assert "thirteen is unlucky" in out
    assert do(folder, "tail", "@latest", "--store", "review.db")[0] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_ends_only_the_watching(folder: Path) -> None:
    (folder / "slow.py").write_text(COUNT.replace("0.02", "60"))
    driven = cli(folder, "run", "slow:workflow", "0", "--store", "runs.db", "--run-id", "r")
    await_calls(driven, folder, 1)
    watching = cli(folder, "tail", "r", "--store", "runs.db")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("superstep 0: ")
    time.sleep(0.1)
    watching.send_signal(signal.SIGINT)
    code, _out, errors = ended(watching)
    assert (code, errors.split()) == (130, ["interrupted"])

    assert driven.poll() is None
    driven.send_signal(signal.SIGINT)
    time.sleep(0.2)
    driven.send_signal(signal.SIGINT)
    code, _out, errors = ended(driven)
    assert code == 130
    assert "stopping after superstep 1; press Ctrl-C again to stop at once\n" in errors
    assert "stopped at once: run r in superstep 1" in errors
    assert "Traceback" not in errors
