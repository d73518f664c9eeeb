"""Layers of parts hold what a plain dict holds, and cost what changes."""

import random

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.storage import _layers
from supersteps.storage._layers import Layer


def key(number: int) -> PartKey:
    return ("shared_state", str(number))


@pytest.mark.parametrize("keys", [3, 40, 400])
@pytest.mark.parametrize("deepest", [4, 64])
def test_they_hold_what_a_dict_holds(
    keys: int, deepest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_layers, "_DEEPEST", deepest)
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    plain: dict[PartKey, Part] = {key(n): b"0" for n in range(keys)}
    layer, earlier = Layer(plain), []
    for step in range(400):
        puts: dict[PartKey, bytes] = {
            key(rng.randrange(keys)): b"%d" % step for _ in range(rng.randrange(4))
        }
        changes = Changes(puts, deletes=[key(rng.randrange(keys)) for _ in range(rng.randrange(3))])
        layer = layer.after(changes)
        for gone in changes.deletes:
            plain.pop(gone, None)
        plain.update(puts)
        earlier.append((layer, dict(plain)))
        assert all(layer.get(key(n)) == plain.get(key(n)) for n in range(keys))

    for before, expected in earlier:
        assert list(before.to_dict().items()) == list(expected.items())


def test_a_commit_copies_what_changes_and_not_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    whole = Layer.to_dict

    def counted(self: Layer) -> dict[PartKey, Part]:
        nonlocal copied
        parts = whole(self)
        copied += len(parts)
        return parts

    layer = Layer({key(n): b"0" for n in range(5000)})
    monkeypatch.setattr(Layer, "to_dict", counted)
    for step in range(1000):
        layer = layer.after(Changes({key(step % 3): b"%d" % step}))

    assert copied == 0
    assert len(layer._layers()) <= 64 + 1
