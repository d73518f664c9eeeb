"""What differs between two checkpoints, in words and as a JSON Patch that can be applied."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supersteps import WorkflowCheckpoint
from supersteps.checkpoint.diff import diff_parts, document
from supersteps.checkpoint.parts import ListPart, Part, PartKey


def patched(content: Any, patch: list[dict[str, Any]]) -> Any:
    """Apply a JSON Patch of add, remove and replace (RFC 6902), as plainly as it can be written."""
    content = copy.deepcopy(content)
    for operation in patch:
        names = [
            name.replace("~1", "/").replace("~0", "~") for name in operation["path"].split("/")[1:]
        ]
        place = content
        for name in names[:-1]:
            place = place[int(name)] if isinstance(place, list) else place[name]
        last: Any = int(names[-1]) if isinstance(place, list) else names[-1]
        if operation["op"] == "remove":
            del place[last]
        elif operation["op"] == "add" and isinstance(place, list):
            place.insert(last, operation["value"])
        else:
            place[last] = operation["value"]
    return content


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 3)
    | st.sampled_from([0.0, 1.0, 2.5])
    | st.text("ab/~", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
checkpoints = st.builds(
    WorkflowCheckpoint,
    shared_state=st.dictionaries(st.sampled_from("xyz"), values, max_size=3),
    executor_states=st.dictionaries(
        st.sampled_from("ab"),
        st.dictionaries(st.sampled_from("kl"), values, max_size=2),
        max_size=2,
    ),
    outputs=st.lists(values, max_size=4),
)


@given(checkpoints, checkpoints)
def test_the_patch_turns_one_document_into_the_other(
    one: WorkflowCheckpoint, other: WorkflowCheckpoint
) -> None:
    patch = one.diff(other).to_json_patch()
    assert repr(patched(one.document(), patch)) == repr_in_order(
        other.document(), patched(one.document(), patch)
    )


def repr_in_order(wanted: Any, like: Any) -> str:
    """Show a document with the order of keys of another that should be equal to it; 1 and 1.0
    stay apart.
    """
    if isinstance(wanted, dict) and isinstance(like, dict) and wanted.keys() == like.keys():
        return (
            "{"
            + ", ".join(f"{name!r}: {repr_in_order(wanted[name], like[name])}" for name in like)
            + "}"
        )
    if isinstance(wanted, list) and isinstance(like, list) and len(wanted) == len(like):
        return "[" + ", ".join(map(repr_in_order, wanted, like)) + "]"
    return repr(wanted)


def test_words_for_each_kind_of_change() -> None:
    one = WorkflowCheckpoint(checkpoint_id="one", shared_state={"a": 1, "b": [1, 2, 3], "c": "x"})
    other = replace(
        one, checkpoint_id="two", shared_state={"b": [1, 9, 3], "c": "x", "d": {"k": 1}}
    )

    shown = str(one.diff(other))

    assert shown.splitlines() == [
        "one -> two",
        "  - shared_state['a']: 1",
        "  ~ shared_state['b'][1]: 2 -> 9",
        "  + shared_state['d']: {\"k\":1}",
    ]


def test_equal_checkpoints_have_no_differences() -> None:
    one = WorkflowCheckpoint(shared_state={"a": (1, 2)})

    difference = one.diff(replace(one, checkpoint_id="two"))

    assert not difference
    assert len(difference) == 0
    assert "have the same content" in str(difference)


def test_a_grown_list_part_is_compared_by_its_new_elements_only() -> None:
    before = ListPart(f"{i}".encode() for i in range(1000))
    key: PartKey = ("shared_state", "history")
    old: dict[PartKey, Part] = {key: before}
    new: dict[PartKey, Part] = {key: before.extended([b'"new"'])}

    (change,) = diff_parts(old, new)

    assert (change.kind, change.path, change.after) == ("add", (*key, 1000), "new")
    assert document(new)["shared_state"]["history"][-1] == "new"
