"""The state at a barrier, and what one executor sees of it."""

import timeit
from typing import Any

import pytest

from supersteps import ReducerError
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.define.context import MISSING
from supersteps.define.graph import Graph, Reducer
from supersteps.engine.levels import SHARED_STATE, Level
from supersteps.engine.state import State
from supersteps.engine.view import Overlay, View, Write, updated

Sealers = pytest.mark.parametrize(
    "sealer", [Sealer(Codec(), encoding=e) for e in (False, True)], ids=["copy", "encode"]
)
OWN = ("executor_states", "me")
REDUCERS = {"sum": Reducer(lambda value, update: value + update, 0)}


def seal(sealer: Sealer, value: Any) -> Sealed:
    return sealer.seal(value, "a value")


def test_scopes_by_name() -> None:
    graph = Graph({}, (), "me", {})
    root = Level(graph, "", None, "")
    assert root.scope(None, "me") == ("executor_states", "me")
    assert root.scope("shared", "me") == ("shared_state",)
    assert root.scope("team", "me") == ("scopes", "team")
    inner = Level(graph, "node#3", root, "node")
    assert inner.scope(None, "me") == ("executor_states", "node#3/me")
    assert inner.scope("shared", "me") == ("sub_state", "node#3")
    assert inner.scope("team", "me") == ("sub_scopes", "node#3", "team")


@Sealers
def test_a_sealed_value_gives_each_reader_a_copy(sealer: Sealer) -> None:
    value = {"a": [1]}
    sealed = seal(sealer, value)
    value["a"].append(2)
    sealed.open()["a"].append(3)

    assert sealed.open() == {"a": [1]}
    assert sealed.encode() == b'{"a":[1]}'
    peeked = sealed.peek()
    assert sealed.peek() is peeked
    assert sealed.open() is peeked
    assert sealed.open() is not peeked
    sealed.peek()["a"].append(4)
    sealed.forget_peek()
    assert sealed.open() == {"a": [1]}


def test_what_others_wrote_does_not_slow_the_keys_of_a_scope() -> None:
    def seconds(others: int) -> float:
        sealer = Sealer(Codec(), encoding=False)
        view = View({}, {}, sealer)
        writes = [Write(SHARED_STATE, f"k{i}", seal(sealer, i)) for i in range(others)]
        view.accept([*writes, Write(OWN, "mine", seal(sealer, 1))])
        assert view.keys(OWN, {}) == ["mine"]
        return min(timeit.repeat(lambda: view.keys(OWN, {}), number=10, repeat=5))

    assert seconds(20_000) < 20 * seconds(10)


@Sealers
def test_lists_grow_without_touching_shorter_views(sealer: Sealer) -> None:
    short = sealer.seal_list([[1], [2]], "a list")
    long = short.extended([seal(sealer, [3])])
    other = short.extended([seal(sealer, [4])])

    assert (short.open(), long.open(), other.open()) == (
        [[1], [2]],
        [[1], [2], [3]],
        [[1], [2], [4]],
    )
    assert long.encode() == b"[[1],[2],[3]]"


@Sealers
def test_a_view_is_the_barrier_under_the_calls_own_writes(sealer: Sealer) -> None:
    state = State(scopes={SHARED_STATE: {"a": seal(sealer, 1), "b": seal(sealer, 2)}})
    view = View(state.scopes, {}, sealer)
    call: Overlay = {}

    assert view.read(SHARED_STATE, "a", call) == 1
    assert view.read(SHARED_STATE, "missing", call) is MISSING
    assert view.read(OWN, "a", call) is MISSING
    view.note(Write(SHARED_STATE, "a", seal(sealer, 10)), call)
    view.note(Write(SHARED_STATE, "b", None), call)
    view.note(Write(SHARED_STATE, "c", seal(sealer, 3)), call)
    assert [view.read(SHARED_STATE, key, call) for key in "abc"] == [10, MISSING, 3]
    assert view.keys(SHARED_STATE, call) == ["a", "c"]

    # Another call of the same executor sees it once the first has succeeded; the barrier's state
    # never changes.
    assert view.read(SHARED_STATE, "a", {}) == 1
    view.accept([Write(SHARED_STATE, "a", seal(sealer, 10)), Write(SHARED_STATE, "b", None)])
    assert [view.read(SHARED_STATE, key, {}) for key in "abc"] == [10, MISSING, MISSING]
    assert view.keys(SHARED_STATE, {}) == ["a"]
    assert state.scopes[SHARED_STATE]["a"].open() == 1


@Sealers
def test_updates_fold_over_what_the_call_and_the_executor_did_before(sealer: Sealer) -> None:
    state = State(scopes={SHARED_STATE: {"sum": seal(sealer, 100)}})
    view = View(state.scopes, REDUCERS, sealer)

    def update(value: int) -> Write:
        return Write(SHARED_STATE, "sum", seal(sealer, value), is_update=True)

    view.accept([update(1), update(2)])
    call: Overlay = {}
    view.note(update(3), call)
    assert view.read(SHARED_STATE, "sum", call) == 106
    assert view.read(SHARED_STATE, "sum", {}) == 103
    view.note(Write(SHARED_STATE, "sum", None), call)
    assert view.read(SHARED_STATE, "sum", call) is MISSING
    view.note(update(5), call)
    view.note(update(6), call)
    assert view.read(SHARED_STATE, "sum", call) == 11


@Sealers
def test_appends(sealer: Sealer) -> None:
    view = View({}, {}, sealer)
    call: Overlay = {}
    assert view.is_list("log", call)
    for item in "ab":
        view.note(Write(SHARED_STATE, "log", seal(sealer, item), is_update=True), call)
    assert view.read(SHARED_STATE, "log", call) == ["a", "b"]
    assert view.is_list("log", call)
    view.note(Write(SHARED_STATE, "log", seal(sealer, 7)), call)
    assert not view.is_list("log", call)
    assert not View({SHARED_STATE: {"log": seal(sealer, "x")}}, {}, sealer).is_list("log", {})


@Sealers
def test_a_reducer_that_raises_is_named(sealer: Sealer) -> None:
    broken = Reducer(lambda value, update: value / update, 1)
    with pytest.raises(
        ReducerError, match=r"reducer of shared key 'ratio' raised ZeroDivisionError"
    ) as caught:
        updated("ratio", broken, None, [seal(sealer, 0)])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
