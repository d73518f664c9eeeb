"""Observers: who is told what runs do; for `WorkflowBuilder.with_observer`."""

from supersteps.engine.observer import ObservedRun, Observer

__all__ = ["ObservedRun", "Observer"]
