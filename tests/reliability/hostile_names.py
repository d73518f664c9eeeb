"""Names that somebody chose with care: they are refused, or come back as they are, and lead
nowhere else.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import unicodedata
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Never

from supersteps import (
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    SqliteCheckpointStorage,
    SuperstepsError,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    export_run,
    handler,
    import_run,
)
from tests.reliability.guarding import Trial, described, unwatched
from tests.reliability.hostile_files import SECRET, hurry
from tests.reliability.judging import silent

ODD: tuple[str, ...] = (
    *("..", ".", "../x", "../../etc/passwd", "/etc/passwd", "/tmp/x", "a/b", "a\\b", "..\\x"),
    *("C:\\x", "~", "~root", "file:x"),
    *("'", '"', "' OR '1'='1", "'; DROP TABLE runs; --", "x\" --", "`", "$(id)", "$", "$value"),
    *("{}", "{0}", "%s", "%00"),
    *("%", "_", "*", "?", "[a-z]", "a%", "a_", "a*", "run-%", "%2E%2E", "%2e", "a~b", "#", "&"),
    *("|", ";", ",", ":", "=", "@"),
    *("\0", "a\0b", "\n", "a\nb", "\r\n", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028"),
    *("\ufeff", "\u200b", "\u00ad"),
    *("", " ", " a", "a ", "a.", "a..", ".a", "...", "-", "--help", "-rf", "-000001", "x-000001"),
    *("x-000001-000002", "000000"),
    *("CON", "con", "NUL", "nul.json", "COM1", "LPT1", "AUX", "PRN", "lock", ".lock"),
    *("run.json", "runs", "journal.jsonl"),
    *("é", "e\u0301", "Å", "A\u030a", "\u212b", "ﬁ", "fi", "ß", "SS", "ss", "İ", "i", "I"),
    *("\u0131", "K", "\u212a", "Ω", "\u2126"),
    *("日本語", "العربية", "עברית", "ไทย"),
    *("हिन्दी", "🎉", "👩‍👩‍👧"),
    *("\u202eabc", "a\u202eb", "\u2066x", "\U0001d518\U0001d52b", "\U000e0041"),
    *("x" * 199, "x" * 200, "x" * 201, "x" * 10_000, "é" * 200, "🎉" * 200, "\ud800"),
    *("a\udfffb", "Run", "run", "RUN", "null"),
)  # fmt: skip
PIECES = (
    "a",
    "B",
    "é",
    "e\u0301",
    "/",
    "\\",
    ".",
    "-",
    "%",
    "_",
    "'",
    '"',
    "\0",
    "\n",
    " ",
    "*",
    "~",
    "🎉",
    "\u202e",
    "9",
    "$",
)


def name_of(dice: random.Random) -> str:
    way = dice.random()
    if way < 0.6:
        return dice.choice(ODD)
    if way < 0.8:
        return dice.choice(ODD) + dice.choice(ODD)
    return "".join(dice.choices(PIECES, k=dice.choice((1, 2, 3, 8, 60, 250))))


def twins(dice: random.Random, name: str) -> str:
    """Return a name that something careless takes for the same."""
    return dice.choice(
        (
            name.swapcase(),
            unicodedata.normalize("NFC", name),
            unicodedata.normalize("NFD", name),
            unicodedata.normalize("NFKC", name),
            name + " ",
            name.rstrip(". "),
            name.replace("/", "%2F"),
            name.replace("%", "%25"),
            name_of(dice),
        )
    )


class Names:
    """What a run is named and holds."""

    def __init__(self, dice: random.Random) -> None:
        def make() -> str:
            return name_of(dice) if dice.random() < 0.5 else dice.choice(("plain", "run", "x"))

        self.run, self.workflow, self.executor, self.key = make(), make(), make(), make()
        self.scope, self.request, self.remark = make(), make(), make()
        self.tags = [make() for _ in range(dice.randrange(3))]
        self.twin = twins(dice, self.run)

    def __str__(self) -> str:
        return ", ".join(f"{key} {value!r:.50}" for key, value in vars(self).items())


class Keeper(Executor):
    """Keeps state under the names, and asks."""

    def __init__(self, names: Names) -> None:
        super().__init__(names.executor)
        self.names = names

    @handler
    async def keep(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        names = self.names
        await ctx.set_shared_state(names.key, names.remark)
        await ctx.queue_state_update(names.key, names.remark, scope=names.scope)
        await ctx.set_state({names.key: names.remark})
        await ctx.yield_output(names.remark)


def build(names: Names, storage: ManagedStorage) -> Workflow:
    keeper = Keeper(names)
    return (
        WorkflowBuilder(name=names.workflow)
        .set_start_executor(keeper)
        .with_checkpointing(storage)
        .build()
    )


def prepare(folder: Path) -> Trial:
    hurry()
    return Chosen(folder).trial


class Chosen:
    """Runs with names that were chosen with care, in all three storages."""

    def __init__(self, folder: Path) -> None:
        self.around = folder / "around"
        self.store = self.around / "store"

    def trial(self, dice: random.Random) -> tuple[str, list[str]]:
        with unwatched():
            shutil.rmtree(self.around, ignore_errors=True)
            self.store.mkdir(parents=True)
            (self.around / "theirs").write_bytes(SECRET)
        names = Names(dice)
        makers: dict[str, Callable[[], ManagedStorage]] = {
            "memory": lambda: memory,
            "file": lambda: FileCheckpointStorage(self.store / "files"),
            "sqlite": lambda: SqliteCheckpointStorage(self.store / "runs.db"),
        }
        memory = InMemoryCheckpointStorage()
        problems: list[str] = []
        told: dict[str, Any] = {}
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            for kind, make in makers.items():
                result = asyncio.run(self._one(names, make))
                told[kind] = result["told"]
                problems += [f"{kind}: {problem}" for problem in result["problems"]]
        for kind, answer in told.items():
            if answer != told["memory"]:
                problems.append(f"{kind} says {answer!r:.300}, memory says {told['memory']!r:.300}")
        found = {path.name for path in self.around.iterdir()}
        if found != {"theirs", "store"} or (self.around / "theirs").read_bytes() != SECRET:
            problems.append(f"something was written beside the store: {found}")
        strangers = {path.name for path in self.store.iterdir()} - {
            "files",
            "runs.db",
            "runs.db-wal",
            "runs.db-shm",
        }
        problems += [f"strange files: {strangers}"] if strangers else []
        return str(names), problems

    async def _one(self, names: Names, make: Callable[[], ManagedStorage]) -> dict[str, Any]:
        """Run under these names, and ask for it in every way."""
        problems: list[str] = []
        told: list[str] = []
        begun: list[str] = []
        async with make() as storage:
            for run_id in dict.fromkeys((names.run, names.twin)):
                try:
                    result = await build(names, storage).run(
                        "x", run_id=run_id, tags=names.tags, metadata={names.remark: names.key}
                    )
                except (SuperstepsError, ValueError, TypeError) as error:
                    told.append(f"refused: {type(error).__name__}")
                    if len(str(error)) > 2_000 or not str(error):
                        problems.append(f"an unclear refusal of {len(str(error))} characters")
                    is_late = getattr(
                        error, "__notes__", ()
                    )  # of a handler: a key or a value, when the run has started
                    is_there = await quiet(storage.get_run(run_id)) is not None
                    if is_there and is_late:
                        begun.append(run_id)
                    elif is_there and "CheckpointSaveError" not in told[-1]:
                        problems.append(f"{run_id!r:.60} was refused, and is there: {error!r:.200}")
                    continue
                except Exception as error:
                    problems.append(f"run: {described(error)}")
                    continue
                if result.get_outputs() != [names.remark]:
                    problems.append(f"the output is {result.get_outputs()!r:.200}")
                told.append(run_id)
        async with make() as storage:  # once more, so that nothing is just remembered
            there = {name for name in told if not name.startswith("refused: ")}
            try:
                problems += await self._check(names, storage, there, {*begun})
            except Exception as error:
                problems.append(f"check: {described(error)}")
            problems += await self._ask_oddly(names, storage, there)
        return {"problems": problems, "told": told}

    async def _check(
        self, names: Names, storage: ManagedStorage, there: set[str], begun: set[str]
    ) -> list[str]:
        problems = [f"damaged: {damage.what} {damage.problem}" for damage in await storage.verify()]
        if {run.run_id for run in await storage.list_runs()} != there | begun:
            problems.append(
                f"the runs are {[run.run_id for run in await storage.list_runs()]!r:.200}"
            )
        for run_id in sorted(there):
            run = await storage.get_run(run_id)
            assert run is not None
            facts = (run.run_id, run.workflow_id, [*run.tags], run.metadata)
            if facts != (run_id, names.workflow, names.tags, {names.remark: names.key}):
                problems.append(f"the record is {facts!r:.300}")
            last = await storage.load_checkpoint(run.head)
            assert last is not None
            kept = (last.shared_state, last.executor_states, last.scopes, last.outputs)
            inner = {names.key: names.remark}
            if kept != (inner, {names.executor: inner}, {names.scope: inner}, [names.remark]):
                problems.append(f"kept is {kept!r:.300}")
            listed = await storage.list_checkpoints(run_id=run_id)
            if {checkpoint.run_id for checkpoint in listed} != {run_id}:
                problems.append("another run's checkpoints are listed")
        return problems

    async def _ask_oddly(self, names: Names, storage: ManagedStorage, there: set[str]) -> list[str]:
        """Filter by odd values: what is found fits exactly."""
        problems: list[str] = []
        for odd in dict.fromkeys(
            (*ODD[::7], names.run, names.twin, names.workflow, *names.tags, "%", "*", "_", "")
        ):
            checks: list[tuple[str, Any, Callable[[Any], bool]]] = [
                ("tag", storage.list_runs(tag=odd), partial(_has, "tags", odd)),
                ("status", storage.list_runs(status=odd), partial(_has, "status", odd)),
                ("workflow", storage.list_runs(workflow_id=odd), partial(_has, "workflow_id", odd)),
                ("ids", storage.list_checkpoints(run_id=odd), partial(_has, "run_id", odd)),
                ("waiting", storage.find_waiting_runs(odd), lambda run: False),
            ]
            for what, asked, fits in checks:
                try:
                    found = await asked
                except (SuperstepsError, ValueError):
                    continue
                except Exception as error:
                    problems.append(f"{what} {odd!r:.50}: {described(error)}")
                    continue
                problems += [
                    f"{what} {odd!r:.50} finds {item!r:.200}" for item in found if not fits(item)
                ]
            for what, asked in (
                ("get_run", storage.get_run(odd)),
                ("load", storage.load_checkpoint(odd)),
                ("lineage", storage.list_lineage(odd, 10)),
                ("journal", storage.read_journal(odd, odd)),
                ("inbox", storage.read_inbox(odd)),
            ):
                try:
                    found = await asked
                except (SuperstepsError, ValueError):
                    continue
                except Exception as error:
                    problems.append(f"{what} {odd!r:.50}: {described(error)}")
                    continue
                is_it = odd in (
                    getattr(found, "run_id", odd),
                    getattr(found, "checkpoint_id", None),
                )
                if found and not is_it:
                    problems.append(f"{what} {odd!r:.50} finds {found!r:.200}")
        problems += await self._by_hand(names, storage)
        if names.run in there:
            problems += await self._exported(names, storage)
        return problems

    async def _by_hand(self, names: Names, storage: ManagedStorage) -> list[str]:
        """Save a checkpoint under an odd id."""
        saved = WorkflowCheckpoint(
            checkpoint_id=names.twin, workflow_id=names.workflow, shared_state={names.key: 1}
        )
        try:
            await storage.save_checkpoint(saved)
        except (SuperstepsError, ValueError):
            return []
        except Exception as error:
            return [f"save: {described(error)}"]
        loaded = await storage.load_checkpoint(names.twin)
        return (
            []
            if loaded is not None and loaded.shared_state == {names.key: 1}
            else [f"saved, but there is {loaded!r}"]
        )

    async def _exported(self, names: Names, storage: ManagedStorage) -> list[str]:
        """Export to a tame path; import under an odd name."""
        path = self.store / "files" / "exported.jsonl"
        path.parent.mkdir(exist_ok=True)
        try:
            await export_run(storage, names.run, path)
            other = InMemoryCheckpointStorage()
            run = await import_run(other, path)
        except (SuperstepsError, ValueError) as error:
            return [f"export: {error!r:.200}"]
        except Exception as error:
            return [f"export: {described(error)}"]
        problems = [] if run.run_id == names.run else [f"imported as {run.run_id!r:.60}"]
        try:
            again = await import_run(other, path, run_id=names.twin)
            problems += [] if again.run_id == names.twin else [f"imported as {again.run_id!r:.60}"]
        except (SuperstepsError, ValueError):
            pass
        path.unlink()
        return problems


def _has(field: str, value: str, found: Any) -> bool:
    there = getattr(found, field)
    return value in there if field == "tags" else bool(there == value)


async def quiet(asked: Any) -> Any:
    try:
        return await asked
    except (SuperstepsError, ValueError):
        return None
