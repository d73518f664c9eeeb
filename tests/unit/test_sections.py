"""The sections of a checkpoint: what all of them must do, and what is stored by their names."""

from typing import Any

import pytest

from supersteps.checkpoint import content
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.codec.raw import RawValue
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.sections.answered import AnsweredRequest
from supersteps.checkpoint.sections.question import PendingRequest
from supersteps.checkpoint.sections.sub_run import SubWorkflowState
from supersteps.checkpoint.sections.table import SECTION_DEPTHS, SECTIONS, section_of
from supersteps.checkpoint.values import Sealer
from supersteps.engine.state import State
from supersteps.requests import RequestResponse
from supersteps.run.result import WorkflowRunResult
from supersteps.typing.annotations import type_name

MESSAGE = b'{"data":1,"source_ids":["a"],"target_ids":["b"]}'
REQUEST = (
    b'{"request_id":"r","source_executor_id":"a","request_executor_id":"port","iteration":1,'
    b'"timestamp":"2026-01-01T00:00:00.000000+00:00","response_type":"bool","data":"Sure?",'
    b'"deadline":"2027","default":false,"direct":true}'
)
PARTS: dict[PartKey, Part] = {
    ("messages",): b"[" + MESSAGE + b"]",
    ("fan_in", "fan_in:a+b->c"): b'{"a":[1,2]}',
    ("shared_state", "k"): b"1",
    ("executor_states", "a", ""): b"null",
    ("executor_states", "b", "k"): b'"v"',
    ("scopes", "team", "k"): b"{}",
    ("requests", "r"): REQUEST,
    ("intercepted", "r"): REQUEST.replace(b'"direct":true', b'"direct":true,"node":"n"'),
    ("replies", "r"): b"true",
    ("timers", "1.0"): b'{"due":"2027","message":'
    + MESSAGE
    + b',"attempt":2,"work":[0,1,"a","0"]}',
    ("sub_workflows", "n#1"): b'{"workflow_id":"w","node":"n","started":1}',
    ("sub_state", "n#1", "k"): b"2",
    ("sub_scopes", "n#1", "team", "k"): b"3",
    ("answered",): ListPart(
        [
            b'{"request_id":"q","source_executor_id":"a","iteration":1,"timestamp":"2026",'
            b'"outcome":"defaulted","data":true}'
        ]
    ),
    ("outputs",): ListPart([b"1", b'"two"']),
    ("graph",): b'{"start":"a","executors":{},"edges":[]}',
}


class Shown:
    """What a checkpoint shows: content by the names of its attributes."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.__dict__.update(shown)


def test_the_order_and_the_depths_are_those_of_the_stored_documents() -> None:
    assert dict(SECTION_DEPTHS) == {
        "messages": 0,
        "fan_in": 1,
        "shared_state": 1,
        "executor_states": 2,
        "scopes": 2,
        "requests": 1,
        "intercepted": 1,
        "replies": 1,
        "timers": 1,
        "sub_workflows": 1,
        "sub_state": 2,
        "sub_scopes": 3,
        "answered": 0,
        "outputs": 0,
        "graph": 0,
    }
    assert list(SECTION_DEPTHS) == list(dict.fromkeys(key[0] for key in PARTS))


def test_every_section_has_words_of_its_own() -> None:
    titles = [section.title for section in SECTIONS.values()]
    briefs = [section.brief for section in SECTIONS.values()]

    assert len({*titles}) == len({*briefs}) == len(SECTIONS)


def test_what_people_see_is_encoded_as_it_was() -> None:
    codec = Codec()

    shown = content.decode_parts(PARTS, codec, "checkpoint 'c'")

    graph = {("graph",): PARTS["graph",]}  # people do not change it
    assert content.encode_parts(Shown(shown), codec) | graph == PARTS


def test_a_sub_workflows_state_is_shown_with_it_whatever_comes_first() -> None:
    shown = content.decode_parts(dict(reversed(PARTS.items())), Codec(), "checkpoint 'c'")

    assert shown["sub_workflows"] == {
        "n#1": SubWorkflowState("w", "n", 1, 0, {"k": 2}, {"team": {"k": 3}})
    }


@pytest.mark.parametrize("key", [("unheard_of", "x"), ("timers",), ("timers", "1.0", "x")])
def test_parts_of_no_section_are_left_alone(key: PartKey) -> None:
    codec = Codec()

    assert section_of(key) is None
    assert not State.load({key: b"1"}, Sealer(codec, encoding=True)).timers
    assert content.decode_parts({key: b"1"}, codec, "") == content.decode_parts({}, codec, "")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PendingRequest, "supersteps.checkpoint.content:PendingRequest"),
        (AnsweredRequest, "supersteps.checkpoint.content:AnsweredRequest"),
        (SubWorkflowState, "supersteps.checkpoint.content:SubWorkflowState"),
        (RequestResponse, "supersteps.requests:RequestResponse"),
        (RawValue, "supersteps.checkpoint.raw:RawValue"),
        (WorkflowRunResult, "supersteps.result:WorkflowRunResult"),
    ],
)
def test_types_that_have_moved_are_stored_under_their_first_names(kind: type, name: str) -> None:
    assert type_name(kind) == name
