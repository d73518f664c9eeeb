"""The JSON storage on the disk: its files, what may be wrong with them, and crashes at every
step.
"""

import asyncio
import contextlib
import errno
import json
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import msgspec
import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.sections.message import MESSAGES
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import (
    CheckpointEncodeError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    StorageError,
)
from supersteps.ids import file_stem
from supersteps.storage import _files
from supersteps.storage.files import document, locks
from supersteps.storage.files.storage import FileCheckpointStorage
from tests.contract.support import (
    LEASE,
    REQUEST,
    Crash,
    Faults,
    Writer,
    by_hand,
    content_of,
    plain,
    request,
    shared,
)

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def storage(folder: Path) -> Iterator[FileCheckpointStorage]:
    storage = FileCheckpointStorage(folder)
    yield storage
    asyncio.run(storage.aclose())


async def two_steps(storage: FileCheckpointStorage) -> Writer:
    """A run with a list part, an open request, two records in its journal and an answer."""
    writer = Writer(storage)
    await writer.commit(
        Changes(puts={MESSAGES: b"[]", shared("n"): b"1"}, appends={OUTPUTS: [b"0"]})
    )
    head = await writer.commit(
        Changes(puts={shared("n"): b"2", request("q"): REQUEST}, appends={OUTPUTS: [b"1"]})
    )
    await storage.append_journal("run", 1, head, [b'{"call":1}'])
    await storage.append_journal("run", 1, head, [b'{"call":2}'])
    await storage.add_answers("run", [("q", b'"yes"')])
    return writer


# ------------------------------------------------------------------------------ what is on the disk


