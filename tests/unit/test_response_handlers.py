"""`@response_handler`: what signatures mean, what is refused at definition, and who takes which
answer.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Never, Protocol, TypedDict, runtime_checkable

import pytest

from supersteps import (
    Executor,
    HandlerDefinitionError,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)
from supersteps.define.handler_spec import ResponseSpec


@dataclass
class Question:
    text: str = "?"


@dataclass
class Special(Question):
    pass


@dataclass
class Urgent(Special):
    pass


class Asking(Executor):
    """An executor needs a handler for messages as well."""

    @handler
    async def begin(self, message: bytes, ctx: WorkflowContext[int, str]) -> None:
        pass


def chooser(*pairs: tuple[Any, Any]) -> Executor:
    """Make an executor with a response handler per (question, answer), named h0, h1, and so on."""
    members: dict[str, Any] = {}
    for index, (request_type, response_type) in enumerate(pairs):

        async def handle(
            self: Executor, original_request: Any, response: Any, ctx: WorkflowContext
        ) -> None:
            pass

        handle.__name__ = f"h{index}"
        handle.__annotations__ |= {"original_request": request_type, "response": response_type}
        members[f"h{index}"] = response_handler(handle)
    made: Executor = type("Made", (Asking,), members)("made")
    return made


def chosen(executor: Executor, question: Any, answer: Any) -> str | None:
    spec = executor.__supersteps__.find_response(question, answer)
    return None if spec is None else spec.name


# -------------------------------------------------------------------------------------- definitions


def test_a_signature_says_what_it_takes_sends_and_yields() -> None:
    class Worker(Asking):
        @response_handler
        async def decided(
            self, question: Question, answer: bool, ctx: WorkflowContext[int | bytes, float]
        ) -> None:
            pass

        @response_handler
        def plain(
            self, question: str | int, answer: str | None, ctx: WorkflowContext[Never, str]
        ) -> None:
            pass

    worker = Worker("w")
    decided, plain = worker.__supersteps__.response_specs

    assert decided == ResponseSpec(
        name="decided",
        function=Worker.decided,
        request_type=Question,
        response_type=bool,
        sends=(int, bytes),
        yields=(float,),
        is_async=True,
    )
    assert (plain.request_type, plain.response_type, plain.is_async) == (
        str | int,
        str | None,
        False,
    )
    assert worker.output_types == [int, bytes]
    assert worker.workflow_output_types == [str, float]
    assert worker.input_types == [bytes]
    assert not worker.can_handle(Question())


def test_executors_without_questions_have_none() -> None:
    @executor
    async def function(message: str) -> None:
        pass

    for plain in (Asking("a"), function):
        assert tuple(plain.__supersteps__.response_specs) == ()
        assert plain.__supersteps__.find_response(Question(), True) is None
        assert plain.__supersteps__.response_types(Question()) == []


async def test_it_is_called_with_the_question_and_the_answer() -> None:
    got: list[Any] = []

    class Worker(Asking):
        @response_handler
        async def decided(self, question: Question, answer: bool, ctx: WorkflowContext) -> None:
            got.append((self, question, answer, ctx))

    worker, ctx = Worker("w"), WorkflowContext[Any, Any](call=None)  # type: ignore[arg-type]
    spec = worker.__supersteps__.find_response(Question(), True)
    assert spec is not None
    await spec.call(worker, Question(), True, ctx)
    assert got == [(worker, Question(), True, ctx)]


def test_annotations_as_strings_see_local_names() -> None:
    @dataclass
    class Local:
        x: int

    class Worker(Asking):
        @response_handler
        async def work(
            self, question: "Local", answer: "list[Local]", ctx: "WorkflowContext[Local, Local]"
        ) -> None:
            pass

    (spec,) = Worker("w").__supersteps__.response_specs
    assert (spec.request_type, spec.response_type, spec.sends, spec.yields) == (
        Local,
        list[Local],
        (Local,),
        (Local,),
    )


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (lambda self: None, "takes 1 positional parameters"),
        (lambda self, question, ctx: None, "takes 3 positional parameters"),
        (lambda self, question, answer, ctx, more: None, "takes 5 positional parameters"),
        (lambda self, question, answer, ctx: None, "parameter 'question' has no type annotation"),
    ],
)
def test_a_malformed_one_is_refused_when_its_class_is_defined(
    define: Callable[..., Any], expected: str
) -> None:
    define.__name__ = "work"
    with pytest.raises(
        HandlerDefinitionError,
        match=r"response handler Bad\.work must be written "
        rf"\(self, original_request: Q, response: A.*{expected}",
    ):
        type("Bad", (Asking,), {"work": response_handler(define)})


def test_every_parameter_needs_an_annotation_that_is_one() -> None:
    with pytest.raises(
        HandlerDefinitionError, match=r"Bad\.work.*parameter 'answer' has no type annotation"
    ):

        class Bad(Asking):
            @response_handler
            async def work(self, question: str, answer, ctx: WorkflowContext) -> None:  # type: ignore[no-untyped-def]
                pass

    with pytest.raises(
        HandlerDefinitionError, match=r"Worse\.work.*parameter 'ctx' is annotated int"
    ):

        class Worse(Asking):
            @response_handler
            async def work(self, question: str, answer: str, ctx: int) -> None:
                pass

    with pytest.raises(
        HandlerDefinitionError,
        match=r"response handler .*Worst\.work: its annotations name 'Missing'",
    ):

        class Worst(Asking):
            @response_handler
            async def work(self, question: "Missing", answer: str, ctx: WorkflowContext) -> None:  # type: ignore[name-defined]  # noqa: F821
                pass


def test_a_question_and_an_answer_have_one_handler() -> None:
    with pytest.raises(
        HandlerDefinitionError,
        match=r"response handlers .*Bad\.one and .*Bad\.two "
        r"both take bool as the answer to .*Question; .*Merge them",
    ):

        class Bad(Asking):
            @response_handler
            async def one(
                self, question: Question | str, answer: bool | str, ctx: WorkflowContext
            ) -> None:
                pass

            @response_handler
            async def two(
                self, question: int | Question, answer: float | bool, ctx: WorkflowContext
            ) -> None:
                pass

    chooser((Question, bool), (Question, str), (Special, bool))


def test_an_executor_that_only_takes_answers_is_refused() -> None:
    class Deaf(Executor):
        @response_handler
        async def decided(self, question: Question, answer: bool, ctx: WorkflowContext) -> None:
            pass

    with pytest.raises(
        HandlerDefinitionError,
        match="executor class Deaf has no handlers; mark at least one method",
    ):
        Deaf("x")


def test_they_are_inherited_overridden_and_removed() -> None:
    class Parent(Asking):
        @response_handler
        async def one(self, question: Question, answer: int, ctx: WorkflowContext) -> None:
            pass

        @response_handler
        async def two(self, question: Question, answer: str, ctx: WorkflowContext) -> None:
            pass

        @response_handler
        async def three(self, question: Question, answer: bytes, ctx: WorkflowContext) -> None:
            pass

    class Child(Parent):
        @response_handler
        async def one(self, question: Question, answer: float, ctx: WorkflowContext) -> None:
            pass

        two = None  # type: ignore[assignment]

        @handler
        async def three(self, message: str, ctx: WorkflowContext) -> None:  # type: ignore[override]
            pass

    assert Parent("p").__supersteps__.response_types(Question()) == [int, str, bytes]
    assert Child("c").__supersteps__.response_types(Question()) == [float]
    assert Child("c").input_types == [bytes, str]


async def test_other_decorators_keep_their_effect() -> None:
    calls: list[str] = []

    def noted(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> None:
            calls.append(function.__name__)
            await function(*args)

        return wrapper

    class Worker(Asking):
        @response_handler
        @noted
        async def inner(self, question: Question, answer: int, ctx: WorkflowContext) -> None:
            pass

        @noted
        @response_handler
        async def outer(self, question: Question, answer: str, ctx: WorkflowContext) -> None:
            pass

    worker = Worker("w")
    ctx: Any = None
    for spec in worker.__supersteps__.response_specs:
        assert spec.is_async
        await spec.call(worker, Question(), 1, ctx)
    assert calls == ["inner", "outer"]


# ----------------------------------------------------------------------------------------- dispatch


def test_the_nearest_class_of_the_question_comes_first() -> None:
    made = chooser((Any, bool), (Question, bool), (Special, bool))

    assert chosen(made, Urgent(), True) == "h2"
    assert chosen(made, Special(), True) == "h2"
    assert chosen(made, Question(), True) == "h1"
    assert chosen(made, "else", True) == "h0"
    assert chosen(made, Special(), "yes") is None


def test_among_them_the_exact_answer_comes_before_its_base() -> None:
    made = chooser(
        (Question, object),
        (Question, int),
        (Question, bool),
        (Question, list),
        (Question, list[int]),
    )

    assert chosen(made, Question(), True) == "h2"
    assert chosen(made, Question(), 1) == "h1"
    assert chosen(made, Question(), [1]) == "h4"
    assert chosen(made, Question(), ["x"]) == "h3"
    assert chosen(made, Question(), "x") == "h0"


def test_the_question_counts_more_than_the_answer() -> None:
    made = chooser((Question, bool), (Special, Any))

    assert chosen(made, Special(), True) == "h1"
    assert chosen(made, Question(), True) == "h0"


def test_a_farther_question_serves_where_the_nearer_one_does_not_take_the_answer() -> None:
    made = chooser((Question, str), (Special, bool))

    assert chosen(made, Special(), "x") == "h0"
    assert chosen(made, Special(), True) == "h1"


def test_unions_are_their_members() -> None:
    made = chooser((Question | str, bool | None), (Special | int, Literal["later"] | int))

    assert chosen(made, "s", None) == "h0"
    assert chosen(made, Special(), True) == "h1"
    assert chosen(made, Special(), None) == "h0"
    assert chosen(made, 7, "later") == "h1"
    assert chosen(made, 7, "sooner") is None


class Form(TypedDict):
    name: str


@runtime_checkable
class Signed(Protocol):
    signature: str


class Deed:
    signature = "X"


def test_other_annotations() -> None:
    made = chooser((Question, Form), (Question, dict), (Question, Signed), (Question, Any))

    assert chosen(made, Question(), {"name": "N"}) == "h0"
    assert chosen(made, Question(), {"age": 1}) == "h1"
    assert chosen(made, Question(), Deed()) == "h2"
    assert chosen(made, Question(), 7) == "h3"
    assert (
        chosen(chooser((Annotated[Question, "here"], Annotated[int, "positive"])), Question(), 1)
        == "h0"
    )


def test_the_answers_to_a_question_the_most_specific_question_first() -> None:
    made = chooser(
        (Any, bytes),
        (Question, str),
        (Urgent, bool | None),
        (Special, int),
        (int, str),
        (Special, str),
    )

    assert made.__supersteps__.response_types(Urgent()) == [bool | None, int, str, bytes]
    assert made.__supersteps__.response_types(Question()) == [str, bytes]
    assert made.__supersteps__.response_types(1) == [str, bytes]
    assert chooser((Question, Annotated[int, []])).__supersteps__.response_types(Question()) == [
        Annotated[int, []]
    ]
