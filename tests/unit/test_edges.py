"""Edge groups: which targets a message takes."""

from typing import Any

import pytest

from supersteps import Case, Default, EdgeGroupError, RoutingError
from supersteps.define.edges import (
    FanInEdgeGroup,
    FanOutEdgeGroup,
    SingleEdgeGroup,
    SwitchCaseEdgeGroup,
    check_switch,
    function_name,
)


def anyone(target: str) -> bool:
    return True


def is_big(number: int) -> bool:
    return number > 9


def fails(number: int) -> bool:
    raise LookupError("no such number")


def test_a_single_edge_takes_everything_or_what_its_condition_lets_pass() -> None:
    always = SingleEdgeGroup(("a",), ("b",))
    sometimes = SingleEdgeGroup(("a",), ("b",), is_big)

    assert always.choose(1, None, anyone) == ["b"]
    assert sometimes.choose(10, None, anyone) == ["b"]
    assert sometimes.choose(1, None, anyone) == ()
    assert sometimes.choose(1, "b", anyone) == ()
    assert always.choose(1, "c", anyone) == ()


def test_a_condition_that_raises_names_itself_and_its_edge() -> None:
    with pytest.raises(
        RoutingError,
        match=r"condition 'fails' of edge:a->b raised LookupError: 'no such number'|no such number",
    ) as caught:
        SingleEdgeGroup(("a",), ("b",), fails).choose(1, None, anyone)
    assert "edge:a->b" in str(caught.value)
    assert isinstance(caught.value.__cause__, LookupError)


