"""What others have put into a text is shown at a terminal, and neither acts there nor hides."""

import ast
import io
import json
import unicodedata
from pathlib import Path

import click
import pytest

from supersteps.cli import terminal
from supersteps.cli.app import main
from supersteps.cli.output import emit, short, table, visible_width
from supersteps.cli.terminal import echo, echo_result, harmless, harmless_json, shown

CLI = Path(terminal.__file__).parent
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
SIGNS = (
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"  # formats that are seen
)


def test_every_character_that_acts_or_hides_is_an_escape() -> None:
    passing = {
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in UNSEEN and harmless(chr(code)) == chr(code)
    }
    assert passing == {"\t", "\n", *SIGNS}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("pay\u200bpal", "pay\\u200bpal"),
        ("pay\u200dpal", "pay\\u200dpal"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("half \ud800", "half \\ud800"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
    ],
)
def test_an_escape_tells_which_character_it_is(text: str, seen: str) -> None:
    assert harmless(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "Grüße",
        "日本語",
        "👩\u200d👩\u200d👧",
        "\u0645\u06cc\u200c\u062e",
        "क्\u200dष",
        "❤\ufe0f",
        "עברית",
    ],
)
def test_languages_and_emoji_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_styles_stay_and_what_could_hide_a_text_does_not() -> None:
    styled = click.style("done", fg="green", bold=True)
    assert shown(styled) == styled
    assert shown("\x1b[8mhidden\x1b[0m") == "\\x1b[8mhidden\x1b[0m"
    assert shown("\x1b[30;40mhidden") == "\\x1b[30;40mhidden"
    assert shown("\x1b]0;title\x07") == "\\x1b]0;title\\x07"


def test_json_means_the_same() -> None:
    value = {"name\u202e": ["\u2028", "tag\U000e0041", "\u0085", "ä日"]}
    text = harmless_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert harmless(text) == text


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_json_is_written_so(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"error": "a\u202eb"}], output, lambda: None)
    out = capsys.readouterr().out
    assert "\u202e" not in out
    assert "a\\u202eb" in out


def test_a_table_is_as_wide_as_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    table(["RUN", "ERROR"], [["a\u202eb", "x"], ["c", "y\x1b[2J"]], empty="")
    heading, first, second = capsys.readouterr().out.splitlines()
    assert first == "a\\u202eb  x"
    assert second == "c         y\\x1b[2J"
    assert heading.index("ERROR") == visible_width("a\\u202eb  ")
    assert short("\x1b[31mred") == "\\x1b[31mred"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_result_is_exact_for_a_program_and_harmless_for_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    echo_result("a\u202eb")
    assert capsys.readouterr().out == "a\u202eb\n"
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    echo_result("a\u202eb")
    assert screen.getvalue() == "a\\u202eb\n"


def test_errors_of_usage_are_harmless_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["runs", "--limit", "a\u202eb"])
    assert "\u202e" not in capsys.readouterr().err


def test_streams_and_errors_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    echo("\x07", file=file, nl=False)
    echo("\x07", err=True)
    assert file.getvalue() == "\\x07"
    assert capsys.readouterr().err == "\\x07\n"


def test_there_is_no_other_way_to_the_terminal() -> None:
    found = {
        (path.relative_to(CLI).as_posix(), ast.unparse(node.func))
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in {"click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"}
    }
    assert found == {("terminal.py", "click.echo")}