async def test_a_checkpoint_is_a_file_that_people_can_read(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    parts: dict[PartKey, bytes] = {
        MESSAGES: b'[{"data":"hi","source_ids":["a"],"target_ids":["b"]}]',
        shared("draft"): b'"Once"',
        ("executor_states", "up", "count"): b"1",
        ("executor_states", "up", "last"): b'"x"',
    }
    await Writer(storage).commit(
        Changes(puts=parts, appends={OUTPUTS: [b'"one"', b"2"]}), metadata={"a": 1}
    )

    text = (folder / "run-000000.json").read_text(encoding="utf-8")

    assert text == (
        "{\n"
        '  "format": "supersteps.checkpoint",\n'
        '  "version": "1.0",\n'
        '  "standalone": false,\n'
        '  "checkpoint_id": "run-000000",\n'
        '  "workflow_id": "flow",\n'
        '  "timestamp": "2025-01-01T00:00:00.000000+00:00",\n'
        '  "run_id": "run",\n'
        '  "parent_id": null,\n'
        '  "sequence": 0,\n'
        '  "branch": 0,\n'
        '  "iteration_count": 0,\n'
        '  "max_iterations": 100,\n'
        '  "steps_since_input": 0,\n'
        '  "status": "IN_PROGRESS",\n'
        '  "metadata": {"a":1},\n'
        '  "incarnation": "incarnation of run",\n'
        '  "lists": [["outputs"]],\n'
        '  "messages": [{"data":"hi","source_ids":["a"],"target_ids":["b"]}],\n'
        '  "shared_state": {\n'
        '    "draft": "Once"\n'
        "  },\n"
        '  "executor_states": {\n'
        '    "up": {\n'
        '      "count": 1,\n'
        '      "last": "x"\n'
        "    }\n"
        "  },\n"
        '  "outputs": ["one",2],\n'
        '  "checksum": "' + json.loads(text)["checksum"] + '"\n'
        "}\n"
    )


async def test_files_lie_where_they_are_expected_and_are_private(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    await storage.save_checkpoint(by_hand("mine"))

    found = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
    }
    assert found == {
        "mine.json": 0o600,
        "run-000000.json": 0o600,
        "run-000001.json": 0o600,
        "runs": 0o700,
        "runs/.lock": 0o600,
        "runs/run": 0o700,
        "runs/run/inbox.jsonl": 0o600,
        "runs/run/journal.jsonl": 0o600,
        "runs/run/lock": 0o600,
        "runs/run/run.json": 0o600,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for line in (folder / "runs/run/journal.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == {"checksum", "entry"}


async def test_reading_leaves_no_trace(storage: FileCheckpointStorage, folder: Path) -> None:
    assert await storage.list_checkpoints() == []
    assert await storage.get_run("run") is None
    assert await storage.find_waiting_runs("q") == []
    assert not await storage.delete_run("run")
    assert not await storage.delete_checkpoint("mine")
    with pytest.raises(CheckpointError):
        await storage.acquire("run", this_process(), LEASE)
    assert not folder.exists()


@pytest.mark.parametrize(
    "wild",
    [
        "../escape",
        "/etc/passwd",
        "..",
        ".hidden",
        "a/b\\c",
        "*?[x]",
        "x" * 200,
        "é" * 100,
        "C:con",
        "~",
        "%41",
    ],
)
async def test_no_id_leads_out_of_the_folder(tmp_path: Path, wild: str) -> None:
    folder = tmp_path / "deep" / "folder"
    storage = FileCheckpointStorage(folder)
    await storage.save_checkpoint(by_hand(wild))
    await Writer(storage, wild[:190]).commit()

    assert set(await storage.list_checkpoint_ids()) == {wild, f"{wild[:190]}-000000"}
    assert await storage.load_checkpoint(wild) is not None
    assert len(list(folder.glob("*.json"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    await storage.delete_checkpoint(wild)
    assert await storage.list_checkpoint_ids() == [f"{wild[:190]}-000000"]
    await storage.aclose()


async def test_strange_ids_are_just_not_there(storage: FileCheckpointStorage) -> None:
    await Writer(storage).commit()
    for strange in (
        "",
        ".",
        "..",
        "../run-000000",
        "run-00000?",
        "run-000000\0",
        "x" * 5000,
        "runs",
        "\ud800",
    ):
        assert await storage.load_checkpoint(strange) is None
        assert await storage.get_run(strange) is None


async def test_keys_that_are_not_unicode_are_refused(storage: FileCheckpointStorage) -> None:
    with pytest.raises(CheckpointEncodeError, match="Unicode"):
        await Writer(storage).commit(Changes(puts={shared("\ud800"): b"1"}))
    assert await storage.get_run("run") is None


@pytest.mark.parametrize("bad", [b"", b"nul", b"1 2", b"[1,\n2]"])
async def test_what_is_not_compact_json_is_refused(
    storage: FileCheckpointStorage, bad: bytes
) -> None:
    writer = Writer(storage)
    head = await writer.commit(Changes(puts={request("q"): REQUEST}))
    for attempt in (
        lambda: writer.put(n=bad),
        lambda: writer.commit(Changes(appends={OUTPUTS: [b"1", bad]})),
        lambda: storage.append_journal("run", 1, head, [bad]),
        lambda: storage.add_answers("run", [("q", bad)]),
    ):
        with pytest.raises(CheckpointEncodeError, match="JSON"):
            await attempt()
    assert (await storage.read_journal("run", head), await storage.read_inbox("run")) == ([], [])
    await writer.commit()


# ------------------------------------------------------------------------------------------- damage


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file cut at each of its bytes, then with each of its bytes changed."""
    for offset in range(len(data)):
        yield f"cut at {offset}", data[:offset]
    for offset in range(len(data)):
        yield f"changed at {offset}", data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def expect_every_damage_to_be_named(path: Path, read: Callable[[], object]) -> None:
    for how, data in damaged(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpointError) as caught:
            print(f"{how}: not seen, read as {read()}")
        assert str(path) in str(caught.value), how


async def test_a_damaged_checkpoint_is_named_when_asked_for(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    expect_every_damage_to_be_named(
        folder / "run-000001.json", lambda: storage._folder.load("run-000001")
    )


async def test_a_damaged_run_is_named(storage: FileCheckpointStorage, folder: Path) -> None:
    await two_steps(storage)
    expect_every_damage_to_be_named(
        folder / "runs" / "run" / "run.json", storage._folder.run("run").peek
    )

    with pytest.raises(CorruptCheckpointError):
        await storage.acquire("run", this_process(), LEASE)
    with pytest.warns(
        CorruptCheckpointWarning, match=r"run\.json"
    ):  # its checkpoints are intact and can be looked at
        assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
    assert await storage.load_checkpoint("run-000001") is not None
    with pytest.warns(CorruptCheckpointWarning, match=r"run\.json"):
        assert await storage.find_waiting_runs("q") == []


async def test_a_damaged_journal_gives_what_came_before_or_is_named(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await two_steps(storage)
    path = folder / "runs" / "run" / "journal.jsonl"
    whole = path.read_bytes()
    assert writer.head is not None
    run = storage._folder.run("run")
    named: list[tuple[str, str]] = []
    for how, data in damaged(whole):
        path.write_bytes(data)
        try:
            records = run.read_journal(writer.head)
        except CorruptCheckpointError as error:
            named.append((how, str(error)))
            continue
        assert records in ([], [b'{"call":1}']), how

        run.forget()  # as another process would find it
        storage._folder.append_journal("run", 1, writer.head, [b'{"call":3}'])
        assert run.read_journal(writer.head) == [*records, b'{"call":3}'], how
    assert named
    assert all(how.startswith("changed") and str(path) in error for how, error in named)


async def test_a_damaged_inbox_loses_no_answer_quietly(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    expect_every_damage_to_be_named(
        folder / "runs" / "run" / "inbox.jsonl", lambda: storage._folder.read_inbox("run")
    )


FOREIGN = [
    b'{"a":1}',
    b"",
    b"not JSON",
    b"\x00\xff\xfe" * 100,
    b"[]",
    b'{\n  "format": "other"\n}\n',
]


@pytest.mark.parametrize("content", FOREIGN)
async def test_a_foreign_file_is_passed_over_with_a_warning(
    storage: FileCheckpointStorage, folder: Path, content: bytes
) -> None:
    await two_steps(storage)
    (folder / "foreign.json").write_bytes(content)
    (folder / "notes.txt").write_bytes(content)

    with pytest.warns(CorruptCheckpointWarning) as caught:
        assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
    assert len(caught) == 1
    assert str(folder / "foreign.json") in str(caught[0].message)
    with pytest.warns(CorruptCheckpointWarning):
        assert len(await storage.list_checkpoints(workflow_id="flow")) == 2
    with pytest.raises(CorruptCheckpointError, match=r"foreign\.json"):
        await storage.load_checkpoint("foreign")
    with pytest.raises(CorruptCheckpointError, match=r"foreign\.json"):
        await storage.save_checkpoint(by_hand("foreign"))  # it is not ours to overwrite


async def test_each_bad_file_is_warned_of_once(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    (folder / "one.json").write_bytes(b"{}")
    (folder / "two.json").mkdir()
    (folder / "run-000000.json").write_bytes((folder / "run-000000.json").read_bytes()[:100])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert await storage.list_checkpoint_ids() == ["run-000001"]

    assert [
        Path(str(w.message).replace("cannot read ", "").split()[0].rstrip(":")).name for w in caught
    ] == [
        "one.json",
        "run-000000.json",
        "two.json",
    ]


async def test_a_copied_file_does_not_pass_for_another(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    (folder / "copy.json").write_bytes((folder / "run-000000.json").read_bytes())

    with pytest.raises(CorruptCheckpointError, match="copied or renamed"):
        await storage.load_checkpoint("copy")


async def test_a_newer_format_is_refused_politely(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    for path in (folder / "run-000001.json", folder / "runs" / "run" / "run.json"):
        content = json.loads(path.read_bytes())
        del content["checksum"]
        content["version"] = "2.0"
        path.write_bytes(
            document.checksummed_document(
                (name, msgspec.json.encode(value)) for name, value in content.items()
            )
        )

    with pytest.raises(CheckpointVersionError, match=r"run-000001\.json.*'2\.0'.*Upgrade"):
        await storage.load_checkpoint("run-000001")
    with pytest.raises(CheckpointVersionError, match=r"run\.json"):
        await storage.get_run("run")


async def test_a_damaged_ancestor_does_not_hide_its_descendants(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await two_steps(storage)
    (folder / "run-000000.json").write_bytes(b"{}")

    with pytest.warns(CorruptCheckpointWarning, match="breaks off"):
        assert [info.checkpoint_id for info in await storage.list_lineage("run-000001", 10)] == [
            "run-000001"
        ]
    await writer.commit()
    with pytest.raises(CorruptCheckpointError):
        await storage.list_lineage("run-000000", 10)


async def test_a_damaged_checkpoint_can_be_deleted_also_the_head(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await two_steps(storage)
    (folder / "run-000001.json").write_bytes(b"{")
    (folder / "foreign.json").write_bytes(b"{}")
    with pytest.raises(CorruptCheckpointError):
        await storage.load_record("run-000001")

    assert await storage.delete_checkpoint("run-000001")
    assert await storage.delete_checkpoint("foreign")

    run = await storage.get_run("run")
    assert run is not None
    assert (run.head, run.sequence, run.branch) == ("run-000000", 1, 1)
    await writer.take()
    assert plain(await storage.load_record(await writer.commit()))[shared("n")] == b"1"


async def test_a_lost_head_is_named(folder: Path, storage: FileCheckpointStorage) -> None:
    await two_steps(storage)
    (folder / "run-000001.json").unlink()
    writer = Writer(FileCheckpointStorage(folder))
    await writer.take()

    with pytest.raises(StorageError, match=r"run-000001\.json is missing"):
        await writer.commit()
    await writer.move("run-000000")
    await writer.commit()
    await writer.storage.aclose()


async def test_content_is_read_again_when_a_listed_checkpoint_is_looked_at(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    await storage.save_checkpoint(by_hand("mine", shared_state={"n": 1}))
    first, second, mine = await storage.list_checkpoints()
    path = folder / "run-000000.json"
    path.write_bytes(path.read_bytes().replace(b'"n": 1', b'"n": 7'))
    await storage.delete_checkpoint("run-000001")
    await storage.save_checkpoint(by_hand("mine", shared_state={"n": 2}))

    with pytest.raises(CorruptCheckpointError, match="run-000000"):
        _ = first.shared_state
    with pytest.raises(CheckpointNotFoundError, match="deleted after it was listed"):
        _ = second.shared_state
    with pytest.raises(CheckpointNotFoundError, match="replaced after it was listed"):
        _ = mine.shared_state


# ----------------------------------------------------------------------------- unfit folders, locks


async def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    storage = FileCheckpointStorage(tmp_path / "file")
    for attempt in (
        lambda: storage.save_checkpoint(by_hand("mine")),
        lambda: Writer(storage).commit(),
        lambda: storage.list_checkpoints(),
        lambda: storage.get_run("run"),
        lambda: storage.acquire("run", this_process(), LEASE),
        lambda: storage.delete_run("run"),
        lambda: storage.find_waiting_runs("q"),
    ):
        with pytest.raises(StorageError, match=r"file.*There is a file where a folder is needed"):
            await attempt()
    assert (tmp_path / "file").read_text() == "mine"
    await storage.aclose()


@pytest.mark.skipif(AS_ROOT, reason="root may write anywhere")
async def test_a_folder_without_permission(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    storage = FileCheckpointStorage(locked)
    with pytest.raises(StorageError, match=r"locked.*Permission is missing"):
        await Writer(storage).commit()
    assert await storage.list_checkpoints() == []
    await storage.aclose()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "Permission is missing"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "disk is full"),
        (errno.EIO, "disk failed"),
        (errno.ELOOP, "symbolic links"),
    ],
)
async def test_every_refusal_says_which_file_and_what_to_do(
    storage: FileCheckpointStorage,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    advice: str,
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(code, os.strerror(code))

    writer = await two_steps(storage)
    monkeypatch.setattr(_files, "_open", refuse)
    with pytest.raises(StorageError, match=advice) as caught:
        await writer.commit()
    assert str(folder / "run-000002.json") in str(caught.value)


async def test_a_lock_that_is_never_released_is_named(
    storage: FileCheckpointStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await two_steps(storage)
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.02)
    path = folder / "runs" / "run" / "lock"
    with (
        filelock.FileLock(path),
        pytest.raises(
            StorageError, match=r"run/lock has been held .* end that process and try again"
        ),
    ):
        await writer.commit()
    await writer.commit()


# ---------------------------------------------------------------------- faults at every single step


Step = Callable[[Writer], Any]

STEPS: dict[str, Step] = {
    "commit": lambda w: w.commit(
        Changes(puts={shared("n"): b"3"}, appends={OUTPUTS: [b"2"]}, deletes=[request("q")])
    ),
    "acquire": lambda w: w.storage.acquire("run", w.owner, LEASE),
    "release": lambda w: w.storage.release("run", 1, status="FAILED", error="x"),
    "move_head": lambda w: w.storage.move_head("run", 1, "run-000000"),
    "append_journal": lambda w: w.storage.append_journal("run", 1, "run-000001", [b'{"call":3}']),
    "discard_journal": lambda w: w.storage.discard_journal("run", 1),
    "delete_checkpoint": lambda w: w.storage.delete_checkpoint("run-000001"),
    "delete_run": lambda w: w.storage.delete_run("run"),
    "create": lambda w: Writer(w.storage, "second").put(n=b"1"),
    "save_checkpoint": lambda w: w.storage.save_checkpoint(by_hand("mine", shared_state={"n": 1})),
}


def snapshot(storage: FileCheckpointStorage) -> dict[str, Any]:
    """All that a process can see of a storage."""

    async def look() -> dict[str, Any]:
        runs = [await storage.get_run(run_id) for run_id in ("run", "second")]
        checkpoints = await storage.list_checkpoints()
        return {
            "runs": [
                run and (run.head, run.sequence, run.branch, run.epoch, run.status, run.error)
                for run in runs
            ],
            "checkpoints": {c.checkpoint_id: (c.shared_state, c.outputs) for c in checkpoints},
            "journal": [await storage.read_journal("run", f"run-00000{n}") for n in range(3)],
            "inbox": [entry.request_id for entry in await storage.read_inbox("run")],
        }

    return asyncio.run(look())


def states_of(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    """What may be seen after a step that was interrupted: the state before or after."""
    storage = FileCheckpointStorage(tmp_path / "undisturbed")
    writer = asyncio.run(two_steps(storage))
    states = [snapshot(storage)]
    if (
        name == "delete_checkpoint"
    ):  # the head is moved away first, which is a state in its own right
        asyncio.run(storage.move_head("run", 1, "run-000000"))
        states.append(snapshot(storage))
    asyncio.run(STEPS[name](writer))
    return [*states, snapshot(storage)]


@pytest.mark.parametrize("half", [False, True], ids=["between calls", "amid a write"])
@pytest.mark.parametrize("name", STEPS)
def test_a_crash_leaves_the_state_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, half: bool
) -> None:
    allowed = states_of(tmp_path, name)
    faults = Faults(monkeypatch, Crash, half)
    at = 0
    while True:
        folder = tmp_path / str(at)
        writer = asyncio.run(two_steps(FileCheckpointStorage(folder)))
        faults.arm(at)
        with contextlib.suppress(Crash):
            asyncio.run(STEPS[name](writer))
        if not faults.disarm():
            break

        survivor = FileCheckpointStorage(folder)
        assert snapshot(survivor) in allowed, f"after a crash at call {at}"
        asyncio.run(go_on(survivor))
        at += 1
    assert at > 2


async def go_on(storage: FileCheckpointStorage) -> None:
    """Resume what is there, as the next process would, and leave no draft of the run behind."""
    for run_id in ("run", "second"):
        if await storage.get_run(run_id) is None:
            await Writer(storage, run_id).put(again=b"1")
        successor = Writer(storage, run_id)
        await successor.take()
        newest = await successor.put(after=b"1")
        assert plain(await storage.load_record(newest))[shared("after")] == b"1"
        await storage.append_journal(run_id, successor.epoch, newest, [b"1"])
        assert await storage.read_journal(run_id, newest) == [b"1"]
        left = storage.storage_path.glob(f".{run_id}*")
        assert not list(left)
        assert not list((storage.storage_path / "runs" / run_id).glob(".*"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", STEPS)
def test_a_refusal_of_the_system_is_an_error_and_trying_again_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    allowed = states_of(tmp_path, name)
    faults = Faults(monkeypatch, lambda: OSError(code, os.strerror(code)), half=True)
    at = 0
    while True:
        folder = tmp_path / str(at)
        storage = FileCheckpointStorage(folder)
        writer = asyncio.run(two_steps(storage))
        faults.arm(at)
        told = ""
        try:
            asyncio.run(STEPS[name](writer))
        except StorageError as error:
            told = str(error)
        if not faults.disarm():
            break
        assert str(folder) in told, f"call {at} failed and nobody was told"
        for each in (storage, FileCheckpointStorage(folder)):
            assert snapshot(each) in allowed
            assert not list(folder.rglob("*.tmp")), "a draft is left on a full disk"
        asyncio.run(go_on(storage))
        at += 1
    assert at > 2


async def test_a_commit_is_a_success_only_after_a_sync_that_succeeded(
    storage: FileCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await two_steps(storage)
    commit = writer.next(Changes(puts={shared("n"): b"4"}))
    syncs = 0
    real = _files.sync_folder

    def fail_for_the_run(path: Path) -> None:
        nonlocal syncs
        if path.name == "run":
            syncs += 1
            raise OSError(errno.EIO, "I/O error")
        real(path)

    monkeypatch.setattr(_files, "sync_folder", fail_for_the_run)
    for attempt in range(1, 4):
        with pytest.raises(StorageError, match="disk failed"):
            await storage.commit(commit)
        assert syncs == attempt
    monkeypatch.setattr(_files, "sync_folder", real)
    await storage.commit(commit)
    assert (await storage.list_checkpoint_ids())[-1] == "run-000002"


# -------------------------------------------------------------------------------- uncommitted files


async def test_a_checkpoint_that_was_not_committed_is_not_seen_and_swept(
    storage: FileCheckpointStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await two_steps(storage)
    faults = Faults(monkeypatch, Crash)
    commit = writer.next(Changes(puts={shared("n"): b"9"}))
    for at in range(100):
        faults.arm(at)
        with contextlib.suppress(Crash):
            await storage.commit(commit)
        faults.disarm()
        if (folder / "run-000002.json").exists():
            break
    assert (folder / "run-000002.json").exists()

    assert await storage.load_checkpoint("run-000002") is None
    assert await storage.load_record("run-000002") is None
    assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
    assert await storage.list_lineage("run-000002", 9) == []
    assert not await storage.delete_checkpoint("run-000002")
    with pytest.raises(CheckpointNotFoundError):
        await storage.move_head("run", 1, "run-000002")
    await writer.take()
    assert not (folder / "run-000002.json").exists()


async def test_what_was_not_committed_is_swept_also_where_numbers_are_left_out(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    writer = await two_steps(storage)
    head, sequence = writer.head, writer.sequence
    await writer.commit()
    data = (folder / "run-000002.json").read_bytes()
    await storage.delete_checkpoint("run-000002")
    run = storage._folder.run("run").load()
    assert run is not None
    storage._folder.run("run").store(
        msgspec.structs.replace(run, run=msgspec.structs.replace(run.run, sequence=1))
    )
    (folder / "run-000002.json").write_bytes(data)  # as if it had been written, but not committed

    writer.head, writer.sequence = head, sequence
    await writer.commit(sequence=3, checkpoint_id="run-000003")

    assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001", "run-000003"]


async def test_checkpoints_whose_run_is_gone_are_seen_and_stay_what_they_are(
    storage: FileCheckpointStorage, folder: Path
) -> None:
    await two_steps(storage)
    (folder / "runs" / "run" / "run.json").unlink()

    assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
    before = await content_of(storage, "run-000000")
    writer = Writer(storage)
    writer.incarnation = "another run"
    with pytest.raises(StorageError, match="another checkpoint 'run-000000'"):
        await writer.put(n=b"7")
    writer.sequence = 1
    await writer.put(n=b"7")

    assert await content_of(storage, "run-000000") == before
    names = ["run-000000", "run-000001", "run-000002"]
    assert sorted(await storage.list_checkpoint_ids()) == names
    assert await storage.read_inbox("run") == []
    assert await storage.read_journal("run", "run-000002") == []


# ---------------------------------------------------------------------------------- threads, caches


async def test_a_commit_does_not_read_its_parent_again(
    storage: FileCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await two_steps(storage)
    read: list[str] = []
    real = _files.read

    def spy(path: Path) -> bytes | None:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(_files, "read", spy)
    await storage.renew("run", 1, LEASE)
    await writer.commit()
    assert "run-000001.json" not in read

    other = Writer(FileCheckpointStorage(storage.storage_path))
    await other.take()
    await other.put(n=b"7")
    await writer.take()
    read.clear()
    newest = await writer.put(m=b"8")
    assert "run-000003.json" in read  # somebody else has written it
    assert plain(await storage.load_record(newest))[shared("n")] == b"7"
    await other.storage.aclose()


async def test_threads_are_its_own_and_go_when_it_is_closed(storage: FileCheckpointStorage) -> None:
    before = set(threading.enumerate())
    writer = Writer(storage)
    await writer.commit()
    own = set(threading.enumerate()) - before
    assert own
    assert all(thread.name.startswith("supersteps-files") for thread in own)

    await storage.aclose()
    await storage.aclose()

    assert not own & set(threading.enumerate())
    await writer.commit()


async def test_a_cancelled_commit_is_over_when_the_cancellation_arrives(
    storage: FileCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await two_steps(storage)
    inside, go = threading.Event(), threading.Event()
    real = _files._replace

    def wait(source: Path, target: Path) -> None:
        inside.set()
        go.wait(10)
        real(source, target)

    monkeypatch.setattr(_files, "_replace", wait)
    commit = writer.next()
    task = asyncio.create_task(storage.commit(commit))
    await asyncio.get_running_loop().run_in_executor(None, inside.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    run = await storage.get_run("run")
    assert run is not None
    assert run.commit_id == commit.commit_id
    await storage.commit(commit)


def test_names_of_runs_and_checkpoints_never_collide(tmp_path: Path) -> None:
    assert file_stem(".lock") != ".lock"
    storage = FileCheckpointStorage(tmp_path)
    for run_id in ("lock", ".lock", "%", "runs", "run.json"):
        asyncio.run(Writer(storage, run_id).commit())
    assert len(asyncio.run(storage.list_checkpoint_ids())) == 5
    asyncio.run(storage.aclose())
