"""The states of a run: one enum, of which every stored or compared status is a value."""

from __future__ import annotations

import ast
import re

import pytest

import supersteps
from scripts.architecture import SOURCE
from supersteps import events, states
from supersteps.states import ASKING, ENDED, IN_PROGRESS, SETTLED, WorkflowRunState
from supersteps.typing.annotations import type_name

VALUES = {state.value for state in WorkflowRunState}


def test_the_state_is_the_same_class_wherever_it_is_imported_from() -> None:
    assert supersteps.WorkflowRunState is events.WorkflowRunState is WorkflowRunState


def test_a_saved_state_is_found_by_the_name_it_was_first_saved_under() -> None:
    assert type_name(WorkflowRunState) == "supersteps.events:WorkflowRunState"


@pytest.mark.parametrize("group", [ASKING, ENDED, IN_PROGRESS, SETTLED])
def test_a_group_of_states_holds_stored_texts_as_well_as_members(group: frozenset[str]) -> None:
    assert group < VALUES
    assert all(WorkflowRunState(state) in group for state in group)
    assert "DONE" not in group  # a status of a storage's own


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("is_waiting", [False, True])
def test_the_state_at_a_barrier_follows_from_what_is_left(goes_on: bool, is_waiting: bool) -> None:
    state = states.state_at_barrier(goes_on=goes_on, is_waiting=is_waiting)

    assert (state in IN_PROGRESS) is goes_on
    assert (state in SETTLED) is not goes_on
    assert (state in ASKING) is is_waiting
    assert (state in ENDED) is (not goes_on and not is_waiting)


def test_no_other_module_spells_a_state_out() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path != SOURCE / "states.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in VALUES
    ]

    assert not found, "use WorkflowRunState:\n" + "\n".join(found)


def test_a_state_that_sql_spells_out_is_one_of_the_enum() -> None:
    compared = re.compile(r"""status\s*(?:=|<>|!=|IN\s*\()\s*'(\w+)'""", re.IGNORECASE)
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.sql")]

    assert texts
    assert {state for text in texts for state in compared.findall(text)} <= VALUES
