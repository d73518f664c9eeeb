"""Hostile data: whatever is done to what is stored, there is a named error or an intact value,
and nothing else.

Never a crash, a hang, much memory, a wrong value, code that runs, a file that is touched. Each
scenario's trials are in a module of their own; `guarding` watches them in worker processes.
"""

from __future__ import annotations

from importlib.util import find_spec

from tests.reliability.guarding import watched
from tests.reliability.table import Row


def records(trials: int, seed: int) -> Row:
    """Everything that decodes: values, parts, checkpoints, journals, inboxes, exported runs."""
    return watched("tests.reliability.hostile_records:prepare", trials, seed, "hostile-records")


def files(trials: int, seed: int) -> Row:
    """The folder of a file storage."""
    return watched("tests.reliability.hostile_files:prepare", trials, seed, "hostile-files")


def database(trials: int, seed: int) -> Row:
    """The file of a SQLite storage."""
    return watched("tests.reliability.hostile_database:prepare", trials, seed, "hostile-database")


def names(trials: int, seed: int) -> Row:
    """Ids, tags, keys, filters and paths that users, or others, choose."""
    return watched("tests.reliability.hostile_names:prepare", trials, seed, "hostile-names")


def sealed(trials: int, seed: int) -> Row:
    """Encrypted records."""
    if find_spec("supersteps.encryption.storage") is None:
        return Row("hostile-sealed", skipped="no encryption yet")
    return watched("tests.reliability.hostile_sealed:prepare", trials, seed, "hostile-sealed")
