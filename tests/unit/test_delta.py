"""What SQL storages share: heads that are remembered, chains of rows, parts, what is not needed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.chunks import split
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.delta.chains import lineage_of, read_chain, read_entries
from supersteps.storage.delta.entries import (
    INLINE_BYTES,
    WHOLE_AFTER_ROWS,
    Entry,
    Listed,
    Stored,
    encode_entries,
)
from supersteps.storage.delta.heads import Append, Head, Heads
from supersteps.storage.delta.inspection import Inspector
from supersteps.storage.delta.parts import (
    DamagedPartError,
    item_checksum,
    needed_lengths,
    read_list,
    read_value,
    unneeded_chunks,
)
from supersteps.storage.delta.rows import Row, RunKey, StoredRun, header_of, pack_row
from supersteps.storage.records import RunRecord

RUN = RunKey(7, "run", "shout", b"{}", "an incarnation")
RECORD = RunRecord(
    run_id="run",
    workflow_id="shout",
    status="IN_PROGRESS",
    head="run-000000",
    sequence=0,
    created_at="2026-01-01T00:00:00.000000+00:00",
    updated_at="2026-01-01T00:00:00.000000+00:00",
)


def key(name: str) -> PartKey:
    return ("shared_state", name)


def large(text: str) -> bytes:
    return b'"' + text.encode() * (INLINE_BYTES // len(text) + 1) + b'"'


@dataclass
class Memory:
    """A database of dictionaries, as `Tables` and for writing to it."""

    rows: dict[int, Row] = field(default_factory=dict)
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    lists: dict[int, tuple[int | None, int, list[tuple[bytes, int]]]] = field(default_factory=dict)

    def row(self, run: int, sequence: int) -> Row | None:
        return self.rows.get(sequence)

    def chunk(self, hash: bytes) -> bytes | None:
        return self.chunks.get(hash)

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        return self.lists[key][:2] if key in self.lists else None

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        _base, first, items = self.lists[key]
        found = [(first + at, data, checksum) for at, (data, checksum) in enumerate(items)]
        return [item for item in found if begin <= item[0] < end]

    def append(self, before: Entry | None, items: Iterable[bytes]) -> Listed:
        assert before is None or isinstance(before, Listed)
        if before is None or self._end(before.list) > before.length:
            base = before.list if before else None
            before = Listed(len(self.lists) + 1, before.length if before else 0)
            self.lists[before.list] = base, before.length, []
        length = before.length
        for data in items:
            self.lists[before.list][2].append((data, item_checksum(data, length)))
            length += 1
        return Listed(before.list, length)

    def _end(self, key: int) -> int:
        return self.lists[key][1] + len(self.lists[key][2])

    def commit(self, head: Head, sequence: int, changes: Changes, parent: int | None = None) -> Row:
        step = head.begin(changes)
        for tree in step.values:
            self.chunks.update(tree.new_chunks())
        for part_key, before, items in step.appends:
            step.difference.puts[part_key] = self.append(before, items)
        whole, entries = head.follow(step.difference)
        header = CheckpointHeader(
            checkpoint_id=f"run-{sequence:06d}",
            run_id="run",
            workflow_id="shout",
            timestamp=f"2026-01-01T00:00:00.{sequence:06d}+00:00",
            sequence=sequence,
            incarnation=RUN.incarnation,
        )
        before_it = sequence - 1 if parent is None else parent
        row = Row(
            sequence + 1, *pack_row(RUN, header, before_it if sequence else None, whole, entries)
        )
        self.rows[sequence] = row
        return row


def new_head() -> Head:
    return Head(StoredRun(RUN.key, 1, RECORD), RUN)


# ---------------------------------------------------------------------------------- differences


def test_a_commit_that_changes_nothing_says_nothing() -> None:
    head, tables = new_head(), Memory()
    tables.commit(head, 0, Changes(puts={key("a"): b"1"}))

    row = tables.commit(head, 1, Changes(puts={key("a"): b"1"}))

    assert row.entries == encode_entries({})
    assert not row.whole


def test_what_is_deleted_and_put_again_in_one_commit_is_said() -> None:
    head, tables = new_head(), Memory()
    tables.commit(head, 0, Changes(puts={key("a"): b"1", key("b"): b"2"}))

    tables.commit(head, 1, Changes(puts={key("a"): b"1"}, deletes=[key("a"), key("unknown")]))

    assert list(head.entries) == [key("b"), key("a")]  # put at the end, as everywhere
    assert read_entries(tables, RUN, tables.rows[1]) == head.entries


def test_only_the_first_row_is_whole_until_others_hold_as_much() -> None:
    head, tables = new_head(), Memory()
    wide = Changes(puts={key(str(n)): b"%d" % n for n in range(1000)})
    tables.commit(head, 0, wide)

    for number in range(1, 3 * WHOLE_AFTER_ROWS):
        tables.commit(head, number, Changes(puts={key("0"): b"%d" % -number}))

    assert [number for number, row in tables.rows.items() if row.whole] == [0]


def test_small_states_are_whole_again_after_some_rows() -> None:
    head, tables = new_head(), Memory()
    for number in range(3 * WHOLE_AFTER_ROWS):
        tables.commit(head, number, Changes(puts={key("n"): b"%d" % number}))

    whole = [number for number, row in tables.rows.items() if row.whole]
    assert whole == [0, WHOLE_AFTER_ROWS + 1, 2 * (WHOLE_AFTER_ROWS + 1)]
    longest = max(len(read_chain(tables, RUN, row)) for row in tables.rows.values())
    assert longest == WHOLE_AFTER_ROWS + 1


def test_a_head_that_is_read_again_goes_on_like_the_one_that_was_remembered() -> None:
    head, tables = new_head(), Memory()
    for number in range(WHOLE_AFTER_ROWS):
        tables.commit(head, number, Changes(puts={key("n"): b"%d" % number, OUTPUTS: b"[]"}))

    again = Head(head.run, RUN, read_chain(tables, RUN, tables.rows[WHOLE_AFTER_ROWS - 1]))

    assert (again.entries, again.rows, again.bytes, again.size) == (
        head.entries,
        head.rows,
        head.bytes,
        head.size,
    )


# -------------------------------------------------------------------------------------- values


def test_large_values_are_stored_apart_and_only_what_is_new_of_them() -> None:
    head, tables = new_head(), Memory()
    first = b"[" + b",".join(b"%d" % n for n in range(20_000)) + b"]"
    tables.commit(head, 0, Changes(puts={key("a"): first}))

    step = head.begin(Changes(puts={key("a"): first.replace(b",19999]", b",20000]")}))

    (tree,) = step.values
    assert 1 <= len(list(tree.new_chunks())) <= 4
    entry = head.entries[key("a")]
    assert isinstance(entry, Stored)
    assert read_value(tables, entry) == first


def test_a_value_that_was_small_in_between_is_stored_as_a_whole() -> None:
    head, tables = new_head(), Memory()
    value = large("some text ")
    tables.commit(head, 0, Changes(puts={key("a"): value}))
    tables.commit(head, 1, Changes(puts={key("a"): b"1"}))

    step = head.begin(Changes(puts={key("a"): value}))

    # The first version may have been pruned since, with its chunks.
    assert len(list(step.values[0].new_chunks())) == len(list(split(value).new_chunks()))


def test_a_chunk_that_is_altered_or_gone_is_told() -> None:
    head, tables = new_head(), Memory()
    tables.commit(head, 0, Changes(puts={key("a"): large("abc")}))
    entry = head.entries[key("a")]
    assert isinstance(entry, Stored)
    tables.chunks.popitem()

    with pytest.raises(DamagedPartError, match="is missing"):
        read_value(tables, entry)
    assert "is missing" in (Inspector(tables).problem(entry) or "")


# --------------------------------------------------------------------------------------- lists


def test_an_append_says_what_is_there_before_it() -> None:
    head, tables = new_head(), Memory()
    tables.commit(head, 0, Changes(appends={OUTPUTS: [b"1"]}))

    assert head.begin(Changes(appends={OUTPUTS: [b"2"]})).appends == [
        Append(OUTPUTS, Listed(1, 1), [b"2"])
    ]
    assert head.begin(
        Changes(puts={OUTPUTS: b"[5]"}, deletes=[OUTPUTS], appends={OUTPUTS: [b"6"]})
    ).appends == [Append(OUTPUTS, b"[5]", [b"6"])]
    assert head.begin(Changes(deletes=[OUTPUTS], appends={OUTPUTS: [b"6"]})).appends == [
        Append(OUTPUTS, None, [b"6"])
    ]


def test_an_older_view_of_a_list_goes_on_apart() -> None:
    tables = Memory()
    old = tables.append(None, [b"1", b"2"])
    new = tables.append(old, [b"3"])
    other = tables.append(old, [b"4"])

    assert read_list(tables, old) == [b"1", b"2"]
    assert read_list(tables, new) == [b"1", b"2", b"3"]
    assert read_list(tables, other) == [b"1", b"2", b"4"]
    assert needed_lengths(tables, [other]) == {1: 2, 2: 3}
    assert needed_lengths(tables, [new, old]) == {1: 3}


def test_elements_that_are_gone_or_altered_are_told() -> None:
    tables = Memory()
    view = tables.append(None, [b"1", b"2", b"3"])
    tables.lists[1][2][1] = (b"9", tables.lists[1][2][1][1])

    with pytest.raises(DamagedPartError, match="element 1 of list 1 has been altered"):
        read_list(tables, view)
    inspector = Inspector(tables)
    assert inspector.problem(Listed(1, 1)) is None
    assert inspector.problem(view) == "element 1 of list 1 has been altered or is missing"
    assert needed_lengths(tables, [Listed(5, 1)]) is None


# ---------------------------------------------------------------------- what is no longer needed


def test_chunks_that_others_need_stay() -> None:
    head, tables = new_head(), Memory()
    shared = b"[" + b",".join(b"%d" % n for n in range(20_000)) + b"]"
    tables.commit(head, 0, Changes(puts={key("a"): shared}))
    first = head.entries[key("a")]
    tables.commit(head, 1, Changes(puts={key("a"): shared.replace(b"[0,", b"[-1,")}))
    second = head.entries[key("a")]

    gone = unneeded_chunks(tables, [first, first, b"1"], [second])

    assert 1 <= len(gone) <= 4
    assert len(gone) == len(set(gone))
    for hash in gone:
        del tables.chunks[hash]
    assert isinstance(second, Stored)
    assert read_value(tables, second).startswith(b"[-1,1,2")
    assert set(unneeded_chunks(tables, [second], [])) == set(tables.chunks)


def test_nothing_goes_where_damage_hides_what_is_needed() -> None:
    head, tables = new_head(), Memory()
    tables.commit(head, 0, Changes(puts={key("a"): b'"' + b"x" * 500_000 + b'"'}))
    entry = head.entries[key("a")]
    assert isinstance(entry, Stored)
    assert entry.height
    del tables.chunks[entry.hashes[:16]]  # a node

    assert unneeded_chunks(tables, [entry], [entry]) == []


# ---------------------------------------------------------------------------------------- chains


def test_a_chain_ends_at_the_row_that_is_missing() -> None:
    head, tables = new_head(), Memory()
    for number in range(4):
        tables.commit(head, number, Changes(puts={key("n"): b"%d" % number}))
    del tables.rows[1]

    with pytest.raises(CorruptCheckpointError, match=r"row before 3 .* is missing"):
        read_entries(tables, RUN, tables.rows[3])
    assert Inspector(tables).nearest_intact(RUN, tables.rows[2]) is None


def test_the_nearest_intact_ancestor_is_found() -> None:
    head, tables = new_head(), Memory()
    for number in range(4):
        tables.commit(head, number, Changes(puts={key("n"): b"%d" % number}))
    tables.rows[2] = tables.rows[2]._replace(entries=b"?")

    assert Inspector(tables).nearest_intact(RUN, tables.rows[3]) == "run-000001"


def test_a_lineage_leaves_other_branches_out_and_breaks_off_at_damage() -> None:
    head, tables = new_head(), Memory()
    for number in range(3):
        tables.commit(head, number, Changes())
    tables.commit(head, 3, Changes(), parent=1)
    rows = sorted(tables.rows.values(), key=lambda row: -row.sequence)

    found, problems = lineage_of(RUN, rows[0], rows, 10)
    assert [info.checkpoint_id for info in found] == ["run-000000", "run-000001", "run-000003"]
    assert problems == []
    assert len(lineage_of(RUN, rows[0], rows, 2)[0]) == 2

    rows[2] = rows[2]._replace(facts=b"?")
    found, problems = lineage_of(RUN, rows[0], rows, 10)
    assert [info.checkpoint_id for info in found] == ["run-000003"]
    assert "the lineage of 'run-000003' breaks off" in problems[0]


def test_a_header_comes_back_from_its_row() -> None:
    header = CheckpointHeader(
        checkpoint_id="run-000004",
        run_id="run",
        workflow_id="renamed",
        parent_id="run-000002",
        timestamp="2026-01-01T12:00:00+01:00",  # not as this library writes it
        sequence=4,
        branch=2,
        iteration_count=3,
        max_iterations=9,
        steps_since_input=1,
        status="IDLE",
        metadata={"a": [1, None]},
        incarnation=RUN.incarnation,
    )

    row = Row(1, *pack_row(RUN, header, 2, False, b""))

    assert header_of(row, RUN) == header
    with pytest.raises(CorruptCheckpointError, match="row 1 in table `checkpoints`"):
        header_of(row._replace(iteration=8), RUN)


# ----------------------------------------------------------------------------------------- heads


def test_heads_used_longest_ago_are_forgotten_when_they_get_too_heavy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supersteps.storage.delta.heads._BUDGET", 7000)
    heads = Heads()
    for name in ("one", "two", "three"):
        heads.keep(name, new_head())
    heads.keep("one", heads.get("one") or new_head())

    heads.keep("four", new_head())

    assert [name for name in ("one", "two", "three", "four") if heads.get(name)] == [
        "one",
        "three",
        "four",
    ]
