"""Addresses of Postgres servers, as a storage is told them and as messages show them."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from supersteps.errors import StorageError

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA = "supersteps"
"""The name of the schema that everything is in if no other one is chosen."""


class Server(NamedTuple):
    """A database on a server, and the schema in it.

    Attributes:
        dsn: What libpq connects by.
        schema: The schema.
        name: What messages call it; it holds no password.
    """

    dsn: str
    schema: str
    name: str


def read_dsn(dsn: str, schema: str) -> Server:
    """Return the server that a storage is told.

    Raises:
        StorageError: It is not an address of Postgres, or the schema has no simple name.
    """
    if _SCHEMA.fullmatch(schema) is None or schema.startswith("pg_"):
        raise StorageError(
            f"{schema!r} cannot be the schema of a PostgresCheckpointStorage: choose a name of "
            "lower-case letters, digits and underscores that does not begin with pg_"
        )
    from supersteps.storage.postgres._driver import psycopg

    try:
        known = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        # libpq quotes parts of the address in its message: there may be a password in them.
        raise StorageError(
            "the address of the Postgres server cannot be read: write "
            "postgresql://user:password@host:5432/database, or host=... dbname=... user=...; "
            "in an address, write special characters of a password as %40 (@), %2F (/), %3A (:)"
        ) from error
    return Server(dsn, schema, _address({k: str(v) for k, v in known.items()}, schema))


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """Return the part of an address that libpq reads, and what is for the storage.

    `?schema=` is the storage's, all other parameters are libpq's.
    """
    base, _mark, query = address.partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in parameters if name == "schema"}
    rest = urlencode([p for p in parameters if p[0] not in own], quote_via=quote)
    return (f"{base}?{rest}" if rest else base), own


def _address(known: dict[str, str], schema: str) -> str:
    """Return an address that opens the same database, without a password."""
    user = f"{quote(known['user'], safe='')}@" if known.get("user") else ""
    host, port = known.get("host", ""), known.get("port", "")
    if "," in host or "," in port:
        hosts, ports = host.split(","), port.split(",")
        ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
        place = ",".join(f"{h}:{p}" if p else h for h, p in zip(hosts, ports, strict=True))
        host = port = ""
    else:
        place = ("" if host.startswith("/") else f"[{host}]" if ":" in host else host) + (
            f":{port}" if port else ""
        )
    others = [("host", host)] if host.startswith("/") else []
    others += [("schema", schema)] if schema != SCHEMA else []
    query = f"?{urlencode(others, quote_via=quote)}" if others else ""
    return f"postgresql://{user}{place}/{quote(known.get('dbname', ''), safe='')}{query}"
