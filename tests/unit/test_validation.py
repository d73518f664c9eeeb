"""Every rule of the graph has its error, which says where it is broken and what to do."""

from typing import Any, Never

import pytest

from supersteps import (
    Case,
    Default,
    EdgeDuplicationError,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    FanInTypeError,
    FunctionExecutor,
    GraphConnectivityError,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    TypeCompatibilityError,
    UnanswerableQuestionError,
    ValidationTypeEnum,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowValidationError,
    handler,
    response_handler,
)
from tests.unit.support import Asker, Counter, Question, Reverse, Upper


def node(id: str, takes: Any, sends: Any = Never) -> Executor:
    def handle(message: Any, ctx: Any) -> None:
        pass

    handle.__annotations__ = {"message": takes, "ctx": WorkflowContext[sends, Any]}
    return FunctionExecutor(handle, id)


def build(builder: WorkflowBuilder, start: Executor) -> Workflow:
    return builder.set_start_executor(start).build()


def test_a_duplicate_edge() -> None:
    up, end = Upper("up"), Reverse("end")
    other = Reverse("other")
    for builder in (
        WorkflowBuilder().add_edge(up, end).add_edge(up, end),
        WorkflowBuilder().add_edge(up, end, condition=bool).add_edge(up, end),
        WorkflowBuilder().add_edge(up, end).add_fan_out_edges(up, [other, end]),
    ):
        with pytest.raises(
            EdgeDuplicationError, match=r"edge up -> end was added 2 times.*Keep one"
        ) as caught:
            build(builder, up)
        assert caught.value.edge_id == "up->end"
        assert caught.value.validation_type is ValidationTypeEnum.EDGE_DUPLICATION


def test_a_loop_and_parallel_ways_are_no_duplicates() -> None:
    counter = Counter("c")
    join = node("join", list[int])
    d = node("d", int, int)
    builder = WorkflowBuilder().add_edge(counter, counter).add_edge(counter, d)
    workflow = build(builder.add_fan_in_edges([counter, d], join), counter)

    assert workflow.graph.reachable == {"c": {"c", "d", "join"}, "d": {"join"}, "join": set()}


def test_executors_that_nothing_reaches() -> None:
    up, end, lost, found = Upper("up"), Reverse("end"), Upper("lost"), Reverse("found")
    with pytest.raises(
        GraphConnectivityError,
        match=r"no path leads from the start executor 'up' to 'lost', 'found'.*Add an edge",
    ) as caught:
        build(WorkflowBuilder().add_edge(up, end).add_edge(lost, found), up)
    assert caught.value.validation_type is ValidationTypeEnum.GRAPH_CONNECTIVITY


def test_a_registered_executor_without_edges() -> None:
    up = Upper("up")
    with pytest.raises(GraphConnectivityError, match="'spare'"):
        build(WorkflowBuilder().register_executor(lambda: Reverse("spare"), "spare"), up)


def test_a_type_mismatch_along_an_edge() -> None:
    up, counter = Upper("up"), Counter("count")
    with pytest.raises(
        TypeCompatibilityError,
        match=r"edge up -> count: 'up' sends str, but 'count' handles int\. Change an annotation",
    ) as caught:
        build(WorkflowBuilder().add_edge(up, counter), up)
    error = caught.value
    assert (error.source_executor_id, error.target_executor_id) == ("up", "count")
    assert (error.source_types, error.target_types) == ([str], [int])
    assert error.validation_type is ValidationTypeEnum.TYPE_COMPATIBILITY
    assert isinstance(error, WorkflowValidationError)
    assert isinstance(error, ValueError)


class Parent:
    pass


class Child(Parent):
    pass


@pytest.mark.parametrize(
    ("sends", "takes"),
    [
        (str, str),
        (str, Any),
        (Any, str),
        (str, object),
        (int | str, str),
        (str, int | str),
        (Child, Parent),
        (Parent, Child),
        (bool, int),
        (list[int], list[int]),
        (list[int], list),
        (list, list[int]),
        (Never, int),
    ],
)
def test_types_that_can_meet(sends: Any, takes: Any) -> None:
    a, b = node("a", str, sends), node("b", takes)
    assert build(WorkflowBuilder().add_edge(a, b), a).graph.reachable["a"] == {"b"}


@pytest.mark.parametrize(
    ("sends", "takes"),
    [(str, int), (int, float), (list[int], list[str]), (Parent, int), (dict, list), (None, str)],
)
def test_types_that_cannot(sends: Any, takes: Any) -> None:
    a, b = node("a", str, sends), node("b", takes)
    for builder in (
        WorkflowBuilder().add_edge(a, b),
        WorkflowBuilder().add_fan_out_edges(a, [node("c", Any), b]),
        WorkflowBuilder().add_switch_case_edge_group(a, [Case(bool, b), Default(node("c", Any))]),
    ):
        with pytest.raises(TypeCompatibilityError, match="edge a -> b"):
            build(builder, a)


