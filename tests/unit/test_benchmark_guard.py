"""The guard over instructions: what it says of counts, what it reads from the counting tools."""

import pytest

from benchmarks import instructions
from benchmarks.counting import CountingFailed, Tool, found_by_cachegrind, found_by_perf
from benchmarks.instructions import PROGRAMS, judge

BARE, SQLITE = PROGRAMS[2], PROGRAMS[4]
RECORDED = {
    "tasks": 50_000.0,
    "commits": 70_000.0,
    "bare": 160_000.0,
    "memory": 260_000.0,
    "sqlite": 420_000.0,
}


def test_names() -> None:
    assert (BARE.name, SQLITE.name) == ("bare", "sqlite")


@pytest.mark.parametrize(
    ("cost", "is_slower", "comment"),
    [
        (160_000.0, False, "+0.0%"),
        (167_900.0, False, "+4.9%"),
        (168_100.0, True, "+5.1%, SLOWER"),
        (320_000.0, True, "+100.0%, SLOWER"),
        (152_100.0, False, "-4.9%"),
        (151_000.0, False, "-5.6%, better: record it, so that it stays so"),
    ],
)
def test_only_more_than_recorded_is_an_error(cost: float, is_slower: bool, comment: str) -> None:
    verdict = judge(BARE, RECORDED | {"bare": cost}, RECORDED)
    assert (verdict.is_slower, verdict.comment) == (is_slower, comment)


@pytest.mark.parametrize("commits", [67_000.0, 73_000.0])
def test_nothing_is_judged_where_a_floor_costs_something_else(commits: float) -> None:
    costs = RECORDED | {"commits": commits, "bare": 320_000.0, "sqlite": 840_000.0}
    sqlite = judge(SQLITE, costs, RECORDED)
    assert not sqlite.is_slower
    assert "another build, see commits" in sqlite.comment
    assert judge(BARE, costs, RECORDED).is_slower  # its own floor is as it was


def test_what_is_not_recorded_is_not_judged() -> None:
    verdict = judge(BARE, RECORDED, {"tasks": 50_000.0})
    assert (verdict.is_slower, verdict.comment) == (False, "not recorded")
    assert "not judged" in judge(BARE, RECORDED, {"bare": 1.0}).comment


def test_cachegrind() -> None:
    assert found_by_cachegrind("==1== \n==1== I   refs:      1,742,245,055\n") == 1_742_245_055
    assert found_by_cachegrind("==1== I refs:        330,480\n") == 330_480  # newer versions
    assert found_by_cachegrind("valgrind: failed to start tool\n") is None


def test_perf() -> None:
    assert found_by_perf("1234567,,instructions:u,1000,100.00,,\n") == 1_234_567
    assert found_by_perf("<not supported>,,instructions:u,0,100.00,,\n") is None


def test_a_tool_that_cannot_count_says_why() -> None:
    missing = Tool("nothing", ("no-such-program-here",), found_by_perf)
    assert missing.why_not() == "not installed"
    failing = Tool("failing", ("sh", "-c", "echo cannot trace >&2; exit 1"), found_by_perf)
    assert failing.why_not() == "cannot trace"
    silent = Tool("silent", ("true",), found_by_perf)
    assert silent.why_not() is not None


def test_a_program_that_fails_under_a_tool_is_an_error() -> None:
    counting = Tool(
        "sh", ("sh", "-c", 'echo 5,,instructions:u >&2; exec "$@"', "sh"), found_by_perf
    )
    assert counting.count(["-c", "pass"]) == 5
    with pytest.raises(CountingFailed, match="exit code 3"):
        counting.count(["-c", "import sys; sys.exit(3)"])


def test_the_cost_of_a_step_is_without_the_start_and_the_compilation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(instructions, "run_python", lambda arguments: ran.append(arguments))

    class Counting:
        def count(self, arguments: list[str]) -> int:
            assert ran, "what is compiled at the first import would be counted"
            return 1_000_000 + 160 * int(arguments[-1])

    assert BARE.cost(Counting()) == 160  # type: ignore[arg-type]
