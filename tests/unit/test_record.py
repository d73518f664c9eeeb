import random
import threading

import pytest

from supersteps import InMemoryCheckpointStorage, WorkflowCheckpoint
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, Commit, check_version
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CheckpointVersionError
from supersteps.typing.annotations import type_name

A: PartKey = ("shared_state", "a")
B: PartKey = ("shared_state", "b")


def test_a_list_part_reads_like_a_list() -> None:
    part = ListPart([b"1", b"2", b"3"])

    assert list(part) == [b"1", b"2", b"3"]
    assert len(part) == 3
    assert (part[0], part[-1]) == (b"1", b"3")
    assert part[1:] == [b"2", b"3"]
    assert part.to_json() == b"[1,2,3]"
    assert ListPart().to_json() == b"[]"
    assert part == ListPart([b"1", b"2", b"3"])
    assert part != ListPart([b"1"])
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            part[beyond]


def test_a_list_part_comes_from_json_with_its_bytes() -> None:
    assert list(ListPart.from_json(b'[1.50,{"a":[]},"x"]')) == [b"1.50", b'{"a":[]}', b'"x"']
    with pytest.raises(ValueError, match="array"):
        ListPart.from_json(b"{}")


def test_extending_leaves_every_earlier_view_as_it_was() -> None:
    first = ListPart([b"1"])
    second = first.extended([b"2"])
    third = second.extended([b"3"])
    branch = second.extended([b"x"])

    assert [list(part) for part in (first, second, third, branch)] == [
        [b"1"],
        [b"1", b"2"],
        [b"1", b"2", b"3"],
        [b"1", b"2", b"x"],
    ]
    assert (second[-1], second[:5]) == (b"2", [b"1", b"2"])


def test_extending_the_newest_view_copies_nothing() -> None:
    first = ListPart([b"1"])
    assert first.extended([b"2"])._items is first._items
    assert first.extended([b"3"])._items is not first._items


