"""A schedule finds what a look at everything would find."""

import random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from supersteps.checkpoint.schedule import Schedule


class Thing(NamedTuple):
    name: str
    moment: str | None


def schedule() -> Schedule[Thing]:
    return Schedule(lambda thing: thing.moment)


def moment(number: int | None) -> str | None:
    return None if number is None else f"2025-01-01T00:00:{number:02d}.000000+00:00"


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 6), st.none() | st.integers(0, 9)),
        st.tuples(st.sampled_from(["delete", "look"]), st.integers(0, 9), st.none()),
    ),
    max_size=120,
)


@given(steps)
def test_it_finds_what_a_look_at_everything_finds(
    steps: list[tuple[str, int, int | None]],
) -> None:
    things, kept = schedule(), dict[str, Thing]()
    for number, (what, key, at) in enumerate(steps):
        name = str(key)
        if what == "put":
            things.pop(name, None)
            kept.pop(name, None)
            things[name] = kept[name] = Thing(f"{name}.{number}", moment(at))
        elif what == "delete":
            things.pop(name, None)
            kept.pop(name, None)
        timed = [thing for thing in kept.values() if thing.moment is not None]
        now = moment(key)
        assert now is not None
        expected = [thing for thing in timed if thing.moment is not None and thing.moment <= now]

        assert dict(things) == kept
        assert things.earliest() == min((t.moment or "" for t in timed), default=None)
        assert things.is_timed_without(()) == bool(timed)
        early = [
            thing
            for name, thing in kept.items()
            if thing in expected or (name == "3" and thing in timed)
        ]
        assert things.due(now, {"3", "absent"}) == sorted(early, key=lambda t: t.moment or "")
        assert things.is_timed_without({"1", "2"}) == any(
            kept.get(k) in timed for k in kept if k not in "12"
        )
        assert things.due(now) == sorted(expected, key=lambda thing: thing.moment or "")
        assert things.due(now) == sorted(expected, key=lambda thing: thing.moment or "")


def test_the_same_thing_put_in_again_is_due_once() -> None:
    things, thing = schedule(), Thing("a", moment(1))
    for _ in range(3):
        things["a"] = thing

    assert things.due("3") == [thing]
    del things["a"]
    assert things.due("3") == []
    assert things.earliest() is None


def test_what_is_taken_out_before_its_moment_does_not_pile_up() -> None:
    things, seed = schedule(), random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for number in range(5000):
        things[str(number)] = Thing(str(number), moment(rng.randrange(60)))
        if len(things) > 20:
            del things[rng.choice(list(things))]

    assert len(things._heap) < 200
