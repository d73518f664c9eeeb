"""Executors that save their attributes as one dict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supersteps.define.context import WorkflowContext
from supersteps.errors import HandlerDefinitionError, WorkflowRuntimeError
from supersteps.typing import display_name

_KEYS = "__supersteps_snapshot_keys__"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pair of methods of an executor class, named as in Agent Framework.

    Attributes:
        save: Name of the method that returns the attributes to save: `() -> dict`, async or plain.
        restore: Name of the method that restores them: `(state: dict) -> None`, async or plain.
    """

    save: str
    restore: str

    async def keep(self, executor: Any, ctx: WorkflowContext[Any, Any]) -> None:
        """Store what the executor saves as its state.

        Raises:
            TypeError: It does not save a dict.
            WorkflowRuntimeError: Its handlers set state as well, which would be lost.
        """
        state = await _finished(getattr(executor, self.save)())
        if not isinstance(state, Mapping):
            raise TypeError(
                f"{self.save} of executor {executor.id!r} returned a {display_name(type(state))}; "
                "it must return a dict with string keys"
            )
        saved = vars(executor).get(_KEYS, frozenset())
        foreign = (ctx.get_state().result() or {}).keys() - saved - state.keys()
        if foreign:
            raise WorkflowRuntimeError(
                f"executor {executor.id!r} has state in two ways: {self.save} returns all of it, "
                f"while {', '.join(map(repr, sorted(foreign)))} was set through the context and "
                f"would be lost. Add it to what {self.save} returns, or set all state through ctx."
            )
        ctx.set_state(dict(state))
        vars(executor)[_KEYS] = frozenset(state)

    async def bring_back(self, executor: Any, ctx: WorkflowContext[Any, Any]) -> None:
        """Restore the executor's attributes, if it has ever saved any."""
        state = ctx.get_state().result()
        if state is not None:
            vars(executor)[_KEYS] = frozenset(state)
            await _finished(getattr(executor, self.restore)(state))


_PAIRS = (
    Snapshot("snapshot_state", "restore_state"),
    Snapshot("on_checkpoint_save", "on_checkpoint_restore"),
)


def snapshot_of(cls: type, *, overrides_hooks: bool) -> Snapshot | None:
    """Return the methods with which an executor class saves its attributes, None if it has none.

    Args:
        cls: The class.
        overrides_hooks: Whether it overrides `on_checkpointing` or `on_checkpoint_restored`.

    Raises:
        HandlerDefinitionError: One method of a pair is missing, or there are several pairs.
    """
    found = []
    for pair in _PAIRS:
        there = [name for name in (pair.save, pair.restore) if getattr(cls, name, None) is not None]
        if not there:
            continue
        found.append(pair)
        missing = {pair.save, pair.restore} - {*there}
        if missing:
            raise HandlerDefinitionError(
                f"executor class {cls.__qualname__} defines {there[0]} but not {missing.pop()}, so "
                "its attributes could not be restored. Define both, or on_checkpointing(ctx) and "
                "on_checkpoint_restored(ctx); rename a method that is not about checkpoints."
            )
    if len(found) + overrides_hooks > 1:
        ways = [f"{pair.save} and {pair.restore}" for pair in found]
        ways += ["on_checkpointing and on_checkpoint_restored"] * overrides_hooks
        raise HandlerDefinitionError(
            f"executor class {cls.__qualname__} saves its attributes in several ways: "
            f"{', '.join(ways)}. Keep one of them."
        )
    return found[0] if found else None


async def _finished(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result
