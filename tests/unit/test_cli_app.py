"""The group of commands: help, unknown commands, errors, exit codes, and what is imported when."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import click
import pytest

from supersteps.cli import app
from supersteps.cli.app import SECTIONS, LazyGroup, cli, main
from supersteps.cli.failures import DEBUG_VARIABLE, paragraph
from supersteps.errors import RunBusyError
from supersteps.service.errors import ReferenceNotFoundError, ServiceError

COMMANDS = {name: text for commands in SECTIONS.values() for name, text in commands.items()}

Ran = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setenv(DEBUG_VARIABLE, "")  # so that --debug is forgotten after the test

    def ran(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return ran


def command_named(name: str) -> click.Command:
    found = LazyGroup().get_command(click.Context(cli), name)
    assert found is not None
    return found


def in_a_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


# --------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    command = command_named(name)
    told = " ".join(inspect.cleandoc(command.help or "").split())

    assert command.name == name
    assert COMMANDS[name].endswith(".")
    assert len(COMMANDS[name]) <= 66  # one line of the group's help
    assert told.startswith(COMMANDS[name][:-1])
    assert told[len(COMMANDS[name]) - 1] in ".,:;"  # its first sentence, or what that begins with
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[-1]} says nothing"
            assert parameter.help.endswith((".", ":", "?")), (
                f"{name} {parameter.opts[-1]}: {parameter.help}"
            )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, run: Callable[..., Ran]) -> None:
    short, long = run(name, "-h"), run(name, "--help")

    assert short == long
    assert short[0] == 0
    assert re.match(rf"Usage: \S+ {name} ", short[1])
    assert COMMANDS[name][:-1] in " ".join(short[1].split())
    for parameter in command_named(name).params:
        is_hidden = isinstance(parameter, click.Option) and parameter.hidden
        options = [option for option in parameter.opts if option.startswith("--")]
        assert all((option in short[1]) is not is_hidden for option in options)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"completion"}))
def test_every_command_can_be_told_where_the_runs_are(name: str) -> None:
    options = {option for parameter in command_named(name).params for option in parameter.opts}

    assert {"--store", "--debug"} <= options


def test_the_help_of_the_group(run: Callable[..., Ran]) -> None:
    code, out, _ = run("--help")

    assert code == 0
    assert run("-h")[1] == out
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE), name
    for title in SECTIONS:
        assert f"\n{title}:\n" in out


def test_without_a_command_there_is_help(run: Callable[..., Ran]) -> None:
    code, out, err = run()

    assert code == 2
    assert "Maintenance:" in out + err


def test_the_version(run: Callable[..., Ran]) -> None:
    code, out, _ = run("--version")

    assert code == 0
    assert re.fullmatch(r"supersteps, version \d+\.\d+\.\d+\S*\n", out)


def test_help_imports_next_to_nothing() -> None:
    code = (
        "import sys\n"
        "from supersteps.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('-----'); print('\\n"
        "'.join(sys.modules))"
    )

    imported = in_a_process(code).split("-----")[1].split()

    heavy = (
        "rich",
        "supersteps.engine",
        "supersteps.storage",
        "supersteps.service",
        "supersteps.viz",
        "jsonschema",
    )
    assert [
        name for name in imported if name.startswith(heavy) or name in ("asyncio", "sqlite3")
    ] == []
    assert [name for name in imported if name.startswith("supersteps.cli.commands")] == []


def test_python_dash_m() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "supersteps", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout.startswith("supersteps, version")


# ----------------------------------------------------------------------------------- wrong commands


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("prnue", "there is no command 'prnue'. Did you mean 'prune'?"),
        ("RUNS", "there is no command 'RUNS'. Did you mean 'runs' or 'run'?"),
        ("xyzzy", "there is no command 'xyzzy'. Commands: run, resume, fork, submit,"),
        ("--stor", "--stor"),
    ],
)
def test_what_is_no_command(typed: str, complaint: str, run: Callable[..., Ran]) -> None:
    code, out, err = run(typed)

    assert code == 2
    assert out == ""
    assert complaint in " ".join(err.split())
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------------- errors


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command("runs")
    @click.option("--debug", is_flag=True)
    def command(debug: bool) -> None:
        if debug:
            os.environ[DEBUG_VARIABLE] = "1"
        raise error

    monkeypatch.setattr(import_module("supersteps.cli.commands.runs"), "command", command)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ServiceError("no\n  such\nthing"), 2, "error: no such thing\n"),
        (ReferenceNotFoundError("nothing"), 2, "error: nothing\n"),
        (RunBusyError("busy"), 1, "error: busy\n"),
        (KeyError("x"), 1, "error: KeyError: 'x'. Pass --debug to see where.\n"),
        (click.ClickException("hm"), 1, "Error: hm\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (click.exceptions.Abort(), 130, "interrupted\n"),
        (click.exceptions.Exit(3), 3, ""),
        (click.exceptions.Exit(0), 0, ""),
    ],
)
def test_what_becomes_of_an_error(
    error: BaseException,
    code: int,
    told: str,
    run: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, error)

    assert run("runs") == (code, "", told)


def test_the_traceback_on_request(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RunBusyError("busy"))

    code, _, err = run("runs", "--debug")

    assert code == 1
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("supersteps.errors.RunBusyError: busy")


def test_debug_by_the_environment(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("x"))

    monkeypatch.setenv(DEBUG_VARIABLE, "0")
    assert "Traceback" not in run("runs")[2]
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert "Traceback" in run("runs")[2]


def test_notes_belong_to_the_paragraph() -> None:
    error = RunBusyError("busy.")
    error.add_note("Wait\nfor it.")

    assert paragraph(error) == "error: busy. Wait for it."


def test_a_command_may_return_its_exit_code(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("runs")
    def command() -> int:
        return 3

    monkeypatch.setattr(import_module("supersteps.cli.commands.runs"), "command", command)

    assert run("runs")[0] == 3


def test_whoever_reads_may_stop_reading() -> None:
    ended = in_a_process(
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import click, supersteps.cli.app as a\\n"
        "@click.command()\\ndef runs():\\n    for _ in range(100000): click.echo(_)\\n"
        'import supersteps.cli.commands.runs as r; r.command = runs; a.main(["runs"])\'],'
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.readline(); p.stdout.close(); print(p.stderr.read().decode(), p.wait(30))"
    )

    assert ended.split() == ["0"]


# --------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str, run: Callable[..., Ran]) -> None:
    code, out, _ = run("completion", shell)

    assert code == 0
    assert f"_SUPERSTEPS_COMPLETE={shell}_complete" in out


def test_commands_are_completed_without_importing_them() -> None:
    code = (
        "import os, sys\n"
        "os.environ.update(_SUPERSTEPS_COMPLETE='bash_complete', COMP_WORDS='supersteps re', "
        "COMP_CWORD='1')\n"
        "sys.argv = ['supersteps']\n"
        "from supersteps.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith('supersteps.cli.commands')])"
    )

    assert in_a_process(code).split() == ["plain,resume", "plain,requests", "plain,restore", "[]"]


def test_options_are_completed() -> None:
    code = (
        "import os, sys\n"
        "os.environ.update(_SUPERSTEPS_COMPLETE='bash_complete', COMP_WORDS='supersteps prune "
        "--keep', COMP_CWORD='2')\n"
        "sys.argv = ['supersteps']\n"
        "from supersteps.cli import main\n"
        "main()"
    )

    assert in_a_process(code).split() == [
        "plain,--keep-last",
        "plain,--keep-steps",
        "plain,--keep-for",
    ]


def test_modules_are_named_like_their_commands() -> None:
    for name in COMMANDS:
        module = import_module(f"supersteps.cli.commands.{app._MODULES.get(name, name)}")
        assert module.command.name == name
