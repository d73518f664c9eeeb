"""`@executor`: functions as nodes."""

import functools
from dataclasses import dataclass
from typing import Any, Never

import pytest

from supersteps import (
    FunctionExecutor,
    HandlerDefinitionError,
    WorkflowBuilder,
    WorkflowContext,
    executor,
)


def test_a_function_becomes_an_executor_with_its_name() -> None:
    @executor
    async def shout(text: str, ctx: WorkflowContext[str, int]) -> None:
        """Shouts."""

    assert isinstance(shout, FunctionExecutor)
    assert shout.id == "shout"
    assert shout.__doc__ == "Shouts."
    assert (shout.input_types, shout.output_types, shout.workflow_output_types) == (
        [str],
        [str],
        [int],
    )


def test_an_id_may_be_given() -> None:
    @executor(id="loud")
    async def shout(text: str) -> None:
        pass

    def quiet(text: str) -> None:
        pass

    assert shout.id == "loud"
    assert executor(quiet, id="silent").id == "silent"


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("with_context", [True, False])
async def test_async_or_plain_with_or_without_context(is_async: bool, with_context: bool) -> None:
    got: list[Any] = []

    if is_async and with_context:

        @executor
        async def node(text: str, ctx: WorkflowContext[Never, str]) -> None:
            got.append((text, ctx.executor_id))

    elif is_async:

        @executor
        async def node(text: str) -> None:
            got.append((text, "node"))

    elif with_context:

        @executor
        def node(text: str, ctx: WorkflowContext[Never, str]) -> None:
            got.append((text, ctx.executor_id))

    else:

        @executor
        def node(text: str) -> None:
            got.append((text, "node"))

    await WorkflowBuilder().set_start_executor(node).build().run("x")
    assert got == [("x", "node")]
    assert node.__supersteps__.specs[0].is_async is is_async


def test_string_annotations_see_local_names() -> None:
    @dataclass
    class Local:
        x: int

    @executor
    async def one(message: "Local", ctx: "WorkflowContext[Local]") -> None:
        pass

    @executor(id="two")
    async def two(message: "list[Local]") -> None:
        pass

    assert one.input_types == [Local]
    assert two.input_types == [list[Local]]


def test_it_can_still_be_called() -> None:
    @executor
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8


async def test_a_plain_function_that_hands_back_a_coroutine_is_awaited() -> None:
    got: list[Any] = []

    async def work(prefix: str, text: str) -> None:
        got.append(prefix + text)

    def partial(text: str) -> Any:
        return functools.partial(work, "> ")(text)

    await WorkflowBuilder().set_start_executor(executor(partial)).build().run("x")
    assert got == ["> x"]


def test_malformed_functions_are_refused() -> None:
    def none() -> None:
        pass

    def many(a: int, b: WorkflowContext, c: int) -> None:
        pass

    def bare(a) -> None:  # type: ignore[no-untyped-def]
        pass

    def wrong(a: int, b: int) -> None:
        pass

    for function, expected in (
        (none, "takes 0 positional parameters"),
        (many, "takes 3 positional parameters"),
        (bare, "parameter 'a' has no type annotation"),
        (wrong, "parameter 'b' is annotated int"),
    ):
        with pytest.raises(
            HandlerDefinitionError,
            match=rf"executor function .*{function.__name__} must be.*{expected}",
        ):
            executor(function)


def test_a_forgotten_keyword_is_explained() -> None:
    wrong: Any = "loud"
    with pytest.raises(TypeError, match=r"use @executor\(id='loud'\)"):
        executor(wrong)
