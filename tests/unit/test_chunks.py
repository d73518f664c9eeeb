"""Values in chunks: the same bytes come back, the same pieces are cut however one got there, and
little changes.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps.checkpoint import chunks
from supersteps.checkpoint.chunks import DamagedChunkError, Tree, hashes, join, split

encode = msgspec.json.encode


class Store(dict[bytes, bytes]):
    """Chunks by hash; what was stored last."""

    def put(self, tree: Tree) -> int:
        """Store the new chunks of a tree; return how many bytes the store did not have."""
        new = {hash: data for hash, data in tree.new_chunks() if hash not in self}
        self.update(new)
        return sum(map(len, new.values()))


def conversation(length: int, seed: int = 1) -> list[dict[str, Any]]:
    rnd = random.Random(seed)
    return [{"role": "user", "content": rnd.randbytes(95).hex(), "n": n} for n in range(length)]


def same(one: Tree, other: Tree) -> bool:
    return [(level.ends, level.hashes, level.contexts) for level in one.levels] == [
        (level.ends, level.hashes, level.contexts) for level in other.levels
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b'"short"',
        b"not JSON " * 5000,
        bytes(range(256)) * 100,
        b'"' + b"x" * 100_000 + b'"',
        b'"' + b'\\u00e9\\n\\"' * 20_000 + b'"',
        encode("é\n" * 30_000),
        b"9" * 50_000,
        b"[" * 5000 + b"]" * 5000,
        b"  [ 1 ,  2 ] " * 2000,
        b'[  "' + b"a" * 9000 + b'" ,\n {"k" :  "' + b"b" * 9000 + b'"} ]',
        encode([{"k": [i, {"deep": "x" * i}]} for i in range(300)]),
        encode({'héllo "q" ' + str(i): list(range(i)) for i in range(200)}),
        encode([["x" * 10_000, {"y": ["z" * 20_000, *range(5000)]}]]),
    ],
    ids=range(15),
)
def test_any_bytes_come_back(data: bytes) -> None:
    store = Store()
    tree = split(data)
    store.put(tree)

    assert join(tree.root, store.get) == data
    assert set(hashes(tree.root, store.get, set())) == store.keys()
    assert max(map(len, store.values())) <= chunks.LEAF.least + chunks.LEAF.most


def test_what_is_large_is_cut_inside() -> None:
    text = random.Random(1).randbytes(50_000).hex()
    for value in (
        text,
        [text],
        {"a": text},
        [[{"a": [text, 1]}]],
        {"a": conversation(500), "b": 1},
    ):
        sizes = [len(data) for _, data in split(encode(value)).new_chunks()]
        assert len(sizes) > 20
        assert max(sizes) <= chunks.LEAF.least + chunks.LEAF.most


SMALL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=5), inner, max_size=10)
    ),
    max_leaves=20,
)
LARGE = st.sampled_from(
    ["x" * 4000, '\\"é' * 1500, conversation(30), {"a": ["y" * 5000, conversation(20)]}]
)


@settings(max_examples=60)
@given(st.lists(SMALL, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_same_pieces_with_or_without_an_earlier_version(
    values: list[Any], rnd: random.Random
) -> None:
    for data, tree in versions(values, rnd):
        assert same(tree, split(data))


@settings(max_examples=60)
@given(st.lists(SMALL | LARGE, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_any_history_of_versions_comes_back(values: list[Any], rnd: random.Random) -> None:
    store = Store()
    kept = []
    for data, tree in versions(values, rnd):
        store.put(tree)
        kept.append((data, tree.root))

    for data, root in kept:
        assert join(root, store.get) == data


def versions(values: list[Any], rnd: random.Random) -> Iterator[tuple[bytes, Tree]]:
    """A state that changes: at the end, in the middle, and after it."""
    grown: Any = conversation(40)
    tree: Tree | None = None
    for value in values:
        if rnd.random() < 0.5:
            grown = [*grown, value]
        else:
            grown[rnd.randrange(len(grown))] = value
        data = encode({"history": grown, "last": value})
        tree = split(data, tree)
        yield data, tree


@given(st.binary(max_size=20_000), st.binary(max_size=20_000))
def test_an_earlier_version_may_be_anything(one: bytes, other: bytes) -> None:
    store = Store()
    before = split(one)
    store.put(before)
    after = split(other, before)
    store.put(after)

    assert join(after.root, store.get) == other


def append(items: list[Any]) -> None:
    items.append({"role": "user", "content": "y" * 190, "n": -1})


def replace_one(items: list[Any]) -> None:
    items[len(items) // 2] = {"role": "user", "content": "y" * 190, "n": -1}


def insert_first(items: list[Any]) -> None:
    items.insert(0, {"role": "user", "content": "y" * 190, "n": -1})


def delete_one(items: list[Any]) -> None:
    del items[len(items) // 3]


@pytest.mark.parametrize("change", [append, replace_one, insert_first, delete_one])
@pytest.mark.parametrize(
    "wrap", [lambda items: items, lambda items: {"history": items, "n": len(items)}]
)
def test_a_change_costs_a_few_kilobytes_however_large_the_value(
    change: Callable[[list[Any]], None], wrap: Callable[[list[Any]], Any]
) -> None:
    costs = []
    for length in (1000, 10_000):
        items = conversation(length)
        store = Store()
        before = split(encode(wrap(items)))
        store.put(before)
        change(items)
        after = split(encode(wrap(items)), before)
        costs.append(store.put(after))
    assert max(costs) < 16_000


def test_appending_does_not_read_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    items = conversation(5000)
    before = split(encode(items))
    append(items)
    parsed = 0
    decode = chunks._decode_list

    def counting(data: bytes) -> list[msgspec.Raw]:
        nonlocal parsed
        parsed += len(data)
        return decode(data)

    monkeypatch.setattr(chunks, "_decode_list", counting)
    split(encode(items), before)
    assert 0 < parsed < 16_000


def test_a_growing_list_costs_about_a_leaf_per_step() -> None:
    store, tree, total, items = Store(), None, 0, conversation(400)
    for length in range(10, len(items)):
        tree = split(encode(items[:length]), tree)
        total += store.put(tree)
    assert total / 390 < 2500


def test_equal_parts_of_different_values_are_stored_once() -> None:
    store = Store()
    shared = conversation(500)
    store.put(split(encode(shared)))
    assert store.put(split(encode([*conversation(3, seed=2), *shared]))) < 16_000


@pytest.mark.parametrize("kind", ["leaf", "node"])
def test_damage_is_noticed(kind: str) -> None:
    store = Store()
    tree = split(encode(conversation(2000)))
    store.put(tree)
    level = tree.levels[0 if kind == "leaf" else 1]
    victim = level.hashes[len(level.hashes) // 2]
    good = store[victim]

    for bad in (good[:50] + bytes([good[50] ^ 1]) + good[51:], good[:-1], b"", b"x" * len(good)):
        store[victim] = bad
        with pytest.raises(DamagedChunkError, match=victim.hex()):
            join(tree.root, store.get)
    del store[victim]
    with pytest.raises(DamagedChunkError, match="is missing"):
        join(tree.root, store.get)


def test_a_stored_list_of_hashes_does_not_pass_for_a_node() -> None:
    store = Store()
    tree = split(encode(conversation(2000)))
    store.put(tree)
    node = store[tree.levels[1].hashes[0]]
    forged = split(node)
    store.put(forged)

    with pytest.raises(DamagedChunkError):
        join(forged.root._replace(height=1, size=0), store.get)


def test_known_hashes_are_not_walked_again() -> None:
    items = conversation(5000)
    store = Store()
    one = split(encode(items))
    store.put(one)
    append(items)
    other = split(encode(items), one)
    store.put(other)
    known: set[bytes] = set()
    assert len(list(hashes(one.root, store.get, known))) > 500

    assert len(list(hashes(other.root, store.get, known))) < 6