def test_one_view_may_be_extended_from_many_threads() -> None:
    view = ListPart([b"0"])
    grown: list[ListPart] = []
    start = threading.Barrier(8)

    def grow(number: int) -> None:
        start.wait()
        part = view
        for _ in range(200):
            part = part.extended([b"%d" % number])
        grown.append(part)

    threads = [threading.Thread(target=grow, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(list(part) == [b"0"] + [part[1]] * 200 for part in grown)
    assert len({part[1] for part in grown}) == 8


def test_changes_are_deletes_then_puts_then_appends() -> None:
    old = ListPart([b"1"])
    parts: dict[PartKey, Part] = {A: b"1", B: b"2", OUTPUTS: old}

    Changes(puts={A: b"10"}, deletes=[A, OUTPUTS], appends={OUTPUTS: [b"2"]}).apply(parts)

    assert list(parts) == [B, A, OUTPUTS]
    assert parts == {A: b"10", B: b"2", OUTPUTS: ListPart([b"2"])}
    assert list(old) == [b"1"]


def test_a_replaced_part_keeps_its_place() -> None:
    parts: dict[PartKey, Part] = {A: b"1", B: b"2"}
    Changes(puts={A: b"3"}).apply(parts)
    assert list(parts.items()) == [(A, b"3"), (B, b"2")]


def test_appending_to_an_array_makes_it_a_list_part() -> None:
    parts: dict[PartKey, Part] = {A: b"[1,2]"}
    Changes(appends={A: [b"3"]}).apply(parts)
    assert parts == {A: ListPart([b"1", b"2", b"3"])}


def test_appending_to_a_value_that_is_not_an_array_is_an_error() -> None:
    with pytest.raises(ValueError, match="array"):
        Changes(appends={A: [b"3"]}).apply({A: b"{}"})


@pytest.mark.parametrize("version", ["1.0", "1.9", "0.1", "1"])
async def test_versions_that_can_be_read(version: str) -> None:
    storage = InMemoryCheckpointStorage()
    await storage.save_checkpoint(
        WorkflowCheckpoint(checkpoint_id="c", workflow_id="w", timestamp="t", version=version)
    )
    loaded = await storage.load_checkpoint("c")
    assert loaded is not None
    assert loaded.version == version


@pytest.mark.parametrize("version", ["2.0", "10.0", "", "x", "-1", "1x.0", "²"])
def test_versions_that_cannot(version: str) -> None:
    with pytest.raises(CheckpointVersionError, match=r"file x has format version .* Upgrade"):
        check_version(version, "file x")


def test_the_handle_of_a_header() -> None:
    header = CheckpointHeader(
        checkpoint_id="c",
        workflow_id="w",
        timestamp="t",
        run_id="r",
        parent_id="p",
        iteration_count=3,
    )
    assert header.info == CheckpointInfo("r", "c", 3, "p")


def test_each_commit_is_an_attempt_of_its_own() -> None:
    header = CheckpointHeader(checkpoint_id="c", workflow_id="w", timestamp="t")
    ids = {Commit(header=header, changes=Changes(), epoch=1).commit_id for _ in range(10)}
    assert len(ids) == 10


def random_changes(dice: random.Random) -> Changes:
    keys: list[PartKey] = [("shared_state", name) for name in "abcd"]

    def some() -> list[PartKey]:
        return [key for key in keys if dice.random() < 0.35]

    number = dice.randrange(1000)
    return Changes(
        puts=dict.fromkeys(some(), b"[%d]" % number),
        appends={key: [b"%d" % dice.randrange(1000)] * dice.randrange(1, 3) for key in some()},
        deletes=some(),
    )


@pytest.mark.parametrize("seed", range(300))
def test_changes_one_after_the_other_are_changes_at_once(seed: int) -> None:
    dice = random.Random(seed)
    sequence = [random_changes(dice) for _ in range(dice.randrange(2, 5))]
    begin: dict[PartKey, Part] = {A: b"[0]", B: ListPart([b"1"])}
    expected, found = dict(begin), dict(begin)

    composed = Changes()
    for changes in sequence:
        changes.apply(expected)
        composed = composed.then(changes)
    composed.apply(found)

    assert found == expected
    assert Changes().then(composed) == composed == composed.then(Changes())


def test_composing_changes_leaves_both_as_they_were() -> None:
    first = Changes(puts={A: b"1"}, appends={B: [b"1"]}, deletes=[OUTPUTS])
    second = Changes(puts={OUTPUTS: b"[]"}, appends={B: [b"2"]}, deletes=[A])

    assert first.then(second) == Changes(
        puts={OUTPUTS: b"[]"}, appends={B: [b"1", b"2"]}, deletes=[OUTPUTS, A]
    )
    assert first == Changes(puts={A: b"1"}, appends={B: [b"1"]}, deletes=[OUTPUTS])
    assert second == Changes(puts={OUTPUTS: b"[]"}, appends={B: [b"2"]}, deletes=[A])


def test_a_saved_checkpoint_info_is_found_by_the_name_it_was_first_saved_under() -> None:
    assert type_name(CheckpointInfo) == "supersteps.checkpoint.record:CheckpointInfo"


@pytest.mark.parametrize("seed", range(300))
def test_changes_between_two_states_lead_from_one_to_the_other(seed: int) -> None:
    dice = random.Random(seed)
    before: dict[PartKey, Part] = {A: b"[0]", B: ListPart([b"1"])}
    random_changes(dice).apply(before)
    after = dict(before)
    for _ in range(dice.randrange(4)):
        random_changes(dice).apply(after)
    found = dict(before)

    Changes.between(before, after).apply(found)

    assert found == after
    assert Changes.between(after, after) == Changes()


def test_a_list_that_grows_is_appended_to() -> None:
    before: dict[PartKey, Part] = {A: ListPart([b"1"]), B: ListPart([b"1"])}
    after: dict[PartKey, Part] = {A: ListPart([b"1", b"2"]), B: ListPart([b"2"])}

    assert Changes.between(before, after) == Changes(appends={A: [b"2"], B: [b"2"]}, deletes=[B])


def test_the_size_is_what_is_written() -> None:
    changes = Changes(puts={A: b"10"}, appends={B: [b"1", b"23"]}, deletes=[OUTPUTS])

    assert changes.size == 5
