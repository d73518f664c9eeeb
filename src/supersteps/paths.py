"""Paths: how executors and fan-ins are named inside sub-workflows.

At the root of a run an executor's path is its id. Inside a sub-workflow it is the path of that
sub-workflow's run, a slash, and the id: `review#3/writer` is the writer in the run that the node
`review` began in superstep 3.
"""

from __future__ import annotations

PATH_MARK = "/"
"""Joins the names of nested sub-workflows in an executor's path."""

_FAN_IN = "fan_in:"


def path_of(address: str) -> str:
    """Return the path of the sub-workflow's run in which something is, empty at the root."""
    return address.rpartition(PATH_MARK)[0]


def is_fan_in(address: str) -> bool:
    """Return whether the receiver of a delayed message is a fan-in and not an executor."""
    is_named_so = address.startswith(_FAN_IN) or f"{PATH_MARK}{_FAN_IN}" in address
    return is_named_so and "->" in address
