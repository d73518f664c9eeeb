"""`Call`: one call of a handler, recording what the handler does through its context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supersteps.checkpoint.record import EXECUTORS, utc_now
from supersteps.context import MISSING, SHARED_SCOPE
from supersteps.engine.effects import Ask, Effects, Send
from supersteps.engine.state import SCOPE_MARK, SHARED_STATE, Overlay, Scope, View, Write, resolve_scope
from supersteps.engine.values import Sealer
from supersteps.errors import HandlerContextError, UnknownTargetError
from supersteps.events import WorkflowEvent


class CallSite:
    """What all calls of one executor in one superstep have in common.

    Attributes:
        executor_id: The executor.
        run_id: The run.
        workflow_id: The workflow's name.
        step_number: The superstep.
        key_prefix: Run, branch, superstep and executor, for idempotency keys.
        reachable: Ids to which an edge leads from the executor.
        view: What the executor sees of the state.
        sealer: Seals what the handler hands over.
        emit: Passes live events on; to be called on the event loop.
    """

    __slots__ = (
        "emit",
        "executor_id",
        "key_prefix",
        "reachable",
        "run_id",
        "sealer",
        "step_number",
        "view",
        "workflow_id",
    )

    def __init__(
        self,
        *,
        executor_id: str,
        run_id: str,
        workflow_id: str,
        step_number: int,
        key_prefix: str,
        reachable: frozenset[str],
        view: View,
        sealer: Sealer,
        emit: Callable[[WorkflowEvent], None],
    ) -> None:
        self.executor_id = executor_id
        self.run_id = run_id
        self.workflow_id = workflow_id
        self.step_number = step_number
        self.key_prefix = key_prefix
        self.reachable = reachable
        self.view = view
        self.sealer = sealer
        self.emit = emit


class Call:
    """Records the effects of one call; the other side of a `WorkflowContext`.

    Attributes:
        effects: What the handler did so far.
    """

    __slots__ = (
        "_closed",
        "_emit",
        "_overlay",
        "_read_only",
        "_site",
        "_state_only",
        "effects",
        "executor_id",
        "source_ids",
    )

    def __init__(
        self,
        site: CallSite,
        ordinal: int,
        source_ids: tuple[str, ...],
        effects: Effects | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        """Begin a call.

        Args:
            site: What it has in common with the executor's other calls.
            ordinal: Which of them it is.
            source_ids: Who sent the message.
            effects: Continue these instead of beginning anew: for a checkpoint hook, which may touch state only.
            read_only: Refuse writes of state too: for the hook after a restore.
        """
        self._site = site
        self._overlay: Overlay = {}
        self._emit = site.emit
        self._closed = False
        self._state_only = effects is not None
        self._read_only = read_only
        self.effects = Effects(site.executor_id, ordinal) if effects is None else effects
        self.executor_id = site.executor_id
        self.source_ids = source_ids

    def close(self) -> None:
        """Refuse any further use: the handler has returned."""
        self._closed = True

    def emit_with(self, emit: Callable[[WorkflowEvent], None]) -> None:
        """Pass live events on in another way: for a handler that runs in a thread."""
        self._emit = emit

    @property
    def run_id(self) -> str:
        return self._site.run_id

    @property
    def workflow_id(self) -> str:
        return self._site.workflow_id

    @property
    def step_number(self) -> int:
        return self._site.step_number

    @property
    def idempotency_key(self) -> str:
        return f"{self._site.key_prefix}:{self.effects.ordinal}"

    def send(self, message: Any, target_id: str | None) -> None:
        self._check("send_message", state_only=False)
        if target_id is not None and target_id not in self._site.reachable:
            leads_to = ", ".join(sorted(map(repr, self._site.reachable))) or "nowhere"
            raise UnknownTargetError(
                f"executor {self.executor_id!r} sends to target_id={target_id!r}, but no edge leads there; its edges "
                f"lead to {leads_to}. Add the edge to the workflow, or correct the id."
            )
        payload = self._site.sealer.seal(
            message, "message {} from executor {!r}", len(self.effects.sends), self.executor_id
        )
        self.effects.sends.append(Send(payload, target_id))

    def output(self, value: Any) -> None:
        self._check("yield_output", state_only=False)
        self.effects.outputs.append(self._site.sealer.seal(value, "output of executor {!r}", self.executor_id))

    def emit(self, event: WorkflowEvent) -> None:
        self._check("add_event")
        if not isinstance(event, WorkflowEvent):
            raise TypeError(f"add_event takes a WorkflowEvent, not {type(event).__name__}: subclass WorkflowEvent")
        self._emit(event)

    def ask(self, request_id: str, data: Any, source_executor_id: str) -> None:
        self._check("request", state_only=False)
        sealed = self._site.sealer.seal(data, "request {!r} of executor {!r}", request_id, source_executor_id)
        self.effects.asks.append(Ask(request_id, source_executor_id, sealed, utc_now()))

    # ---------------------------------------------------------------------------------------- state

    def read(self, scope: str | None, key: str, default: Any) -> Any:
        self._check("reading state")
        value = self._site.view.read(resolve_scope(scope, self.executor_id), key, self._overlay)
        if value is not MISSING:
            return value
        if default is MISSING:
            known = self._site.view.keys(resolve_scope(scope, self.executor_id), self._overlay)
            raise KeyError(
                f"no shared state {key!r} (asked by executor {self.executor_id!r}); keys there: "
                f"{', '.join(map(repr, known)) or 'none'}. Pass default= for keys that may be missing."
            )
        return default

    def write(self, scope: str | None, key: str, value: Any) -> None:
        self._check("writing state")
        if not isinstance(key, str) or not key:
            raise TypeError(f"state keys are non-empty strings, not {key!r} (executor {self.executor_id!r})")
        place = resolve_scope(scope, self.executor_id)
        what = "shared_state" if scope == SHARED_SCOPE else f"scope {scope!r}" if scope else "state"
        sealed = self._site.sealer.seal(value, "{} key {!r} set by executor {!r}", what, key, self.executor_id)
        self._record(Write(place, key, sealed, place == SHARED_STATE and self._site.view.has_reducer(key)))

    def append(self, key: str, item: Any) -> None:
        self._check("append_shared_state")
        view = self._site.view
        if not isinstance(key, str) or not key:
            raise TypeError(f"state keys are non-empty strings, not {key!r} (executor {self.executor_id!r})")
        if view.has_reducer(key):
            raise TypeError(f"shared state {key!r} has a reducer; give it updates with set_shared_state")
        if not view.is_list(key, self._overlay):
            kind = type(view.read(SHARED_STATE, key, self._overlay)).__name__
            raise TypeError(
                f"append_shared_state of executor {self.executor_id!r}: shared state {key!r} is a {kind}, not a list"
            )
        sealed = self._site.sealer.seal(
            item, "item for shared_state key {!r} from executor {!r}", key, self.executor_id
        )
        self._record(Write(SHARED_STATE, key, sealed, is_update=True))

    def delete(self, scope: str | None, key: str) -> None:
        self._check("writing state")
        self._record(Write(resolve_scope(scope, self.executor_id), key, None))

    def read_own(self) -> dict[str, Any] | None:
        self._check("reading state")
        own: Scope = (EXECUTORS, self.executor_id)
        view = self._site.view
        names = view.keys(own, self._overlay)
        if not names:
            return None
        return {name: view.read(own, name, self._overlay) for name in names if name != SCOPE_MARK}

    def replace_own(self, state: dict[str, Any]) -> None:
        self._check("writing state")
        if not isinstance(state, dict) or not all(isinstance(key, str) and key for key in state):
            raise TypeError(
                f"set_state of executor {self.executor_id!r} takes a dict with non-empty string keys, not "
                f"{state!r:.200}; put other things under a key of it"
            )
        own: Scope = (EXECUTORS, self.executor_id)
        seal = self._site.sealer.seal
        where = "state key {!r} set by executor {!r}"
        content = {key: seal(value, where, key, self.executor_id) for key, value in state.items()}
        if not content:
            content[SCOPE_MARK] = seal(None, "")
        for key in self._site.view.keys(own, self._overlay):
            if key not in content:
                self._record(Write(own, key, None))
        for key, value in content.items():
            self._record(Write(own, key, value))

    def _record(self, write: Write) -> None:
        if self._read_only:
            raise HandlerContextError(
                f"on_checkpoint_restored of executor {self.executor_id!r} may only read state: what it wrote would be "
                "in no checkpoint"
            )
        self.effects.writes.append(write)
        self._site.view.note(write, self._overlay)

    def _check(self, what: str, *, state_only: bool = True) -> None:
        if self._closed:
            raise HandlerContextError(
                f"{what}: the handler of executor {self.executor_id!r} has returned; its context cannot be used any "
                "more. Await what the handler starts before it returns."
            )
        if self._state_only and not state_only:
            raise HandlerContextError(
                f"{what}: checkpoint hooks of executor {self.executor_id!r} may only read and write state"
            )
