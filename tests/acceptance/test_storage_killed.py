"""Durable storages among real processes: killed with SIGKILL, in competition, on a full disk."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import StorageError
from supersteps.storage.addresses import open_storage
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.ports import ManagedStorage
from tests.acceptance.killing import DEADLINE, each_store, needs_sigkill, start
from tests.contract.support import Writer, plain, shared

# Commits numbers to a run for as long as it lives; says each number once it is durable.
COMMITTER = """
import asyncio, sys
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import RunBusyError, RunFencedError
from supersteps.storage.addresses import open_storage
from tests.contract.support import Writer

async def main(folder, name, steps):
    writer = Writer(open_storage(folder))
    if await writer.storage.get_run("run") is None:
        await writer.commit()
    done = 0
    await take_again(writer)  # the other process may be quicker
    while done < steps:
        try:
            await writer.storage.append_journal("run", writer.epoch, writer.head, [b"1"])
            await writer.commit(Changes(appends={OUTPUTS: [b'"%s %d"' % (name.encode(), done)]}))
        except RunFencedError:
            await take_again(writer)
            continue
        print(done, flush=True)
        done += 1

async def take_again(writer):
    while True:
        try:
            return await writer.take()
        except RunBusyError:
            await asyncio.sleep(0.002)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def launch(script: str, folder: Path, name: str, steps: int) -> subprocess.Popen[str]:
    return start("-c", script, str(folder), name, str(steps), stderr=None)


def stored_outputs(folder: Path) -> tuple[int, list[bytes]]:
    async def look() -> tuple[int, list[bytes]]:
        storage = open_storage(folder)
        assert isinstance(storage, ManagedStorage)
        async with storage:
            run = await storage.get_run("run")
            assert run is not None
            assert len(await storage.list_checkpoint_ids()) == run.sequence + 1
            assert len(await storage.list_lineage(run.head, 10_000)) == run.sequence + 1
            outputs = plain(await storage.load_record(run.head)).get(OUTPUTS, [])
            assert isinstance(outputs, list)
            return run.sequence, outputs

    return asyncio.run(look())


async def begin(folder: Path) -> None:
    storage = open_storage(folder)
    assert isinstance(storage, ManagedStorage)
    async with storage:
        await Writer(storage).commit(lease_seconds=None)


@needs_sigkill
@each_store
def test_a_killed_process_loses_nothing_that_it_announced(tmp_path: Path, store: str) -> None:
    announced: list[bytes] = []
    for life, steps in enumerate((1, 7, 20, 3)):
        child = launch(COMMITTER, tmp_path / store, f"life{life}", 100_000)
        assert child.stdout is not None
        for _ in range(steps):
            announced.append(b'"life%d %d"' % (life, int(child.stdout.readline())))
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        announced += [b'"life%d %d"' % (life, int(line)) for line in rest.splitlines()]

        sequence, outputs = stored_outputs(tmp_path / store)
        assert len(outputs) == sequence
        assert len(set(outputs)) == len(outputs)
        # One more may be there: committed, but killed before it could say so.
        assert [output for output in outputs if output in set(announced)] == announced
        assert len(outputs) - len(announced) <= life + 1


@each_store
def test_two_processes_that_want_one_run_apply_each_step_once(tmp_path: Path, store: str) -> None:
    asyncio.run(begin(tmp_path / store))
    # Each gives the run up after every step, so that the other can have it.
    polite = COMMITTER.replace("Changes(appends", "lease_seconds=None, changes=Changes(appends")
    children = [launch(polite, tmp_path / store, name, 25) for name in ("a", "b")]
    for child in children:
        child.communicate(timeout=DEADLINE)
    assert [child.returncode for child in children] == [0, 0]

    sequence, outputs = stored_outputs(tmp_path / store)
    assert sequence == 50
    for name in ("a", "b"):
        assert [o for o in outputs if o.startswith(b'"%s ' % name.encode())] == [
            b'"%s %d"' % (name.encode(), n) for n in range(25)
        ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
async def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk: Path) -> None:
    storage = FileCheckpointStorage(small_disk / "checkpoints")
    writer = Writer(storage)
    await writer.put(log=b'"%s"' % (b"x" * 50_000))

    async def fill_the_disk() -> None:
        for number in range(100):
            await writer.commit(
                Changes(puts={shared("n"): b"%d" % number}, appends={OUTPUTS: [b"%d" % number]})
            )

    with pytest.raises(StorageError, match="disk is full"):
        await fill_the_disk()

    assert not list(small_disk.rglob("*.tmp"))
    ids = await storage.list_checkpoint_ids()
    assert ids[-1] == writer.head
    assert 10 < len(ids) < 25
    await storage.delete_checkpoint(ids[1])
    await writer.take()
    await writer.put(after=b"1")
    assert writer.head is not None
    parts = plain(await storage.load_record(writer.head))
    assert parts[OUTPUTS] == [b"%d" % n for n in range(len(ids) - 1)]
    await storage.aclose()
