"""psycopg, or what to do where it is not installed."""

from __future__ import annotations

import logging

from supersteps.errors import StorageError

try:
    import psycopg
    import psycopg.conninfo
except ImportError as error:
    raise StorageError(
        "Postgres needs the package psycopg: pip install 'supersteps[postgres]' (if psycopg itself "
        f"is there, it said: {error})"
    ) from error

# It warns of each pipeline that a broken connection ends, which is repaired here. Whoever has set
# up logging still gets it; nobody else sees it on stderr.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

__all__ = ["psycopg"]
