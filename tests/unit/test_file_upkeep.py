"""Looking after the folder of the JSON storage: what is damaged or missing is told, what is left
over goes.
"""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.errors import CorruptCheckpointError, CorruptCheckpointWarning
from supersteps.storage import _files
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.records import Damage
from supersteps.storage.retention import RetentionPolicy
from tests.contract.support import REQUEST, Writer, by_hand, content_of, request, shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def storage(folder: Path) -> Iterator[FileCheckpointStorage]:
    storage = FileCheckpointStorage(folder)
    yield storage
    asyncio.run(storage.aclose())


async def steps(storage: FileCheckpointStorage, count: int, run_id: str = "run") -> Writer:
    writer = Writer(storage, run_id)
    for number in range(count):
        await writer.commit(Changes(puts={shared("n"): b"%d" % number, request("q"): REQUEST}))
    return writer


def spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-60] + bytes([data[-60] ^ 1]) + data[-59:])


# ------------------------------------------------------------------------------------------- verify


async def test_every_kind_of_damage_is_named(storage: FileCheckpointStorage, folder: Path) -> None:
    for run_id in ("a", "b", "c", "d", "e"):
        writer = await steps(storage, 3, run_id)
        await storage.append_journal(run_id, 1, str(writer.head), [b"1"])
        await storage.append_journal(run_id, 1, str(writer.head), [b"2"])
        await storage.add_answers(run_id, [("q", b"1")])
    await storage.save_checkpoint(by_hand("mine"))
    assert await storage.verify() == []

    spoil(folder / "a-000001.json")
    (folder / "b-000001.json").unlink()
    (folder / "c-000002.json").unlink()
    journal = folder / "runs" / "d" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"[1]", b"[7]"))
    spoil(folder / "runs" / "d" / "inbox.jsonl")
    (folder / "runs" / "e" / "run.json").unlink()
    spoil(folder / "mine.json")
    (folder / "foreign.json").write_text("{}")
    found = {
        (
            Path(d.what.split(" ", 1)[1]).name,
            d.run_id,
            d.checkpoint_id,
            d.intact_ancestor,
        ): d.problem
        for d in await storage.verify()
    }

    assert set(found) == {
        ("a-000001.json", "a", "a-000001", "a-000000"),
        ("b-000001.json", "b", "b-000001", "b-000000"),
        ("c-000002.json", "c", "c-000002", "c-000001"),
        ("d", "d", None, None),
        ("run.json", "e", None, None),
        ("mine.json", None, "mine", None),
        ("foreign.json", None, "foreign", None),
    }
    assert "is missing, but it is the head" in found["c-000002.json", "c", "c-000002", "c-000001"]
    assert "3 of its checkpoints exist" in found["run.json", "e", None, None]
    assert len([d for d in await storage.verify() if d.run_id == "d"]) == 2
    assert {d.run_id for d in await storage.verify("a")} == {"a"}
    assert await storage.verify("nowhere") == []