@pytest.mark.parametrize(
    ("takes", "fits"),
    [
        (list[str], True),
        (list, True),
        (Any, True),
        (list[str | int], True),
        (list[Any], True),
        (str | list[str], True),
        (str, False),
        (list[int], False),
        (dict[str, str], False),
        (tuple[str, ...], False),
    ],
)
def test_a_fan_in_target_takes_a_list(takes: Any, fits: bool) -> None:
    start, a, b, join = (
        node("start", str, str),
        node("a", str, str),
        node("b", str, str),
        node("join", takes),
    )
    builder = WorkflowBuilder().add_fan_out_edges(start, [a, b]).add_fan_in_edges([a, b], join)
    if fits:
        assert build(builder, start).graph.reachable["b"] == {"join"}
        return
    with pytest.raises(
        FanInTypeError,
        match=r"fan-in a, b -> join: the target gets a list.*Give it a handler for list\[str\]",
    ) as caught:
        build(builder, start)
    assert caught.value.validation_type is ValidationTypeEnum.FAN_IN_TYPE
    assert isinstance(caught.value, TypeCompatibilityError)


def test_questions_fit_the_executor_that_passes_them_on() -> None:
    from supersteps import RequestInfoExecutor

    asker, port = Asker("asker"), RequestInfoExecutor()
    build(WorkflowBuilder().add_edge(asker, port).add_edge(port, asker), asker)
    up = Upper("up")
    with pytest.raises(TypeCompatibilityError, match="edge up -> request_info"):
        build(WorkflowBuilder().add_edge(up, RequestInfoExecutor()), up)


def test_two_cases_of_a_switch_may_lead_to_one_target() -> None:
    up, end = node("up", str), node("end", str)
    builder = WorkflowBuilder().add_switch_case_edge_group(up, [Case(bool, end), Default(end)])

    assert set(build(builder, up).get_executors_list()) == {up, end}


def test_an_error_edge_leads_somewhere() -> None:
    up, end, medic = Upper("up"), Reverse("end"), node("medic", ExecutorFailure, int)
    after = node("after", int)
    build(WorkflowBuilder().add_edge(up, end).add_error_edge(up, medic).add_edge(medic, after), up)
    with pytest.raises(GraphConnectivityError, match="'medic', 'after'"):
        build(
            WorkflowBuilder().add_edge(up, end).add_error_edge(medic, after).add_edge(medic, after),
            up,
        )


def test_an_edge_and_an_error_edge_may_lead_to_one_target() -> None:
    up, end = Upper("up"), node("end", str | ExecutorFailure)
    graph = build(WorkflowBuilder().add_edge(up, end).add_error_edge(up, end), up).graph

    assert graph.reachable["up"] == {"end"}
    assert graph.error_targets["up"] == ("end",)


class SpecialFailure(ExecutorFailure):
    pass


@pytest.mark.parametrize("takes", [ExecutorFailure, Any, object, str | ExecutorFailure])
def test_executors_that_may_receive_failures(takes: Any) -> None:
    up = Upper("up")
    workflow = build(WorkflowBuilder().add_error_edge(up, node("medic", takes)), up)
    assert workflow.graph.error_targets["up"] == ("medic",)


@pytest.mark.parametrize("takes", [str, dict, SpecialFailure, list[ExecutorFailure]])
def test_executors_that_may_not(takes: Any) -> None:
    up = Upper("up")
    with pytest.raises(
        TypeCompatibilityError,
        match=r"error edge up -> medic: 'medic' gets an ExecutorFailure when 'up' fails"
        r".*Give it a handler",
    ) as caught:
        build(WorkflowBuilder().add_error_edge(up, node("medic", takes)), up)
    error = caught.value
    assert (error.source_executor_id, error.target_executor_id) == ("up", "medic")
    assert (error.source_types, error.target_types) == ([ExecutorFailure], [takes])


def test_what_a_response_handler_sends_counts_along_an_edge() -> None:
    class Worker(Executor):
        @handler
        async def begin(self, message: str, ctx: WorkflowContext) -> None:
            pass

        @response_handler
        async def decided(self, question: str, answer: bool, ctx: WorkflowContext[str]) -> None:
            pass

    worker = Worker("w")
    build(WorkflowBuilder().add_edge(worker, Reverse("end")), worker)
    with pytest.raises(TypeCompatibilityError, match="'w' sends str, but 'count' handles int"):
        build(WorkflowBuilder().add_edge(worker, Counter("count")), worker)


