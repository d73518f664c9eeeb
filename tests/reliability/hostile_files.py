"""The folder of a file storage, and exported runs, after deliberate changes."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from supersteps import (
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    RequestInfoEvent,
    RetentionPolicy,
    SuperstepsError,
    export_run,
    import_run,
)
from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.stored import as_json
from supersteps.storage import _files
from supersteps.storage._workers import Workers
from tests.reliability import workload
from tests.reliability.guarding import Trial, described, unwatched
from tests.reliability.judging import silent
from tests.reliability.mutating import mutate

JOURNAL = (
    b'{"executor_id":"clerk","key":"x","outputs":["half"]}',
    b'{"note":"started","executor_id":"a","key":"m1"}',
)
SECRET = b"a file of somebody else\n"


async def begin(storage: ManagedStorage) -> None:
    """Leave a run that waits for an answer, that has one in its inbox, and a journal after its
    head.
    """
    run = workload.build(storage).run_stream(1, run_id=workload.RUN)
    async for event in run:
        if isinstance(event, RequestInfoEvent):
            break
    await run.aclose()
    owner = this_process("lab")
    record = await storage.acquire(workload.RUN, owner, 60.0)
    await storage.append_journal(workload.RUN, record.epoch, record.head, JOURNAL)
    await storage.release(workload.RUN, record.epoch)
    await storage.add_answers(workload.RUN, [(record.requests[0], b'"fine"')])


Facts = dict[str, object]
"""What a storage tells, by the question."""


async def look(
    storage: ManagedStorage, asked: Callable[[str], bool] = lambda question: True
) -> tuple[Facts, list[str]]:
    """Ask a storage everything; return what it tells, and which errors it raised that say
    nothing.
    """
    facts: Facts = {}
    problems: list[str] = []

    async def ask(question: str, answer: Coroutine[Any, Any, object]) -> Any:
        if not asked(question):
            answer.close()
            return None
        try:
            facts[question] = value = await answer
        except SuperstepsError:
            return None
        except Exception as error:
            problems.append(f"{question}: {described(error)}")
            return None
        return value

    run = await ask("run", storage.get_run(workload.RUN))
    await ask("runs", storage.list_runs())
    await ask(
        "waiting", storage.find_waiting_runs(run.requests[0] if run and run.requests else "none")
    )
    for info in await ask("headers", storage.list_headers(workload.RUN)) or ():
        facts[f"header {info.checkpoint_id}"] = info
    facts.pop("headers", None)
    for listed in await ask("ids", storage.list_checkpoint_ids()) or ():
        facts[f"listed {listed}"] = listed
    facts.pop("ids", None)
    for number in range(12):
        await ask(f"record {number}", _record(storage, f"{workload.RUN}-{number:06d}"))
    if run is not None:
        for info in await ask("lineage", storage.list_lineage(run.head, 100)) or ():
            facts[f"in lineage {info.checkpoint_id}"] = info
        facts.pop("lineage", None)
        await ask("journal", storage.read_journal(workload.RUN, run.head))
        await ask("inbox", storage.read_inbox(workload.RUN))
    await ask("damages", _damages(storage))
    return facts, problems


async def _record(storage: ManagedStorage, checkpoint_id: str) -> object:
    record = await storage.load_record(checkpoint_id)
    return (
        None
        if record is None
        else (record.header, {key: as_json(part) for key, part in record.parts.items()})
    )


async def _damages(storage: ManagedStorage) -> bool:
    damages = await storage.verify()
    assert all(damage.what and damage.problem for damage in damages)
    return bool(damages)


def differing(
    intact: Facts, found: Facts, warned: bool, *, gone: frozenset[str] = frozenset()
) -> list[str]:
    """Return what was told as if it were intact, and is not.

    Args:
        intact: What was told before.
        found: What is told now.
        warned: Whether a warning told of damage meanwhile.
        gone: Questions to which "nothing" is right, because a whole file was taken away; "*" where
            whole rows may be missing, "earlier" where the last that was written may be.
    """
    problems = []
    is_known = bool(found.get("damages"))
    for question, value in found.items():
        if question == "damages" or (question in intact and intact[question] == value):
            continue
        if "earlier" in gone and not question.startswith("record"):
            continue
        is_absence = value in (None, [], ())
        if "*" in gone and (is_absence or is_part_of(value, intact.get(question))):
            continue
        if is_absence and (is_known or warned or question in gone):
            continue
        if question in ("runs", "waiting") and not value and (is_known or warned):
            continue
        problems.append(f"{question} is now {value!r:.300}, was {intact.get(question)!r:.300}")
    return problems


def is_part_of(found: object, intact: object) -> bool:
    """Return whether a list holds nothing but what the other one holds, too."""
    return (
        isinstance(found, list)
        and isinstance(intact, list)
        and all(item in intact for item in found)
    )


async def resume(storage: ManagedStorage) -> list[Any]:
    return await workload.drive(storage)


async def at_once(self: Workers, job: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return job(*arguments, **named)


def hurry() -> None:
    """Let storages do without syncs and threads: here nobody pulls the plug, and nobody else
    waits.
    """
    _files._sync = lambda fd: None
    Workers.run = at_once  # type: ignore[method-assign]


def prepare(folder: Path) -> Trial:
    hurry()
    return Folders(folder).trial


class Folders:
    """A stored run, to be copied, damaged and inspected."""

    def __init__(self, folder: Path) -> None:
        self.master, self.place, self.outside = (
            folder / "master",
            folder / "place",
            folder / "outside",
        )
        self.exported = folder / "run.jsonl"
        self.outside.mkdir()
        with silent():
            storage = FileCheckpointStorage(self.master)
            asyncio.run(self._make(storage))
            self.intact, problems = asyncio.run(self._look_at(self.master))
            shutil.copytree(self.master, self.place)
            self.outputs = asyncio.run(self._resumed())
        assert not problems, problems
        self.export_bytes = self.exported.read_bytes()
        paths = sorted(
            path
            for path in self.master.rglob("*")
            if path.is_file() and path.name not in ("lock", ".lock")
        )
        self.files = {path.relative_to(self.master).as_posix(): path.read_bytes() for path in paths}
        self.donors = list(self.files.values())

    async def _make(self, storage: FileCheckpointStorage) -> None:
        async with storage:
            await begin(storage)
            await export_run(storage, workload.RUN, self.exported)

    async def _look_at(self, place: Path) -> tuple[Facts, list[str]]:
        async with FileCheckpointStorage(place) as storage:
            return await look(storage)

    async def _resumed(self) -> list[Any]:
        async with FileCheckpointStorage(self.place) as storage:
            return await resume(storage)

    def trial(self, dice: random.Random) -> tuple[str, list[str]]:
        if dice.random() < 0.2:
            return self.imported(dice)
        with unwatched():
            self._restore()
            what, gone = dice.choice(
                (self.spoil, self.spoil, self.spoil, self.spoil, self.misplace, self.plant)
            )(dice)
        with warnings.catch_warnings(record=True) as caught, silent_output():
            warnings.simplefilter("always")
            facts, problems = asyncio.run(self._look_at(self.place))
            problems += differing(self.intact, facts, bool(caught), gone=gone)
            if dice.random() < 0.4:
                problems += self._after(dice)
        problems += self._outside()
        return what, problems

    def _restore(self) -> None:
        for path in (self.place, self.outside):
            shutil.rmtree(path, ignore_errors=True)
        self.outside.mkdir()
        (self.outside / "theirs").write_bytes(SECRET)
        (self.place / "runs" / workload.RUN).mkdir(parents=True)
        for name, data in self.files.items():
            (self.place / name).write_bytes(data)

    def _outside(self) -> list[str]:
        found = {path.name: path.read_bytes() for path in self.outside.iterdir()}
        return (
            []
            if found == {"theirs": SECRET}
            else [f"files outside the folder were touched: {found!r:.200}"]
        )

    # ----------------------------------------------------------------------------- ways to spoil it

    def spoil(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Change bytes of one file."""
        name = dice.choice([*self.files])
        way, data = mutate(dice, self.files[name], self.donors)
        (self.place / name).write_bytes(data)
        return f"{name}: {way}", lost_with(name)

    def misplace(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Give files each other's names, take one away, or double one."""
        one, other = dice.sample([*self.files], 2)
        way = dice.randrange(4)
        if way == 0:
            (self.place / one).write_bytes(self.files[other])
            return f"{other} in place of {one}", lost_with(one)
        if way == 1:
            (self.place / one).write_bytes(self.files[other])
            (self.place / other).write_bytes(self.files[one])
            return f"{one} and {other} exchanged", lost_with(one) | lost_with(other)
        if way == 2:
            (self.place / one).unlink()
            return f"{one} deleted", lost_with(one)
        copy = (self.place / one).with_name(
            dice.choice(("copy.json", "lab-000099.json", "%2E%2E.json", ".x.json.tmp"))
        )
        copy.write_bytes(self.files[one])
        return f"{one} copied to {copy.name}", frozenset()

    def plant(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Put something else in a file's place, or under a name that might be used."""
        extra = (
            "runs/lab/lock",
            "runs/.lock",
            "runs/lab/.run.json.tmp",
            "runs/lab/.inbox.jsonl.tmp",
            "x.json",
            "a\n.json",
        )
        more = (
            ".lab-000005.json.tmp",
            "lab-000005.json",
            "lab-000006.json",
            "runs/lab/.deleted",
            "runs/.hidden",
            "runs/x",
        )
        name = dice.choice(
            [*self.files, *extra, *more, "runs/lab/journal.jsonl", "runs/lab/run.json"]
        )
        path = self.place / name
        if name in self.files:
            path.unlink()
        way = dice.choice(
            ("link", "dangling", "loop", "device", "folder", "fifo", "bytes", "locked")
        )
        if way == "link":
            path.symlink_to(
                dice.choice((self.outside / "theirs", self.outside, Path("/etc/passwd")))
            )
        elif way == "dangling":
            path.symlink_to(self.outside / "new")
        elif way == "loop":
            path.symlink_to(path)
        elif way == "device":
            path.symlink_to(dice.choice(("/dev/zero", "/dev/null")))
        elif way == "folder":
            path.mkdir()
        elif way == "fifo":
            os.mkfifo(path)
        elif way == "locked":
            path.write_bytes(self.files.get(name, b""))
            path.chmod(0)
            return f"{name}: no permission", lost_with(name)
        else:
            (self.place / os.fsdecode(b"\xff\xfe.json")).write_bytes(b"x")
            path.write_bytes(dice.randbytes(100))
        return f"{name}: {way}", lost_with(name)

    # ----------------------------------------------------------------------------- going on with it

    def _after(self, dice: random.Random) -> list[str]:
        """Resume the run, and look after what is left of it."""

        async def go_on() -> list[str]:
            async with FileCheckpointStorage(self.place) as storage:
                problems = await self._try("resume", resume(storage), [self.outputs])
                if dice.random() < 0.2:
                    problems += await self._try("vacuum", storage.vacuum())
                    problems += await self._try(
                        "prune", storage.prune(workload.RUN, RetentionPolicy(keep_last=2))
                    )
                    problems += await self._try("delete", storage.delete_run(workload.RUN))
                return problems

        return asyncio.run(go_on())

    async def _try(
        self, what: str, doing: Coroutine[Any, Any, object], right: list[object] | None = None
    ) -> list[str]:
        try:
            value = await doing
        except SuperstepsError:
            return []
        except Exception as error:
            return [f"{what}: {described(error)}"]
        return [f"{what} gave {value!r:.200}"] if right is not None and value not in right else []

    def imported(self, dice: random.Random) -> tuple[str, list[str]]:
        """Import a spoilt run."""
        way, data = mutate(dice, self.export_bytes, self.donors)
        self.exported.write_bytes(data)

        async def take() -> list[str]:
            storage = InMemoryCheckpointStorage()
            problems = await self._try("import", import_run(storage, self.exported))
            facts, more = await look(
                storage, lambda question: question.startswith(("journal", "inbox", "record"))
            )
            if facts.get("record 0") is not None:
                problems += differing(self.intact, facts, False)
            return problems + more

        return f"import, {way}", asyncio.run(take())


def lost_with(name: str) -> frozenset[str]:
    """Return which questions a storage may answer with "nothing" once a file is not there."""
    file = name.rpartition("/")[2]
    if file == "run.json":
        return frozenset(
            {"run", "runs", "waiting", "journal", "inbox", *(f"record {n}" for n in range(12))}
        )
    if file in ("journal.jsonl", "inbox.jsonl"):
        return frozenset({file.removesuffix(".jsonl")})
    number = file.removeprefix(f"{workload.RUN}-").removesuffix(".json")
    return frozenset({f"record {int(number)}"}) if number.isdigit() else frozenset()


silent_output = silent
