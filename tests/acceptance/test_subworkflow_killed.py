"""A process that drives nested sub-workflows is killed with SIGKILL at random moments, and
nothing of it shows.
"""

from pathlib import Path

import pytest

from tests.acceptance.killable_nested import LINES, ORDERS, RUN, Approval, Line, Order
from tests.acceptance.killing import (
    Program,
    assert_that_kills_leave_no_trace,
    each_store,
    needs_sigkill,
)

PROGRAM = Program("tests.acceptance.killable_nested", RUN, [Order, Line, Approval])

pytestmark = [pytest.mark.slow, needs_sigkill]


@each_store
def test_killed_inside_sub_workflows_it_ends_like_an_undisturbed_run(
    tmp_path: Path, store: str
) -> None:
    outputs, checkpoints = assert_that_kills_leave_no_trace(
        PROGRAM, tmp_path, store, most_calls=5, most_seconds=0.012, most_kills=6
    )
    assert len(outputs) == ORDERS
    assert max(len(checkpoint.sub_workflows) for checkpoint in checkpoints) == ORDERS * (1 + LINES)
    assert (checkpoints[-1].sub_workflows, checkpoints[-1].executor_states) == ({}, {})
