"""`Backend`: the port through which handlers and hooks are called."""

from __future__ import annotations

from typing import Protocol

from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall


class Backend(Protocol):
    """Runs the calls of executors, one at a time for each of them."""

    async def invoke(self, planned: PlannedCall, site: CallSite) -> Effects:
        """Run the handler of a message.

        Args:
            planned: The message.
            site: Whose handler, and what the call needs to know of the run.

        Returns:
            The effects of the call, complete.

        Raises:
            UserCodeError: The handler raised; its effects are dropped.
        """
        ...

    async def checkpoint(self, site: CallSite, effects: Effects) -> None:
        """Run the executor's `on_checkpointing` hook and add what it does to `effects`."""
        ...

    async def restore(self, site: CallSite) -> None:
        """Run the executor's `on_checkpoint_restored` hook: it takes its attributes back."""
        ...
