"""What the server or the network refuses, as the library says it."""

from __future__ import annotations

from supersteps.errors import CheckpointError, CorruptCheckpointError, StorageError
from supersteps.storage.postgres._driver import psycopg

# What each code or class of codes of Postgres means for whoever reads the message; the longest
# match counts.
_HINTS = {
    "53100": "its disk is full; nothing was changed. Make room, then try again.",
    "53200": "it is out of memory; nothing was changed. Try again.",
    "53300": (
        "it has too many connections. Choose a smaller pool_size in each process, raise "
        "max_connections on the server, or put PgBouncer before it."
    ),
    "57014": (
        "a statement took longer than the storage allows, and was cancelled; nothing was changed. "
        "See what the server is busy with (pg_stat_activity), or allow more by patience_seconds."
    ),
    "55P03": (
        "another transaction has held the lock of the run for too long; nothing was changed. See "
        "which one it is (pg_locks, pg_stat_activity), then try again."
    ),
    "42501": (
        "this user does not have the right to do that. Grant it; docs/SECURITY.md lists the rights "
        "of owners, workers and readers."
    ),
    "42P01": (
        "a table is gone: somebody has dropped or renamed the schema while it was in use. Restore "
        "it from a backup, or start the program again to make an empty one."
    ),
    "3F000": (
        "the schema is gone: somebody has dropped or renamed it while it was in use. Restore it "
        "from a backup, or start the program again to make an empty one."
    ),
    "25006": (
        "it takes no writes: it is a standby, or was told to be read-only. Connect to the primary, "
        "by target_session_attrs=read-write if the address names several hosts."
    ),
    "22P05": "a text has a character that its encoding lacks. Use a database in UTF8.",
    "XX001": "it says that its data is damaged. Restore the database from a backup.",
    "XX002": "it says that an index is damaged. REINDEX it, then run `supersteps verify`.",
}

# Connections that fail come without a code; what libpq says is all there is.
_CONNECTING = {
    "password authentication failed": "Check user and password.",
    "no password supplied": (
        "Give the password in the address, in the variable PGPASSWORD, or in ~/.pgpass."
    ),
    "no pg_hba.conf entry": (
        "The server does not let this user in from here, or not without TLS (sslmode=require)."
    ),
    "too many": _HINTS["53300"],
    "remaining connection slots": _HINTS["53300"],
    "database system is": "It is starting or stopping. Try again in a moment.",
    "could not translate host name": "Check the name of the host in the address.",
    "failed to resolve host": "Check the name of the host in the address.",
    "does not exist": "Create it, or check the address.",
    "timeout": "Check host, port and firewall.",
    "Connection refused": "See whether the server runs, and check host and port.",
    "No such file": "See whether the server runs, and check host and port.",
}

_REDONE = frozenset({"40001", "40P01", "23505"})
"""Another transaction came between: serialization failure, deadlock, unique violation."""


def is_to_be_redone(error: psycopg.Error) -> bool:
    """Return whether a transaction failed because of another one, and may be tried again."""
    return error.sqlstate in _REDONE


def is_broken(error: psycopg.Error, db: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Return whether an error says that the connection is of no use any more."""
    code = error.sqlstate or ""
    return db.closed or code.startswith(("08", "57P")) or (not code and _is_of_libpq(error))


def _is_of_libpq(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def cannot_connect(error: psycopg.Error, name: str) -> StorageError:
    """Return the error for a server that cannot be reached."""
    said = " ".join(str(error).split())
    hint = next((hint for text, hint in _CONNECTING.items() if text in said), "")
    return StorageError(f"cannot connect to {name}: {said}. {hint}".rstrip())


def translated(error: psycopg.Error, name: str, task: str) -> CheckpointError:
    """Return an error of Postgres as the library says it.

    Args:
        error: The error.
        name: What messages call the server.
        task: What could not be done, as a verb.
    """
    code = error.sqlstate or ""
    said = " ".join(str(error).split())
    hint = _HINTS.get(code)
    if code.startswith("XX00"):
        return CorruptCheckpointError(f"{name} is damaged ({said}): {hint or 'see its log.'}")
    if isinstance(error, psycopg.DataError) and "NUL" in said:
        hint = "Postgres keeps no text with the character NUL (0x00) in it; nothing was changed."
    if hint is None and (code.startswith(("08", "57P")) or not code):
        hint = (
            "the connection was lost (a restart, a failover, or the network), and could not be "
            "restored in time. Resume the run: nothing that was committed is lost."
        )
    if hint is None:
        return StorageError(f"cannot {task} {name}: {said}. Nothing was changed.")
    return StorageError(f"cannot {task} {name}: {hint} (Postgres: {said})")
