"""A run as a file: out of any storage, into any other, and nothing is lost or let in that is not
whole.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import supersteps
from supersteps import export_run, import_run
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.record import Commit
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import (
    AlreadyAnsweredError,
    CheckpointVersionError,
    CorruptCheckpointError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from supersteps.storage._run_file import new_digest
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.retention import RetentionPolicy
from tests.contract.support import (
    EVERYTHING,
    REQUEST,
    SUBJECTS,
    Writer,
    by_hand,
    content_of,
    open_subject,
    record_of,
    request,
    shared,
)

DURABLE = ("memory", "file", "sqlite")


@pytest.fixture
def source(tmp_path: Path) -> InMemoryCheckpointStorage:
    return InMemoryCheckpointStorage()


@pytest.fixture
def target() -> InMemoryCheckpointStorage:
    return InMemoryCheckpointStorage()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


async def a_run_with_everything(storage: ManagedStorage) -> None:
    """Three branches, lists that grow and shrink, keys that go and come again, questions, a
    journal, an inbox.
    """
    writer = Writer(storage)
    await writer.commit(
        Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b"0"]}),
        metadata={"who": ["me"]},
        tags=("a",),
        fingerprint="f",
    )
    await writer.commit(
        Changes(appends={OUTPUTS: [b"1"], shared("log"): [b'"x"']}, deletes=[shared("z")])
    )
    await writer.commit(
        Changes(
            deletes=[OUTPUTS, shared("log")], puts={shared("z"): b"1.5", shared("list"): b"[1]"}
        )
    )
    await writer.commit(Changes(appends={OUTPUTS: [b"3"], shared("list"): [b"2"]}), status="IDLE")
    await writer.move("run-000001")
    await writer.commit(Changes(appends={OUTPUTS: [b"1.0"]}, deletes=[request("q")]))
    await writer.move("run-000002")
    head = await writer.commit(
        Changes(puts={request("p"): REQUEST, request("r"): REQUEST}),
        status="IDLE_WITH_PENDING_REQUESTS",
    )
    await storage.append_journal("run", 1, head, [b'{"call":1}', b"2"])
    await storage.add_answers("run", [("p", b"1.50")])
    await storage.release("run", 1, error="boom")


async def picture(storage: ManagedStorage, run_id: str = "run") -> dict[str, Any]:
    """All that a run is, without its name."""

    def nameless(identifier: str | None) -> str | None:
        return None if identifier is None else identifier.removeprefix(f"{run_id}-")

    run = await record_of(storage, run_id)
    headers = await storage.list_headers(run_id)
    return {
        "run": replace(run, run_id="", head=nameless(run.head) or "", commit_id="", epoch=0),
        "headers": [
            replace(
                h,
                run_id="",
                checkpoint_id=nameless(h.checkpoint_id) or "",
                parent_id=nameless(h.parent_id),
                incarnation="",
            )
            for h in headers
        ],
        "content": [await content_of(storage, h.checkpoint_id) for h in headers],
        "shared keys": [
            [key for key in await content_of(storage, h.checkpoint_id) if key[0] == "shared_state"]
            for h in headers
        ],
        "journal": await storage.read_journal(run_id, run.head),
        "inbox": [
            (entry.number, entry.request_id, entry.value)
            for entry in await storage.read_inbox(run_id)
        ],
    }


# -------------------------------------------------------------------------------------- round trips


def test_both_are_public_names() -> None:
    assert {"export_run", "import_run"} <= set(supersteps.__all__)


@pytest.mark.parametrize("into", DURABLE)
@pytest.mark.parametrize("out_of", DURABLE)
async def test_a_run_arrives_as_it_was(tmp_path: Path, file: Path, out_of: str, into: str) -> None:
    async with (
        open_subject(out_of, tmp_path / "from") as source,
        open_subject(into, tmp_path / "to") as target,
    ):
        await a_run_with_everything(source)
        await Writer(source, "other").commit()
        await Writer(target, "bystander").commit()
        expected = await picture(source)

        assert await export_run(source, "run", file) == 6
        imported = await import_run(target, file)

        assert imported == await record_of(target)
        assert imported.lease is None
        assert await picture(target) == expected
        assert await picture(source) == expected
        assert await target.verify() == []
        assert [run.run_id for run in await target.list_runs()] != ["run"]
        writer = Writer(target)
        await writer.take()
        assert await writer.commit() == "run-000006"


async def test_a_run_comes_out_of_and_into_a_plain_storage(tmp_path: Path, file: Path) -> None:
    async with (
        open_subject("adapter", tmp_path) as source,
        open_subject("adapter", tmp_path) as target,
    ):
        await a_run_with_everything(source)
        expected = await picture(source)
        await export_run(source, "run", file)
        await import_run(target, file)

        arrived = await picture(target)
        assert arrived["content"] == expected["content"]
        assert arrived["headers"] == expected["headers"]
        assert arrived["journal"] == expected["journal"]


@pytest.mark.parametrize("into", SUBJECTS)
async def test_a_run_may_have_another_name(tmp_path: Path, file: Path, into: str) -> None:
    async with open_subject(into, tmp_path) as storage:
        await a_run_with_everything(storage)
        await export_run(storage, "run", file)

        imported = await import_run(storage, file, run_id="twin")

        assert imported.run_id == "twin"
        arrived, expected = await picture(storage, "twin"), await picture(storage)
        for what in ("headers", "content", "shared keys", "journal", "inbox"):
            assert arrived[what] == expected[what]


async def removed(storage: ManagedStorage, how: str) -> None:
    match how:
        case "pruned":
            await storage.prune("run", RetentionPolicy(keep_last=1, waiting_too=True))
        case "the first, where branches part":
            for number in (0, 1, 2):
                await storage.delete_checkpoint(f"run-00000{number}")
        case "the head":
            await storage.delete_checkpoint("run-000005")
        case "all but one":
            for number in (0, 1, 2, 4, 5):
                await storage.delete_checkpoint(f"run-00000{number}")
        case "restored there and back":
            writer = Writer(storage)
            await writer.take()
            for number in (1, 3, 1, 5):
                await writer.move(f"run-00000{number}")
            await storage.release("run", writer.epoch)


@pytest.mark.parametrize("into", DURABLE)
@pytest.mark.parametrize(
    "how",
    [
        "pruned",
        "the first, where branches part",
        "the head",
        "all but one",
        "restored there and back",
    ],
)
async def test_what_was_removed_leaves_no_hole(
    tmp_path: Path, file: Path, into: str, how: str
) -> None:
    async with (
        open_subject(into, tmp_path / "from") as source,
        open_subject(into, tmp_path / "to") as target,
    ):
        await a_run_with_everything(source)
        await removed(source, how)
        expected = await picture(source)

        await export_run(source, "run", file)
        await import_run(target, file)

        assert await picture(target) == expected
        assert await target.verify() == []
        writer = Writer(target)
        await writer.take()
        assert await writer.commit() == "run-000006"  # no number is given twice


async def test_an_answer_that_was_imported_is_not_taken_again(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    await a_run_with_everything(source)
    await export_run(source, "run", file)
    await import_run(target, file)

    with pytest.raises(AlreadyAnsweredError):
        await target.add_answers("run", [("p", b"2")])


# ---------------------------------------------------------------------------------------- exporting


async def test_what_is_not_there_is_not_exported(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await source.save_checkpoint(by_hand("run"))
    with pytest.raises(RunNotFoundError, match="'run'"):
        await export_run(source, "run", file)
    assert not file.exists()


async def test_an_export_replaces_the_file_and_is_private(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await a_run_with_everything(source)
    file.write_text("old")
    await export_run(source, "run", str(file))

    assert file.read_bytes().startswith(b'{"format":"supersteps-run/1"')
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


async def test_an_export_that_cannot_be_written_names_the_file(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await a_run_with_everything(source)
    for path in (file / "deeper" / "run", file.parent):
        with pytest.raises(StorageError, match=str(path)):
            await export_run(source, "run", path)
    assert os.listdir(file.parent) == []


async def test_a_damaged_run_is_not_exported(tmp_path: Path, file: Path) -> None:
    async with FileCheckpointStorage(tmp_path / "c") as source:
        await a_run_with_everything(source)
        damaged = tmp_path / "c" / "run-000004.json"
        damaged.write_bytes(damaged.read_bytes()[:-50])

        with pytest.raises(
            CorruptCheckpointError, match=r"run-000004\.json is damaged.*delete_checkpoint"
        ):
            await export_run(source, "run", file)
        assert not file.exists()
        await source.delete_checkpoint("run-000004")
        assert await export_run(source, "run", file) == 5


async def test_a_running_run_is_exported_as_of_one_moment(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    writer = Writer(source)
    await writer.commit(Changes(appends={OUTPUTS: [b"0"]}))
    busy = True

    async def work() -> None:
        while busy:
            await writer.commit(Changes(appends={OUTPUTS: [b"%d" % (writer.sequence + 1)]}))
            await asyncio.sleep(0.002)

    worker = asyncio.create_task(work())
    for number in range(5):
        await export_run(source, "run", file)
        run = await import_run(target, file, run_id=f"copy {number}")
        assert await content_of(target, run.head) == {
            OUTPUTS: [b"%d" % n for n in range(run.sequence + 1)]
        }
    busy = False
    await worker


async def test_a_run_that_changes_too_fast_says_so(file: Path) -> None:
    class Restless(InMemoryCheckpointStorage):
        async def read_inbox(self, run_id: str, **which: Any) -> Any:
            await self.release(run_id, 1, error=str(id(object())) + os.urandom(4).hex())
            return await super().read_inbox(run_id, **which)

    source = Restless()
    await Writer(source).commit()
    with pytest.raises(StorageError, match="too fast"):
        await export_run(source, "run", file)


# ---------------------------------------------------------------------------------------- importing


async def exported(source: InMemoryCheckpointStorage, file: Path) -> bytes:
    await a_run_with_everything(source)
    await export_run(source, "run", file)
    return file.read_bytes()


def resealed(lines: list[bytes]) -> bytes:
    """The lines of a file with a checksum that fits."""
    digest = new_digest()
    for line in lines:
        digest.update(line)
    return b"".join(lines) + b'{"checksum":"%s"}\n' % digest.hexdigest().encode()


async def test_every_damage_is_noticed_before_anything_is_written(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    data = await exported(source, file)
    lines = data.splitlines(keepends=True)

    def damaged() -> Iterator[bytes]:
        for offset in range(0, len(data), 7):
            yield data[:offset]
            yield data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]
        yield data[:-1]
        yield from (b"".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines)))
        yield from (b"{}\n", b"[]", b"not JSON\n" * 5, b"\xff" * 100)

    for each in damaged():
        file.write_bytes(each)
        with pytest.raises((CorruptCheckpointError, CheckpointVersionError)) as caught:
            await import_run(target, file)
        assert str(file) in str(caught.value)
    assert await target.list_runs() == []


@pytest.mark.parametrize(
    ("line", "old", "new", "problem"),
    [
        (2, b'"parent_id":"run-000000"', b'"parent_id":"run-000009"', "which is not in it"),
        (2, b'"parent_id":"run-000000"', b'"parent_id":null', "has no parent"),
        (2, b'"sequence":1', b'"sequence":7', "does not belong to run"),
        (2, b'"run_id":"run"', b'"run_id":"other"', "does not belong to run"),
        (0, b'"head":"run-000005"', b'"head":"run-000009"', "the head 'run-000009' is not in it"),
        (0, b'"sequence":5', b'"sequence":4', "out of order"),
    ],
)
async def test_what_does_not_fit_together_is_refused(
    source: InMemoryCheckpointStorage,
    target: InMemoryCheckpointStorage,
    file: Path,
    line: int,
    old: bytes,
    new: bytes,
    problem: str,
) -> None:
    lines = (await exported(source, file)).splitlines(keepends=True)[:-1]
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    file.write_bytes(resealed(lines))

    with pytest.raises(CorruptCheckpointError, match=problem):
        await import_run(target, file)
    assert await target.list_runs() == []


async def test_a_newer_file_is_refused_politely(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    data = await exported(source, file)
    lines = data.splitlines(keepends=True)[:-1]
    newer_format = [b'{"format":"supersteps-run/2","runs":"of a shape unknown today"}\n']
    newer_step = [lines[0], lines[1].replace(b'"version":"1.0"', b'"version":"2.0"'), *lines[2:]]
    for each in (newer_format, newer_step):
        file.write_bytes(resealed(each))
        with pytest.raises(CheckpointVersionError, match=r"(?i)upgrade supersteps"):
            await import_run(target, file)
    assert await target.list_runs() == []


async def test_fields_that_are_new_do_no_harm(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    lines = (await exported(source, file)).splitlines(keepends=True)[:-1]
    file.write_bytes(resealed([line[:-2] + b',"new":1}\n' for line in lines]))

    await import_run(target, file)
    assert await picture(target) == await picture(source)


async def test_a_file_that_is_not_there_is_named(
    target: InMemoryCheckpointStorage, file: Path
) -> None:
    with pytest.raises(StorageError, match=str(file)):
        await import_run(target, file)


async def test_a_run_that_exists_stays_what_it_is(
    source: InMemoryCheckpointStorage, target: InMemoryCheckpointStorage, file: Path
) -> None:
    await exported(source, file)
    writer = Writer(target)
    await writer.put(mine=b"1")

    with pytest.raises(RunExistsError, match="run_id="):
        await import_run(target, file)
    with pytest.raises(ValueError, match="run_id"):
        await import_run(target, file, run_id="a\nb")

    assert await target.list_checkpoint_ids() == ["run-000000"]
    assert await content_of(target, "run-000000") == {shared("mine"): b"1"}


async def test_a_run_that_another_process_creates_meanwhile_is_not_deleted(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await exported(source, file)

    class Quicker(InMemoryCheckpointStorage):
        async def get_run(self, run_id: str) -> Any:
            found = await super().get_run(run_id)
            if found is None:
                await Writer(self).put(mine=b"1")
            return found

    target = Quicker()
    with pytest.raises(RunExistsError):
        await import_run(target, file)
    assert await content_of(target, "run-000000") == {shared("mine"): b"1"}


async def test_an_import_that_fails_in_the_middle_leaves_nothing(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await exported(source, file)

    class Failing(InMemoryCheckpointStorage):
        async def commit(self, commit: Commit) -> None:
            if commit.header.sequence == 3:
                raise StorageError("the disk is full")
            await super().commit(commit)

        async def append_journal(self, *args: Any, **which: Any) -> None:
            raise asyncio.CancelledError

    target = Failing()
    with pytest.raises(StorageError, match="full"):
        await import_run(target, file)
    assert (await target.list_runs(), await target.list_checkpoint_ids()) == ([], [])
    source = InMemoryCheckpointStorage()
    head = await Writer(source).commit()
    await source.append_journal("run", 1, head, [b"1"])
    await export_run(source, "run", file)
    with contextlib.suppress(asyncio.CancelledError):
        await import_run(target, file)
    assert await target.list_runs() == []


async def test_a_half_imported_run_cannot_be_acquired(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    await exported(source, file)
    refused: list[str] = []

    class Curious(InMemoryCheckpointStorage):
        async def commit(self, commit: Commit) -> None:
            await super().commit(commit)
            try:
                await Writer(self).take()
            except RunBusyError as error:
                refused.append(str(error))

    await import_run(Curious(), file)
    assert len(refused) == 6


async def test_the_checkpoints_in_the_file_are_only_what_changed(
    source: InMemoryCheckpointStorage, file: Path
) -> None:
    writer = Writer(source)
    await writer.put(big=msgspec.json.encode("x" * 10_000))
    for number in range(50):
        await writer.commit(
            Changes(puts={shared("n"): b"%d" % number}, appends={OUTPUTS: [b'"%s"' % (b"y" * 100)]})
        )
    await export_run(source, "run", file)

    assert file.stat().st_size < 60_000
