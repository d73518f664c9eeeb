"""Edges: how messages get from one executor to the next.

Add edges with the methods of `WorkflowBuilder`; `Case` and `Default` are what you pass to
`add_switch_case_edge_group`. The classes of edge groups are for code that reads a built graph.
"""

from supersteps.define.edges import (
    Case,
    Default,
    ErrorEdgeGroup,
    FanInEdgeGroup,
    FanOutEdgeGroup,
    SingleEdgeGroup,
    SwitchCaseEdgeGroup,
)

__all__ = [
    "Case",
    "Default",
    "ErrorEdgeGroup",
    "FanInEdgeGroup",
    "FanOutEdgeGroup",
    "SingleEdgeGroup",
    "SwitchCaseEdgeGroup",
]
