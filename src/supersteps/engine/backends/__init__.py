"""Where handlers run. `Backend` is the narrow port; `local` runs them in this process."""

from __future__ import annotations

from typing import Any, Protocol

from supersteps._user_functions import discard
from supersteps.define.executor import Executor
from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.typing import display_name


def check_hook_result(executor: Executor, hook: str, result: Any) -> None:
    """Refuse a value that a checkpoint hook returned.

    Raises:
        TypeError: It returned a value: that would be saved nowhere.
    """
    if result is not None:
        discard(result)
        raise TypeError(
            f"{hook} of executor {executor.id!r} returned a {display_name(type(result))}, which "
            "goes nowhere: hooks write with ctx.queue_state_update(key, value), read with "
            "ctx.read_state(key), and return None"
        )


class Backend(Protocol):
    """Runs one call of a handler and returns what it did."""

    async def invoke(self, executor: Executor, planned: PlannedCall, site: CallSite) -> Effects:
        """Run the handler of a message.

        Args:
            executor: The executor.
            planned: The message.
            site: What the call needs to know of the run.

        Returns:
            The effects of the call, complete.

        Raises:
            UserCodeError: The handler raised; its effects are dropped.
        """
        ...

    async def checkpoint(self, executor: Executor, site: CallSite, effects: Effects) -> None:
        """Run the executor's `on_checkpointing` hook and add what it does to `effects`."""
        ...
