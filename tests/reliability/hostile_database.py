"""The file of a SQLite storage after somebody has been there, with an editor for bytes or with
SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from supersteps import RetentionPolicy, SqliteCheckpointStorage, SuperstepsError
from supersteps.storage.sqlite.database import Database
from tests.reliability import workload
from tests.reliability.guarding import Trial, described, unwatched
from tests.reliability.hostile_files import SECRET, Facts, begin, differing, hurry, look, resume
from tests.reliability.judging import silent
from tests.reliability.mutating import BYTES

TABLES = [
    "runs",
    "run_tags",
    "heads",
    "waiting",
    "checkpoints",
    "saved",
    "chunks",
    "borrowers",
    "lists",
    "list_items",
    "journal",
    "inbox",
]
NOTHING = frozenset(
    {"run", "runs", "waiting", "journal", "inbox", *(f"record {number}" for number in range(12))}
)
"""What may be gone where whole rows, tables or pages are."""

SCHEMES = (
    "CREATE TRIGGER evil AFTER UPDATE ON heads BEGIN SELECT load_extension('{outside}/theirs'); "
    "END",
    "CREATE TRIGGER evil AFTER UPDATE ON heads BEGIN DELETE FROM checkpoints; END",
    "CREATE TRIGGER evil BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER evil AFTER INSERT ON checkpoints BEGIN UPDATE checkpoints SET entries = "
    "x'92'; END",
    "DROP TABLE heads; CREATE VIEW heads AS SELECT load_extension('{outside}/theirs') AS run",
    "DROP TABLE runs; CREATE VIEW runs AS WITH RECURSIVE n(run) AS (SELECT 1 UNION ALL SELECT "
    "run + 1 FROM n) SELECT run, 'lab' AS run_id, 'lab' AS workflow_id, '{{}}' AS metadata, 0 AS "
    "checksum FROM n",
    "CREATE VIEW mine AS SELECT * FROM runs",
    "CREATE INDEX evil ON heads (load_extension('{outside}/theirs'))",
    "CREATE INDEX evil ON heads (abs(run))",
    "ALTER TABLE heads ADD COLUMN unknown TEXT",
    "CREATE TABLE unknown (x)",
    "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "ALTER TABLE heads RENAME COLUMN status TO stat",
    "PRAGMA user_version = 99",
    "PRAGMA user_version = -1",
    "PRAGMA user_version = 0",
    "PRAGMA application_id = 1",
    "PRAGMA encoding = 'UTF-16'",
)  # fmt: skip


def prepare(folder: Path) -> Trial:
    hurry()
    opened = Database._open

    def without_syncs(self: Database) -> sqlite3.Connection:
        db = opened(self)
        db.execute("PRAGMA synchronous = OFF")
        return db

    Database._open = without_syncs  # type: ignore[method-assign]
    return Databases(folder).trial


class Databases:
    """A stored run, to be copied, damaged and inspected."""

    def __init__(self, folder: Path) -> None:
        self.place, self.outside = folder / "place", folder / "outside"
        self.path = self.place / "runs.db"
        self.files: dict[str, bytes] = {}
        self.logged: dict[str, bytes] = {}
        with silent():
            asyncio.run(self._make(folder / "master.db"))
            self._restore(self.files)
            self.intact, problems = asyncio.run(self._look())
            assert not problems, problems
            self.outputs = asyncio.run(self._resumed())
        self.values = self._values()

    async def _make(self, path: Path) -> None:
        async with SqliteCheckpointStorage(path) as storage:
            await begin(storage)
            for end in ("", "-wal"):  # as it lies on the disk while a process is at work
                self.logged[f"runs.db{end}"] = path.with_name(path.name + end).read_bytes()
        self.files["runs.db"] = path.read_bytes()

    async def _look(self) -> tuple[Facts, list[str]]:
        async with SqliteCheckpointStorage(self.path, busy_seconds=0.1) as storage:
            return await look(storage)

    async def _resumed(self) -> list[Any]:
        async with SqliteCheckpointStorage(self.path, busy_seconds=0.1) as storage:
            return await resume(storage)

    def _values(self) -> list[Any]:
        self._restore(self.files)
        with closing(sqlite3.connect(self.path)) as db:
            rows = [row for table in TABLES for row in db.execute(f"SELECT * FROM {table}")]
        found = [value for row in rows for value in row]
        return [
            *found,
            None,
            0,
            1,
            -1,
            2**62,
            -(2**63),
            0.5,
            1e300,
            "",
            "\0",
            "x",
            "[]",
            "{}",
            "[[[[",
            b"",
            b"\xff",
            b"{}",
        ]

    def _restore(self, files: dict[str, bytes]) -> None:
        for path in (self.place, self.outside):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        (self.outside / "theirs").write_bytes(SECRET)
        for name, data in files.items():
            (self.place / name).write_bytes(data)

    def trial(self, dice: random.Random) -> tuple[str, list[str]]:
        with unwatched():
            self._restore(self.files)
            ways: tuple[Callable[[random.Random], tuple[str, frozenset[str]]], ...] = (
                *(
                    self.pages,
                    self.pages,
                    self.pages,
                    self.log,
                    self.cells,
                    self.cells,
                    self.cells,
                    self.cells,
                ),
                *(self.rows, self.schema, self.loose, self.plant),
            )
            what, gone = dice.choice(ways)(dice)
        with warnings.catch_warnings(record=True) as caught, silent():
            warnings.simplefilter("always")
            facts, problems = asyncio.run(self._look())
            problems += differing(self.intact, facts, bool(caught), gone=gone)
            if dice.random() < 0.4:
                problems += asyncio.run(self._go_on(dice, may_differ=bool(gone)))
        problems += self._outside()
        return what, problems

    async def _go_on(self, dice: random.Random, *, may_differ: bool) -> list[str]:
        problems: list[str] = []
        storage = SqliteCheckpointStorage(self.path, busy_seconds=0.1)
        doings: list[tuple[str, Any]] = [("resume", lambda: resume(storage))]
        if dice.random() < 0.3:
            doings += [
                ("vacuum", storage.vacuum),
                ("prune", lambda: storage.prune(workload.RUN, RetentionPolicy(keep_last=2))),
                ("delete", lambda: storage.delete_run(workload.RUN)),
            ]
        for what, do in [*doings, ("close", storage.aclose)]:
            try:
                value = await do()
            except SuperstepsError:
                continue
            except Exception as error:
                problems.append(f"{what}: {described(error)}")
                continue
            if what == "resume" and value != self.outputs and not may_differ:
                problems.append(f"resume gave {value!r:.200}")
        return problems

    def _outside(self) -> list[str]:
        found = {path.name: path.read_bytes() for path in self.outside.iterdir()}
        problems = (
            [] if found == {"theirs": SECRET} else [f"files elsewhere were touched: {found!r:.200}"]
        )
        left = {path.name for path in self.place.iterdir()} - {
            "runs.db",
            "runs.db-wal",
            "runs.db-shm",
            "runs.db-journal",
        }
        return [*problems, *([f"new files: {sorted(left)}"] if left else [])]

    # ----------------------------------------------------------------------------- ways to spoil it

    def pages(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Change bytes of the file; a page that is lost takes whole rows with it."""
        mutator = dice.choice((*BYTES, BYTES[0], BYTES[0], BYTES[1]))
        data = mutator(dice, self.files["runs.db"], [self.files["runs.db"]])
        self.path.write_bytes(data)
        return f"pages, {mutator.__name__}", NOTHING

    def log(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Change bytes of the write-ahead log, whose damaged end SQLite takes for never written."""
        self._restore(self.logged)
        name = dice.choice(("runs.db-wal", "runs.db-wal", "runs.db"))
        mutator = dice.choice(BYTES)
        (self.place / name).write_bytes(mutator(dice, self.logged[name], [*self.logged.values()]))
        return f"log, {name}, {mutator.__name__}", frozenset({"*", "earlier"}) | NOTHING

    def cells(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Put another value into one cell."""
        with closing(sqlite3.connect(self.path)) as db:
            table = dice.choice(TABLES)
            column = dice.choice([row[1] for row in db.execute(f"PRAGMA table_info({table})")])
            count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            if not count:
                return f"{table} is empty", frozenset()
            old = db.execute(
                f"SELECT {column} FROM {table} LIMIT 1 OFFSET ?", (dice.randrange(count),)
            ).fetchone()[0]
            new = self._near(dice, old)
            try:
                changed = db.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", (new, old)
                ).rowcount
                db.commit()
            except sqlite3.Error as error:
                return f"{table}.{column}: {error}", frozenset()
        is_key = column in (
            "run",
            "run_id",
            "entry",
            "head",
            "sequence",
            "checkpoint",
            "checkpoint_id",
            "list",
            "chunk",
        )
        return f"{changed} {table}.{column} {old!r:.60} -> {new!r:.60}", NOTHING | {
            "*"
        } if is_key else frozenset()

    def _near(self, dice: random.Random, old: Any) -> Any:
        """Return another value of the same type, or any."""
        same = [value for value in self.values if type(value) is type(old)]
        if isinstance(old, (bytes, str)) and old and dice.random() < 0.5:
            data = old if isinstance(old, bytes) else old.encode()
            spoilt = dice.choice(BYTES)(dice, data, [data])
            return spoilt if isinstance(old, bytes) else spoilt.decode(errors="replace")
        return dice.choice(same if same and dice.random() < 0.8 else self.values)

    def rows(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Delete rows, or exchange the content of two."""
        with closing(sqlite3.connect(self.path)) as db:
            table = dice.choice(TABLES)
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if not row[5]]
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            if len(rows) > 1 and columns and dice.random() < 0.5:
                column = dice.choice(columns)
                other = dice.choice(rows)[len(rows[0]) - len(columns) :][columns.index(column)]
                with contextlib.suppress(sqlite3.IntegrityError):
                    db.execute(f"UPDATE {table} SET {column} = ?", (other,))
                    db.commit()
                return f"{table}.{column} is the same in all rows", NOTHING
            key = db.execute(f"PRAGMA table_info({table})").fetchone()[1]
            db.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} LIMIT ?)",
                (dice.choice((1, 2, 9)),),
            )
            db.commit()
        return f"rows of {table} deleted", NOTHING | {"*"}

    def schema(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Add what an attacker would like to have run, or take a table away."""
        script = dice.choice((*SCHEMES, *(f"DROP TABLE {table}" for table in TABLES)))
        with closing(sqlite3.connect(self.path)) as db:
            try:
                db.executescript(script.format(outside=self.outside))
            except sqlite3.Error as error:
                script += f" ({error})"
        return script[:80], NOTHING | {"*"}

    def loose(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Make a table that takes values of any type, and put one in."""
        with closing(sqlite3.connect(self.path)) as db:
            table = dice.choice(TABLES)
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            db.executescript(f"DROP TABLE {table}; CREATE TABLE {table} ({', '.join(columns)})")
            spoilt = [list(row) for row in rows]
            what = "nothing"
            if spoilt:
                row, at = dice.randrange(len(spoilt)), dice.randrange(len(columns))
                spoilt[row][at] = dice.choice(self.values)
                what = f"{columns[at]} = {spoilt[row][at]!r:.60}"
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", spoilt)
            db.commit()
        return f"{table} of any types, {what}", NOTHING | {"*"}

    def plant(self, dice: random.Random) -> tuple[str, frozenset[str]]:
        """Put something else in the file's place, or beside it."""
        name = dice.choice(("runs.db", "runs.db-wal", "runs.db-shm", "runs.db-journal"))
        path = self.place / name
        path.unlink(missing_ok=True)
        way = dice.choice(
            ("link", "dangling", "loop", "device", "folder", "fifo", "bytes", "empty", "other")
        )
        if way in ("link", "dangling"):
            path.symlink_to(self.outside / ("theirs" if way == "link" else "new"))
        elif way == "loop":
            path.symlink_to(path)
        elif way == "device":
            path.symlink_to(dice.choice(("/dev/zero", "/dev/null")))
        elif way == "folder":
            path.mkdir()
        elif way == "fifo":
            os.mkfifo(path)
        elif way == "other":
            with closing(sqlite3.connect(path)) as db:
                db.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
        else:
            path.write_bytes(dice.randbytes(5000) if way == "bytes" else b"")
        if name == "runs.db" and way == "dangling":  # the storage's own place may be a link
            path.unlink()
        return f"{name}: {way}", NOTHING | {"*", "earlier"}
