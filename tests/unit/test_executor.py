"""`Executor` and `@handler`: what signatures mean, what is refused at definition, and who handles
which message.
"""

import functools
from abc import ABC
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    Never,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import pytest

from supersteps import Executor, HandlerDefinitionError, WorkflowBuilder, WorkflowContext, handler

T = TypeVar("T")


class Base:
    pass


class Middle(Base):
    pass


class Leaf(Middle):
    pass


def chooser(*annotations: Any) -> Executor:
    """Make an executor with one handler per annotation, named h0, h1, and so on."""
    members: dict[str, Any] = {}
    for index, annotation in enumerate(annotations):

        async def handle(self: Executor, message: Any, ctx: WorkflowContext) -> None:
            pass

        handle.__name__ = f"h{index}"
        handle.__annotations__["message"] = annotation
        members[f"h{index}"] = handler(handle)
    made: Executor = type("Made", (Executor,), members)("made")
    return made


def chosen(executor: Executor, message: Any) -> str | None:
    spec = executor.__supersteps__.find(message)
    return None if spec is None else spec.name


# -------------------------------------------------------------------------------------- definitions


def test_a_handlers_signature_says_what_it_takes_sends_and_yields() -> None:
    class Worker(Executor):
        @handler
        async def text(self, message: str, ctx: WorkflowContext[int | bytes, float]) -> None:
            pass

        @handler
        def number(self, message: int, ctx: WorkflowContext[Never, str]) -> None:
            pass

        @handler
        async def nothing(self, message: None, ctx: WorkflowContext) -> None:
            pass

    worker = Worker("w")

    assert worker.input_types == [str, int, type(None)]
    assert worker.output_types == [int, bytes]
    assert worker.workflow_output_types == [float, str]
    assert [spec.is_async for spec in worker.__supersteps__.specs] == [True, False, True]
    assert worker.can_handle("x")
    assert worker.can_handle(None)
    assert not worker.can_handle(1.5)
    assert repr(worker) == "Worker(id='w')"


def test_annotations_as_strings_see_local_names() -> None:
    @dataclass
    class Local:
        x: int

    class Worker(Executor):
        @handler
        async def work(self, message: "Local", ctx: "WorkflowContext[list[Local], Local]") -> None:
            pass

    assert Worker("w").input_types == [Local]
    assert Worker("w").output_types == [list[Local]]


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (lambda self: None, "takes 1 positional parameters"),
        (lambda self, message: None, "takes 2 positional parameters"),
        (lambda self, message, ctx, more: None, "takes 4 positional parameters"),
        (lambda self, message, ctx: None, "parameter 'message' has no type annotation"),
    ],
)
def test_a_malformed_handler_is_refused_when_its_class_is_defined(
    define: Callable[..., Any], expected: str
) -> None:
    define.__name__ = "work"
    with pytest.raises(
        HandlerDefinitionError, match=rf"handler Bad\.work must be written.*{expected}"
    ):
        type("Bad", (Executor,), {"work": handler(define)})


def test_the_context_needs_an_annotation_that_is_one() -> None:
    with pytest.raises(
        HandlerDefinitionError, match=r"Bad\.work.*parameter 'ctx' has no annotation"
    ):

        class Bad(Executor):
            @handler
            async def work(self, message: str, ctx) -> None:  # type: ignore[no-untyped-def]
                pass

    with pytest.raises(
        HandlerDefinitionError, match=r"parameter 'ctx' is annotated int: use WorkflowContext"
    ):

        class Worse(Executor):
            @handler
            async def work(self, message: str, ctx: int) -> None:
                pass

    with pytest.raises(
        HandlerDefinitionError, match="7 inside the annotation of 'ctx' is not a type"
    ):

        class Worst(Executor):
            @handler
            async def work(self, message: str, ctx: WorkflowContext[7]) -> None:  # type: ignore[valid-type]
                pass


def test_a_name_that_is_not_defined_is_named() -> None:
    with pytest.raises(
        HandlerDefinitionError, match=r"handler .*Bad\.work: its annotations name 'Missing'"
    ):

        class Bad(Executor):
            @handler
            async def work(self, message: "Missing", ctx: WorkflowContext) -> None:  # type: ignore[name-defined]  # noqa: F821
                pass


def test_a_message_type_has_one_handler() -> None:
    with pytest.raises(HandlerDefinitionError, match=r"Bad\.one and .*Bad\.two both take int"):

        class Bad(Executor):
            @handler
            async def one(self, message: int | str, ctx: WorkflowContext) -> None:
                pass

            @handler
            async def two(self, message: int | float, ctx: WorkflowContext) -> None:
                pass


def test_an_executor_without_handlers_is_refused() -> None:
    class Idle(Executor):
        pass

    with pytest.raises(
        HandlerDefinitionError,
        match="executor class Idle has no handlers; mark at least one method",
    ):
        Idle("x")


