"""Effects: what a call did survives the trip through the journal."""

from dataclasses import dataclass
from typing import Any

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.sections.message import Reply
from supersteps.checkpoint.sections.question import Ask
from supersteps.checkpoint.sections.timer import Delayed
from supersteps.checkpoint.values import Sealer
from supersteps.engine.effects import Effects, Send
from supersteps.engine.view import Write


@dataclass
class Thing:
    name: str
    parts: list[tuple[int, ...]]


def opened(effects: Effects) -> Any:
    return (
        effects.executor_id,
        effects.key,
        [(send.payload.open(), send.target_id) for send in effects.sends],
        [output.open() for output in effects.outputs],
        [
            (w.scope, w.key, None if w.value is None else w.value.open(), w.is_update)
            for w in effects.writes
        ],
        [
            (
                a.request_id,
                a.source_executor_id,
                a.data.open(),
                a.timestamp,
                a.response_name,
                a.deadline,
                shown(a.default),
            )
            for a in effects.asks
        ],
        [(d.payload.open(), d.target_id, d.due, d.attempt, d.source_ids) for d in effects.delayed],
        [failure.open() for failure in effects.failures],
    )


def shown(value: Any) -> Any:
    return "none" if value is None else value.open()


def test_a_record_comes_back_equal() -> None:
    sealer = Sealer(Codec([Thing]), encoding=True)

    def seal(value: Any) -> Any:
        return sealer.seal(value, "a value")

    thing = Thing("ü\n", [(1,), ()])
    effects = Effects(
        "worker",
        "3",
        sends=[Send(seal(thing), None), Send(seal(None), "target"), Send(seal(float("inf")), None)],
        outputs=[seal("text"), seal({1: {2}})],
        writes=[
            Write(("shared_state",), "k", seal(thing)),
            Write(("shared_state",), "gone", None),
            Write(("executor_states", "worker"), "none", seal(None)),
            Write(("shared_state",), "list", seal([1]), is_update=True),
        ],
        asks=[
            Ask("q", "worker", seal(thing), "2026-01-01T00:00:00.000000+00:00"),
            Ask("p", "worker", seal(thing), "2026", "bool", bool, "2027", seal(None)),
        ],
        delayed=[
            Delayed(seal(thing), "worker", "2027"),
            Delayed(
                Reply(
                    sealer.codec,
                    request_id="q",
                    question=seal(thing),
                    answer=seal(True),
                    direct=False,
                ),
                None,
                "2027",
                2,
                ("port",),
            ),
        ],
        failures=[seal(thing)],
    )
    record = effects.to_record()

    assert b"\n" not in record
    assert opened(Effects.from_record(record, sealer)) == opened(effects)
    assert Effects.from_record(record, sealer).writes[1].value is None
    none = Effects.from_record(record, sealer).writes[2].value
    assert none is not None
    assert none.open() is None


def test_a_call_that_did_nothing() -> None:
    sealer = Sealer(Codec(), encoding=True)
    assert opened(Effects.from_record(Effects("a", "0").to_record(), sealer)) == (
        "a",
        "0",
        [],
        [],
        [],
        [],
        [],
        [],
    )


def test_two_calls_share_nothing() -> None:
    first, second = Effects("a", "0"), Effects("a", "1")
    first.outputs.append(Sealer(Codec(), encoding=False).seal(1, ""))
    assert second.outputs == []
