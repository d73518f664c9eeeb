"""What a run's events say, without a terminal: lines, status, throttling; and that showing never
breaks a run.
"""

import io
import sys
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from supersteps import (
    ExecutorCompletedEvent,
    ExecutorFailedEvent,
    ExecutorInvokedEvent,
    RequestClosedEvent,
    RequestInfoEvent,
    SuperStepCompletedEvent,
    SuperStepCompletionInfo,
    SuperStepStartedEvent,
    SuperStepStartInfo,
    UndeliveredMessageWarning,
    WorkflowErrorDetails,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowStartedEvent,
    WorkflowWarningEvent,
)
from supersteps.cli.progress import (
    LiveDisplay,
    PlainDisplay,
    Scroll,
    one_line_warnings,
    show_progress,
    tell,
)
from supersteps.cli.story import Line, Story, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def started(step: int, *ids: str) -> SuperStepStartedEvent:
    return SuperStepStartedEvent(step, SuperStepStartInfo(ids))


def completed(
    step: int, *ids: str, more: bool = True, asks: bool = False
) -> SuperStepCompletedEvent:
    return SuperStepCompletedEvent(step, SuperStepCompletionInfo(ids, more, asks, None))


def question(name: str) -> RequestInfoEvent:
    return RequestInfoEvent(name, "editor", str, "why?")


