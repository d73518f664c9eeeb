"""psycopg, or what to do where it is not installed."""

from __future__ import annotations

from supersteps.errors import StorageError

try:
    import psycopg
    import psycopg.conninfo
except ImportError as error:
    raise StorageError(
        "Postgres needs the package psycopg: pip install 'supersteps[postgres]' (if psycopg itself "
        f"is there, it said: {error})"
    ) from error

__all__ = ["psycopg"]
