"""The database file: created, checked and migrated when opened.

It also converts SQLite's errors to the library's.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from supersteps._process_fork import in_child, restart_in_child
from supersteps.errors import (
    CheckpointError,
    CheckpointVersionError,
    CorruptCheckpointError,
    StorageError,
)
from supersteps.storage._statements import load_migrations
from supersteps.storage.sqlite import migrations
from supersteps.storage.sqlite.forked import bar, check_not_barred
from supersteps.storage.sqlite.read_only import (
    StillConnection,
    is_alone,
    is_barred,
    may_only_look,
    stamp_of,
)

APPLICATION_ID = 0x53757065  # "Supe"
"""Marks the file as one of this library."""

_BUSY_PAUSE = 0.005
"""Seconds between attempts at what SQLite itself does not wait for."""

_SHORT_OF_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)

Looking = TypeVar("Looking", bound=sqlite3.Connection)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


_TICK_NS, _COARSE_TICK_NS = 20_000_000, 3_000_000_000
"""Age of a folder's last change from which a later one must have another time.

It covers the clocks of most file systems, and of those with whole seconds.
"""


class Whereabouts:
    """Checks whether a database and its log are still the same files, by their folder.

    Checking the files themselves would cost more: if a file's times were read, Linux (6.13 and
    later) updates them with the next write, and a file system without a journal writes them, too,
    before a commit's sync returns. A folder's times change when a name in it appears, disappears or
    gets another file.
    """

    def __init__(self, file: str, log: str) -> None:
        self._file, self._log = file, log
        self._place = _identity(file), _identity(log)
        self._folder = os.path.dirname(file) or "."
        self._seen: tuple[int, ...] | None = None

    def are_unchanged(self) -> bool:
        """Return whether both files are unchanged."""
        try:
            found = os.stat(self._folder)
        except FileNotFoundError:
            return False
        seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        if seen == self._seen:
            return True
        if (_identity(self._file), _identity(self._log)) != self._place:
            return False
        tick = _TICK_NS if found.st_mtime_ns % 1_000_000_000 else _COARSE_TICK_NS
        is_settled = max(found.st_mtime_ns, found.st_ctime_ns) < time.time_ns() - tick
        self._seen = seen if is_settled else None
        return True


class Database:
    """A database file.

    Args:
        path: The file; it and its folder are created, for their owner only, when it is opened.
        busy_seconds: How long to wait while another process writes.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget that the file was checked; a forked child checks it again."""
        self._lock = threading.Lock()
        self._is_checked = False

    def bar(self) -> None:
        """Forbid this process to use the file: it was forked while the file was open."""
        bar(str(self.path))

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """Open a connection that may be used by several threads in turn.

        Raises:
            StorageError: The file cannot be opened, or is not a database of this library.
            CheckpointVersionError: A newer version of the library created it.
        """
        check_not_barred(str(self.path))
        with self.errors("open"):
            if read_only and may_only_look(self.path):
                return self._look()
            with self._lock:
                if not (self._is_checked and self.path.exists()):
                    self._check()
                    self._is_checked = True
            db = self._open()
            db.execute("PRAGMA query_only = 1" if read_only else "PRAGMA wal_autocheckpoint = 0")
            return db

    def _look(self) -> sqlite3.Connection:
        """Open a connection to a file that, or beside which, cannot be written."""
        self._check_files()
        if not is_alone(self.path):
            try:
                return self._looking("mode=ro", sqlite3.Connection)
            except sqlite3.OperationalError as error:
                if not is_barred(error):
                    raise
        stamp = stamp_of(self.path)
        db = self._looking("mode=ro&immutable=1", StillConnection)
        db.stamp = stamp
        return db

    def _looking(self, how: str, kind: type[Looking]) -> Looking:
        with self._right_kind():
            db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?{how}",
                uri=True,
                factory=kind,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            self._made_ready(db)
            try:
                self._check_kind(db)
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version < len(_migrations()):
                    raise StorageError(
                        f"{self.path} can only be read, and was created by an earlier version of "
                        f"supersteps (its schema is number {version}, this one's is "
                        f"{len(_migrations())}): it has to be migrated first. Copy it to a folder "
                        "where you may write, and open the copy."
                    )
                self._check_tables(db)
            except BaseException:
                db.close()
                raise
        return db

    def _open(self) -> sqlite3.Connection:
        return self._made_ready(
            sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        )

    def _made_ready(self, db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            db.execute(f"PRAGMA busy_timeout = {self._busy_seconds * 1000:.0f}")
            # Builds have different defaults. FULL makes a commit in WAL mode survive a power cut.
            db.execute("PRAGMA synchronous = FULL")
            # Other programs' additions to the schema must not call functions that reach outside the
            # database.
            db.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            db.close()
            raise
        return db

    def whereabouts(self) -> Whereabouts:
        """Return the present identity of the database and its log."""
        return Whereabouts(str(self.path), f"{self.path}-wal")

    def lost(self) -> StorageError:
        """Return the error for a database that was deleted, moved or replaced during a write."""
        return StorageError(
            f"{self.path}, or the log beside it, was deleted, moved or replaced while it was in "
            "use: the last write is not in the present file. Bring the files back before you "
            "continue, then resume from what is in them."
        )

    def set_waiting(self, db: sqlite3.Connection, waiting: bool) -> None:
        """Choose whether a connection waits while another process writes, or fails at once."""
        db.execute(f"PRAGMA busy_timeout = {self._busy_seconds * 1000 if waiting else 0:.0f}")

    def make_room(self, db: sqlite3.Connection, pages: int) -> None:
        """Extend the write-ahead log before its use: a commit that extends it takes twice as long.

        SQLite ignores the content after the log's last frame, and leaves such a rest itself
        whenever it restarts the log. The transaction prevents other writers from appending
        meanwhile.
        """
        db.execute("BEGIN IMMEDIATE")
        try:
            log = self.path.with_name(self.path.name + "-wal")
            length = log.stat().st_size
            missing = pages * (db.execute("PRAGMA page_size").fetchone()[0] + 24) - length
            if missing > 0:
                with log.open("r+b") as file:
                    file.seek(length)
                    file.write(bytes(missing))
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            db.execute("ROLLBACK")

    # -------------------------------------------------------------------------------------- opening

    def _check(self) -> None:
        """Create the file, or check that it is the library's and migrate it."""
        with _checking:
            self._create()
            self._check_files()
            with self._right_kind(), closing(self._open()) as db:
                self._check_kind(db)
                if not self._write_ahead(db):
                    raise StorageError(
                        f"{self.path} cannot use a write-ahead log (WAL), perhaps because its file "
                        "system does not support shared memory. Use a local disk."
                    )
                self._migrate(db)
                self._check_tables(db)

    @contextmanager
    def _right_kind(self) -> Iterator[None]:
        """Raise an error that says that a file is not a database."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_NOTADB:
                raise
            raise StorageError(
                f"{self.path} is not a SQLite database, and was left unchanged. Choose a file of "
                "its own for the storage."
            ) from error

    def _create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its other files the mode of this one. An existing file is never opened here:
        # closing it would drop the locks of other connections of this process (POSIX).
        if not self.path.exists():
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _check_kind(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # one view of the file, which another process may be creating now
        try:
            application = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            has_tables = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
            foreign = db.execute(
                "SELECT type, name FROM sqlite_master WHERE type = 'trigger' LIMIT 1"
            ).fetchone()
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        if application != APPLICATION_ID:
            if application or version or has_tables:
                raise StorageError(
                    f"{self.path} is a database of another program, and was left unchanged. Choose "
                    "a file of its own for the storage."
                )
        elif version > len(_migrations()):
            raise CheckpointVersionError(
                f"{self.path} was created by a newer version of supersteps (its schema is number "
                f"{version}, this version knows {len(_migrations())}), and was left unchanged. "
                "Upgrade supersteps to use it."
            )
        elif foreign is not None:
            raise CorruptCheckpointError(
                f"{self.path} has been altered: it contains the {foreign[0]} {foreign[1]!r}, which "
                "supersteps does not create, and which would run on its behalf. Nothing was read; "
                "drop it, or restore the file from a backup."
            )

    def _write_ahead(self, db: sqlite3.Connection) -> bool:
        """Switch to a write-ahead log; return False if that is impossible.

        SQLite does not wait for other processes here, which may be doing the same to a new file: if
        several waited, each with a lock, none could continue.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                return bool(db.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_BUSY_PAUSE)

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Run the migrations that the file needs, all or none, also concurrently."""
        if db.execute("PRAGMA user_version").fetchone()[0] == len(_migrations()):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for script in _migrations()[version:]:
                for statement in _statements(script):
                    db.execute(statement)
            migrations.bring_up(db, version)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {len(_migrations())}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _check_tables(self, db: sqlite3.Connection) -> None:
        """Check that all tables exist and accept only values of their types."""
        odd = _tables() - {name for (name,) in db.execute(_STRICT)}
        if odd:
            raise CorruptCheckpointError(
                f"{self.path} has been altered: of supersteps' tables, {', '.join(sorted(odd))} is "
                "missing or has changed. Restore the file from a backup."
            )

    def _check_files(self) -> None:
        """Refuse pipes and devices, where a reader might wait forever."""
        for end in ("", "-wal", "-shm", "-journal"):
            path = self.path.with_name(self.path.name + end)
            with suppress(FileNotFoundError):
                mode = os.stat(path).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # SQLite itself refuses a folder
                    raise StorageError(
                        f"{path} is not a regular file, and was left unchanged. Choose a file of "
                        "its own for the storage."
                    )

    # --------------------------------------------------------------------------------------- errors

    @contextmanager
    def errors(self, task: str) -> Iterator[None]:
        """Convert errors of SQLite and the system to the library's."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise self.translated(error, task) from error

    def translated(self, error: Exception, task: str) -> CheckpointError:
        """Return the library's error for one of SQLite or the system.

        Args:
            error: The error.
            task: What could not be done to the file, as a verb.
        """
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            return StorageError(
                f"{self.path} was being written by another process for more than "
                f"{self._busy_seconds:g} s; nothing was changed. Try again, or find out which "
                "process holds it."
            )
        # SQLite quotes damaged data in its messages, and Python expects those to be UTF-8.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(
            error, UnicodeDecodeError
        ):
            return CorruptCheckpointError(
                f"{self.path} is damaged ({error}). Keep a copy of the file, then restore it from "
                "a backup, or salvage it with sqlite3's .recover."
            )
        hint = (
            " Nothing was changed; fix the cause and try again." if code in _SHORT_OF_SPACE else ""
        )
        return StorageError(f"cannot {task} {self.path}: {error}.{hint}")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether an error says that another process writes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


_checking = threading.Lock()
"""Held while a file is created: no other connection may open before its file is closed."""


@in_child
def _begin_checking() -> None:
    global _checking
    _checking = threading.Lock()


_scripts: list[str] = []


def _migrations() -> list[str]:
    if not _scripts:
        _scripts.extend(load_migrations("supersteps.storage.sqlite", "schema"))
    return _scripts


_STRICT = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict"


def _tables() -> set[str]:
    return {
        name
        for script in _migrations()
        for name in re.findall(r"^CREATE TABLE (\w+)", script, re.MULTILINE)
    }


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script: `executescript` would end the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
