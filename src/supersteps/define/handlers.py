"""`Handlers`: what an executor handles, sends and yields.

The engine keeps it in one attribute with a reserved name, so that users may choose all other names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from supersteps.define.dispatch import DispatchTable, specificity
from supersteps.define.handler_spec import HandlerSpec, ResponseSpec
from supersteps.define.snapshots import Snapshot
from supersteps.errors import HandlerDefinitionError


class Handlers:
    """The handlers of an executor class, or of one executor.

    Attributes:
        specs: Handlers of messages.
        response_specs: Handlers of answers.
        has_hooks: Whether the executor keeps its own attributes between calls, which checkpoint
            hooks save and restore.
        snapshot: The methods that save them as one dict, if the class has these.
        find: Returns the handler of a message: exact type, nearest base, then `Any`; None if
            there is none.
    """

    __slots__ = ("find", "has_hooks", "response_specs", "snapshot", "specs")

    find: Callable[[Any], HandlerSpec | None]

    def __init__(
        self,
        specs: Iterable[HandlerSpec],
        response_specs: Iterable[ResponseSpec] = (),
        *,
        has_hooks: bool = False,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.specs: Sequence[HandlerSpec] = tuple(specs)
        self.response_specs: Sequence[ResponseSpec] = tuple(response_specs)
        self.has_hooks = has_hooks
        self.snapshot = snapshot
        self.find = DispatchTable(self.specs).find

    def require(self, owner: type) -> None:
        """Refuse an executor class without handlers.

        Raises:
            HandlerDefinitionError: It has none.
        """
        if not self.specs:
            raise HandlerDefinitionError(
                f"executor class {owner.__name__} has no handlers; mark at least one method with "
                "@handler: async def handle(self, message: str, ctx: WorkflowContext[str]) -> None"
            )

    @property
    def input_types(self) -> list[Any]:
        """Types of the messages that are handled."""
        return [spec.message_type for spec in self.specs]

    @property
    def output_types(self) -> list[Any]:
        """Types of the messages that may be sent."""
        return _unique(item for spec in self._all_specs for item in spec.sends)

    @property
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs that may be yielded."""
        return _unique(item for spec in self._all_specs for item in spec.yields)

    @property
    def _all_specs(self) -> list[HandlerSpec | ResponseSpec]:
        return [*self.specs, *self.response_specs]

    def find_response(self, question: Any, answer: Any) -> ResponseSpec | None:
        """Return the handler of an answer: the closest for the question, then for the answer."""
        fitting = [
            ((of_question, of_answer), spec)
            for spec in self.response_specs
            if (of_question := specificity(question, spec.request_type)) is not None
            and (of_answer := specificity(answer, spec.response_type)) is not None
        ]
        return min(fitting, key=lambda found: found[0])[1] if fitting else None

    def response_types(self, question: Any) -> list[Any]:
        """Return the annotations of the answers to a question; the closest to its type first."""
        fitting = [
            (rank, spec.response_type)
            for spec in self.response_specs
            if (rank := specificity(question, spec.request_type)) is not None
        ]
        kinds = [kind for _rank, kind in sorted(fitting, key=lambda found: found[0])]
        # Compared, not hashed: the content of an Annotated[...] may be unhashable.
        return [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))
