"""What commands write: tables, JSON, words for states, values, times and changes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from supersteps.checkpoint.diff import Change, CheckpointDiff
from supersteps.cli import failures, output, words
from supersteps.cli.commands import diff as diffing
from supersteps.cli.commands.show import value_at
from supersteps.cli.output import age, emit, short, status_text, table, visible_width
from supersteps.service.errors import InputError, ServiceError
from supersteps.service.questions import Question
from supersteps.service.views import LogEntry, Retry

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def written(function: Any, *, color: bool = False) -> Result:
    return CliRunner().invoke(click.command()(function), color=color)


# ------------------------------------------------------------------------------------------- output


def test_a_table_has_columns_as_wide_as_what_is_in_them() -> None:
    rows = [["a", click.style("long", fg="red")], ["日本", ""]]

    result = written(lambda: table(["ONE", "TWO"], rows, empty="nothing"))

    assert result.stdout == "ONE   TWO\na     long\n日本\n"


def test_a_line_is_cut_with_its_styles_ended() -> None:
    line = f"a {click.style('blue', fg='blue')} {click.style('red one', fg='red')} end"

    assert output.fitted(line, 80) == line
    assert output.fitted(line, output.visible_width(line)) == line
    assert output.fitted(line, 10) == f"a {click.style('blue', fg='blue')} \x1b[31mre…\x1b[0m"
    assert click.unstyle(output.fitted(line, 8)) == "a blue …"
    assert output.fitted("広い道", 4) == "広…"


def test_the_last_column_of_a_table_is_cut_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(width: int | None) -> list[str]:
        monkeypatch.setattr(output, "terminal_width", lambda: width)
        output.table(["A", "QUESTION"], [["first", "what is the answer?"], ["2", "ok"]], empty="")
        return capsys.readouterr().out.splitlines()

    assert shown(None) == ["A      QUESTION", "first  what is the answer?", "2      ok"]
    assert shown(22) == ["A      QUESTION", "first  what is the an…", "2      ok"]
    assert shown(5) == [
        "A      QUESTION",
        "first  what is the…",
        "2      ok",
    ]  # less would tell nothing


def test_an_error_ends_with_one_period() -> None:
    assert (
        failures.paragraph(ServiceError("it is: no store.. Mend it.."))
        == "error: it is: no store. Mend it."
    )
    assert failures.paragraph(ServiceError("from 1 to ... 3")) == "error: from 1 to ... 3"
    assert (
        failures.paragraph(OSError("gone.")) == "error: OSError: gone. Pass --debug to see where."
    )


def test_no_line_of_a_table_ends_in_spaces() -> None:
    result = written(lambda: table(["ONE", ""], [["a", "remark"], ["b", ""]], empty="nothing"))

    assert result.stdout == "ONE\na    remark\nb\n"


def test_an_empty_table_says_so_on_stderr() -> None:
    result = written(lambda: table(["ONE"], [], empty="no runs"))

    assert (result.stdout, result.stderr) == ("", "no runs\n")


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("table", "shown\n"),
        ("json", '[\n  {\n    "a": 1\n  },\n  2\n]\n'),
        ("jsonl", '{"a":1}\n2\n'),
    ],
)
def test_the_forms_of_output(output: str, wanted: str) -> None:
    assert (
        written(lambda: emit([{"a": 1}, 2], output, lambda: click.echo("shown"))).stdout == wanted
    )


def test_json_lines_of_a_single_value() -> None:
    assert written(lambda: emit({"a": [1]}, "jsonl", lambda: None)).stdout == '{"a":[1]}\n'


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "1 h"),
        (86400, "1 d"),
        (10**7, "115 d"),
    ],
)
def test_ages(seconds: int, wanted: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == wanted


def test_short_values_are_on_one_line() -> None:
    assert short({"a": [1, 2]}) == '{"a":[1,2]}'
    assert short("two\nlines") == "two lines"
    assert short("x" * 100, 10) == "xxxxxxxxx…"


def test_states_in_words() -> None:
    assert click.unstyle(status_text("IDLE")) == "done"
    assert click.unstyle(status_text("IN_PROGRESS", is_abandoned=True)) == "stopped"
    assert click.unstyle(status_text("SOMETHING_NEW")) == "something_new"


def test_width_counts_what_is_seen() -> None:
    assert visible_width(click.style("ab", fg="red", bold=True)) == 2
    assert visible_width("日本") == 4


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        words.respect_no_color()
        click.echo(click.style("red", fg="red"))

    assert written(command, color=True).stdout == "\x1b[31mred\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(command, color=True).stdout == "red\n"


# -------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("text", "text"),
        (1.5, "1.5"),
        (None, "null"),
        (["a", 1], '["a", 1]'),
        ({"a": {"b": True}}, '{"a": {"b": true}}'),
        ({"$": "app:Order", "id": 7, "items": ["x"]}, 'Order(id=7, items=["x"])'),
        ({"$": "app:Outer.Inner"}, "Inner()"),
        ({"$": "app:Color", "$value": "RED"}, "Color.RED"),
        ({"$": "tuple", "v": [1, 2]}, "tuple([1, 2])"),
        ({"$": "datetime", "v": "2030-01-01"}, "2030-01-01"),
        ({"$": 1}, '{"$": 1}'),
    ],
)
def test_values_as_people_write_them(value: Any, wanted: str) -> None:
    assert words.plain(value) == wanted


def test_what_would_move_the_cursor_is_shown_as_an_escape() -> None:
    assert words.plain("\x1b[2J a\tb\r\nc\r\x9b") == "\\x1b[2J a\tb\nc\\x0d\\x9b"
    assert "\x1b" not in words.plain(["\x1b"])
    assert "\x1b" not in "".join(
        told(Change("replace", ("shared_state", "a"), before="\x1b\n1", after="\x1b\n2"))
    )


def test_a_question_without_what_is_only_its_address() -> None:
    asked = {
        "$": "app:Review",
        "request_id": "r",
        "source_executor_id": "e",
        "draft": "two\nlines",
        "n": 1,
    }

    assert words.spread(asked) == "Review\n  draft  two\n         lines\n  n      1"
    assert words.spread("plain") == "plain"
    assert words.spread({}) == "{}"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (("count",), "count"),
        (("editor", "mood"), "editor.mood"),
        ((0, "data"), "[0].data"),
        (("review#1.2/writer", "a key", 3), 'review#1.2/writer["a key"][3]'),
        (("a key",), '["a key"]'),
    ],
)
def test_places(path: tuple[str | int, ...], wanted: str) -> None:
    assert words.place(path) == wanted


def test_moments_before_and_after() -> None:
    assert words.moment("2030-01-01T23:57:00+00:00", NOW) == "2030-01-01 23:57:00 UTC (3 min ago)"
    assert words.moment("2030-01-02T02:00:00+01:00", NOW) == "2030-01-02 01:00:00 UTC (in 1 h)"


def entry(**facts: Any) -> LogEntry:
    common = {"step": 1, "branch": 0, "timestamp": NOW.isoformat(), "status": "IN_PROGRESS"}
    return LogEntry(
        **{"checkpoint_id": "run-01", "run_id": "run", "parent": "run-00", **common, **facts}
    )


def again(executor_id: str, attempt: int) -> Retry:
    return Retry(executor_id=executor_id, attempt=attempt, due=NOW.isoformat())


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (entry(ran=("a", "b"), outputs=2), "run-01  @1  a, b  +2 outputs  0 s ago"),
        (entry(ran=("a",), asked=("q", "r")), "run-01  @1  a  asks q and 1 more  0 s ago"),
        (entry(ran=("a",), closed=("q",), status="IDLE"), "run-01  @1  a  closes q  done  0 s ago"),
        (entry(parent=None, step=0), "run-01  @0  input  0 s ago"),
        (entry(parent="other-03"), "run-01  @1  forked from other-03  0 s ago"),
        (entry(ran=("a",), error="x"), "run-01  @1  a  failed  0 s ago"),
        (
            entry(ran=("a", "b"), retries=(again("b", 2),)),
            "run-01  @1  a, b (attempt 2 waits)  0 s ago",
        ),
        (
            entry(ran=("b",), retries=(again("b", 3), again("b", 2))),
            "run-01  @1  b (attempts 2, 3 wait)  0 s ago",
        ),
        (entry(status="DAMAGED", error="x"), "run-01  @1  ?  damaged  0 s ago"),
    ],
)
def test_a_checkpoint_on_a_line(made: LogEntry, wanted: str) -> None:
    assert click.unstyle(words.entry_line(made, now=NOW)) == wanted


def test_changes_in_brief() -> None:
    changes = [
        Change("add", ("shared_state", "a"), after=1),
        Change("replace", ("shared_state", "b", 0), before=1, after=2),
        Change("remove", ("shared_state", "c"), before=1),
        Change("add", ("outputs", 0), after=1),
        Change("add", ("requests", "q"), after={}),
    ]

    assert words.brief_changes(changes) == "state +1-1~1 (a, b[0], …), outputs +1, questions +1"
    assert words.brief_changes([]) == "nothing changed"


def test_how_to_answer_is_safe_to_paste() -> None:
    question = Question(
        request_id="is it; ok",
        run_id="r",
        workflow_id="w",
        executor_id="e",
        step=1,
        asked_at=NOW.isoformat(),
        data={},
        response_type="bool",
        response_schema={"type": "boolean"},
    )

    assert words.answer_hint(question) == "supersteps answer 'is it; ok' 'true|false'"


# --------------------------------------------------------------------------------------------- diff


def told(*changes: Change, messages: Any = None, full: bool = False) -> list[str]:
    found = CheckpointDiff("a", "b", changes)
    return [click.unstyle(line) for line in diffing.lines(found, messages, full=full)]


def test_nothing_differs() -> None:
    assert told() == ["a and b are equal"]


def test_a_diff_by_section() -> None:
    request = {
        "source_executor_id": "editor",
        "response_type": "bool",
        "data": {"$": "m:Draft", "text": "x"},
    }

    assert told(
        Change("replace", ("shared_state", "count"), before=1, after=2),
        Change("remove", ("shared_state", "gone"), before="x "),
        Change("add", ("requests", "q1"), after=request),
        Change("add", ("answered", 0), after={"request_id": "q0", "data": True}),
        Change("add", ("answered", 1), after={"request_id": "q2", "outcome": "cancelled"}),
    ) == [
        "--- a",
        "+++ b",
        "",
        "Shared state",
        "  ~ count: 1 -> 2",
        '  - gone: "x "',
        "",
        "Open questions",
        '  + q1: editor asks for bool: Draft(text="x")',
        "",
        "Ended questions",
        "  + [0]: q0 answered: true",
        "  + [1]: q2 cancelled",
    ]


def test_when_the_same_question_was_asked_is_not_worth_telling() -> None:
    when = Change(
        "replace", ("requests", "q", "timestamp"), before="2026-01-01", after="2026-01-02"
    )
    told_more = told(
        when, Change("replace", ("requests", "q", "data", "text"), before="a", after="b")
    )

    assert told(when) == ["a and b are equal, except for the times at which they asked"]
    assert told(when, Change("replace", ("shared_state", "n"), before=1, after=2))[3:] == [
        "Shared state",
        "  ~ n: 1 -> 2",
    ]
    assert [line.split(":")[0] for line in told_more[4:]] == ["  ~ q.timestamp", "  ~ q.data.text"]


def test_text_of_several_lines_is_a_unified_diff() -> None:
    old = "\n".join(f"line {number}" for number in range(9))

    assert told(
        Change("replace", ("shared_state", "text"), before=old, after=old.replace("4", "four"))
    )[4:] == [
        "  ~ text:",
        "    @@ -3,5 +3,5 @@",
        "     line 2",
        "     line 3",
        "    -line 4",
        "    +line four",
        "     line 5",
        "     line 6",
    ]


def test_long_values_are_cut_around_the_difference() -> None:
    old, new = f"{'a' * 200}OLD{'b' * 200}", f"{'a' * 200}NEW!{'b' * 200}"
    change = Change("replace", ("shared_state", "text"), before=old, after=new)

    assert told(change)[4:] == [
        "  ~ text:",
        f"    - …{'a' * 24}OLD{'b' * 24}…",
        f"    + …{'a' * 24}NEW!{'b' * 24}…",
    ]
    assert told(change, full=True)[5] == f'    - "{old}"'


@pytest.mark.parametrize(
    ("before", "after"),
    [("x" * 500, ""), ("x" * 500, "x" * 501), ("ab" * 100, "ba" * 100), ("", "y" * 300)],
)
def test_what_is_cut_is_never_longer_than_a_line(before: str, after: str) -> None:
    assert max(map(len, diffing.around(before, after))) <= 95


def test_messages_are_whole() -> None:
    def message(source: str, target: str, data: Any) -> dict[str, Any]:
        return {"data": data, "source_ids": [source], "target_ids": [target]}

    before = [
        message("a", "b", 1),
        message("a", "c", 5),
        message("a", "d", 6),
        message("a", "d", 6),
    ]
    after = [message("a", "c", 7), message("x", "y", "new"), message("a", "d", 6)]
    change = Change("remove", ("messages", 0, "data"), before=1)

    assert told(change, messages=(before, after))[3:] == [
        "Messages in flight",
        "  - a -> b: 1",
        "  ~ a -> c: 5 -> 7",
        "  - a -> d: 6",
        "  + x -> y: new",
    ]


def test_messages_in_another_order_are_listed_place_by_place() -> None:
    messages = [{"data": 1, "target_ids": ["b"]}, {"data": 2, "target_ids": ["b"]}]
    change = Change("replace", ("messages", 0, "data"), before=1, after=2)

    assert told(change, messages=(messages, messages[::-1]))[4] == "  ~ [0].data: 1 -> 2"


# --------------------------------------------------------------------------------------------- path

CONTENT = {
    "shared_state": {"a": {"b": [1, {"c": 2}]}, "with.dot": {"x": 3}, "sl/ash": 4},
    "outputs": ["x"],
}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("shared_state.a.b[1].c", 2),
        ("shared_state.a.b.1.c", 2),
        ("/shared_state/a/b/0", 1),
        ("shared_state.with.dot.x", 3),
        ("/shared_state/sl~1ash", 4),
        ("outputs.-1", "x"),
        ("outputs", ["x"]),
    ],
)
def test_a_value_by_its_place(path: str, wanted: Any) -> None:
    assert value_at(CONTENT, path) == wanted
    json.dumps(wanted)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("shared_state.nope", "shared_state has a, with.dot, sl/ash"),
        ("nope", "the checkpoint has shared_state, outputs"),
        ("outputs.7", "outputs is a list of length 1"),
        ("outputs.0.x", "outputs.0 is x"),
    ],
)
def test_a_place_that_is_not_there_says_what_is(path: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint.replace("[", r"\[")):
        value_at(CONTENT, path)
