import copy
import dataclasses
import json

import pytest

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.checkpoint.sections.graph import GRAPH
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.sections.question import PendingRequest
from supersteps.checkpoint_info import CheckpointInfo

HEADER = CheckpointHeader(
    checkpoint_id="c",
    workflow_id="w",
    timestamp="2025-01-01T00:00:00.000000+00:00",
    run_id="r",
    parent_id="p",
    sequence=2,
    iteration_count=2,
    steps_since_input=1,
    metadata={"who": ["me"]},
)
PARTS: dict[PartKey, Part] = {
    ("messages",): b'[{"data":"hi","source_ids":["a","b"],"target_ids":["c"]}]',
    ("shared_state", "n"): b"[1]",
    ("executor_states", "e", "k"): b'"v"',
    ("executor_states", "hooked", ""): b"null",
    OUTPUTS: ListPart([b"1", b'"two"']),
    GRAPH: b"{}",
}


def loaded(parts: dict[PartKey, Part] | None = None) -> WorkflowCheckpoint:
    return WorkflowCheckpoint.from_record(
        HEADER, lambda: PARTS if parts is None else parts, Codec()
    )


def test_content_is_read_once_and_only_on_access() -> None:
    reads = 0

    def read() -> dict[PartKey, Part]:
        nonlocal reads
        reads += 1
        return PARTS

    checkpoint = WorkflowCheckpoint.from_record(HEADER, read, Codec())
    assert (checkpoint.info, repr(checkpoint)[:19]) == (
        CheckpointInfo("r", "c", 2, "p"),
        "WorkflowCheckpoint(",
    )
    assert reads == 0
    assert checkpoint.shared_state == {"n": [1]}
    assert checkpoint.outputs == [1, "two"]
    assert checkpoint.executor_states == {"e": {"k": "v"}, "hooked": {}}
    assert checkpoint.messages == {
        "a": [{"data": "hi", "source_id": "a", "source_ids": ["a", "b"], "target_ids": ["c"]}]
    }
    assert reads == 1


def test_an_unknown_attribute_is_one() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = loaded().nope
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = WorkflowCheckpoint().nope


def test_unread_content_is_saved_byte_for_byte() -> None:
    record = loaded({**PARTS, ("shared_state", "x"): b"1.50"}).to_record(Codec())
    assert record.header == HEADER
    assert record.parts == {**PARTS, ("shared_state", "x"): b"1.50"}


def test_what_was_changed_is_saved_changed() -> None:
    checkpoint = loaded()
    checkpoint.shared_state["n"].append(2)
    record = checkpoint.to_record(Codec())
    assert record.header == HEADER
    assert record.parts == {**PARTS, ("shared_state", "n"): b"[1,2]"}


def test_a_checkpoint_that_was_only_read_encodes_to_the_same_bytes() -> None:
    messages = (
        b'[{"data":1,"source_ids":[],"target_ids":["c"]},'
        b'{"data":2,"source_ids":["b"],"target_ids":[]},'
        b'{"data":3,"source_ids":["a"],"target_ids":[]},'
        b'{"data":4,"source_ids":["b"],"target_ids":[]}]'
    )
    question = (
        b'{"request_id":"q","source_executor_id":"asker","request_executor_id":"boss",'
        b'"iteration":1,"timestamp":"t","response_type":"str","data":1.50}'
    )
    parts: dict[PartKey, Part] = {
        ("messages",): messages,
        ("shared_state", "log"): ListPart([b"1.50", b"2"]),
        ("shared_state", "n"): b"[1]",
        ("executor_states", "hooked", ""): b"null",
        ("executor_states", "hooked", "k"): b"1.50",
        ("requests", "q"): question,
        OUTPUTS: ListPart([]),
        GRAPH: b"{}",
    }
    checkpoint = loaded(parts)
    assert checkpoint.pending_requests["q"].request_executor_id == "boss"
    assert list(checkpoint.to_record(Codec()).parts.items()) == list(parts.items())

    checkpoint.shared_state["n"] = True
    checkpoint.shared_state["new"] = 1
    checkpoint.pending_requests["q"] = dataclasses.replace(
        checkpoint.pending_requests["q"], iteration=2
    )
    del checkpoint.executor_states["hooked"]["k"]
    again = checkpoint.to_record(Codec()).parts

    assert again.pop(("requests", "q")) == (
        b'{"request_id":"q","source_executor_id":"asker","request_executor_id":"boss","iteration":2,'
        b'"timestamp":"t","response_type":"str","data":1.5}'
    )
    unchanged = {key: part for key, part in parts.items() if key[-1] not in ("q", "k")}
    assert again == {**unchanged, ("shared_state", "n"): b"true", ("shared_state", "new"): b"1"}


def test_a_loaded_checkpoint_shares_nothing_with_its_header() -> None:
    checkpoint = loaded()
    checkpoint.metadata["who"].append("you")
    header = checkpoint.to_header()
    checkpoint.metadata.clear()
    assert HEADER.metadata == {"who": ["me"]}
    assert header.metadata == {"who": ["me", "you"]}


def test_a_checkpoint_becomes_a_dict_and_back() -> None:
    checkpoint = loaded()
    content = json.loads(json.dumps(checkpoint.to_dict()))
    again = WorkflowCheckpoint.from_dict(content)

    assert again == checkpoint
    assert again.to_header() == HEADER
    assert again.to_record(Codec()).parts == PARTS
    with pytest.raises(ValueError, match="checkpoint_id"):
        WorkflowCheckpoint.from_dict({"parts": []})


def test_a_checkpoint_made_by_hand_comes_back_equal() -> None:
    asked = PendingRequest("q", "asker", 3, "t", "str", {"ask": (1, 2)}, request_executor_id="boss")
    checkpoint = WorkflowCheckpoint(
        workflow_id="w",
        messages={"a": [{"data": 1, "source_id": "a", "source_ids": ["a"], "target_ids": ["b"]}]},
        shared_state={"s": {1, 2}},
        scopes={"t": {"k": None}},
        executor_states={"empty": {}},
        fan_in={"g": {"a": [1]}},
        pending_requests={"q": asked},
        outputs=[b"x"],
    )
    record = checkpoint.to_record(Codec())
    again = WorkflowCheckpoint.from_record(record.header, lambda: record.parts, Codec())

    assert again == checkpoint
    assert hash(again) == hash(checkpoint)
    assert again != dataclasses.replace(again, outputs=[])
    assert checkpoint != "something else"


def test_messages_in_the_shape_of_the_reference_are_taken() -> None:
    checkpoint = WorkflowCheckpoint(
        messages={"a": [{"data": "hi", "source_id": "a", "target_id": "b"}]}
    )
    record = checkpoint.to_record(Codec())
    again = WorkflowCheckpoint.from_record(record.header, lambda: record.parts, Codec())
    assert again.messages["a"][0]["target_ids"] == ["b"]


def test_copies_are_independent_in_their_fields() -> None:
    checkpoint = loaded()
    twin = copy.copy(checkpoint)
    twin.status = "DONE"
    assert (twin.shared_state, checkpoint.status) == ({"n": [1]}, "IN_PROGRESS")


def test_fresh_checkpoints_have_ids_and_times_of_their_own() -> None:
    one, two = WorkflowCheckpoint(), WorkflowCheckpoint()
    assert one.checkpoint_id != two.checkpoint_id
    assert one.timestamp <= two.timestamp