class Unclear:
    """Is neither true nor false, as an array of several numbers is."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def unclear(number: int) -> Any:
    return Unclear()


@pytest.mark.parametrize(
    "group",
    [
        SingleEdgeGroup(("a",), ("b",), unclear),
        SwitchCaseEdgeGroup(("a",), ("b", "c"), (unclear,)),
    ],
)
def test_an_answer_that_is_neither_true_nor_false_names_its_condition(group: Any) -> None:
    with pytest.raises(
        RoutingError, match=r"'unclear' of \w+:a->b.* returned a Unclear, which is neith"
    ):
        group.choose(1, None, anyone)


@pytest.mark.parametrize(("answer", "holds"), [(1, True), (0, False), ("x", True), (None, False)])
def test_any_other_answer_is_true_or_false(answer: Any, holds: bool) -> None:
    group = SingleEdgeGroup(("a",), ("b",), lambda n: answer)
    assert group.choose(1, None, anyone) == (["b"] if holds else ())


def test_a_fan_out_takes_all_targets_or_those_selected_in_the_graphs_order() -> None:
    group = FanOutEdgeGroup(("a",), ("x", "y", "z"))
    chosen = FanOutEdgeGroup(
        ("a",), ("x", "y", "z"), lambda message, targets: [targets[2], targets[0], targets[0]]
    )

    assert group.choose(1, None, anyone) == ["x", "y", "z"]
    assert group.choose(1, "y", anyone) == ["y"]
    assert chosen.choose(1, None, anyone) == ["x", "z"]
    assert chosen.choose(1, "z", anyone) == ["z"]
    assert chosen.choose(1, "y", anyone) == []
    assert FanOutEdgeGroup(("a",), ("x", "y"), lambda m, t: []).choose(1, None, anyone) == []


@pytest.mark.parametrize("answer", [["nowhere"], "x", ["x", "nowhere"], None, 7, [["x"]]])
def test_a_selection_that_is_not_a_list_of_targets_is_an_error(answer: Any) -> None:
    def select(message: Any, targets: list[str]) -> Any:
        return answer

    with pytest.raises(RoutingError, match=r"selection function 'select' of fan_out:a->x\+y"):
        FanOutEdgeGroup(("a",), ("x", "y"), select).choose(1, None, anyone)


def test_a_selection_cannot_change_the_group() -> None:
    def select(message: Any, targets: list[str]) -> list[str]:
        targets.clear()
        return ["x"]

    group = FanOutEdgeGroup(("a",), ("x", "y"), select)
    assert group.choose(1, None, anyone) == group.choose(1, None, anyone) == ["x"]


def test_a_switch_takes_the_first_case_that_holds_else_the_default() -> None:
    group = SwitchCaseEdgeGroup(("a",), ("big", "even", "other"), (is_big, lambda n: n % 2 == 0))

    assert [group.choose(n, None, anyone) for n in (12, 2, 1)] == [("big",), ("even",), ("other",)]
    assert group.choose(12, "big", anyone) == ("big",)
    assert group.choose(12, "other", anyone) == ()
    with pytest.raises(RoutingError, match="condition 'fails' of switch_case:a->b"):
        SwitchCaseEdgeGroup(("a",), ("b", "c"), (fails,)).choose(1, None, anyone)


@pytest.mark.parametrize("target_id", [None, "x", "z"])
def test_no_condition_is_called_where_no_target_accepts_the_message(
    target_id: str | None,
) -> None:
    def refuses(*_: Any) -> Any:
        raise AssertionError("asked")

    groups = [
        SingleEdgeGroup(("a",), ("x",), refuses),
        FanOutEdgeGroup(("a",), ("x", "y"), refuses),
        SwitchCaseEdgeGroup(("a",), ("x", "y"), (refuses,)),
    ]
    for group in groups:
        assert group.choose(1, target_id, lambda target: False) == ()
        assert group.choose(1, "z", anyone) == ()


def test_a_switch_passes_over_cases_whose_target_does_not_take_the_message() -> None:
    group = SwitchCaseEdgeGroup(("a",), ("b", "c", "d"), (fails, is_big))

    assert group.choose(12, None, lambda target: target != "b") == ("c",)
    assert group.choose(12, "d", lambda target: target != "b") == ()
    assert group.choose(1, "d", lambda target: target != "b") == ("d",)
    assert group.choose(1, None, lambda target: target == "c") == ()


def test_a_selection_sees_all_targets_and_reaches_those_that_take_the_message() -> None:
    seen = []

    def select(message: Any, targets: list[str]) -> list[str]:
        seen.append(list(targets))
        return targets

    group = FanOutEdgeGroup(("a",), ("x", "y", "z"), select)
    assert group.choose(1, None, lambda target: target != "y") == ["x", "z"]
    assert group.choose(1, "y", lambda target: target != "y") == ()
    assert seen == [["x", "y", "z"]]


def test_ids_and_names_are_the_same_in_every_process() -> None:
    assert SingleEdgeGroup(("a",), ("b",)).id == "edge:a->b"
    assert FanOutEdgeGroup(("a",), ("b", "c")).id == "fan_out:a->b+c"
    assert SwitchCaseEdgeGroup(("a",), ("b", "c"), (is_big,)).id == "switch_case:a->b+c"
    assert FanInEdgeGroup(("a", "b"), ("c",)).id == "fan_in:a+b->c"
    assert SingleEdgeGroup(("a",), ("b",), is_big).names == ("is_big",)
    assert function_name(lambda _: True) == "<lambda>"

    class Callable:
        def __call__(self, message: Any) -> bool:
            return True

    assert function_name(Callable()) == "Callable"


def test_a_switch_has_cases_and_one_default() -> None:
    case, default = Case(is_big, "b"), Default("c")
    assert check_switch([case, default]) == ([case], default)

    wrong: Any = [case, "d"]
    attempts: list[tuple[list[Case | Default], str]] = [
        ([case], "exactly one Default.*not 0"),
        ([case, default, default], "exactly one Default.*not 2"),
        ([default], "at least one Case"),
        (wrong, "takes Case"),
    ]
    for cases, expected in attempts:
        with pytest.raises(EdgeGroupError, match=expected):
            check_switch(cases)
