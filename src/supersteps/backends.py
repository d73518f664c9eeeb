"""Backends: where the calls of handlers are made; for `WorkflowBuilder.with_backend`.

`LocalBackend` is the default; subclass it to add to what it does around a call. To make calls in
other processes, write a `Backend` that sends `CallData` to a `CallHost` there.
"""

from supersteps.engine.backends import Backend
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.backends.remote import (
    CallData,
    CallHost,
    SiteState,
    StateReader,
    StateSnapshot,
    effects_of,
)
from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.engine.user_code import UserCodeError

__all__ = [
    "Backend",
    "CallData",
    "CallHost",
    "CallSite",
    "Effects",
    "LocalBackend",
    "PlannedCall",
    "SiteState",
    "Sleeper",
    "StateReader",
    "StateSnapshot",
    "UserCodeError",
    "effects_of",
]