def test_a_policy_or_an_error_edge_of_a_sub_workflows_node() -> None:
    inner = build(WorkflowBuilder(name="inner"), Reverse("back"))
    sub = WorkflowExecutor(inner, "sub")
    with pytest.raises(WorkflowValidationError, match=r"'sub' is a sub-workflow.*executors inside"):
        build(WorkflowBuilder().with_failure_policy(sub, FailurePolicy(max_attempts=2)), sub)


def test_ids_that_could_be_paths() -> None:
    inner = build(WorkflowBuilder(name="inner"), Reverse("ba/ck"))
    with pytest.raises(WorkflowValidationError, match="'ba/ck'"):
        build(WorkflowBuilder(), WorkflowExecutor(inner, "sub"))


# ------------------------------------------------------------------------ unanswerable questions


class Other(RequestInfoMessage):
    """Another question."""


def asks(*answers: Any, sends: Any = Question) -> Executor:
    """An executor that asks, and takes these answers."""
    takes = str
    for answer in answers:
        takes = takes | answer
    return node("asks", takes, sends)


def test_a_question_through_a_port_needs_a_way_back() -> None:
    port, asker = RequestInfoExecutor("port"), asks(RequestResponse[Question, str])
    builder = WorkflowBuilder().add_edge(asker, port)
    with pytest.raises(
        UnanswerableQuestionError, match=r"no edge leads back.*add_edge\(port, asks\)"
    ):
        build(builder, asker)
    build(builder.add_edge(port, asker), asker)


@pytest.mark.parametrize(
    ("answers", "sends"),
    [([], Question), ([RequestResponse[Other, str]], Question), ([], Question | Other)],
)
def test_a_question_through_a_port_needs_a_handler_for_the_answer(
    answers: list[Any], sends: Any
) -> None:
    port, asker = RequestInfoExecutor("port"), asks(*answers, sends=sends | str)
    end = node("end", str)
    builder = WorkflowBuilder().add_edge(asker, port).add_edge(asker, end).add_edge(port, asker)
    with pytest.raises(UnanswerableQuestionError, match="no handler for the answer"):
        build(builder, asker)


@pytest.mark.parametrize(
    ("answers", "sends"),
    [
        ([RequestResponse[Question, str]], Question),
        ([RequestResponse[RequestInfoMessage, str]], Question),
        ([RequestResponse[Question, str]], RequestInfoMessage),
        ([RequestResponse], Question),
        ([RequestResponse[Any, Any]], Question),
        ([RequestResponse[Question, str] | RequestResponse[Other, str]], Question | Other),
        ([RequestResponse[Question, str]], Question | Other),  # a condition may tell them apart
        ([RequestResponse[Question, str]], Any),
    ],
)
def test_what_may_be_answered_is_not_refused(answers: list[Any], sends: Any) -> None:
    port, asker = RequestInfoExecutor("port"), asks(*answers, sends=sends)
    build(WorkflowBuilder().add_edge(asker, port).add_edge(port, asker), asker)


def inner_asking() -> Workflow:
    port, asker = RequestInfoExecutor("port"), asks(RequestResponse[Question, str])
    return build(WorkflowBuilder().add_edge(asker, port).add_edge(port, asker), asker)


@pytest.mark.parametrize(
    ("takes", "is_refused"),
    [
        (Question, True),
        (RequestInfoMessage, True),
        (SubWorkflowRequestMessage[Question], True),
        (SubWorkflowRequestMessage, True),
        (Question | str, True),
        (Any, False),  # it gets no questions
        (Other | SubWorkflowRequestMessage[Any], True),
    ],
)
def test_an_executor_that_gets_a_sub_workflows_questions_needs_edges_to_it(
    takes: Any, is_refused: bool
) -> None:
    sub, around = WorkflowExecutor(inner_asking(), "sub"), node("around", takes, str)
    port, middle = RequestInfoExecutor("port"), node("middle", str, str)
    for allow in (False, True):
        builder = WorkflowBuilder().add_edge(sub, around, condition=bool)
        if is_refused:
            with pytest.raises(UnanswerableQuestionError, match=r"add_edge\(around, sub\)"):
                build(builder, sub)
        elif allow:
            build(builder, sub)
    build(WorkflowBuilder().add_edge(sub, around).add_edge(around, sub), sub)
    build(WorkflowBuilder().add_edge(sub, around).add_chain([around, middle, sub]), sub)
    build(WorkflowBuilder().add_edge(sub, around).add_edge(sub, port), sub)


def test_an_executor_with_handlers_for_other_questions_is_not_meant() -> None:
    sub, around = WorkflowExecutor(inner_asking(), "sub"), node("around", Other | str)
    build(WorkflowBuilder().add_edge(sub, around), sub)
