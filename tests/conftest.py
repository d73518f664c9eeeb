"""What every test can use: tests may be `async def`, and none of them can hang."""

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests import postgres_server

TEST_SECONDS = 60


def run_to_completion(test: Callable[..., Awaitable[object]]) -> Callable[..., None]:
    """Make a plain function of a coroutine function: an event loop of its own, a time limit, no
    error unseen.
    """

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        unseen: list[str] = []

        async def limited() -> None:
            # Else an exception that no one awaits would only be a line in a log.
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: unseen.append(describe(context))
            )
            async with asyncio.timeout(TEST_SECONDS):
                await test(*args, **kwargs)

        asyncio.run(limited())
        if unseen:
            pytest.fail("the event loop reported: " + "; ".join(unseen))

    return run


def describe(context: dict[str, Any]) -> str:
    return f"{context['message']} ({context.get('exception')!r})"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    property_test = getattr(test, "hypothesis", None)
    if property_test is not None and inspect.iscoroutinefunction(property_test.inner_test):
        # Hypothesis calls the inner test once per example; each example gets its own loop and
        # limit.
        property_test.inner_test = run_to_completion(property_test.inner_test)
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    run_to_completion(test)(**arguments)
    return True


SESSION = "SUPERSTEPS_TEST_SESSION"


def pytest_configure(config: pytest.Config) -> None:
    if SESSION not in os.environ:  # the workers of pytest-xdist inherit it
        os.environ[SESSION] = f"{os.getpid()}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if os.environ.get(SESSION) == f"{os.getpid()}":
        postgres_server.end_session()
        del os.environ[SESSION]
