"""Where handlers run. `Backend` is the narrow port; `local` runs them in this process."""

from __future__ import annotations

from typing import Protocol

from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.executor import Executor


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
            Exception: Whatever the handler raises; its effects are dropped.
        """
        ...

    async def checkpoint(self, executor: Executor, site: CallSite, effects: Effects) -> None:
        """Run the executor's `on_checkpointing` hook and add what it does to `effects`."""
        ...
