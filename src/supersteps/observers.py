"""Observers of runs, for tracing and metrics: `WorkflowBuilder.with_observer`."""

from supersteps.engine.observer import ObservedRun, Observer

__all__ = ["ObservedRun", "Observer"]
