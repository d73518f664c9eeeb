"""The schema: created when it is first used, and brought up to date by numbered scripts."""

from __future__ import annotations

import re
from typing import Any

from supersteps.errors import CheckpointVersionError, StorageError
from supersteps.storage._statements import load_migrations
from supersteps.storage.postgres.addresses import Server
from supersteps.storage.postgres.connections import Link, in_schema, statements


def migrate(link: Link, server: Server) -> None:
    """See that the schema is this library's and up to date; create it or bring it there.

    Scripts only add, so that programs with the version before can go on while a new one is being
    deployed. Several programs may come here at once: an advisory lock lets one after the other.

    Raises:
        CheckpointVersionError: A newer library made it.
        StorageError: The schema is another program's.
    """
    sql = statements("database.sql", server.schema)
    scripts = load_migrations("supersteps.storage.postgres", "schema")
    if _version(link, server, sql) == len(scripts):
        return
    with link.db.transaction():
        link.db.execute(sql["lock"].encode(), (server.schema,), prepare=False)
        version = _version(link, server, sql)
        if version == 0:
            link.db.execute(
                sql["create_schema"]
                .replace("EXISTS supersteps", f'EXISTS "{server.schema}"')
                .encode()
            )
            link.db.execute(sql["create_migrations"].encode())
        for number, script in enumerate(scripts[version:], version + 1):
            link.db.execute(in_schema(script, server.schema).encode())
            link.db.execute(sql["note_migration"].encode(), (number,), prepare=False)


def table_names() -> list[str]:
    """Return the names of the tables that the scripts create."""
    return [
        name
        for script in load_migrations("supersteps.storage.postgres", "schema")
        for name in re.findall(r"^CREATE TABLE supersteps\.(\w+)", script, re.MULTILINE)
    ]


def _version(link: Link, server: Server, sql: dict[str, str]) -> int:
    """Return how many scripts the schema has seen."""
    has_schema, is_ours = _row(link, sql["exists"], server.schema)
    if not is_ours:
        if has_schema and _row(link, sql["foreign_tables"], server.schema)[0]:
            raise StorageError(
                f"the schema {server.schema!r} in {server.name} holds tables of another program, "
                "and was left as it is. Give the storage a schema of its own (schema=...)."
            )
        return 0
    version = int(_row(link, sql["version"])[0])
    known = len(load_migrations("supersteps.storage.postgres", "schema"))
    if version > known:
        raise CheckpointVersionError(
            f"the schema {server.schema!r} in {server.name} was made by a newer version of "
            f"supersteps (its schema is number {version}, this one knows {known}), and was left as "
            "it is. Upgrade supersteps to use it."
        )
    return version


def _row(link: Link, statement: str, *values: object) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None
    row = link.db.execute(statement.encode(), values or None, prepare=False).fetchone()
    assert row is not None
    return row