def told(story: Story, *events: WorkflowEvent) -> list[str]:
    return [line.text for event in events for line in story.take(event)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 ms"),
        (0.0421, "42 ms"),
        (0.0999, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_for_each_superstep(clock: Clock) -> None:
    story = Story(clock=clock)

    # Nothing is said of a run before it is certain that there is one.
    assert told(story, WorkflowStartedEvent(run_id="r")) == []
    assert told(
        story, started(1, "a", "b"), ExecutorInvokedEvent("a"), ExecutorInvokedEvent("b")
    ) == ["run r"]
    clock.now += 0.4
    assert (
        told(story, ExecutorCompletedEvent("a"), WorkflowOutputEvent("x", "a"), question("q")) == []
    )
    assert told(story, completed(1, "a", "b", asks=True)) == [
        "superstep 1: a and b  (0.4 s)  1 output  1 question"
    ]
    clock.now += 2
    assert told(story, started(2, "a"), completed(2, "a", asks=True)) == ["superstep 2: a  (2.0 s)"]
    assert (story.steps, story.outputs, story.questions) == (2, 1, {"q"})


def test_a_handler_that_blocks_counts_and_waiting_does_not(clock: Clock) -> None:
    story = Story(clock=clock)

    clock.now += 3  # the news of its beginning come with those of its end
    assert (
        told(story, started(1, "a"), completed(1, "a", more=False))[-1] == "superstep 1: a  (3.0 s)"
    )
    clock.now += 60  # a timer
    assert story.status() == "1 superstep done · waiting for a timer · 1 min 3 s"
    story.take(started(2, "a"))
    clock.now += 1
    assert told(story, completed(2, "a"))[-1] == "superstep 2: a  (1.0 s)"


def test_many_names_become_a_number(clock: Clock) -> None:
    names = [f"worker-{number}" for number in range(20)]

    (line,) = told(Story(clock=clock), completed(1, *names))

    assert line.startswith("superstep 1: worker-0, worker-1, ")
    assert " and 14 more  (" in line


def test_the_status_says_who_is_at_work_and_for_how_long(clock: Clock) -> None:
    story = Story(clock=clock)
    assert story.status() == "loading · 1 ms"

    for event in (
        started(7, "a", "b"),
        ExecutorInvokedEvent("a"),
        WorkflowOutputEvent("x", "a"),
        question("q"),
    ):
        story.take(event)
    clock.now += 2.5
    story.take(ExecutorInvokedEvent("b"))
    assert story.status() == "superstep 7 · a (2.5 s) and b · 1 output · 1 question open · 2.5 s"
    assert story.status(20) == "superstep 7 · a (2.…"
    story.take(ExecutorCompletedEvent("a"))
    story.take(ExecutorCompletedEvent("b"))
    assert story.status() == "superstep 7 · saving · 1 output · 1 question open · 2.5 s"
    story.take(completed(7, "a", "b", asks=False))
    assert story.questions == set()


def test_failures_that_the_run_survives_are_told(clock: Clock) -> None:
    story = Story(clock=clock)
    details = WorkflowErrorDetails("ConnectionError", "no\nanswer", executor_id="shop")

    assert told(story, started(1, "shop"), ExecutorFailedEvent("shop", details=details)) == ["run "]
    assert story.failures == [details]
    # Nothing else came of that superstep: it does not read as if the executor had done its work.
    assert told(story, completed(1, "shop")) == [
        "superstep 1: shop failed: ConnectionError: no answer; the run continues  (1 ms)"
    ]
    assert told(story, RequestClosedEvent("q", "editor", "defaulted")) == [
        "question q of editor is closed: its deadline passed, so its default is the answer"
    ]
    assert told(story, WorkflowWarningEvent("a\nb")) == ["warning: a b"]


def failed(name: str, attempt: int, again: float | None = None) -> ExecutorFailedEvent:
    extra: dict[str, Any] = {"run_id": "r", "superstep": 2, "attempt": attempt}
    if again is not None:
        extra["retry_at"] = (datetime.now(UTC) + timedelta(seconds=again)).isoformat()
    return ExecutorFailedEvent(
        name, details=WorkflowErrorDetails("OSError", "gone", executor_id=name, extra=extra)
    )


def test_calls_that_are_made_again(clock: Clock) -> None:
    story = Story(clock=clock, attempts={"web": 5})

    assert told(story, started(2, "web"), failed("web", 2, 600.4), completed(2, "web"))[1:] == [
        "superstep 2: web failed (attempt 2 of 5), again in 10 min 0 s: OSError: gone  (1 ms)"
    ]
    assert (
        told(story, started(3, "web", "b"), failed("web", 3, -1), ExecutorCompletedEvent("b")) == []
    )
    assert told(story, completed(3, "web", "b")) == [
        "superstep 3: web failed (attempt 3 of 5), again at once: OSError: gone",
        "superstep 3: b  (1 ms)",
    ]
    # One of two calls has worked.
    story.take(started(4, "web"))
    assert told(story, failed("web", 4, -1), ExecutorCompletedEvent("web"), completed(4, "web"))[
        1
    ] == ("superstep 4: web  (1 ms)")
    story.take(started(5, "web"))
    (line,) = told(story, failed("web", 5), completed(5, "web"))
    assert (
        line == "superstep 5: web failed (attempt 5 of 5): OSError: gone; the run continues  (1 ms)"
    )
    # Of an executor inside a sub-workflow only the event tells.
    story.take(started(6, "sub"))
    assert told(story, failed("sub/web", 2, -1), completed(6, "sub"))[0].startswith(
        "superstep 6: sub/web failed (attempt 2), again at once"
    )


def test_events_of_the_users_own_are_passed_over(clock: Clock) -> None:
    class Mine(WorkflowEvent):
        pass

    assert told(Story(clock=clock), Mine("x")) == []


def test_a_few_lines_a_second_scroll_by(clock: Clock) -> None:
    scroll = Scroll(clock)

    def step(number: int) -> list[str]:
        return scroll.offer(Line(f"superstep {number}: a", number))

    assert step(1) == ["superstep 1: a"]
    clock.now += 0.1
    assert [step(number) for number in range(2, 900)] == [[]] * 898
    clock.now += 0.4
    assert step(900) == ["supersteps 2 to 900  (0.5 s)"]
    assert step(901) == []
    assert scroll.offer(Line("warning: x")) == ["superstep 901: a", "warning: x"]
    assert scroll.rest() == []


def test_plain_lines_are_complete_and_flushed_at_once() -> None:
    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    with PlainDisplay(stream) as display:
        for number in range(3):
            display.show(Line(f"superstep {number}", number))

    assert stream.getvalue() == "superstep 0\nsuperstep 1\nsuperstep 2\n"
    assert stream.flushed >= 3


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()
    with show_progress(story, quiet=True) as progress:
        progress.watch(started(1, "a"))
        progress.watch(completed(1, "a"))

    assert story.steps == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_where_nothing_can_move(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show_progress(Story()) as progress:
        progress.watch(completed(1, "a"))

    assert capsys.readouterr().err.startswith("superstep 1: a  (")
    assert "\x1b" not in capsys.readouterr().err


def test_the_live_display_leaves_only_what_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    story = Story()
    with LiveDisplay(story) as display:
        for event in (started(1, "a"), completed(1, "a"), started(2, "[b]"), completed(2, "[b]")):
            for line in story.take(event):
                display.show(line)

    shown = capsys.readouterr().err
    assert "superstep 1: a" in shown
    assert "superstep 2: [b]" in shown  # no markup; held back, and shown at the end


def test_the_live_display_on_a_terminal_that_lacks_the_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    story = Story()
    story.take(started(1, "a"))
    story.take(completed(1, "a"))
    with LiveDisplay(story) as display:
        shown = io.StringIO()
        Console(file=shown, width=80).print(display._render())

    assert "1 superstep done - " in shown.getvalue()
    assert shown.getvalue().isascii()


def test_showing_never_breaks_a_run_but_says_that_it_broke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_display: PlainDisplay, _line: Line) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(PlainDisplay, "show", fail)
    story = Story()
    with show_progress(story) as progress:
        progress.watch(completed(1, "a"))
        progress.watch(completed(2, "a"))

    assert story.steps == 2
    assert (
        capsys.readouterr().err
        == "note: the run's progress could not be shown: OSError: the disk is full\n"
    )


def test_what_is_said_stands_between_the_lines_of_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for quiet, expected in (
        (False, ["superstep 1: a", "stopping", "superstep 2: b"]),
        (True, ["stopping"]),
    ):
        with show_progress(Story(), quiet=quiet) as progress:
            progress.watch(completed(1, "a"))
            progress.say("stopping")
            progress.watch(completed(2, "b"))
        assert [
            line.partition("  (")[0] for line in capsys.readouterr().err.splitlines()
        ] == expected


def test_nobody_reads_stderr_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    tell("done")
    tell("and again")
    sys.stderr.close()


def test_warnings_take_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def warn(text: str, category: type[Warning]) -> None:
        warnings.warn(text, category, stacklevel=1)

    before: Any = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with one_line_warnings():
            warn("lost", UndeliveredMessageWarning)  # an event tells of it
            warn("old\nthing", DeprecationWarning)
            warn("mine", UserWarning)
    after: Any = warnings.showwarning

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "warning: DeprecationWarning: old thing",
        "warning: mine",
    ]
    assert all("test_cli_progress.py, line " in line for line in lines)
    assert after is before
