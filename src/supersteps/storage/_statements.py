"""SQL statements from `.sql` files, as named blocks.

-- name: find_run
SELECT ... FROM runs WHERE run_id = ?
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_statements(package: str, file: str) -> dict[str, str]:
    """Return the statements of a file by their names.

    Args:
        package: The package that contains the file.
        file: Its name.
    """
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    _before, *blocks = _NAME.split(text)
    return {name: block.strip() for name, block in zip(blocks[::2], blocks[1::2], strict=True)}


def load_migrations(package: str, folder: str) -> list[str]:
    """Return the scripts `0001_*.sql`, `0002_*.sql`, … of a folder, in order."""
    scripts = sorted(
        path.name
        for path in files(package).joinpath(folder).iterdir()
        if path.name.endswith(".sql")
    )
    return [files(package).joinpath(folder, name).read_text(encoding="utf-8") for name in scripts]