async def test_a_damaged_record_of_a_run_is_named_and_its_checkpoints_are_still_checked(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await steps(storage, 3)
    spoil(folder / "runs" / "run" / "run.json")
    spoil(folder / "run-000002.json")

    for found in (await storage.verify(), await storage.verify("run")):
        assert [(damage.run_id, damage.checkpoint_id) for damage in found] == [
            ("run", None),
            ("run", "run-000002"),
        ]
        assert isinstance(found[0], Damage)
    with pytest.warns(CorruptCheckpointWarning, match=r"run\.json"):
        assert await storage.list_runs() == []


# ---------------------------------------------------------------------------------- what is offered


async def test_a_damaged_checkpoint_comes_with_an_offer(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await steps(storage, 3)
    await writer.move("run-000000")
    await writer.commit()
    await writer.commit()
    for name, offer in {
        "run-000004": "The nearest intact checkpoint before it is 'run-000003'.",
        "run-000002": "The nearest intact checkpoint before it is 'run-000001'.",
        "run-000001": "The nearest intact checkpoint before it is 'run-000000'.",
        "run-000000": "No checkpoint before it is intact.",
    }.items():
        spoil(folder / f"{name}.json")
        with pytest.raises(CorruptCheckpointError) as caught:
            await storage.load_checkpoint(name)
        assert str(caught.value).endswith(offer)
        assert str(folder / f"{name}.json") in str(caught.value)


async def test_a_damaged_checkpoint_in_the_middle_can_be_deleted(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await steps(storage, 4)
    spoil(folder / "run-000001.json")
    spoil(folder / "run-000002.json")

    with pytest.warns(CorruptCheckpointWarning, match=r"run-00000[12]\.json is damaged") as caught:
        assert [header.sequence for header in await storage.list_headers("run")] == [0, 3]
    assert len(caught) == 2
    assert await storage.delete_checkpoint("run-000002")
    assert await storage.delete_checkpoint("run-000001")

    assert await storage.verify() == []
    assert [info.checkpoint_id for info in await storage.list_lineage("run-000003", 9)] == [
        "run-000000",
        "run-000003",
    ]
    await writer.commit()


async def test_a_checkpoint_whose_file_is_lost_can_be_given_up(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await steps(storage, 5)
    for number in (1, 4):
        (folder / f"run-00000{number}.json").unlink()
        assert await storage.delete_checkpoint(f"run-00000{number}")
        assert not await storage.delete_checkpoint(f"run-00000{number}")
    assert not await storage.delete_checkpoint("run-000009")
    assert not await storage.delete_checkpoint("run-x")

    assert await storage.verify() == []
    run = await storage.get_run("run")
    assert run is not None
    assert run.head == "run-000003"
    lineage = await storage.list_lineage("run-000003", 9)
    assert [info.checkpoint_id for info in lineage] == ["run-000000", "run-000002", "run-000003"]
    await writer.take()
    await writer.commit()


async def test_on_a_full_disk_room_is_made_first(
    storage: FileCheckpointStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await steps(storage, 6)
    real = _files._write

    def write(fd: int, data: memoryview) -> int:
        if len(list(folder.glob("run-*.json"))) > limit:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(_files, "_write", write)
    limit = 5
    assert await storage.delete_checkpoint("run-000001")
    limit = 4
    assert len(await storage.prune("run", RetentionPolicy(keep_steps=2, waiting_too=True))) == 1
    assert await storage.verify() == []
    assert await storage.list_checkpoint_ids() == [f"run-00000{n}" for n in (0, 2, 4, 5)]


async def test_pruning_goes_around_damage(storage: FileCheckpointStorage, folder: Path) -> None:
    await steps(storage, 5)
    spoil(folder / "run-000002.json")

    with pytest.warns(CorruptCheckpointWarning, match="run-000002"):
        gone = await storage.prune("run", RetentionPolicy(keep_last=1))
    assert gone == ["run-000000", "run-000001", "run-000003"]
    assert (folder / "run-000002.json").exists()


# ------------------------------------------------------------------------------------------- vacuum


async def test_leftovers_go_and_nothing_else(storage: FileCheckpointStorage, folder: Path) -> None:
    writer = await steps(storage, 3)
    first = str(writer.head)
    await storage.append_journal("run", 1, first, [b"1"])
    await storage.add_answers("run", [("q", b"1")])
    await writer.commit(Changes(deletes=[request("q")]), inbox_read=1)
    await storage.save_checkpoint(by_hand("mine"))
    await steps(storage, 1, "dead")
    whole = {
        path for path in folder.rglob("*") if path.name not in ("journal.jsonl", "inbox.jsonl")
    }
    (folder / "runs" / "dead" / "run.json").unlink()  # its creation was interrupted
    whole -= {folder / "runs" / "dead" / "run.json", folder / "dead-000000.json"}
    for name in (
        ".run-000004.json.tmp",
        ".run-000001.json.tmp",
        ".mine.json.tmp",
        ".dead-000000.json.tmp",
    ):
        (folder / name).write_text("half")
    for name in (".run.json.tmp", ".inbox.jsonl.tmp"):
        (folder / "runs" / "run" / name).write_text("half")
    await writer.commit()
    data = (folder / "run-000004.json").read_bytes()
    await storage.delete_checkpoint("run-000004")
    (folder / "run-000009.json").write_bytes(data)  # was never committed, whatever it is

    await storage.vacuum()
    await storage.vacuum()

    assert set(folder.rglob("*")) == whole
    assert await storage.verify() == []


async def test_an_interrupted_deletion_is_finished(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await steps(storage, 3)
    (folder / "runs" / "run" / "run.json").rename(folder / "runs" / "run" / ".deleted")
    assert await storage.list_checkpoint_ids() == []
    assert await storage.verify() == []

    await storage.vacuum()

    assert {path.name for path in folder.rglob("*")} == {"runs", ".lock", "run", "lock"}


async def test_a_run_that_lost_its_record_is_left_for_somebody_to_mend(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await steps(storage, 3)
    record = folder / "runs" / "run" / "run.json"
    data = record.read_bytes()
    record.unlink()

    await storage.vacuum()
    record.write_bytes(data)  # from a backup

    assert await content_of(storage, "run-000002") == {shared("n"): b"2", request("q"): REQUEST}


async def test_vacuum_of_nothing_leaves_no_trace(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await storage.vacuum()
    assert await storage.verify() == []
    assert await storage.list_runs() == []
    assert not folder.exists()


async def test_deleting_a_run_spares_what_was_saved_by_hand_under_one_of_its_numbers(
    storage: FileCheckpointStorage,
) -> None:
    await steps(storage, 4)
    await storage.delete_checkpoint("run-000001")
    await storage.save_checkpoint(by_hand("run-000001"))

    assert await storage.delete_run("run")
    assert await storage.list_checkpoint_ids() == ["run-000001"]


async def test_a_run_with_a_very_long_name_is_looked_after_too(
    storage: FileCheckpointStorage,
) -> None:
    name = "é" * 100
    await steps(storage, 5, name)

    assert len(await storage.prune(name, RetentionPolicy(keep_last=1, waiting_too=True))) == 4
    assert [header.sequence for header in await storage.list_headers(name)] == [4]
    assert await storage.verify() == []
    assert await storage.verify(name) == []
    await storage.vacuum()
    assert await storage.delete_run(name)
    assert await storage.list_checkpoint_ids() == []


async def test_pruning_again_finishes_what_a_full_disk_cut_short(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await steps(storage, 6)
    (folder / "run-000004.json").unlink()
    assert [damage.checkpoint_id for damage in await storage.verify()] == ["run-000004"]

    gone = await storage.prune("run", RetentionPolicy(keep_last=1, waiting_too=True))

    assert "run-000004" in gone
    assert await storage.verify() == []
    assert [info.checkpoint_id for info in await storage.list_lineage("run-000005", 10)] == [
        "run-000005"
    ]
