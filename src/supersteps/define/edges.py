"""Edges: the ways that messages take through the graph.

These are values only; the engine's merge does the routing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from supersteps._error_texts import described
from supersteps._user_functions import call_apart, discard, is_unfinished
from supersteps.define.executor import Executor
from supersteps.errors import EdgeGroupError, RoutingError

Condition = Callable[[Any], bool]
SelectionFunction = Callable[[Any, list[str]], list[str]]
Takes = Callable[[str], bool]
"""Returns whether the executor of this id handles the message."""
ExecutorSource = Executor | str | Callable[[], Executor]
"""What the builder accepts as an executor: an instance, a registered name or a factory."""


@dataclass(frozen=True)
class Case:
    """One branch of a switch-case: for messages whose first true condition is this one."""

    condition: Condition
    target: ExecutorSource


@dataclass(frozen=True)
class Default:
    """The branch of a switch-case for messages for which no condition is true."""

    target: ExecutorSource


def function_name(function: Callable[..., Any] | None) -> str | None:
    """Return a condition's name in the graph's fingerprint."""
    if function is None:
        return None
    return getattr(function, "__name__", type(function).__name__)


def _plain(executor_id: str) -> str:
    """Return an executor's id as part of a group's id, escaped so that all groups differ."""
    return executor_id.replace("%", "%25").replace("+", "%2B").replace("->", "-%3E")


@dataclass(frozen=True)
class EdgeGroup:
    """Edges that together choose the targets of a message.

    Attributes:
        source_ids: Where messages come from; one, except for a fan-in.
        target_ids: Where they may go.
    """

    source_ids: tuple[str, ...]
    target_ids: tuple[str, ...]

    @property
    def source_executor_ids(self) -> list[str]:
        """Ids of the executors that messages come from."""
        return list(self.source_ids)

    @property
    def target_executor_ids(self) -> list[str]:
        """Ids of the executors to which messages may go."""
        return list(self.target_ids)

    @property
    def kind(self) -> str:
        """The kind of the group, in fingerprints and pictures."""
        return "edge"

    @property
    def names(self) -> tuple[str | None, ...]:
        """Names of the functions that choose, for the fingerprint."""
        return ()

    @property
    def id(self) -> str:
        """Id of the group; the same in every process that builds the graph."""
        sources, targets = (
            "+".join(map(_plain, ids)) for ids in (self.source_ids, self.target_ids)
        )
        return f"{self.kind}:{sources}->{targets}"

    @property
    def is_plain(self) -> bool:
        """Whether a message takes every edge whose target handles it, without a function."""
        return True

    def choose(self, message: Any, target_id: str | None, takes: Takes) -> Sequence[str]:
        """Return the targets that get a message.

        Functions are called only for messages that a target handles and, if the sender has named a
        target, that are meant for one of the group's.

        Args:
            message: The message.
            target_id: The only target that the sender wants, None for all.
            takes: Returns whether a target handles the message.

        Raises:
            RoutingError: A condition or selection function raised, or chose a target it does not
                have.
        """
        wanted = self.target_ids if target_id is None else _only(self.target_ids, target_id)
        takers = [target for target in wanted if takes(target)]
        return self._pick(message, takers, takes) if takers else ()

    def _pick(self, message: Any, takers: Sequence[str], takes: Takes) -> Sequence[str]:
        """Return the targets of a message, out of those that handle it and are wanted."""
        return takers

    def _decide(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = call_apart(function, *arguments)
        except Exception as error:
            raise RoutingError(
                f"{what} {function_name(function)!r} of {self.id} raised {described(error)}. "
                "Nothing of this superstep was committed; fix the function and resume the run."
            ) from error
        if type(answer) is not bool and is_unfinished(answer):
            discard(answer)
            raise RoutingError(
                f"{what} {function_name(function)!r} of {self.id} returned a "
                f"{type(answer).__name__}, which would have to be awaited or iterated; it has to "
                "return its answer. Nothing of this superstep was committed; fix the function and "
                "resume the run."
            )
        return answer

    def _holds(self, condition: Condition, message: Any) -> bool:
        answer = self._decide("condition", condition, message)
        if type(answer) is bool:
            return answer
        try:
            return bool(answer)
        except Exception as error:
            raise RoutingError(
                f"condition {function_name(condition)!r} of {self.id} returned a "
                f"{type(answer).__name__}, which is neither true nor false: {described(error)}. "
                "Nothing of this superstep was committed; fix the function and resume the run."
            ) from error


@dataclass(frozen=True)
class SingleEdgeGroup(EdgeGroup):
    """One edge, with or without a condition."""

    condition: Condition | None = None

    @property
    def names(self) -> tuple[str | None, ...]:
        return (function_name(self.condition),)

    @property
    def is_plain(self) -> bool:
        return self.condition is None

    def _pick(self, message: Any, takers: Sequence[str], takes: Takes) -> Sequence[str]:
        if self.condition is not None and not self._holds(self.condition, message):
            return ()
        return takers


@dataclass(frozen=True)
class FanOutEdgeGroup(EdgeGroup):
    """Edges to several targets: all of them, or those that a selection function chooses."""

    selection_func: SelectionFunction | None = None

    @property
    def kind(self) -> str:
        return "fan_out"

    @property
    def names(self) -> tuple[str | None, ...]:
        return (function_name(self.selection_func),)

    @property
    def is_plain(self) -> bool:
        return self.selection_func is None

    def _pick(self, message: Any, takers: Sequence[str], takes: Takes) -> Sequence[str]:
        if self.selection_func is None:
            return takers
        answer = self._decide(
            "selection function", self.selection_func, message, list(self.target_ids)
        )
        is_list = isinstance(answer, Collection) and not isinstance(answer, str)
        if not is_list or not all(target in self.target_ids for target in answer):
            raise RoutingError(
                f"selection function {function_name(self.selection_func)!r} of {self.id} chose "
                f"{answer!r}, which is not a list of some of its targets {list(self.target_ids)}. "
                "Nothing of this superstep was committed; fix the function and resume the run."
            )
        return [target for target in takers if target in answer]  # the graph's order, no repeats


@dataclass(frozen=True)
class SwitchCaseEdgeGroup(EdgeGroup):
    """Edges of which a message takes one: the first case that is true, else the default.

    A case whose target does not handle a message is skipped without calling its condition.
    """

    conditions: tuple[Condition, ...] = ()

    @property
    def kind(self) -> str:
        return "switch_case"

    @property
    def names(self) -> tuple[str | None, ...]:
        return tuple(function_name(condition) for condition in self.conditions)

    @property
    def is_plain(self) -> bool:
        return False

    def _pick(self, message: Any, takers: Sequence[str], takes: Takes) -> Sequence[str]:
        cases = zip(self.conditions, self.target_ids, strict=False)  # the last is the default's
        chosen = next(
            (t for c, t in cases if takes(t) and self._holds(c, message)),
            self.target_ids[-1],
        )
        return (chosen,) if chosen in takers else ()


@dataclass(frozen=True)
class FanInEdgeGroup(EdgeGroup):
    """Edges that wait for a message from every source and deliver them as one list.

    The list is in the order of the sources.
    """

    @property
    def kind(self) -> str:
        return "fan_in"


@dataclass(frozen=True)
class ErrorEdgeGroup(EdgeGroup):
    """An edge for failures: a call that failed for good is sent as an `ExecutorFailure`.

    The source's messages never take it.
    """

    @property
    def kind(self) -> str:
        return "on_error"


def _only(targets: Sequence[str], target_id: str) -> Sequence[str]:
    return (target_id,) if target_id in targets else ()


def check_switch(cases: Sequence[Case | Default]) -> tuple[list[Case], Default]:
    """Return a switch's cases and its default.

    Raises:
        EdgeGroupError: There is no case, or not exactly one default.
    """
    chosen = [case for case in cases if isinstance(case, Case)]
    defaults = [case for case in cases if isinstance(case, Default)]
    if len(chosen) + len(defaults) != len(cases):
        raise EdgeGroupError(
            "add_switch_case_edge_group takes Case(condition, target) and Default(target) objects"
        )
    if len(defaults) != 1:
        raise EdgeGroupError(
            f"a switch-case needs exactly one Default(target), not {len(defaults)}: it gets the "
            "messages for which no case is true"
        )
    if not chosen:
        raise EdgeGroupError(
            "a switch-case needs at least one Case(condition, target); use add_edge for a plain "
            "edge"
        )
    return chosen, defaults[0]