@pytest.mark.parametrize("wrong", ["", "a\nb", "x" * 500, None, 7])
def test_ids_that_no_storage_could_keep_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="executor id"):
        chooser(str).__class__(wrong)


def test_handlers_are_inherited_overridden_and_removed() -> None:
    class Parent(Executor):
        @handler
        async def one(self, message: int, ctx: WorkflowContext) -> None:
            pass

        @handler
        async def two(self, message: str, ctx: WorkflowContext) -> None:
            pass

    class Child(Parent):
        @handler
        async def one(self, message: float, ctx: WorkflowContext) -> None:
            pass

        two = None  # type: ignore[assignment]

        @handler
        async def three(self, message: bytes, ctx: WorkflowContext) -> None:
            pass

    assert Parent("p").input_types == [int, str]
    assert Child("c").input_types == [float, bytes]


async def test_other_decorators_keep_their_effect() -> None:
    calls: list[str] = []

    def twice(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> None:
            calls.append("wrapped")
            await function(*args)

        return wrapper

    def plainly(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Awaitable[None]:
            calls.append("plainly wrapped")
            return function(*args)

        return wrapper

    class Worker(Executor):
        @handler
        @twice
        async def inner(self, message: int, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"int {message}")

        @twice
        @handler
        async def outer(self, message: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"str {message}")

        @handler
        @plainly
        async def plain(self, message: float, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"float {message}")

    workflow = WorkflowBuilder().set_start_executor(Worker("w")).build()
    assert [(await workflow.run(value)).get_outputs() for value in (1, "x", 1.5)] == [
        ["int 1"],
        ["str x"],
        ["float 1.5"],
    ]
    assert calls == ["wrapped", "wrapped", "plainly wrapped"]


def test_hooks_are_noticed() -> None:
    class Plain(Executor):
        @handler
        async def work(self, message: int, ctx: WorkflowContext) -> None:
            pass

    class Hooked(Plain):
        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            pass

    assert not Plain("x").__supersteps__.has_hooks
    assert Hooked("x").__supersteps__.has_hooks


# ----------------------------------------------------------------------------------------- dispatch


def test_the_exact_type_comes_first_then_the_nearest_base_any_last() -> None:
    executor = chooser(Any, Base, Leaf)

    assert chosen(executor, Leaf()) == "h2"
    assert chosen(executor, Middle()) == "h1"
    assert chosen(executor, Base()) == "h1"
    assert chosen(executor, 7) == "h0"
    assert chosen(chooser(object, int), "x") == "h0"


def test_a_bool_is_an_int_when_nothing_fits_better() -> None:
    assert chosen(chooser(int), True) == "h0"
    assert chosen(chooser(int, bool), True) == "h1"
    assert chosen(chooser(float), 1) is None


def test_unions_are_their_members() -> None:
    executor = chooser(int | str, Union[bytes, Optional[float]])  # noqa: UP007, UP045

    values: list[Any] = [1, "x", b"", None, 1.5, []]
    assert [chosen(executor, value) for value in values] == ["h0", "h0", "h1", "h1", "h1", None]


def test_generics_look_inside_and_come_before_the_bare_class() -> None:
    executor = chooser(list, list[int], list[str], dict[str, int], tuple[int, ...])

    assert chosen(executor, [1, 2]) == "h1"
    assert chosen(executor, ["a"]) == "h2"
    assert chosen(executor, [1, "a"]) == "h0"
    assert chosen(executor, {"a": 1}) == "h3"
    assert chosen(executor, {"a": "b"}) is None
    assert chosen(executor, (1, 2)) == "h4"


def test_elements_of_a_container_are_checked_each_time() -> None:
    executor = chooser(list[int])
    assert [chosen(executor, value) for value in ([1], ["a"], [1])] == ["h0", None, "h0"]


class Movie(TypedDict):
    title: str


@runtime_checkable
class Named(Protocol):
    name: str


class Shape(ABC):  # noqa: B024
    pass


def test_other_annotations() -> None:
    @Shape.register
    class Square:
        name = "square"

    assert chosen(chooser(Movie), {"title": "M"}) == "h0"
    assert chosen(chooser(Movie), {"name": "M"}) is None
    assert chosen(chooser(Literal["a", "b"]), "a") == "h0"
    assert chosen(chooser(Literal["a", "b"]), "c") is None
    assert chosen(chooser(Annotated[int, "positive"]), 1) == "h0"
    assert chosen(chooser(Named), Square()) == "h0"
    assert chosen(chooser(Shape), Square()) == "h0"
    assert chosen(chooser(Sequence[int]), [1]) == "h0"
    assert chosen(chooser(Sequence[int]), ["a"]) is None
    assert chosen(chooser(Mapping), {}) == "h0"
